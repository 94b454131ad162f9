//! Plain scalars that YAML takes for numbers.
//!
//! Source: `sigs.k8s.io/yaml`, which reads YAML 1.1 by `goyaml.v2/resolve.go`: whole numbers as Go's
//! `strconv.ParseInt` with base 0 (a leading 0 is octal), others by its `yamlStyleFloat`; underscores between digits
//! count for nothing. Left out: infinities and what is no number, which JSON, the next step there, cannot write; and
//! `08`, which is a fraction there and is refused here, since nobody means it.

/// A whole number.
pub fn integer(text: &str) -> Option<i64> {
    let text = without_underscores(text)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign is none, though from_str_radix would take it.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    // One more than fits on the positive side fits on the other.
    let size = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -size } else { size }).ok()
}

/// Whether it is a number, whole or not.
pub fn is_number(text: &str) -> bool {
    integer(text).is_some() || without_underscores(text).is_some_and(|text| is_decimal(&text))
}

/// Digits with at most one point and one exponent, not too large to hold.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    // What Rust calls numbers besides are words; a sign more is refused by it.
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// What is left of a scalar that begins as numbers do.
fn without_underscores(text: &str) -> Option<String> {
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    begins.then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_read_as_kube_proxy_reads_them() {
        for (text, number) in [
            ("0", 0),
            ("14", 14),
            ("-999", -999),
            ("+5", 5),
            ("010", 8),
            ("-010", -8),
            ("0o10", 8),
            ("0x1F", 31),
            ("-0x1f", -31),
            ("0b101", 5),
            ("131_072", 131_072),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-0x8000000000000000", i64::MIN),
        ] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_number_is_none_and_overflows_nothing() {
        for text in [
            "",
            "-",
            "+",
            "--5",
            "+-5",
            "-+5",
            "0x",
            "0x+5",
            "0x-5",
            "0o+7",
            "-0x-5",
            "0+5",
            "08",
            "1.5",
            "1e3",
            "_1",
            "five",
            "٣",
            "9223372036854775808",
            "-9223372036854775809",
            "--9223372036854775808",
            "-0x8000000000000001",
            "99999999999999999999999999",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn words_are_no_numbers_whatever_rust_thinks() {
        for text in ["1", "-1.5", ".5", "5.", "1e3", "1E-3", "0x10", "1_000.5"] {
            assert!(is_number(text), "{text}");
        }
        for text in [
            "infinity",
            "-inf",
            "+Infinity",
            "nan",
            "NaN",
            ".inf",
            ".nan",
            "--1",
            "1e999",
            ".",
            "-",
            "",
            "1.2.3",
        ] {
            assert!(!is_number(text), "{text}");
        }
    }
}
