//! The fleet: kube-proxies that learn of changes lazily.
//!
//! There is no event for a change and a node. A node knows when the next change arrives; when a sync starts, it takes all
//! that have arrived by then. A node that has everything waits in a list until the log grows ([`Fleet::changed`]). So a node
//! costs two or three events a sync, and one pending timer for the run that nobody asks for.

use super::latency::Latencies;
use super::ledger::{Beginning, Ledger};
use super::lock::Lock;
use super::node::{Node, Phase};
use super::plan::{Habits, LARGE_CLUSTER, Mode, SyncOf};
use super::runner::Runner;
use super::{Cores, Loaded, RulesId};
use crate::config::{FaultConfig, NodeConfig, ProxyConfig};
use crate::control::log::ChangeLog;
use crate::control::services::{Services, State};
use crate::control::watch::Watch;
use crate::kernel::cost::CostProfile;
use crate::kube::ProxyObjects;
use crate::proxy::Simulated;
use crate::proxy::sync::memory::peak_kib;
use crate::proxy::sync::tool::{self, Tool};
use crate::proxy::sync::{SyncCost, SyncKind, SyncShape, SyncWork};
use sim_core::classify::{Family, Proto};
use sim_core::des::Schedule;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What happens to kube-proxies. `ticket` tells events of a broken-off past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyEvent {
    /// The runner starts a sync.
    Run {
        /// Node.
        node: u32,
        /// Ticket.
        ticket: u32,
    },
    /// The sync's rules are in the kernel, or it has failed.
    Live {
        /// Node.
        node: u32,
        /// Ticket.
        ticket: u32,
    },
    /// The sync ends.
    End {
        /// Node.
        node: u32,
        /// Ticket.
        ticket: u32,
    },
    /// A run that nobody asked for may be due; counts if it fires at [`Node::timer_at`].
    Timer {
        /// Node.
        node: u32,
    },
    /// The process runs and asks for its first lists.
    Started {
        /// Node.
        node: u32,
        /// Ticket.
        ticket: u32,
    },
    /// It has them.
    Listed {
        /// Node.
        node: u32,
        /// Ticket.
        ticket: u32,
    },
    /// It looks for its canary.
    Canary {
        /// Node.
        node: u32,
    },
    /// It crashes.
    Crash {
        /// Node.
        node: u32,
    },
    /// Its watches break.
    Drop {
        /// Node.
        node: u32,
    },
}

impl ProxyEvent {
    /// A number that tells this event from others in a fingerprint.
    pub fn digest(&self) -> u64 {
        let (kind, node) = match *self {
            ProxyEvent::Run { node, .. } => (1, node),
            ProxyEvent::Live { node, .. } => (2, node),
            ProxyEvent::End { node, .. } => (3, node),
            ProxyEvent::Timer { node } => (4, node),
            ProxyEvent::Started { node, .. } => (5, node),
            ProxyEvent::Listed { node, .. } => (6, node),
            ProxyEvent::Canary { node } => (7, node),
            ProxyEvent::Crash { node } => (8, node),
            ProxyEvent::Drop { node } => (9, node),
        };
        kind << 32 | u64::from(node)
    }
}

/// What the fleet sees of the world.
pub struct Env<'a> {
    /// What the API server wrote.
    pub log: &'a ChangeLog,
    /// The Services that it is about.
    pub services: &'a Services,
    /// When nodes have it.
    pub watch: &'a mut Watch,
    /// What syncs run on.
    pub cores: &'a mut dyn Cores,
}

/// What a fleet is made from.
#[derive(Clone)]
pub struct FleetConfig {
    /// Root of random streams.
    pub seed: u64,
    /// The mode that nodes begin with.
    pub mode: &'static dyn Simulated,
    /// Its configuration.
    pub proxy: ProxyConfig,
    /// Family whose proxier is simulated.
    pub family: Family,
    /// Prices of syncs.
    pub profile: Arc<CostProfile>,
    /// What else runs on the nodes.
    pub nodes: NodeConfig,
    /// Misfortunes.
    pub faults: FaultConfig,
    /// From the start of the container to the first request to the API server: image, process, configuration, the node's
    /// own object. Assumed.
    pub start_up: SimSpan,
    /// Bytes of what a kube-proxy lists when it starts.
    pub list_bytes: u64,
    /// Latencies of changes before it are not measured.
    pub measured_from: SimTime,
    /// Endpoints are replaced all the time: nodes begin somewhere in their min-sync-period, and not all at rest.
    pub churning: bool,
}

/// The processes that are started again, a few at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollout {
    pub left: VecDeque<u32>,
    pub flush: bool,
    pub wait: bool,
}

/// All kube-proxies.
pub struct Fleet {
    pub(super) config: FleetConfig,
    pub(super) beginning: Beginning,
    pub(super) modes: Vec<Mode>,
    /// What the ConfigMap says: the mode of processes that start from now on.
    pub(super) wanted: u8,
    pub(super) nodes: Vec<Node>,
    pub(super) latencies: Latencies,
    /// Nodes that wait for the log to grow.
    pub(super) waiting: Vec<u32>,
    pub(super) spare: Vec<u32>,
    pub(super) rollout: Rollout,
    pub(super) totals: Totals,
}

/// What the fleet counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Syncs that ended well, of all kinds.
    pub syncs: u64,
    /// First ones among them.
    pub first: u64,
    /// Full ones, later.
    pub full: u64,
    /// Failed ones.
    pub failed: u64,
    /// Starts of kube-proxy.
    pub starts: u64,
    /// Processor time of kube-proxies.
    pub own_cpu: SimSpan,
    /// Processor time of the tools they ran.
    pub tools_cpu: SimSpan,
    /// Time for which they held the xtables lock.
    pub locked: SimSpan,
    /// Time for which they waited for it.
    pub lock_wait: SimSpan,
    /// Pairs of change and node in which a later change of the same Service reached the kernel in its stead.
    pub superseded: u64,
}

impl Fleet {
    /// A fleet whose `nodes` nodes have the rules of version 0, as if their kube-proxies had run for long: the last full
    /// sync of each lies somewhere in the last hour.
    ///
    /// # Panics
    /// If `state` is not that of version 0.
    pub fn new(config: FleetConfig, services: &Services, state: &State, nodes: u32) -> Self {
        let beginning = Beginning::of(services, state);
        let ledger = Ledger::new(config.mode, &config.proxy, config.family, services, &beginning);
        let first = Mode::new(config.mode, config.proxy.clone(), config.family, ledger);
        let mut fleet = Fleet {
            latencies: Latencies::new(config.measured_from),
            config,
            beginning,
            modes: vec![first],
            wanted: 0,
            nodes: Vec::with_capacity(nodes as usize),
            waiting: Vec::with_capacity(nodes as usize),
            spare: Vec::with_capacity(nodes as usize),
            rollout: Rollout::default(),
            totals: Totals::default(),
        };
        for _ in 0..nodes {
            fleet.push_node();
        }
        fleet
    }

    /// A node with an empty kernel; its index.
    pub(super) fn push_node(&mut self) -> u32 {
        let index = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        let mut node =
            Node::empty(Runner::new(&self.modes[self.wanted as usize].habits.intervals, SimTime::ZERO));
        let FleetConfig { seed, nodes, faults, .. } = &self.config;
        if nodes.lock_users_per_second > 0.0 {
            let lock = Lock::new(*seed, index, nodes.lock_users_per_second, nodes.lock_held);
            node.lock = Some(Box::new(lock));
        }
        if *faults != FaultConfig::default() {
            let stream = Stream::new(*seed, &format!("proxy/node/{index}"), "faults");
            node.faults = Some(Box::new(stream));
        }
        self.nodes.push(node);
        index
    }

    /// Begins: every node runs with the rules of version 0. To be called once, at the start of the run.
    pub fn start(&mut self, now: SimTime, cx: &mut impl Schedule<ProxyEvent>, env: &mut Env<'_>) {
        self.follow(env);
        let intervals = self.modes[0].habits.intervals;
        for index in 0..self.nodes.len() as u32 {
            let path = format!("proxy/node/{index}");
            let mut phase = Stream::new(self.config.seed, &path, "phase");
            let idle = SimSpan::from_ns(phase.below(intervals.max.as_ns().max(1)));
            let node = &mut self.nodes[index as usize];
            node.phase = Phase::Idle;
            node.is_new = false;
            node.kernel = Some(RulesId { mode: 0, version: 0, under: None });
            node.runner = Runner::idle_for(&intervals, idle, now);
            // The run that nobody asks for comes when its hour is over.
            node.full_due = node.runner.unasked(&intervals);
            node.started = now;
            node.beat = SimTime::from_ns(phase.below(self.config.proxy.sync_period.as_ns().max(1)));
            if self.config.churning {
                let left = SimSpan::from_ns(phase.below(intervals.min.as_ns() + 1));
                node.runner = node.runner.resting(&intervals, left, now);
            }
            self.start_faults(index, now, cx);
            self.plan(index, now, cx, env);
        }
    }

    /// The modes of the run, in the order of [`RulesId::mode`].
    pub fn modes(&self) -> &[Mode] {
        &self.modes
    }

    /// A mode whose plans a test asks for.
    #[cfg(test)]
    pub fn mode_for_tests(&mut self, mode: u8) -> &mut Mode {
        &mut self.modes[mode as usize]
    }

    /// Number of nodes, dead ones included.
    pub fn len(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// One node.
    pub fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    /// What was counted.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Latencies of all changes and nodes.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// What the first sync after a start on a clean node costs, at the newest version.
    pub fn first_sync(&mut self) -> SyncCost {
        let to = self.latencies.version();
        let sync = SyncOf { from: None, to, kind: SyncKind::First, look_for_stale: true };
        self.modes[0].cost(sync, &self.config.profile)
    }

    /// Peak resident memory of a node's kube-proxy in KiB: that of a start with the objects of its version, since no sync writes
    /// more. None if it has none, or if the profile prices no memory.
    pub fn memory_kib(&self, node: u32) -> Option<f64> {
        let node = &self.nodes[node as usize];
        let to = node.own_version()?;
        let mode = &self.modes[node.mode as usize];
        let sync = SyncOf { from: None, to, kind: SyncKind::First, look_for_stale: true };
        let work = mode.mode.sync(&mode.shape(&sync), &mode.config);
        peak_kib(&mode.ledger.table(to).size, &work, &self.config.profile)
    }

    /// Times that the mode's own tool takes, run by hand, to add one rule or virtual server to all that is there, and to
    /// add all one by one; none for a mode without such a tool, or without prices of it.
    pub fn by_tool(&self) -> Option<(SimSpan, SimSpan)> {
        let mode = &self.modes[0];
        let tool = match mode.habits {
            Habits { is_iptables: true, .. } => Tool::Iptables,
            Habits { is_ipvs: true, .. } => Tool::Ipvsadm,
            _ => return None,
        };
        let table = mode.ledger.table(0).size;
        let rules = table.common_rules + table.own_rules;
        let each = rules.checked_div(table.ports).unwrap_or(0).max(1);
        let span = |work: &SyncWork| {
            let us = tool::parts(work, &self.config.profile).wall();
            (us > 0.0).then(|| SimSpan::from_ns_f64(us * 1000.0))
        };
        let one = tool::add_one(tool, table.ports, each);
        Some((span(&one)?, span(&tool::add_all(tool, table.ports, each))?))
    }

    /// The largest resident memory of a kube-proxy, KiB, at the versions that nodes have; none without prices of it.
    pub fn largest_memory_kib(&self) -> Option<f64> {
        let mut seen = BTreeSet::new();
        let mut fresh = |node: &u32| {
            let node = &self.nodes[*node as usize];
            seen.insert((node.mode, node.own_version()))
        };
        let all = (0..self.len()).filter(&mut fresh).collect::<Vec<_>>();
        all.into_iter().filter_map(|node| self.memory_kib(node)).max_by(f64::total_cmp)
    }

    /// What the sync of one replaced endpoint costs: that of the first port which has any. None if no port has.
    pub fn change_sync(&self, seen: &ProxyObjects) -> Option<SyncCost> {
        let mode = &self.modes[0];
        let port = seen.ports.iter().find(|port| !port.endpoints.reachable.is_empty())?;
        let table = mode.ledger.table(self.latencies.version()).size;
        let one = mode.mode.size(port, &mode.config, mode.family);
        let kind = if mode.habits.always_full { SyncKind::Full } else { SyncKind::Partial };
        let look_for_stale = mode.habits.is_iptables && table.endpoints <= LARGE_CLUSTER;
        let written = if kind == SyncKind::Full { table } else { one };
        let udp = port.proto == Proto::Udp;
        let shape = SyncShape { kind, table, before: table, written, replaced: written, udp, look_for_stale };
        mode.mode.sync(&shape, &mode.config).cost(&self.config.profile)
    }

    /// Measures from now on: what was counted so far is forgotten, but for what each process exports.
    pub fn measure_from(&mut self, now: SimTime) {
        self.latencies.measure_from(now);
        self.totals = Totals::default();
    }

    fn follow(&mut self, env: &mut Env<'_>) {
        // The API servers send it whether a node asks or not.
        for version in self.latencies.version() + 1..=env.log.version() {
            env.watch.committed(version, env.log.of(version));
        }
        for mode in &mut self.modes {
            mode.ledger.follow(env.log, env.services);
        }
        self.latencies.follow(env.log);
    }

    /// The log has grown: wakes the nodes that wait for it.
    pub fn changed(&mut self, now: SimTime, cx: &mut impl Schedule<ProxyEvent>, env: &mut Env<'_>) {
        self.follow(env);
        let mut waiting = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        for index in waiting.drain(..) {
            let node = &mut self.nodes[index as usize];
            node.waits_for_log = false;
            if node.phase == Phase::Idle && node.next_arrival == SimTime::MAX {
                self.plan(index, now, cx, env);
            }
        }
        self.spare = waiting;
    }

    /// Lets an event happen.
    pub fn handle(
        &mut self,
        event: ProxyEvent,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        match event {
            ProxyEvent::Run { node, ticket } if self.is_current(node, ticket) => {
                self.begin_sync(node, now, cx, env);
            }
            ProxyEvent::Live { node, ticket } if self.is_current(node, ticket) => {
                self.sync_live(node, now, cx, env, loaded);
            }
            ProxyEvent::End { node, ticket } if self.is_current(node, ticket) => {
                self.end_sync(node, now, cx, env, loaded);
            }
            ProxyEvent::Timer { node } => self.timer(node, now, cx, env),
            ProxyEvent::Started { node, ticket } if self.is_current(node, ticket) => {
                self.process_started(node, now, cx, env, loaded);
            }
            ProxyEvent::Listed { node, ticket } if self.is_current(node, ticket) => {
                self.listed(node, now, cx, env);
            }
            ProxyEvent::Canary { node } => self.canary(node, now, cx, env),
            ProxyEvent::Crash { node } if self.nodes[node as usize].faults.is_some() => {
                self.restart_node(node, now, cx, env);
                self.next_crash(node, now, cx);
            }
            ProxyEvent::Drop { node } if self.nodes[node as usize].faults.is_some() => {
                if self.nodes[node as usize].is_running() {
                    env.watch.broken(node, now, now);
                }
                self.next_drop(node, now, cx);
            }
            // Of a sync, a process, a plan or a time of misfortunes that is no more.
            ProxyEvent::Run { .. }
            | ProxyEvent::Live { .. }
            | ProxyEvent::End { .. }
            | ProxyEvent::Started { .. }
            | ProxyEvent::Listed { .. }
            | ProxyEvent::Crash { .. }
            | ProxyEvent::Drop { .. } => {}
        }
    }

    fn is_current(&self, node: u32, ticket: u32) -> bool {
        self.nodes[node as usize].ticket == ticket
    }

    /// No more misfortunes at random from now on.
    pub fn end_faults(&mut self) {
        self.config.faults = FaultConfig::default();
        for node in &mut self.nodes {
            node.faults = None;
            node.lock = None;
        }
    }

    /// Random faults of a node from `now` on.
    pub(super) fn start_faults(&mut self, node: u32, now: SimTime, cx: &mut impl Schedule<ProxyEvent>) {
        self.next_crash(node, now, cx);
        self.next_drop(node, now, cx);
    }

    fn next_crash(&mut self, node: u32, now: SimTime, cx: &mut impl Schedule<ProxyEvent>) {
        let rate = self.config.faults.proxy_restarts_per_hour;
        if let Some(at) = self.next_fault(node, now, rate) {
            cx.at(at, ProxyEvent::Crash { node });
        }
    }

    fn next_drop(&mut self, node: u32, now: SimTime, cx: &mut impl Schedule<ProxyEvent>) {
        let rate = self.config.faults.watch_drops_per_hour;
        if let Some(at) = self.next_fault(node, now, rate) {
            cx.at(at, ProxyEvent::Drop { node });
        }
    }

    fn next_fault(&mut self, node: u32, now: SimTime, per_hour: f64) -> Option<SimTime> {
        if per_hour <= 0.0 {
            return None;
        }
        let stream = self.nodes[node as usize].faults.as_mut()?;
        Some(now + dist::exponential(stream, SimSpan::from_ns_f64(3.6e12 / per_hour)))
    }
}
