//! A TOML document as a tree in which every key and value knows where it was written.
//!
//! The `toml` crate finds the spans; this module keeps them through overrides and sweeps, whose values come
//! from elsewhere (the command line, the `[sweep]` table). Entries stay in the order of the file.

use std::cell::OnceCell;
use toml::de::{DeTable, DeValue};

/// Where something was written: bytes `start..end` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Index of the source in [`Sources`].
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// The texts that a scenario is made of: its file, and one entry for each override.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    entries: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    /// Marks on the way through the text, made when the first place is asked for.
    marks: OnceCell<Vec<Mark>>,
}

/// What stands before a byte of a text.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: usize,
    /// Ends of lines.
    lines: usize,
    /// Characters since the last of them.
    column: usize,
}

impl Mark {
    /// Bytes from one mark to the next.
    const STEP: usize = 1 << 14;

    /// The mark of `offset`, a boundary of characters behind this one.
    fn walk(self, text: &str, offset: usize) -> Mark {
        let part = &text[self.offset..offset];
        match part.rfind('\n') {
            None => Mark { offset, lines: self.lines, column: self.column + part.chars().count() },
            Some(end) => Mark {
                offset,
                lines: self.lines + part.matches('\n').count(),
                column: part[end + 1..].chars().count(),
            },
        }
    }
}

impl Sources {
    /// Adds a text under the name that diagnostics give it and returns its index.
    pub fn add(&mut self, name: &str, text: &str) -> usize {
        self.entries.push(Source { name: name.to_owned(), text: text.to_owned(), marks: OnceCell::new() });
        self.entries.len() - 1
    }

    /// Line, from 1, and the characters before `offset` in it. A second place costs little, however long the text.
    pub fn line_and_column(&self, source: usize, offset: usize) -> (usize, usize) {
        let Source { text, marks, .. } = &self.entries[source];
        let marks = marks.get_or_init(|| {
            let mut marks = vec![Mark { offset: 0, lines: 0, column: 0 }];
            for end in (Mark::STEP..text.len()).step_by(Mark::STEP) {
                let last = marks[marks.len() - 1];
                marks.push(last.walk(text, text.floor_char_boundary(end)));
            }
            marks
        });
        let before = marks.partition_point(|mark| mark.offset <= offset) - 1;
        let here = marks[before].walk(text, offset);
        (here.lines + 1, here.column)
    }

    /// Name of a source.
    pub fn name(&self, source: usize) -> &str {
        &self.entries[source].name
    }
    /// Text of a source.
    pub fn text(&self, source: usize) -> &str {
        &self.entries[source].text
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it was written.
    pub at: At,
    /// What was written.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer; those beyond 128 bits are cut to the largest.
    Integer(i128),
    /// A float.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A date or time: no key takes one.
    Date(String),
    /// An array.
    Array(Vec<Node>),
    /// A table, inline or not.
    Table(Table),
}

/// Keys and values in file order.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_at: At,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The same value where `bytes` more stand before it, with all that is in it.
    pub fn behind(mut self, bytes: usize) -> Node {
        let moved = |at: At| At { start: at.start + bytes, end: at.end + bytes, ..at };
        self.at = moved(self.at);
        self.value = match self.value {
            Value::Array(items) => Value::Array(items.into_iter().map(|item| item.behind(bytes)).collect()),
            Value::Table(table) => {
                let entry =
                    |e: Entry| Entry { key_at: moved(e.key_at), node: e.node.behind(bytes), key: e.key };
                Value::Table(Table { entries: table.entries.into_iter().map(entry).collect() })
            }
            plain => plain,
        };
        self
    }
}

impl Value {
    /// What a message calls this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a decimal number",
            Value::Bool(_) => "true or false",
            Value::Date(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The value as TOML, on one line.
    pub fn to_toml(&self) -> String {
        match self {
            Value::Text(text) => quote(text),
            Value::Integer(n) => n.to_string(),
            Value::Float(x) => format!("{x:?}"),
            Value::Bool(b) => b.to_string(),
            Value::Date(text) => text.clone(),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|n| n.value.to_toml()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(table) => {
                let items: Vec<String> = table
                    .entries
                    .iter()
                    .map(|e| format!("{} = {}", bare(&e.key), e.node.value.to_toml()))
                    .collect();
                format!("{{ {} }}", items.join(", "))
            }
        }
    }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key as TOML writes it: quoted unless it is plain.
pub fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { key.to_owned() } else { quote(key) }
}

impl Table {
    /// The entry of that key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// Puts `node` at the dotted `path`, making tables on the way. A path that meets a list without naming an
    /// index goes into every element, so that `traffic.rate` means all clients. Returns false where a value
    /// stands in the way.
    pub fn set(&mut self, path: &[&str], node: &Node) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let position = self.entries.iter().position(|e| e.key == *first).unwrap_or_else(|| {
            let value = Value::Table(Table::default());
            let node = Node { at: node.at, value };
            self.entries.push(Entry { key: (*first).to_owned(), key_at: node.at, node });
            self.entries.len() - 1
        });
        self.entries[position].node.set(rest, node)
    }
}

impl Node {
    fn set(&mut self, path: &[&str], node: &Node) -> bool {
        let Some((first, rest)) = path.split_first() else {
            *self = node.clone();
            return true;
        };
        match &mut self.value {
            Value::Table(table) => table.set(path, node),
            Value::Array(items) => match first.parse::<usize>() {
                Ok(index) => items.get_mut(index).is_some_and(|item| item.set(rest, node)),
                Err(_) => !items.is_empty() && items.iter_mut().all(|item| item.set(path, node)),
            },
            _ => false,
        }
    }
}

/// Parses a document; all syntax errors come back as (message, place).
pub fn parse_document(source: usize, text: &str) -> Result<Node, Vec<(String, At)>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let at = At { source, start: 0, end: 0 };
        return Ok(Node { at, value: Value::Table(convert_table(source, table.get_ref())) });
    }
    let place = |span: Option<std::ops::Range<usize>>| {
        let span = span.unwrap_or(text.len()..text.len());
        At { source, start: span.start, end: span.end }
    };
    Err(errors.iter().map(|e| (e.message().to_owned(), place(e.span()))).collect())
}

/// Parses one value, as after `key =`.
pub fn parse_value(source: usize, text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let at = At { source, start: value.span().start, end: value.span().end };
    Some(Node { at, value: convert(source, value.get_ref()) })
}

fn convert(source: usize, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(n) => {
            Value::Integer(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(x) => Value::Float(x.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Datetime(d) => Value::Date(d.to_string()),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| {
                    let at = At { source, start: item.span().start, end: item.span().end };
                    Node { at, value: convert(source, item.get_ref()) }
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(source, table)),
    }
}

fn convert_table(source: usize, table: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_at: At { source, start: key.span().start, end: key.span().end },
            node: Node {
                at: At { source, start: value.span().start, end: value.span().end },
                value: convert(source, value.get_ref()),
            },
        })
        .collect();
    // The parser sorts keys by name; people expect their own order back.
    entries.sort_by_key(|e| (e.key_at, e.key.clone()));
    Table { entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        match parse_document(0, text).unwrap().value {
            Value::Table(table) => table,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn entries_keep_the_order_and_the_place_of_the_file() {
        let t = table("b = 1\na = \"x\"\n");
        let keys: Vec<&str> = t.entries.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["b", "a"]);
        assert_eq!(t.entries[1].node.at, At { source: 0, start: 10, end: 13 });
    }

    #[test]
    fn a_path_through_a_list_reaches_every_element_or_the_named_one() {
        let mut t = table("[[traffic]]\nrate = 1\n[[traffic]]\nrate = 2\n");
        let nine = parse_value(1, "9").unwrap();
        assert!(t.set(&["traffic", "1", "rate"], &nine));
        assert_eq!(t.entries[0].node.value.to_toml(), "[{ rate = 1 }, { rate = 9 }]");
        assert!(t.set(&["traffic", "rate"], &nine));
        assert_eq!(t.entries[0].node.value.to_toml(), "[{ rate = 9 }, { rate = 9 }]");
        assert!(!t.set(&["traffic", "7", "rate"], &nine));
    }

    #[test]
    fn every_syntax_error_of_a_document_is_found() {
        let errors = parse_document(0, "a = \nb = 1\nc = [1,\n").unwrap_err();
        assert!(errors.len() >= 2, "{errors:?}");
    }
}
