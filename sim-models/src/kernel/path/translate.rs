//! What NAT does to a packet on its path (`nf_nat_core.c:nf_nat_inet_fn`, `nf_nat_packet`): on a connection's first
//! packet the rules of type nat are asked and a binding made; every packet's headers are rewritten by it.

use super::walk::{Iface, Walk};
use crate::kernel::conntrack::Direction;
use crate::kernel::hook::{CtState, Hook, HookVerdict, NatRange, NatRequest, NatTo};
use crate::kernel::nat::{Binder, Bounds, Manip};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Family, Unit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl<O: Observer> Walk<'_, O> {
    /// NAT's function at `hook`.
    pub(super) fn nat(&mut self, hook: Hook) -> HookVerdict {
        if !self.tracked.found {
            return HookVerdict::Accept;
        }
        let manip = match hook {
            Hook::Prerouting | Hook::Output => Manip::Destination,
            Hook::Input | Hook::Forward | Hook::Postrouting => Manip::Source,
        };
        let bound = match manip {
            Manip::Destination => self.tracked.dst_bound,
            Manip::Source => self.tracked.src_bound,
        };
        if bound {
            self.work[Unit::NatHookEst] += 1;
        } else {
            self.work[Unit::NatHookNew] += 1;
            let stack = self.stack;
            let mut request = NatRequest::default();
            for &(mechanism, id) in &stack.nat[hook as usize] {
                let (verdict, asked) = self.call(mechanism, id);
                if verdict != HookVerdict::Accept {
                    return verdict;
                }
                if asked != NatRequest::default() {
                    request = asked;
                    break;
                }
            }
            if !self.bind(hook, manip, request) {
                return HookVerdict::Drop;
            }
        }
        self.rewrite(manip);
        HookVerdict::Accept
    }

    /// False if there is no address to translate to.
    fn bind(&mut self, hook: Hook, manip: Manip, request: NatRequest) -> bool {
        enum Wanted {
            To(std::net::SocketAddr),
            Masquerade(IpAddr, bool),
            Range(Bounds),
            Nothing,
        }
        let wanted = match (manip, request) {
            (Manip::Destination, NatRequest { dnat: Some(to), .. }) => Wanted::To(to),
            (Manip::Source, NatRequest { masquerade: Some(random_fully), .. }) => {
                match self.outgoing_address() {
                    Some(ip) => Wanted::Masquerade(ip, random_fully),
                    None => return false,
                }
            }
            (_, NatRequest { range: Some(range), .. }) => match self.bounds(hook, range) {
                Some(bounds) => Wanted::Range(bounds),
                None => return false,
            },
            _ => Wanted::Nothing,
        };
        let had = self.tracked.reply;
        let state = &mut *self.state;
        let (ct, random) = (&mut state.conntrack, &mut state.random);
        let mut binder = Binder { ct, now: self.now, random, work: &mut self.work };
        let reply = match wanted {
            Wanted::To(to) => binder.destination(had, to),
            Wanted::Masquerade(ip, random_fully) => binder.masquerade(had, ip, random_fully),
            Wanted::Range(bounds) => binder.range(had, manip, &bounds),
            Wanted::Nothing => binder.null(had, manip),
        };
        let changed = reply != had;
        self.tracked.reply = reply;
        match manip {
            Manip::Destination => {
                self.tracked.dst_bound = true;
                self.tracked.nat.dst = changed;
            }
            Manip::Source => {
                self.tracked.src_bound = true;
                self.tracked.nat.src = changed;
            }
        }
        true
    }

    /// The address that masquerading gives (`nf_nat_masquerade.c`).
    fn outgoing_address(&self) -> Option<IpAddr> {
        let device = match self.output {
            Iface::Routed(device) => Some(device),
            Iface::Named(name) => self.state.routes.named(name),
            Iface::None => None,
        };
        self.state.address(device, self.packet.family())
    }

    /// The address that a packet is redirected to (`nf_nat_redirect.c`).
    fn own_address(&self, hook: Hook) -> Option<IpAddr> {
        let family = self.packet.family();
        if hook == Hook::Output {
            return Some(match family {
                Family::Ipv4 => Ipv4Addr::LOCALHOST.into(),
                Family::Ipv6 => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let device = match self.input {
            Iface::Routed(device) => Some(device),
            Iface::Named(name) => self.state.routes.named(name),
            Iface::None => None,
        };
        self.state.address(device, family)
    }

    /// The range with its addresses.
    fn bounds(&self, hook: Hook, range: NatRange) -> Option<Bounds> {
        let one = |ip: IpAddr| (ip, ip);
        let addrs = match range.to {
            NatTo::Same => None,
            NatTo::Addrs(low, high) => Some((low, high)),
            NatTo::OutDevice => Some(one(self.outgoing_address()?)),
            NatTo::Here => Some(one(self.own_address(hook)?)),
        };
        let NatRange { ports, port_base, persistent, .. } = range;
        Some(Bounds { addrs, ports, port_base, random: range.random || range.random_fully, persistent })
    }

    /// The header that this hook's manipulation changes, in the packet's direction. Of an ICMP error about the
    /// connection only the address is.
    fn rewrite(&mut self, manip: Manip) {
        let nat = self.tracked.nat;
        let destination = manip == Manip::Destination;
        // A reply is rewritten at the other hook: what source NAT did is undone where destinations change.
        let (due, target) = match self.tracked.direction {
            Direction::Original => {
                (if destination { nat.dst } else { nat.src }, self.tracked.reply.reversed())
            }
            Direction::Reply => {
                (if destination { nat.src } else { nat.dst }, self.tracked.original.reversed())
            }
        };
        if !due {
            return;
        }
        let p = &mut self.packet;
        let (ip, port, mut wanted) = if destination {
            (&mut p.dst, &mut p.dport, target.dst)
        } else {
            (&mut p.src, &mut p.sport, target.src)
        };
        if self.tracked.state == CtState::Related {
            wanted.set_port(*port);
        }
        if (*ip, *port) != (wanted.ip(), wanted.port()) {
            (*ip, *port) = (wanted.ip(), wanted.port());
            self.work[Unit::NatMangle] += 1;
            // `nf_nat_ipv4_out`: IPsec policies may say otherwise for the new source (`nf_xfrm_me_harder`).
            self.work[Unit::NatXfrm] += u32::from(!destination);
            if destination {
                self.translated = Some(wanted);
            } else if self.tracked.direction == Direction::Original {
                self.masqueraded = true;
            }
            self.tell(if destination { Step::Destination(wanted) } else { Step::Source(wanted) });
        }
    }
}
