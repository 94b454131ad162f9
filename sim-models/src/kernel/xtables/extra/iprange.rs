//! `-m iprange`: addresses between two (`net/netfilter/xt_iprange.c`).

use super::{MatchExt, not};
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::Test;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Ranges of addresses; an absent one fits all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Iprange {
    /// First and last source.
    pub src: Option<Test<(IpAddr, IpAddr)>>,
    /// First and last destination.
    pub dst: Option<Test<(IpAddr, IpAddr)>>,
}

impl Iprange {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut ranges = Iprange { src: None, dst: None };
        while let Some((invert, option)) = args.option() {
            let side = match &*option.text {
                "--src-range" => &mut ranges.src,
                "--dst-range" => &mut ranges.dst,
                _ => return Ok(None),
            };
            let word = args.value()?;
            let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
            let value = (args::addr(word, first, family)?, args::addr(word, last, family)?);
            if value.0 > value.1 {
                return fault(word.start, format!("{} is no range: it ends before it begins", word.text));
            }
            *side = Some(Test { invert, value });
        }
        Ok((ranges.src.is_some() || ranges.dst.is_some()).then_some(ranges))
    }
}

impl MatchExt for Iprange {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" iprange")?;
        for (side, range) in [("src", self.src), ("dst", self.dst)] {
            if let Some(Test { invert, value: (first, last) }) = range {
                write!(out, "{} --{side}-range {first}-{last}", not(invert))?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        72
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let fits = |range: Option<Test<(IpAddr, IpAddr)>>, addr: IpAddr| {
            range.is_none_or(|t| (t.value.0 <= addr && addr <= t.value.1) != t.invert)
        };
        fits(self.src, cx.packet.src) && fits(self.dst, cx.packet.dst)
    }
}
