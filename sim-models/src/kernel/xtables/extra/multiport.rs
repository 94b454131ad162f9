//! `-m multiport`: up to fifteen ports, a range taking two places (`net/netfilter/xt_multiport.c`, revision 1).

use super::{MatchExt, not, only_for};
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Proto, Unit};
use smallvec::SmallVec;
use std::fmt::{self, Write};

/// `XT_MULTI_PORTS`.
const PORTS: usize = 15;

/// Which ports of a packet are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// `--sports`.
    Source,
    /// `--dports`.
    Destination,
    /// `--ports`: either will do.
    Either,
}

/// A list of ports and ranges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multiport {
    /// Which ports.
    pub side: Side,
    /// Ports and inclusive ranges, in the order in which they are compared.
    pub ports: SmallVec<[(u16, u16); 4]>,
    /// Negated.
    pub invert: bool,
}

impl Multiport {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let Some((invert, word)) = args.option() else { return Ok(None) };
        let side = match &*word.text {
            "--sports" | "--source-ports" => Side::Source,
            "--dports" | "--destination-ports" => Side::Destination,
            "--ports" => Side::Either,
            _ => return Ok(None),
        };
        let list = args.value()?;
        let ports = list.text.split(',').map(|text| args::ports_in(list, text)).collect::<Result<_, _>>()?;
        let read = Multiport { side, ports, invert };
        if read.places() > PORTS {
            return fault(list.start, format!("more than {PORTS} ports; a range is two"));
        }
        if let Some((low, high)) = read.ports.iter().find(|(low, high)| low > high) {
            return fault(list.start, format!("{low}:{high} is no range: it ends before it begins"));
        }
        Ok(args.all(read))
    }

    fn places(&self) -> usize {
        self.ports.iter().map(|(low, high)| if low == high { 1 } else { 2 }).sum()
    }
}

impl MatchExt for Multiport {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        let side = match self.side {
            Side::Source => "sports",
            Side::Destination => "dports",
            Side::Either => "ports",
        };
        write!(out, " multiport{} --{side} ", not(self.invert))?;
        for (n, &(low, high)) in self.ports.iter().enumerate() {
            out.write_str(if n > 0 { "," } else { "" })?;
            out.write_str(&super::colon((low.into(), high.into())))?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        48
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
        let (sport, dport) = (cx.packet.sport, cx.packet.dport);
        let listed = self.ports.iter().any(|&(low, high)| {
            let fits = |port: u16| low <= port && port <= high;
            match self.side {
                Side::Source => fits(sport),
                Side::Destination => fits(dport),
                Side::Either => fits(sport) || fits(dport),
            }
        });
        listed != self.invert
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        only_for(&at, &[Proto::Tcp, Proto::Udp, Proto::Other(136), Proto::Sctp, Proto::Other(33)])
    }
}
