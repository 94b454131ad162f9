//! `-j TCPMSS`, `-j TTL`, over IPv6 `HL`, and `-j CHECKSUM` (`net/netfilter/xt_TCPMSS.c`, `xt_HL.c`, `xt_CHECKSUM.c`).
//!
//! Left out: the segment size and the checksum themselves, which no packet here carries.

use super::TargetExt;
use crate::kernel::dump::decimal;
use crate::kernel::hook::{Hook, HookVerdict, PacketCx};
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, fault};
use crate::kernel::xtables::{ExtraMatch, Match, TableName};
use sim_core::classify::Family;
use std::fmt::{self, Write};

/// What a SYN's largest segment becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tcpmss {
    /// What the path to the destination can take.
    ClampToPmtu,
    /// This.
    Set(u16),
}

/// What the time to live becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetTtl {
    /// This.
    To(u8),
    /// That much more.
    More(u8),
    /// That much less.
    Less(u8),
}

/// A checksum that was left to the device is computed at once, for clients that look at it too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum;

impl TargetExt for Checksum {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" CHECKSUM --checksum-fill")
    }

    fn bytes(&self, _: Family) -> u64 {
        40
    }

    fn run(&self, _: &mut PacketCx<'_>) -> Option<HookVerdict> {
        None
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        at.only(Some(TableName::Mangle), &Hook::ALL)
    }
}

impl Tcpmss {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        match args.option() {
            Some((false, word)) if word.is("--clamp-mss-to-pmtu") => Ok(args.all(Tcpmss::ClampToPmtu)),
            Some((false, word)) if word.is("--set-mss") => {
                let word = args.value()?;
                match decimal(&word.text) {
                    Some(mss) => Ok(args.all(Tcpmss::Set(mss))),
                    None => fault(word.start, format!("{:?} is no segment size", word.text)),
                }
            }
            _ => Ok(None),
        }
    }
}

impl TargetExt for Tcpmss {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        match self {
            Tcpmss::ClampToPmtu => out.write_str(" TCPMSS --clamp-mss-to-pmtu"),
            Tcpmss::Set(mss) => write!(out, " TCPMSS --set-mss {mss}"),
        }
    }

    fn bytes(&self, _: Family) -> u64 {
        40
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        // A header that is not whole is malformed here; of a later fragment nothing is looked at.
        let malformed = cx.packet.detail.truncated && cx.packet.detail.fragment == 0;
        malformed.then_some(HookVerdict::Drop)
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        let routed = [Hook::Forward, Hook::Output, Hook::Postrouting];
        if *self == Tcpmss::ClampToPmtu
            && let Some(why) = at.only(None, &routed)
        {
            return Some(why);
        }
        let only_syn = at.rule.matches.iter().any(|m| match m {
            Match::Extra(extra) => match &**extra {
                ExtraMatch::Tcp(tcp) => tcp.flags.is_some_and(|t| !t.invert && t.value.1 & 2 != 0),
                _ => false,
            },
            _ => false,
        });
        let tcp = super::only_for(&at, &[sim_core::classify::Proto::Tcp]);
        tcp.or_else(|| (!only_syn).then(|| "the rule must match SYN packets only (-p tcp --syn)".to_owned()))
    }
}

impl SetTtl {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let Some((false, option)) = args.option() else { return Ok(None) };
        let how: fn(u8) -> SetTtl = match option.text.trim_start_matches("--ttl").trim_start_matches("--hl") {
            "-set" => SetTtl::To,
            "-inc" => SetTtl::More,
            "-dec" => SetTtl::Less,
            _ => return Ok(None),
        };
        let word = args.value()?;
        match decimal(&word.text) {
            Some(value) => Ok(args.all(how(value))),
            None => fault(word.start, format!("{:?} is no time to live from 0 to 255", word.text)),
        }
    }
}

impl TargetExt for SetTtl {
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result {
        let (name, option) = if family == Family::Ipv4 { ("TTL", "ttl") } else { ("HL", "hl") };
        let (how, value) = match self {
            SetTtl::To(value) => ("set", value),
            SetTtl::More(value) => ("inc", value),
            SetTtl::Less(value) => ("dec", value),
        };
        write!(out, " {name} --{option}-{how} {value}")
    }

    fn bytes(&self, _: Family) -> u64 {
        40
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        let ttl = &mut cx.packet.detail.ttl;
        *ttl = match *self {
            SetTtl::To(value) => value,
            SetTtl::More(value) => ttl.saturating_add(value),
            SetTtl::Less(value) => ttl.saturating_sub(value),
        };
        None
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        if matches!(self, SetTtl::More(0) | SetTtl::Less(0)) {
            return Some("a change by 0".to_owned());
        }
        at.only(Some(TableName::Mangle), &Hook::ALL)
    }
}
