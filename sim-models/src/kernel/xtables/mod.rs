//! iptables-legacy: tables of chains of rules, as `iptables-save` prints them and `ip_tables.c` walks them.
//!
//! This file is the shared form: what `proxy` builds, [`print`] prints, [`layout`] measures and [`compile`]
//! turns into the linear table that [`walk`] evaluates. Both address families use the same types. [`parse`] reads
//! what a node lists back into it and [`diff`] compares two of them. Matches and targets of other programs are in
//! [`extra`], one a file; what is not typed is kept as text (`Opaque`), printed as it was and refused by [`compile`]
//! unless its options allow it. What the kernel would refuse, [`check`] says; [`counters`] count packets per rule.

mod blob;
mod bodies;
mod calls;
pub mod check;
mod columns;
pub mod compile;
pub mod counters;
pub mod diff;
mod error;
pub mod extra;
mod index;
pub mod layout;
pub(in crate::kernel) mod matching;
pub mod memory;
pub mod parse;
pub mod print;
pub mod recent;
pub mod reference;
pub mod update;
pub mod walk;

pub use super::options::CompileOptions;
pub(in crate::kernel) use calls::Calls;
pub use compile::{CompileError, Compiled, Problem, Warning};
pub use extra::{ExtraMatch, ExtraTarget};

use super::hook::Hook;
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The tables, with the hooks they attach to and their priorities (`net/ipv4/netfilter/iptable_*.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    /// Filter at priority 0.
    Filter,
    /// Mangle at priority -150.
    Mangle,
    /// NAT: destination at -100, source at 100.
    Nat,
    /// Raw at priority -300.
    Raw,
    /// Security at priority 50, for SELinux.
    Security,
}

impl TableName {
    /// Every table.
    pub const ALL: [TableName; 5] =
        [TableName::Filter, TableName::Mangle, TableName::Nat, TableName::Raw, TableName::Security];

    /// Its name in `iptables -t`.
    pub fn name(self) -> &'static str {
        match self {
            TableName::Filter => "filter",
            TableName::Mangle => "mangle",
            TableName::Nat => "nat",
            TableName::Raw => "raw",
            TableName::Security => "security",
        }
    }
}

/// Index of a chain in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

/// One table of one family. Chains are in creation order; the built-in ones come first.
#[derive(Clone, Debug)]
pub struct Table {
    /// Which table.
    pub name: TableName,
    /// Family of every address in it.
    pub family: Family,
    /// Chains; a [`ChainId`] indexes this.
    pub chains: Vec<Chain>,
}

/// A chain: rules in order.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Name, at most 28 characters.
    pub name: Arc<str>,
    /// The hook it is attached to and its policy, for a built-in chain.
    pub base: Option<(Hook, Policy)>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// What happens at the end of a built-in chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Let pass.
    Accept,
    /// Discard.
    Drop,
}

/// A value to compare with, or its negation (`!`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Test<T> {
    /// True for `! value`.
    pub invert: bool,
    /// The value.
    pub value: T,
}

/// One rule. An absent field matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rule {
    /// Source network.
    pub src: Option<Test<IpNet>>,
    /// Destination network.
    pub dst: Option<Test<IpNet>>,
    /// Incoming device; a trailing `+` matches any suffix.
    pub in_iface: Option<Test<Arc<str>>>,
    /// Outgoing device.
    pub out_iface: Option<Test<Arc<str>>>,
    /// Transport protocol.
    pub proto: Option<Test<Proto>>,
    /// `-f`, later fragments only (true), or `! -f`; IPv4 alone has it.
    pub fragment: Option<bool>,
    /// Matches, in the order in which they were written, which is the order of evaluation.
    pub matches: SmallVec<[Match; 2]>,
    /// What a matching packet does; `None` only counts.
    pub target: Option<Target>,
}

/// A match extension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Always true.
    Comment(Arc<str>),
    /// `-m tcp|udp|sctp`, with single ports or inclusive ranges where given.
    Ports {
        /// Which of the three.
        proto: Proto,
        /// Source ports.
        sport: Option<Test<(u16, u16)>>,
        /// Destination ports.
        dport: Option<Test<(u16, u16)>>,
    },
    /// `-m statistic --mode random`: true with probability `p` / 2^31.
    Statistic {
        /// Threshold as the kernel stores it: lround(probability * 2^31).
        p: u32,
    },
    /// `-m mark`.
    Mark {
        /// Value after masking.
        value: u32,
        /// Bits looked at.
        mask: u32,
        /// Negated.
        invert: bool,
    },
    /// `-m conntrack --ctstate`.
    Conntrack {
        /// States that match.
        states: CtStates,
        /// Negated.
        invert: bool,
    },
    /// `-m state --state`: the older name of the conntrack match, which `iptables-save` keeps.
    State(CtStates),
    /// `-m addrtype --src-type|--dst-type LOCAL`.
    AddrtypeLocal {
        /// Look at the source instead of the destination.
        src: bool,
        /// Negated.
        invert: bool,
    },
    /// `-m recent --rcheck` (`set` false) or `--set`, on a named list of source addresses.
    Recent {
        /// List name.
        name: Arc<str>,
        /// Add the address instead of looking for it.
        set: bool,
        /// Greatest age in seconds, with `--reap`; for `rcheck` only.
        seconds: Option<u32>,
    },
    /// `-m set --match-set NAME dst,dst`.
    Set {
        /// Set name.
        name: Arc<str>,
        /// For each dimension, whether it is taken from the source.
        from_src: SmallVec<[bool; 3]>,
        /// Negated.
        invert: bool,
    },
    /// `-m nfacct`: counts in a named object, always true.
    Nfacct(Arc<str>),
    /// `-m physdev --physdev-is-in`: came in through a port of a bridge, which needs br_netfilter.
    PhysdevIsIn {
        /// Negated.
        invert: bool,
    },
    /// `-m ipvs --vaddr A --vproto P --vport N`: belongs to an IPVS connection of that virtual server.
    IpvsVirtual {
        /// Its address.
        addr: IpAddr,
        /// Its port.
        port: u16,
        /// Its protocol.
        proto: Proto,
    },
    /// What kube-proxy does not write.
    Extra(Box<ExtraMatch>),
    /// What is not typed here, as its text: `-m owner --uid-owner 0`, or the end of a rule's addresses from
    /// something that [`Rule`] cannot hold on: `-s 10.0.0.1/255.0.255.0`.
    Opaque(Arc<str>),
}

/// The extension that an opaque text is of: `owner` of `-m owner --uid-owner 0`; `-s` where it is no extension.
pub fn opaque_name(text: &str) -> &str {
    let mut words = text.split_ascii_whitespace();
    match words.next().unwrap_or_default() {
        "-m" | "-j" => words.next().unwrap_or_default(),
        other => other,
    }
}

/// States of `--ctstate`, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CtStates {
    /// INVALID.
    pub invalid: bool,
    /// NEW.
    pub new: bool,
    /// RELATED.
    pub related: bool,
    /// ESTABLISHED.
    pub established: bool,
    /// UNTRACKED.
    pub untracked: bool,
    /// SNAT.
    pub snat: bool,
    /// DNAT.
    pub dnat: bool,
}

/// What a matching packet does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Continue in another chain and come back.
    Jump(ChainId),
    /// Continue in another chain and come back to where this one was called from (`-g`).
    Goto(ChainId),
    /// Back to the calling chain, or to the policy.
    Return,
    /// Let pass this table.
    Accept,
    /// Discard.
    Drop,
    /// Discard with an error to the sender.
    Reject,
    /// mark = (mark & !mask) ^ value, the kernel's xmark.
    Mark {
        /// Bits xored in.
        value: u32,
        /// Bits cleared first.
        mask: u32,
    },
    /// Set the connection's destination.
    Dnat(SocketAddr),
    /// Set the connection's destination to this machine: to the primary address of the device that the packet came
    /// in through, and to loopback in OUTPUT (`net/netfilter/nf_nat_redirect.c`).
    Redirect {
        /// `--to-ports`.
        port: u16,
    },
    /// Set the connection's source to the outgoing device's address.
    Masquerade {
        /// `--random-fully`.
        random_fully: bool,
    },
    /// What kube-proxy does not write.
    Extra(Box<ExtraTarget>),
    /// What is not typed here, as its text: `-j CLASSIFY --set-class 1:1`.
    Opaque(Arc<str>),
}

impl Table {
    /// The chain of that name.
    pub fn chain_id(&self, name: &str) -> Option<ChainId> {
        self.chains.iter().position(|c| &*c.name == name).map(|i| ChainId(i as u32))
    }

    /// Takes out a user chain and every rule that jumps to it, as flushing its users and `-X` would.
    pub fn remove_chain(&mut self, name: &str) {
        let Some(ChainId(gone)) = self.chain_id(name) else { return };
        self.chains.remove(gone as usize);
        for chain in &mut self.chains {
            let leads = |to: &Option<Target>| match to {
                Some(Target::Jump(to) | Target::Goto(to)) => to.0 == gone,
                _ => false,
            };
            chain.rules.retain(|rule| !leads(&rule.target));
            for rule in &mut chain.rules {
                if let Some(Target::Jump(to) | Target::Goto(to)) = &mut rule.target
                    && to.0 > gone
                {
                    to.0 -= 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
