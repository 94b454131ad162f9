//! Lines of at most 100 columns, numbers as people read them, and colours where the terminal has them.

use super::report::Fraction;

/// Columns that are filled at most.
pub const WIDTH: usize = 100;

/// How text is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether it is.
    pub colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    /// A heading.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
    /// What can be passed over.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }
    /// What did not.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }
    /// A change of the packet.
    pub fn change(self, text: &str) -> String {
        self.with("36", text)
    }
}

/// `text` broken at blanks into lines of at most [`WIDTH`] columns, the first behind `first`, the others behind as many
/// blanks; a word that is longer stands whole.
pub fn wrapped(first: &str, text: &str) -> Vec<String> {
    let indent = first.chars().count();
    let mut lines = vec![first.to_owned()];
    let mut used = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > indent && used + 1 + length > WIDTH {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        let line = lines.last_mut().expect("there is a first");
        if used > indent {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    lines
}

/// `12,345`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 rule`, `2,913 rules`.
pub fn counted(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{} {noun}s", thousands(n)) }
}

/// A probability: `always`, `1/3`, or per cent. Rules hold thirds as close as their 31 bits allow: what is as near to
/// a part of one as they can come is shown as that.
pub fn probability(p: f64) -> String {
    if p >= 1.0 {
        return "always".to_owned();
    }
    let parts = (1.0 / p).round();
    if p > 0.0 && (1.0 / p - parts).abs() < parts * 1e-6 {
        return format!("1/{parts}");
    }
    format!("{:.4} %", p * 100.0)
}

/// A fraction, if it is short enough to be read.
pub fn short_fraction(fraction: &Fraction) -> Option<String> {
    let text = format!("{}/{}", fraction.numerator, fraction.denominator);
    (text.len() <= 9 && fraction.denominator != "1").then_some(text)
}

/// A cost with its unit.
pub fn cost(value: f64, unit: &str) -> String {
    match unit {
        "ns" if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        "ns" if value >= 1e5 => format!("{:.0} us", value / 1e3),
        "ns" if value >= 1e4 => format!("{:.1} us", value / 1e3),
        "ns" if value >= 1e3 => format!("{:.2} us", value / 1e3),
        "ns" => format!("{value:.0} ns"),
        // Whole units of something else.
        _ => format!("{} {unit}", thousands(value.round().max(0.0) as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_rules_read_as_parts_of_one() {
        for (p, text) in [
            (1.0, "always"),
            (0.5, "1/2"),
            (715_827_883.0 / 2_147_483_648.0, "1/3"),
            (2.0 / 3.0, "66.6667 %"),
            (0.001, "1/1000"),
        ] {
            assert_eq!(probability(p), text);
        }
    }

    #[test]
    fn long_lines_are_broken_at_blanks_and_hang_under_their_beginning() {
        let text = "word ".repeat(30);
        let lines = wrapped("  7  ", text.trim());
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines[1].starts_with("     word"), "{lines:?}");
        assert_eq!(wrapped("  ", "one"), ["  one"]);
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(cost(10_400.0, "ns"), "10.4 us");
        assert_eq!(cost(12_345.6, "instr"), "12,346 instr");
    }
}
