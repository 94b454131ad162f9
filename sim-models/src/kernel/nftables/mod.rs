//! nf_tables: one table as kube-proxy writes it, as `nft` prints it and as the kernel evaluates it.
//!
//! This file is the shared form: what `proxy` builds, [`print`] and [`json`] print, [`read`] reads back from a
//! node and [`diff`] compares. Rules are kept at the level of nft's text (one [`Statement`] for `ct state new`,
//! one for `dnat to 10.0.0.1:80`). [`linearize`] turns them into the kernel's expressions as nft's
//! `src/netlink_linearize.c` does, [`compile`] lays those out as a chain's rule blob, [`set`] holds the kernel's
//! set backends, and [`eval`] runs the register machine.
//!
//! What others put into the table beside kube-proxy's rules is typed where it is common ([`test`] and the statements after
//! [`Statement::Reject`]); the rest is kept as it was written ([`Opaque`]) and refused by name when the table is to run,
//! or passed over with a warning. [`from_xtables`] gives the same engine the rules of iptables-nft.
//!
//! Left out: flowtables, objects, notrack, quota, hashes as keys, NAT to maps other than kube-proxy's, other families;
//! and generations: a table changes between packets, never during one.

pub mod compile;
pub mod diff;
pub mod eval;
pub mod expr;
pub mod from_xtables;
pub mod json;
pub mod linearize;
mod memory;
pub mod netlink;
pub mod opaque;
pub mod print;
pub mod read;
pub mod selector;
pub mod set;
pub mod tally;
pub mod test;
mod validate;
pub mod value;
pub mod xt_steps;

pub use eval::{Counts, Engine, EngineError};
pub use opaque::{Opaque, Unknown};
pub use set::dynamic::DynamicSets;

use super::hook::{ChainKind, Hook};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use sim_core::units::SimSpan;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Index of a chain in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

/// Index of a named set or map in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

/// One table of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `ip` or `ip6`.
    pub family: Family,
    /// Table name.
    pub name: Arc<str>,
    /// Table comment.
    pub comment: Option<Arc<str>>,
    /// Named sets and maps in creation order; a [`SetId`] indexes this.
    pub sets: Vec<Set>,
    /// Chains in creation order; a [`ChainId`] indexes this.
    pub chains: Vec<Chain>,
    /// Lifetimes of elements that rules added, by set and position, as a dump tells them.
    pub lifetimes: BTreeMap<(SetId, usize), Lifetime>,
    /// What else a dump has in this table.
    pub unknown: Vec<Unknown>,
    index: BTreeMap<Arc<str>, ChainId>,
    set_index: BTreeMap<Arc<str>, SetId>,
}

/// What is left of an element's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its own timeout, if it is not the set's.
    pub timeout: Option<SimSpan>,
    /// Until it goes.
    pub expires: Option<SimSpan>,
}

/// A named set, or a map to verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name.
    pub name: Arc<str>,
    /// Fields of the key.
    pub key: SmallVec<[KeyType; 4]>,
    /// True for a map from keys to verdicts.
    pub is_map: bool,
    /// Comment.
    pub comment: Option<Arc<str>>,
    /// For a set that rules update (`flags dynamic,timeout`): lifetime of an element in seconds.
    pub timeout_seconds: Option<u32>,
    /// Elements in insertion order.
    pub elements: Vec<Element>,
}

/// Type of one field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `ipv4_addr` or `ipv6_addr`, by the table's family.
    Addr,
    /// `inet_proto`.
    Proto,
    /// `inet_service`.
    Service,
}

/// Value of one field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// An address of the table's family.
    Addr(IpAddr),
    /// A transport protocol.
    Proto(Proto),
    /// A port.
    Service(u16),
}

/// A whole key.
pub type Key = SmallVec<[KeyValue; 4]>;

/// An element of a named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Key.
    pub key: Key,
    /// Verdict, in a map.
    pub verdict: Option<Verdict>,
    /// Comment.
    pub comment: Option<Arc<str>>,
}

/// A chain: rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: Arc<str>,
    /// Comment.
    pub comment: Option<Arc<str>>,
    /// Where it is attached, for a base chain.
    pub base: Option<Base>,
    /// Where it is attached, if in a way that kube-proxy does not use; `base` is then empty.
    pub unknown_base: Option<Opaque>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Attachment of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// `type filter` or `type nat`.
    pub kind: ChainKind,
    /// Hook.
    pub hook: Hook,
    /// Priority.
    pub priority: i32,
    /// `policy drop`: packets that no rule has decided on are dropped instead of accepted.
    pub drops: bool,
}

/// One rule: statements from left to right, and a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Statements in order.
    pub statements: SmallVec<[Statement; 3]>,
    /// Comment.
    pub comment: Option<Arc<str>>,
}

/// Something of a packet that rules compare or look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `ip saddr` / `ip6 saddr`.
    SrcAddr,
    /// `ip daddr` / `ip6 daddr`.
    DstAddr,
    /// `meta l4proto`.
    L4Proto,
    /// `th dport`.
    DstPort,
}

/// What ends the evaluation of a rule, or moves it to another chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Continue in another chain and come back.
    Jump(ChainId),
    /// Continue in another chain and do not come back here.
    Goto(ChainId),
    /// Back to the calling chain.
    Return,
    /// Let pass this base chain.
    Accept,
    /// Discard.
    Drop,
}

/// One statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `ct state new`.
    CtStateNew,
    /// `ct status dnat`.
    CtStatusDnat,
    /// `meta mark & MASK != 0`, or `== 0` with `set` false.
    MarkTest {
        /// Bits looked at.
        mask: u32,
        /// True if one of them must be set, false if none may be.
        set: bool,
    },
    /// `ip saddr NET`; with `negate`, `!=`.
    Addr {
        /// [`Field::SrcAddr`] or [`Field::DstAddr`].
        field: Field,
        /// Network; one of full length prints as an address.
        net: IpNet,
        /// `!=`.
        negate: bool,
    },
    /// `iifname "NAME"`, or `iifname "NAME*"` for every name that begins with it; with `negate`, `!=`.
    InIface {
        /// The name, or its beginning.
        name: Arc<str>,
        /// Only the beginning counts.
        prefix: bool,
        /// `!=`.
        negate: bool,
    },
    /// `ip saddr { NET, ... }`: membership in an anonymous interval set of at least two written elements.
    AddrIn {
        /// [`Field::SrcAddr`] or [`Field::DstAddr`].
        field: Field,
        /// Networks as written.
        nets: Vec<IpNet>,
        /// `!=`.
        negate: bool,
    },
    /// `FIELD . FIELD @SET`.
    InSet {
        /// Key fields.
        fields: SmallVec<[Field; 4]>,
        /// Named set.
        set: SetId,
    },
    /// `FIELD . FIELD vmap @MAP`.
    Vmap {
        /// Key fields.
        fields: SmallVec<[Field; 4]>,
        /// Named map.
        map: SetId,
    },
    /// `meta l4proto PROTO`.
    L4Proto(Proto),
    /// `PROTO dport PORT`, which also tests the protocol.
    DstPort(Proto, u16),
    /// `fib saddr type local` or `fib daddr type local`.
    FibLocal {
        /// The address looked up.
        field: Field,
    },
    /// `meta mark set meta mark | MASK`.
    MarkOr(u32),
    /// `meta mark set meta mark ^ MASK`.
    MarkXor(u32),
    /// `numgen random mod N vmap { 0 : VERDICT, ... }`.
    NumgenVmap(Vec<Verdict>),
    /// `dnat to ADDR:PORT`.
    Dnat(SocketAddr),
    /// `dnat ip addr . port to numgen random mod N map { 0 : ADDR . PORT, ... }`.
    DnatNumgen(Vec<SocketAddr>),
    /// `masquerade fully-random`, or without.
    Masquerade {
        /// `fully-random`.
        fully_random: bool,
    },
    /// `update @SET { FIELD }`.
    Update {
        /// Named dynamic set.
        set: SetId,
        /// Key.
        field: Field,
    },
    /// `jump`, `goto`, `return`, `accept` or `drop`.
    Verdict(Verdict),
    /// `reject` with the family's port-unreachable error.
    Reject,
    /// `reject with ...` any other.
    RejectWith(Refusal),
    /// Any other comparison.
    Test(Box<test::Test>),
    /// `KEY vmap { ... }`.
    VerdictMap(Box<test::VerdictMap>),
    /// `counter`, with what it had counted when it was listed.
    Counter {
        /// Packets.
        packets: u64,
        /// Bytes.
        bytes: u64,
    },
    /// `limit rate [over] N/UNIT burst M packets`.
    Limit {
        /// Packets in a unit of time.
        rate: u64,
        /// The unit.
        unit: expr::TimeUnit,
        /// Packets that may come at once.
        burst: u32,
        /// Match what is beyond the rate.
        over: bool,
    },
    /// `log`, with what is said of how.
    Log {
        /// `prefix`.
        prefix: Option<Arc<str>>,
        /// `level`, by name.
        level: Option<Arc<str>>,
        /// `group`.
        group: Option<u16>,
    },
    /// `meta mark set N`.
    MarkSet(u32),
    /// `meta mark set meta mark & MASK`.
    MarkAnd(u32),
    /// `meta mark set ct mark`.
    MarkFromCt,
    /// `ct mark set N`.
    CtMarkSet(u32),
    /// `ct mark set meta mark`.
    CtMarkFromMark,
    /// Something of a dump that kube-proxy does not write.
    Opaque(Opaque),
}

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A TCP reset.
    TcpReset,
    /// An ICMP error of the family, by its code.
    Icmp(u8),
}

impl Refusal {
    /// Codes and names of a family's errors (nftables `src/datatype.c`).
    pub fn codes(family: Family) -> &'static [(u8, &'static str)] {
        match family {
            Family::Ipv4 => &[
                (0, "net-unreachable"),
                (1, "host-unreachable"),
                (2, "prot-unreachable"),
                (3, "port-unreachable"),
                (9, "net-prohibited"),
                (10, "host-prohibited"),
                (13, "admin-prohibited"),
            ],
            Family::Ipv6 => &[
                (0, "no-route"),
                (1, "admin-prohibited"),
                (3, "addr-unreachable"),
                (4, "port-unreachable"),
                (5, "policy-fail"),
                (6, "reject-route"),
            ],
        }
    }

    /// The error of that name; the port-unreachable one is [`Statement::Reject`].
    pub fn named(name: &str, family: Family) -> Option<Self> {
        let found = Refusal::codes(family).iter().find(|(_, of)| *of == name && *of != "port-unreachable");
        found.map(|(code, _)| Refusal::Icmp(*code))
    }

    /// The name of its error, if it is one of the family's.
    pub fn name(self, family: Family) -> Option<&'static str> {
        let Refusal::Icmp(code) = self else { return None };
        Refusal::codes(family).iter().find(|(of, _)| *of == code).map(|(_, name)| *name)
    }
}

impl Rule {
    /// A rule of these statements.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Rule { statements: statements.into_iter().collect(), comment: None }
    }
    /// The same with a comment.
    pub fn comment(mut self, text: &str) -> Self {
        self.comment = Some(text.into());
        self
    }
}

impl Table {
    /// An empty table.
    pub fn new(family: Family, name: &str, comment: Option<&str>) -> Self {
        Table {
            family,
            name: name.into(),
            comment: comment.map(Into::into),
            sets: Vec::new(),
            chains: Vec::new(),
            lifetimes: BTreeMap::new(),
            unknown: Vec::new(),
            index: BTreeMap::new(),
            set_index: BTreeMap::new(),
        }
    }

    /// Adds an empty chain, or finds the one of that name.
    pub fn add_chain(&mut self, name: &str) -> ChainId {
        if let Some(id) = self.find_chain(name) {
            return id;
        }
        let id = ChainId(u32::try_from(self.chains.len()).expect("fewer than 2^32 chains"));
        let name: Arc<str> = name.into();
        self.index.insert(name.clone(), id);
        self.chains.push(Chain { name, comment: None, base: None, unknown_base: None, rules: Vec::new() });
        id
    }

    /// The chain of that name.
    pub fn find_chain(&self, name: &str) -> Option<ChainId> {
        self.index.get(name).copied()
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: ChainId, rule: Rule) {
        self.chains[chain.0 as usize].rules.push(rule);
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, set: Set) -> SetId {
        let id = SetId(u32::try_from(self.sets.len()).expect("fewer than 2^32 sets"));
        self.set_index.insert(set.name.clone(), id);
        self.sets.push(set);
        id
    }

    /// The set or map of that name.
    pub fn find_set(&self, name: &str) -> Option<SetId> {
        self.set_index.get(name).copied()
    }

    /// Appends an element without looking for an equal key: for a builder that knows its keys differ or
    /// removes duplicates afterwards with [`Set::keep_last`].
    pub fn push_element(
        &mut self,
        set: SetId,
        key: Key,
        verdict: Option<Verdict>,
        comment: Option<Arc<str>>,
    ) {
        self.sets[set.0 as usize].elements.push(Element { key, verdict, comment });
    }

    /// The named chain.
    pub fn chain(&self, id: ChainId) -> &Chain {
        &self.chains[id.0 as usize]
    }
}

impl Set {
    /// Of elements with equal keys keeps the last, as delete-and-add does in the kernel.
    pub fn keep_last(&mut self) {
        let mut last: BTreeMap<&Key, usize> = BTreeMap::new();
        for (i, e) in self.elements.iter().enumerate() {
            last.insert(&e.key, i);
        }
        if last.len() == self.elements.len() {
            return;
        }
        let mut keep = vec![false; self.elements.len()];
        for i in last.into_values() {
            keep[i] = true;
        }
        let mut kept = keep.into_iter();
        self.elements.retain(|_| kept.next().expect("one flag an element"));
    }
}
