//! Times as Go writes them: `1h30m`, `200ms`, `-1.5h`, `0`.
//!
//! Source: Go's `time.ParseDuration`. Longer times than simulated time can count are refused, here and there.

use sim_core::units::SimSpan;

/// Longest time, nanoseconds: Go counts them in 63 bits.
const NS_MAX: u64 = i64::MAX as u64;

/// Reads a time.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn parse(text: &str) -> Result<SimSpan, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let no_time = || format!("`{}` is not a time", super::yaml::shown(text));
    if unsigned.is_empty() {
        return Err(no_time());
    }
    if unsigned == "0" {
        return Ok(SimSpan::ZERO);
    }
    let too_long = || format!("`{}` is longer than 292 years", super::yaml::shown(text));
    let mut rest = unsigned;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(no_time());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit: u64 = match &after[..end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            // A second point.
            "" if !after.is_empty() => return Err(no_time()),
            "" => return Err(format!("the unit of `{}` is missing", super::yaml::shown(text))),
            unit => return Err(format!("`{}` is not a unit of time", super::yaml::shown(unit))),
        };
        let ns = whole_ns(whole, unit).and_then(|ns| ns.checked_add(fraction_ns(fraction, unit)));
        total = ns.and_then(|ns| total.checked_add(ns)).filter(|ns| *ns <= NS_MAX).ok_or_else(too_long)?;
        rest = &after[end..];
    }
    if text.starts_with('-') && total > 0 {
        return Err("a time must not be negative".into());
    }
    Ok(SimSpan::from_ns(total))
}

/// The digits that a text begins with, and what comes after them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds of a whole number of units, unless they are too many.
fn whole_ns(digits: &str, unit: u64) -> Option<u64> {
    let number: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    number.checked_mul(unit)
}

/// Nanoseconds of the digits after the point. Go too leaves whole numbers here, so that a third of an hour comes out
/// as 20 minutes: digits that do not fit 63 bits are dropped, and the product is cut after the nanoseconds.
fn fraction_ns(digits: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0_u64, 1.0_f64);
    for digit in digits.bytes().map(|byte| u64::from(byte - b'0')) {
        let longer = number.checked_mul(10).and_then(|n| n.checked_add(digit)).filter(|n| *n <= NS_MAX);
        let Some(longer) = longer else { break };
        number = longer;
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_go_reads_them() {
        for (text, ns) in [
            ("30s", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("200ms", 200_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("0", 0),
            ("-0s", 0),
            ("+1µs", 1_000),
            ("1.s", 1_000_000_000),
            ("1.9ns", 1),
            ("100000h1ns", 360_000_000_000_000_001),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
            ("9223372036.854775807s", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text).map(SimSpan::as_ns), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "1x",
            "1s ",
            " 1s",
            "-",
            "1..5s",
            "1e9s",
            "3000000h",
            "-1s",
            "1h 30m",
            ".s",
            "1.",
            "--1s",
            "+-1s",
            "infs",
            "nans",
            "9223372036854775808ns",
            "9223372036854775807ns1ns",
            "99999999999999999999ns",
            "2562047h48m",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
