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
mod rule;
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
        ReadError { line: line_of(text, self.at), column, message: self.message }
    }
}

/// The line that byte `at` is on, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

/// Part of a message: the beginning of what was found.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("`{}...`", &text[..at]),
        None => format!("`{text}`"),
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

/// For fuzzing: reads any bytes as a dump and, if that succeeds, checks that both forms of what was read say the same.
///
/// # Panics
/// If they do not.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(first) = ruleset(&text, "kube-proxy") else { return };
    let printed: String = first.tables.iter().map(ToString::to_string).collect();
    let has_json = |table: &Table| {
        let opaque = table.unknown.iter().map(|u| &u.body);
        let opaque = opaque.chain(table.chains.iter().filter_map(|c| c.unknown_base.as_ref()));
        let statements = table.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.statements);
        let opaque = opaque.chain(statements.filter_map(|s| match s {
            super::Statement::Opaque(opaque) => Some(opaque),
            _ => None,
        }));
        opaque.into_iter().any(|o| matches!(o, super::Opaque::Json(_)))
    };
    if !first.tables.iter().any(has_json) {
        let again = ruleset(&printed, "kube-proxy").unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert_eq!(first.tables, again.tables, "{printed}");
    }
    let json = super::json::document(&first.tables);
    let again = ruleset(&json, "kube-proxy").unwrap_or_else(|e| panic!("{e}\n{json}"));
    assert_eq!(json, super::json::document(&again.tables));
    for table in &first.tables {
        assert_eq!(super::diff::differences(table, table), []);
    }
}
