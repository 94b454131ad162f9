//! Packets of the node itself that belong to no connection.

use super::track::Tracked;
use super::walk::{Passed, Walk};
use super::{Ingress, NodeState, Origin, Stack};
use crate::kernel::hook::Hook;
use crate::kernel::trace::Observer;
use sim_core::classify::{Packet, Work};
use sim_core::units::SimTime;

/// Sends a packet of the node itself that belongs to no connection and begins none: an ICMP error about a
/// connection that is not there. It passes the hooks without NAT. What it costs beyond rules is the error's own cost.
pub(in crate::kernel) fn cross_invalid<'a, O: Observer>(
    stack: &'a Stack,
    state: &'a mut NodeState,
    packet: Packet,
    now: SimTime,
    observer: &'a mut O,
) -> Work {
    let mut walk = Walk::new(stack, state, packet, Ingress::from(Origin::Host), now, observer);
    walk.work = Work::new();
    walk.tracked = Tracked::of_none(&packet);
    walk.output = walk.towards(packet.dst);
    for hook in [Hook::Output, Hook::Postrouting] {
        if walk.hook(hook) != Passed::On {
            break;
        }
    }
    walk.work
}
