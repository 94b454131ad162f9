//! `payload`: loads header bytes (`net/netfilter/nf_tables_core.c:nft_payload_fast_eval` for 1, 2 and 4 bytes,
//! `net/netfilter/nft_payload.c:nft_payload_eval` for the rest).
//!
//! Left out: link layer and inner headers, header fields that a [`Packet`](sim_core::classify::Packet) does not hold
//! (they are no [`Load`]). The transport header of a packet that is neither TCP nor UDP nor SCTP reads as zero.

use super::{Flow, Regs};
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::linearize::{addr_words, port_word};
use sim_core::classify::{TcpFlags, Unit};
use std::net::IpAddr;

/// Which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// Source address.
    SrcAddr,
    /// Destination address.
    DstAddr,
    /// Transport source port.
    SrcPort,
    /// Transport destination port.
    DstPort,
    /// Both ports: the first four bytes of the transport header.
    Ports,
    /// The byte of TCP's flags.
    TcpFlags,
    /// The transport protocol's number in the network header.
    Protocol,
    /// Offset of a fragment, in IPv4's header; its flags are not known and read as zero.
    Fragment,
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
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) -> Flow {
        let p = &cx.packet;
        let word = match self.load {
            Load::SrcAddr => return self.address(p.src, regs, cx),
            Load::DstAddr => return self.address(p.dst, regs, cx),
            Load::Protocol => u32::from(p.proto.number()),
            Load::Fragment => port_word(p.detail.fragment),
            // Behind the first fragment, or where the packet ends before, there is no transport header.
            _ if p.detail.fragment != 0 || p.detail.truncated => return Flow::Break,
            Load::DstPort => port_word(p.dport),
            Load::SrcPort => port_word(p.sport),
            Load::Ports => port_word(p.sport) | port_word(p.dport) << 16,
            Load::TcpFlags => flag_byte(p.flags),
        };
        regs.set(self.dreg, word);
        Flow::Continue
    }

    #[inline]
    fn address(&self, addr: IpAddr, regs: &mut Regs, cx: &mut PacketCx<'_>) -> Flow {
        if let IpAddr::V4(a) = addr {
            // The kernel zeroes the last word before it copies fewer than four bytes.
            regs.set(self.dreg, u32::from_le_bytes(a.octets()) & keep(self.len));
            return Flow::Continue;
        }
        let mut words = addr_words(addr);
        if self.len <= 4 {
            regs.set(self.dreg, words[0] & keep(self.len));
            return Flow::Continue;
        }
        cx.work[Unit::NftLong] += 1;
        for (i, w) in words.iter_mut().enumerate() {
            *w &= keep(self.len.saturating_sub(4 * i as u8));
        }
        regs.set_wide(self.dreg, words);
        Flow::Continue
    }
}

/// TCP's flags as they stand in its header.
#[inline]
fn flag_byte(flags: TcpFlags) -> u32 {
    u32::from(flags.fin)
        | u32::from(flags.syn) << 1
        | u32::from(flags.rst) << 2
        | u32::from(flags.psh) << 3
        | u32::from(flags.ack) << 4
        | u32::from(flags.urg) << 5
}

/// Mask of the first `bytes` bytes of a word.
#[inline]
fn keep(bytes: u8) -> u32 {
    if bytes >= 4 { u32::MAX } else { (1u32 << (8 * bytes)) - 1 }
}
