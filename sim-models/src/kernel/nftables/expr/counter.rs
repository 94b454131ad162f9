//! `counter`: counts packets and bytes, one pair a CPU (`net/netfilter/nft_counter.c:nft_counter_eval`). What it has
//! counted is not kept: an observer of the path sees which rules got that far.

/// Counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter;
