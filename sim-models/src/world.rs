//! The simulated cluster: the closed [`Event`] enum and its only match.
//!
//! A run begins with a cluster at rest, whose kube-proxies have run for long, and clients that begin to call; after the
//! warm-up, measuring begins and what is planned happens; after the duration nothing new begins, and the run ends when all
//! connections and syncs have. A packet is classified by the node it reaches, at the instant it reaches it, with the rules
//! that node has then; its core is busy for as long as that work costs; then it goes on to the next node or to its socket.

mod clients;
mod fate;
mod later;
mod measure;
mod nodes;
mod over;
mod places;
pub mod rules;
mod setup;
#[cfg(test)]
mod tests;

pub use clients::ConnId;
pub use measure::PointResult;

use crate::config::WorldConfig;
use crate::control::effect::Effect;
use crate::control::plane::{ControlEvent, ControlPlane};
use crate::control::services::Services;
use crate::control::watch::Watch;
use crate::host::Hosts;
use crate::kernel::cost::{CostProfile, Residency};
use crate::kube::ServicePort;
use crate::kube::objects::SliceEndpoint;
use crate::network::Network;
use crate::proxy::fleet::{Fleet, Loaded, ProxyEvent};
use crate::workload::patience::Failure;
use crate::workload::{Connection, Step};
use clients::Clients;
use later::{LaterNodes, LaterServices};
use measure::Measures;
use places::Places;
use rules::RuleBook;
use sim_core::des::{Context, Ending, Model, Simulation};
use sim_core::units::{SimSpan, SimTime};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
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
    /// Something in the control plane.
    Control(ControlEvent),
    /// Something on a node's kube-proxy.
    Proxy(ProxyEvent),
    /// Something of the timeline that is kube-proxies' affair.
    Planned {
        /// Its place there.
        index: u32,
    },
    /// The warm-up is over.
    Measure,
    /// The time of the run is over.
    End,
    /// A look at whether everything that had begun has ended.
    Look,
    /// A look at what is shown over time.
    Sample,
}

impl From<ControlEvent> for Event {
    fn from(event: ControlEvent) -> Self {
        Event::Control(event)
    }
}

impl From<ProxyEvent> for Event {
    fn from(event: ProxyEvent) -> Self {
        Event::Proxy(event)
    }
}

/// The cluster.
pub struct World {
    config: Arc<WorldConfig>,
    profile: Arc<CostProfile>,
    network: Network,
    hosts: Hosts,
    /// What a packet to a pod's address meets.
    places: Places,
    /// Client pods' addresses and next source port, by node.
    pods: Vec<Vec<(IpAddr, u16)>>,
    plane: ControlPlane,
    watch: Watch,
    fleet: Fleet,
    /// Rules by version.
    book: RuleBook,
    services: Services,
    /// What the first slices said of each pod.
    first: Vec<SliceEndpoint>,
    /// Ports and addresses of Services that come later.
    later_services: LaterServices,
    /// Names and addresses of nodes that come later.
    later_nodes: LaterNodes,
    /// Version of the log up to which Services have their ports.
    numbered: u64,
    clients: Vec<Clients>,
    /// Service ports that clients call.
    targets: Vec<ServicePort>,
    /// By slot: generation, and the connection that is there.
    connections: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
    residency: Residency,
    /// The same for packets on a core that a sync runs on.
    disturbed: Residency,
    start: setup::Start,
    measuring: bool,
    /// No more connections and changes; what is under way goes on to its end.
    ended: bool,
    /// When to stop waiting for that.
    give_up: SimTime,
    measures: Measures,
    /// Kept from one event to the next for their memory.
    effects: Vec<Effect>,
    loaded: Vec<Loaded>,
}

/// Why a run gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The configuration makes a world impossible: a mode or scheduler that is not there, a network too small.
    Impossible(String),
    /// The caller wanted no more.
    Cancelled,
}

/// Parts of a run between two looks at whether to go on.
const SLICES: u64 = 2_000;

/// Runs one world to its end, asking now and then whether to `go_on`, given the simulated time and that at which
/// nothing new begins any more.
///
/// # Errors
/// If the configuration makes no world, or `go_on` said no.
///
/// # Panics
/// If something was lost: a change, a sync, a connection. That is our bug.
pub fn run(
    config: Arc<WorldConfig>,
    profile: Arc<CostProfile>,
    go_on: &dyn Fn(SimTime, SimTime) -> bool,
) -> Result<PointResult, Stopped> {
    let end = SimTime::ZERO + config.warmup + config.duration;
    let world = World::new(config, profile).map_err(Stopped::Impossible)?;
    let mut simulation = Simulation::new(world);
    let (world, cx) = simulation.parts();
    world.begin(cx);
    let slice = SimSpan::from_ns((end.as_ns() / SLICES).max(1));
    let mut limit = SimTime::ZERO;
    loop {
        if !go_on(limit.min(end), end) {
            return Err(Stopped::Cancelled);
        }
        limit += slice;
        if simulation.run_until(limit).ending != Ending::Limit {
            break;
        }
    }
    let (now, events, fingerprint) = (simulation.now(), simulation.events(), simulation.fingerprint());
    Ok(simulation.into_model().finish(now, events, fingerprint))
}

impl Model for World {
    type Event = Event;

    fn handle(&mut self, event: Event, now: SimTime, cx: &mut Context<Event>) {
        match event {
            Event::Open { class, node } => self.open(class, node, now, cx),
            Event::Reach { conn, step, last } => self.reach(conn, step, last, now, cx),
            Event::Deliver { conn, step } => self.deliver(conn, step, now, cx),
            Event::Send { conn, step } => self.send(conn, step, now, cx),
            Event::Again { conn, step } => self.again(conn, step, now, cx),
            Event::Fail { conn, why } => self.told(conn, why, now, cx),
            Event::Control(event) => self.control(event, now, cx),
            Event::Proxy(event) => self.proxy(event, now, cx),
            Event::Planned { index } => self.planned(index, now, cx),
            Event::Measure => self.begin_measuring(now, cx),
            Event::Sample => self.sample(now, cx),
            Event::End => self.end(now, cx),
            Event::Look => self.look(now, cx),
        }
    }

    fn digest(event: &Event) -> u64 {
        let pack = |kind: u64, a: u64, b: u64| kind << 56 | a << 24 | b;
        match *event {
            Event::Open { class, node } => pack(2, u64::from(node), u64::from(class)),
            Event::Reach { conn, step, last } => {
                pack(3, u64::from(conn.slot), step as u64 * 2 + u64::from(last))
            }
            Event::Deliver { conn, step } => pack(4, u64::from(conn.slot), step as u64),
            Event::Send { conn, step } => pack(5, u64::from(conn.slot), step as u64),
            Event::Control(event) => 6 << 56 ^ event.digest(),
            Event::Proxy(event) => 7 << 56 ^ event.digest(),
            Event::Planned { index } => pack(8, u64::from(index), 0),
            Event::Measure => pack(10, 0, 0),
            Event::End => pack(11, 0, 0),
            Event::Look => pack(14, 0, 0),
            Event::Sample => pack(15, 0, 0),
            Event::Again { conn, step } => pack(12, u64::from(conn.slot), step as u64),
            Event::Fail { conn, why } => pack(13, u64::from(conn.slot), why as u64),
        }
    }
}
