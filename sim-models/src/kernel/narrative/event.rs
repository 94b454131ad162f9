//! What a narrative consists of: events, each a hook, a rule or a change of the packet. `explain` prints them as JSON as
//! they are; the names of fields are part of its interface.

use serde::Serialize;
use std::net::SocketAddr;

/// One thing that happened, in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Event {
    /// A hook's functions begin.
    Hook {
        /// `PREROUTING`, ...
        hook: &'static str,
    },
    /// Connection tracking looked the packet up.
    Conntrack {
        /// `NEW`, `ESTABLISHED`, ...
        state: &'static str,
    },
    /// Rules that were evaluated and did not match, one after another.
    Missed {
        /// Where.
        chain: ChainName,
        /// Number of the first, from 1.
        from: u32,
        /// Number of the last.
        to: u32,
        /// Those among them that chance decided, each as a rule.
        chances: Vec<RuleLine>,
        /// All of them, if they were asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rules: Vec<RuleLine>,
    },
    /// A rule that matched.
    Matched {
        /// Where.
        chain: ChainName,
        /// The rule.
        rule: RuleLine,
    },
    /// The end of a chain was reached.
    ChainEnd {
        /// Which.
        chain: ChainName,
        /// `ACCEPT`, `DROP` for a built-in chain's policy, `RETURN` for another.
        policy: &'static str,
    },
    /// NAT or IPVS gave the packet a new destination.
    Destination {
        /// The new one.
        to: SocketAddr,
        /// The virtual server of IPVS that chose it.
        #[serde(skip_serializing_if = "Option::is_none")]
        virtual_server: Option<SocketAddr>,
    },
    /// NAT gave it a new source.
    Source {
        /// The new one.
        from: SocketAddr,
    },
    /// It was routed.
    Routed {
        /// To this node itself, or onwards.
        local: bool,
    },
    /// The way ends.
    End {
        /// `ACCEPT`, `DROP` or `REJECT`.
        verdict: &'static str,
    },
}

/// A chain and what it is part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChainName {
    /// `nat` of iptables, or `ip kube-proxy` of nftables.
    pub table: String,
    /// Its name.
    pub name: String,
    /// It is attached to a hook.
    pub base: bool,
    /// Rules it has.
    pub rules: u32,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleLine {
    /// Its number in the chain, from 1, as `iptables -L --line-numbers` counts.
    pub number: u32,
    /// The tool's text, without `-A CHAIN` where the tool has that.
    pub text: String,
    /// Its comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The element of a named set or map that the packet was found as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// What chance decided in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<Chance>,
    /// What it does with the packet.
    pub effect: Effect,
    /// The same in words, where neither its text nor the steps after it say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does: Option<String>,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance {
    /// Random numbers that lead here.
    pub numerator: u64,
    /// Of how many.
    pub denominator: u64,
    /// What came out: whether the rule matched, or the number of the entry.
    pub outcome: Outcome,
}

/// What came out of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The rule matched.
    Yes,
    /// It did not.
    No,
    /// This entry of a map, from 0.
    Entry(u32),
}

/// What a rule does with a packet, as far as it decides on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Goes on: counts, jumps, returns.
    Pass,
    /// Sets the packet's mark, to this.
    Mark(u32),
    /// Leaves this chain or table accepted.
    Accept,
    /// Asks NAT for a destination.
    Dnat,
    /// Asks NAT for this node's address as source.
    Masquerade,
    /// Asks NAT for another source.
    Snat,
    /// Sets its connection's mark, or its own to that.
    Connmark,
    /// Takes it away from connection tracking.
    Untracked,
    /// Tells somebody of it, and goes on.
    Log,
    /// Changes its header in what rules here do not look at, or nearly none.
    Header,
    /// What is not modelled: taken to do nothing.
    Unknown,
    /// Remembers or looks for the client.
    Affinity,
    /// Discards the packet.
    Drop,
    /// Discards it with an error to its sender.
    Reject,
}
