//! `dh`: by a hash of the address that the client called (`ip_vs_dh.c`).
//!
//! Meant for caches behind a firewall mark: with one address a service, as in Kubernetes, one destination
//! gets everything. 256 buckets are filled with the destinations in turn, whatever they weigh.

use super::super::service_table::fold;
use super::sh::fill;
use super::{Dest, DestChange, ScheduleCx, Scheduler};
use sim_core::classify::hash::hash_32;

const BITS: u32 = 8;

/// Destination hashing.
#[derive(Debug, Default)]
pub struct DestinationHashing {
    buckets: Vec<u32>,
}

impl Scheduler for DestinationHashing {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        if self.buckets.is_empty() {
            self.buckets = fill(dests, 1 << BITS, |_| 1);
        }
        let at = *self.buckets.get(hash_32(fold(cx.packet.dst), BITS) as usize)? as usize;
        cx.looked_at(1);
        dests[at].is_eligible().then_some(at)
    }

    fn changed(&mut self, _dests: &[Dest], _change: DestChange) {
        self.buckets.clear();
    }
}
