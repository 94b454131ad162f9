//! `bitwise`: register & mask ^ xor (`net/netfilter/nf_tables_core.c:nft_bitwise_fast_eval` for one word,
//! `net/netfilter/nft_bitwise.c:nft_bitwise_eval` for more). Left out: shifts.

use super::{Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Mask and xor a register, or mask four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bitwise {
    /// One word.
    Word {
        /// Source register.
        sreg: u8,
        /// Destination register.
        dreg: u8,
        /// Bits kept.
        mask: u32,
        /// Bits flipped then.
        xor: u32,
    },
    /// Four words.
    Wide {
        /// First source register.
        sreg: u8,
        /// First destination register.
        dreg: u8,
        /// Bits kept.
        mask: Box<Words>,
    },
}

impl Bitwise {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) {
        match self {
            Bitwise::Word { sreg, dreg, mask, xor } => {
                regs.0[usize::from(*dreg)] = (regs.0[usize::from(*sreg)] & mask) ^ xor;
            }
            Bitwise::Wide { sreg, dreg, mask } => {
                cx.work[Unit::NftLong] += 1;
                let mut words = regs.wide(*sreg);
                for (w, m) in words.iter_mut().zip(mask.iter()) {
                    *w &= m;
                }
                regs.set_wide(*dreg, words);
            }
        }
    }
    /// Bytes in a rule: `nft_bitwise_fast_expr`, or `nft_bitwise` with three 16-byte values.
    pub fn size(&self) -> u32 {
        if matches!(self, Bitwise::Word { .. }) { 24 } else { 64 }
    }
}
