//! One node's kube-proxy and what its kernel has.

use super::RulesId;
use super::lock::Lock;
use super::metrics::Metrics;
use super::runner::Runner;
use crate::proxy::sync::SyncKind;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};

/// What a kube-proxy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The node is dead.
    Down,
    /// The process starts.
    Starting,
    /// It waits for an API server that answers.
    NoApi,
    /// It lists Services and EndpointSlices: nothing is written before it has both
    /// (`pkg/proxy/iptables/proxier.go:isInitialized`).
    Listing,
    /// No sync.
    Idle,
    /// A sync is going on.
    Syncing,
}

/// A sync that is going on.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its kind.
    pub kind: SyncKind,
    /// Its number in this process is 0: the informers do it, not the runner.
    pub first: bool,
    /// Since when.
    pub started: SimTime,
    /// The version it brings.
    pub to: u64,
    /// From the rules' going live to the end.
    pub rest: SimSpan,
    /// It will fail.
    pub fails: bool,
    /// The rules are live.
    pub live: bool,
    /// UDP Services changed: conntrack is cleaned up.
    pub udp: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What kube-proxy is doing.
    pub phase: Phase,
    /// Events with another number are of the past.
    pub ticket: u32,
    /// When the pending [`Timer`](super::ProxyEvent::Timer) fires.
    pub timer_at: SimTime,
    /// Index of the mode that the process runs.
    pub mode: u8,
    /// Newest version that has arrived, as far as anybody asked.
    pub known: u64,
    /// Version of the objects that the process listed.
    pub listed_at_version: u64,
    /// Arrival of the next one; the end of time where it is not written yet.
    pub next_arrival: SimTime,
    /// It is in the list of those that wait for the log to grow.
    pub waits_for_log: bool,
    /// Newest version that a sync of this process took, whether it succeeded or not.
    pub taken: u64,
    /// What the kernel has.
    pub kernel: Option<RulesId>,
    /// Start of the process.
    pub started: SimTime,
    /// Its canary is looked for at this instant and every sync-period from it.
    pub beat: SimTime,
    /// The process has not done its first sync.
    pub is_new: bool,
    /// The next sync writes everything.
    pub need_full: bool,
    /// When an hour has passed since the end of the last sync that wrote everything.
    pub full_due: SimTime,
    /// Last search for stale chains.
    pub last_stale: Option<SimTime>,
    /// A sync is wanted since then, though no change arrived.
    pub asked: Option<SimTime>,
    /// It is not for the runner to wait: the canary's monitor syncs by itself.
    pub at_once: bool,
    /// The oldest request that no sync has answered.
    pub queued: Option<SimTime>,
    /// When a sync may start.
    pub runner: Runner,
    /// The sync that is going on.
    pub run: Option<Run>,
    /// The last sync that ended well: versions and kind.
    pub last_sync: Option<(Option<u64>, u64, SyncKind)>,
    /// Restores and transactions fail until then.
    pub fail_until: SimTime,
    /// A rollout waits for it.
    pub rolling: bool,
    /// Its clients are elsewhere until its first sync has ended.
    pub drained: bool,
    /// What the process counts.
    pub metrics: Metrics,
    /// Accounts of versions.
    pub account: Account,
    /// The xtables lock, where others take it.
    pub lock: Option<Box<Lock>>,
    /// Random faults, where there are any.
    pub faults: Option<Box<Stream>>,
}

/// What the kernel got, for the checks at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The version that the kernel began with.
    pub base: u64,
    /// Versions of all windows since.
    pub covered: u64,
    /// Syncs begun, and those that ended well, failed, or were broken off.
    pub begun: u64,
    /// Ended well.
    pub done: u64,
    /// Failed.
    pub failed: u64,
    /// Broken off.
    pub broken: u64,
}

impl Node {
    /// A node whose kube-proxy is not there yet and whose kernel is empty.
    pub fn empty(runner: Runner) -> Self {
        Node {
            phase: Phase::Starting,
            ticket: 0,
            timer_at: SimTime::MAX,
            mode: 0,
            known: 0,
            listed_at_version: 0,
            next_arrival: SimTime::MAX,
            waits_for_log: false,
            taken: 0,
            kernel: None,
            started: SimTime::ZERO,
            beat: SimTime::ZERO,
            is_new: true,
            need_full: false,
            full_due: SimTime::ZERO,
            last_stale: None,
            asked: None,
            at_once: false,
            queued: None,
            runner,
            run: None,
            last_sync: None,
            fail_until: SimTime::ZERO,
            rolling: false,
            drained: false,
            metrics: Metrics::default(),
            account: Account::default(),
            lock: None,
            faults: None,
        }
    }

    /// Whether the kernel has rules of the mode that the process runs; their version.
    pub fn own_version(&self) -> Option<u64> {
        self.kernel.filter(|rules| rules.mode == self.mode).map(|rules| rules.version)
    }

    /// Whether the process runs and has everything that it watches.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Syncing)
    }
}
