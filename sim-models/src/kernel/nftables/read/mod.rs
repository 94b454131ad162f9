//! What `nft list ruleset` or `nft -j list ruleset` shows of a node, read back into [`Table`]s.
//!
//! Text is read in the lines in which nft 1.0.6 to 1.1 print the shapes that kube-proxy writes, with handles
//! (`nft -a`) or without; JSON in general, whatever its spacing. Only the tables `ip` and `ip6` of one name are
//! read; the others are passed over and told ([`Skipped`]). Inside the table nothing is lost: a statement, an
//! object or an attachment that kube-proxy does not write is kept as it stands ([`super::Opaque`]). A value that
//! is wrong where its kind is known (an address that is none, a jump to a chain that is not there) is an error
//! with its place.
//!
//! JSON does not carry the comments of tables and chains (see [`super::json`]), so they are missing afterwards.

mod draft;
mod json;
mod json_rule;
mod notes;
mod rule;
mod test;
mod text;
mod text_set;
mod values;

use super::Table;
use crate::kernel::dump::ReadError;

/// A dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The tables asked for, in their order.
    pub tables: Vec<Table>,
    /// What was passed over.
    pub skipped: Vec<Skipped>,
}

/// A table that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its line in the dump, from 1.
    pub line: usize,
    /// `table inet filter`.
    pub what: String,
}

/// What is wrong, at a byte of the text.
#[derive(Debug)]
struct Wrong {
    at: usize,
    message: String,
}

impl Wrong {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Wrong { at, message: message.into() }
    }

    /// With line and column.
    fn in_text(self, text: &str) -> ReadError {
        let before = &text.as_bytes()[..self.at.min(text.len())];
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        ReadError { line: LineCounter::new(text).line_of(self.at), column, message: self.message }
    }
}

/// The lines of places that are asked for from the first to the last: every byte is looked at once.
struct LineCounter<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        LineCounter { text, at: 0, line: 1 }
    }

    /// The line that byte `at` is on, from 1.
    fn line_of(&mut self, at: usize) -> usize {
        let at = at.min(self.text.len());
        assert!(self.at <= at, "byte {at} is asked for after byte {}", self.at);
        self.line += self.text.as_bytes()[self.at..at].iter().filter(|&&b| b == b'\n').count();
        self.at = at;
        self.line
    }
}

/// Part of a message: the beginning of what was found.
fn excerpt(text: &str) -> String {
    format!("`{}`", shortened(text))
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Reads the tables `ip NAME` and `ip6 NAME` of a dump: JSON if its first character other than a blank is `{`.
///
/// # Errors
/// The first thing that is wrong.
pub fn ruleset(dump: &str, name: &str) -> Result<Ruleset, ReadError> {
    let read = if dump.trim_start().starts_with('{') { json::ruleset } else { text::ruleset };
    read(dump, name).map_err(|wrong| wrong.in_text(dump))
}
