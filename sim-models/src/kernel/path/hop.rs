//! A packet that ends in a proxy in user space: kube-proxy reads it from one connection and writes it to the other
//! (see [`portal`](crate::kernel::portal)), and what it writes sets out from the node as a packet of its own.

use super::track::Tracked;
use super::walk::{Iface, Walk};
use super::{Ingress, Origin};
use crate::kernel::conntrack::Tuple;
use crate::kernel::hook::HookVerdict;
use crate::kernel::portal::Portal;
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Packet, Proto, Unit};

/// Times that one packet is read and written before it is given up.
const MOST_HOPS: u32 = 16;

impl<O: Observer> Walk<'_, O> {
    /// After delivery to this node: what becomes of the packet if a proxy takes it. `None` if none does.
    pub(super) fn hop(&mut self) -> Option<HookVerdict> {
        let stack = self.stack;
        if stack.portals.is_empty() {
            return None;
        }
        // A Service whose endpoint is a Service again, and that the first one, would go round for ever.
        if self.work[Unit::UserspaceHops] == MOST_HOPS {
            return Some(HookVerdict::Drop);
        }
        let tuple = Tuple::of(&self.packet);
        if let Some(answer) = self.state.pairs.towards_client(&tuple) {
            return Some(self.write(answer, false));
        }
        let portal = stack.portals.get(&(tuple.proto.number(), tuple.dst.port()))?;
        let known = self.state.pairs.towards_endpoint(&tuple);
        let opens = match tuple.proto {
            Proto::Tcp => self.packet.flags.syn && !self.packet.flags.ack,
            _ => known.is_none(),
        };
        let own = if opens { self.dial(portal, &tuple) } else { known };
        // Without an endpoint the proxy closes the connection.
        Some(own.map_or(HookVerdict::Reject, |own| self.write(own, true)))
    }

    fn dial(&mut self, portal: &Portal, tuple: &Tuple) -> Option<Tuple> {
        let endpoint = self.state.pairs.choose(portal, tuple.src.ip(), self.now)?;
        let node = self.state.address(None, self.packet.family())?;
        self.state.pairs.open(tuple, node, endpoint)
    }

    /// The other connection's packet, from the node's socket to where it goes.
    fn write(&mut self, own: Tuple, to_endpoint: bool) -> HookVerdict {
        self.work[Unit::UserspaceHops] += 1;
        let read = self.confirm();
        if read != HookVerdict::Accept {
            return read;
        }
        let began = self.is_first();
        self.packet = Packet {
            src: own.src.ip(),
            sport: own.src.port(),
            dst: own.dst.ip(),
            dport: own.dst.port(),
            mark: 0,
            ..self.packet
        };
        let from = Ingress::from(Origin::Host);
        (self.origin, self.about, self.input, self.output) = (from.origin, None, Iface::None, Iface::None);
        self.tracked = Tracked::not_yet(&self.packet);
        (self.translated, self.masqueraded) = if to_endpoint { (Some(own.dst), true) } else { (None, false) };
        if to_endpoint {
            self.tell(Step::Destination(own.dst));
        }
        let verdict = self.send();
        self.tracked.count_as_first(began);
        verdict
    }
}
