//! `cmp`: compares registers with a constant and breaks if they do not fit
//! (`net/netfilter/nf_tables_core.c:nft_cmp_fast_eval`, `nft_cmp16_fast_eval`). Left out: less and greater.

use super::{Flow, Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Compare a register, or four, with a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Up to four bytes.
    Word {
        /// Register.
        sreg: u8,
        /// Constant.
        value: u32,
        /// Not equal.
        neq: bool,
    },
    /// Up to sixteen bytes.
    Wide {
        /// First register.
        sreg: u8,
        /// Constant.
        words: Box<Words>,
        /// Not equal.
        neq: bool,
    },
}

impl Cmp {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &Regs, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftCmp] += 1;
        let holds = match self {
            Cmp::Word { sreg, value, neq } => (regs.0[usize::from(*sreg)] == *value) != *neq,
            Cmp::Wide { sreg, words, neq } => (regs.wide(*sreg) == **words) != *neq,
        };
        if holds { Flow::Continue } else { Flow::Break }
    }
    /// Bytes in a rule: `cmp_fast` or `cmp16_fast`.
    pub fn size(&self) -> u32 {
        if matches!(self, Cmp::Word { .. }) { 24 } else { 48 }
    }
}
