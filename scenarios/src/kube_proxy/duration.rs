//! Times as Go writes them: `1h30m`, `200ms`, `-1.5h`, `0`.
//!
//! Source: Go's `time.ParseDuration`. Longer times than simulated time can count are refused, here and there.

use sim_core::units::SimSpan;

/// Longest time, nanoseconds: Go's.
const NS_MAX: f64 = 9.2e18;

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
    let mut rest = unsigned;
    let mut ns = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| no_time())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "" => return Err(format!("the unit of `{}` is missing", super::yaml::shown(text))),
            unit => return Err(format!("`{}` is not a unit of time", super::yaml::shown(unit))),
        };
        ns += number * scale;
        rest = &rest[end..];
    }
    if text.starts_with('-') && ns > 0.0 {
        return Err("a time must not be negative".into());
    }
    if ns > NS_MAX {
        return Err(format!("`{}` is longer than 292 years", super::yaml::shown(text)));
    }
    Ok(SimSpan::from_ns_f64(ns))
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
        ] {
            assert_eq!(parse(text).map(SimSpan::as_ns), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "30", "s", "1x", "1s ", " 1s", "-", "1..5s", "1e9s", "3000000h", "-1s", "1h 30m"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
