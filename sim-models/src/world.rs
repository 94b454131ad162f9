//! The simulated cluster: the closed [`Event`] enum and its only match.
//!
//! A run is: every node's kube-proxy does its first full sync; when the last has ended, clients begin; after
//! the warm-up, measuring begins; after the duration nothing new begins, and the run ends when all connections and
//! syncs have. A packet is classified by the node it reaches, at
//! the instant it reaches it, with the rules that node has then; its core is busy for as long as that work
//! costs; then it goes on to the next node or to its socket.

mod clients;
mod fate;
mod measure;
mod nodes;
mod places;
pub mod rules;
mod setup;
#[cfg(test)]
mod tests;

pub use clients::ConnId;
pub use measure::PointResult;

use crate::config::WorldConfig;
use crate::control::log::{ChangeLog, ServiceId};
use crate::control::services::Cluster;
use crate::control::{Builder, Change, SyncLoop, Versions};
use crate::host::Hosts;
use crate::kernel::cost::{CostProfile, Residency};
use crate::network::Network;
use crate::workload::patience::Failure;
use crate::workload::{Connection, Step};
use clients::Clients;
use measure::Measures;
use places::Places;
use rules::RuleBook;
use sim_core::des::{Context, Ending, Model, Simulation};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first full sync of a node ends.
    FirstSyncEnds {
        /// The node.
        node: u32,
    },
    /// Clients of a class on a node open a connection.
    Open {
        /// Class of clients.
        class: u16,
        /// Their node.
        node: u32,
    },
    /// A packet reaches a node.
    Reach {
        /// Its connection.
        conn: ConnId,
        /// Which packet of it.
        step: Step,
        /// Whether this is the node of the receiver.
        last: bool,
    },
    /// A packet reaches the socket it is for.
    Deliver {
        /// Its connection.
        conn: ConnId,
        /// Which packet of it.
        step: Step,
    },
    /// A side has something to send.
    Send {
        /// Its connection.
        conn: ConnId,
        /// What it sends.
        step: Step,
    },
    /// A packet was lost, and its sender sends it again.
    Again {
        /// Its connection.
        conn: ConnId,
        /// Which packet of it.
        step: Step,
    },
    /// A client learns that its connection has failed.
    Fail {
        /// The connection.
        conn: ConnId,
        /// How.
        why: Failure,
    },
    /// An endpoint is replaced.
    Replace,
    /// A node's kube-proxy learns of a version of the objects.
    Learn {
        /// The node.
        node: u32,
        /// The version.
        version: u64,
    },
    /// A node's sync starts.
    SyncStarts {
        /// The node.
        node: u32,
    },
    /// A node's sync ends: the rules it brought are loaded.
    SyncEnds {
        /// The node.
        node: u32,
        /// Version of the rules.
        version: u64,
    },
    /// The warm-up is over.
    Measure,
    /// The run is over.
    End,
}

/// The cluster.
pub struct World {
    config: Arc<WorldConfig>,
    profile: Arc<CostProfile>,
    network: Network,
    hosts: Hosts,
    places: Places,
    /// Client pods' addresses and next source port, by node.
    pods: Vec<Vec<(IpAddr, u16)>>,
    syncs: Vec<SyncLoop>,
    builder: Builder,
    /// Rules of each group of nodes with equal rules.
    versions: Vec<Versions>,
    /// Group of each node.
    group: Vec<usize>,
    changes: Vec<Change>,
    /// Rules by version.
    book: RuleBook,
    /// Services and pods as they are numbered, and what was written about them.
    cluster: Cluster,
    log: ChangeLog,
    /// Service of each service port.
    owners: Vec<ServiceId>,
    /// Version of the log after each change.
    logged: Vec<u64>,
    first_sync: SimSpan,
    ready: u32,
    /// Node of every endpoint that is alive; `None` outside the cluster.
    alive: BTreeMap<SocketAddr, Option<u32>>,
    clients: Vec<Clients>,
    /// By slot: generation, and the connection that is there.
    connections: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
    /// Endpoints of every service port as they are now, and the service ports of every pod.
    endpoints: setup::Endpoints,
    addresses: setup::Addresses,
    churn: Stream,
    watch: Stream,
    residency: Residency,
    /// The same for packets on a core that a sync runs on.
    disturbed: Residency,
    start: setup::Start,
    measuring: bool,
    /// No more connections and changes; what is under way goes on to its end.
    ended: bool,
    measures: Measures,
}

/// Why a run gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The configuration makes a world impossible: a mode or scheduler that is not there, a network too small.
    Impossible(String),
    /// The caller wanted no more.
    Cancelled,
}

/// Simulated time between two looks at whether to go on.
const SLICE: SimSpan = SimSpan::from_ms(20);

/// Runs one world to its end, asking now and then whether to `go_on`.
///
/// # Errors
/// If the configuration makes no world, or `go_on` said no.
pub fn run(
    config: Arc<WorldConfig>,
    profile: Arc<CostProfile>,
    go_on: &dyn Fn() -> bool,
) -> Result<PointResult, Stopped> {
    let world = World::new(config, profile).map_err(Stopped::Impossible)?;
    let mut simulation = Simulation::new(world);
    let (first, nodes) = (simulation.model().first_sync, simulation.model().hosts.len() as u32);
    for node in 0..nodes {
        simulation.context().schedule_at(SimTime::ZERO + first, Event::FirstSyncEnds { node });
    }
    // The first full sync of a large cluster is one long wait for its end.
    let mut limit = SimTime::ZERO + first;
    while simulation.run_until(limit).ending == Ending::Limit {
        if !go_on() {
            return Err(Stopped::Cancelled);
        }
        limit += SLICE;
    }
    let (events, fingerprint) = (simulation.events(), simulation.fingerprint());
    Ok(simulation.into_model().finish(events, fingerprint))
}

impl Model for World {
    type Event = Event;

    fn handle(&mut self, event: Event, now: SimTime, cx: &mut Context<Event>) {
        match event {
            Event::FirstSyncEnds { node } => self.first_sync_ends(node, now, cx),
            Event::Open { class, node } => self.open(class, node, now, cx),
            Event::Reach { conn, step, last } => self.reach(conn, step, last, now, cx),
            Event::Deliver { conn, step } => self.deliver(conn, step, now, cx),
            Event::Send { conn, step } => self.send(conn, step, now, cx),
            Event::Again { conn, step } => self.again(conn, step, now, cx),
            Event::Fail { conn, why } => self.told(conn, why, now, cx),
            Event::Replace => self.replace(now, cx),
            Event::Learn { node, version } => self.learn(node, version, now, cx),
            Event::SyncStarts { node } => self.sync_starts(node, cx),
            Event::SyncEnds { node, version } => self.sync_ends(node, version, now, cx),
            Event::Measure => self.begin_measuring(now),
            Event::End => self.end(),
        }
    }

    fn digest(event: &Event) -> u64 {
        let pack = |kind: u64, a: u64, b: u64| kind << 56 | a << 24 | b;
        match *event {
            Event::FirstSyncEnds { node } => pack(1, u64::from(node), 0),
            Event::Open { class, node } => pack(2, u64::from(node), u64::from(class)),
            Event::Reach { conn, step, last } => {
                pack(3, u64::from(conn.slot), step as u64 * 2 + u64::from(last))
            }
            Event::Deliver { conn, step } => pack(4, u64::from(conn.slot), step as u64),
            Event::Send { conn, step } => pack(5, u64::from(conn.slot), step as u64),
            Event::Replace => pack(6, 0, 0),
            Event::Learn { node, version } => pack(7, u64::from(node), version),
            Event::SyncStarts { node } => pack(8, u64::from(node), 0),
            Event::SyncEnds { node, version } => pack(9, u64::from(node), version),
            Event::Measure => pack(10, 0, 0),
            Event::End => pack(11, 0, 0),
            Event::Again { conn, step } => pack(12, u64::from(conn.slot), step as u64),
            Event::Fail { conn, why } => pack(13, u64::from(conn.slot), why as u64),
        }
    }
}

/// Beginning and end of what is measured.
impl World {
    /// Nothing new begins; connections and syncs under way go on to their end, so that none is left out because it
    /// takes long.
    fn end(&mut self) {
        self.ended = true;
        self.measures.end(self.hosts.busy());
    }

    fn begin_measuring(&mut self, now: SimTime) {
        self.measuring = true;
        self.measures.begin(now, self.hosts.busy());
    }
}
