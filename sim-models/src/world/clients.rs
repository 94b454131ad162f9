//! Clients and packets: connections are opened, and each packet of one crosses the nodes on its way.
//!
//! A packet is classified by the node it reaches, at the instant it reaches it, with the rules that node has then; its core is busy
//! for as long as that work costs; then it goes on to the next node or to its socket.

use super::{Event, World};
use crate::kernel::path::Origin;
use crate::workload::{Connection, LOCAL_PORTS, Step};
use sim_core::classify::{Packet, Proto, Verdict};
use sim_core::des::Context;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::net::SocketAddr;

/// Handle of a connection: its place, and how often the place was used before, so that an event of a connection
/// that has ended is told from one of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A class of clients with its streams.
pub(super) struct Clients {
    pub(super) gap: SimSpan,
    pub(super) requests: u32,
    pub(super) think: SimSpan,
    pub(super) service_time: SimSpan,
    /// Service ports called, with equal probability.
    pub(super) targets: Vec<u32>,
    /// Per node: arrivals and choices.
    pub(super) streams: Vec<Stream>,
}

/// Clients and packets.
impl World {
    pub(super) fn open(&mut self, class: u16, node: u32, now: SimTime, cx: &mut Context<Event>) {
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
    pub(super) fn send(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
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

    pub(super) fn reach(
        &mut self,
        conn: ConnId,
        step: Step,
        last: bool,
        now: SimTime,
        cx: &mut Context<Event>,
    ) {
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

    pub(super) fn deliver(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
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
