//! A packet under way: from hook to hook, and through the functions of each.

use super::stack::{Function, Mechanism, Placed, Stack};
use super::track::Tracked;
use super::{Ingress, NodeState, Origin};
use crate::kernel::conntrack::Tuple;
use crate::kernel::hook::{CtView, FlowRef, Hook, HookVerdict, NatRequest, PacketCx};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Family, Packet, Unit, Work};
use sim_core::units::SimTime;
use std::net::{IpAddr, SocketAddr};

/// A device as far as the packet knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iface<'a> {
    /// None, or not yet known.
    None,
    /// By its name.
    Named(&'a str),
    /// One of the node's routes.
    Routed(usize),
}

/// How the functions of a hook left the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// All have run.
    On,
    /// It ends here, or was taken elsewhere and has ended there.
    Ended(HookVerdict),
}

/// One packet under way.
pub(super) struct Walk<'a, O> {
    pub(super) stack: &'a Stack,
    pub(super) state: &'a mut NodeState,
    pub(super) packet: Packet,
    pub(super) tracked: Tracked,
    pub(super) now: SimTime,
    pub(super) work: Work,
    pub(super) origin: Origin,
    pub(super) about: Option<Tuple>,
    pub(super) input: Iface<'a>,
    pub(super) output: Iface<'a>,
    pub(super) translated: Option<SocketAddr>,
    pub(super) masqueraded: bool,
    pub(super) ipvs_virtual: Option<SocketAddr>,
    observer: &'a mut O,
}

impl<'a, O: Observer> Walk<'a, O> {
    pub(super) fn new(
        stack: &'a Stack,
        state: &'a mut NodeState,
        packet: Packet,
        from: Ingress<'a>,
        now: SimTime,
        observer: &'a mut O,
    ) -> Self {
        let input = match (from.iface, from.origin) {
            (Some(name), _) => Iface::Named(name),
            (None, Origin::Pod) => {
                state.routes.towards(packet.src).map_or(Iface::Named("veth0"), Iface::Routed)
            }
            (None, Origin::Wire) => Iface::Named("eth0"),
            (None, Origin::Host) => Iface::None,
        };
        let mut work = Work::new();
        work[Unit::PathV6] += u32::from(packet.family() == Family::Ipv6);
        Walk {
            stack,
            state,
            packet,
            tracked: Tracked::not_yet(&packet),
            now,
            work,
            origin: from.origin,
            about: from.about,
            input,
            output: Iface::None,
            translated: None,
            masqueraded: false,
            ipvs_virtual: None,
            observer,
        }
    }

    pub(super) fn tell(&mut self, step: Step) {
        self.observer.step(step, &self.packet, &self.work);
    }

    /// From the first hook to the last, but for the confirmation of its connection.
    pub(super) fn run(&mut self) -> HookVerdict {
        if let Some(verdict) = self.by_maps() {
            return verdict;
        }
        if self.origin != Origin::Host {
            return self.arrive(false);
        }
        self.send()
    }

    /// A packet of this node's own: OUTPUT and on.
    pub(super) fn send(&mut self) -> HookVerdict {
        let before = self.packet.dst;
        // A route to the node's own address is not kept for a packet of its own (`__mkroute_output`).
        self.work[Unit::RouteLocalMiss] += u32::from(self.is_local(before));
        self.output = self.towards(before);
        if let Passed::Ended(verdict) = self.hook(Hook::Output) {
            return verdict;
        }
        self.work[Unit::PathOutput] += 1;
        if self.packet.dst != before {
            self.reroute();
            self.output = self.towards(self.packet.dst);
        }
        let to_itself = self.is_local(self.packet.dst);
        if to_itself {
            self.tell(Step::Routed { local: true });
        }
        let verdict = self.leave();
        if verdict != HookVerdict::Accept || !to_itself {
            return verdict;
        }
        // The loopback device hands it back, with its connection and its route.
        (self.input, self.output) = (Iface::Named("lo"), Iface::None);
        self.arrive(true)
    }

    /// `ip_route_me_harder`: what OUTPUT changed may go elsewhere.
    fn reroute(&mut self) {
        self.work[Unit::Reroutes] += 1;
        self.count_lookups(1);
    }

    /// Lookups of the route to where the packet goes.
    fn count_lookups(&mut self, n: u32) {
        self.work[Unit::FibNodes] += n * self.state.fib_nodes(self.packet.dst);
    }

    /// PREROUTING, and where routing sends it from there; a packet that loopback hands back has its route.
    fn arrive(&mut self, routed: bool) -> HookVerdict {
        if let Passed::Ended(verdict) = self.hook(Hook::Prerouting) {
            return verdict;
        }
        let local = self.is_local(self.packet.dst);
        self.count_lookups(u32::from(!routed));
        self.tell(Step::Routed { local });
        if local {
            return self.deliver();
        }
        self.output = self.towards(self.packet.dst);
        match self.hook(Hook::Forward) {
            Passed::On => {
                self.work[Unit::PathForward] += 1;
                self.leave()
            }
            Passed::Ended(verdict) => verdict,
        }
    }

    /// INPUT; IPVS may take the packet there and send it on.
    fn deliver(&mut self) -> HookVerdict {
        match self.hook(Hook::Input) {
            Passed::On => {
                self.work[Unit::PathInput] += 1;
                self.hop().unwrap_or(HookVerdict::Accept)
            }
            Passed::Ended(verdict) => verdict,
        }
    }

    pub(super) fn leave(&mut self) -> HookVerdict {
        self.work[Unit::PathQueued] += u32::from(self.state.routes.is_queued(self.packet.dst));
        match self.hook(Hook::Postrouting) {
            Passed::On => HookVerdict::Accept,
            Passed::Ended(verdict) => verdict,
        }
    }

    pub(super) fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback()
            || self.state.node.local_addrs.contains(&addr)
            || self.stack.dummy_addrs.contains(&addr)
    }

    /// The device that the route to `addr` leaves by.
    pub(super) fn towards(&self, addr: IpAddr) -> Iface<'a> {
        if self.is_local(addr) {
            return Iface::Named("lo");
        }
        self.state.routes.towards(addr).map_or(Iface::Named("veth0"), Iface::Routed)
    }

    /// Runs the hook's functions.
    pub(super) fn hook(&mut self, hook: Hook) -> Passed {
        let stack = self.stack;
        self.tell(Step::Hook(hook));
        self.work[Unit::HookCalls] += u32::from(stack.is_active(hook));
        for placed in &stack.hooks[hook as usize] {
            let passed = match placed.function {
                // Every packet is whole, and confirmed when it has come to its end.
                Function::Defragment | Function::Confirm => Passed::On,
                Function::Track => on(self.track()),
                Function::Rules(mechanism, id) => self.rules(hook, *placed, mechanism, id),
                Function::Translate => on(self.nat(hook)),
                Function::IpvsRequest => self.ipvs_request(hook),
                Function::IpvsAnswer => {
                    self.ipvs_answer();
                    Passed::On
                }
            };
            if passed != Passed::On {
                return passed;
            }
        }
        Passed::On
    }

    fn rules(&mut self, hook: Hook, placed: Placed, mechanism: Mechanism, id: usize) -> Passed {
        let mark = self.packet.mark;
        let (verdict, _) = self.call(mechanism, id);
        if hook == Hook::Output && self.packet.mark != mark && placed.reroutes_on_mark() {
            self.reroute();
        }
        on(verdict)
    }

    /// Runs rules over the packet: their verdict and what they asked of NAT.
    pub(super) fn call(&mut self, mechanism: Mechanism, id: usize) -> (HookVerdict, NatRequest) {
        let state = &mut *self.state;
        let (in_iface, out_iface) =
            (iface_name(self.input, &state.routes), iface_name(self.output, &state.routes));
        let tracked = &self.tracked;
        let conn = tracked.id.map(|id| state.conntrack.conn(id));
        let flow =
            tracked.found.then_some(FlowRef { original: &tracked.original, reply: &tracked.reply, conn });
        let mut cx = PacketCx {
            packet: self.packet,
            ct: CtView {
                state: self.tracked.state,
                reply: self.tracked.is_reply(),
                dnat: self.tracked.nat.dst,
                snat: self.tracked.nat.src,
                mark: self.tracked.mark,
            },
            in_iface,
            out_iface,
            ipvs_virtual: self.ipvs_virtual,
            nat: NatRequest::default(),
            node: &state.node,
            dummy_addrs: &self.stack.dummy_addrs,
            sets: &self.stack.sets,
            notrack: false,
            hotdrop: false,
            flow,
            bridge: None,
            recent: &mut state.recent,
            memory: &mut state.memory,
            now: self.now,
            random: &mut state.random,
            work: &mut self.work,
        };
        let lookups = |work: &Work| work[Unit::MatchAddrtype] + work[Unit::NftFib];
        let before = lookups(cx.work);
        let verdict = match mechanism {
            Mechanism::Xtables => self.stack.xtables.run_observed(id, &mut cx, self.observer),
            Mechanism::XtablesNft => {
                let engine = self.stack.xtables_nft.as_ref().expect("its hooks are registered");
                let dynamic = Some(&mut state.xtables_dynamic);
                engine.run_as_xtables(id, &mut cx, dynamic, self.now, self.observer)
            }
            Mechanism::Nftables => {
                let engine = self.stack.nftables.as_ref().expect("its hooks are registered");
                engine.run_observed(id, &mut cx, Some(&mut state.dynamic), self.now, self.observer)
            }
        };
        let (mark, asked, ct_mark, notrack) = (cx.packet.mark, cx.nat, cx.ct.mark, cx.notrack);
        let lookups = lookups(cx.work) - before;
        self.count_lookups(lookups);
        self.packet.mark = mark;
        self.marked(ct_mark);
        if notrack {
            self.tracked.exempt();
        }
        (verdict, asked)
    }
}

fn iface_name<'b>(iface: Iface<'b>, routes: &'b super::Routes) -> &'b str {
    match iface {
        Iface::None => "",
        Iface::Named(name) => name,
        Iface::Routed(device) => routes.name(device),
    }
}

fn on(verdict: HookVerdict) -> Passed {
    match verdict {
        HookVerdict::Accept => Passed::On,
        other => Passed::Ended(other),
    }
}
