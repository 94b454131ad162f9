//! `-m physdev`: the ports of a bridge that a packet crosses (`net/netfilter/xt_physdev.c`).
//!
//! Where bridge netfilter does not handle the packet, each condition that is not negated fails and each that is negated
//! holds.

use super::{MatchExt, not};
use crate::kernel::hook::{Hook, PacketCx};
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::Fault;
use crate::kernel::xtables::{Match, Test, matching};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};
use std::sync::Arc;

/// Conditions; an absent one holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Physdev {
    /// `--physdev-in`, a trailing `+` matches any suffix.
    pub input: Option<Test<Arc<str>>>,
    /// `--physdev-is-in`: it came in by a port. True if not negated.
    pub is_in: Option<bool>,
    /// `--physdev-out`.
    pub output: Option<Test<Arc<str>>>,
    /// `--physdev-is-out`: it leaves by a port.
    pub is_out: Option<bool>,
    /// `--physdev-is-bridged`: from port to port, not routed.
    pub is_bridged: Option<bool>,
}

impl Physdev {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Physdev::default();
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                "--physdev-in" => {
                    read.input = Some(Test { invert, value: args::shared(args.value()?) });
                }
                "--physdev-out" => {
                    read.output = Some(Test { invert, value: args::shared(args.value()?) });
                }
                "--physdev-is-in" => read.is_in = Some(!invert),
                "--physdev-is-out" => read.is_out = Some(!invert),
                "--physdev-is-bridged" => read.is_bridged = Some(!invert),
                _ => return Ok(None),
            }
        }
        Ok((read != Physdev::default()).then_some(read))
    }

    /// kube-proxy's form of it, if it is that.
    pub(in crate::kernel::xtables) fn narrow(&self) -> Option<Match> {
        let is_in = self.is_in?;
        let only = Physdev { is_in: Some(is_in), ..Physdev::default() };
        (*self == only).then_some(Match::PhysdevIsIn { invert: !is_in })
    }
}

impl MatchExt for Physdev {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" physdev")?;
        // As `libxt_physdev.c:physdev_save` has them.
        let name = |out: &mut dyn Write, option: &str, test: &Option<Test<Arc<str>>>| match test {
            Some(Test { invert, value }) => write!(out, "{} --physdev-{option} {value}", not(*invert)),
            None => Ok(()),
        };
        let flag = |out: &mut dyn Write, option: &str, wanted: Option<bool>| match wanted {
            Some(wanted) => write!(out, "{} --physdev-{option}", not(!wanted)),
            None => Ok(()),
        };
        flag(out, "is-in", self.is_in)?;
        name(out, "in", &self.input)?;
        flag(out, "is-out", self.is_out)?;
        name(out, "out", &self.output)?;
        flag(out, "is-bridged", self.is_bridged)
    }

    fn bytes(&self) -> u64 {
        72
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let Some(bridge) = cx.bridge else {
            let flags = [self.is_in, self.is_out, self.is_bridged];
            let names = [&self.input, &self.output];
            return flags.iter().all(|wanted| *wanted != Some(true))
                && names.iter().all(|test| test.as_ref().is_none_or(|test| test.invert));
        };
        let is = |wanted: Option<bool>, found: bool| wanted.is_none_or(|wanted| wanted == found);
        if !is(self.is_bridged, bridge.out_port.is_some())
            || !is(self.is_in, bridge.in_port.is_some())
            || !is(self.is_out, bridge.out_port.is_some())
        {
            return false;
        }
        // Without a port it came in by, its name is not asked for; without one it leaves by, nothing matches.
        if let Some(port) = bridge.in_port
            && !matching::iface_fits(self.input.as_ref(), port)
        {
            return false;
        }
        match (&self.output, bridge.out_port) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(test), Some(port)) => matching::iface_fits(Some(test), port),
        }
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        let asks = self.output.is_some() || self.is_out.is_some();
        let output = at.hooks & 1 << Hook::Output as u8 != 0;
        (asks && self.is_bridged != Some(true) && output).then(|| {
            "what leaves by a port is known in FORWARD and POSTROUTING of bridged packets only".to_owned()
        })
    }
}
