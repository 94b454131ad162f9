//! kube-proxy on every node: when each learns of changes, syncs, and has the new rules live.
//!
//! The types that the fleet shares with the world around it. A node's rules are named, not held: [`RulesId`] says which
//! mode's rules, of which version of the objects; whoever classifies a packet builds them, once for all nodes
//! with equal names.

mod conserve;
mod engine;
mod exposition;
mod health;
mod latency;
mod ledger;
mod life;
mod lock;
mod metrics;
mod node;
mod plan;
mod runner;
mod syncing;
#[cfg(test)]
mod tests;

pub use engine::{Env, Fleet, FleetConfig, ProxyEvent, Totals};
pub use exposition::Scope;
pub use health::{HealthAnswer, Whereabouts};
pub use latency::Latencies;
pub use ledger::{Amount, Beginning, Ledger, Window};
pub use lock::Lock;
pub use metrics::{Durations, Metrics, Programming};
pub use node::{Account, Node, Phase, Run};
pub use plan::{Mode, SyncOf};
pub use runner::{Intervals, Runner};

use sim_core::units::{SimSpan, SimTime};

/// Names the rules that a node's kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesId {
    /// Index of the mode among those of the run: 0 is the one it begins with.
    pub mode: u8,
    /// Version of the objects.
    pub version: u64,
    /// What another mode left behind and nobody flushed: its mode and version.
    pub under: Option<(u8, u64)>,
}

/// A node's kernel has other rules from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The node.
    pub node: u32,
    /// Its rules; none means none at all.
    pub rules: Option<RulesId>,
    /// Whether kube-proxy also cleaned up conntrack entries of UDP Services.
    pub udp_cleanup: bool,
}

/// The processors that kube-proxies run on.
pub trait Cores {
    /// A sync begins on the node that needs `cpu` of one core; when it would end if nothing else ran there.
    fn begin(&mut self, node: u32, cpu: SimSpan, now: SimTime);
    /// The sync's undisturbed end has come: the packet work that its core did in the meantime and by which it ends later,
    /// zero if it is done. Asked again after that delay.
    fn stolen(&mut self, node: u32, now: SimTime) -> SimSpan;
    /// The sync is over, or was broken off.
    fn end(&mut self, node: u32, now: SimTime);
}
