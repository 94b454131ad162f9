//! What an eBPF load balancer does on a packet's way (Cilium; see [`ebpf`](crate::kernel::ebpf)).
//!
//! A connection of a pod or of the node is translated when its socket connects, which here is when its first packet
//! sets out: the lookups are that packet's work, and later packets cost nothing. What comes from outside is looked up
//! packet by packet at the device: the Service, the map of connections, the backend, and for a backend elsewhere a source
//! port of the node; answers are found in the same maps. No netfilter hook takes part in any of it; rules that are there
//! besides see the packet with its new addresses.

use super::Origin;
use super::walk::Walk;
use crate::kernel::conntrack::Tuple;
use crate::kernel::ebpf::engine::{Choice, Found};
use crate::kernel::ebpf::state::Translation;
use crate::kernel::hook::HookVerdict;
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Proto, Unit};
use std::net::SocketAddr;

impl<O: Observer> Walk<'_, O> {
    /// Before the first hook. The verdict if it ends here.
    pub(super) fn by_maps(&mut self) -> Option<HookVerdict> {
        self.stack.ebpf.as_ref()?;
        if !matches!(self.packet.proto, Proto::Tcp | Proto::Udp | Proto::Sctp) {
            return None;
        }
        match self.origin {
            Origin::Wire => self.at_device(),
            Origin::Pod | Origin::Host => {
                if self.answers_outside() {
                    return None;
                }
                self.connects()
            }
        }
    }

    /// `connect` or `sendmsg`.
    fn connects(&mut self) -> Option<HookVerdict> {
        let stack = self.stack;
        let engine = stack.ebpf.as_ref().expect("asked before");
        let tuple = Tuple::of(&self.packet);
        let opens = match self.packet.proto {
            Proto::Tcp => self.packet.flags.syn && !self.packet.flags.ack,
            _ => self.state.maps.socket(&tuple).is_none(),
        };
        if !opens {
            if let Some(to) = self.state.maps.socket(&tuple) {
                self.send_by_maps(to);
            }
            return None;
        }
        self.state.maps.connect(&tuple, None);
        let state = &*self.state;
        let is_node = |ip| state.node.local_addrs.contains(&ip);
        let found = engine.frontend(tuple.dst, tuple.proto, true, is_node, &mut self.work)?;
        let Some(to) = self.backend_for(found) else { return Some(HookVerdict::Reject) };
        // The way back for getpeername and recvmsg (`sock4_update_revnat`).
        self.work[Unit::EbpfLookup] += 1;
        self.work[Unit::EbpfUpdates] += 1;
        self.state.maps.connect(&tuple, Some(to));
        self.send_by_maps(to);
        None
    }

    /// A backend: the one the client is bound to, or one chosen.
    fn backend_for(&mut self, found: Found) -> Option<SocketAddr> {
        let stack = self.stack;
        let engine = stack.ebpf.as_ref().expect("asked before");
        let frontend = &engine.map().frontends[found.frontend];
        let client = self.packet.src;
        if let Some(seconds) = frontend.affinity_seconds {
            self.work[Unit::EbpfLookup] += 1;
            let kept = self.state.maps.remembered(frontend.reverse_nat.0, client, seconds, self.now);
            if let Some(id) = kept
                && engine.may_remember(found, id, &mut self.work)
                && let Some(to) = engine.backend(id, &mut self.work)
            {
                self.state.maps.remember(frontend.reverse_nat.0, client, id, self.now);
                return Some(to);
            }
        }
        let draw = self.state.maps.draw();
        let Choice::Backend(id) = engine.choose(found, &self.packet, draw, &mut self.work) else {
            return None;
        };
        if frontend.affinity_seconds.is_some() {
            self.work[Unit::EbpfUpdates] += 1;
            self.state.maps.remember(frontend.reverse_nat.0, client, id, self.now);
        }
        engine.map().backend(id).map(|b| b.addr)
    }

    /// A packet from outside at the device (`nodeport_lb4`).
    fn at_device(&mut self) -> Option<HookVerdict> {
        let stack = self.stack;
        let engine = stack.ebpf.as_ref().expect("asked before");
        let tuple = Tuple::of(&self.packet);
        let found = engine.frontend(tuple.dst, tuple.proto, false, |_| false, &mut self.work);
        let Some(found) = found.filter(|&f| engine.is_routable(f)) else {
            self.answers_outside();
            return None;
        };
        if !engine.lets_in(found, self.packet.src, &mut self.work) {
            return Some(HookVerdict::Drop);
        }
        // The Service's entry in the map of connections (CT_SERVICE).
        self.work[Unit::EbpfLookup] += 1;
        if let Some(known) = self.state.maps.outside(&tuple) {
            // Backend, connection, and its source.
            self.work[Unit::EbpfLookup] += 3;
            self.translate_by_maps(known, tuple.src);
            return None;
        }
        let Some(to) = self.backend_for(found) else { return Some(HookVerdict::Reject) };
        let external_local = engine.map().frontends[found.frontend].external_local;
        let mut source = tuple.src;
        // Both directions of the connection looked up and entered, and the Service's entry.
        self.work[Unit::EbpfLookup] += 2;
        self.work[Unit::EbpfUpdates] += 2;
        if !external_local && !self.state.routes.is_pod(to.ip()) {
            let Some(ip) = self.state.address(None, self.packet.family()) else {
                return Some(HookVerdict::Drop);
            };
            let Some((port, probes)) = self.state.maps.port(ip, tuple.src.port(), to, tuple.proto) else {
                return Some(HookVerdict::Drop);
            };
            self.work[Unit::EbpfLookup] += probes;
            self.work[Unit::EbpfUpdates] += 2;
            source = SocketAddr::new(ip, port);
        }
        let translation = Translation { to, source };
        self.state.maps.enter(&tuple, translation);
        self.translate_by_maps(translation, tuple.src);
        None
    }

    /// An answer to what came from outside gets the address that the client called. Whether it is one.
    fn answers_outside(&mut self) -> bool {
        let tuple = Tuple::of(&self.packet);
        let Some(sent) = self.state.maps.answered(&tuple) else { return false };
        // Source translation, connection, and the way back.
        self.work[Unit::EbpfLookup] += 3;
        (self.packet.src, self.packet.sport) = (sent.dst.ip(), sent.dst.port());
        self.packet.dst = sent.src.ip();
        self.packet.dport = sent.src.port();
        self.work[Unit::NatMangle] += 1;
        self.tell(Step::Source(sent.dst));
        true
    }

    fn translate_by_maps(&mut self, to: Translation, had: SocketAddr) {
        self.send_by_maps(to.to);
        self.work[Unit::NatMangle] += 1;
        if to.source != had {
            (self.packet.src, self.packet.sport) = (to.source.ip(), to.source.port());
            self.masqueraded = true;
            self.work[Unit::NatMangle] += 1;
            self.tell(Step::Source(to.source));
        }
    }

    fn send_by_maps(&mut self, to: SocketAddr) {
        (self.packet.dst, self.packet.dport) = (to.ip(), to.port());
        self.translated = Some(to);
        self.tell(Step::Destination(to));
    }
}
