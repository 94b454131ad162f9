//! `-m set` with flags (`net/netfilter/xt_set.c:set_match_v4`, `ip_set_core.c:ip_set_test`).
//!
//! `--return-nomatch` turns what a set with networks says around: only its exceptions match. Sets here have no
//! exceptions. The flags about counters change nothing, since sets here have none.

use super::{MatchExt, not};
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use crate::kernel::xtables::{Match, print};
use sim_core::classify::{Family, Unit};
use smallvec::SmallVec;
use std::fmt::{self, Write};
use std::sync::Arc;

/// A set and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetFlags {
    /// Set name.
    pub name: Arc<str>,
    /// For each dimension, whether it is taken from the source.
    pub from_src: SmallVec<[bool; 3]>,
    /// Negated.
    pub invert: bool,
    /// `--return-nomatch`.
    pub return_nomatch: bool,
    /// `! --update-counters`.
    pub keep_counters: bool,
    /// `! --update-subcounters`.
    pub keep_subcounters: bool,
}

impl SetFlags {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let invert = match args.option() {
            Some((invert, word)) if word.is("--match-set") => invert,
            _ => return Ok(None),
        };
        let name = args::shared(args.value()?);
        let flags = args.value()?;
        let side = |flag: &str| match flag {
            "src" => Ok(true),
            "dst" => Ok(false),
            _ => fault(flags.start, format!("{flag:?} is neither src nor dst")),
        };
        let from_src: SmallVec<[bool; 3]> = flags.text.split(',').map(side).collect::<Result<_, _>>()?;
        if from_src.len() > 6 {
            return fault(flags.start, "a set has at most six dimensions");
        }
        let (return_nomatch, keep_counters, keep_subcounters) = (false, false, false);
        let mut read = SetFlags { name, from_src, invert, return_nomatch, keep_counters, keep_subcounters };
        while let Some((invert, option)) = args.option() {
            match (&*option.text, invert) {
                ("--return-nomatch", false) => read.return_nomatch = true,
                ("--update-counters", true) => read.keep_counters = true,
                ("--update-subcounters", true) => read.keep_subcounters = true,
                _ => return Ok(None),
            }
        }
        Ok(Some(read))
    }

    /// The form of it without flags, if it has none.
    pub(in crate::kernel::xtables) fn narrow(&self) -> Option<Match> {
        let SetFlags { name, from_src, invert, .. } = self;
        let flags = self.return_nomatch || self.keep_counters || self.keep_subcounters;
        let set = || Match::Set { name: name.clone(), from_src: from_src.clone(), invert: *invert };
        (!flags).then(set)
    }
}

impl MatchExt for SetFlags {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        write!(out, " set{} --match-set {} ", not(self.invert), self.name)?;
        print::write_sides(&self.from_src, out)?;
        out.write_str(if self.return_nomatch { " --return-nomatch" } else { "" })?;
        out.write_str(if self.keep_counters { " ! --update-counters" } else { "" })?;
        out.write_str(if self.keep_subcounters { " ! --update-subcounters" } else { "" })
    }

    fn bytes(&self) -> u64 {
        48
    }

    /// `place` is the index of the set.
    fn fits(&self, place: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchSet] += 1;
        let found = cx.sets.test_packet(place, &cx.packet, &self.from_src, cx.work);
        let has_exceptions = cx.sets.get(place).kind().to_string().contains("net");
        let fits = if self.return_nomatch && has_exceptions { false } else { found };
        fits != self.invert
    }
}
