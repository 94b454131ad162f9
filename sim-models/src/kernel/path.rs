//! The path of a packet through one node: hooks in order of priority, with conntrack, NAT and IPVS between.
//!
//! ```text
//! pod or wire -> PREROUTING -+-> FORWARD ----------------------> POSTROUTING -> out
//!                            +-> INPUT -> IPVS -> (LOCAL_OUT) -> POSTROUTING -> out
//!                                  +--> this node
//! this node   -> OUTPUT -----------------------------------> POSTROUTING -> out
//! ```
//! At PREROUTING and OUTPUT conntrack runs at priority -200 and destination NAT at -100; at POSTROUTING and
//! INPUT source NAT runs at 100 and confirmation last (`nf_conntrack_proto.c`, `nf_nat_proto.c`). IPVS takes
//! packets at INPUT 98 and 99 and puts translated ones back at LOCAL_OUT (`ip_vs_core.c`); answers pass its
//! FORWARD hook. Connections are those of [`Conntrack`]; only the first packet of one runs NAT rules.
//!
//! Left out: bridge netfilter, raw sockets, fragments, ICMP errors as packets of their own.

mod ipvs;
mod own;
mod route;

pub(super) use own::cross_invalid;
pub use route::Route;

use super::answer::IcmpLimit;
use super::conntrack::{ConnId, Conntrack, ConntrackConfig, Direction, NatStatus, Tuple};
use super::hook::{
    ChainKind, CtState, CtView, FlowRef, Hook, HookFn, HookVerdict, KernelRandom, NatRequest, NodeCx,
    PacketCx,
};
use super::ipset::IpSets;
use super::ipvs::{IpvsConfig, IpvsState, Services};
use super::options::{CompileOptions, Warning};
use super::rules::NodeRules;
use super::trace::{Observer, Step};
use super::xtables::memory::Memory;
use super::xtables::recent::RecentTables;
use super::{nat, nftables, xtables};
use crate::config::XtablesBackend;
use sim_core::classify::{Family, Packet, Proto, Unit, Verdict, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use std::collections::BTreeSet;
use std::net::IpAddr;

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

/// Rules that a kernel would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// xtables.
    #[error(transparent)]
    Xtables(#[from] xtables::CompileError),
    /// nf_tables.
    #[error(transparent)]
    Nftables(#[from] nftables::EngineError),
    /// IPVS.
    #[error(transparent)]
    Ipvs(#[from] super::ipvs::ServiceError),
}

/// Compiled rules, sets and services. They do not change from packet to packet, and nodes with equal rules share
/// one of these.
pub struct Stack {
    xtables: xtables::Compiled,
    /// The same tables where iptables-nft wrote them; those of iptables-legacy are then empty.
    xtables_nft: Option<nftables::Engine>,
    nftables: Option<nftables::Engine>,
    ipvs: Services,
    sets: IpSets,
    dummy_addrs: BTreeSet<IpAddr>,
    /// Hook functions of every mechanism, by hook, in order of priority.
    hooks: [Vec<(Mechanism, HookFn)>; 5],
    /// Whether any NAT chain exists: only then are the NAT core's own hooks registered.
    has_nat: bool,
    /// Whether IPVS has services: its hooks are registered with the first.
    has_ipvs: bool,
    /// Whether anything needs connection tracking, whose hooks are registered only then.
    tracks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Xtables,
    /// xtables rules in nf_tables.
    XtablesNft,
    Nftables,
}

impl Stack {
    /// Compiles rules; `seed` gives hash tables their seeds.
    ///
    /// # Errors
    /// If a rule refers to a set that is not there, or a virtual server is one that IPVS refuses.
    pub fn new(rules: &NodeRules, seed: u64) -> Result<Self, StackError> {
        Stack::with(rules, seed, CompileOptions::default())
    }

    /// The same with options; [`Stack::warnings`] tells what they let through.
    ///
    /// # Errors
    /// As of [`Stack::new`].
    pub fn with(rules: &NodeRules, seed: u64, options: CompileOptions) -> Result<Self, StackError> {
        let sets = IpSets::new(&rules.ipsets, seed as u32);
        let (legacy, in_nft): (&[xtables::Table], _) = match rules.xtables_backend {
            XtablesBackend::Legacy => (&rules.xtables, None),
            XtablesBackend::Nft => (&[], Some(&rules.xtables)),
        };
        let xtables = xtables::Compiled::with(legacy, &sets, options)?;
        let of_xtables = |tables| nftables::Engine::from_xtables(tables, &sets, seed, options);
        let xtables_nft = in_nft.map(|tables| of_xtables(tables)).transpose()?;
        let of_table = |table| nftables::Engine::with(table, seed, options);
        let nftables = rules.nftables.as_ref().map(of_table).transpose()?;
        let mut hooks: [Vec<(Mechanism, HookFn)>; 5] = Default::default();
        let of_nft = nftables.iter().flat_map(nftables::Engine::hooks).map(|h| (Mechanism::Nftables, h));
        let of_xtables_nft = xtables_nft.iter().flat_map(nftables::Engine::hooks);
        let of_xtables = xtables.hooks().into_iter().map(|h| (Mechanism::Xtables, h));
        let of_xtables = of_xtables.chain(of_xtables_nft.map(|h| (Mechanism::XtablesNft, h)));
        for (mechanism, hook) in of_xtables.chain(of_nft) {
            hooks[hook.hook as usize].push((mechanism, hook));
        }
        for list in &mut hooks {
            list.sort_by_key(|(_, h)| h.priority);
        }
        let has_nat = hooks.iter().flatten().any(|(_, h)| h.kind == ChainKind::Nat);
        let dummy_addrs = rules.dummy_addrs.iter().copied().collect();
        let ipvs = Services::of_rules(rules, seed)?;
        Ok(Stack {
            xtables,
            xtables_nft,
            nftables,
            ipvs,
            sets,
            dummy_addrs,
            hooks,
            has_nat,
            has_ipvs: !rules.ipvs.is_empty(),
            tracks: rules.need_conntrack(),
        })
    }

    /// Kernel memory of rules, sets and services on a machine with `cpus` CPUs.
    pub fn memory_bytes(&self, cpus: u64) -> u64 {
        self.xtables.memory_bytes(cpus)
            + self.xtables_nft.as_ref().map_or(0, nftables::Engine::memory_bytes)
            + self.nftables.as_ref().map_or(0, nftables::Engine::memory_bytes)
            + self.ipvs.memory_bytes(cpus)
            + self.sets.memory_bytes()
    }

    /// Whether anything is registered at the hook.
    fn is_active(&self, hook: Hook) -> bool {
        !self.hooks[hook as usize].is_empty()
            || (self.tracks && hook != Hook::Forward)
            || (self.has_ipvs && matches!(hook, Hook::Input | Hook::Forward | Hook::Output))
    }

    /// Rules that decide nothing because they are not known; none unless options allow it.
    pub fn warnings(&self) -> Vec<Warning> {
        let xtables = self.xtables.warnings().iter().cloned().map(Warning::Xtables);
        let engines = self.xtables_nft.iter().chain(&self.nftables);
        xtables.chain(engines.flat_map(|engine| engine.warnings().iter().cloned())).collect()
    }

    /// The IPVS services, for what follows their changes.
    pub fn ipvs(&self) -> &Services {
        &self.ipvs
    }
}

/// What a node's kernel remembers from packet to packet.
pub struct NodeState {
    /// Connections.
    pub conntrack: Conntrack,
    /// IPVS connections and schedulers.
    pub ipvs: IpvsState,
    node: NodeCx,
    /// Address that masquerading gives packets.
    node_ip: IpAddr,
    /// Where packets into these networks go.
    routes: Vec<Route>,
    random: KernelRandom,
    recent: RecentTables,
    memory: Memory,
    /// Contents of nftables' dynamic sets (affinity).
    dynamic: nftables::DynamicSets,
    /// What rules of iptables-nft remember.
    xtables_dynamic: nftables::DynamicSets,
    /// How many ICMP errors the node sends.
    pub icmp: IcmpLimit,
}

impl NodeState {
    /// A node with the addresses `node_ips` that has seen no packet; masquerading uses the first address.
    /// `path` names the node for its random streams.
    ///
    /// # Panics
    /// If `node_ips` is empty.
    pub fn new(seed: u64, path: &str, cores: u32, node_ips: &[IpAddr]) -> Self {
        let mut boot = Stream::new(seed, path, "boot keys");
        let key = (boot.next_u64(), boot.next_u64());
        NodeState {
            conntrack: Conntrack::new(ConntrackConfig::for_cores(cores), key),
            ipvs: IpvsState::new(IpvsConfig::default(), boot.next_u32()),
            node: NodeCx { local_addrs: node_ips.iter().copied().collect() },
            node_ip: node_ips[0],
            routes: Vec::new(),
            random: KernelRandom::new(Stream::new(seed, path, "get_random_u32")),
            recent: RecentTables::default(),
            memory: Memory::default(),
            dynamic: nftables::DynamicSets::new(),
            xtables_dynamic: nftables::DynamicSets::new(),
            icmp: IcmpLimit::default(),
        }
    }

    /// The CPU's random numbers, for whom a script is to dictate them.
    pub fn random(&mut self) -> &mut KernelRandom {
        &mut self.random
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

/// A connection in the making, or one that exists.
struct Tracked {
    id: Option<ConnId>,
    direction: Direction,
    original: Tuple,
    reply: Tuple,
    nat: NatStatus,
    dst_bound: bool,
    src_bound: bool,
    /// Belongs to no connection and begins none.
    invalid: bool,
}

/// One packet under way.
struct Walk<'a, O> {
    stack: &'a Stack,
    state: &'a mut NodeState,
    packet: Packet,
    tracked: Tracked,
    now: SimTime,
    /// The packet began its connection: conntrack says NEW of it to the end, although it is confirmed on the way.
    first: bool,
    work: Work,
    in_iface: &'static str,
    out_iface: &'static str,
    translated: Option<std::net::SocketAddr>,
    masqueraded: bool,
    ipvs_virtual: Option<std::net::SocketAddr>,
    observer: &'a mut O,
}

/// Sends `packet` through the node.
pub fn cross(stack: &Stack, state: &mut NodeState, packet: Packet, origin: Origin, now: SimTime) -> Crossing {
    cross_observed(stack, state, packet, origin, now, &mut ())
}

/// The same, telling `observer` each step.
pub fn cross_observed<O: Observer>(
    stack: &Stack,
    state: &mut NodeState,
    packet: Packet,
    origin: Origin,
    now: SimTime,
    observer: &mut O,
) -> Crossing {
    let mut work = Work::new();
    let (entry, in_iface) = match origin {
        Origin::Pod => (Hook::Prerouting, "veth0"),
        Origin::Wire => (Hook::Prerouting, "eth0"),
        Origin::Host => (Hook::Output, ""),
    };
    let tuple = Tuple::of(&packet);
    let v6 = packet.family() == Family::Ipv6;
    work[Unit::PathV6] += u32::from(v6);
    let known = if stack.tracks { state.conntrack.lookup(&tuple, now, &mut work) } else { None };
    let known = known.filter(|&(id, direction)| !state.conntrack.reopen(id, direction, packet.flags));
    if stack.tracks && known.is_none() && !state.conntrack.make_room(&tuple, now) {
        return Crossing { verdict: Verdict::Drop, packet, first: true, work };
    }
    let tracked = match known {
        Some((id, direction)) => {
            state.conntrack.advance(id, direction, packet.flags, now);
            let conn = state.conntrack.conn(id);
            let (original, reply, nat) = (conn.original, conn.reply, conn.nat);
            Tracked {
                id: Some(id),
                direction,
                original,
                reply,
                nat,
                dst_bound: true,
                src_bound: true,
                invalid: false,
            }
        }
        None => Tracked {
            id: None,
            direction: Direction::Original,
            original: tuple,
            reply: tuple.reversed(),
            nat: NatStatus::default(),
            dst_bound: false,
            src_bound: false,
            invalid: false,
        },
    };
    let first = tracked.id.is_none();
    if stack.tracks {
        work[Unit::CtTcp] += u32::from(packet.proto == Proto::Tcp);
        work[Unit::CtTcpNew] += u32::from(first && packet.proto == Proto::Tcp);
        work[Unit::CtNewV6] += u32::from(first && v6);
    }
    let mut walk = Walk {
        stack,
        state,
        packet,
        tracked,
        now,
        first,
        work,
        in_iface,
        out_iface: "",
        translated: None,
        masqueraded: false,
        ipvs_virtual: None,
        observer,
    };
    walk.tell(Step::Tracked(walk.ct_state()));
    let outcome = walk.run(entry);
    if outcome != HookVerdict::Accept {
        walk.work[Unit::PathStopped] += 1;
        walk.work[Unit::CtStopped] += u32::from(first && stack.tracks);
    }
    walk.tell(Step::End(outcome));
    let verdict = match outcome {
        HookVerdict::Drop => Verdict::Drop,
        HookVerdict::Reject => {
            walk.work[Unit::Rejects] += 1;
            Verdict::Reject
        }
        HookVerdict::Accept => match walk.translated {
            Some(to) => Verdict::Dnat { to, masquerade: walk.masqueraded },
            None => Verdict::Accept,
        },
    };
    Crossing { verdict, packet: walk.packet, first, work: walk.work }
}

impl<O: Observer> Walk<'_, O> {
    fn ct_state(&self) -> CtState {
        match self.tracked.id {
            _ if !self.stack.tracks => CtState::Untracked,
            _ if self.tracked.invalid => CtState::Invalid,
            Some(_) if !self.first => CtState::Established,
            _ => CtState::New,
        }
    }

    fn tell(&mut self, step: Step) {
        self.observer.step(step, &self.packet, &self.work);
    }

    fn run(&mut self, entry: Hook) -> HookVerdict {
        // A route to the node's own address is not kept for a packet of its own (`__mkroute_output`).
        if entry == Hook::Output && self.is_local(self.packet.dst) {
            self.work[Unit::RouteLocalMiss] += 1;
        }
        // IPVS takes the node's own packets between destination NAT and the filters.
        let ipvs_out = entry == Hook::Output && self.stack.has_ipvs;
        if ipvs_out {
            let verdict = self.hook(entry, i32::MIN..-98);
            if verdict != HookVerdict::Accept {
                return verdict;
            }
            if let Some(verdict) = self.ipvs(Unit::PathOutput) {
                return verdict;
            }
        }
        let verdict = self.hook(entry, if ipvs_out { -98..i32::MAX } else { i32::MIN..i32::MAX });
        if verdict != HookVerdict::Accept {
            return verdict;
        }
        if entry == Hook::Output {
            self.work[Unit::PathOutput] += 1;
            if self.translated.is_some() {
                self.work[Unit::Reroutes] += 1;
                self.work[Unit::FibNodes] += self.state.fib_nodes(self.packet.dst);
            }
            let verdict = self.leave();
            if verdict == HookVerdict::Accept && self.is_local(self.packet.dst) && !self.stack.has_ipvs {
                return self.loop_back();
            }
            return verdict;
        } else if self.is_local(self.packet.dst) {
            self.work[Unit::FibNodes] += self.state.fib_nodes(self.packet.dst);
            self.tell(Step::Routed { local: true });
            return self.deliver();
        } else {
            self.work[Unit::FibNodes] += self.state.fib_nodes(self.packet.dst);
            self.tell(Step::Routed { local: false });
            self.out_iface = "veth0";
            let verdict = self.hook(Hook::Forward, i32::MIN..i32::MAX);
            if verdict != HookVerdict::Accept {
                return verdict;
            }
            self.work[Unit::PathForward] += 1;
            self.ipvs_answer();
        }
        self.leave()
    }

    /// What the node sends to itself leaves by `lo` and comes in there again, with its connection: conntrack and NAT,
    /// which have seen it, do nothing more (`nf_conntrack_in` returns at once for a packet that has one).
    fn loop_back(&mut self) -> HookVerdict {
        (self.in_iface, self.out_iface) = ("lo", "");
        let verdict = self.hook(Hook::Prerouting, i32::MIN..i32::MAX);
        if verdict != HookVerdict::Accept {
            return verdict;
        }
        self.tell(Step::Routed { local: true });
        self.deliver()
    }

    fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback()
            || self.state.node.local_addrs.contains(&addr)
            || self.stack.dummy_addrs.contains(&addr)
    }

    /// INPUT; IPVS may take the packet there and send it on.
    fn deliver(&mut self) -> HookVerdict {
        let verdict = self.hook(Hook::Input, i32::MIN..98);
        if verdict != HookVerdict::Accept {
            return verdict;
        }
        if let Some(verdict) = self.ipvs(Unit::PathForward) {
            return verdict;
        }
        self.work[Unit::PathInput] += 1;
        let verdict = self.hook(Hook::Input, 98..i32::MAX);
        if verdict == HookVerdict::Accept { self.confirm() } else { verdict }
    }

    fn leave(&mut self) -> HookVerdict {
        let queue = self.state.route(self.packet.dst).is_some_and(|route| route.queue);
        self.work[Unit::PathQueued] += u32::from(queue);
        let verdict = self.hook(Hook::Postrouting, i32::MIN..i32::MAX);
        if verdict == HookVerdict::Accept { self.confirm() } else { verdict }
    }

    /// Runs the hook's functions with a priority in `range`.
    fn hook(&mut self, hook: Hook, range: std::ops::Range<i32>) -> HookVerdict {
        let stack = self.stack;
        self.tell(Step::Hook(hook));
        // A hook that is gone through in two parts is entered once.
        if range.start == i32::MIN && stack.is_active(hook) {
            self.work[Unit::HookCalls] += 1;
        }
        let nat_due = |p: i32| range.contains(&p) && stack.has_nat && stack.tracks && !self.tracked.invalid;
        let nat_priority = if matches!(hook, Hook::Prerouting | Hook::Output) { -100 } else { 100 };
        let mut nat_done = hook == Hook::Forward || !nat_due(nat_priority);
        for (mechanism, function) in &stack.hooks[hook as usize] {
            if !range.contains(&function.priority) {
                continue;
            }
            if !nat_done && function.priority > nat_priority {
                nat_done = true;
                if self.nat(hook) == HookVerdict::Drop {
                    return HookVerdict::Drop;
                }
            }
            if function.kind == ChainKind::Filter {
                let (verdict, _) = self.call(*mechanism, function.id);
                if verdict != HookVerdict::Accept {
                    return verdict;
                }
            }
        }
        if nat_done { HookVerdict::Accept } else { self.nat(hook) }
    }

    /// `nf_nat_inet_fn`: binds the connection on its first packet, rewrites every packet.
    fn nat(&mut self, hook: Hook) -> HookVerdict {
        let destination = matches!(hook, Hook::Prerouting | Hook::Output);
        let bound = if destination { self.tracked.dst_bound } else { self.tracked.src_bound };
        if bound {
            self.work[Unit::NatHookEst] += 1;
        } else {
            self.work[Unit::NatHookNew] += 1;
            let stack = self.stack;
            let mut request = NatRequest::default();
            for (mechanism, function) in &stack.hooks[hook as usize] {
                if function.kind != ChainKind::Nat {
                    continue;
                }
                let (verdict, asked) = self.call(*mechanism, function.id);
                if verdict != HookVerdict::Accept {
                    return verdict;
                }
                if asked != NatRequest::default() {
                    request = asked;
                    break;
                }
            }
            self.bind(destination, request);
        }
        self.rewrite(destination);
        HookVerdict::Accept
    }

    fn bind(&mut self, destination: bool, request: NatRequest) {
        let (reply, work) = (self.tracked.reply, &mut self.work);
        let own = self.state.masquerade_address(self.packet.dst);
        let ct = &mut self.state.conntrack;
        let reply = match (destination, request.dnat, request.masquerade) {
            (true, Some(to), _) => nat::bind_destination(reply, to, work),
            (false, _, Some(random_fully)) => {
                nat::bind_masquerade(ct, reply, own, random_fully, self.now, &mut self.state.random, work)
            }
            _ => nat::bind_null(ct, reply, self.now, &mut self.state.random, work),
        };
        let changed = reply != self.tracked.reply;
        self.tracked.reply = reply;
        if destination {
            self.tracked.dst_bound = true;
            self.tracked.nat.dst = changed;
        } else {
            self.tracked.src_bound = true;
            self.tracked.nat.src = changed;
        }
    }

    /// `nf_nat_packet`: the header this hook's manipulation changes, in the packet's direction.
    fn rewrite(&mut self, destination: bool) {
        let nat = self.tracked.nat;
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
        let (ip, port, wanted) = if destination {
            (&mut p.dst, &mut p.dport, target.dst)
        } else {
            (&mut p.src, &mut p.sport, target.src)
        };
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

    /// `nf_conntrack_confirm`: the connection becomes visible, unless its reply tuple is taken or there is no room.
    fn confirm(&mut self) -> HookVerdict {
        if self.tracked.id.is_some() || !self.stack.tracks {
            return HookVerdict::Accept;
        }
        let Tracked { original, reply, nat, .. } = self.tracked;
        if self.state.conntrack.is_used(&reply, self.now, &mut Work::new()) {
            return HookVerdict::Drop;
        }
        match self.state.conntrack.insert(original, reply, nat, self.now, &mut self.work) {
            Ok(id) => {
                self.tracked.id = Some(id);
                HookVerdict::Accept
            }
            Err(_) => HookVerdict::Drop,
        }
    }

    fn call(&mut self, mechanism: Mechanism, id: usize) -> (HookVerdict, NatRequest) {
        let tracked = &self.tracked;
        let conn = tracked.id.map(|id| self.state.conntrack.conn(id));
        let flow = FlowRef { original: &tracked.original, reply: &tracked.reply, conn };
        let mut cx = PacketCx {
            packet: self.packet,
            ct: CtView {
                state: self.ct_state(),
                reply: self.tracked.direction == Direction::Reply,
                dnat: self.tracked.nat.dst,
                snat: self.tracked.nat.src,
                mark: 0,
            },
            in_iface: self.in_iface,
            out_iface: self.out_iface,
            ipvs_virtual: self.ipvs_virtual,
            nat: NatRequest::default(),
            node: &self.state.node,
            dummy_addrs: &self.stack.dummy_addrs,
            sets: &self.stack.sets,
            notrack: false,
            hotdrop: false,
            flow: Some(flow),
            bridge: None,
            recent: &mut self.state.recent,
            memory: &mut self.state.memory,
            now: self.now,
            random: &mut self.state.random,
            work: &mut self.work,
        };
        let lookups = |work: &Work| work[Unit::MatchAddrtype] + work[Unit::NftFib];
        let before = lookups(cx.work);
        let verdict = match mechanism {
            Mechanism::Xtables => self.stack.xtables.run_observed(id, &mut cx, self.observer),
            Mechanism::XtablesNft => {
                let engine = self.stack.xtables_nft.as_ref().expect("its hooks are registered");
                let dynamic = Some(&mut self.state.xtables_dynamic);
                engine.run_as_xtables(id, &mut cx, dynamic, self.now, self.observer)
            }
            Mechanism::Nftables => {
                let engine = self.stack.nftables.as_ref().expect("its hooks are registered");
                engine.run_observed(id, &mut cx, Some(&mut self.state.dynamic), self.now, self.observer)
            }
        };
        let (mark, asked) = (cx.packet.mark, cx.nat);
        let lookups = lookups(cx.work) - before;
        self.work[Unit::FibNodes] += lookups * self.state.fib_nodes(self.packet.dst);
        self.packet.mark = mark;
        (verdict, asked)
    }
}
