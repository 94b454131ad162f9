//! `sh`: by a hash of the client's address (`ip_vs_sh.c`).
//!
//! 256 buckets are filled with the destinations in list order, each as many times in a row as it weighs; the
//! hash is multiplicative, so neighbouring clients spread well. Without `sh-fallback` a bucket whose
//! destination takes no connections serves nobody.

use super::super::service_table::fold;
use super::{Dest, DestChange, ScheduleCx, Scheduler};
use sim_core::classify::hash::hash_32;

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;

/// Source hashing.
#[derive(Debug, Default)]
pub struct SourceHashing {
    /// Positions by bucket; empty until built.
    buckets: Vec<u32>,
}

/// Each of `count` buckets gets a position: in list order, `repeat` times in a row, round and round.
pub(super) fn fill(dests: &[Dest], count: usize, repeat: impl Fn(&Dest) -> u32) -> Vec<u32> {
    let one_round = dests.iter().zip(0u32..).flat_map(|(d, at)| (0..repeat(d).max(1)).map(move |_| at));
    one_round.cycle().take(if dests.is_empty() { 0 } else { count }).collect()
}

impl Scheduler for SourceHashing {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        if self.buckets.is_empty() {
            self.buckets = fill(dests, BUCKETS, |d| d.weight);
            if self.buckets.is_empty() {
                return None;
            }
        }
        let port = if cx.flags.port { u32::from(cx.packet.sport) } else { 0 };
        let folded = hash_32(port.wrapping_add(fold(cx.packet.src)), BITS) as usize;
        let at = |offset: usize| self.buckets[(folded + offset) % BUCKETS] as usize;
        cx.looked_at(1);
        if dests[at(0)].is_eligible() {
            return Some(at(0));
        }
        if !cx.flags.fallback {
            return None;
        }
        for offset in 0..BUCKETS {
            cx.looked_at(1);
            // The kernel starts the offsets at the first hash and adds the hash again.
            let other = at((offset + folded) % BUCKETS);
            if dests[other].is_eligible() {
                return Some(other);
            }
        }
        None
    }

    fn changed(&mut self, _dests: &[Dest], _change: DestChange) {
        self.buckets.clear();
    }
}
