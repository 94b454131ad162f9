//! `-m limit`: a token bucket (`net/netfilter/xt_limit.c`).
//!
//! A packet costs as many credits as come in during the mean time between two; a jiffy brings a fixed number, and at
//! most `burst` packets' worth is kept. All in 32 bits, as the kernel has it.

use super::MatchExt;
use crate::kernel::dump::decimal;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::memory::{HZ, jiffies};
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};

/// `XT_LIMIT_SCALE`: the unit of `avg` is a ten-thousandth of a second.
const SCALE: u32 = 10_000;
/// `CREDITS_PER_JIFFY` at this `HZ`: the largest power of two of which a day's fit 32 bits.
const PER_JIFFY: u32 = 1 << (u32::MAX / (HZ * 60 * 60 * 24)).ilog2();
/// Times that a rate can be of, with their length.
const UNITS: [(&str, u32); 4] =
    [("day", SCALE * 24 * 60 * 60), ("hour", SCALE * 60 * 60), ("min", SCALE * 60), ("sec", SCALE)];

/// A rate and the burst it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Mean time between two packets, in ten-thousandths of a second.
    pub avg: u32,
    /// Packets that may come at once.
    pub burst: u32,
}

/// Credits left, and when they were counted.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    left: u32,
    counted: u64,
}

/// `user2credits`.
fn credits(user: u32) -> u32 {
    let a_second = HZ * PER_JIFFY;
    if user > u32::MAX / a_second { (user / SCALE).wrapping_mul(a_second) } else { user * a_second / SCALE }
}

impl Limit {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut limit = Limit { avg: SCALE * 3600 / 3, burst: 5 };
        while let Some((invert, word)) = args.option() {
            match &*word.text {
                _ if invert => return fault(word.start, "limit cannot be negated"),
                "--limit" => {
                    let word = args.value()?;
                    limit.avg = match rate(&word.text) {
                        Some(avg) => avg,
                        None => return fault(word.start, format!("{:?} is no rate like 5/min", word.text)),
                    };
                }
                "--limit-burst" => {
                    let word = args.value()?;
                    limit.burst = match decimal(&word.text).filter(|&burst| burst <= 10_000) {
                        Some(burst) => burst,
                        None => return fault(word.start, format!("{:?} is no burst up to 10000", word.text)),
                    };
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(limit))
    }
}

/// `extensions/libxt_limit.c:parse_rate`.
fn rate(text: &str) -> Option<u32> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "second"));
    let unit = unit.to_ascii_lowercase();
    let whole = [("second", SCALE), ("minute", SCALE * 60), ("hour", SCALE * 3600), ("day", SCALE * 86_400)];
    let (_, length) = whole.into_iter().find(|(name, _)| !unit.is_empty() && name.starts_with(&unit))?;
    let number: u32 = decimal(number).filter(|&n| n > 0)?;
    Some(length / number).filter(|&avg| avg > 0)
}

impl MatchExt for Limit {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        // `print_rate`: the longest unit of which the number is exact enough.
        let fits = |&(_, length): &(&str, u32)| {
            self.avg <= length
                && length.checked_div(self.avg).unwrap_or(0) >= length.checked_rem(self.avg).unwrap_or(0)
        };
        let wrong = UNITS.iter().skip(1).position(|unit| !fits(unit)).map_or(UNITS.len(), |at| at + 1);
        let (name, length) = UNITS[wrong - 1];
        write!(out, " limit --limit {}/{name}", length / self.avg.max(1))?;
        if self.burst == 5 { Ok(()) } else { write!(out, " --limit-burst {}", self.burst) }
    }

    fn bytes(&self) -> u64 {
        40
    }

    fn fits(&self, place: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let (now, most) = (jiffies(cx.now), credits(self.avg.wrapping_mul(self.burst)));
        let credit = cx.memory.credit(place, || Credit { left: most, counted: now });
        let earned = now.saturating_sub(credit.counted).saturating_mul(u64::from(PER_JIFFY));
        credit.counted = now;
        credit.left = u32::try_from(u64::from(credit.left).saturating_add(earned)).unwrap_or(most).min(most);
        let cost = credits(self.avg);
        let enough = credit.left >= cost;
        if enough {
            credit.left -= cost;
        }
        enough
    }

    fn refused(&self, _: Place<'_>) -> Option<String> {
        // `limit_mt_check`: the product must not overflow.
        let overflows = self.burst == 0 || credits(self.avg.wrapping_mul(self.burst)) < credits(self.avg);
        overflows.then(|| "overflow: no burst, or rate and burst are too much for 32 bits".to_owned())
    }
}
