//! Places in a JSON text: lines and columns, where a path leads, and which path leads to a place. Only used once
//! something is wrong; every function passes over its text once or once for each step of a path.

use super::shape::Text;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// One step of a path into a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A member of an object.
    Key(&'a str),
    /// An element of an array.
    At(usize),
}

impl Step<'_> {
    /// The path `shown` one step further: `spec.ports[0]`, `metadata.labels["a/b"]`.
    pub(super) fn append_to(self, mut shown: String) -> String {
        match self {
            Step::Key(key) if key.bytes().all(|byte| byte.is_ascii_alphanumeric()) && key.len() <= 63 => {
                if !shown.is_empty() {
                    shown.push('.');
                }
                shown.push_str(key);
            }
            Step::Key(key) => shown.push_str(&format!("[{}]", quoted(key))),
            Step::At(index) => shown.push_str(&format!("[{index}]")),
        }
        shown
    }
}

/// A text of the input as messages show it: in quotes, its control characters escaped, not longer than a name may be.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// The same without the quotes.
pub(super) fn escaped(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => text.escape_debug().to_string(),
        Some((end, _)) => format!("{}...", text[..end].escape_debug()),
    }
}

/// Offset of `part` in `text`, of which it must be a slice.
pub(super) fn offset_of(text: &str, part: &str) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    assert!(offset <= text.len(), "a part of another text");
    offset
}

/// The first child of a JSON value that `wanted` takes, with the step to it.
struct Child<F>(F);

impl<'de, F: FnMut(Step<'_>, &'de str) -> bool> Visitor<'de> for Child<F> {
    type Value = Option<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            let step = Step::Key(&key);
            if (self.0)(step, value.get()) {
                let found = Some((step.append_to(String::new()), value.get()));
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut index = 0;
        while let Some(value) = list.next_element::<&'de RawValue>()? {
            let step = Step::At(index);
            if (self.0)(step, value.get()) {
                let found = Some((step.append_to(String::new()), value.get()));
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(found);
            }
            index += 1;
        }
        Ok(None)
    }
}

fn child<'a>(value: &'a str, wanted: impl FnMut(Step<'_>, &'a str) -> bool) -> Option<(String, &'a str)> {
    serde_json::Deserializer::from_str(value).deserialize_any(Child(wanted)).ok().flatten()
}

/// Offset in `item` of what `path` leads to, or of the last thing on the way that exists.
pub(super) fn locate(item: &str, path: &[Step<'_>]) -> usize {
    let mut here = item;
    for wanted in path {
        match child(here, |step, _| step == *wanted) {
            Some((_, next)) => here = next,
            None => break,
        }
    }
    offset_of(item, here)
}

/// Most steps of a path that messages show.
const DEEPEST: usize = 8;

/// The path to what stands at `offset` in `item`.
pub(super) fn path_to(item: &str, offset: usize) -> String {
    let mut path = String::new();
    let mut here = item;
    for _ in 0..DEEPEST {
        let holds = |value: &str| (0..=value.len()).contains(&offset.wrapping_sub(offset_of(item, value)));
        let Some((step, next)) = child(here, |_, value| holds(value)) else { break };
        if !path.is_empty() && !step.starts_with('[') {
            path.push('.');
        }
        path.push_str(&step);
        here = next;
    }
    path
}

/// Offset of a line and a column in bytes, both from 1, as serde_json counts them.
pub(super) fn offset_at(text: &str, line: usize, column: usize) -> usize {
    let mut newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
    let start = match line.checked_sub(2) {
        None => 0,
        Some(before) => newlines.nth(before).map_or(text.len(), |(at, _)| at + 1),
    };
    (start + column.saturating_sub(1)).min(text.len())
}

/// Turns offsets that only grow into lines and columns, in one pass over the text for all of them.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { bytes: text.as_bytes(), at: 0, line: 1, column: 1 }
    }

    /// Line and column in characters, both from 1.
    pub(super) fn position(&mut self, offset: usize) -> (usize, usize) {
        assert!(self.at <= offset, "offset {offset} after {}", self.at);
        let end = offset.min(self.bytes.len());
        let passed = &self.bytes[self.at..end];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        // Not chars(): an offset of serde's may lie inside a character.
        let characters = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        match passed.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => self.column = 1 + characters(&passed[newline + 1..]),
            None => self.column += characters(passed),
        }
        self.at = end;
        (self.line, self.column)
    }
}
