//! `counter`: counts packets and bytes, one pair a CPU (`net/netfilter/nft_counter.c:nft_counter_eval`). What it has
//! counted is not kept: an observer of the path sees which rules got that far.

use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter;

impl Counter {
    /// Runs it.
    #[inline]
    pub fn eval(&self, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftCounter] += 1;
    }
}
