//! `meta`: loads or sets a property of the packet (`net/netfilter/nft_meta.c:nft_meta_get_eval`,
//! `nft_meta_set_eval`). Left out: all keys but the transport protocol, the mark and the incoming interface's name.

use super::{Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Bytes of an interface's name with its terminating zero (`IFNAMSIZ`).
pub const IFACE_NAME: usize = 16;

/// An interface's name as register words, padded with zeros. A name that is too long for an interface fills all its
/// bytes, so that it equals none.
pub fn iface_words(name: &str) -> Words {
    let mut bytes = [0; IFACE_NAME];
    let len = name.len().min(IFACE_NAME);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    let mut words = [0; 4];
    for (word, b) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    }
    words
}

/// A meta key and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// `l4proto` into a register.
    LoadL4Proto {
        /// Register.
        dreg: u8,
    },
    /// `iifname` into four registers; without an incoming interface they are zero.
    LoadInIface {
        /// First register.
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
            Meta::LoadInIface { dreg } => regs.set_wide(dreg, iface_words(cx.in_iface)),
            Meta::LoadMark { dreg } => regs.0[usize::from(dreg)] = cx.packet.mark,
            Meta::SetMark { sreg } => cx.packet.mark = regs.0[usize::from(sreg)],
        }
    }
}
