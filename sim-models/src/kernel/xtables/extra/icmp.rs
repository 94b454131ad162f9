//! `-m icmp --icmp-type` and `-m icmp6 --icmpv6-type` (`net/ipv4/netfilter/ip_tables.c:icmp_match`,
//! `net/ipv6/netfilter/ip6_tables.c:icmp6_match`).
//!
//! Types are read by name or number and printed as numbers, as `libipt_icmp.c` and `libip6t_icmp6.c` do.

use super::{MatchExt, not, only_for};
use crate::kernel::dump::decimal;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Proto, Unit};
use std::fmt::{self, Write};

/// A type and, if said, a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// Over IPv4, 255 is any.
    pub kind: u8,
    /// `None` for any.
    pub code: Option<u8>,
    /// Negated.
    pub invert: bool,
}

/// Over IPv4 this type is any.
const ANY: u8 = 255;

/// Names of `libxt_icmp.h` with type and, where it says one, code.
const NAMES_V4: &[(&str, u8, Option<u8>)] = &[
    ("any", ANY, None),
    ("echo-reply", 0, None),
    ("pong", 0, None),
    ("destination-unreachable", 3, None),
    ("network-unreachable", 3, Some(0)),
    ("host-unreachable", 3, Some(1)),
    ("protocol-unreachable", 3, Some(2)),
    ("port-unreachable", 3, Some(3)),
    ("fragmentation-needed", 3, Some(4)),
    ("source-route-failed", 3, Some(5)),
    ("network-prohibited", 3, Some(9)),
    ("host-prohibited", 3, Some(10)),
    ("communication-prohibited", 3, Some(13)),
    ("source-quench", 4, None),
    ("redirect", 5, None),
    ("echo-request", 8, None),
    ("ping", 8, None),
    ("router-advertisement", 9, None),
    ("router-solicitation", 10, None),
    ("time-exceeded", 11, None),
    ("ttl-exceeded", 11, None),
    ("ttl-zero-during-transit", 11, Some(0)),
    ("ttl-zero-during-reassembly", 11, Some(1)),
    ("parameter-problem", 12, None),
    ("timestamp-request", 13, None),
    ("timestamp-reply", 14, None),
    ("address-mask-request", 17, None),
    ("address-mask-reply", 18, None),
];

const NAMES_V6: &[(&str, u8, Option<u8>)] = &[
    ("destination-unreachable", 1, None),
    ("no-route", 1, Some(0)),
    ("communication-prohibited", 1, Some(1)),
    ("address-unreachable", 1, Some(3)),
    ("port-unreachable", 1, Some(4)),
    ("packet-too-big", 2, None),
    ("time-exceeded", 3, None),
    ("ttl-exceeded", 3, None),
    ("ttl-zero-during-transit", 3, Some(0)),
    ("ttl-zero-during-reassembly", 3, Some(1)),
    ("parameter-problem", 4, None),
    ("bad-header", 4, Some(0)),
    ("unknown-header-type", 4, Some(1)),
    ("unknown-option", 4, Some(2)),
    ("echo-request", 128, None),
    ("ping", 128, None),
    ("echo-reply", 129, None),
    ("pong", 129, None),
    ("router-solicitation", 133, None),
    ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None),
    ("neighbor-solicitation", 135, None),
    ("neighbour-advertisement", 136, None),
    ("neighbor-advertisement", 136, None),
    ("redirect", 137, None),
];

impl Icmp {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let (wanted, names) = match family {
            Family::Ipv4 => ("--icmp-type", NAMES_V4),
            Family::Ipv6 => ("--icmpv6-type", NAMES_V6),
        };
        let Some((invert, option)) = args.option() else { return Ok(None) };
        if !option.is(wanted) {
            return Ok(None);
        }
        let word = args.value()?;
        if let Some(&(_, kind, code)) = names.iter().find(|(name, ..)| *name == word.text) {
            return Ok(args.all(Icmp { kind, code, invert }));
        }
        let (kind, code) = match word.text.split_once('/') {
            Some((kind, code)) => (decimal(kind), decimal(code).map(Some)),
            None => (decimal(&word.text), Some(None)),
        };
        match (kind, code) {
            (Some(kind), Some(code)) => Ok(args.all(Icmp { kind, code, invert })),
            // Rarer names stay text.
            _ if word.text.starts_with(|c: char| c.is_ascii_alphabetic()) => Ok(None),
            _ => fault(word.start, format!("{:?} is no type like 8 or 3/4", word.text)),
        }
    }
}

impl MatchExt for Icmp {
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result {
        let (name, option) = match family {
            Family::Ipv4 => ("icmp", "icmp-type"),
            Family::Ipv6 => ("icmp6", "icmpv6-type"),
        };
        write!(out, " {name}{} --{option} ", not(self.invert))?;
        match self.code {
            _ if self.kind == ANY && family == Family::Ipv4 => out.write_str("any"),
            None => write!(out, "{}", self.kind),
            Some(code) => write!(out, "{}/{code}", self.kind),
        }
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        if cx.packet.detail.fragment != 0 {
            return false;
        }
        if cx.packet.detail.truncated {
            cx.hotdrop = true;
            return false;
        }
        let (kind, code) = cx.packet.detail.icmp;
        let any = self.kind == ANY && cx.packet.family() == Family::Ipv4;
        let fits = any || (self.kind == kind && self.code.is_none_or(|wanted| wanted == code));
        fits != self.invert
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        only_for(&at, &[if at.family == Family::Ipv4 { Proto::Icmp } else { Proto::Icmpv6 }])
    }
}
