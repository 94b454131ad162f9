//! `SNAT`, `DNAT` to a range, and `MASQUERADE` and `REDIRECT` with options: what asks the NAT core for more than one
//! address and port (`net/netfilter/xt_nat.c`, `xt_MASQUERADE.c`, `xt_REDIRECT.c`).
//!
//! Here a binding is asked for ([`NatRange`]); which address and port it gets is the NAT core's affair.

use super::TargetExt;
use crate::kernel::dump::decimal;
use crate::kernel::hook::{Hook, HookVerdict, NatRange, NatTo, PacketCx};
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, Word, fault};
use crate::kernel::xtables::{TableName, Target};
use sim_core::classify::{Family, Proto};
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// Which target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `SNAT`.
    Snat,
    /// `DNAT`.
    Dnat,
    /// `MASQUERADE`.
    Masquerade,
    /// `REDIRECT`.
    Redirect,
}

/// A target and the range it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Which target.
    pub kind: Kind,
    /// Addresses, ports, flags.
    pub range: NatRange,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Snat => "SNAT",
            Kind::Dnat => "DNAT",
            Kind::Masquerade => "MASQUERADE",
            Kind::Redirect => "REDIRECT",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Kind::Snat => "--to-source",
            Kind::Dnat => "--to-destination",
            Kind::Masquerade | Kind::Redirect => "--to-ports",
        }
    }
}

impl Nat {
    /// Reads the options of `kind`.
    pub(in crate::kernel::xtables) fn read(
        kind: Kind,
        args: &mut Args<'_, '_>,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let to = match kind {
            Kind::Snat | Kind::Dnat => NatTo::Same,
            Kind::Masquerade => NatTo::OutDevice,
            Kind::Redirect => NatTo::Here,
        };
        let (random, random_fully, persistent) = (false, false, false);
        let mut range = NatRange { to, ports: None, port_base: None, random, random_fully, persistent };
        let mut said = false;
        while let Some((invert, option)) = args.option() {
            let has_addrs = matches!(kind, Kind::Snat | Kind::Dnat);
            match &*option.text {
                _ if invert => return Ok(None),
                text if text == kind.option() => {
                    if std::mem::replace(&mut said, true) {
                        return fault(option.start, format!("{text} is there twice"));
                    }
                    let word = args.value()?;
                    if has_addrs {
                        destination(word, kind, family, &mut range)?;
                    } else {
                        range.ports = Some(ports(word, &word.text)?);
                    }
                }
                "--random" => range.random = true,
                "--random-fully" if kind != Kind::Redirect => range.random_fully = true,
                "--persistent" if has_addrs => range.persistent = true,
                _ => return Ok(None),
            }
        }
        if matches!(kind, Kind::Snat | Kind::Dnat) && !said {
            return fault(args.start, format!("{} needs {}", kind.name(), kind.option()));
        }
        Ok(Some(Nat { kind, range }))
    }

    /// The target as it is kept: in kube-proxy's form, if it is that.
    pub(in crate::kernel::xtables) fn narrow(self) -> Target {
        let NatRange { to, ports, port_base, random, random_fully, persistent } = self.range;
        let flags = random || random_fully || persistent || port_base.is_some();
        match (self.kind, to, ports) {
            (Kind::Dnat, NatTo::Addrs(first, last), Some((low, high)))
                if first == last && low == high && !flags =>
            {
                Target::Dnat(SocketAddr::new(first, low))
            }
            (Kind::Redirect, _, Some((low, high))) if low == high && !flags => Target::Redirect { port: low },
            (Kind::Masquerade, _, None) if !random => Target::Masquerade { random_fully },
            _ => Target::Extra(Box::new(super::ExtraTarget::Nat(self))),
        }
    }
}

/// `80` or `80-90`.
fn ports(word: &Word<'_>, text: &str) -> Result<(u16, u16), Fault> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (decimal(low), decimal(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => fault(word.start, format!("{text:?} is no port from 0 to 65535, or two with - between")),
    }
}

/// `[addr[-addr]][:port[-port[/base]]]`; IPv6 addresses stand in brackets before ports.
fn destination(word: &Word<'_>, kind: Kind, family: Family, range: &mut NatRange) -> Result<(), Fault> {
    let text = &*word.text;
    let example = match family {
        Family::Ipv4 => "10.244.0.5:8080",
        Family::Ipv6 => "[fd00::5]:8080",
    };
    let bad = || fault(word.start, format!("{text:?} is no destination like {example}"));
    let (addrs, after) = match (text.strip_prefix('['), family) {
        (Some(inside), _) => match inside.rsplit_once(']') {
            Some((addrs, "")) => (addrs, None),
            Some((addrs, rest)) => match rest.strip_prefix(':') {
                Some(ports) => (addrs, Some(ports)),
                None => return bad(),
            },
            None => return bad(),
        },
        (None, Family::Ipv4) => match text.split_once(':') {
            Some((addrs, ports)) => (addrs, Some(ports)),
            None => (text, None),
        },
        (None, Family::Ipv6) => match text.strip_prefix(':').filter(|rest| !rest.contains(':')) {
            Some(ports) => ("", Some(ports)),
            None => (text, None),
        },
    };
    if !addrs.is_empty() {
        let (first, last) = addrs.split_once('-').unwrap_or((addrs, addrs));
        let (first, last) = (first.trim_end_matches(']'), last.trim_start_matches('['));
        let [first, last] = [first, last].map(|addr| addr.parse::<IpAddr>());
        let (Ok(first), Ok(last)) = (first, last) else { return bad() };
        if Family::of(first) != family || Family::of(last) != family {
            return fault(word.start, format!("{text} is of the other family"));
        }
        if first > last {
            return fault(word.start, format!("{text} is no range: it ends before it begins"));
        }
        range.to = NatTo::Addrs(first, last);
    } else if after.is_none() {
        return bad();
    }
    if let Some(after) = after {
        let (of, base) = after.split_once('/').map_or((after, None), |(of, base)| (of, Some(base)));
        range.ports = Some(ports(word, of)?);
        if let Some(base) = base {
            match decimal(base).filter(|_| kind == Kind::Dnat) {
                Some(base) => range.port_base = Some(base),
                None => return bad(),
            }
        }
    }
    Ok(())
}

impl TargetExt for Nat {
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result {
        let NatRange { to, ports, port_base, random, random_fully, persistent } = self.range;
        write!(out, " {}", self.kind.name())?;
        match (to, ports) {
            (NatTo::OutDevice | NatTo::Here, None) => {}
            (NatTo::OutDevice | NatTo::Here, Some((low, high))) => {
                write!(out, " --to-ports {low}")?;
                if low != high {
                    write!(out, "-{high}")?;
                }
            }
            (NatTo::Same | NatTo::Addrs(..), ports) => {
                write!(out, " {} ", self.kind.option())?;
                let brackets = family == Family::Ipv6 && ports.is_some();
                if let NatTo::Addrs(first, last) = to {
                    out.write_str(if brackets { "[" } else { "" })?;
                    write!(out, "{first}")?;
                    if first != last {
                        write!(out, "-{last}")?;
                    }
                    out.write_str(if brackets { "]" } else { "" })?;
                }
                if let Some((low, high)) = ports {
                    write!(out, ":{low}")?;
                    if low != high {
                        write!(out, "-{high}")?;
                    }
                    if let Some(base) = port_base {
                        write!(out, "/{base}")?;
                    }
                }
            }
        }
        out.write_str(if random { " --random" } else { "" })?;
        out.write_str(if random_fully { " --random-fully" } else { "" })?;
        out.write_str(if persistent { " --persistent" } else { "" })
    }

    fn bytes(&self, family: Family) -> u64 {
        match (self.kind, family) {
            (Kind::Dnat, _) => 80,
            (_, Family::Ipv4) => 56,
            (_, Family::Ipv6) => 72,
        }
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        cx.nat.range = Some(self.range);
        Some(HookVerdict::Accept)
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        let hooks: &[Hook] = match self.kind {
            Kind::Snat => &[Hook::Postrouting, Hook::Input],
            Kind::Masquerade => &[Hook::Postrouting],
            Kind::Dnat | Kind::Redirect => &[Hook::Prerouting, Hook::Output],
        };
        let with_ports = [Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Other(33), Proto::Icmp, Proto::Icmpv6];
        let proto = self.range.ports.and_then(|_| super::only_for(&at, &with_ports));
        at.only(Some(TableName::Nat), hooks).or(proto)
    }
}

/// Makes a reader of one kind's options.
pub(in crate::kernel::xtables) fn reader(
    kind: Kind,
) -> impl Fn(&mut Args<'_, '_>, Family) -> Result<Option<Target>, Fault> {
    move |args, family| Ok(Nat::read(kind, args, family)?.map(Nat::narrow))
}
