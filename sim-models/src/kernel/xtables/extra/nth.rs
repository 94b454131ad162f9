//! `-m statistic --mode nth`, and `--mode random` negated (`net/netfilter/xt_statistic.c`).

use super::{MatchExt, not};
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::print;
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};

/// Which packets match, of those that come there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistic {
    /// One in `every`.
    Nth {
        /// At least 1.
        every: u32,
        /// Number of the first packet that matches, from 0; less than `every`.
        packet: u32,
        /// Negated.
        invert: bool,
    },
    /// All but those that a draw below `p` / 2^31 takes.
    NotRandom {
        /// Threshold as the kernel stores it.
        p: u32,
    },
}

impl MatchExt for Statistic {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        match *self {
            Statistic::Nth { every, packet, invert } => {
                write!(out, " statistic --mode nth{} --every {every} --packet {packet}", not(invert))
            }
            Statistic::NotRandom { p } => {
                write!(out, " statistic --mode random ! --probability {}", print::Probability(p))
            }
        }
    }

    fn bytes(&self) -> u64 {
        24
    }

    fn fits(&self, place: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchStatistic] += 1;
        match *self {
            Statistic::Nth { every, packet, invert } => {
                // `libxt_statistic.c` has the count begin so that the packet of that number is the first.
                let count = cx.memory.count(place, every - 1 - packet);
                *count = if *count == every - 1 { 0 } else { *count + 1 };
                (*count == 0) != invert
            }
            Statistic::NotRandom { p } => !cx.random.chance(p, cx.work),
        }
    }
}
