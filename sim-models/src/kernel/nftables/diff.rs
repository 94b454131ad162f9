//! How the table of a node differs from the one that its objects call for.
//!
//! Order means nothing among chains, sets and elements; inside a chain it does, so rules are compared one by one
//! in their order ([`crate::kernel::align`]); one that stands elsewhere is a difference of its own. No difference are:
//! - an empty chain that no one calls for: kube-proxy empties stale chains and deletes them in a later sync
//!   (`pkg/proxy/nftables/proxier.go:syncProxyRules`; see [`Table::stale_chains`]);
//! - the elements of a set that rules update;
//! - the comment of a table or chain that one of the two does not have, since JSON does not carry it;
//! - other comments of elements that are otherwise equal: kube-proxy sends an element again only when its verdict
//!   changes, so that it keeps the name that a port had before;
//! - braces around a single range: ranges that were written one by one are listed merged, and written so they have none.

use super::print::{RuleText, family, timeout};
use super::{Chain, Element, Key, Set, Table, Verdict};
use crate::kernel::align::Alignment;
use crate::kernel::dump::Difference;
use std::collections::BTreeMap;

/// What stands between a chain and the numbers of a rule that moved in it; no name has a comma.
const RULE: &str = ", rule ";

/// Every difference, by place.
pub fn differences(wanted: &Table, found: &Table) -> Vec<Difference> {
    let at = format!("{} {}", family(wanted.family), wanted.name);
    let mut diff = Diff { wanted, found, at, out: Vec::new() };
    diff.table();
    diff.sets();
    diff.chains();
    diff.unknown();
    // Stable: inside a chain the order of the rules stays.
    diff.out.sort_by(|a, b| chain_of(&a.place).cmp(chain_of(&b.place)));
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

/// A place without the rule in it.
fn chain_of(place: &str) -> &str {
    place.split_once(RULE).map_or(place, |(chain, _)| chain)
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
                    if target(self.wanted, element.verdict) != target(self.found, other.verdict) {
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
        let (wanted, found) = (texts(self.wanted, wanted), texts(self.found, found));
        let keys = [&wanted, &found].map(|texts| texts.iter().map(|text| bare(text)).collect::<Vec<_>>());
        let alignment = Alignment::of(&keys[0], &keys[1]);
        for (a, b) in alignment.differences {
            self.push(place.to_owned(), a.map(|a| wanted[a].clone()), b.map(|b| found[b].clone()));
        }
        for (a, b) in alignment.moved {
            let place = format!("{place}{RULE}{} found as rule {}", a + 1, b + 1);
            self.push(place, Some(wanted[a].clone()), Some(found[b].clone()));
        }
    }
}

/// A rule without the braces of a set of one range: `saddr != { 10.0.0.0/8 } drop`.
fn bare(rule: &str) -> String {
    match rule.split_once("{ ").and_then(|(head, rest)| Some((head, rest.split_once(" }")?))) {
        // A list has commas, a map blanks around its colons.
        Some((head, (range, tail))) if !range.contains([',', '{', ' ']) => format!("{head}{range}{tail}"),
        _ => rule.to_owned(),
    }
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
