//! `-m state ! --state`: an old name of the conntrack match (`net/netfilter/xt_conntrack.c`; `libxt_conntrack.c`).

use super::MatchExt;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::{CtStates, matching, print};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};

/// Any state but these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotState(pub CtStates);

impl MatchExt for NotState {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" state ! --state ")?;
        print::write_states(self.0, out)
    }

    fn bytes(&self) -> u64 {
        168
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchConntrack] += 1;
        !matching::state_fits(self.0, &cx.ct)
    }
}
