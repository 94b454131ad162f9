//! What happens to one packet, step by step: what `explain` prints, what counters and traces of a real kernel are
//! held against.
//!
//! The packet path and the mechanisms tell an [`Observer`] each step as they take it, with the packet and the work so
//! far, so that the work of a step is the difference between two. Telling costs nothing where nobody listens: the
//! observer is a type parameter, and `()` hears nothing. Steps hold indices, not texts: who listens has the rules.
//!
//! Left out: the steps inside a rule (matches, expressions), of which only the outcome and the work show.

use super::hook::{CtState, Hook, HookVerdict};
use super::nftables::expr::Flow;
use super::{nftables, xtables};
use sim_core::classify::{Packet, Work};
use std::net::SocketAddr;

/// One step of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The functions of a hook begin.
    Hook(Hook),
    /// Connection tracking has looked for the packet's connection.
    Tracked(CtState),
    /// An xtables table, by its place among the tables, is entered at the hook.
    XtTable(usize),
    /// Rules `from..to` of the chain were evaluated one after another and did not match.
    XtMissed {
        /// Place of the table.
        table: usize,
        /// The chain.
        chain: xtables::ChainId,
        /// First of them in the chain.
        from: u32,
        /// One past the last.
        to: u32,
    },
    /// A rule matched whole: its counter goes up and its target runs. The closing entry of a chain (RETURN, or the
    /// policy of a built-in one) is a rule past the last.
    XtMatched {
        /// Place of the table.
        table: usize,
        /// The chain.
        chain: xtables::ChainId,
        /// Its place in the chain.
        rule: u32,
    },
    /// An nftables base chain is entered.
    NftChain(nftables::ChainId),
    /// An nftables rule was evaluated; [`Flow::Break`] if it did not match.
    NftRule {
        /// The chain.
        chain: nftables::ChainId,
        /// Its place in the chain.
        rule: u32,
        /// What it said.
        flow: Flow,
    },
    /// NAT rewrote the destination.
    Destination(SocketAddr),
    /// NAT rewrote the source.
    Source(SocketAddr),
    /// The packet is for this node (true) or for another.
    Routed {
        /// Whether this node is the destination.
        local: bool,
    },
    /// IPVS chose this destination, or knew it from the connection.
    Ipvs(SocketAddr),
    /// The way ends here: what the last hook decided.
    End(HookVerdict),
}

/// Hears the steps of a packet.
pub trait Observer {
    /// Whether it hears anything: what takes time only for its sake is spared otherwise.
    const LISTENS: bool = true;
    /// `step` was taken; `packet` and `work` are as they are after it.
    fn step(&mut self, step: Step, packet: &Packet, work: &Work);
    /// Whether it hears anything: if not, nobody finds out what only a step would tell.
    #[inline(always)]
    fn listens(&self) -> bool {
        true
    }
}

/// Hears nothing.
impl Observer for () {
    const LISTENS: bool = false;
    #[inline(always)]
    fn listens(&self) -> bool {
        false
    }
    #[inline(always)]
    fn step(&mut self, _: Step, _: &Packet, _: &Work) {}
}

/// Steps as a list.
impl Observer for Vec<Step> {
    fn step(&mut self, step: Step, _: &Packet, _: &Work) {
        self.push(step);
    }
}
