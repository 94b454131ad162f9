//! The simulated cluster: the closed [`Event`] enum and its only match.
//!
//! A run is: every node's kube-proxy does its first full sync; when the last has ended, clients begin; after
//! the warm-up, measuring begins; after the duration nothing new begins, and the run ends when all connections and
//! syncs have. A packet is classified by the node it reaches, at
//! the instant it reaches it, with the rules that node has then; its core is busy for as long as that work
//! costs; then it goes on to the next node or to its socket.

mod measure;
mod setup;
#[cfg(test)]
mod tests;

pub use measure::PointResult;

use crate::config::WorldConfig;
use crate::control::{self, Builder, Change, SyncLoop, Versions};
use crate::host::Host;
use crate::kernel::cost::{CostProfile, Residency};
use crate::kernel::path::Origin;
use crate::network::Network;
use crate::workload::{Connection, LOCAL_PORTS, Step};
use measure::Measures;
use sim_core::classify::{Packet, Proto, Verdict};
use sim_core::des::{Context, Ending, Model, Simulation};
use sim_core::dist;
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

/// Handle of a connection: its place, and how often the place was used before, so that an event of a connection
/// that has ended is told from one of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

/// A class of clients with its streams.
struct Clients {
    gap: SimSpan,
    requests: u32,
    think: SimSpan,
    service_time: SimSpan,
    /// Service ports called, with equal probability.
    targets: Vec<u32>,
    /// Per node: arrivals and choices.
    streams: Vec<Stream>,
}

/// The cluster.
pub struct World {
    config: Arc<WorldConfig>,
    profile: Arc<CostProfile>,
    network: Network,
    hosts: Vec<Host>,
    /// Client pods' addresses and next source port, by node.
    pods: Vec<Vec<(IpAddr, u16)>>,
    syncs: Vec<SyncLoop>,
    builder: Builder,
    /// Rules of each group of nodes with equal rules.
    versions: Vec<Versions>,
    /// Group of each node.
    group: Vec<usize>,
    changes: Vec<Change>,
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
        }
    }
}

/// Clients and packets.
impl World {
    fn open(&mut self, class: u16, node: u32, now: SimTime, cx: &mut Context<Event>) {
        if self.ended {
            return;
        }
        let clients = &mut self.clients[usize::from(class)];
        let stream = &mut clients.streams[node as usize];
        let gap = dist::exponential(stream, clients.gap);
        let target = clients.targets[stream.below(clients.targets.len() as u64) as usize];
        let pod = stream.below(self.pods[node as usize].len() as u64) as usize;
        cx.schedule_after(gap, Event::Open { class, node });
        let (address, next_port) = &mut self.pods[node as usize][pod];
        let client = SocketAddr::new(*address, *next_port);
        *next_port = if *next_port == *LOCAL_PORTS.end() { *LOCAL_PORTS.start() } else { *next_port + 1 };
        let port = &self.versions[0].objects().ports[target as usize];
        let service = SocketAddr::new(port.cluster_ip, port.port);
        let connection = Connection {
            class,
            client_node: node,
            server_node: None,
            proto: port.proto,
            client,
            service,
            port: target,
            seen_client: client,
            server: service,
            requests_left: clients.requests,
            started: now,
            measured: self.measuring,
        };
        let step = connection.first_step();
        let conn = self.keep(connection);
        self.measures.opened(self.measuring);
        self.send(conn, step, now, cx);
    }

    fn keep(&mut self, connection: Connection) -> ConnId {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.connections.push((0, None));
                u32::try_from(self.connections.len() - 1).expect("fewer than 2^32 connections live at once")
            }
        };
        let place = &mut self.connections[slot as usize];
        place.1 = Some(connection);
        ConnId { slot, generation: place.0 }
    }

    fn connection(&self, id: ConnId) -> Option<&Connection> {
        let (generation, connection) = &self.connections[id.slot as usize];
        connection.as_ref().filter(|_| *generation == id.generation)
    }

    fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let (generation, connection) = &mut self.connections[id.slot as usize];
        connection.as_mut().filter(|_| *generation == id.generation)
    }

    /// The sender's node is reached at once: the veth has no delay of its own.
    fn send(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection_mut(conn) else { return };
        if step == Step::Request {
            c.requests_left -= 1;
        }
        if step.from_client() || c.server_node.is_some() {
            self.reach(conn, step, false, now, cx);
        } else {
            // The server is outside the cluster: its packet reaches the client's node through the network.
            cx.schedule_after(self.network.delay_outside(), Event::Reach { conn, step, last: true });
        }
    }

    fn reach(&mut self, conn: ConnId, step: Step, last: bool, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection(conn) else { return };
        let (sender, receiver) = match step.from_client() {
            true => (Some(c.client_node), c.server_node),
            false => (c.server_node, Some(c.client_node)),
        };
        let at_client = step.from_client() != last;
        let node = if last { receiver } else { sender }.expect("packets reach nodes of the cluster only");
        let packet = self.packet_on_the_wire(c, step, last);
        let origin = if last { Origin::Wire } else { Origin::Pod };
        let measured = self.measuring && !self.ended && c.measured;
        let opening = !last && step == c.first_step();
        let host = &mut self.hosts[node as usize];
        let crossing = host.classify(packet, origin, now);
        let cost = self.profile.cost(&crossing.work, &self.residency, crossing.first);
        let served = host.serve(&packet, SimSpan::from_ns_f64(cost * self.profile.ns_per_unit), now);
        self.measures.crossing(&crossing, cost, &served, now, at_client, measured);
        if matches!(crossing.verdict, Verdict::Drop | Verdict::Reject) {
            return self.fail(conn);
        }
        if opening {
            // The first packet's translation tells where the connection goes.
            let server = SocketAddr::new(crossing.packet.dst, crossing.packet.dport);
            let Some(&server_node) = self.alive.get(&server) else { return self.fail(conn) };
            let c = self.connection_mut(conn).expect("looked up above");
            (c.server, c.server_node) = (server, server_node);
            c.seen_client = SocketAddr::new(crossing.packet.src, crossing.packet.sport);
        }
        let c = self.connection(conn).expect("looked up above");
        let (from, to) = match step.from_client() {
            true => (Some(c.client_node), c.server_node),
            false => (c.server_node, Some(c.client_node)),
        };
        match (last, from, to) {
            (true, _, _) => cx.schedule_at(served.done, Event::Deliver { conn, step }),
            (false, Some(a), Some(b)) if a == b => cx.schedule_at(served.done, Event::Deliver { conn, step }),
            (false, Some(a), Some(b)) => {
                let at = served.done + self.network.delay(a, b);
                cx.schedule_at(at, Event::Reach { conn, step, last: true });
            }
            (false, _, None) => {
                let at = served.done + self.network.delay_outside();
                cx.schedule_at(at, Event::Deliver { conn, step });
            }
            (false, None, Some(_)) => unreachable!("packets from outside reach their last node only"),
        }
    }

    /// The packet as it arrives at this node: as sent at the first, translated at the second.
    fn packet_on_the_wire(&self, c: &Connection, step: Step, last: bool) -> Packet {
        let sent = c.packet(step);
        if last && step.from_client() {
            let (src, dst) = (c.seen_client, c.server);
            return Packet { src: src.ip(), sport: src.port(), dst: dst.ip(), dport: dst.port(), ..sent };
        }
        sent
    }

    fn deliver(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection(conn) else { return };
        let clients = &self.clients[usize::from(c.class)];
        if step.from_client() && !self.alive.contains_key(&c.server) {
            // The pod went away while the packet was under way: its node answers with a reset.
            return self.fail(conn);
        }
        match step {
            Step::Syn => self.send(conn, Step::SynAck, now, cx),
            Step::SynAck => {
                self.send(conn, Step::Ack, now, cx);
                // The acknowledgement may have found the connection broken.
                self.send(conn, Step::Request, now, cx);
            }
            Step::Ack | Step::LastAck => {
                if step == Step::LastAck {
                    self.close(conn, now);
                }
            }
            Step::Request => {
                cx.schedule_after(clients.service_time, Event::Send { conn, step: Step::Answer })
            }
            Step::Answer if c.requests_left > 0 => {
                cx.schedule_after(clients.think, Event::Send { conn, step: Step::Request });
            }
            Step::Answer if c.proto == Proto::Tcp => self.send(conn, Step::Fin, now, cx),
            Step::Answer => self.close(conn, now),
            Step::Fin => self.send(conn, Step::FinAck, now, cx),
            Step::FinAck => self.send(conn, Step::LastAck, now, cx),
        }
    }

    fn close(&mut self, conn: ConnId, now: SimTime) {
        let c = self.connection(conn).expect("it has just answered");
        self.measures.closed(now.since(c.started), c.measured);
        self.release(conn);
    }

    fn fail(&mut self, conn: ConnId) {
        let measured = self.connection(conn).expect("its packet has just been lost").measured;
        self.measures.failed(measured);
        self.release(conn);
    }

    /// Frees the connection's place; events of it that are still to come find nobody.
    fn release(&mut self, conn: ConnId) {
        let place = &mut self.connections[conn.slot as usize];
        place.0 = place.0.wrapping_add(1);
        place.1 = None;
        self.free.push(conn.slot);
    }
}

/// Changes and syncs.
impl World {
    fn first_sync_ends(&mut self, _node: u32, now: SimTime, cx: &mut Context<Event>) {
        self.ready += 1;
        if self.ready < self.hosts.len() as u32 {
            return;
        }
        for sync in &mut self.syncs {
            *sync = SyncLoop::idle_since(now);
        }
        for class in 0..self.clients.len() {
            for node in 0..self.hosts.len() {
                let clients = &mut self.clients[class];
                let gap = dist::exponential(&mut clients.streams[node], clients.gap);
                cx.schedule_after(gap, Event::Open { class: class as u16, node: node as u32 });
            }
        }
        self.schedule_change(cx);
        cx.schedule_after(self.config.warmup, Event::Measure);
        cx.schedule_after(self.config.warmup + self.config.duration, Event::End);
    }

    fn schedule_change(&mut self, cx: &mut Context<Event>) {
        if self.config.churn.rate > 0.0 {
            let mean = SimSpan::from_ns_f64(1e9 / self.config.churn.rate);
            cx.schedule_after(dist::exponential(&mut self.churn, mean), Event::Replace);
        }
    }

    fn replace(&mut self, now: SimTime, cx: &mut Context<Event>) {
        if self.ended {
            return;
        }
        self.schedule_change(cx);
        let nodes = self.hosts.len() as u32;
        let Some(setup::Replaced { ports, old, new, node }) = self.draw_change() else { return };
        self.changes.push(Change { at: now, ports, old, new, node, nodes_left: nodes });
        let version = self.changes.len() as u64;
        for node in 0..nodes {
            let delay = control::watch_delay(&mut self.watch);
            cx.schedule_after(delay, Event::Learn { node, version });
        }
    }

    fn learn(&mut self, node: u32, version: u64, now: SimTime, cx: &mut Context<Event>) {
        let period = self.config.proxy.min_sync_period;
        if let Some(start) = self.syncs[node as usize].learn(version, period, now) {
            cx.schedule_at(start, Event::SyncStarts { node });
        }
    }

    fn sync_starts(&mut self, node: u32, cx: &mut Context<Event>) {
        let sync = &mut self.syncs[node as usize];
        sync.target = sync.known;
        let version = sync.target;
        let from = self.hosts[node as usize].version;
        let group = &mut self.versions[self.group[node as usize]];
        let (_, duration) = group.load(version, from, &self.changes, &self.builder);
        cx.schedule_after(duration, Event::SyncEnds { node, version });
    }

    fn sync_ends(&mut self, node: u32, version: u64, now: SimTime, cx: &mut Context<Event>) {
        let group = self.group[node as usize];
        let from = self.hosts[node as usize].version;
        let (stack, _) = self.versions[group].load(version, from, &self.changes, &self.builder);
        let host = &mut self.hosts[node as usize];
        for change in &mut self.changes[from as usize..version as usize] {
            change.nodes_left -= 1;
            if change.nodes_left == 0 {
                self.measures.converged(change.at, now);
            }
        }
        host.load(stack, version);
        // Rules that every node of the group has left behind and none is loading are not needed again.
        let members = (0..self.hosts.len()).filter(|&n| self.group[n] == group);
        let oldest = members.map(|n| match self.syncs[n] {
            SyncLoop { busy: true, target, .. } => target.min(self.hosts[n].version),
            _ => self.hosts[n].version,
        });
        let oldest = oldest.min().unwrap_or(version);
        self.versions[group].forget_before(oldest);
        if let Some(start) = self.syncs[node as usize].end_run(self.config.proxy.min_sync_period, now) {
            cx.schedule_at(start, Event::SyncStarts { node });
        }
    }

    /// Nothing new begins; connections and syncs under way go on to their end, so that none is left out because it
    /// takes long.
    fn end(&mut self) {
        self.ended = true;
        self.measures.end(self.hosts.iter().map(|h| h.busy).fold(SimSpan::ZERO, |a, b| a + b));
    }

    fn begin_measuring(&mut self, now: SimTime) {
        self.measuring = true;
        self.measures.begin(now, self.hosts.iter().map(|h| h.busy).fold(SimSpan::ZERO, |a, b| a + b));
    }
}
