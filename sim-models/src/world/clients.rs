//! Clients and packets: connections are opened, and each packet of one crosses the nodes on its way.
//!
//! A packet is classified by the node it reaches, at the instant it reaches it, with the rules that node has then; its core
//! is busy for as long as that work costs; then it goes on to the next node or to its socket. What becomes of packets that
//! do not arrive is in [`fate`](super::fate).

use super::{Event, World};
use crate::kernel::path::Origin;
use crate::workload::patience::Failure;
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
    pub(super) timeout: SimSpan,
    pub(super) retries: u32,
    pub(super) think: SimSpan,
    pub(super) service_time: SimSpan,
    /// Service ports called, with equal probability.
    pub(super) targets: Vec<u32>,
    /// Per node: arrivals and choices.
    pub(super) streams: Vec<Stream>,
}

/// What a client asks for: one call, which takes a connection or, if that fails, several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) class: u16,
    pub(super) node: u32,
    pub(super) pod: u16,
    /// Index of the service port.
    pub(super) target: u32,
    pub(super) service: SocketAddr,
    pub(super) proto: Proto,
    pub(super) requests: u32,
    pub(super) started: SimTime,
    pub(super) retries_left: u32,
    pub(super) is_retry: bool,
    pub(super) measured: bool,
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
        let pod = stream.below(self.pods[node as usize].len() as u64) as u16;
        cx.schedule_after(gap, Event::Open { class, node });
        // Drained of clients, or dead with them.
        if self.hosts.is_down(node) || self.fleet.is_drained(node) {
            return;
        }
        let (requests, retries_left) = (clients.requests, clients.retries);
        let port = &self.targets[target as usize];
        let service = SocketAddr::new(port.cluster_ip, port.port);
        let (proto, measured) = (port.proto, self.measuring);
        let (started, is_retry) = (now, false);
        self.measures.opened(now, measured);
        let call = Call {
            class,
            node,
            pod,
            target,
            service,
            proto,
            requests,
            started,
            retries_left,
            is_retry,
            measured,
        };
        self.connect(call, now, cx);
    }

    /// Opens a connection, from a source port that its pod has not used for the longest time.
    pub(super) fn connect(&mut self, call: Call, now: SimTime, cx: &mut Context<Event>) {
        let (address, next_port) = &mut self.pods[call.node as usize][usize::from(call.pod)];
        let client = SocketAddr::new(*address, *next_port);
        *next_port = if *next_port == *LOCAL_PORTS.end() { *LOCAL_PORTS.start() } else { *next_port + 1 };
        let connection = Connection {
            class: call.class,
            client_node: call.node,
            server_node: None,
            proto: call.proto,
            client,
            service: call.service,
            port: call.target,
            seen_client: client,
            server: call.service,
            server_pod: None,
            client_pod: call.pod,
            requests_left: call.requests,
            unanswered: call.requests,
            started: call.started,
            waiting_since: now,
            resent: 0,
            is_established: false,
            retries_left: call.retries_left,
            is_retry: call.is_retry,
            measured: call.measured,
        };
        let step = connection.first_step();
        let conn = self.keep(connection);
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

    pub(super) fn connection(&self, id: ConnId) -> Option<&Connection> {
        let (generation, connection) = &self.connections[id.slot as usize];
        connection.as_ref().filter(|_| *generation == id.generation)
    }

    pub(super) fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let (generation, connection) = &mut self.connections[id.slot as usize];
        connection.as_mut().filter(|_| *generation == id.generation)
    }

    /// A side sends something new. The sender's node is reached at once: the veth has no delay of its own.
    pub(super) fn send(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection_mut(conn) else { return };
        c.resent = 0;
        if step == Step::Request {
            c.requests_left -= 1;
            c.waiting_since = now;
        }
        if step == Step::Answer && !self.answers(conn, now, cx) {
            return;
        }
        self.transmit(conn, step, now, cx);
    }

    pub(super) fn transmit(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection(conn) else { return };
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
        if self.hosts.is_down(node) {
            return self.lost(conn, step, now, cx);
        }
        let packet = self.packet_on_the_wire(c, step, last);
        let origin = if last { Origin::Wire } else { Origin::Pod };
        let measured = self.measuring && !self.ended && c.measured;
        let opening = !last && step == c.first_step();
        self.prepare(node, now);
        let crossing = self.hosts.classify(node, packet, origin, now);
        let residency =
            if self.hosts.is_disturbed(node, &packet) { &self.disturbed } else { &self.residency };
        let cost = self.profile.cost(&crossing.work, residency, crossing.first);
        let work = SimSpan::from_ns_f64(cost * self.profile.ns_per_unit);
        let served = self.hosts.serve(node, &packet, work, now);
        self.measures.crossing(&crossing, cost, &served, now, at_client, measured);
        match crossing.verdict {
            Verdict::Drop => return self.lost(conn, step, now, cx),
            Verdict::Reject => return self.rejected(conn, step, node, now, cx),
            _ => {}
        }
        let to = SocketAddr::new(crossing.packet.dst, crossing.packet.dport);
        let from = SocketAddr::new(crossing.packet.src, crossing.packet.sport);
        if opening {
            // The first packet's translation tells where the connection goes.
            let Some(holder) = self.places.find(to.ip()) else { return self.lost(conn, step, now, cx) };
            let c = self.connection_mut(conn).expect("looked up above");
            (c.server, c.server_node, c.server_pod) = (to, holder.node, Some(holder.pod));
            c.seen_client = from;
        } else if step.from_client() && !last && !self.goes_on(conn, to, now, cx) {
            return;
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
        let (service_time, think, patience) = (clients.service_time, clients.think, clients.timeout);
        if step.from_client() && !self.is_taken(conn, step, now, cx) {
            return;
        }
        let Some(c) = self.connection_mut(conn) else { return };
        match step {
            Step::Syn => self.send(conn, Step::SynAck, now, cx),
            Step::SynAck => {
                c.is_established = true;
                self.send(conn, Step::Ack, now, cx);
                // The acknowledgement may have found the connection broken.
                self.send(conn, Step::Request, now, cx);
            }
            Step::Ack => {}
            Step::LastAck => self.close(conn, now),
            Step::Request => {
                let deadline = c.waiting_since + patience;
                cx.schedule_after(service_time, Event::Send { conn, step: Step::Answer });
                if deadline < now + service_time {
                    cx.schedule_at(deadline.max(now), Event::Fail { conn, why: Failure::TimedOut });
                }
            }
            Step::Answer => {
                c.unanswered -= 1;
                if c.requests_left > 0 {
                    cx.schedule_after(think, Event::Send { conn, step: Step::Request });
                } else if c.proto == Proto::Tcp {
                    self.send(conn, Step::Fin, now, cx)
                } else {
                    self.close(conn, now)
                }
            }
            Step::Fin => self.send(conn, Step::FinAck, now, cx),
            Step::FinAck => self.send(conn, Step::LastAck, now, cx),
            Step::Reset => {
                let why = if c.is_established { Failure::Reset } else { Failure::Refused };
                self.fail(conn, why, now, cx);
            }
        }
    }

    pub(super) fn close(&mut self, conn: ConnId, now: SimTime) {
        let c = self.connection(conn).expect("it has just answered");
        self.measures.closed(now.since(c.started), c.is_retry, c.measured);
        self.release(conn);
    }

    /// Frees the connection's place; events of it that are still to come find nobody.
    pub(super) fn release(&mut self, conn: ConnId) {
        let place = &mut self.connections[conn.slot as usize];
        place.0 = place.0.wrapping_add(1);
        place.1 = None;
        self.free.push(conn.slot);
    }
}
