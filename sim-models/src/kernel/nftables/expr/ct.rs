//! `ct`: loads or sets a property of the packet's connection (`net/netfilter/nft_ct.c:nft_ct_get_eval`,
//! `nft_ct_set_eval`). Left out: all keys but those of [`CtKey`], and all status bits but those of NAT.

use super::{Flow, Regs};
use crate::kernel::hook::{CtState, PacketCx};

/// Bit of `ct state new` (`NF_CT_STATE_BIT(IP_CT_NEW)`).
pub const STATE_NEW: u32 = 1 << 3;
/// Bit of `ct status dnat` (`IPS_DST_NAT`).
pub const STATUS_DNAT: u32 = 1 << 5;
/// Bit of `ct status snat` (`IPS_SRC_NAT`).
pub const STATUS_SNAT: u32 = 1 << 4;

/// What to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtKey {
    /// `ct state`.
    State,
    /// `ct status`.
    Status,
    /// `ct mark`.
    Mark,
    /// `ct direction`: 0 for the original one, 1 for answers.
    Direction,
}

/// Load a conntrack field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ct {
    /// Field.
    pub key: CtKey,
    /// Register.
    pub dreg: u8,
}

impl Ct {
    /// Runs it. The state of a packet without a connection is a bit of its own; any other key breaks.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &PacketCx<'_>) -> Flow {
        let value = match (self.key, cx.ct.state) {
            (CtKey::State, CtState::Invalid) => 1,
            (CtKey::State, CtState::Established) => 1 << 1,
            (CtKey::State, CtState::Related) => 1 << 2,
            (CtKey::State, CtState::New) => STATE_NEW,
            (CtKey::State, CtState::Untracked) => 1 << 6,
            (_, CtState::Invalid | CtState::Untracked) => return Flow::Break,
            (CtKey::Status, _) => u32::from(cx.ct.dnat) * STATUS_DNAT + u32::from(cx.ct.snat) * STATUS_SNAT,
            (CtKey::Mark, _) => cx.ct.mark,
            (CtKey::Direction, _) => u32::from(cx.ct.reply),
        };
        regs.set(self.dreg, value);
        Flow::Continue
    }
}

/// `ct mark set`: a register into the connection's mark. A packet without a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtSetMark {
    /// Register.
    pub sreg: u8,
}

impl CtSetMark {
    /// Runs it.
    pub fn eval(&self, regs: &Regs, cx: &mut PacketCx<'_>) {
        if !matches!(cx.ct.state, CtState::Invalid | CtState::Untracked) {
            cx.ct.mark = regs.get(self.sreg);
        }
    }
}
