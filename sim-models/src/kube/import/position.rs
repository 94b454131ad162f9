//! Places in a JSON text: lines and columns, and where a path leads. Only used once something is wrong.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One step of a path into a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A member of an object.
    Key(&'a str),
    /// An element of an array.
    At(usize),
}

impl Step<'_> {
    /// The path `shown` one step further: `spec.ports[0]`.
    pub(super) fn append_to(self, mut shown: String) -> String {
        match self {
            Step::Key(key) => {
                if !shown.is_empty() {
                    shown.push('.');
                }
                shown.push_str(key);
            }
            Step::At(index) => shown.push_str(&format!("[{index}]")),
        }
        shown
    }
}

/// Offset of `part` in `text`, of which it must be a slice.
pub(super) fn offset_of(text: &str, part: &str) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    assert!(offset <= text.len(), "a part of another text");
    offset
}

/// Offset in `item` of what `path` leads to, or of the last thing on the way that exists.
pub(super) fn locate(item: &str, path: &[Step<'_>]) -> usize {
    let mut here = item;
    for step in path {
        let next: Option<&RawValue> = match *step {
            Step::Key(key) => serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(here)
                .ok()
                .and_then(|members| members.get(key).copied()),
            Step::At(index) => serde_json::from_str::<Vec<&RawValue>>(here)
                .ok()
                .and_then(|elements| elements.get(index).copied()),
        };
        match next {
            Some(next) => here = next.get(),
            None => break,
        }
    }
    offset_of(item, here)
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(starts).collect())
    }

    /// Line and column, both from 1, of an offset into the text.
    pub(super) fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.0.partition_point(|&start| start <= offset);
        let start = self.0[line - 1];
        // Not text[start..offset].chars(): an offset of serde's may lie inside a character.
        let before = text.as_bytes()[start..offset.min(text.len())].iter();
        (line, 1 + before.filter(|&&byte| byte & 0xc0 != 0x80).count())
    }

    /// Offset of a line and a column in bytes, as serde_json counts them.
    pub(super) fn offset(&self, text: &str, line: usize, column: usize) -> usize {
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(text.len());
        (start + column.saturating_sub(1)).min(text.len())
    }
}
