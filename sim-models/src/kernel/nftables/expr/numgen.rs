//! `numgen random mod N`: one random draw scaled to below N (`net/netfilter/nft_numgen.c:nft_ng_random_gen`,
//! through `reciprocal_scale`). Left out: `numgen inc`.

use super::Regs;
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Generate a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numgen {
    /// Numbers are below this.
    pub modulus: u32,
    /// Register.
    pub dreg: u8,
}

impl Numgen {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftNumgen] += 1;
        regs.0[usize::from(self.dreg)] = cx.random.below(self.modulus, cx.work);
    }
}
