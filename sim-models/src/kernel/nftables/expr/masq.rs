//! `masq`: asks for the source to be rewritten to an address of the outgoing device
//! (`net/netfilter/nft_masq.c:nft_masq_eval`), and ends the base chain with accept.

use super::Flow;
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::Verdict;
use sim_core::classify::Unit;

/// Masquerade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masq {
    /// `fully-random`.
    pub fully_random: bool,
}

impl Masq {
    /// Runs it.
    #[inline]
    pub fn eval(&self, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftNat] += 1;
        cx.nat.masquerade = Some(self.fully_random);
        Flow::Verdict(Verdict::Accept)
    }
}
