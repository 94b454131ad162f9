//! The passes over the text: documents, the items of lists, each item by its kind.

use super::check::{Checker, Gathered};
use super::error::{ImportError, MAX_ERRORS, Unplaced, placed};
use super::position::{Step, escaped, locate, offset_at, offset_of, path_to};
use super::shape::Text;
use super::{Imported, Options, raw};
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
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
    /// Objects seen so far, as errors name them.
    seen: BTreeSet<String>,
    /// Number of the next item.
    next: usize,
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
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&'a RawValue>();
        // Only where there is more than one document their texts are needed before their heads: of a single one the
        // head is read at once.
        if let Ok(head) = serde_json::from_str::<Head<'a>>(text) {
            self.headed(text.trim(), &head, None, 0);
            return true;
        }
        while self.gave_up.is_none() {
            match stream.next() {
                None => return true,
                Some(Ok(document)) => self.value(document.get(), None, 0),
                Some(Err(error)) => {
                    let (message, within) = told(&error, text);
                    let message =
                        if error.is_eof() { format!("{message}: the text is cut off") } else { message };
                    self.push(String::new(), String::new(), message, within);
                    return false;
                }
            }
        }
        true
    }

    /// Reads a document or an item.
    fn value(&mut self, item: &'a str, list_kind: Option<&str>, depth: u32) {
        match serde_json::from_str::<Head<'a>>(item) {
            Ok(head) => self.headed(item, &head, list_kind, depth),
            Err(error) => {
                let object = format!("item {}", self.next);
                self.next += 1;
                self.json_error(object, item, &error);
            }
        }
    }

    /// Reads an item whose head is known.
    fn headed(&mut self, item: &'a str, head: &Head<'a>, list_kind: Option<&str>, depth: u32) {
        let kind = head.kind.as_deref();
        if let Some(items) = head.items {
            // A typed list does not repeat the kind in its items.
            let item_kind = kind.and_then(|kind| kind.strip_suffix("List")).filter(|kind| !kind.is_empty());
            return self.items(items.get(), item_kind, depth);
        }
        let i = self.next;
        self.next += 1;
        let Some(kind) = kind.or(list_kind) else {
            return self.error(&format!("item {i}"), item, &[], "has no kind".to_owned());
        };
        let group = head.api_version.as_deref();
        let group = group.map(|version| version.rsplit_once('/').map_or("", |(group, _)| group));
        let of_group = |wanted: &str| group.is_none_or(|group| group == wanted);
        match kind {
            "Node" if of_group("") => self.fields::<raw::Node<'a>>(i, item, kind),
            "Service" if of_group("") => self.fields::<raw::Service<'a>>(i, item, kind),
            "Endpoints" if of_group("") => self.fields::<raw::Endpoints<'a>>(i, item, kind),
            "Pod" if of_group("") => self.fields::<raw::Pod<'a>>(i, item, kind),
            "EndpointSlice" if of_group("discovery.k8s.io") => {
                self.fields::<raw::EndpointSlice<'a>>(i, item, kind);
            }
            "ServiceCIDR" if of_group("networking.k8s.io") => {
                self.fields::<raw::ServiceCidr<'a>>(i, item, kind);
            }
            // `items: null`, or none: a list of nothing.
            kind if kind.ends_with("List") => {}
            kind => self.skip(kind),
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

    /// Reads the items of a list, one at a time.
    fn items(&mut self, list: &'a str, item_kind: Option<&str>, depth: u32) {
        struct Each<'r, 'a, 'k>(&'r mut Reader<'a>, Option<&'k str>, u32);
        impl<'a> Visitor<'a> for Each<'_, 'a, '_> {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
                let Each(reader, item_kind, depth) = self;
                while let Some(item) = list.next_element::<&'a RawValue>()? {
                    reader.value(item.get(), item_kind, depth);
                    if reader.errors.len() >= MAX_ERRORS && !reader.options.keep_going {
                        reader.gave_up = Some(offset_of(reader.text, item.get()));
                        break;
                    }
                }
                Ok(())
            }
        }
        if depth >= MAX_LISTS {
            return self.error(
                "",
                list,
                &[],
                format!("lists within more than {MAX_LISTS} lists are not read"),
            );
        }
        let read = serde_json::Deserializer::from_str(list).deserialize_any(Each(self, item_kind, depth + 1));
        // The text is known to be JSON: what is left is a wrong shape, or the end of a list that was not waited for.
        if let (Err(error), None) = (read, self.gave_up) {
            self.json_error("items".to_owned(), list, &error);
        }
    }

    /// Reads an item of a known kind by its raw shape `T` and checks it.
    fn fields<T: raw::Item + Deserialize<'a>>(&mut self, i: usize, item: &'a str, kind: &str) {
        let named = |name: Option<&str>, namespace: Option<&str>| match (namespace, name) {
            (Some(namespace), Some(name)) if T::NAMESPACED => {
                format!("{kind} {}/{}", escaped(namespace), escaped(name))
            }
            (_, Some(name)) => format!("{kind} {}", escaped(name)),
            (_, None) => format!("{kind}, item {i}"),
        };
        let raw: T = match serde_json::from_str(item) {
            Ok(raw) => raw,
            Err(error) => {
                // Its name may still be readable.
                let name = serde_json::from_str::<raw::Named<'a>>(item).ok().and_then(|named| named.metadata);
                let name = name.unwrap_or_default();
                let object = named(name.name.as_deref(), name.namespace.as_deref());
                return self.json_error(object, item, &error);
            }
        };
        let metadata = raw.metadata();
        let object = named(metadata.name.as_deref(), metadata.namespace.as_deref());
        let mut checker = Checker::new(&mut self.gathered);
        if metadata.name.is_some() && !self.seen.insert(object.clone()) {
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

/// Why a text cannot be JSON objects, where that is plain from its beginning.
fn no_json(text: &str) -> Option<String> {
    let text = text.trim_start();
    let first_line = text.lines().next().unwrap_or_default();
    let first_word = first_line.split_whitespace().next().unwrap_or_default();
    let message = match text.chars().next() {
        None => "there is nothing in it",
        Some('{') => return None,
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
