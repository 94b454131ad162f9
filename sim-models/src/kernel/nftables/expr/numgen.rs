//! `numgen`: a number below a modulus, with an offset: one random draw scaled (`net/netfilter/nft_numgen.c:
//! nft_ng_random_gen`, through `reciprocal_scale`), or one after another (`nft_ng_inc_gen`: the counter begins at the last
//! number, so that the first is zero).

use super::{Flow, Regs};
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::set::dynamic::{DynamicSets, Slot};
use sim_core::classify::Unit;

/// Generate a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numgen {
    /// Numbers are below this, before the offset.
    pub modulus: u32,
    /// Register.
    pub dreg: u8,
    /// What is added.
    pub offset: u32,
    /// One after another instead of at random.
    pub inc: bool,
    /// Its counter on a node.
    pub slot: Slot,
}

impl Numgen {
    /// Runs it; without a node's counters every number is the first.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>, state: Option<&mut DynamicSets>) -> Flow {
        cx.work[Unit::NftNumgen] += 1;
        let number = if self.inc {
            state.map_or(0, |s| {
                let next = s.count(self.slot);
                let number = *next;
                *next = (number + 1) % u64::from(self.modulus);
                u32::try_from(number).expect("below the modulus")
            })
        } else {
            cx.random.below(self.modulus, cx.work)
        };
        regs.set(self.dreg, number.wrapping_add(self.offset));
        Flow::Continue
    }
}
