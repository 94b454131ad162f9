//! `lblcr`: as `lblc`, with a set of destinations for each address (`ip_vs_lblcr.c`).
//!
//! The least loaded of the set serves; when it is overloaded the least loaded of all joins the set. A set
//! that has not changed for a day loses its most loaded member at the next use.
//!
//! The timer is that of `lblc`.
//!
//! Departure: a destination that is deleted leaves the sets at once; the kernel keeps it in them, passed over, until
//! it is their most loaded member or returns.

use super::lblc::{EXPIRATION, IdleTimer, overloaded};
use super::{Dest, ScheduleCx, Scheduler, least_by_weight};
use sim_core::units::SimTime;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug)]
struct Entry {
    /// Slots of its destinations, newest first.
    set: Vec<u32>,
    changed: SimTime,
    used: SimTime,
}

/// Locality-based least connections with replication.
#[derive(Debug, Default)]
pub struct LocalityWithReplication {
    timer: IdleTimer,
    #[allow(
        clippy::box_collection,
        reason = "the state of any scheduler shares one cache line with its service"
    )]
    cache: Box<BTreeMap<IpAddr, Entry>>,
}

impl Scheduler for LocalityWithReplication {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        let addr = cx.packet.dst;
        let formula = cx.overhead;
        let checked = self.timer.last_check(cx.now);
        self.cache.retain(|_, entry| entry.used + EXPIRATION > checked);
        if let Some(entry) = self.cache.get_mut(&addr) {
            entry.used = cx.now;
            entry.set.retain(|slot| dests.iter().any(|d| d.slot == *slot));
            cx.looked_at(entry.set.len());
            let at = |slot: &u32| dests.iter().position(|d| d.slot == *slot).expect("just checked");
            let members: Vec<usize> = entry.set.iter().map(at).collect();
            let of_set: Vec<Dest> = members.iter().map(|&at| dests[at]).collect();
            let least = least_by_weight(&of_set, |d| d.overhead(formula)).map(|n| members[n]);
            if entry.set.len() > 1 && cx.now > entry.changed + EXPIRATION {
                cx.looked_at(entry.set.len());
                if let Some(most) = most_by_weight(&of_set, |d| d.overhead(formula)) {
                    entry.set.remove(most);
                    entry.changed = cx.now;
                }
            }
            if let Some(at) = least.filter(|&at| !overloaded(cx, dests, at)) {
                return Some(at);
            }
        }
        cx.looked_at(dests.len());
        let at = least_by_weight(dests, |d| d.overhead(formula))?;
        let (slot, now) = (dests[at].slot, cx.now);
        let entry = self.cache.entry(addr).or_insert(Entry { set: Vec::new(), changed: now, used: now });
        if !entry.set.contains(&slot) {
            entry.set.insert(0, slot);
            entry.changed = now;
        }
        Some(at)
    }
}

/// The eligible destination with the greatest `load / weight`, the first on a tie.
fn most_by_weight(dests: &[Dest], load: impl Fn(&Dest) -> u64) -> Option<usize> {
    let mut best = dests.iter().position(|d| d.weight > 0)?;
    for (at, dest) in dests.iter().enumerate().skip(best + 1).filter(|(_, d)| d.weight > 0) {
        let worst = &dests[best];
        if load(worst) * u64::from(dest.weight) < load(dest) * u64::from(worst.weight) {
            best = at;
        }
    }
    Some(best)
}
