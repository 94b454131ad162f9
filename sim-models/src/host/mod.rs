//! A node as a host: its kernel's state, the rules it has loaded, and its cores.
//!
//! Packet work is spread over cores by a hash of the flow (receive packet steering) and done in order of
//! arrival on each: a packet waits until its core has finished with those before it. Since the order is fixed
//! when a packet arrives, its end is known then, and no event is needed for it.
//!
//! Left out so far: syncs and applications on the same cores, backlog limits.

use crate::kernel::path::{Crossing, NodeState, Origin, Stack, cross};
use sim_core::classify::Packet;
use sim_core::classify::hash::{jhash_3words, reciprocal_scale};
use sim_core::units::{SimSpan, SimTime};
use std::net::IpAddr;
use std::sync::Arc;

/// One node.
pub struct Host {
    /// Name.
    pub name: Arc<str>,
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// What its kernel remembers.
    pub state: NodeState,
    /// The rules it has loaded.
    pub stack: Arc<Stack>,
    /// Version of the objects those rules are of.
    pub version: u64,
    /// Until when each core is busy.
    busy_until: Vec<SimTime>,
    /// Packet work done so far, all cores.
    pub busy: SimSpan,
}

/// When a core took up a packet and when it was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Time waited for the core.
    pub wait: SimSpan,
    /// When the packet leaves.
    pub done: SimTime,
}

impl Host {
    /// A node that is idle.
    pub fn new(
        name: Arc<str>,
        addresses: Vec<IpAddr>,
        state: NodeState,
        stack: Arc<Stack>,
        cores: u32,
    ) -> Self {
        let busy_until = vec![SimTime::ZERO; cores as usize];
        Host { name, addresses, state, stack, version: 0, busy_until, busy: SimSpan::ZERO }
    }

    /// Loads other rules, as the end of a sync does.
    pub fn load(&mut self, stack: Arc<Stack>, version: u64) {
        self.stack = stack;
        self.version = version;
    }

    /// Classifies a packet that arrives now. Packets of one core are classified in the order in which they
    /// arrive, so doing it at arrival and charging the time afterwards gives the same verdicts.
    pub fn classify(&mut self, packet: Packet, origin: Origin, now: SimTime) -> Crossing {
        cross(&self.stack, &mut self.state, packet, origin, now)
    }

    /// Charges `work` to the core of `packet`'s flow.
    pub fn serve(&mut self, packet: &Packet, work: SimSpan, now: SimTime) -> Served {
        let core = self.core_of(packet);
        let start = self.busy_until[core].max(now);
        let done = start + work;
        self.busy_until[core] = done;
        self.busy += work;
        Served { wait: start.since(now), done }
    }

    fn core_of(&self, packet: &Packet) -> usize {
        let word = |ip: IpAddr| match ip {
            IpAddr::V4(a) => u32::from(a),
            IpAddr::V6(a) => {
                let bits = u128::from(a);
                (bits ^ (bits >> 32) ^ (bits >> 64) ^ (bits >> 96)) as u32
            }
        };
        let ports = u32::from(packet.sport) << 16 | u32::from(packet.dport);
        let hash = jhash_3words(word(packet.src), word(packet.dst), ports, 0);
        reciprocal_scale(hash, self.busy_until.len() as u32) as usize
    }
}
