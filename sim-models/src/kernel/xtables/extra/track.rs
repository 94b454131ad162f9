//! `-j NOTRACK` and `-j CT --notrack`: conntrack leaves the packet alone (`net/netfilter/xt_CT.c`).
//!
//! Left out: `CT` with a zone, a helper or a timeout, which stays text.

use super::TargetExt;
use crate::kernel::hook::{CtState, HookVerdict, PacketCx};
use crate::kernel::xtables::TableName;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::Fault;
use sim_core::classify::Family;
use std::fmt::{self, Write};

/// Either spelling: the kernel gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notrack {
    /// Written as `CT --notrack`.
    pub as_ct: bool,
}

impl Notrack {
    pub(in crate::kernel::xtables) fn read_ct(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        match args.option() {
            Some((false, word)) if word.is("--notrack") => Ok(args.all(Notrack { as_ct: true })),
            _ => Ok(None),
        }
    }
}

impl TargetExt for Notrack {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(if self.as_ct { " CT --notrack" } else { " NOTRACK" })
    }

    fn bytes(&self, _: Family) -> u64 {
        104
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        // A packet that has its connection already keeps it: one re-injected, or on loopback the second time.
        cx.notrack = true;
        cx.ct.state = CtState::Untracked;
        None
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        at.only(Some(TableName::Raw), &crate::kernel::hook::Hook::ALL)
    }
}
