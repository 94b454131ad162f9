//! `lblc`: the destination that served this address before, while it is not overloaded (`ip_vs_lblc.c`).
//!
//! A cache from the called address to a destination; a miss or an overload chooses as `wlc` does. With one
//! address a service, as in Kubernetes, the cache has one entry and the service sticks to one destination.
//!
//! A timer looks at the cache each minute, and every thirtieth time, half an hour after the service began to be used
//! and every half hour since, it forgets addresses idle for a day. In between it evicts only above 16,384 addresses,
//! which one address a service does not reach.

use super::{Dest, ScheduleCx, Scheduler, least_by_weight};
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Idle time after which the cache forgets an address (`DEFAULT_EXPIRATION`).
pub(super) const EXPIRATION: SimSpan = SimSpan::from_secs(24 * 60 * 60);
/// Time between two looks for idle addresses: `COUNT_FOR_FULL_EXPIRATION` times `CHECK_EXPIRE_INTERVAL`.
const FULL_CHECK: SimSpan = SimSpan::from_secs(30 * 60);

/// The timer that forgets idle addresses; runs from its first use.
#[derive(Debug, Default)]
pub(super) struct IdleTimer {
    since: Option<SimTime>,
}

impl IdleTimer {
    /// When it last looked.
    pub fn last_check(&mut self, now: SimTime) -> SimTime {
        let since = *self.since.get_or_insert(now);
        let passed = now.as_ns() - since.as_ns();
        SimTime::from_ns(since.as_ns() + passed / FULL_CHECK.as_ns() * FULL_CHECK.as_ns())
    }
}

/// Locality-based least connections.
#[derive(Debug, Default)]
pub struct LocalityLeastConnections {
    timer: IdleTimer,
    #[allow(
        clippy::box_collection,
        reason = "the state of any scheduler shares one cache line with its service"
    )]
    cache: Box<BTreeMap<IpAddr, (u32, SimTime)>>,
}

/// Whether `at` has more active connections than weight while another has less than half of its own weight.
/// Counts the destinations compared.
pub(super) fn overloaded(cx: &mut ScheduleCx<'_>, dests: &[Dest], at: usize) -> bool {
    if dests[at].active <= dests[at].weight {
        return false;
    }
    let idle = dests.iter().position(|d| u64::from(d.active) * 2 < u64::from(d.weight));
    cx.looked_at(idle.map_or(dests.len(), |n| n + 1));
    idle.is_some()
}

impl Scheduler for LocalityLeastConnections {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        let addr = cx.packet.dst;
        let checked = self.timer.last_check(cx.now);
        if let Some(&(slot, used)) = self.cache.get(&addr)
            && used + EXPIRATION > checked
        {
            cx.looked_at(1);
            self.cache.insert(addr, (slot, cx.now));
            let known = dests.iter().position(|d| d.slot == slot && d.weight > 0);
            if let Some(at) = known.filter(|&at| !overloaded(cx, dests, at)) {
                return Some(at);
            }
        }
        cx.looked_at(dests.len());
        let at = least_by_weight(dests, |d| d.overhead(cx.overhead))?;
        self.cache.insert(addr, (dests[at].slot, cx.now));
        Some(at)
    }
}
