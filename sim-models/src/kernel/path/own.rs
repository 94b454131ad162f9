//! Packets of the node itself that belong to no connection.

use super::{NodeState, Stack, Tracked, Walk};
use crate::kernel::conntrack::{Direction, NatStatus, Tuple};
use crate::kernel::hook::{Hook, HookVerdict};
use crate::kernel::trace::Observer;
use sim_core::classify::{Packet, Work};
use sim_core::units::SimTime;

/// Sends a packet of the node itself that belongs to no connection and begins none: an ICMP error about a
/// connection that is not there. It passes the hooks without NAT.
pub(in crate::kernel) fn cross_invalid<O: Observer>(
    stack: &Stack,
    state: &mut NodeState,
    packet: Packet,
    now: SimTime,
    observer: &mut O,
) -> Work {
    let tuple = Tuple::of(&packet);
    let mut walk = Walk {
        stack,
        state,
        packet,
        tracked: Tracked {
            id: None,
            direction: Direction::Original,
            original: tuple,
            reply: tuple.reversed(),
            nat: NatStatus::default(),
            dst_bound: true,
            src_bound: true,
            invalid: true,
        },
        now,
        first: false,
        work: Work::new(),
        in_iface: "",
        out_iface: "",
        translated: None,
        masqueraded: false,
        ipvs_virtual: None,
        observer,
    };
    for hook in [Hook::Output, Hook::Postrouting] {
        if walk.hook(hook, i32::MIN..i32::MAX) != HookVerdict::Accept {
            break;
        }
    }
    walk.work
}
