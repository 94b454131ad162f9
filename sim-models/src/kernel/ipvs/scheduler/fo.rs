//! `fo`: the heaviest destination takes everything while it lives (`ip_vs_fo.c`); the first wins a tie.

use super::{Dest, ScheduleCx, Scheduler};
use std::cmp::Reverse;

/// Weighted failover.
#[derive(Debug, Default)]
pub struct Failover;

impl Scheduler for Failover {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        let eligible = dests.iter().enumerate().filter(|(_, d)| d.is_eligible());
        eligible.min_by_key(|(_, d)| Reverse(d.weight)).map(|(at, _)| at)
    }
}
