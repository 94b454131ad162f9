//! The passes over the text: documents, the items of lists, each item by its kind.

use super::check::{Checker, Gathered};
use super::error::{ImportError, MAX_ERRORS, Unplaced, placed};
use super::position::{Step, escaped, locate, offset_at, offset_of, path_to};
use super::shape::Text;
use super::{Imported, Options, raw};
use crate::kube::objects::EndpointSlice;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;

/// Lists within lists that are read.
const MAX_LISTS: u32 = 4;

/// Kinds that are counted one by one.
const MAX_KINDS: usize = 100;

/// What an item is.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    api_version: Option<Text<'a>>,
    items: Option<&'a RawValue>,
}

/// The kind of a typed list's items, which do not repeat it. It stands behind them, so it is looked for only if needed.
struct ListKind<'a> {
    /// The list, and what follows it.
    text: &'a str,
    /// `None` until it was looked for.
    kind: Option<Option<String>>,
}

impl ListKind<'_> {
    fn find(&mut self) -> Option<String> {
        let look = || {
            let head = Kinded::deserialize(&mut serde_json::Deserializer::from_str(self.text)).ok()?;
            let kind = head.kind.as_deref()?.strip_suffix("List")?;
            (!kind.is_empty()).then(|| kind.to_owned())
        };
        self.kind.get_or_insert_with(look).clone()
    }
}

/// The kind alone.
#[derive(Deserialize)]
struct Kinded<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
}

/// Reads a document: the items of a list while it is at them, of anything else only what it is.
struct Document<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// The document, and what follows it.
    text: &'a str,
}

/// Kind and API version.
type What<'a> = (Option<Text<'a>>, Option<Text<'a>>);

impl<'a> DeserializeSeed<'a> for Document<'_, 'a> {
    type Value = Option<What<'a>>;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Document<'_, 'a> {
    type Value = Option<What<'a>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut api_version, mut is_list) = (None, None, false);
        while let Some(key) = map.next_key::<Text<'a>>()? {
            match &*key {
                "kind" => kind = map.next_value::<Option<Text<'a>>>()?,
                "apiVersion" => api_version = map.next_value::<Option<Text<'a>>>()?,
                "items" => {
                    let list = ListKind { text: self.text, kind: None };
                    is_list |= map.next_value_seed(Each { reader: &mut *self.reader, list, depth: 1 })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok((!is_list).then_some((kind, api_version)))
    }
}

/// Reads each item of a list; false if there is `null` instead of it.
struct Each<'r, 'a> {
    reader: &'r mut Reader<'a>,
    list: ListKind<'a>,
    depth: u32,
}

impl<'a> DeserializeSeed<'a> for Each<'_, 'a> {
    type Value = bool;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Each<'_, 'a> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_seq<A: SeqAccess<'a>>(mut self, mut items: A) -> Result<bool, A::Error> {
        while let Some(item) = items.next_element::<&'a RawValue>()? {
            self.reader.value(item.get(), &mut self.list, self.depth);
            if self.reader.errors.len() >= MAX_ERRORS && !self.reader.options.keep_going {
                self.reader.gave_up = Some(offset_of(self.reader.text, item.get()));
                break;
            }
        }
        Ok(true)
    }
}

/// One import under way.
pub(super) struct Reader<'a> {
    /// Without a byte order mark.
    text: &'a str,
    options: Options,
    gathered: Gathered,
    errors: Vec<Unplaced>,
    /// Errors beyond those that are told.
    more: u64,
    /// Offset of the item after which it gave up.
    gave_up: Option<usize>,
    /// Objects seen so far: `kind/namespace/name`, never cut, since long names differ at their ends. No name that the
    /// API server takes has a slash.
    seen: BTreeSet<Box<str>>,
    /// Number of the next item.
    next: usize,
    /// Kind of the item before: lists have one kind after the other.
    guess: Option<Kind>,
}

/// Kinds that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Service,
    EndpointSlice,
    Endpoints,
    Pod,
    ServiceCidr,
}

impl Kind {
    /// The kind of that name and API version.
    fn of(kind: &str, api_version: Option<&str>) -> Option<Kind> {
        let group = api_version.map(|version| version.rsplit_once('/').map_or("", |(group, _)| group));
        let (found, wanted) = match kind {
            "Node" => (Kind::Node, ""),
            "Service" => (Kind::Service, ""),
            "EndpointSlice" => (Kind::EndpointSlice, "discovery.k8s.io"),
            "Endpoints" => (Kind::Endpoints, ""),
            "Pod" => (Kind::Pod, ""),
            "ServiceCIDR" => (Kind::ServiceCidr, "networking.k8s.io"),
            _ => return None,
        };
        group.is_none_or(|group| group == wanted).then_some(found)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, options: Options) -> Self {
        Reader {
            text: text.strip_prefix('\u{feff}').unwrap_or(text),
            options,
            gathered: Gathered::default(),
            errors: Vec::new(),
            more: 0,
            gave_up: None,
            seen: BTreeSet::new(),
            next: 0,
            guess: None,
        }
    }

    pub(super) fn read(mut self) -> Result<Imported, Vec<ImportError>> {
        let whole = self.documents();
        let mut errors = placed(self.text, std::mem::take(&mut self.errors));
        let last = match (self.gave_up, self.more) {
            (Some(offset), _) => Some((offset, format!("gave up after {MAX_ERRORS} errors"))),
            (None, 0) => None,
            (None, more) => Some((0, format!("and {more} more errors"))),
        };
        if let Some((offset, message)) = last {
            let last = Unplaced { object: String::new(), path: String::new(), message, offset };
            errors.extend(placed(self.text, vec![last]));
        }
        if !whole || !(errors.is_empty() || self.options.keep_going) {
            return Err(errors);
        }
        let Gathered { mut objects, mirror, nameless_ports, .. } = self.gathered;
        let (mirrored, mut notes) = mirror.finish(&objects.services);
        objects.slices.extend(mirrored);
        objects.slices.iter_mut().for_each(EndpointSlice::settle_revision);
        if let Some((slices, first)) = nameless_ports {
            notes.push(format!(
                "{slices} EndpointSlices, the first of them {first}, have ports without a name: kube-proxy passes over \
                 those (an API server gives them the name \"\")"
            ));
        }
        Ok(Imported { objects, errors, notes })
    }

    /// Reads one document after the other; false if one of them is no JSON.
    fn documents(&mut self) -> bool {
        let text = self.text;
        if let Some(message) = no_json(text) {
            let offset = text.len() - text.trim_start().len();
            self.push(String::new(), String::new(), message, offset);
            return false;
        }
        let mut at = 0;
        while self.gave_up.is_none() {
            let rest = text[at..].trim_ascii_start();
            if rest.is_empty() {
                return true;
            }
            let mut document = serde_json::Deserializer::from_str(rest);
            let read = Document { reader: self, text: rest }.deserialize(&mut document);
            let end = document.into_iter::<IgnoredAny>().byte_offset();
            match read {
                // A list: its items are read.
                Ok(None) => {}
                Ok(Some((kind, api_version))) => {
                    self.headed(&rest[..end], kind.as_deref(), api_version.as_deref());
                }
                Err(_) if self.gave_up.is_some() => return true,
                // serde_json tells a value of the wrong type apart from a text that is no JSON.
                Err(error) if error.is_data() => match self.skip_document(rest, &error) {
                    Some(end) => at = text.len() - rest.len() + end,
                    None => return false,
                },
                Err(error) => {
                    self.no_document(rest, &error);
                    return false;
                }
            }
            if at <= text.len() - rest.len() {
                at = text.len() - rest.len() + end;
            }
        }
        true
    }

    /// A document of which `error` was said is told and passed over: its end, unless it is no JSON.
    fn skip_document(&mut self, rest: &'a str, error: &serde_json::Error) -> Option<usize> {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<&'a RawValue>();
        match stream.next()? {
            Ok(document) => {
                let object = format!("item {}", self.next);
                self.next += 1;
                self.json_error(object, document.get(), error);
                Some(stream.byte_offset())
            }
            Err(error) => {
                self.no_document(rest, &error);
                None
            }
        }
    }

    fn no_document(&mut self, rest: &str, error: &serde_json::Error) {
        let (mut message, within) = told(error, rest);
        if error.is_eof() {
            message.push_str(": the text is cut off");
        }
        self.push(String::new(), String::new(), message, offset_of(self.text, rest) + within);
    }

    /// Reads an item.
    fn value(&mut self, item: &'a str, list: &mut ListKind<'a>, depth: u32) {
        if self.guess.is_some_and(|guess| self.guessed(guess, item)) {
            return;
        }
        match serde_json::from_str::<Head<'a>>(item) {
            Ok(Head { kind, api_version, items }) => {
                let (mut kind, api_version) = (kind.as_deref(), api_version.as_deref());
                let known = kind.is_some_and(|kind| Kind::of(kind, api_version).is_some());
                if let (Some(items), false) = (items, known) {
                    return self.items(items.get(), item, depth);
                }
                let of_list = if kind.is_none() { list.find() } else { None };
                kind = kind.or(of_list.as_deref());
                self.headed(item, kind, api_version);
            }
            Err(error) => {
                let object = format!("item {}", self.next);
                self.next += 1;
                self.json_error(object, item, &error);
            }
        }
    }

    /// Reads an item of this kind in one pass, if it is one.
    fn guessed(&mut self, kind: Kind, item: &'a str) -> bool {
        match kind {
            Kind::Node => self.if_so::<raw::Node<'a>>(kind, item),
            Kind::Service => self.if_so::<raw::Service<'a>>(kind, item),
            Kind::EndpointSlice => self.if_so::<raw::EndpointSlice<'a>>(kind, item),
            Kind::Endpoints => self.if_so::<raw::Endpoints<'a>>(kind, item),
            Kind::Pod => self.if_so::<raw::Pod<'a>>(kind, item),
            Kind::ServiceCidr => self.if_so::<raw::ServiceCidr<'a>>(kind, item),
        }
    }

    fn if_so<T: raw::Item + Deserialize<'a>>(&mut self, guess: Kind, item: &'a str) -> bool {
        // What is wrong is told once the kind is known.
        let Ok(raw) = serde_json::from_str::<T>(item) else { return false };
        let (kind, api_version) = raw.kind();
        let Some(kind) = kind.filter(|kind| Kind::of(kind, api_version) == Some(guess)) else { return false };
        let i = self.next;
        self.next += 1;
        self.checked(&raw, i, item, kind);
        true
    }

    /// Reads an item or a document whose kind is known, if it has one.
    fn headed(&mut self, item: &'a str, kind: Option<&str>, api_version: Option<&str>) {
        let i = self.next;
        self.next += 1;
        let Some(name) = kind else {
            return self.error(&format!("item {i}"), item, &[], "has no kind".to_owned());
        };
        let kind = Kind::of(name, api_version);
        self.guess = kind;
        match kind {
            Some(Kind::Node) => self.fields::<raw::Node<'a>>(i, item, name),
            Some(Kind::Service) => self.fields::<raw::Service<'a>>(i, item, name),
            Some(Kind::EndpointSlice) => self.fields::<raw::EndpointSlice<'a>>(i, item, name),
            Some(Kind::Endpoints) => self.fields::<raw::Endpoints<'a>>(i, item, name),
            Some(Kind::Pod) => self.fields::<raw::Pod<'a>>(i, item, name),
            Some(Kind::ServiceCidr) => self.fields::<raw::ServiceCidr<'a>>(i, item, name),
            // `items: null`, or none: a list of nothing.
            None if name.ends_with("List") => {}
            None => self.skip(name),
        }
    }

    /// Counts an item that no proxy reads.
    fn skip(&mut self, kind: &str) {
        let skipped = &mut self.gathered.objects.skipped;
        let kind = escaped(kind);
        if skipped.len() < MAX_KINDS || skipped.contains_key(&kind) {
            *skipped.entry(kind).or_default() += 1;
        } else {
            *skipped.entry("of other kinds".to_owned()).or_default() += 1;
        }
    }

    /// Reads the items of a list within `whole`, one at a time.
    fn items(&mut self, items: &'a str, whole: &'a str, depth: u32) {
        if depth >= MAX_LISTS {
            return self.error(
                "",
                items,
                &[],
                format!("lists within more than {MAX_LISTS} lists are not read"),
            );
        }
        let list = ListKind { text: whole, kind: None };
        let each = Each { reader: self, list, depth: depth + 1 };
        let read = each.deserialize(&mut serde_json::Deserializer::from_str(items));
        // The text is known to be JSON: what is left is a wrong shape, or the end of a list that was not waited for.
        if let (Err(error), None) = (read, self.gave_up) {
            self.json_error("items".to_owned(), items, &error);
        }
    }

    /// Reads an item of a known kind by its raw shape `T` and checks it.
    fn fields<T: raw::Item + Deserialize<'a>>(&mut self, i: usize, item: &'a str, kind: &str) {
        let raw: T = match serde_json::from_str(item) {
            Ok(raw) => raw,
            Err(error) => {
                // Its name may still be readable.
                let name = serde_json::from_str::<raw::Named<'a>>(item).ok().and_then(|named| named.metadata);
                let name = name.unwrap_or_default();
                let (name, namespace) = (name.name.as_deref(), name.namespace.as_deref());
                let object = object_name::<T>(kind, i, name, namespace);
                return self.json_error(object, item, &error);
            }
        };
        self.checked(&raw, i, item, kind);
    }

    /// Checks an item.
    fn checked<T: raw::Item>(&mut self, raw: &T, i: usize, item: &str, kind: &str) {
        let metadata = raw.metadata();
        let object = object_name::<T>(kind, i, metadata.name.as_deref(), metadata.namespace.as_deref());
        let mut checker = Checker::new(&mut self.gathered);
        let namespace = metadata.namespace.as_deref().filter(|_| T::NAMESPACED).unwrap_or_default();
        let key = metadata.name.as_deref().map(|name| format!("{kind}/{namespace}/{name}").into_boxed_str());
        if key.is_some_and(|key| !self.seen.insert(key)) {
            checker.error(&[Step::Key("metadata"), Step::Key("name")], "is there twice".to_owned());
        }
        checker.metadata(metadata, T::NAMESPACED, T::NAME_IS_LABEL);
        raw.check(&mut checker);
        let errors = checker.finish();
        for (path, message) in errors {
            self.error(&object, item, &path, message);
        }
    }

    /// An error in `item`, a part of the text, at `path` or as near to it as there is something.
    fn error(&mut self, object: &str, item: &str, path: &[Step<'_>], message: String) {
        if self.errors.len() < MAX_ERRORS {
            let offset = offset_of(self.text, item) + locate(item, path);
            let shown = path.iter().fold(String::new(), |shown, step| step.append_to(shown));
            self.push(object.to_owned(), shown, message, offset);
        } else {
            self.more += 1;
        }
    }

    /// An error of serde's in `item`.
    fn json_error(&mut self, object: String, item: &str, error: &serde_json::Error) {
        if self.errors.len() < MAX_ERRORS {
            let (message, within) = told(error, item);
            let offset = offset_of(self.text, item) + within;
            self.push(object, path_to(item, within), message, offset);
        } else {
            self.more += 1;
        }
    }

    fn push(&mut self, object: String, path: String, message: String, offset: usize) {
        self.errors.push(Unplaced { object, path, message, offset });
    }
}

/// An object as errors name it.
fn object_name<T: raw::Item>(kind: &str, i: usize, name: Option<&str>, namespace: Option<&str>) -> String {
    match (namespace, name) {
        (Some(namespace), Some(name)) if T::NAMESPACED => {
            format!("{kind} {}/{}", escaped(namespace), escaped(name))
        }
        (_, Some(name)) => format!("{kind} {}", escaped(name)),
        (_, None) => format!("{kind}, item {i}"),
    }
}

/// What serde says of a text, and where.
fn told(error: &serde_json::Error, text: &str) -> (String, usize) {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let message = message.strip_suffix(&place).unwrap_or(&message);
    // Of a value of the wrong type serde shows all.
    (escaped_long(message), offset_at(text, error.line(), error.column()))
}

/// A message that quotes the input, without its control characters and not too long.
fn escaped_long(message: &str) -> String {
    const LONGEST: usize = 200;
    let characters = message.chars().filter(|c| !c.is_control());
    match message.char_indices().nth(LONGEST) {
        None => characters.collect(),
        Some(_) => characters.take(LONGEST).chain("...".chars()).collect(),
    }
}

/// Levels that serde_json reads.
const DEEPEST: usize = 127;

/// Lists that a text begins with, one in the other.
fn opening(text: &str) -> usize {
    let opening = text.bytes().take_while(|byte| *byte == b'[' || byte.is_ascii_whitespace());
    opening.filter(|byte| *byte == b'[').take(DEEPEST + 1).count()
}

/// Why a text cannot be JSON objects, where that is plain from its beginning.
fn no_json(text: &str) -> Option<String> {
    let text = text.trim_start();
    let first_line = text.lines().next().unwrap_or_default();
    let first_word = first_line.split_whitespace().next().unwrap_or_default();
    let message = match text.chars().next() {
        None => "there is nothing in it",
        Some('{') => return None,
        Some('[') if opening(text) > DEEPEST => "is nested too deep",
        Some('[') => {
            "is a list without a kind: a `kind: List` object, or objects one after the other, are read"
        }
        Some('\0') => "begins with a NUL byte: this is no text",
        _ if first_word == "---" || first_word == "#" || first_word.ends_with(':') => {
            "looks like YAML: kubectl prints JSON with `-o json`"
        }
        _ if matches!(first_word, "NAME" | "NAMESPACE") => "is a table: kubectl prints JSON with `-o json`",
        _ => return None,
    };
    Some(message.to_owned())
}
