//! What matches remember from packet to packet, beside the lists of [`super::recent`]: credits of `-m limit` and
//! counts of `-m statistic --mode nth`.
//!
//! Each such match has its own place, by its order in the rules. A node keeps this with its connections, since compiled
//! rules do not change.
//!
//! Left out: that loading rules anew starts every one of them afresh (`xt_limit.c:limit_mt_check`,
//! `xt_statistic.c:statistic_mt_check`): here a place keeps what it held.

use super::extra::limit::Credit;
use sim_core::units::SimTime;

/// Ticks a second. Distributions build kernels with 250 or 1,000.
pub const HZ: u32 = 250;

/// The kernel's clock of ticks.
pub(super) fn jiffies(at: SimTime) -> u64 {
    at.as_ns() / (1_000_000_000 / u64::from(HZ))
}

/// The state of one node's matches.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    limits: Vec<Option<Credit>>,
    counts: Vec<Option<u32>>,
}

impl Memory {
    /// The credit at `place`; `full` if no packet has come there yet.
    pub(super) fn credit(&mut self, place: usize, full: impl FnOnce() -> Credit) -> &mut Credit {
        at(&mut self.limits, place).get_or_insert_with(full)
    }

    /// The count at `place`, which begins at `first`.
    pub(super) fn count(&mut self, place: usize, first: u32) -> &mut u32 {
        at(&mut self.counts, place).get_or_insert(first)
    }
}

fn at<T>(places: &mut Vec<Option<T>>, place: usize) -> &mut Option<T> {
    if places.len() <= place {
        places.resize_with(place + 1, || None);
    }
    &mut places[place]
}
