//! `fib ADDR type`: the routing table's type of an address (`net/ipv4/netfilter/nft_fib_ipv4.c:nft_fib4_eval_type`
//! and its IPv6 twin). The only question asked is whether it is local, which the node's own addresses answer.

use super::Regs;
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// `RTN_UNICAST`.
pub const RTN_UNICAST: u32 = 1;
/// `RTN_LOCAL`.
pub const RTN_LOCAL: u32 = 2;

/// Look up an address's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fib {
    /// The source address instead of the destination.
    pub src: bool,
    /// Register.
    pub dreg: u8,
}

impl Fib {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftFib] += 1;
        let addr = if self.src { cx.packet.src } else { cx.packet.dst };
        let local = cx.node.local_addrs.contains(&addr);
        regs.0[usize::from(self.dreg)] = if local { RTN_LOCAL } else { RTN_UNICAST };
    }
}
