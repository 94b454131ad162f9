//! How the tables found on a node differ from those that kube-proxy would have written: without regard to the order
//! of Services, exact inside a chain.
//!
//! Looked at are kube-proxy's own chains ([`owned`]) and, in the built-in chains, the jumps to them in their relative
//! order. One chain that is missing or stale is one difference, and so is one rule ([`crate::kernel::align`]).
//!
//! Taken as equal, though the texts differ:
//! - counters, policies of built-in chains, the order of chains;
//! - in KUBE-SVC-, KUBE-SVL- and KUBE-SEP- chains a rule with its comment and the same without: above 1000 endpoints
//!   kube-proxy leaves the comments of single endpoints out, and what it wrote before the cluster crossed that line
//!   stays as it was until its Service changes;
//! - rules of different Services in another order in the chains that hold rules of many ([`Layout`]): kube-proxy
//!   visits Services in the random order of a Go map. The rules of one Service keep theirs, and those of nat
//!   KUBE-SERVICES that lead to NodePorts stand behind all of them;
//! - where the jump to KUBE-FIREWALL stands, which kubelet ensures too, whichever comes first; what kubelet has in
//!   that chain when kube-proxy has nothing there; and the rule that an older kubelet adds to it;
//! - rules without nfacct counters, if no rule has any: kube-proxy writes them only where the kernel has
//!   nfnetlink_acct, and the rule for loopback NodePorts that does nothing but count only with them.

mod owned;

use super::{Match, Rule, Table, TableName, Target, print};
use crate::kernel::align::Alignment;
use crate::kernel::dump::Difference;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which chains of a mode hold rules in an order that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Chains with rules of many Services, told apart by the name that their comments begin with.
    pub by_service: &'static [(TableName, &'static str)],
    /// Chains in which no order means anything.
    pub any_order: &'static [(TableName, &'static str)],
}

impl Layout {
    /// iptables mode.
    pub const IPTABLES: Layout = Layout {
        by_service: &[
            (TableName::Filter, "KUBE-SERVICES"),
            (TableName::Filter, "KUBE-EXTERNAL-SERVICES"),
            (TableName::Filter, "KUBE-NODEPORTS"),
            (TableName::Filter, "KUBE-PROXY-FIREWALL"),
            (TableName::Nat, "KUBE-SERVICES"),
            (TableName::Nat, "KUBE-NODEPORTS"),
        ],
        any_order: &[],
    };
    /// ipvs mode: its rules are as many for any number of Services, save those for load balancers that the node
    /// itself may not use.
    pub const IPVS: Layout =
        Layout { by_service: &[], any_order: &[(TableName::Filter, "KUBE-IPVS-OUT-FILTER")] };
    /// userspace mode: every chain has rules of all Services, in the order in which they came.
    pub const USERSPACE: Layout = Layout {
        by_service: &[
            (TableName::Filter, "KUBE-NODEPORT-NON-LOCAL"),
            (TableName::Nat, "KUBE-PORTALS-CONTAINER"),
            (TableName::Nat, "KUBE-PORTALS-HOST"),
            (TableName::Nat, "KUBE-NODEPORT-CONTAINER"),
            (TableName::Nat, "KUBE-NODEPORT-HOST"),
        ],
        any_order: &[],
    };
}

/// The rules of one chain, or some of them, with the table that names what they jump to.
#[derive(Clone, Copy)]
struct Side<'a> {
    table: &'a Table,
    chain: &'a str,
}

impl<'a> Side<'a> {
    fn text(&self, rule: &Rule) -> String {
        let mut text = String::new();
        print::write_rule(self.table, self.chain, rule, &mut text).expect("a String takes everything");
        text
    }

    fn jump(&self, rule: &Rule) -> Option<&'a str> {
        match rule.target {
            Some(Target::Jump(id)) => self.table.chains.get(id.0 as usize).map(|chain| &*chain.name),
            _ => None,
        }
    }
}

/// What differs: tables and chains in the order of `wanted`, then what is found only.
pub fn diff(wanted: &[Table], found: &[Table], layout: Layout) -> Vec<Difference> {
    let counts = |tables: &[Table]| {
        let rules = tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.matches).any(|m| matches!(m, Match::Nfacct(_)))
    };
    if !found.is_empty() && counts(wanted) && !counts(found) {
        return diff_tables(&without_counters(wanted), found, layout);
    }
    diff_tables(wanted, found, layout)
}

/// The rules that kube-proxy writes where the kernel has no nfacct.
fn without_counters(tables: &[Table]) -> Vec<Table> {
    let mut tables = tables.to_vec();
    for chain in tables.iter_mut().flat_map(|table| &mut table.chains) {
        let only_counts =
            |m: &Match| matches!(m, Match::Nfacct(name) if &**name == "localhost_nps_accepted_pkts");
        chain.rules.retain(|rule| !rule.matches.iter().any(only_counts));
        for rule in &mut chain.rules {
            rule.matches.retain(|m| !matches!(m, Match::Nfacct(_)));
        }
    }
    tables
}

fn diff_tables(wanted: &[Table], found: &[Table], layout: Layout) -> Vec<Difference> {
    let mut out = Vec::new();
    for table in wanted {
        match found.iter().find(|other| other.name == table.name) {
            Some(other) => diff_table(table, other, layout, &mut out),
            None if table.chains.iter().any(|chain| owned::is_owned(table.name, &chain.name)) => {
                let place = table.name.name().to_owned();
                out.push(Difference { place, wanted: Some(format!("*{}", table.name.name())), found: None });
            }
            None => {}
        }
    }
    for table in found.iter().filter(|table| !wanted.iter().any(|other| other.name == table.name)) {
        let empty = Table { name: table.name, family: table.family, chains: Vec::new() };
        diff_table(&empty, table, layout, &mut out);
    }
    out
}

fn diff_table(wanted: &Table, found: &Table, layout: Layout, out: &mut Vec<Difference>) {
    let index = |table: &Table| -> BTreeMap<Arc<str>, usize> {
        table.chains.iter().enumerate().map(|(i, chain)| (chain.name.clone(), i)).collect()
    };
    let (in_wanted, in_found) = (index(wanted), index(found));
    for chain in &wanted.chains {
        let there = in_found.get(&chain.name).map(|&at| &found.chains[at]);
        let pair = Pair {
            place: format!("{} {}", wanted.name.name(), chain.name),
            wanted: Side { table: wanted, chain: &chain.name },
            found: Side { table: found, chain: &chain.name },
            no_comments: owned::may_lack_comments(&chain.name),
        };
        if chain.base.is_some() {
            pair.jumps(&chain.rules, there.map_or(&[][..], |chain| &chain.rules), out);
        } else if owned::is_owned(wanted.name, &chain.name) {
            match there {
                Some(there) => pair.chain(&chain.rules, &there.rules, layout, out),
                None => {
                    let text = Some(whole(wanted, chain));
                    out.push(Difference { place: pair.place, wanted: text, found: None });
                }
            }
        }
    }
    for chain in found.chains.iter().filter(|chain| !in_wanted.contains_key(&chain.name)) {
        let place = format!("{} {}", found.name.name(), chain.name);
        if chain.base.is_some() {
            let side = |table| Side { table, chain: &chain.name };
            let (wanted, found) = (side(wanted), side(found));
            Pair { place, wanted, found, no_comments: false }.jumps(&[], &chain.rules, out);
        } else if owned::is_owned(found.name, &chain.name) && !owned::is_shared(&chain.name) {
            out.push(Difference { place, wanted: None, found: Some(whole(found, chain)) });
        }
    }
}

/// A chain with its rules, a line each.
fn whole(table: &Table, chain: &super::Chain) -> String {
    let side = Side { table, chain: &chain.name };
    let mut text = format!(":{} - [0:0]", chain.name);
    for rule in &chain.rules {
        text.push('\n');
        text.push_str(&side.text(rule));
    }
    text
}

/// One chain on both sides.
struct Pair<'a> {
    place: String,
    wanted: Side<'a>,
    found: Side<'a>,
    /// A rule without its comment is the same rule.
    no_comments: bool,
}

impl Pair<'_> {
    /// A built-in chain: only jumps to kube-proxy's chains, in their order; the one to KUBE-FIREWALL in any place.
    fn jumps(&self, wanted: &[Rule], found: &[Rule], out: &mut Vec<Difference>) {
        for shared in [false, true] {
            let [wanted, found] = [(self.wanted, wanted), (self.found, found)].map(|(side, rules)| {
                let ours = |rule: &&Rule| {
                    side.jump(rule).is_some_and(|to| {
                        owned::is_owned(side.table.name, to) && owned::is_shared(to) == shared
                    })
                };
                rules.iter().filter(ours).collect::<Vec<_>>()
            });
            self.exact(&wanted, &found, out);
        }
    }

    fn chain(&self, wanted: &[Rule], found: &[Rule], layout: Layout, out: &mut Vec<Difference>) {
        let name = (self.wanted.table.name, self.wanted.chain);
        if layout.by_service.contains(&name) {
            return self.by_service(wanted, found, true, out);
        }
        if layout.any_order.contains(&name) {
            return self.by_service(wanted, found, false, out);
        }
        if owned::is_shared(self.wanted.chain) {
            if !wanted.is_empty() {
                let found: Vec<&Rule> = found.iter().filter(|rule| !owned::is_kubelets(rule)).collect();
                self.exact(&wanted.iter().collect::<Vec<_>>(), &found, out);
            }
            return;
        }
        // Nearly always all is as it should be.
        if wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| self.same(a, b)) {
            return;
        }
        self.exact(&wanted.iter().collect::<Vec<_>>(), &found.iter().collect::<Vec<_>>(), out);
    }

    /// Rules in groups: those of one Service in their order, the groups in any; any other rule is a group itself.
    fn by_service(&self, wanted: &[Rule], found: &[Rule], named: bool, out: &mut Vec<Difference>) {
        let mut groups: BTreeMap<Group<'_>, usize> = BTreeMap::new();
        let mut rules: Vec<[Vec<&Rule>; 2]> = Vec::new();
        for (at, (side, list)) in [(self.wanted, wanted), (self.found, found)].into_iter().enumerate() {
            for rule in list {
                let service = if named { service_of(rule) } else { None };
                let group = match service {
                    Some(service) => Group::Service(service, rule.proto.map(|test| test.value.number())),
                    None => Group::Other(side.text(rule)),
                };
                let next = rules.len();
                let group = *groups.entry(group).or_insert(next);
                if group == next {
                    rules.push([Vec::new(), Vec::new()]);
                }
                rules[group][at].push(rule);
            }
        }
        for [wanted, found] in &rules {
            self.exact(wanted, found, out);
        }
        self.last(wanted, found, out);
    }

    /// The rules of KUBE-SERVICES that lead to NodePorts are the last: what is for a node's own address may be for
    /// a Service whose rule would come after them.
    fn last(&self, wanted: &[Rule], found: &[Rule], out: &mut Vec<Difference>) {
        if self.wanted.table.name != TableName::Nat || self.wanted.chain != "KUBE-SERVICES" {
            return;
        }
        let to_node_ports = |side: Side<'_>, rule: &Rule| side.jump(rule) == Some("KUBE-NODEPORTS");
        let Some(last) = wanted.iter().rev().find(|rule| to_node_ports(self.wanted, rule)) else { return };
        if behind_node_ports(wanted, |rule| to_node_ports(self.wanted, rule)).is_some() {
            // Only a dump is so; what is built is not.
            return;
        }
        if let Some(service) = behind_node_ports(found, |rule| to_node_ports(self.found, rule))
            && wanted.iter().any(|rule| self.same(rule, service))
        {
            out.push(Difference {
                place: format!("{}, last rule", self.place),
                wanted: Some(self.wanted.text(last)),
                found: Some(self.found.text(service)),
            });
        }
    }

    /// Rules in this order.
    fn exact(&self, wanted: &[&Rule], found: &[&Rule], out: &mut Vec<Difference>) {
        if wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| self.same(a, b)) {
            return;
        }
        let [keys, others] = [(self.wanted, wanted), (self.found, found)]
            .map(|(side, rules)| rules.iter().map(|rule| self.key(side, rule)).collect::<Vec<String>>());
        let alignment = Alignment::of(&keys, &others);
        let difference = |place: String, a: Option<usize>, b: Option<usize>| Difference {
            place,
            wanted: a.map(|a| self.wanted.text(wanted[a])),
            found: b.map(|b| self.found.text(found[b])),
        };
        for (a, b) in alignment.differences {
            out.push(difference(self.place.clone(), a, b));
        }
        for (a, b) in alignment.moved {
            let place = format!("{}, rule {} found as rule {}", self.place, a + 1, b + 1);
            out.push(difference(place, Some(a), Some(b)));
        }
        // Aligned by what they do; their comments may still say different things.
        for (a, b) in alignment.aligned {
            if !self.same(wanted[a], found[b]) {
                out.push(difference(self.place.clone(), Some(a), Some(b)));
            }
        }
    }

    /// What a rule is aligned by.
    fn key(&self, side: Side<'_>, rule: &Rule) -> String {
        if !self.no_comments {
            return side.text(rule);
        }
        let mut bare = rule.clone();
        bare.matches.retain(|m| !matches!(m, Match::Comment(_)));
        side.text(&bare)
    }

    /// Whether two rules are the same.
    fn same(&self, wanted: &Rule, found: &Rule) -> bool {
        let net =
            |test: &Option<super::Test<ipnet::IpNet>>| test.map(|test| (test.invert, test.value.trunc()));
        let fits = net(&wanted.src) == net(&found.src)
            && net(&wanted.dst) == net(&found.dst)
            && wanted.proto == found.proto
            && wanted.in_iface == found.in_iface
            && wanted.out_iface == found.out_iface
            && match (&wanted.target, &found.target) {
                (Some(Target::Jump(_)), Some(Target::Jump(_))) => {
                    self.wanted.jump(wanted) == self.found.jump(found)
                }
                (a, b) => a == b,
            };
        if fits && (wanted.matches == found.matches || self.same_but_comments(wanted, found)) {
            return true;
        }
        // What one side has typed the other may have as text.
        let opaque = |rule: &Rule| {
            matches!(rule.target, Some(Target::Opaque(_)))
                || rule.matches.iter().any(|m| matches!(m, Match::Opaque(_)))
        };
        (opaque(wanted) || opaque(found)) && self.wanted.text(wanted) == self.found.text(found)
    }

    /// Whether one rule has no comment and is otherwise as the other, where that counts as equal.
    fn same_but_comments(&self, wanted: &Rule, found: &Rule) -> bool {
        let is_comment = |m: &Match| matches!(m, Match::Comment(_));
        let rest = |rule| {
            let rule: &Rule = rule;
            rule.matches.iter().filter(|m| !is_comment(m)).collect::<Vec<_>>()
        };
        self.no_comments
            && (!wanted.matches.iter().any(is_comment) || !found.matches.iter().any(is_comment))
            && rest(wanted) == rest(found)
    }
}

/// Rules whose order among themselves counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    /// Those of one Service port.
    Service(&'a str, Option<u8>),
    /// Equal rules that are no Service's.
    Other(String),
}

/// The Service port whose rule this is: `ns/name:port`, the first word of its comment.
fn service_of(rule: &Rule) -> Option<&str> {
    rule.matches.iter().find_map(|m| match m {
        Match::Comment(text) => text.split(' ').next().filter(|word| word.contains('/')),
        _ => None,
    })
}

/// The last rule of a Service that stands behind one that leads to NodePorts.
fn behind_node_ports(rules: &[Rule], to_node_ports: impl Fn(&Rule) -> bool) -> Option<&Rule> {
    let first = rules.iter().position(&to_node_ports)?;
    rules[first..].iter().rev().find(|rule| !to_node_ports(rule) && service_of(rule).is_some())
}
