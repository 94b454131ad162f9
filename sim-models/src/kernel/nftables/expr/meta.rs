//! `meta`: loads or sets a property of the packet (`net/netfilter/nft_meta.c:nft_meta_get_eval`,
//! `nft_meta_set_eval`). Left out: all keys but the transport protocol and the mark.

use super::Regs;
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// A meta key and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// `l4proto` into a register.
    LoadL4Proto {
        /// Register.
        dreg: u8,
    },
    /// `mark` into a register.
    LoadMark {
        /// Register.
        dreg: u8,
    },
    /// A register into `mark`.
    SetMark {
        /// Register.
        sreg: u8,
    },
}

impl Meta {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftMeta] += 1;
        match *self {
            Meta::LoadL4Proto { dreg } => regs.0[usize::from(dreg)] = u32::from(cx.packet.proto.number()),
            Meta::LoadMark { dreg } => regs.0[usize::from(dreg)] = cx.packet.mark,
            Meta::SetMark { sreg } => cx.packet.mark = regs.0[usize::from(sreg)],
        }
    }
}
