//! `lc`: the fewest connections (`ip_vs_lc.c`). Looks at every destination; the first wins a tie.

use super::{Dest, ScheduleCx, Scheduler};

/// Least connections.
#[derive(Debug, Default)]
pub struct LeastConnections;

impl Scheduler for LeastConnections {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        let eligible = dests.iter().enumerate().filter(|(_, d)| d.is_eligible());
        eligible.min_by_key(|(_, d)| d.overhead(cx.overhead)).map(|(at, _)| at)
    }
}
