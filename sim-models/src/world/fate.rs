//! What becomes of packets that do not arrive, and of their connections.
//!
//! | a packet | gets |
//! |---|---|
//! | that a rule drops, for a node without power, or that goes nowhere | nothing: it is sent again until the client's patience ends |
//! | that a rule rejects | an ICMP error: a connection that is being opened is refused at once |
//! | for a pod without a listener, or of another pod's connection | a reset, which crosses the nodes on its way back |
//! | for a pod that is gone | what [`GonePod`](crate::network::GonePod) says |
//!
//! ICMP errors end a TCP connection only while it is being opened (`net/ipv4/tcp_ipv4.c:tcp_v4_err`); a UDP socket learns of
//! a closed port alone (`net/ipv4/udp.c:__udp4_lib_err`: only `ICMP_PORT_UNREACH` is fatal). A client whose connection
//! failed tries again at once with a new one, from another port, as often as it may.
//!
//! A cluster IP that no rule translates, as on a node without rules, is nobody's address: the packet leaves by the default
//! route and is lost.
//!
//! Left out: limits of ICMP errors, clients that wait before they try again, half-closed connections: once the last answer
//! is there, what is lost of the closing is not waited for.

use super::clients::{Call, ConnId};
use super::{Event, World};
use crate::control::pods::Answering;
use crate::workload::Step;
use crate::workload::patience::{self, Failure};
use sim_core::classify::Proto;
use sim_core::des::Context;
use sim_core::units::{SimSpan, SimTime};
use std::net::SocketAddr;

impl World {
    /// A packet is lost and nobody says so: its sender sends it again after a while, or the client gives up.
    pub(super) fn lost(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        let c = self.connection(conn).expect("its packet has just been lost");
        match step {
            // The request behind it acknowledges too.
            Step::Ack => return,
            Step::Fin | Step::FinAck | Step::LastAck => return self.close(conn, now),
            _ => {}
        }
        let patience = self.clients[usize::from(c.class)].timeout;
        let deadline = (c.waiting_since + patience).max(now);
        let sender = if step.from_client() { Some(c.client_node) } else { c.server_node };
        let is_alive = sender.is_none_or(|node| !self.hosts.is_down(node));
        let (wait, again) = patience::resend(step, c.resent);
        if c.proto == Proto::Tcp && step != Step::Reset && is_alive {
            if again && now + wait < deadline {
                self.connection_mut(conn).expect("looked up above").resent += 1;
                return cx.schedule_after(wait, Event::Again { conn, step });
            }
            // The kernel may give up before the client does.
            if step.from_client() && now + wait < deadline {
                return cx.schedule_after(wait, Event::Fail { conn, why: Failure::TimedOut });
            }
        }
        cx.schedule_at(deadline, Event::Fail { conn, why: Failure::TimedOut });
    }

    /// Nothing will come any more, however often it is asked for: the client waits as long as it is patient.
    fn give_up(&self, conn: ConnId, now: SimTime, cx: &mut Context<Event>) {
        let c = self.connection(conn).expect("it waits for something");
        let patience = self.clients[usize::from(c.class)].timeout;
        let deadline = (c.waiting_since + patience).max(now);
        cx.schedule_at(deadline, Event::Fail { conn, why: Failure::TimedOut });
    }

    /// A packet is sent again, if who sent it is still there.
    pub(super) fn again(&mut self, conn: ConnId, step: Step, now: SimTime, cx: &mut Context<Event>) {
        if self.connection(conn).is_some() && (step != Step::Answer || self.answers(conn, now, cx)) {
            self.transmit(conn, step, now, cx);
        }
    }

    /// A rule of `node` rejects a packet.
    pub(super) fn rejected(
        &mut self,
        conn: ConnId,
        step: Step,
        node: u32,
        now: SimTime,
        cx: &mut Context<Event>,
    ) {
        let c = self.connection(conn).expect("its packet has just been rejected");
        if !step.from_client() || (c.is_established && c.proto == Proto::Tcp) {
            return self.lost(conn, step, now, cx);
        }
        let back = self.network.delay(node, c.client_node);
        if back == SimSpan::ZERO {
            return self.fail(conn, Failure::Refused, now, cx);
        }
        cx.schedule_after(back, Event::Fail { conn, why: Failure::Refused });
    }

    /// Whether a later packet of the client leaves for the server that the first one went to. Where connection tracking or
    /// IPVS has forgotten the connection it may go elsewhere.
    pub(super) fn goes_on(
        &mut self,
        conn: ConnId,
        to: SocketAddr,
        now: SimTime,
        cx: &mut Context<Event>,
    ) -> bool {
        let c = self.connection(conn).expect("its packet has just been classified");
        if to == c.server {
            return true;
        }
        let node = c.client_node;
        match self.places.find(to.ip()) {
            // Another pod knows nothing of it.
            Some(other) if other.state == Answering::Listening || other.state == Answering::Refusing => {
                let there = self.delay_to(node, other.node);
                cx.schedule_after(there + there, Event::Fail { conn, why: Failure::Reset });
            }
            _ => self.give_up(conn, now, cx),
        }
        false
    }

    fn delay_to(&self, from: u32, to: Option<u32>) -> SimSpan {
        to.map_or_else(|| self.network.delay_outside(), |to| self.network.delay(from, to))
    }

    /// Whether a pod takes a packet of the client that has come to its address; if not, what answers it is on its way.
    pub(super) fn is_taken(
        &mut self,
        conn: ConnId,
        step: Step,
        now: SimTime,
        cx: &mut Context<Event>,
    ) -> bool {
        let c = self.connection(conn).expect("it was delivered to");
        let holder = self.places.find(c.server.ip()).expect("the first packet found it");
        let back = self.delay_to(c.client_node, c.server_node);
        let is_another = c.server_pod.is_some_and(|pod| pod != holder.pod);
        match holder.state {
            Answering::Listening if !is_another || step == c.first_step() => true,
            Answering::Listening | Answering::Refusing => {
                match c.proto {
                    Proto::Tcp => self.send(conn, Step::Reset, now, cx),
                    _ => cx.schedule_after(back, Event::Fail { conn, why: Failure::Refused }),
                }
                false
            }
            Answering::Absent => {
                if c.proto == Proto::Tcp
                    && !c.is_established
                    && let Some(after) = self.network.gone.answers_after()
                {
                    // Of the answers to a packet and to its copies the first one counts.
                    cx.schedule_after(after + back, Event::Fail { conn, why: Failure::Unreachable });
                    if after + back < patience::resend(step, c.resent).0 {
                        return false;
                    }
                }
                self.lost(conn, step, now, cx);
                false
            }
            Answering::Dark => {
                self.lost(conn, step, now, cx);
                false
            }
        }
    }

    /// Whether the pod that took a request is still there to answer it. The kernel resets what a process leaves open when
    /// it ends (`net/ipv4/tcp.c:__tcp_close` with unread data); where the node is dead nobody does.
    pub(super) fn answers(&mut self, conn: ConnId, now: SimTime, cx: &mut Context<Event>) -> bool {
        let c = self.connection(conn).expect("it is to be answered");
        let holder = self.places.find(c.server.ip()).expect("it took the request");
        let is_it = c.server_pod == Some(holder.pod);
        match holder.state {
            Answering::Listening if is_it => true,
            Answering::Listening | Answering::Refusing | Answering::Absent if c.proto == Proto::Tcp => {
                self.send(conn, Step::Reset, now, cx);
                false
            }
            _ => {
                self.give_up(conn, now, cx);
                false
            }
        }
    }

    /// The client is told of a failure. What ends a connection that is being opened does not end one that is open.
    pub(super) fn told(&mut self, conn: ConnId, why: Failure, now: SimTime, cx: &mut Context<Event>) {
        let Some(c) = self.connection(conn) else { return };
        if why == Failure::Unreachable && c.is_established {
            return;
        }
        self.fail(conn, why, now, cx);
    }

    /// A connection has failed; its client tries again if it may.
    pub(super) fn fail(&mut self, conn: ConnId, why: Failure, now: SimTime, cx: &mut Context<Event>) {
        let c = self.connection(conn).expect("it has just failed");
        if c.unanswered == 0 {
            // All its answers are there: what is lost of the closing is not waited for.
            return self.close(conn, now);
        }
        let again = c.retries_left > 0 && !self.hosts.is_down(c.client_node);
        let call = Call {
            class: c.class,
            node: c.client_node,
            pod: c.client_pod,
            target: c.port,
            service: c.service,
            proto: c.proto,
            requests: c.unanswered,
            started: c.started,
            retries_left: c.retries_left.saturating_sub(1),
            is_retry: true,
            measured: c.measured,
        };
        self.measures.failed(why, now, !again, call.measured);
        self.release(conn);
        if again {
            self.connect(call, now, cx);
        }
    }

    /// A node loses power: its kernel forgets everything, and its clients are gone with their connections.
    pub(super) fn node_down(&mut self, node: u32, now: SimTime) {
        self.hosts.power_off(node);
        for slot in 0..self.connections.len() as u32 {
            let (generation, connection) = &self.connections[slot as usize];
            let conn = ConnId { slot, generation: *generation };
            if let Some(c) = connection.as_ref().filter(|c| c.client_node == node) {
                let measured = c.measured;
                self.measures.failed(Failure::Vanished, now, true, measured);
                self.release(conn);
            }
        }
    }

    /// A node without power is back, with an empty kernel.
    pub(super) fn node_up(&mut self, node: u32) {
        self.hosts.power_on(node);
    }
}
