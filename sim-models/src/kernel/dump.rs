//! What the readers of dumps have in common: where a text is wrong, and how two rulesets differ.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// Why a dump cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ReadError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// A number of digits alone: a sign, which `parse` would take, is nothing that a tool prints, and would be lost.
pub fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

/// What is wrong with a line, and in which part of it, which is a slice of the line.
pub(crate) type Fault<'a> = (&'a str, String);

/// A fault with its place; `number` counts lines from 1.
pub(crate) fn in_line(number: usize, line: &str, (part, message): Fault<'_>) -> ReadError {
    let at = part.as_ptr() as usize - line.as_ptr() as usize;
    ReadError { line: number, column: line[..at].chars().count() + 1, message }
}

/// One difference between the rules that are wanted and those that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: `nat KUBE-SVC-NPX46M4PTMTKRN6Y`, `ip kube-proxy map service-ips`, `ipset KUBE-CLUSTER-IP`.
    pub place: String,
    /// What the objects call for, as the tool prints it; `None` if nothing.
    pub wanted: Option<String>,
    /// What the dump has; `None` if nothing.
    pub found: Option<String>,
}

impl Difference {
    /// `missing`, `extra` or `changed`.
    pub fn kind(&self) -> &'static str {
        match (&self.wanted, &self.found) {
            (Some(_), None) => "missing",
            (None, _) => "extra",
            (Some(_), Some(_)) => "changed",
        }
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.kind(), self.place)?;
        for (sign, text) in [('-', &self.wanted), ('+', &self.found)] {
            if let Some(text) = text {
                // A chain or set as a whole is several of the tool's lines.
                writeln!(f, "  {sign} {}", text.replace('\n', "\n    "))?;
            }
        }
        Ok(())
    }
}
