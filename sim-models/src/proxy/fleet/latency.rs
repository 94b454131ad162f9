//! How long changes take to be true everywhere.
//!
//! A pair is a change and a node whose kernel had rules when the change was made. It is *live* when packets on the node
//! meet rules with the change, or with a later one of the same Service, and *programmed* when kube-proxy's sync has ended, which
//! is what kube-proxy itself measures. Time runs from the trigger: the pod's or Service's own change.

use super::ledger::Ledger;
use crate::control::log::ChangeLog;
use sim_core::stats::Histogram;
use sim_core::units::SimTime;

/// No trigger.
const NONE: u64 = u64::MAX;

/// Latencies of the whole fleet.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From the trigger to the instant from which packets meet it, by pair, in nanoseconds.
    pub live: Histogram,
    /// From the trigger to the end of the sync, by pair, in nanoseconds; changes with a trigger only.
    pub programmed: Histogram,
    /// Durations of syncs that ended well, of all nodes, in nanoseconds.
    pub syncs: Histogram,
    /// Waits for the xtables lock, of all syncs that take it, in nanoseconds.
    pub lock_waits: Histogram,
    /// Changes before this instant are not measured.
    from_ns: u64,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    /// Its trigger, else its commit.
    since: u64,
    trigger: u64,
    /// When the last node so far had it.
    last: u64,
    nodes: u32,
}

impl Latencies {
    /// Latencies of changes from `from` on.
    pub fn new(from: SimTime) -> Self {
        let [live, programmed, syncs, lock_waits] = std::array::from_fn(|_| Histogram::new());
        Latencies { live, programmed, syncs, lock_waits, from_ns: from.as_ns(), changes: Vec::new() }
    }

    /// Changes before `from` do not count from now on, those of before are forgotten.
    pub fn measure_from(&mut self, from: SimTime) {
        self.from_ns = from.as_ns();
        self.live = Histogram::new();
        self.programmed = Histogram::new();
        self.syncs = Histogram::new();
        self.lock_waits = Histogram::new();
    }

    /// Takes what the log has beyond what is known.
    pub fn follow(&mut self, log: &ChangeLog) {
        for change in log.between(self.changes.len() as u64, log.version()) {
            let trigger = change.trigger.map_or(NONE, SimTime::as_ns);
            let since = if trigger == NONE { change.committed.as_ns() } else { trigger };
            self.changes.push(Change { since, trigger, last: NONE, nodes: 0 });
        }
    }

    /// The trigger of a version's change.
    pub fn trigger(&self, version: u64) -> Option<SimTime> {
        let trigger = self.changes[version as usize - 1].trigger;
        (trigger != NONE).then(|| SimTime::from_ns(trigger))
    }

    /// A node's kernel goes from one version to another.
    pub fn live(&mut self, from: u64, to: u64, now: SimTime) {
        let now = now.as_ns();
        for change in &mut self.changes[from as usize..to as usize] {
            change.last = now;
            change.nodes += 1;
            if change.since >= self.from_ns {
                self.live.record(now - change.since);
            }
        }
    }

    /// A node's sync that brought these versions ends; `each` gets the latencies that its kube-proxy observes, of
    /// triggers since its start.
    pub fn programmed(
        &mut self,
        from: u64,
        to: u64,
        started: SimTime,
        now: SimTime,
        mut each: impl FnMut(u64),
    ) {
        let (now, started) = (now.as_ns(), started.as_ns());
        for change in &self.changes[from as usize..to as usize] {
            if change.trigger == NONE || change.trigger < started {
                continue;
            }
            let latency = now - change.trigger;
            each(latency);
            if change.trigger >= self.from_ns {
                self.programmed.record(latency);
            }
        }
    }

    /// How long the changes that every live node has took until the last one had them, in nanoseconds; `everywhere` is
    /// the oldest version that a live node has.
    pub fn convergence(&self, everywhere: u64) -> Histogram {
        let mut histogram = Histogram::new();
        for change in &self.changes[..everywhere as usize] {
            if change.since >= self.from_ns && change.last != NONE {
                histogram.record(change.last - change.since);
            }
        }
        histogram
    }

    /// (time since the trigger in nanoseconds, share of all live pairs that had the change by then), at `points`
    /// equal steps of the share.
    pub fn curve(&self, points: u32) -> Vec<(u64, f64)> {
        let share = |i: u32| f64::from(i) / f64::from(points);
        (1..=points).filter_map(|i| Some((self.live.quantile(share(i))?, share(i)))).collect()
    }

    /// Nodes that have had a version's change by a sync.
    pub fn nodes(&self, version: u64) -> u32 {
        self.changes[version as usize - 1].nodes
    }

    /// Changes of each Service that were live on some node: the work that the whole fleet shared.
    pub fn pairs(&self) -> u64 {
        self.changes.iter().map(|c| u64::from(c.nodes)).sum()
    }

    /// Versions known.
    pub fn version(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Panics unless it knows what the ledger knows.
    pub fn check(&self, ledger: &Ledger) {
        assert_eq!(self.version(), ledger.version(), "versions of latencies and of the ledger");
    }
}
