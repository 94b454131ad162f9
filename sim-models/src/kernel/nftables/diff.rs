//! How the table of a node differs from the one that its objects call for.
//!
//! Order means nothing among chains, sets and elements; inside a chain it does, so rules are compared one by one
//! along their longest common sequence. No difference are: an empty chain that no one calls for (kube-proxy empties
//! stale chains and deletes them in a later sync, `pkg/proxy/nftables/proxier.go:syncProxyRules`; see
//! [`stale_chains`]), the elements of a set that rules update, and the comment of a table or chain that one of the
//! two does not have, since JSON does not carry it.

use super::print::{RuleText, family, timeout};
use super::{Chain, Element, Key, Set, Table, Verdict};
use crate::kernel::dump::Difference;
use std::collections::BTreeMap;

/// Longest product of two runs of rules for which the common sequence is looked for; beyond it they are compared by
/// position.
const COMMON_CELLS_MAX: usize = 4_000_000;

/// Every difference, by place.
pub fn differences(wanted: &Table, found: &Table) -> Vec<Difference> {
    let at = format!("{} {}", family(wanted.family), wanted.name);
    let mut diff = Diff { wanted, found, at, out: Vec::new() };
    diff.table();
    diff.sets();
    diff.chains();
    diff.unknown();
    // Stable: inside a chain the order of the rules stays.
    diff.out.sort_by(|a, b| a.place.cmp(&b.place));
    diff.out
}

/// The difference if one of the tables is not there at all.
pub fn whole_table(wanted: Option<&Table>, found: Option<&Table>) -> Option<Difference> {
    let head = |table: &Table| format!("table {} {}", family(table.family), table.name);
    let table = wanted.or(found)?;
    let place = format!("{} {}", family(table.family), table.name);
    (wanted.is_none() || found.is_none()).then(|| Difference {
        place,
        wanted: wanted.map(head),
        found: found.map(head),
    })
}

/// Chains without rules that only the node has, in its order: stale ones, which kube-proxy has emptied and not yet
/// deleted.
pub fn stale_chains<'a>(wanted: &Table, found: &'a Table) -> Vec<&'a str> {
    let is_stale = |chain: &&Chain| is_empty(chain) && wanted.find_chain(&chain.name).is_none();
    found.chains.iter().filter(is_stale).map(|chain| &*chain.name).collect()
}

fn is_empty(chain: &Chain) -> bool {
    chain.rules.is_empty() && chain.base.is_none() && chain.unknown_base.is_none()
}

struct Diff<'a> {
    wanted: &'a Table,
    found: &'a Table,
    /// `ip kube-proxy`.
    at: String,
    out: Vec<Difference>,
}

impl Diff<'_> {
    fn push(&mut self, place: String, wanted: Option<String>, found: Option<String>) {
        self.out.push(Difference { place, wanted, found });
    }

    /// Two lines of which one may be missing.
    fn line(&mut self, place: &str, wanted: Option<String>, found: Option<String>) {
        if wanted != found {
            self.push(place.to_owned(), wanted, found);
        }
    }

    /// Comments, if both sides have one.
    fn comments(&mut self, place: &str, wanted: Option<&str>, found: Option<&str>) {
        if let (Some(wanted), Some(found)) = (wanted, found) {
            self.line(place, Some(comment(wanted)), Some(comment(found)));
        }
    }

    fn table(&mut self) {
        let place = self.at.clone();
        self.comments(&place, self.wanted.comment.as_deref(), self.found.comment.as_deref());
    }

    fn unknown(&mut self) {
        let place = self.at.clone();
        let mut wanted: Vec<_> = self.wanted.unknown.iter().map(|u| u.body.to_string()).collect();
        for unknown in &self.found.unknown {
            let text = unknown.body.to_string();
            match wanted.iter().position(|w| *w == text) {
                Some(at) => {
                    wanted.swap_remove(at);
                }
                None => self.push(format!("{place} {}", unknown.what), None, Some(text)),
            }
        }
        for text in wanted {
            self.push(place.clone(), Some(text), None);
        }
    }

    fn sets(&mut self) {
        let (wanted, found) = (self.wanted, self.found);
        for set in &wanted.sets {
            let place = format!("{} {} {}", self.at, kind(set), set.name);
            match found.find_set(&set.name).map(|id| &found.sets[id.0 as usize]) {
                Some(other) => {
                    self.line(&place, Some(properties(wanted, set)), Some(properties(found, other)));
                    if set.key == other.key && set.is_map == other.is_map {
                        self.elements(&place, set, other);
                    }
                }
                None => {
                    let head = properties(wanted, set);
                    self.push(place.clone(), Some(format!("{} {} {{ {head} }}", kind(set), set.name)), None);
                    self.elements(&place, set, &Set { elements: Vec::new(), ..set.clone() });
                }
            }
        }
        for set in found.sets.iter().filter(|set| wanted.find_set(&set.name).is_none()) {
            let place = format!("{} {} {}", self.at, kind(set), set.name);
            let head = properties(found, set);
            self.push(place.clone(), None, Some(format!("{} {} {{ {head} }}", kind(set), set.name)));
            self.elements(&place, &Set { elements: Vec::new(), ..set.clone() }, set);
        }
    }

    fn elements(&mut self, place: &str, wanted: &Set, found: &Set) {
        if wanted.timeout_seconds.is_some() && found.timeout_seconds.is_some() {
            return;
        }
        let mut others: BTreeMap<&Key, &Element> = found.elements.iter().map(|e| (&e.key, e)).collect();
        for element in &wanted.elements {
            match others.remove(&element.key) {
                Some(other) => {
                    let is_same = element.comment == other.comment
                        && target(self.wanted, element.verdict) == target(self.found, other.verdict);
                    if !is_same {
                        let texts = (text(self.wanted, element), text(self.found, other));
                        self.push(place.to_owned(), Some(texts.0), Some(texts.1));
                    }
                }
                None => self.push(place.to_owned(), Some(text(self.wanted, element)), None),
            }
        }
        for other in others.into_values() {
            self.push(place.to_owned(), None, Some(text(self.found, other)));
        }
    }

    fn chains(&mut self) {
        let (wanted, found) = (self.wanted, self.found);
        for chain in &wanted.chains {
            let place = format!("{} chain {}", self.at, chain.name);
            match found.find_chain(&chain.name).map(|id| found.chain(id)) {
                Some(other) => {
                    self.comments(&place, chain.comment.as_deref(), other.comment.as_deref());
                    self.line(&place, attachment(chain), attachment(other));
                    self.rules(&place, chain, other);
                }
                None if is_empty(chain) => {}
                None => self.push(place, Some(whole(wanted, chain)), None),
            }
        }
        let only_found = |chain: &&Chain| wanted.find_chain(&chain.name).is_none() && !is_empty(chain);
        for chain in found.chains.iter().filter(only_found) {
            self.push(format!("{} chain {}", self.at, chain.name), None, Some(whole(found, chain)));
        }
    }

    fn rules(&mut self, place: &str, wanted: &Chain, found: &Chain) {
        let mut wanted = texts(self.wanted, wanted);
        let mut found = texts(self.found, found);
        let before = wanted.iter().zip(&found).take_while(|(a, b)| a == b).count();
        wanted.drain(..before);
        found.drain(..before);
        let after = wanted.iter().rev().zip(found.iter().rev()).take_while(|(a, b)| a == b).count();
        wanted.truncate(wanted.len() - after);
        found.truncate(found.len() - after);
        let (mut i, mut j) = (0, 0);
        for (same_wanted, same_found) in
            common(&wanted, &found).into_iter().chain([(wanted.len(), found.len())])
        {
            // Between two common rules, what one side has instead of the other, in order.
            while i < same_wanted || j < same_found {
                let text = (i < same_wanted).then(|| std::mem::take(&mut wanted[i]));
                let other = (j < same_found).then(|| std::mem::take(&mut found[j]));
                i += usize::from(text.is_some());
                j += usize::from(other.is_some());
                self.line(place, text, other);
            }
            (i, j) = (same_wanted + 1, same_found + 1);
        }
    }
}

/// Positions of the longest common sequence.
fn common(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    if a.is_empty() || b.is_empty() || a.len().saturating_mul(b.len()) > COMMON_CELLS_MAX {
        return Vec::new();
    }
    let width = b.len() + 1;
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            out.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

fn texts(table: &Table, chain: &Chain) -> Vec<String> {
    chain.rules.iter().map(|rule| RuleText(table, rule).to_string()).collect()
}

fn comment(text: &str) -> String {
    format!("comment \"{text}\"")
}

fn kind(set: &Set) -> &'static str {
    if set.is_map { "map" } else { "set" }
}

/// `type ipv4_addr; flags dynamic,timeout; timeout 3h`.
fn properties(table: &Table, set: &Set) -> String {
    let types: Vec<_> = set.key.iter().map(|k| table.key_type(*k)).collect();
    let mut out = format!("type {}{}", types.join(" . "), if set.is_map { " : verdict" } else { "" });
    if let Some(seconds) = set.timeout_seconds {
        out += &format!("; flags dynamic,timeout; timeout {}", timeout(seconds));
    }
    if let Some(text) = &set.comment {
        out += &format!("; {}", comment(text));
    }
    out
}

fn text(table: &Table, element: &Element) -> String {
    let mut out = String::new();
    table.element(element, None, &mut out).expect("a string takes any text");
    out
}

/// A verdict with the name of the chain that it goes to.
fn target(table: &Table, verdict: Option<Verdict>) -> (Option<std::mem::Discriminant<Verdict>>, &str) {
    let name = match verdict {
        Some(Verdict::Jump(to) | Verdict::Goto(to)) => &*table.chain(to).name,
        _ => "",
    };
    (verdict.as_ref().map(std::mem::discriminant), name)
}

/// How a base chain is attached.
fn attachment(chain: &Chain) -> Option<String> {
    match (&chain.base, &chain.unknown_base) {
        (Some(base), _) => Some(base.to_string()),
        (None, Some(unknown)) => Some(unknown.to_string()),
        (None, None) => None,
    }
}

/// A chain on one line.
fn whole(table: &Table, chain: &Chain) -> String {
    let rules = texts(table, chain);
    let parts: Vec<String> = attachment(chain).into_iter().chain(rules).collect();
    format!("chain {} {{ {} }}", chain.name, parts.join("; "))
}
