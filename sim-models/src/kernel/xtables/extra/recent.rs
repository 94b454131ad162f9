//! `-m recent` with all its options; the lists are those of [`crate::kernel::xtables::recent`]
//! (`net/netfilter/xt_recent.c`).

use super::{MatchExt, not};
use crate::kernel::dump::decimal;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::Match;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use crate::kernel::xtables::recent::{Action, Ask};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// `XT_RECENT_NAME_LEN` - 1.
const NAME: usize = 199;
/// Most packets of an address that can be remembered (`XT_RECENT_MAX_NSTAMPS` - 1; kernels from 6.11 take 65535).
const STAMPS: u32 = 65_535;

/// A list and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recent {
    /// Name of the list.
    pub name: Arc<str>,
    /// What is done.
    pub ask: Ask,
    /// `--mask`: bits of an address that are kept.
    pub mask: IpAddr,
    /// `--rdest`: the destination instead of the source.
    pub dst: bool,
}

/// All bits.
fn full(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::from([255; 4]),
        Family::Ipv6 => IpAddr::from([255; 16]),
    }
}

impl Recent {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Recent { name: "DEFAULT".into(), ask: Ask::default(), mask: full(family), dst: false };
        let mut action = None;
        while let Some((invert, option)) = args.option() {
            let mut act = |of: Action| match action.replace(of) {
                None => {
                    read.ask.invert = invert;
                    Ok(())
                }
                Some(_) => fault(option.start, "one of --set, --rcheck, --update and --remove, once"),
            };
            match &*option.text {
                "--set" => act(Action::Set)?,
                "--rcheck" => act(Action::Check)?,
                "--update" => act(Action::Update)?,
                "--remove" => act(Action::Remove)?,
                _ if invert => return Ok(None),
                "--seconds" => {
                    let word = args.value()?;
                    match decimal(&word.text).filter(|&n: &u32| n > 0) {
                        Some(seconds) => read.ask.seconds = Some(seconds),
                        None => return fault(word.start, format!("{:?} is no time in seconds", word.text)),
                    }
                }
                "--hitcount" => {
                    let word = args.value()?;
                    match decimal(&word.text).filter(|&n: &u32| n > 0) {
                        Some(hits) => read.ask.hitcount = Some(hits),
                        None => return fault(word.start, format!("{:?} is no number of packets", word.text)),
                    }
                }
                "--reap" => read.ask.reap = true,
                "--rttl" => read.ask.ttl = true,
                "--name" => read.name = args::shared(args.value()?),
                "--rsource" => read.dst = false,
                "--rdest" => read.dst = true,
                "--mask" => {
                    let word = args.value()?;
                    read.mask = args::addr(word, &word.text, family)?;
                }
                _ => return Ok(None),
            }
        }
        let Some(action) = action else {
            return fault(args.start, "recent needs one of --set, --rcheck, --update and --remove");
        };
        read.ask.action = action;
        if read.ask.reap && read.ask.seconds.is_none() {
            return fault(args.start, "--reap needs --seconds");
        }
        Ok(Some(read))
    }

    /// kube-proxy's form of it, if it is that.
    pub(in crate::kernel::xtables) fn narrow(&self, family: Family) -> Option<Match> {
        let plain = !self.dst && self.mask == full(family);
        let Ask { action, seconds, reap, hitcount: None, ttl: false, invert: false } = self.ask else {
            return None;
        };
        let set = match action {
            Action::Set if seconds.is_none() => true,
            Action::Check if seconds.is_some() == reap => false,
            _ => return None,
        };
        plain.then(|| Match::Recent { name: self.name.clone(), set, seconds })
    }
}

impl MatchExt for Recent {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        let action = match self.ask.action {
            Action::Set => "set",
            Action::Check => "rcheck",
            Action::Update => "update",
            Action::Remove => "remove",
        };
        write!(out, " recent{} --{action}", not(self.ask.invert))?;
        if let Some(seconds) = self.ask.seconds {
            write!(out, " --seconds {seconds}")?;
        }
        out.write_str(if self.ask.reap { " --reap" } else { "" })?;
        if let Some(hits) = self.ask.hitcount {
            write!(out, " --hitcount {hits}")?;
        }
        out.write_str(if self.ask.ttl { " --rttl" } else { "" })?;
        write!(out, " --name {} --mask {}", self.name, self.mask)?;
        out.write_str(if self.dst { " --rdest" } else { " --rsource" })
    }

    fn bytes(&self) -> u64 {
        232
    }

    fn fits(&self, place: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchRecent] += 1;
        let addr = if self.dst { cx.packet.dst } else { cx.packet.src };
        // A forwarded packet's was one more before this node.
        let forwarded = !cx.out_iface.is_empty() && !cx.in_iface.is_empty();
        let ttl = cx.packet.detail.ttl.wrapping_add(u8::from(forwarded));
        cx.recent.run(place, &self.ask, addr, ttl, cx.now, cx.work)
    }

    fn refused(&self, _: Place<'_>) -> Option<String> {
        let Ask { action, seconds, reap, hitcount, ttl, .. } = self.ask;
        if matches!(action, Action::Set | Action::Remove)
            && (seconds.is_some() || hitcount.is_some() || reap || ttl)
        {
            return Some("--set and --remove take no --seconds, --hitcount, --reap or --rttl".to_owned());
        }
        if hitcount.is_some_and(|hits| hits > STAMPS) {
            return Some(format!("--hitcount is at most {STAMPS}"));
        }
        (self.name.is_empty() || self.name.len() > NAME).then(|| format!("a name has 1 to {NAME} characters"))
    }
}
