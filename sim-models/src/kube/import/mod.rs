//! Objects from the JSON that `kubectl get services,endpointslices,nodes,pods -A -o json` prints.
//!
//! Takes a v1 `List`, a typed list (`ServiceList`), or one object. Items of other kinds are counted and left
//! out; fields that no proxy reads are ignored. What an API server would refuse is an error here, with the
//! object, the path inside it and the place in the file; all errors are told, not only the first, save that an
//! item of a wrong shape (a text where a number belongs) stops at its first.
//!
//! Three passes over the text: the list is cut into items, each item's kind is read, then its fields.
//! Left out: YAML; checks across objects other than duplicate names.

mod check;
mod position;
mod raw;

use super::objects::Objects;
use check::Checker;
use position::{Lines, Step, locate, offset_of};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Errors after which an import gives up.
pub const MAX_ERRORS: usize = 1000;

/// Something that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// Kind and name, for example `Service default/web`, or `item 3` where the name is not known; empty where
    /// the error is not in an item.
    pub object: String,
    /// Path inside the object, for example `spec.ports[0].nodePort`; may be empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        for part in [&self.object, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ImportError {}

/// The outermost object, its items still text.
#[derive(Deserialize)]
struct Top<'a> {
    kind: Option<String>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// What an item is.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
}

/// How an import goes about faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave a broken object out, whole, and go on with the others.
    pub keep_going: bool,
}

/// What an import found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// The objects that are right.
    pub objects: Objects,
    /// What is wrong with those that were left out; empty unless the import was to keep going.
    pub errors: Vec<ImportError>,
    /// What was decided where the input leaves it open, a sentence each.
    pub notes: Vec<String>,
}

/// Reads a cluster's objects, or says everything that is wrong with the text.
pub fn import(text: &str) -> Result<Objects, Vec<ImportError>> {
    import_with(text, Options::default()).map(|imported| imported.objects)
}

/// Reads a cluster's objects. Fails where the text is no JSON at all and, unless it is to keep going, where any object
/// is broken.
pub fn import_with(text: &str, options: Options) -> Result<Imported, Vec<ImportError>> {
    let mut reader = Reader::new(text);
    match serde_json::from_str::<Top<'_>>(text) {
        Err(error) => {
            reader.json_error("", text, &error);
            return Err(reader.errors);
        }
        Ok(Top { kind, items: None }) => match kind {
            Some(kind) if kind.ends_with("List") => {}
            _ => reader.item(0, text, None),
        },
        Ok(Top { kind, items: Some(items) }) => {
            // A typed list does not repeat the kind in its items.
            let item_kind = kind.and_then(|kind| kind.strip_suffix("List").map(str::to_owned));
            let item_kind = item_kind.filter(|kind| !kind.is_empty());
            for (i, item) in items.iter().enumerate() {
                reader.item(i, item.get(), item_kind.as_deref());
                if reader.errors.len() >= MAX_ERRORS && !options.keep_going {
                    reader.error("", item.get(), &[], format!("gave up after {MAX_ERRORS} errors"));
                    break;
                }
            }
        }
    }
    // In the order of the text; the last word, at the start of the last item, stays last.
    reader.errors.sort_by_key(|error| (error.message.starts_with("gave up"), error.line, error.column));
    if reader.errors.is_empty() || options.keep_going {
        Ok(Imported { objects: reader.objects, errors: reader.errors, notes: Vec::new() })
    } else {
        Err(reader.errors)
    }
}

/// One import under way.
struct Reader<'a> {
    text: &'a str,
    lines: Option<Lines>,
    objects: Objects,
    errors: Vec<ImportError>,
    /// Objects seen so far, as errors name them.
    seen: BTreeSet<String>,
    /// One copy of every name, so that a node's name is not stored once for each of its pods.
    names: BTreeSet<Arc<str>>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader {
            text,
            lines: None,
            objects: Objects { skipped: BTreeMap::new(), ..Objects::default() },
            errors: Vec::new(),
            seen: BTreeSet::new(),
            names: BTreeSet::new(),
        }
    }

    /// Reads item number `i`.
    fn item(&mut self, i: usize, item: &'a str, list_kind: Option<&str>) {
        let head: Head = match serde_json::from_str(item) {
            Ok(head) => head,
            Err(error) => return self.json_error(&format!("item {i}"), item, &error),
        };
        let Some(kind) = head.kind.as_deref().or(list_kind) else {
            return self.error(&format!("item {i}"), item, &[], "has no kind".to_owned());
        };
        let group =
            head.api_version.as_deref().map(|version| version.rsplit_once('/').map_or("", |(g, _)| g));
        let of_group = |wanted: &str| group.is_none_or(|group| group == wanted);
        match kind {
            "Node" if of_group("") => self.read::<raw::Node>(i, item, kind),
            "Service" if of_group("") => self.read::<raw::Service>(i, item, kind),
            "Pod" if of_group("") => self.read::<raw::Pod>(i, item, kind),
            "EndpointSlice" if of_group("discovery.k8s.io") => self.read::<raw::EndpointSlice>(i, item, kind),
            "ServiceCIDR" if of_group("networking.k8s.io") => self.read::<raw::ServiceCidr>(i, item, kind),
            _ => *self.objects.skipped.entry(kind.to_owned()).or_default() += 1,
        }
    }

    /// Reads an item of a known kind by its raw shape `T` and checks it.
    fn read<T: raw::Item + Deserialize<'a>>(&mut self, i: usize, item: &'a str, kind: &str) {
        let raw: T = match serde_json::from_str(item) {
            Ok(raw) => raw,
            Err(error) => return self.json_error(&format!("{kind}, item {i}"), item, &error),
        };
        let metadata = raw.metadata();
        let object = match (&metadata.namespace, &metadata.name) {
            (Some(namespace), Some(name)) if T::NAMESPACED => format!("{kind} {namespace}/{name}"),
            (_, Some(name)) => format!("{kind} {name}"),
            (_, None) => format!("{kind}, item {i}"),
        };
        let mut checker = Checker::new(&mut self.objects, &mut self.names);
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
        let offset = offset_of(self.text, item) + locate(item, path);
        let shown = path.iter().fold(String::new(), |shown, step| step.append_to(shown));
        self.push(object, shown, message, offset);
    }

    /// An error of serde's in `item`.
    fn json_error(&mut self, object: &str, item: &str, error: &serde_json::Error) {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string();
        let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
        let within = Lines::new(item).offset(item, error.line(), error.column());
        self.push(object, String::new(), message, offset_of(self.text, item) + within);
    }

    fn push(&mut self, object: &str, path: String, message: String, offset: usize) {
        let lines = self.lines.get_or_insert_with(|| Lines::new(self.text));
        let (line, column) = lines.position(self.text, offset);
        self.errors.push(ImportError { object: object.to_owned(), path, message, line, column });
    }
}
