//! `ovf`: the heaviest destination until it has more active connections than weight, then the next
//! (`ip_vs_ovf.c`).

use super::{Dest, ScheduleCx, Scheduler};
use std::cmp::Reverse;

/// Overflow.
#[derive(Debug, Default)]
pub struct Overflow;

impl Scheduler for Overflow {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        let eligible = dests.iter().enumerate().filter(|(_, d)| d.is_eligible() && d.active <= d.weight);
        eligible.min_by_key(|(_, d)| Reverse(d.weight)).map(|(at, _)| at)
    }
}
