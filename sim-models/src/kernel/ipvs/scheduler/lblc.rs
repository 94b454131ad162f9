//! `lblc`: the destination that served this address before, while it is not overloaded (`ip_vs_lblc.c`).
//!
//! A cache from the called address to a destination; a miss or an overload chooses as `wlc` does. With one
//! address a service, as in Kubernetes, the cache has one entry and the service sticks to one destination.
//!
//! Departure: an entry idle for a day is forgotten at its next use instead of within the next half hour; the
//! cache's limit of 16,384 addresses cannot be reached with one address a service.

use super::{Dest, ScheduleCx, Scheduler, least_by_weight};
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Idle time after which the cache forgets an address.
pub(super) const EXPIRATION: SimSpan = SimSpan::from_secs(24 * 60 * 60);

/// Locality-based least connections.
#[derive(Debug, Default)]
pub struct LocalityLeastConnections {
    cache: BTreeMap<IpAddr, (u32, SimTime)>,
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
        if let Some(&(slot, used)) = self.cache.get(&addr)
            && used + EXPIRATION > cx.now
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
