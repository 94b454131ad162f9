//! The base chains of kube-proxy's nftables table that see a connection's first packet, without connection tracking
//! around them.

use crate::classify::{build, mode, objects};
use sim_core::classify::{Packet, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use sim_models::kernel::hook::{
    ChainKind, CtView, Hook, HookVerdict, KernelRandom, NatRequest, NodeCx, PacketCx,
};
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::nftables::{DynamicSets, Engine};
use sim_models::kernel::xtables::memory::Memory;
use sim_models::kernel::xtables::recent::RecentTables;
use sim_models::kube::ProxyObjects;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));

/// A node's table, and what it needs to run.
pub struct Table {
    engine: Engine,
    prerouting: usize,
    postrouting: usize,
    objects: ProxyObjects,
    sets: IpSets,
    node: NodeCx,
    dummy_addrs: BTreeSet<IpAddr>,
    recent: RecentTables,
    memory: Memory,
    dynamic: DynamicSets,
    random: KernelRandom,
}

impl Table {
    /// Of a cluster of `services` Services with three endpoints each.
    ///
    /// # Panics
    /// If kube-proxy's table lacks a chain for NAT.
    pub fn new(services: u32) -> Self {
        let objects = objects(services, 3);
        let rules = build(mode("nftables"), &objects);
        let table = rules.nftables.expect("a table");
        let engine = Engine::new(&table, 1).expect("a table of kube-proxy compiles");
        let nat = |hook| {
            let of = |h: &&sim_models::kernel::hook::HookFn| h.hook == hook && h.kind == ChainKind::Nat;
            engine.hooks().iter().find(of).expect("a chain for NAT").id
        };
        let (prerouting, postrouting) = (nat(Hook::Prerouting), nat(Hook::Postrouting));
        Table {
            engine,
            prerouting,
            postrouting,
            objects,
            sets: IpSets::new(&[], 1),
            node: NodeCx { local_addrs: [NODE].into() },
            dummy_addrs: BTreeSet::new(),
            recent: RecentTables::default(),
            memory: Memory::default(),
            dynamic: DynamicSets::new(),
            random: KernelRandom::new(Stream::new(1, "bench", "get_random_u32")),
        }
    }

    /// Addresses of its Services, by place.
    pub fn services(&self) -> Vec<SocketAddr> {
        self.objects.ports.iter().map(|p| SocketAddr::new(p.cluster_ip, p.port)).collect()
    }

    /// Classifies a first packet to a Service: destination NAT, then source NAT. Returns the endpoint and the work.
    ///
    /// # Panics
    /// If the table does not translate it.
    pub fn first_packet(&mut self, to: SocketAddr) -> (SocketAddr, Work) {
        let mut work = Work::new();
        let mut cx = PacketCx {
            packet: Packet::tcp_syn(CLIENT, 40_000, to.ip(), to.port()),
            ct: CtView::NEW,
            in_iface: "veth0",
            out_iface: "",
            ipvs_virtual: None,
            nat: NatRequest::default(),
            node: &self.node,
            dummy_addrs: &self.dummy_addrs,
            sets: &self.sets,
            notrack: false,
            hotdrop: false,
            flow: None,
            bridge: None,
            recent: &mut self.recent,
            memory: &mut self.memory,
            now: SimTime::ZERO,
            random: &mut self.random,
            work: &mut work,
        };
        let verdict = self.engine.run_at(self.prerouting, &mut cx, Some(&mut self.dynamic), SimTime::ZERO);
        let chosen = cx.nat.dnat.take().filter(|_| verdict == HookVerdict::Accept).expect("translated");
        (cx.packet.dst, cx.packet.dport) = (chosen.ip(), chosen.port());
        cx.ct.dnat = true;
        cx.out_iface = "veth1";
        self.engine.run_at(self.postrouting, &mut cx, Some(&mut self.dynamic), SimTime::ZERO);
        (chosen, work)
    }
}
