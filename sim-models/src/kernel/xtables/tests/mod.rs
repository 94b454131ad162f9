//! Rules as texts against packets: what each extension matches and does, and how the walk goes.

mod extensions;
mod random;
mod refused;
mod sizes;
mod targets;
mod walk;

use super::memory::Memory;
use super::parse::parse;
use super::recent::RecentTables;
use super::{Compiled, Table};
use crate::kernel::hook::{CtView, Hook, HookVerdict, KernelRandom, NatRequest, NodeCx, PacketCx};
use crate::kernel::ipset::{IpSet, IpSets, SetEntry, SetKind};
use crate::kernel::trace::Step;
use sim_core::classify::{Family, Packet, Proto, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The address of the node.
const NODE: &str = "192.168.0.1";

/// Rules of a node and what they remember.
struct Node {
    compiled: Compiled,
    cx: NodeCx,
    dummy_addrs: BTreeSet<IpAddr>,
    sets: IpSets,
    recent: RecentTables,
    memory: Memory,
    random: KernelRandom,
}

/// What became of a packet.
struct Outcome {
    verdict: HookVerdict,
    steps: Vec<Step>,
    packet: Packet,
    ct: CtView,
    nat: NatRequest,
    notrack: bool,
    work: Work,
}

fn tables(text: &str, family: Family) -> Vec<Table> {
    parse(text, family).unwrap_or_else(|error| panic!("{text}: {error}")).tables
}

fn sets() -> IpSets {
    let mut nets = IpSet::new("NETS", SetKind::HashIpPortNet, Family::Ipv4);
    let dst = "10.1.0.1".parse().unwrap();
    nets.elements = vec![SetEntry::IpPortNet(dst, Proto::Tcp, 80, "10.0.0.0/8".parse().unwrap())];
    let mut ports = IpSet::new("PORTS", SetKind::HashIpPort, Family::Ipv4);
    ports.elements = vec![SetEntry::IpPort(dst, Proto::Tcp, 80)];
    IpSets::new(&[nets, ports], 1)
}

impl Node {
    fn new(text: &str) -> Self {
        Node::of(text, if text.contains("::") { Family::Ipv6 } else { Family::Ipv4 })
    }

    fn of(text: &str, family: Family) -> Self {
        let sets = sets();
        let compiled = Compiled::new(&tables(text, family), &sets);
        Node {
            compiled: compiled.unwrap_or_else(|error| panic!("{text}: {error}")),
            cx: NodeCx { local_addrs: [NODE.parse().unwrap(), "fd00:1::1".parse().unwrap()].into() },
            dummy_addrs: ["10.96.0.1".parse().unwrap()].into(),
            sets,
            recent: RecentTables::default(),
            memory: Memory::default(),
            random: KernelRandom::new(Stream::new(1, "node", "random")),
        }
    }

    fn send(&mut self, hook: Hook, packet: Packet) -> Outcome {
        self.send_at(0, hook, packet, |_| {})
    }

    /// Sends through the first table with that hook; `change` says what is special about the packet.
    fn send_at(
        &mut self,
        ms: u64,
        hook: Hook,
        packet: Packet,
        change: impl FnOnce(&mut PacketCx<'_>),
    ) -> Outcome {
        let mut work = Work::new();
        let function = self.compiled.hooks().into_iter().find(|f| f.hook == hook).expect("it has the hook");
        let (in_iface, out_iface) = match hook {
            Hook::Prerouting | Hook::Input => ("eth0", ""),
            Hook::Output => ("", "eth0"),
            Hook::Forward => ("eth0", "veth0"),
            Hook::Postrouting => ("", "eth0"),
        };
        let mut cx = PacketCx {
            packet,
            ct: CtView::NEW,
            in_iface,
            out_iface,
            ipvs_virtual: None,
            nat: NatRequest::default(),
            node: &self.cx,
            dummy_addrs: &self.dummy_addrs,
            sets: &self.sets,
            notrack: false,
            hotdrop: false,
            flow: None,
            bridge: None,
            recent: &mut self.recent,
            memory: &mut self.memory,
            now: SimTime::from_ns(ms * 1_000_000),
            random: &mut self.random,
            work: &mut work,
        };
        change(&mut cx);
        let mut steps = Vec::new();
        let verdict = self.compiled.run_observed(function.id, &mut cx, &mut steps);
        let (packet, ct, nat, notrack) = (cx.packet, cx.ct, cx.nat, cx.notrack);
        Outcome { verdict, steps, packet, ct, nat, notrack, work }
    }
}

impl Outcome {
    /// Chain and rule of each match, in order.
    fn matched(&self) -> Vec<(u32, u32)> {
        let of = |step: &Step| match step {
            Step::XtMatched { chain, rule, .. } => Some((chain.0, *rule)),
            _ => None,
        };
        self.steps.iter().filter_map(of).collect()
    }

    /// Whether the first rule of the first chain matched.
    fn first(&self) -> bool {
        self.matched().contains(&(0, 0))
    }
}

/// One rule in FORWARD of table filter.
fn one(rule: &str) -> String {
    format!(
        "*filter\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n"
    )
}

/// `tcp 10.0.0.1:1000 > 10.1.0.1:80`, or a part of it changed.
fn packet(proto: Proto, sport: u16, dport: u16) -> Packet {
    let packet = Packet::new(proto, "10.0.0.1".parse().unwrap(), sport, "10.1.0.1".parse().unwrap(), dport);
    if proto == Proto::Tcp { packet.with_flags(sim_core::classify::TcpFlags::SYN) } else { packet }
}

fn syn() -> Packet {
    packet(Proto::Tcp, 1000, 80)
}

/// The same over IPv6.
fn packet_v6(proto: Proto) -> Packet {
    Packet::new(proto, "fd00::1".parse().unwrap(), 1000, "fd00::2".parse().unwrap(), 80)
}
