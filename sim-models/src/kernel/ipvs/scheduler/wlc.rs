//! `wlc`: the fewest connections for the weight (`ip_vs_wlc.c`).

use super::{Dest, ScheduleCx, Scheduler, least_by_weight};

/// Weighted least connections.
#[derive(Debug, Default)]
pub struct WeightedLeastConnections;

impl Scheduler for WeightedLeastConnections {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        least_by_weight(dests, |d| d.overhead(cx.overhead))
    }
}
