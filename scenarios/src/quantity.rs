//! Numbers with units as people write them: `5us`, `200/s per node`, `10%`, `10Gbps`, `4_000`.
//!
//! A unit is never guessed: a bare number where a unit belongs is an error that names the units.

use sim_core::units::SimSpan;

/// Units of time and their length in nanoseconds.
pub const TIME_UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3_600e9)];

/// Units of size in bytes.
const SIZE_UNITS: [(&str, f64); 7] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];

/// Units of bandwidth in bits per second.
const BANDWIDTH_UNITS: [(&str, f64); 4] = [("bps", 1.0), ("kbps", 1e3), ("Mbps", 1e6), ("Gbps", 1e9)];

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A bare number.
    Number(f64),
    /// A time in nanoseconds.
    TimeNs(f64),
    /// A size in bytes.
    Bytes(f64),
    /// A bandwidth in bits per second.
    BitsPerSecond(f64),
    /// A rate in events per second.
    PerSecond(f64),
    /// A share: `10%` is 0.1.
    Ratio(f64),
}

impl Quantity {
    /// The unit's name in a [`sim_core::record::Metric`].
    pub fn unit(self) -> &'static str {
        match self {
            Quantity::Number(_) => "count",
            Quantity::TimeNs(_) => "ns",
            Quantity::Bytes(_) => "bytes",
            Quantity::BitsPerSecond(_) => "bps",
            Quantity::PerSecond(_) => "per_s",
            Quantity::Ratio(_) => "ratio",
        }
    }
    /// The number in that unit.
    pub fn value(self) -> f64 {
        match self {
            Quantity::Number(v)
            | Quantity::TimeNs(v)
            | Quantity::Bytes(v)
            | Quantity::BitsPerSecond(v)
            | Quantity::PerSecond(v)
            | Quantity::Ratio(v) => v,
        }
    }
}

/// Splits `5us` into 5 and `us`. `None` if it does not begin with a number.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let digits: String = text[..end].chars().filter(|c| *c != '_').collect();
    let number: f64 = digits.parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

/// Whether a text is a number below zero, whatever its unit: no time, rate or size is.
pub fn is_negative(text: &str) -> bool {
    let digits = text.trim().strip_prefix(['-', '\u{2212}']).map(str::trim_start);
    digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Reads a number with any unit that this module knows.
///
/// # Errors
/// What is wrong and which units there are.
pub fn quantity(text: &str) -> Result<Quantity, String> {
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` does not begin with a number"))?;
    let unit = if unit == "µs" { "us" } else { unit };
    let lookup =
        |units: &[(&str, f64)]| units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| number * scale);
    if unit.is_empty() {
        Ok(Quantity::Number(number))
    } else if unit == "%" {
        Ok(Quantity::Ratio(number / 100.0))
    } else if let Some(ns) = lookup(&TIME_UNITS) {
        Ok(Quantity::TimeNs(ns))
    } else if let Some(bytes) = lookup(&SIZE_UNITS) {
        Ok(Quantity::Bytes(bytes))
    } else if let Some(bps) = lookup(&BANDWIDTH_UNITS) {
        Ok(Quantity::BitsPerSecond(bps))
    } else if let Some(per) = unit.strip_prefix('/') {
        Ok(Quantity::PerSecond(number / per_seconds(per.trim()).ok_or_else(|| unknown(unit))?))
    } else {
        Err(unknown(unit))
    }
}

fn unknown(unit: &str) -> String {
    format!(
        "`{unit}` is not a unit; there are ns, us, ms, s, m, h, /s, %, B, kB, MB, GB, KiB, MiB, GiB, Mbps, Gbps"
    )
}

/// Length in seconds of the unit after the slash of a rate.
fn per_seconds(unit: &str) -> Option<f64> {
    match unit {
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3_600.0),
        _ => None,
    }
}

/// Reads a time such as `5us`, `1.5ms` or `30s`.
///
/// # Errors
/// What is wrong and which units there are.
pub fn span(text: &str) -> Result<SimSpan, String> {
    const ALLOWED: &str = "ns, us, ms, s, m or h";
    match quantity(text) {
        Ok(Quantity::TimeNs(ns)) if ns < 9e18 => Ok(SimSpan::from_ns_f64(ns)),
        Ok(Quantity::TimeNs(_)) => Err(format!("`{text}` is longer than 285 years")),
        Ok(Quantity::Number(_)) => Err(format!("`{text}` has no unit; write {ALLOWED} after the number")),
        Ok(_) => Err(format!("`{text}` is not a time; its unit must be {ALLOWED}")),
        Err(_) => match split(text) {
            Some((_, unit)) => Err(format!("`{unit}` is not a unit of time; write {ALLOWED}")),
            None => Err(format!("`{text}` is not a time; write a number and {ALLOWED}")),
        },
    }
}

/// Reads a rate: `2/s`, `10/m`; with `per_node`, `200/s per node`.
///
/// # Errors
/// What is wrong and how it is written.
pub fn rate(text: &str, per_node: bool) -> Result<f64, String> {
    let example = if per_node { "200/s per node" } else { "2/s" };
    let per_node_written = text.trim().strip_suffix("per node");
    let number = match (per_node, per_node_written) {
        (true, Some(rest)) => rest,
        (false, None) => text,
        (true, None) if matches!(quantity(text), Ok(Quantity::PerSecond(_))) => {
            return Err(format!(
                "`{text}` does not say of what: this rate is per node; write `{} per node`",
                text.trim()
            ));
        }
        (false, Some(_)) => {
            return Err(format!("`{text}`: this rate is of the whole cluster; write it like `{example}`"));
        }
        (true, None) => text,
    };
    match quantity(number) {
        Ok(Quantity::PerSecond(rate)) => Ok(rate),
        Ok(Quantity::Number(_)) => Err(format!("`{text}` has no unit; write it like `{example}`")),
        _ => Err(format!("`{text}` is not a rate; write it like `{example}` (/s, /m or /h)")),
    }
}

/// Reads a share: `10%` or `0.1`.
///
/// # Errors
/// If it is neither.
pub fn ratio(text: &str) -> Result<f64, String> {
    match quantity(text) {
        Ok(Quantity::Ratio(x) | Quantity::Number(x)) => Ok(x),
        _ => Err(format!("`{text}` is not a share; write it like `10%` or `0.1`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_they_are_written() {
        for (text, want) in [
            ("5us", Quantity::TimeNs(5e3)),
            ("5 µs", Quantity::TimeNs(5e3)),
            ("1.5ms", Quantity::TimeNs(1.5e6)),
            ("10%", Quantity::Ratio(0.1)),
            ("10Gbps", Quantity::BitsPerSecond(1e10)),
            ("64KiB", Quantity::Bytes(65_536.0)),
            ("120/m", Quantity::PerSecond(2.0)),
            ("4_000", Quantity::Number(4_000.0)),
        ] {
            assert_eq!(quantity(text), Ok(want), "{text}");
        }
        assert!(quantity("ten").is_err() && quantity("5 parsecs").is_err() && quantity("").is_err());
    }

    #[test]
    fn a_time_without_a_unit_names_the_units() {
        assert_eq!(span("30").unwrap_err(), "`30` has no unit; write ns, us, ms, s, m or h after the number");
        assert_eq!(span("5sec").unwrap_err(), "`sec` is not a unit of time; write ns, us, ms, s, m or h");
        assert_eq!(span("2m").unwrap().as_ns(), 120_000_000_000);
    }

    #[test]
    fn a_rate_says_whether_it_is_per_node() {
        assert_eq!(rate("200/s per node", true), Ok(200.0));
        assert_eq!(rate("2/s", false), Ok(2.0));
        assert!(rate("200/s", true).unwrap_err().contains("200/s per node"));
        assert!(rate("2/s per node", false).unwrap_err().contains("whole cluster"));
        assert!(rate("200", true).unwrap_err().contains("no unit"));
    }
}
