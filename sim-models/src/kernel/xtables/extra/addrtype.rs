//! `-m addrtype`: what the routing table says an address is (`net/netfilter/xt_addrtype.c`, revision 1).
//!
//! Over IPv4 one of the types listed must be the address's (`inet_dev_addr_type`, over the local table alone); over
//! IPv6 every type listed must fit it (`match_type6`), so that `UNICAST,LOCAL` means both.
//!
//! Left out: broadcast addresses of subnets, routes of type blackhole, unreachable, prohibit and throw: only addresses
//! decide. `--limit-iface-in` and `-out` ask whether the address is on that device; 127.0.0.0/8 is on `lo`, virtual
//! addresses are on `kube-ipvs0`, the node's own on any other device.

use super::{MatchExt, not};
use crate::kernel::hook::{Hook, PacketCx};
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, Word, fault};
use crate::kernel::xtables::{Match, Test};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Names of the types, by their bits (`enum` of `linux/netfilter/xt_addrtype.h`).
const NAMES: [&str; 12] = [
    "UNSPEC",
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
    "THROW",
    "NAT",
    "XRESOLVE",
];
const UNSPEC: u16 = 1;
const UNICAST: u16 = 1 << 1;
const LOCAL: u16 = 1 << 2;
const BROADCAST: u16 = 1 << 3;
const ANYCAST: u16 = 1 << 4;
const MULTICAST: u16 = 1 << 5;
const UNREACHABLE: u16 = 1 << 7;

/// Types of addresses, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Types(u16);

/// The device that an address must be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDevice {
    /// The one that the packet came in by.
    In,
    /// The one that it leaves by.
    Out,
}

/// Conditions; an absent one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addrtype {
    /// Types of the source.
    pub src: Option<Test<Types>>,
    /// Types of the destination.
    pub dst: Option<Test<Types>>,
    /// `--limit-iface-in` or `--limit-iface-out`.
    pub on: Option<OnDevice>,
}

impl Types {
    fn read(word: &Word<'_>) -> Result<Self, Fault> {
        let mut types = Types::default();
        for name in word.text.split(',') {
            match NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)) {
                Some(at) => types.0 |= 1 << at,
                None => {
                    let names = NAMES.join(", ");
                    return fault(word.start, format!("{name:?} is no type of address: {names}"));
                }
            }
        }
        Ok(types)
    }

    fn write(self, out: &mut dyn Write) -> fmt::Result {
        let mut comma = "";
        for (at, name) in NAMES.iter().enumerate().filter(|(at, _)| self.0 & 1 << at != 0) {
            debug_assert!(at < NAMES.len());
            write!(out, "{comma}{name}")?;
            comma = ",";
        }
        Ok(())
    }
}

impl Addrtype {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Addrtype { src: None, dst: None, on: None };
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                "--src-type" => read.src = Some(Test { invert, value: Types::read(args.value()?)? }),
                "--dst-type" => read.dst = Some(Test { invert, value: Types::read(args.value()?)? }),
                "--limit-iface-in" if !invert && read.on.is_none() => read.on = Some(OnDevice::In),
                "--limit-iface-out" if !invert && read.on.is_none() => read.on = Some(OnDevice::Out),
                _ => return Ok(None),
            }
        }
        Ok((read.src.is_some() || read.dst.is_some()).then_some(read))
    }

    /// kube-proxy's form of it, if it is that.
    pub(in crate::kernel::xtables) fn narrow(&self) -> Option<Match> {
        match *self {
            Addrtype { src: Some(test), dst: None, on: None } if test.value.0 == LOCAL => {
                Some(Match::AddrtypeLocal { src: true, invert: test.invert })
            }
            Addrtype { src: None, dst: Some(test), on: None } if test.value.0 == LOCAL => {
                Some(Match::AddrtypeLocal { src: false, invert: test.invert })
            }
            _ => None,
        }
    }

    fn is_local(&self, addr: IpAddr, cx: &PacketCx<'_>) -> bool {
        let device = match self.on {
            None => return cx.is_local(addr),
            Some(OnDevice::In) => cx.in_iface,
            Some(OnDevice::Out) => cx.out_iface,
        };
        if addr.is_loopback() {
            device == "lo"
        } else if cx.dummy_addrs.contains(&addr) {
            device == "kube-ipvs0"
        } else {
            cx.node.local_addrs.contains(&addr) && device != "lo" && device != "kube-ipvs0"
        }
    }

    fn fits_types(&self, types: Types, addr: IpAddr, cx: &PacketCx<'_>) -> bool {
        let has = |bits: u16| types.0 & bits != 0;
        match addr {
            IpAddr::V4(v4) => {
                let kind = if v4.is_broadcast() || v4.octets()[0] == 0 {
                    BROADCAST
                } else if v4.is_multicast() {
                    MULTICAST
                } else if self.is_local(addr, cx) {
                    LOCAL
                } else {
                    UNICAST
                };
                has(kind)
            }
            IpAddr::V6(v6) => {
                let is_unicast = !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback();
                if (has(MULTICAST) && !v6.is_multicast())
                    || (has(UNICAST) && !is_unicast)
                    || (has(UNSPEC) && !v6.is_unspecified())
                {
                    return false;
                }
                // The route is looked up only for these, and only the local one is known here.
                !has(LOCAL | ANYCAST | UNREACHABLE) || (has(LOCAL) && self.is_local(addr, cx))
            }
        }
    }
}

impl MatchExt for Addrtype {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" addrtype")?;
        for (side, test) in [("src", self.src), ("dst", self.dst)] {
            if let Some(Test { invert, value }) = test {
                write!(out, "{} --{side}-type ", not(invert))?;
                value.write(out)?;
            }
        }
        out.write_str(match self.on {
            None => "",
            Some(OnDevice::In) => " --limit-iface-in",
            Some(OnDevice::Out) => " --limit-iface-out",
        })
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchAddrtype] += 1;
        let fits = |test: Option<Test<Types>>, addr: IpAddr| {
            test.is_none_or(|t| self.fits_types(t.value, addr, cx) != t.invert)
        };
        fits(self.src, cx.packet.src) && fits(self.dst, cx.packet.dst)
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        let reached = |hooks: &[Hook]| hooks.iter().any(|&hook| at.hooks & 1 << hook as u8 != 0);
        match self.on {
            Some(OnDevice::In) if reached(&[Hook::Postrouting, Hook::Output]) => {
                Some("no packet has come in by a device in OUTPUT and POSTROUTING".to_owned())
            }
            Some(OnDevice::Out) if reached(&[Hook::Prerouting, Hook::Input]) => {
                Some("it is not known in PREROUTING and INPUT which device a packet leaves by".to_owned())
            }
            _ => {
                let types =
                    [self.src, self.dst].into_iter().flatten().fold(0, |all, test| all | test.value.0);
                // BROADCAST, BLACKHOLE, PROHIBIT, THROW, NAT, XRESOLVE.
                let unknown = at.family == Family::Ipv6 && types & (BROADCAST | 1 << 6 | 0xf00) != 0;
                unknown.then(|| "IPv6 has no such type of address".to_owned())
            }
        }
    }
}
