//! The path of a packet through one node: hooks in order of priority, with conntrack, NAT and IPVS between.
//!
//! ```text
//! pod or wire -> PREROUTING -+-> FORWARD ----------------------> POSTROUTING -> out
//!                            +-> INPUT -> IPVS -> (LOCAL_OUT) -> POSTROUTING -> out
//!                                  +--> this node
//! this node   -> OUTPUT -+-> IPVS -> (LOCAL_OUT) -------------> POSTROUTING -> out
//!                        +-----------------------------------> POSTROUTING -> out
//!                                  to itself: ... POSTROUTING -> PREROUTING -> INPUT
//! ```
//! [`stack`] puts the functions of every mechanism in their order, [`node`] is what packets leave behind, [`route`] where
//! they can go, [`walk`] leads a packet through the hooks; [`track`], [`translate`] and [`virt`] are what conntrack, NAT
//! and IPVS do there, [`socket`] what an eBPF load balancer does before, [`hop`] what a proxy in user space does after;
//! [`own`] sends the node's own errors.
//!
//! Left out: bridge netfilter, raw sockets, fragments (a packet here is whole, as defragmentation at -400 leaves it),
//! the ICMP message that answers a rejected packet (see [`answer`](super::answer)).

mod hop;
pub mod node;
mod own;
pub mod route;
mod socket;
pub mod stack;
mod track;
mod translate;
mod virt;
mod walk;

#[cfg(test)]
mod proxies;
#[cfg(test)]
mod tests;

use super::conntrack::{New, Tuple};
use super::hook::HookVerdict;
use super::trace::{Observer, Step};
pub use node::NodeState;
pub(super) use own::cross_invalid;
pub use route::{Route, Routes};
use sim_core::classify::{Packet, Unit, Verdict, Work};
use sim_core::units::SimTime;
pub use stack::{Stack, StackError};
use walk::Walk;

/// Where a packet enters the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a pod's veth.
    Pod,
    /// From the network.
    Wire,
    /// From a socket of the node itself.
    Host,
}

/// An origin and the device by which the packet comes in. An [`Origin`] alone is one too: then the device is the one
/// that the node's routes lead back to the pod by, or one called `veth0`, and `eth0` for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress<'a> {
    /// Where it enters.
    pub origin: Origin,
    /// The device; nothing for a packet of the node itself.
    pub iface: Option<&'a str>,
    /// Tuple of the packet that it quotes, for an ICMP error: its sender and receiver as that packet had them.
    pub about: Option<Tuple>,
}

impl<'a> Ingress<'a> {
    /// By this device.
    pub fn by(origin: Origin, iface: &'a str) -> Self {
        Ingress { iface: Some(iface), ..Ingress::from(origin) }
    }
    /// An ICMP error about a packet with that tuple.
    pub fn about(self, tuple: Tuple) -> Self {
        Ingress { about: Some(tuple), ..self }
    }
}

impl From<Origin> for Ingress<'_> {
    fn from(origin: Origin) -> Self {
        Ingress { origin, iface: None, about: None }
    }
}

/// What became of a packet, and the work it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// The outcome.
    pub verdict: Verdict,
    /// Headers as they leave.
    pub packet: Packet,
    /// Whether this was the first packet of a connection.
    pub first: bool,
    /// Everything done.
    pub work: Work,
}

/// A packet that has been through all rules; its connection, if it began one, is not yet in the table.
#[derive(Clone, Copy, Debug)]
#[must_use = "a connection begun is finished or counts against the table's limit for ever"]
pub struct InFlight {
    crossing: Crossing,
    new: Option<New>,
}

impl InFlight {
    /// What will become of it unless its connection clashes with another.
    pub fn crossing(&self) -> &Crossing {
        &self.crossing
    }
}

/// Sends `packet` through the node.
pub fn cross<'a>(
    stack: &'a Stack,
    state: &'a mut NodeState,
    packet: Packet,
    origin: impl Into<Ingress<'a>>,
    now: SimTime,
) -> Crossing {
    let origin: Ingress<'_> = origin.into();
    cross_observed(stack, state, packet, origin, now, &mut ())
}

/// The same, telling `observer` each step.
pub fn cross_observed<'a, O: Observer>(
    stack: &'a Stack,
    state: &'a mut NodeState,
    packet: Packet,
    origin: impl Into<Ingress<'a>>,
    now: SimTime,
    observer: &'a mut O,
) -> Crossing {
    let mut walk = Walk::new(stack, state, packet, origin.into(), now, observer);
    let mut outcome = walk.run();
    if outcome == HookVerdict::Accept {
        outcome = walk.confirm();
    } else {
        walk.abandon();
    }
    walk.tell(Step::End(outcome));
    walk.crossing(outcome)
}

/// The first half of [`cross`]: everything up to the confirmation. Other packets can be sent before the second half, as
/// when two CPUs have two first packets of one flow in their hands.
pub fn begin<'a>(
    stack: &'a Stack,
    state: &'a mut NodeState,
    packet: Packet,
    origin: impl Into<Ingress<'a>>,
    now: SimTime,
) -> InFlight {
    let mut silent = ();
    let origin: Ingress<'_> = origin.into();
    let mut walk = Walk::new(stack, state, packet, origin, now, &mut silent);
    let outcome = walk.run();
    if outcome != HookVerdict::Accept {
        walk.abandon();
    }
    let new = walk.unconfirmed();
    InFlight { crossing: walk.crossing(outcome), new }
}

/// The second half: the connection enters the table, or the packet is dropped because it cannot.
pub fn finish(state: &mut NodeState, flight: InFlight, now: SimTime) -> Crossing {
    let mut crossing = flight.crossing;
    if let Some(new) = flight.new
        && track::enter(state, new, now, &mut crossing.work).is_none()
    {
        crossing.verdict = Verdict::Drop;
        track::count_stopped(&mut crossing.work, true);
    }
    crossing
}

impl<O: Observer> Walk<'_, O> {
    fn crossing(mut self, outcome: HookVerdict) -> Crossing {
        let verdict = match outcome {
            HookVerdict::Drop => Verdict::Drop,
            HookVerdict::Reject => {
                self.work[Unit::Rejects] += 1;
                Verdict::Reject
            }
            HookVerdict::Accept => match self.translated {
                Some(to) => Verdict::Dnat { to, masquerade: self.masqueraded },
                None => Verdict::Accept,
            },
        };
        Crossing { verdict, packet: self.packet, first: self.is_first(), work: self.work }
    }
}
