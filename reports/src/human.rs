//! Numbers as people read them: three significant digits, a fitting unit, thousands separated.
//!
//! `1.60 us`, `33.3 us`, `320 ms`, `12.4 MB`, `176,005`. Rounding happens before the unit is chosen, so 999.6 ns is
//! `1.00 us` and never `1000 ns`. Units are those of [`Metric::unit`](sim_core::record::Metric::unit); an unknown
//! unit is printed after the number.

/// Units with prefixes: (factor, suffix), rising.
const TIME: &[(f64, &str)] = &[(1.0, " ns"), (1e3, " us"), (1e6, " ms"), (1e9, " s")];
const BYTES: &[(f64, &str)] = &[(1.0, " B"), (1e3, " kB"), (1e6, " MB"), (1e9, " GB"), (1e12, " TB")];
const INSTR: &[(f64, &str)] = &[(1.0, " instr"), (1e3, " k instr"), (1e6, " M instr"), (1e9, " G instr")];

/// A value with its unit.
pub fn value(value: f64, unit: &str) -> String {
    match unit {
        "count" => count(value),
        "ratio" => significant(value),
        "per_s" => format!("{}/s", count(value)),
        // As kubectl writes shares of a core.
        "mcores" if value < 999.5 => format!("{}m", significant(value)),
        "mcores" => significant(value / 1000.0),
        _ => match prefixes(unit) {
            Some(prefixes) => {
                let (factor, suffix) = prefix(value, prefixes);
                let scaled = value / factor;
                // Whole bytes, nanoseconds and instructions need no decimals.
                let whole = factor == 1.0 && scaled.fract() == 0.0;
                let number = if whole { thousands(scaled) } else { significant(scaled) };
                format!("{number}{suffix}")
            }
            None if unit.is_empty() => count(value),
            None => format!("{} {unit}", count(value)),
        },
    }
}

/// A value with its unit and no trailing zeros, for the ticks of a logarithmic axis.
pub fn tick(number: f64, unit: &str) -> String {
    let text = value(number, unit);
    let (digits, suffix) = text.split_at(text.find([' ', '/', 'm']).unwrap_or(text.len()));
    format!("{}{suffix}", trimmed(digits))
}

/// The factor and the name of the unit in which an axis that ends at `max` is best labelled.
pub fn axis_unit(max: f64, unit: &str) -> (f64, String) {
    match unit {
        "count" | "ratio" => (1.0, String::new()),
        "per_s" => (1.0, "per second".into()),
        "mcores" => (1000.0, "cores".into()),
        "instr" => match prefix(max, INSTR).0 {
            factor if factor >= 1e6 => (factor, prefix(max, INSTR).1.trim().into()),
            _ => (1.0, "instructions".into()),
        },
        _ => match prefixes(unit) {
            Some(prefixes) => {
                let (factor, suffix) = prefix(max, prefixes);
                (factor, suffix.trim().into())
            }
            None => (1.0, unit.into()),
        },
    }
}

/// A plain number: whole numbers and those from 1,000 on without decimals, others with three significant digits.
pub fn count(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 999.5 { thousands(value) } else { significant(value) }
}

/// A number without trailing zeros after the point: `2.50` is `2.5`, `320` stays.
pub fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// How much less `low` is than `high`: `29 times less`, `2.4 times less`, `35 % less`, `the same`.
pub fn less(low: f64, high: f64) -> String {
    if low == high {
        return "the same".into();
    }
    if low <= 0.0 || high <= 0.0 {
        return format!("{} less", count(high - low));
    }
    match high / low {
        ratio if ratio >= 9.95 => format!("{} times less", thousands(ratio)),
        ratio if ratio >= 1.95 => format!("{} times less", trimmed(&format!("{ratio:.1}"))),
        ratio => match (1.0 - 1.0 / ratio) * 100.0 {
            percent if percent < 1.0 => "less than 1 % less".into(),
            percent => format!("{percent:.0} % less"),
        },
    }
}

/// Rounds to a whole number and separates thousands by commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::with_capacity(digits.len() + 8);
    if value < 0.0 && digits != "0" {
        out.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits; at most three decimals.
fn significant(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if size >= 99.95 {
        thousands(value)
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.9995 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn prefixes(unit: &str) -> Option<&'static [(f64, &'static str)]> {
    match unit {
        "ns" => Some(TIME),
        "bytes" => Some(BYTES),
        "instr" => Some(INSTR),
        _ => None,
    }
}

/// The largest prefix that leaves at least 1 after rounding; instructions stay plain up to 99,999.
fn prefix(value: f64, prefixes: &'static [(f64, &'static str)]) -> (f64, &'static str) {
    if prefixes == INSTR && value.abs() < 99_999.5 {
        return INSTR[0];
    }
    prefixes.iter().rev().copied().find(|(factor, _)| value.abs() / factor >= 0.9995).unwrap_or(prefixes[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_significant_digits_and_a_fitting_unit() {
        for (number, unit, text) in [
            (0.0, "ns", "0 ns"),
            (0.25, "ns", "0.250 ns"),
            (850.0, "ns", "850 ns"),
            (999.4, "ns", "999 ns"),
            (999.6, "ns", "1.00 us"),
            (1_600.0, "ns", "1.60 us"),
            (33_333.3, "ns", "33.3 us"),
            (320e6, "ns", "320 ms"),
            (1.5e9, "ns", "1.50 s"),
            (5_000e9, "ns", "5,000 s"),
            (12.4e6, "bytes", "12.4 MB"),
            (512.0, "bytes", "512 B"),
            (176_005.0, "count", "176,005"),
            (2.349, "count", "2.35"),
            (1234.5, "count", "1,234"),
            (41_800.0, "instr", "41,800 instr"),
            (418_000.0, "instr", "418 k instr"),
            (0.3126, "ratio", "0.313"),
            (200.0, "per_s", "200/s"),
            (-1_600.0, "ns", "-1.60 us"),
            (7.0, "furlong", "7 furlong"),
        ] {
            assert_eq!(value(number, unit), text, "{number} {unit}");
        }
    }

    #[test]
    fn ticks_have_no_trailing_zeros() {
        for (number, unit, text) in
            [(2e4, "ns", "20 us"), (1e3, "ns", "1 us"), (2.5e3, "ns", "2.5 us"), (100.0, "ns", "100 ns")]
        {
            assert_eq!(tick(number, unit), text);
        }
    }

    #[test]
    fn how_much_less_is_told_in_times_or_per_cent() {
        for (low, high, text) in [
            (3.6, 105.0, "29 times less"),
            (10.0, 24.0, "2.4 times less"),
            (65.0, 100.0, "35 % less"),
            (999.9, 1000.0, "less than 1 % less"),
            (5.0, 5.0, "the same"),
            (0.0, 5.0, "5 less"),
        ] {
            assert_eq!(less(low, high), text);
        }
    }
}
