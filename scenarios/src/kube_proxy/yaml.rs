//! YAML (and with it JSON) as trees in which every key and value knows where it was written.
//!
//! The `saphyr-parser` crate finds the events; this module builds trees from them within limits, so that no text can
//! ask for more memory than it has: a ConfigMap holds at most 1 MiB, and aliases count as often as they are used.
//! Scalars stay text until a key says what they are, for YAML 1.1 (which Kubernetes reads) and 1.2 differ on many.
//! Left out: merge keys, tags other than `!!str` and the like, keys that are not scalars.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::tree::At;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use std::collections::BTreeMap;

/// Longest text, in bytes.
const TEXT_MAX: usize = 1 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most bytes of all values, aliases counted as often as they are used.
const BYTES_MAX: usize = 4 << 20;
/// What a value costs beside its text.
const BYTES_PER_VALUE: usize = 256;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Yaml {
    /// Where it was written.
    pub at: At,
    /// What was written.
    pub item: Item,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Item {
    /// Text, or what a plain scalar means to its key.
    Scalar {
        /// As written, quotes and escapes resolved.
        text: String,
        /// Without quotes: may be a number, a boolean or nothing.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping, in the order of the text.
    Map(Vec<Pair>),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// Where it was written.
    pub at: At,
    /// Its value.
    pub value: Yaml,
}

impl Yaml {
    /// Nothing: `null`, `~` or an empty place.
    pub fn is_null(&self) -> bool {
        match &self.item {
            Item::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// What is under `key`, if this is a mapping that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        let Item::Map(pairs) = &self.item else { return None };
        pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value).filter(|value| !value.is_null())
    }

    /// The text under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.item {
            Item::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What a message calls a value like this.
    pub fn kind(&self) -> &'static str {
        match &self.item {
            _ if self.is_null() => "nothing",
            Item::Scalar { plain: false, .. } => "text",
            Item::Scalar { text, .. } if super::numbers::is_number(text) => "a number",
            Item::Scalar { text, .. } if boolean(text).is_some() => "true or false",
            Item::Scalar { .. } => "text",
            Item::List(_) => "a list",
            Item::Map(_) => "a map",
        }
    }

    /// Bytes that a copy costs.
    fn cost(&self) -> usize {
        let inner: usize = match &self.item {
            Item::Scalar { text, .. } => text.len(),
            Item::List(items) => items.iter().map(Yaml::cost).sum(),
            Item::Map(pairs) => pairs.iter().map(|pair| pair.key.len() + pair.value.cost()).sum(),
        };
        inner + BYTES_PER_VALUE
    }
}

/// A plain scalar as YAML 1.1 takes it for true or false, save the single letters.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A text as messages show it: on one line, without control characters, not endless.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}

/// Every document of `text`, which must be `source` of `out`; `None` if it is no YAML, which is then told.
pub fn documents(out: &mut Diagnostics, source: usize, text: &str) -> Option<Vec<Yaml>> {
    let mut builder = Builder {
        source,
        // Markers count characters.
        offsets: (!text.is_ascii() && text.len() <= TEXT_MAX)
            .then(|| text.char_indices().map(|(i, _)| i).chain([text.len()]).collect()),
        length: text.len(),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        spent: 0,
        documents: Vec::new(),
    };
    match builder.build(text) {
        Ok(()) => Some(builder.documents),
        Err(wrong) => {
            out.push(*wrong);
            None
        }
    }
}

/// A list or mapping that has begun.
struct Open {
    at: At,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Yaml>),
    /// The pairs, and the key whose value comes next.
    Map(Vec<Pair>, Option<(String, At)>),
}

struct Builder {
    source: usize,
    offsets: Option<Vec<usize>>,
    length: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Yaml>,
    spent: usize,
    documents: Vec<Yaml>,
}

type Built = Result<(), Box<Diagnostic>>;

impl Builder {
    fn wrong(&self, at: At, message: impl Into<String>) -> Box<Diagnostic> {
        let path: Vec<String> = self
            .open
            .iter()
            .filter_map(|open| match &open.content {
                Content::Map(_, Some((key, _))) => Some(shown(key)),
                _ => None,
            })
            .collect();
        Box::new(Diagnostic::new(at, &path.join("."), message))
    }

    fn byte(&self, marker: Marker) -> usize {
        match &self.offsets {
            Some(offsets) => offsets.get(marker.index()).copied().unwrap_or(self.length),
            None => marker.index().min(self.length),
        }
    }

    fn at(&self, span: Span) -> At {
        At { source: self.source, start: self.byte(span.start), end: self.byte(span.end) }
    }

    fn build(&mut self, text: &str) -> Built {
        if text.len() > TEXT_MAX {
            let at = At { source: self.source, start: 0, end: 1 };
            let size = text.len().div_ceil(TEXT_MAX);
            let wrong = self.wrong(at, format!("a configuration of {size} MiB"));
            return Err(Box::new(wrong.help("allowed: 1 MiB, as much as a ConfigMap holds")));
        }
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let start = self.byte(*error.marker());
                let at = At { source: self.source, start, end: start + 1 };
                self.wrong(at, format!("YAML syntax: {}", error.info()))
            })?;
            let at = self.at(span);
            self.event(event, at)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, at: At) -> Built {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => {
                // An anchor inside of what it names is not there yet.
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(self.wrong(at, "this alias has no anchor before it"));
                };
                let cost = anchored.cost();
                self.pay(at, cost)?;
                let item = self.anchors[&id].item.clone();
                self.add(Yaml { at, item }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = match &tag {
                    None => false,
                    Some(tag) if tag.is_yaml_core_schema() => tag.suffix == "str",
                    Some(_) => return Err(self.wrong(at, "tags mean nothing here")),
                };
                self.pay(at, text.len() + BYTES_PER_VALUE)?;
                let plain = style == ScalarStyle::Plain && !is_text;
                self.add(Yaml { at, item: Item::Scalar { text: text.into_owned(), plain } }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, Content::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser closes what it opened");
                let item = match open.content {
                    Content::List(items) => Item::List(items),
                    Content::Map(pairs, _) => Item::Map(pairs),
                };
                self.add(Yaml { at: open.at, item }, open.anchor)
            }
        }
    }

    fn pay(&mut self, at: At, cost: usize) -> Built {
        self.spent = self.spent.saturating_add(cost);
        if self.spent <= BYTES_MAX {
            return Ok(());
        }
        let wrong = self.wrong(at, "the configuration has too many values");
        Err(Box::new(wrong.help("aliases count as often as they are used")))
    }

    fn begin(&mut self, at: At, anchor: usize, content: Content) -> Built {
        if let Some(Open { content: Content::Map(_, None), .. }) = self.open.last() {
            return Err(self.wrong(at, "a key must be text"));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(self.wrong(at, format!("values are nested more than {DEPTH_MAX} deep")));
        }
        self.pay(at, BYTES_PER_VALUE)?;
        self.open.push(Open { at, anchor, content });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, value: Yaml, anchor: usize) -> Built {
        if anchor != 0 {
            let cost = value.cost();
            self.pay(value.at, cost)?;
            self.anchors.insert(anchor, value.clone());
        }
        let at = value.at;
        let mut again = None;
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.documents.push(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Map(pairs, next @ None)) => match value.item {
                Item::Scalar { text, .. } if pairs.iter().any(|pair| pair.key == text) => again = Some(text),
                Item::Scalar { text, .. } => *next = Some((text, at)),
                Item::List(_) | Item::Map(_) => return Err(self.wrong(at, "a key must be text")),
            },
            Some(Content::Map(pairs, next)) => {
                let (key, at) = next.take().expect("the arm above takes the other case");
                pairs.push(Pair { key, at, value });
            }
        }
        match again {
            Some(key) => Err(self.wrong(at, format!("`{}` is written twice", shown(&key)))),
            None => Ok(()),
        }
    }
}
