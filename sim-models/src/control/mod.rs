//! The control plane as nodes see it: endpoint changes, the watch that carries them, and the sync loop.
//!
//! A change replaces one pod behind every Service that it serves: the old pod is gone at once, the new one answers at once, and
//! every node learns of it after its watch delay. kube-proxy then syncs: at once if it was idle for
//! min-sync-period, else when that has passed since the end of the last run; changes in between coalesce
//! (`pkg/proxy/runner/bounded_frequency_runner.go`). A sync takes what its work costs and loads the rules of
//! the newest change the node knew at its start.
//!
//! Left out so far: the EndpointSlice controller's batching, API server load, pods' readiness, the periodic
//! full sync, failures.

pub mod effect;
pub mod log;
pub mod pods;
pub mod services;

use crate::config::ProxyConfig;
use crate::kernel::cost::CostProfile;
use crate::kernel::path::Stack;
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use crate::proxy::Simulated;
use crate::proxy::sync::{Size, SyncShape};
use sim_core::classify::Family;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Add;
use std::sync::Arc;

/// Fixed part of the delay from a change to a node's kube-proxy knowing it: API server, watch, informer.
/// Assumed; the recorded change-to-traffic times leave a few milliseconds beside the sync.
const WATCH_FIXED: SimSpan = SimSpan::from_ms(2);
/// Mean of its exponential part, which differs from node to node.
const WATCH_RANDOM: SimSpan = SimSpan::from_ms(2);

/// The watch delay of one node for one change.
pub fn watch_delay(stream: &mut Stream) -> SimSpan {
    WATCH_FIXED + dist::exponential(stream, WATCH_RANDOM)
}

/// One pod replaced by another, behind every service port that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it happened.
    pub at: SimTime,
    /// Service ports that it serves.
    pub ports: Vec<u32>,
    /// Pod that is gone.
    pub old: IpAddr,
    /// Pod that came, listening on the same ports.
    pub new: IpAddr,
    /// Node of the new pod.
    pub node: u32,
    /// Nodes whose rules still are of before.
    pub nodes_left: u32,
}

/// What a version's rules and the sync that brings them are made with.
pub struct Builder {
    /// The mode.
    pub mode: &'static dyn Simulated,
    /// Its configuration.
    pub config: ProxyConfig,
    /// Family of the rules.
    pub family: Family,
    /// Seed of the hash tables.
    pub seed: u64,
    /// Prices of syncs.
    pub profile: Arc<CostProfile>,
}

impl Builder {
    /// Rules for `objects`.
    pub fn rules(&self, objects: &ProxyObjects) -> NodeRules {
        let mut rules = self.mode.build(objects, &self.config, self.family);
        if self.config.bare_rules {
            rules.strip_own_additions();
        }
        rules
    }

    /// Rules compiled.
    pub fn stack(&self, rules: &NodeRules) -> Arc<Stack> {
        Arc::new(Stack::new(rules, self.seed).unwrap_or_else(|e| panic!("the mode's own rules: {e}")))
    }

    /// Sizes of all ports, added up.
    fn table(&self, objects: &ProxyObjects) -> Size {
        let size = |port| self.mode.size(port, &self.config, self.family);
        objects.ports.iter().map(size).fold(Size::default(), Add::add)
    }

    /// Time of the first full sync; nothing if the profile prices no syncs.
    pub fn first_sync(&self, objects: &ProxyObjects) -> Option<SimSpan> {
        let table = self.table(objects);
        self.mode.sync(&SyncShape::first(table), &self.config).time(&self.profile)
    }

    /// Time of the sync after one endpoint of each of these service ports was replaced; nothing if the profile prices no
    /// syncs.
    pub fn change_sync(&self, objects: &ProxyObjects, ports: &[u32]) -> Option<SimSpan> {
        let changed = ports.iter().map(|&p| self.mode.size(&objects.ports[p as usize], &self.config, self.family));
        let changed = changed.fold(Size::default(), Add::add);
        let shape = SyncShape::change(self.table(objects), changed);
        self.mode.sync(&shape, &self.config).time(&self.profile)
    }
}

/// Rules of a group of nodes that share them, by version of the objects: version `v` is the state after the
/// first `v` changes. A version is built when the first node loads it.
pub struct Versions {
    /// The node whose view this is; `None` where the view does not depend on the node.
    view: Option<u32>,
    objects: ProxyObjects,
    at: u64,
    /// Rules by version, with the time of the sync that brings them.
    built: BTreeMap<u64, (Arc<Stack>, SimSpan)>,
}

impl Versions {
    /// Versions starting from `objects` as version 0, with its rules. Nodes begin with those: no sync brings them.
    pub fn new(view: Option<u32>, objects: ProxyObjects, first: Arc<Stack>) -> Self {
        Versions { view, objects, at: 0, built: BTreeMap::from([(0, (first, SimSpan::ZERO))]) }
    }

    /// The objects of the version built last.
    pub fn objects(&self) -> &ProxyObjects {
        &self.objects
    }

    /// The rules of `version` and the time of the sync that brings them from version `from`, the one of the first
    /// node that asks: nodes of a group lag by milliseconds, so that a sync nearly always has the same changes.
    ///
    /// # Panics
    /// If there are fewer changes than `version`.
    pub fn load(
        &mut self,
        version: u64,
        from: u64,
        changes: &[Change],
        builder: &Builder,
    ) -> (Arc<Stack>, SimSpan) {
        if let Some(loaded) = self.built.get(&version) {
            return loaded.clone();
        }
        assert!(version <= changes.len() as u64, "version {version} of {} changes", changes.len());
        while self.at < version {
            let change = &changes[self.at as usize];
            self.replace(&change.ports, change.old, change.new, change.node);
            self.at += 1;
        }
        while self.at > version {
            self.at -= 1;
            let change = &changes[self.at as usize];
            self.replace(&change.ports, change.new, change.old, change.node);
        }
        let rules = builder.rules(&self.objects);
        let mut ports: Vec<u32> =
            changes[from as usize..version as usize].iter().flat_map(|c| c.ports.iter().copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        let duration = builder.change_sync(&self.objects, &ports).unwrap_or(SimSpan::ZERO);
        let loaded = (builder.stack(&rules), duration);
        self.built.insert(version, loaded.clone());
        loaded
    }

    /// Forgets rules older than `oldest`, which no node needs any more.
    pub fn forget_before(&mut self, oldest: u64) {
        self.built = self.built.split_off(&oldest);
    }

    fn replace(&mut self, ports: &[u32], old: IpAddr, new: IpAddr, node: u32) {
        let is_local = self.view.is_none_or(|view| view == node);
        for &port in ports {
            let port = port as usize;
            let list = &self.objects.ports[port].endpoints.reachable;
            // An endpoint that this view does not reach changes nothing in it.
            let Some(index) = list.iter().position(|e| e.addr.ip() == old) else { continue };
            let addr = SocketAddr::new(new, list[index].addr.port());
            self.objects.replace_endpoint(port, index, addr, is_local).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// The sync loop of one node's kube-proxy.
#[derive(Clone, Copy, Debug)]
pub struct SyncLoop {
    /// Newest version the node knows of.
    pub known: u64,
    /// Version the node has loaded or is loading.
    pub target: u64,
    /// A run is queued or going on.
    pub busy: bool,
    /// End of the last run.
    pub last_end: SimTime,
}

impl SyncLoop {
    /// A loop whose first run has just ended.
    pub fn idle_since(last_end: SimTime) -> Self {
        SyncLoop { known: 0, target: 0, busy: false, last_end }
    }

    /// The node learns of `version`; the start of the run that this queues, if none is queued or going on.
    pub fn learn(&mut self, version: u64, min_sync_period: SimSpan, now: SimTime) -> Option<SimTime> {
        self.known = self.known.max(version);
        if self.busy || self.known == self.target {
            return None;
        }
        self.busy = true;
        Some(now.max(self.last_end + min_sync_period))
    }

    /// A run ended; the start of the next one, if something is left to load.
    pub fn end_run(&mut self, min_sync_period: SimSpan, now: SimTime) -> Option<SimTime> {
        self.last_end = now;
        self.busy = self.known > self.target;
        self.busy.then(|| now + min_sync_period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_loop_reacts_at_once_and_a_busy_one_coalesces() {
        let (period, ms) = (SimSpan::from_ms(1000), |t: u64| SimTime::ZERO + SimSpan::from_ms(t));
        let mut sync = SyncLoop::idle_since(SimTime::ZERO);
        assert_eq!(sync.learn(1, period, ms(5_000)), Some(ms(5_000)));
        sync.target = 1;
        assert_eq!(sync.learn(2, period, ms(5_010)), None);
        assert_eq!(sync.learn(3, period, ms(5_020)), None);
        assert_eq!(sync.end_run(period, ms(5_050)), Some(ms(6_050)));
        sync.target = sync.known;
        assert_eq!((sync.target, sync.end_run(period, ms(6_090))), (3, None));
        assert_eq!(sync.learn(4, period, ms(6_500)), Some(ms(7_090)));
    }
}
