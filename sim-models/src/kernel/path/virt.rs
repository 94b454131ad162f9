//! What IPVS does to a packet on its path (`net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_xmit.c`).
//!
//! A packet for a virtual server is taken at INPUT, or at OUTPUT if this node made it, and put back at LOCAL_OUT with
//! its new destination, past IPVS this time (`ipvs_property`); from there it goes to POSTROUTING. One whose server is
//! an address of this node stays where it is (`ip_vs_nat_send_or_cont`). An answer is turned back on its way through
//! FORWARD, or where its client or its server is this node.

use super::Origin;
use super::walk::{Passed, Walk};
use crate::kernel::conntrack::Tuple;
use crate::kernel::hook::{Hook, HookVerdict};
use crate::kernel::ipvs::{Arrival, IpvsVerdict};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::Unit;
use std::net::SocketAddr;

impl<O: Observer> Walk<'_, O> {
    /// IPVS's functions at INPUT and OUTPUT.
    pub(super) fn ipvs_request(&mut self, hook: Hook) -> Passed {
        if self.ipvs_virtual.is_some() {
            return Passed::On;
        }
        let before = self.packet;
        let confirmed = self.tracked.id.is_some();
        let arrival = Arrival { now: self.now, confirmed, local_out: hook == Hook::Output };
        let state = &mut *self.state;
        let services = state.servers.as_ref().unwrap_or(&self.stack.ipvs);
        let verdict = state.ipvs.request_of(services, &before, arrival, &mut state.random, &mut self.work);
        match verdict {
            IpvsVerdict::Translate { to, .. } => {
                self.ipvs_virtual = Some(SocketAddr::new(before.dst, before.dport));
                self.send_to(to);
                self.tell(Step::Ipvs(to));
                if self.is_local(to.ip()) {
                    return Passed::On;
                }
                let path = if self.origin == Origin::Host { Unit::PathOutput } else { Unit::PathForward };
                self.work[path] += 1;
                self.output = self.towards(to.ip());
                Passed::Ended(match self.hook(Hook::Output) {
                    Passed::On => self.leave(),
                    Passed::Ended(verdict) => verdict,
                })
            }
            IpvsVerdict::Reply { from } => {
                (self.packet.src, self.packet.sport) = (from.ip(), from.port());
                Passed::On
            }
            IpvsVerdict::NoDestination => Passed::Ended(HookVerdict::Reject),
            IpvsVerdict::Drop => Passed::Ended(HookVerdict::Drop),
            IpvsVerdict::NotAService => Passed::On,
        }
    }

    /// IPVS rewrites the packet itself; conntrack is told where answers will come from.
    fn send_to(&mut self, to: SocketAddr) {
        (self.packet.dst, self.packet.dport) = (to.ip(), to.port());
        self.translated = Some(to);
        let reply = Tuple { src: to, ..self.tracked.reply };
        if !self.tracked.found || reply == self.tracked.reply {
            return;
        }
        self.tracked.reply = reply;
        if let Some(id) = self.tracked.id {
            self.state.conntrack.alter_reply(id, reply);
        }
    }

    /// IPVS's FORWARD hook turns the source of an answer back into the virtual address.
    pub(super) fn ipvs_answer(&mut self) {
        let state = &mut *self.state;
        let services = state.servers.as_ref().unwrap_or(&self.stack.ipvs);
        if let Some(vip) = state.ipvs.reply(services, &self.packet, self.now, &mut self.work) {
            (self.packet.src, self.packet.sport) = (vip.ip(), vip.port());
        }
    }
}
