//! `payload`: loads a header field (`net/netfilter/nf_tables_core.c:nft_payload_fast_eval` for 1, 2 and 4 bytes,
//! `net/netfilter/nft_payload.c:nft_payload_eval` for the rest).
//!
//! Left out: fields that kube-proxy does not look at, and the break for packets too short to hold the field.

use super::Regs;
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::linearize::{addr_words, port_word};
use sim_core::classify::Unit;

/// Which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Source address.
    SrcAddr,
    /// Destination address.
    DstAddr,
    /// Transport destination port.
    DstPort,
}

/// Load the first `len` bytes of a field into registers from `dreg` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Field.
    pub load: Load,
    /// Bytes.
    pub len: u8,
    /// First register.
    pub dreg: u8,
}

impl Payload {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftPayload] += 1;
        let addr = match self.load {
            Load::DstPort => {
                regs.0[usize::from(self.dreg)] = port_word(cx.packet.dport);
                return;
            }
            Load::SrcAddr => cx.packet.src,
            Load::DstAddr => cx.packet.dst,
        };
        let mut words = addr_words(addr);
        if self.len <= 4 {
            // The kernel zeroes the last word before it copies fewer than four bytes.
            regs.0[usize::from(self.dreg)] = words[0] & keep(self.len);
            return;
        }
        cx.work[Unit::NftLong] += 1;
        for (i, w) in words.iter_mut().enumerate() {
            *w &= keep(self.len.saturating_sub(4 * i as u8));
        }
        regs.set_wide(self.dreg, words);
    }
}

/// Mask of the first `bytes` bytes of a word.
#[inline]
fn keep(bytes: u8) -> u32 {
    if bytes >= 4 { u32::MAX } else { (1u32 << (8 * bytes)) - 1 }
}
