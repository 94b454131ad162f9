//! `sed`: the shortest expected delay, (active + 1) / weight (`ip_vs_sed.c`).
//!
//! UDP connections are never active, so for UDP it always takes the heaviest, first destination.

use super::{Dest, ScheduleCx, Scheduler, least_by_weight};

/// Shortest expected delay.
#[derive(Debug, Default)]
pub struct ShortestExpectedDelay;

impl Scheduler for ShortestExpectedDelay {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        least_by_weight(dests, |d| u64::from(d.active) + 1)
    }
}
