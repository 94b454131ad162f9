//! `rr`: the destinations in turn (`ip_vs_rr.c`).
//!
//! Continues after the destination used last, in list order, which is newest first. Under the service's lock.

use super::{Dest, DestChange, ScheduleCx, Scheduler};

/// Round robin.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// Position used last; `None` is the list's head, before the first.
    last: Option<usize>,
}

impl Scheduler for RoundRobin {
    #[inline]
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        let after = self.last.map_or(0, |at| at + 1);
        // From behind the last one to the end and round to the last one itself; from the head, once through.
        let order = (after..dests.len()).chain(0..after);
        for (looked, at) in order.enumerate() {
            if dests[at].is_eligible() {
                self.last = Some(at);
                cx.looked_at(looked + 1);
                return Some(at);
            }
        }
        cx.looked_at(dests.len());
        None
    }

    fn changed(&mut self, _dests: &[Dest], change: DestChange) {
        self.last = match (self.last, change) {
            (Some(at), DestChange::Added) => Some(at + 1),
            // The cursor of a removed destination falls back to the one before it.
            (Some(at), DestChange::Removed(gone)) if gone <= at => at.checked_sub(1),
            (last, _) => last,
        };
    }
}
