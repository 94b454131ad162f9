//! `nq`: the first idle destination, else as `sed` (`ip_vs_nq.c`).
//!
//! UDP connections are never active, so for UDP every packet's flow goes to the first destination of the list.

use super::{Dest, ScheduleCx, Scheduler, least_by_weight};

/// Never queue.
#[derive(Debug, Default)]
pub struct NeverQueue;

impl Scheduler for NeverQueue {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        if let Some(idle) = dests.iter().position(|d| d.is_eligible() && d.active == 0) {
            cx.looked_at(idle + 1);
            return Some(idle);
        }
        cx.looked_at(dests.len());
        least_by_weight(dests, |d| u64::from(d.active) + 1)
    }
}
