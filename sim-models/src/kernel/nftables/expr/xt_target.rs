//! `target`: an xtables target called from a rule of iptables-nft (`net/netfilter/nft_compat.c:nft_target_eval_xt`).
//! What it returns is the verdict; XT_CONTINUE goes on.

use super::Flow;
use crate::kernel::hook::{HookVerdict, NatRange, NatTo, PacketCx};
use crate::kernel::nftables::Verdict;
use crate::kernel::xtables::Target;
use sim_core::classify::Unit;

/// Call a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XtTarget {
    /// The target: one that is an extension.
    pub call: Target,
    /// Its name and revision in the kernel.
    pub name: (&'static str, u8),
    /// Bytes of its data.
    pub data: u32,
}

impl XtTarget {
    /// Runs it.
    pub fn eval(&self, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftCompat] += 1;
        cx.work[Unit::TargetCalls] += 1;
        match &self.call {
            Target::Reject => Flow::Reject,
            Target::Mark { value, mask } => {
                cx.packet.mark = (cx.packet.mark & !*mask) ^ *value;
                Flow::Continue
            }
            Target::Dnat(to) => {
                cx.nat.dnat = Some(*to);
                Flow::Verdict(Verdict::Accept)
            }
            Target::Masquerade { random_fully } => {
                cx.nat.masquerade = Some(*random_fully);
                Flow::Verdict(Verdict::Accept)
            }
            &Target::Redirect { port } => {
                cx.nat.range = Some(NatRange {
                    to: NatTo::Here,
                    ports: Some((port, port)),
                    port_base: None,
                    random: false,
                    random_fully: false,
                    persistent: false,
                });
                Flow::Verdict(Verdict::Accept)
            }
            Target::Extra(extra) => {
                let verdict = extra.of().run(cx);
                match verdict {
                    _ if cx.hotdrop => Flow::Verdict(Verdict::Drop),
                    None => Flow::Continue,
                    Some(HookVerdict::Accept) => Flow::Verdict(Verdict::Accept),
                    Some(HookVerdict::Drop) => Flow::Verdict(Verdict::Drop),
                    Some(HookVerdict::Reject) => Flow::Reject,
                }
            }
            // Allowed when it was compiled: it decides nothing.
            Target::Opaque(_) => Flow::Continue,
            other => unreachable!("compiled although not an extension: {other:?}"),
        }
    }

    /// Bytes in a rule.
    pub fn size(&self) -> u32 {
        8 + self.data.next_multiple_of(8)
    }
}
