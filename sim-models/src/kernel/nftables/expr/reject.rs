//! `reject`: sends the family's port-unreachable error and drops
//! (`net/ipv4/netfilter/nft_reject_ipv4.c:nft_reject_ipv4_eval`). Building and sending the error is the path's
//! business, which counts it.

use super::Flow;
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::Refusal;
use sim_core::classify::Unit;

/// Reject: with the family's port-unreachable error, or what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject(pub Option<Refusal>);

impl Reject {
    /// Runs it.
    #[inline]
    pub fn eval(&self, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::TargetCalls] += 1;
        Flow::Reject
    }
}
