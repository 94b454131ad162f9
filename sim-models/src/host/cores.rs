//! The cores of a node: packets in order of arrival on each, and a sync of kube-proxy beside them.
//!
//! Packet work is spread over cores by a hash of the flow (receive packet steering) and done in order of arrival on each: a
//! packet waits until its core has finished with those before it. Since the order is fixed when a packet arrives, its end
//! is known then, and no event is needed for it.
//!
//! A sync is one thread. It goes to the core that has had the least packet work lately, as the scheduler weighs a core by
//! what interrupts leave of it (`kernel/sched/fair.c:scale_rt_capacity`): work counts half after every 32 ms
//! (`kernel/sched/pelt.c`); of equals it is the first core. There it stays. Packets are soft interrupts and come before it,
//! so it ends later by the packet work that its core did meanwhile.
//!
//! Replacing an xtables table stops no packets on other cores: the new table is put in place by one write, and each core's
//! count of writers (`xt_recseq`, `net/netfilter/x_tables.c:xt_replace_table`) is only waited for by the one who replaces.
//!
//! Left out: moving the thread to another core while it runs, the tools' own parallelism, other programs.

use sim_core::classify::Packet;
use sim_core::classify::hash::{jhash_3words, reciprocal_scale};
use sim_core::units::{SimSpan, SimTime};
use std::net::IpAddr;

/// Time in which past work comes to count half, a power of two of milliseconds (`LOAD_AVG_PERIOD`).
const HALF_LIFE: SimSpan = SimSpan::from_ms(32);

/// When a core took up a packet and when it was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Time waited for the core.
    pub wait: SimSpan,
    /// When the packet leaves.
    pub done: SimTime,
}

/// One core.
#[derive(Clone, Copy, Debug, Default)]
struct Core {
    busy_until: SimTime,
    /// Packet work taken on so far.
    taken: SimSpan,
    /// The same with the past counting less, and when that was reckoned.
    recent: (u64, SimTime),
}

impl Core {
    /// Packet work done until `now`.
    fn done(&self, now: SimTime) -> SimSpan {
        self.taken - SimSpan::from_ns(self.busy_until.as_ns().saturating_sub(now.as_ns()))
    }

    fn recent(&self, now: SimTime) -> u64 {
        let (work, at) = self.recent;
        work >> (now.since(at).as_ns() / HALF_LIFE.as_ns()).min(63)
    }
}

/// The cores of one node.
#[derive(Clone, Debug)]
pub(super) struct Cores(Vec<Core>);

impl Cores {
    pub(super) fn new(cores: u32) -> Self {
        Cores(vec![Core::default(); cores as usize])
    }

    /// Charges `work` to the core of `packet`'s flow.
    pub(super) fn serve(&mut self, packet: &Packet, work: SimSpan, now: SimTime) -> Served {
        let at = self.of(packet);
        let core = &mut self.0[at];
        let start = core.busy_until.max(now);
        let done = start + work;
        core.busy_until = done;
        core.taken += work;
        core.recent = match core.recent {
            // Reckoned anew once a half-life, so that what is left of one is not lost each time.
            (sum, since) if now.since(since) < HALF_LIFE => (sum + work.as_ns(), since),
            _ => (core.recent(now) + work.as_ns(), now),
        };
        Served { wait: start.since(now), done }
    }

    /// The core of a packet's flow.
    pub(super) fn of(&self, packet: &Packet) -> usize {
        let word = |ip: IpAddr| match ip {
            IpAddr::V4(a) => u32::from(a),
            IpAddr::V6(a) => {
                let bits = u128::from(a);
                (bits ^ (bits >> 32) ^ (bits >> 64) ^ (bits >> 96)) as u32
            }
        };
        let ports = u32::from(packet.sport) << 16 | u32::from(packet.dport);
        let hash = jhash_3words(word(packet.src), word(packet.dst), ports, 0);
        reciprocal_scale(hash, self.0.len() as u32) as usize
    }

    /// Packet work that core `at` has done until `now`.
    pub(super) fn done(&self, at: usize, now: SimTime) -> SimSpan {
        self.0[at].done(now)
    }

    /// The core with the least packet work lately.
    pub(super) fn quietest(&self, now: SimTime) -> usize {
        let all = self.0.iter().enumerate();
        all.min_by_key(|(at, core)| (core.recent(now), *at)).map_or(0, |(at, _)| at)
    }
}
