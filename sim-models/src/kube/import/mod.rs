//! Objects from the JSON that `kubectl get services,endpointslices,nodes,pods -A -o json` prints.
//!
//! Takes a v1 `List`, a typed list (`ServiceList`), single objects, or any number of those one after the other (one
//! file a kind, JSON lines). Items of other kinds are counted and left out; fields that no proxy reads are ignored.
//! What an API server would refuse is an error here, with the object, the path inside it and the place in the file;
//! all errors are told, not only the first, save that an item of a wrong shape (a text where a number belongs) stops
//! at its first.
//!
//! The text may be hostile: time grows with its length and memory with what it means, whatever it says
//! ([`shape`] keeps nothing that is not read, the passes over the text keep nothing at all).
//!
//! Three passes over the text: a document is cut into items, each item's kind is read, then its fields.
//! Left out: YAML; checks across objects other than duplicate names, cluster IPs and node ports.

mod check;
mod claims;
mod error;
mod interner;
mod mirror;
mod position;
mod raw;
mod read;
mod shape;

pub use error::{ImportError, MAX_ERRORS, text_of};

use super::objects::Objects;
use read::Reader;

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

/// Reads a cluster's objects. Fails where the text is no JSON, or not to its end, and, unless it is to keep going, where
/// any object is broken.
pub fn import_with(text: &str, options: Options) -> Result<Imported, Vec<ImportError>> {
    Reader::new(text, options).read()
}
