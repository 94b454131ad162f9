//! `meta`: loads or sets a property of the packet (`net/netfilter/nft_meta.c:nft_meta_get_eval`,
//! `nft_meta_set_eval`).
//!
//! Departure: a device has a name here and no index. Loopback's is 1, as everywhere; the others' follow from their names
//! ([`iface_index`]), so that `iif eth0` is true where it is. Left out: the keys of [`MetaKey`] that do not stand there,
//! among them all that depend on time, cgroups and bridges.

use super::{Flow, Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Family;
use sim_core::classify::hash::jhash;

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

/// The index that stands for a device: 0 for none, 1 for loopback.
pub fn iface_index(name: &str) -> u32 {
    match name {
        "" => 0,
        "lo" => 1,
        other => jhash(other.as_bytes(), 0) >> 1 | 1 << 30,
    }
}

/// What to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// `l4proto`.
    L4Proto,
    /// `nfproto`: 2 for IPv4, 10 for IPv6.
    NfProto,
    /// `protocol`: the type of the frame's payload.
    Protocol,
    /// `mark`.
    Mark,
    /// `iif`: the incoming device's index.
    Iif,
    /// `oif`.
    Oif,
    /// `iifname`, in four registers; without an incoming device they are zero.
    IifName,
    /// `oifname`.
    OifName,
    /// `skuid`: the user of the packet's socket. A packet that came in has no socket, which breaks; those made here are
    /// root's.
    SkUid,
}

impl MetaKey {
    /// Its name in nft's netlink dump.
    pub fn name(self) -> &'static str {
        match self {
            MetaKey::L4Proto => "l4proto",
            MetaKey::NfProto => "nfproto",
            MetaKey::Protocol => "protocol",
            MetaKey::Mark => "mark",
            MetaKey::Iif => "iif",
            MetaKey::Oif => "oif",
            MetaKey::IifName => "iifname",
            MetaKey::OifName => "oifname",
            MetaKey::SkUid => "skuid",
        }
    }
}

/// A meta key and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// A key into registers.
    Load {
        /// Which.
        key: MetaKey,
        /// First register.
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
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) -> Flow {
        let (key, dreg) = match *self {
            Meta::Load { key, dreg } => (key, dreg),
            Meta::SetMark { sreg } => {
                cx.packet.mark = regs.get(sreg);
                return Flow::Continue;
            }
        };
        let word = match key {
            MetaKey::L4Proto => u32::from(cx.packet.proto.number()),
            MetaKey::Mark => cx.packet.mark,
            MetaKey::IifName => {
                regs.set_wide(dreg, iface_words(cx.in_iface));
                return Flow::Continue;
            }
            MetaKey::OifName => {
                regs.set_wide(dreg, iface_words(cx.out_iface));
                return Flow::Continue;
            }
            MetaKey::Iif => iface_index(cx.in_iface),
            MetaKey::Oif => iface_index(cx.out_iface),
            MetaKey::NfProto => {
                if cx.packet.family() == Family::Ipv4 {
                    2
                } else {
                    10
                }
            }
            MetaKey::Protocol => {
                let ether: u16 = if cx.packet.family() == Family::Ipv4 { 0x0800 } else { 0x86dd };
                u32::from(ether.swap_bytes())
            }
            MetaKey::SkUid if cx.in_iface.is_empty() => 0,
            MetaKey::SkUid => return Flow::Break,
        };
        regs.set(dreg, word);
        Flow::Continue
    }
}
