//! Reads one table of a scenario against its [`Section`]: types, units, limits and names, every error collected.
//!
//! A value that is wrong is reported once and replaced by a harmless one marked as not `ok`, so that reading goes on
//! and the checks that span several keys can leave it alone.

mod addresses;
mod cluster;

pub use cluster::{NodeList, NodeName, Tolerance};

use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::keys::{Key, Kind, Section};
use crate::known::Known;
use crate::quantity;
use crate::refusal::{
    Refusal, Refusals, known_name, kubernetes_minor, one_of, plain_span, unit_text, within,
};
use crate::tree::{At, Node, Table, Value, parse_value};
use sim_core::units::SimSpan;

/// A value, where it comes from, and whether it is fit for use.
#[derive(Clone, Debug)]
pub struct Spot<T> {
    /// The value.
    pub value: T,
    /// Where it was written, or the place of its table if it is a default.
    pub at: At,
    /// False if what was written was refused and `value` stands in.
    pub ok: bool,
    /// False if it is the default.
    pub written: bool,
    /// Dotted path of its key.
    pub key: String,
}

impl<T> Spot<T> {
    /// A diagnostic about this value.
    pub fn wrong(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.at, &self.key, message)
    }
    /// What a diagnostic needs to point at this value beside another.
    pub fn place(&self) -> Place<'_> {
        Place { at: self.at, key: &self.key, written: self.written }
    }
}

/// Where a value stands, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where it was written, or the place of its table if it is a default.
    pub at: At,
    /// Dotted path of its key.
    pub key: &'a str,
    /// False if it is the default.
    pub written: bool,
}

/// Two values that cannot stand together: the message is about `here`, which should be what a person would change
/// first; a default is only told, for there is nothing to point at.
pub fn contradiction(
    here: Place<'_>,
    there: Place<'_>,
    default: &str,
    message: impl Into<String>,
) -> Diagnostic {
    let (first, second) = if here.written { (here, there) } else { (there, here) };
    let d = Diagnostic::new(first.at, first.key, message);
    match second.written {
        true => d.and(second.at, second.key),
        false => d.help(format!("key: {} = {default}, its default", second.key)),
    }
}

/// What the readers of all tables share.
pub struct Context<'a> {
    /// Names that exist.
    pub known: &'a Known,
    /// Where errors go.
    pub out: &'a mut Diagnostics,
}

/// A table being read.
pub struct Reader<'t> {
    section: &'static Section,
    table: Option<&'t Table>,
    path: String,
    at: At,
}

impl<'t> Reader<'t> {
    /// Begins a table and reports its unknown and missing keys.
    pub fn new(
        cx: &mut Context<'_>,
        section: &'static Section,
        table: Option<&'t Table>,
        path: &str,
        at: At,
    ) -> Self {
        let reader = Reader { section, table, path: path.to_owned(), at };
        for entry in table.iter().flat_map(|t| &t.entries) {
            if section.key(&entry.key).is_none() {
                let names: Vec<&str> = section.keys.iter().map(|k| k.name).collect();
                let mut d = Diagnostic::new(
                    entry.key_at,
                    &reader.key_path(&entry.key),
                    format!("unknown key `{}` in {}", entry.key, section.title),
                );
                if let Some(near) = did_you_mean(&entry.key, names.iter().copied()) {
                    d = d.label(format!("did you mean `{near}`?"));
                }
                cx.out.push(d.help(format!("allowed: {}", names.join(", "))));
            }
        }
        if table.is_some() {
            for key in section.keys.iter().filter(|k| k.required && reader.entry(k.name).is_none()) {
                let path = reader.key_path(key.name);
                let d = Diagnostic::new(at, &path, format!("{} needs the key `{}`", section.title, key.name));
                cx.out.push(d.help(format!("allowed: {}", key.kind.expected())));
            }
        }
        reader
    }

    /// Dotted path of a key of this table.
    pub fn key_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
    /// Dotted path of this table.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// Place of the table.
    pub fn at(&self) -> At {
        self.at
    }
    /// The node written under `name`.
    pub fn entry(&self, name: &str) -> Option<&'t Node> {
        self.table.and_then(|t| t.get(name)).map(|e| &e.node)
    }
    /// Whether it has keys that no such table takes.
    pub fn has_unknown(&self) -> bool {
        self.table.iter().flat_map(|t| &t.entries).any(|entry| self.section.key(&entry.key).is_none())
    }
    /// Place of the key `name`, if it was written.
    pub fn key_at(&self, name: &str) -> Option<At> {
        self.table.and_then(|t| t.get(name)).map(|e| e.key_at)
    }

    fn key(&self, name: &str) -> &'static Key {
        self.section
            .key(name)
            .unwrap_or_else(|| panic!("{} has no key {name} in the key table", self.section.title))
    }

    /// Reads `name`, written or default, with `read`, whose error is a finished diagnostic without place.
    pub(crate) fn spot<T, E: Into<Refusals>>(
        &self,
        cx: &mut Context<'_>,
        name: &str,
        fallback: T,
        read: impl FnOnce(&Key, &Node, &Known) -> Result<T, E>,
    ) -> Spot<T> {
        let key = self.key(name);
        let path = self.key_path(name);
        let (node, written) = match (self.entry(name), key.default) {
            (Some(node), _) => (node.clone(), true),
            (None, Some(text)) => {
                let node =
                    parse_value(self.at.source, text).unwrap_or_else(|| panic!("default of {name}: {text}"));
                (Node { at: self.at, value: node.value }, false)
            }
            (None, None) => {
                return Spot { value: fallback, at: self.at, ok: false, written: false, key: path };
            }
        };
        match read(key, &node, cx.known) {
            Ok(value) => Spot { value, at: node.at, ok: true, written, key: path },
            Err(refusals) => {
                for refusal in refusals.into().0 {
                    cx.out.push(refusal.place(node.at, &path));
                }
                Spot { value: fallback, at: node.at, ok: false, written, key: path }
            }
        }
    }

    /// Text, a fixed word or a known name.
    pub fn text(&self, cx: &mut Context<'_>, name: &str) -> Spot<String> {
        self.spot(cx, name, String::new(), |key, node, known| {
            let Value::Text(text) = &node.value else { return Err(Refusal::kind(key, node)) };
            match key.kind {
                Kind::OneOf(words) => one_of(text, name, words.iter().copied())?,
                Kind::Name(family) => known_name(text, family, known)?,
                _ => {}
            }
            Ok(text.clone())
        })
    }

    /// A list of known names, at least one, none twice.
    pub fn names(&self, cx: &mut Context<'_>, name: &str) -> Spot<Vec<String>> {
        self.spot(cx, name, Vec::new(), |key, node, known| {
            let (Value::Array(items), Kind::Names(family)) = (&node.value, key.kind) else {
                return Err(Refusal::kind(key, node).into());
            };
            let mut names: Vec<String> = Vec::new();
            let mut refusals = Vec::new();
            for item in items {
                let Value::Text(text) = &item.value else {
                    refusals.push(Refusal::kind(key, item).at(item.at));
                    continue;
                };
                if names.contains(text) {
                    refusals.push(Refusal::new(format!("`{text}` is listed twice")).at(item.at));
                } else if let Err(refusal) = known_name(text, family, known) {
                    refusals.push(refusal.at(item.at));
                } else {
                    names.push(text.clone());
                }
            }
            if items.is_empty() {
                let allowed = format!("allowed: {}", key.kind.expected());
                refusals.push(Refusal::new(format!("`{name}` is empty")).help(allowed));
            }
            if refusals.is_empty() { Ok(names) } else { Err(Refusals(refusals)) }
        })
    }

    /// A whole number within the key's limits.
    pub fn integer(&self, cx: &mut Context<'_>, name: &str) -> Spot<u64> {
        self.spot(cx, name, 1, |key, node, _| {
            let Value::Integer(n) = node.value else { return Err(Refusal::kind(key, node)) };
            within(key, name, n)
        })
    }

    /// True or false.
    pub fn boolean(&self, cx: &mut Context<'_>, name: &str) -> Spot<bool> {
        self.spot(cx, name, false, |key, node, _| match node.value {
            Value::Bool(b) => Ok(b),
            _ => Err(Refusal::kind(key, node)),
        })
    }

    /// A time.
    pub fn span(&self, cx: &mut Context<'_>, name: &str) -> Spot<SimSpan> {
        self.spot(cx, name, SimSpan::ZERO, |key, node, _| {
            let span = quantity::span(unit_text(key, node)?).map_err(Refusal::new)?;
            if let Kind::Span { min_ns, max_ns } = key.kind
                && !(min_ns..=max_ns).contains(&span.as_ns())
            {
                let (min, max) = (plain_span(min_ns), plain_span(max_ns));
                return Err(Refusal::new(format!("`{name}` must be from {min} to {max}")));
            }
            Ok(span)
        })
    }

    /// A rate per second.
    pub fn rate(&self, cx: &mut Context<'_>, name: &str) -> Spot<f64> {
        self.spot(cx, name, 0.0, |key, node, _| {
            let Kind::Rate { per_node, none, max } = key.kind else { panic!("{name} is not a rate") };
            let rate = quantity::rate(unit_text(key, node)?, per_node).map_err(Refusal::new)?;
            if rate > max {
                return Err(Refusal::new(format!("`{name}` is more than {max}/s")));
            }
            // Once a day is the least that a run of at most a day can show.
            if rate < 1.0 / 86_400.0 && !(none && rate == 0.0) {
                let none = if none { ", or 0/s for none" } else { "" };
                return Err(Refusal::new(format!("`{name}` is zero or less than once a day"))
                    .help(format!("allowed: 0.05/h to {max}/s{none}")));
            }
            Ok(rate)
        })
    }

    /// Minor version of Kubernetes.
    pub fn version(&self, cx: &mut Context<'_>, name: &str) -> Spot<u32> {
        let (first, last) = cx.known.kubernetes_minors;
        self.spot(cx, name, last, |key, node, _| {
            if let Value::Float(x) = node.value {
                let refusal = Refusal::new(format!("`{name}` must be {}", key.kind.expected()));
                return Err(refusal.label(format!("write \"{x}\": 1.30 and 1.3 are the same number")));
            }
            let Value::Text(text) = &node.value else { return Err(Refusal::kind(key, node)) };
            let minor = kubernetes_minor(text).filter(|minor| (first..=last).contains(minor));
            minor.ok_or_else(|| {
                Refusal::new(format!("`{text}` is not a version of Kubernetes that is modelled")).help(
                    match first == last {
                        true => format!("allowed: \"1.{last}\""),
                        false => format!("allowed: \"1.{first}\" to \"1.{last}\""),
                    },
                )
            })
        })
    }

    /// The law of endpoints.
    pub fn endpoints(&self, cx: &mut Context<'_>, name: &str) -> Spot<sim_models::config::EndpointLaw> {
        let fallback = sim_models::config::EndpointLaw::Fixed(0);
        self.spot(cx, name, fallback, |key, node, _| crate::endpoints::law(key, node))
    }

    /// The reader of the table under `name`; an absent one reads as empty.
    pub fn table(&self, cx: &mut Context<'_>, name: &str) -> Reader<'t> {
        let key = self.key(name);
        let Kind::Table(section) = key.kind else { panic!("{name} is not a table") };
        let at = self.key_at(name).unwrap_or(self.at);
        let table = self.entry(name).and_then(|node| match &node.value {
            Value::Table(table) => Some(table),
            _ => {
                cx.out.push(Refusal::kind(key, node).place(node.at, &self.key_path(name)));
                None
            }
        });
        Reader::new(cx, section, table, &self.key_path(name), at)
    }

    /// The reader of the table under `name`, if it is written.
    pub fn action(&self, cx: &mut Context<'_>, name: &str) -> Option<Reader<'t>> {
        let key = self.key(name);
        let Kind::Action(section) = key.kind else { panic!("{name} is not an action") };
        let node = self.entry(name)?;
        let path = self.key_path(name);
        let Value::Table(table) = &node.value else {
            cx.out.push(Refusal::kind(key, node).place(node.at, &path));
            return None;
        };
        Some(Reader::new(cx, section, Some(table), &path, self.key_at(name).unwrap_or(node.at)))
    }

    /// The readers of the list of tables under `name`.
    pub fn tables(&self, cx: &mut Context<'_>, name: &str) -> Vec<Reader<'t>> {
        let key = self.key(name);
        let Kind::Tables(section) = key.kind else { panic!("{name} is not a list of tables") };
        let Some(node) = self.entry(name) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            let mut d =
                Refusal::kind(key, node).place(self.key_at(name).unwrap_or(node.at), &self.key_path(name));
            d.label = format!("write [[{name}]]");
            cx.out.push(d);
            return Vec::new();
        };
        let mut readers = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}.{i}", self.key_path(name));
            match &item.value {
                Value::Table(table) => readers.push(Reader::new(cx, section, Some(table), &path, item.at)),
                _ => cx.out.push(Refusal::kind(key, item).place(item.at, &path)),
            }
        }
        readers
    }
}
