//! `ct`: loads a property of the packet's connection (`net/netfilter/nft_ct.c:nft_ct_get_eval`).
//! Left out: all keys but state and status, and all status bits but DNAT.

use super::{Flow, Regs};
use crate::kernel::hook::{CtState, PacketCx};
use sim_core::classify::Unit;

/// Bit of `ct state new` (`NF_CT_STATE_BIT(IP_CT_NEW)`).
pub const STATE_NEW: u32 = 1 << 3;
/// Bit of `ct status dnat` (`IPS_DST_NAT`).
pub const STATUS_DNAT: u32 = 1 << 5;

/// What to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// `ct state`.
    State,
    /// `ct status`.
    Status,
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
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftCt] += 1;
        let value = match (self.key, cx.ct.state) {
            (CtKey::State, CtState::Invalid) => 1,
            (CtKey::State, CtState::Established) => 1 << 1,
            (CtKey::State, CtState::Related) => 1 << 2,
            (CtKey::State, CtState::New) => STATE_NEW,
            (CtKey::State, CtState::Untracked) => 1 << 6,
            (CtKey::Status, CtState::Invalid | CtState::Untracked) => return Flow::Break,
            (CtKey::Status, _) if cx.ct.dnat => STATUS_DNAT,
            (CtKey::Status, _) => 0,
        };
        regs.0[usize::from(self.dreg)] = value;
        Flow::Continue
    }
}
