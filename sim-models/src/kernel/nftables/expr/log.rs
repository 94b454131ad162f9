//! `log`: writes a line to the kernel's log or hands a copy to a listener (`net/netfilter/nft_log.c:nft_log_eval`), and
//! goes on. What is written, and what writing costs, is left out.

use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log;

impl Log {
    /// Runs it.
    pub fn eval(&self, cx: &mut PacketCx<'_>) {
        cx.work[Unit::NftOther] += 1;
    }
}
