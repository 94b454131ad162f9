//! Where IPVS stands in the path (`net/netfilter/ipvs/ip_vs_core.c:ip_vs_ops`).

use super::{Tuple, Walk};
use crate::kernel::hook::{Hook, HookVerdict};
use crate::kernel::ipvs::{Arrival, IpvsVerdict};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::Unit;

impl<O: Observer> Walk<'_, O> {
    /// IPVS at LOCAL_IN, or at LOCAL_OUT for the node's own packets: what becomes of a packet that it takes.
    pub(super) fn ipvs(&mut self, path: Unit) -> Option<HookVerdict> {
        if !self.stack.has_ipvs {
            return None;
        }
        let before = self.packet;
        let confirmed = self.tracked.id.is_some();
        let arrival = Arrival { now: self.now, confirmed, local_out: path == Unit::PathOutput };
        let verdict = self.state.ipvs.request_of(
            &self.stack.ipvs,
            &before,
            arrival,
            &mut self.state.random,
            &mut self.work,
        );
        match verdict {
            IpvsVerdict::Translate { to, .. } => {
                self.work[path] += 1;
                self.ipvs_virtual = Some(std::net::SocketAddr::new(before.dst, before.dport));
                self.translate_by_ipvs(to);
                self.tell(Step::Ipvs(to));
                self.out_iface = "veth0";
                // Put back at LOCAL_OUT; conntrack and destination NAT have seen this packet already.
                let verdict = self.hook(Hook::Output, i32::MIN..i32::MAX);
                Some(if verdict == HookVerdict::Accept { self.leave() } else { verdict })
            }
            IpvsVerdict::Reply { from } => {
                (self.packet.src, self.packet.sport) = (from.ip(), from.port());
                None
            }
            IpvsVerdict::NoDestination => Some(HookVerdict::Reject),
            IpvsVerdict::Drop => Some(HookVerdict::Drop),
            IpvsVerdict::NotAService => None,
        }
    }

    fn translate_by_ipvs(&mut self, to: std::net::SocketAddr) {
        (self.packet.dst, self.packet.dport) = (to.ip(), to.port());
        self.translated = Some(to);
        let reply = Tuple { src: to, ..self.tracked.reply };
        if reply == self.tracked.reply {
            return;
        }
        self.tracked.reply = reply;
        if let Some(id) = self.tracked.id {
            self.state.conntrack.alter_reply(id, reply);
        }
    }

    /// IPVS's FORWARD hook turns the source of an answer back into the virtual address.
    pub(super) fn ipvs_answer(&mut self) {
        if !self.stack.has_ipvs {
            return;
        }
        let ipvs = &mut self.state.ipvs;
        if let Some(vip) = ipvs.reply(&self.stack.ipvs, &self.packet, self.now, &mut self.work) {
            (self.packet.src, self.packet.sport) = (vip.ip(), vip.port());
        }
    }
}
