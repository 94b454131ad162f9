//! From raw shapes to checked objects: names, addresses, ports and the words that a field may hold.
//!
//! The rules are those of the API server (`pkg/apis/core/validation/validation.go`,
//! `pkg/apis/discovery/validation/validation.go`), as far as a proxy depends on them: so nothing gets into an object
//! that could be anything but a name, a number or an address in the text of a rule.

mod address;
mod endpoints;
pub(super) mod names;
mod node;
mod service;

use super::claims::Claims;
use super::interner::Names;
use super::mirror::Mirror;
use super::position::Step::{self, Key};
use super::position::quoted;
use super::raw;
use super::shape::{Capped, Whole};
use crate::kube::objects::Objects;
use names::{is_dns_label, is_dns_name};
use sim_core::classify::Proto;
use std::sync::Arc;

/// Where in an item, and what is wrong there.
pub(super) type Found = (Vec<Step<'static>>, String);

/// Errors of one object that are told; more would not help, and looking up their places takes time.
const MAX_ERRORS_PER_OBJECT: usize = 20;

/// What an import has gathered.
#[derive(Default)]
pub(super) struct Gathered {
    pub objects: Objects,
    names: Names,
    /// Addresses and ports that only one Service may have.
    claims: Claims,
    /// Endpoints, and what decides whether they count.
    pub mirror: Mirror,
    /// Slices with a port that has no name, and the first of them.
    pub nameless_ports: Option<(u64, String)>,
}

/// Checks one item and adds it to the objects, unless there is anything wrong with it.
pub(super) struct Checker<'r> {
    gathered: &'r mut Gathered,
    /// Lengths of the lists in `gathered` before this item.
    before: [usize; 6],
    errors: Vec<Found>,
    /// Errors beyond those.
    more: u64,
}

impl<'r> Checker<'r> {
    pub(super) fn new(gathered: &'r mut Gathered) -> Self {
        let objects = &gathered.objects;
        let before = [
            objects.nodes.len(),
            objects.services.len(),
            objects.slices.len(),
            objects.pods.len(),
            objects.service_cidrs.len(),
            gathered.mirror.pending.len(),
        ];
        Checker { gathered, before, errors: Vec::new(), more: 0 }
    }

    /// What is wrong with the item. If anything is, it is not among the objects.
    pub(super) fn finish(mut self) -> Vec<Found> {
        if !self.errors.is_empty() {
            let [nodes, services, slices, pods, service_cidrs, endpoints] = self.before;
            let objects = &mut self.gathered.objects;
            objects.nodes.truncate(nodes);
            objects.services.truncate(services);
            objects.slices.truncate(slices);
            objects.pods.truncate(pods);
            objects.service_cidrs.truncate(service_cidrs);
            self.gathered.mirror.pending.truncate(endpoints);
        }
        if self.more > 0 {
            self.errors.push((Vec::new(), format!("and {} more errors in this object", self.more)));
        }
        self.errors
    }

    pub(super) fn error(&mut self, path: &[Step<'static>], message: String) {
        if self.errors.len() < MAX_ERRORS_PER_OBJECT {
            self.errors.push((path.to_vec(), message));
        } else {
            self.more += 1;
        }
    }

    /// The one copy of a name.
    fn name(&mut self, name: &str) -> Arc<str> {
        self.gathered.names.get(name)
    }

    /// Checks what every object has.
    pub(super) fn metadata(&mut self, metadata: &raw::Metadata<'_>, namespaced: bool, name_is_label: bool) {
        let path = [Key("metadata"), Key("name")];
        match metadata.name.as_deref() {
            None => self.error(&path, "is missing".to_owned()),
            Some(name) if name_is_label => self.dns_label(name, &path),
            Some(name) => self.dns_name(name, &path),
        }
        let path = [Key("metadata"), Key("namespace")];
        match metadata.namespace.as_deref() {
            None if namespaced => self.error(&path, "is missing".to_owned()),
            Some(namespace) if namespaced => self.dns_label(namespace, &path),
            _ => {}
        }
        if let Some((key, value)) = metadata.labels.as_ref().and_then(|labels| labels.no_label.as_ref()) {
            let rule = "letters, digits and inner dashes, underscores and dots, at most 63 characters";
            let message = format!("{}: {} is no label: {rule}", quoted(key), quoted(value));
            self.error(&[Key("metadata"), Key("labels")], message);
        }
    }

    fn dns_label(&mut self, name: &str, path: &[Step<'static>]) {
        if !is_dns_label(name) {
            let rule = "lower-case letters, digits and inner dashes, at most 63 characters";
            self.error(path, format!("{} is no DNS label: {rule}", quoted(name)));
        }
    }

    fn dns_name(&mut self, name: &str, path: &[Step<'static>]) {
        if !is_dns_name(name) {
            let rule = "DNS labels with dots between them, at most 253 characters";
            self.error(path, format!("{} is no DNS name: {rule}", quoted(name)));
        }
    }

    fn names_of(&mut self, metadata: &raw::Metadata<'_>) -> (Arc<str>, Arc<str>) {
        let namespace = self.name(metadata.namespace.as_deref().unwrap_or_default());
        (namespace, metadata.name.as_deref().unwrap_or_default().into())
    }

    /// A list's elements; an error if it has more than are kept.
    fn list<'l, T, const MAX: usize>(
        &mut self,
        list: Option<&'l Capped<T, MAX>>,
        path: &[Step<'static>],
    ) -> &'l [T] {
        let Some(list) = list else { return &[] };
        if list.count > list.len() {
            self.error(path, format!("has {} elements: at most {MAX} are allowed", list.count));
        }
        list
    }

    fn port(&mut self, number: Option<Whole>, zero_is_none: bool, path: &[Step<'static>]) -> u16 {
        let number = number.map_or(0, |number| number.0);
        match u16::try_from(number) {
            Ok(0) if !zero_is_none => {}
            Ok(port) => return port,
            Err(_) => {}
        }
        self.error(path, format!("{number} is not in 1-65535"));
        0
    }

    fn protocol(&mut self, word: Option<&str>, path: &[Step<'static>]) -> Proto {
        self.word(word, path, &[("TCP", Proto::Tcp), ("UDP", Proto::Udp), ("SCTP", Proto::Sctp)])
    }

    /// The meaning of one of a few words; the first is the default.
    fn word<T: Copy>(&mut self, word: Option<&str>, path: &[Step<'static>], known: &[(&str, T)]) -> T {
        let found = word.map_or(Some(&known[0]), |word| known.iter().find(|(name, _)| *name == word));
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let word = quoted(word.unwrap_or_default());
            self.error(path, format!("{word} is none of {}", names.join(", ")));
        }
        found.unwrap_or(&known[0]).1
    }
}
