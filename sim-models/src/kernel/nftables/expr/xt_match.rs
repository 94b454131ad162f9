//! `match`: an xtables match called from a rule of iptables-nft (`net/netfilter/nft_compat.c:nft_match_eval`). One that
//! is not true breaks; one that finds the packet malformed has it dropped.
//!
//! A match whose data are too many for the rule (`NFT_MATCH_LARGE_THRESH`, 192 bytes with the operations' pointer) keeps
//! them elsewhere (`nft_match_large_eval`), so that a comment takes little of the rule.

use super::Flow;
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::Verdict;
use crate::kernel::xtables::compile::CompiledMatch;
use crate::kernel::xtables::matching::match_one;
use sim_core::classify::Unit;
use std::sync::Arc;

/// Bytes of an expression beyond which a match's data are kept outside.
const LARGE: u32 = 192;

/// Call a match.
#[derive(Clone, Debug)]
pub struct XtMatch {
    /// The match.
    pub(in crate::kernel) call: Arc<CompiledMatch>,
    /// Its name and revision in the kernel.
    pub name: (&'static str, u8),
    /// Bytes of its data.
    pub data: u32,
    /// Whether it reads them.
    pub reads_data: bool,
}

/// The same call; what two calls of equal matches do could be told only by comparing their data.
impl PartialEq for XtMatch {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.call, &other.call)
    }
}
impl Eq for XtMatch {}

impl XtMatch {
    /// Runs it.
    pub fn eval(&self, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftCompat] += 1;
        if self.is_large() && self.reads_data {
            cx.work[Unit::LinesChase] += self.data.div_ceil(64);
        }
        let fits = match_one(&self.call, cx);
        if cx.hotdrop {
            return Flow::Verdict(Verdict::Drop);
        }
        if fits { Flow::Continue } else { Flow::Break }
    }

    fn is_large(&self) -> bool {
        8 + self.data.next_multiple_of(8) > LARGE
    }

    /// Bytes in a rule.
    pub fn size(&self) -> u32 {
        8 + if self.is_large() { 8 } else { self.data.next_multiple_of(8) }
    }
}
