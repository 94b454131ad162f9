//! Matches on one value of the IP header: `ttl` and `hl`, `length`, `pkttype`
//! (`net/netfilter/xt_hl.c`, `xt_length.c`, `xt_pkttype.c`).
//!
//! Left out: that the link layer can say of a packet that it was for all or for others; its address says it here.

use super::{MatchExt, not};
use crate::kernel::dump::decimal;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// How a time to live is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `eq`.
    Equal,
    /// `! eq`.
    NotEqual,
    /// `lt`.
    Less,
    /// `gt`.
    Greater,
}

/// `-m ttl --ttl-lt 5`, over IPv6 `-m hl --hl-lt 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// How.
    pub compare: Compare,
    /// With what.
    pub value: u8,
}

/// `-m length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Length {
    /// Least and most bytes of the packet, its IP header included.
    pub range: (u16, u16),
    /// Negated.
    pub invert: bool,
}

/// `-m pkttype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pkttype {
    /// For whom packets are that match.
    pub to: For,
    /// Negated.
    pub invert: bool,
}

/// For whom a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum For {
    /// This machine.
    Unicast,
    /// All.
    Broadcast,
    /// A group.
    Multicast,
}

impl Ttl {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let Some((invert, word)) = args.option() else { return Ok(None) };
        let option = word.text.trim_start_matches("--ttl").trim_start_matches("--hl");
        let compare = match (option, invert) {
            ("-eq", false) => Compare::Equal,
            ("-eq", true) => Compare::NotEqual,
            ("-lt", false) => Compare::Less,
            ("-gt", false) => Compare::Greater,
            _ => return Ok(None),
        };
        let word = args.value()?;
        let Some(value) = decimal(&word.text) else {
            return fault(word.start, format!("{:?} is no time to live from 0 to 255", word.text));
        };
        Ok(args.all(Ttl { compare, value }))
    }
}

impl MatchExt for Ttl {
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result {
        let name = if family == Family::Ipv4 { "ttl" } else { "hl" };
        let (not, option) = match self.compare {
            Compare::Equal => ("", "eq"),
            Compare::NotEqual => (" !", "eq"),
            Compare::Less => ("", "lt"),
            Compare::Greater => ("", "gt"),
        };
        write!(out, " {name}{not} --{name}-{option} {}", self.value)
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let ttl = cx.packet.detail.ttl;
        match self.compare {
            Compare::Equal => ttl == self.value,
            Compare::NotEqual => ttl != self.value,
            Compare::Less => ttl < self.value,
            Compare::Greater => ttl > self.value,
        }
    }
}

impl Length {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        match args.option() {
            Some((invert, word)) if word.is("--length") => {
                let range = crate::kernel::xtables::parse::args::ports(args.value()?)?;
                Ok(args.all(Length { range, invert }))
            }
            _ => Ok(None),
        }
    }
}

impl MatchExt for Length {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        let (low, high) = self.range;
        write!(out, " length{} --length {}", not(self.invert), super::colon((low.into(), high.into())))
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let length = cx.packet.detail.length;
        (self.range.0 <= length && length <= self.range.1) != self.invert
    }
}

impl Pkttype {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        match args.option() {
            Some((invert, word)) if word.is("--pkt-type") => {
                let to = match &*args.value()?.text {
                    "unicast" | "host" => For::Unicast,
                    "broadcast" => For::Broadcast,
                    "multicast" => For::Multicast,
                    _ => return Ok(None),
                };
                Ok(args.all(Pkttype { to, invert }))
            }
            _ => Ok(None),
        }
    }
}

impl MatchExt for Pkttype {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        let to = match self.to {
            For::Unicast => "unicast",
            For::Broadcast => "broadcast",
            For::Multicast => "multicast",
        };
        write!(out, " pkttype{} --pkt-type {to}", not(self.invert))
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let to = match cx.packet.dst {
            IpAddr::V4(dst) if dst.is_broadcast() => For::Broadcast,
            dst if dst.is_multicast() => For::Multicast,
            _ => For::Unicast,
        };
        (to == self.to) != self.invert
    }
}
