//! Scripts for nft, taken apart: to compare them without regard to what kube-proxy leaves to chance, and to carry
//! them out on a table of texts.

use std::collections::{BTreeMap, BTreeSet};

/// A script in the order that means something: fixed things as written, the commands on each chain of a Service in
/// their order, elements and sets of Services without order.
#[derive(Debug, Default, PartialEq)]
pub struct Parts {
    /// Lines about what does not belong to a Service.
    pub fixed: Vec<String>,
    /// Lines about a Service's chain, by its name.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Lines about elements and affinity sets, sorted.
    pub loose: Vec<String>,
}

/// Takes a script apart.
pub fn parts(script: &str) -> Parts {
    let mut out = Parts::default();
    for line in script.lines() {
        let (_, kind, _, name) = words(line);
        let of_service = name.contains('/');
        match kind {
            "element" | "set" if kind == "element" || of_service => out.loose.push(line.to_owned()),
            "chain" | "rule" if of_service => {
                out.chains.entry(name.to_owned()).or_default().push(line.to_owned());
            }
            _ => out.fixed.push(line.to_owned()),
        }
    }
    out.loose.sort();
    out
}

/// Verb, kind, rest behind the name, and name: the first of `add rule ip kube-proxy NAME REST`.
fn words(line: &str) -> (&str, &str, &str, &str) {
    let mut words = line.splitn(6, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (verb, kind, _family, table, name) = (next(), next(), next(), next(), next());
    assert_eq!(table, "kube-proxy", "{line}");
    (verb, kind, next(), name)
}

/// A table as scripts leave it: rules and elements in the words of the scripts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Rules by chain.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Elements by set: key, and the rest.
    pub sets: BTreeMap<String, BTreeMap<String, String>>,
}

impl Loaded {
    /// Carries a script out as nft would: as a whole or not at all, and what is not there cannot be changed.
    ///
    /// # Panics
    /// If nft would refuse it.
    pub fn apply(&mut self, script: &str) {
        for line in script.lines() {
            let (verb, kind, rest, name) = words(line);
            let name = name.to_owned();
            match (verb, kind) {
                ("add", "table") => {}
                ("add", "chain") => drop(self.chains.entry(name).or_default()),
                ("flush", "chain") => self.chains.get_mut(&name).expect(line).clear(),
                ("delete", "chain") => {
                    let rules = self.chains.remove(&name).expect(line);
                    assert!(rules.is_empty(), "not empty: {line}");
                }
                ("add", "rule") => self.chains.get_mut(&name).expect(line).push(rest.to_owned()),
                ("add", "set" | "map") => drop(self.sets.entry(name).or_default()),
                ("flush", "set") => self.sets.get_mut(&name).expect(line).clear(),
                ("delete", "set") => drop(self.sets.remove(&name).expect(line)),
                ("add", "element") => {
                    let (key, value) = element(rest);
                    let had = self.sets.get_mut(&name).expect(line).insert(key, value.clone());
                    assert!(had.is_none_or(|had| had == value), "another verdict is there: {line}");
                }
                ("delete", "element") => {
                    let (key, _) = element(rest);
                    self.sets.get_mut(&name).expect(line).remove(&key).expect(line);
                }
                _ => panic!("unknown: {line}"),
            }
        }
        self.check();
    }

    /// Every chain and set that is referred to is there.
    fn check(&self) {
        let rules = self.chains.values().flatten();
        for text in rules.chain(self.sets.values().flat_map(|elements| elements.values())) {
            let mut words = text.split([' ', ',']).peekable();
            while let Some(word) = words.next() {
                if let ("goto" | "jump", Some(to)) = (word, words.peek()) {
                    assert!(self.chains.contains_key(*to), "no chain {to}: {text}");
                } else if let Some(set) = word.strip_prefix('@') {
                    assert!(self.sets.contains_key(set), "no set {set}: {text}");
                }
            }
        }
    }

    /// The same without chains of Services that are empty: what kube-proxy has emptied and will delete.
    pub fn without_stale(&self) -> Self {
        let mut out = self.clone();
        out.chains.retain(|name, rules| !name.contains('/') || !rules.is_empty());
        out
    }

    /// Names of the chains of Services.
    pub fn service_chains(&self) -> BTreeSet<&str> {
        self.chains.keys().map(String::as_str).filter(|name| name.contains('/')).collect()
    }
}

/// `{ KEY comment "..." : VERDICT }`.
fn element(text: &str) -> (String, String) {
    let inner = text.strip_prefix("{ ").and_then(|t| t.strip_suffix(" }")).expect(text);
    let end = inner.find(" comment ").or_else(|| inner.find(" : ")).unwrap_or(inner.len());
    (inner[..end].to_owned(), inner[end..].to_owned())
}
