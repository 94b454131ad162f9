//! Hand-made Services and a packet's way through the hooks, for tests of one mechanism.

use sim_core::classify::{Family, Packet, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use sim_models::config::ProxyConfig;
use sim_models::kernel::hook::{CtView, Hook, HookVerdict, KernelRandom, NatRequest, NodeCx, PacketCx};
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::nftables::{DynamicSets, Engine};
use sim_models::kernel::trace::Observer;
use sim_models::kernel::xtables::memory::Memory;
use sim_models::kernel::xtables::recent::RecentTables;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// kube-proxy's defaults in nftables mode.
pub fn config(minor: u32, local_cidr: &str) -> ProxyConfig {
    ProxyConfig {
        mode: "nftables".into(),
        kubernetes_minor: minor,
        cluster_cidrs: vec![local_cidr.parse().unwrap()],
        ..ProxyConfig::default()
    }
}

/// A TCP Service of the recorded kernel measurements: `ns-I/svc-0000I:http`, 172.20.0.(1+I):80.
pub fn service(i: u32, endpoints: u32) -> ServicePort {
    let ip = |base: u32, off: u32| IpAddr::V4(Ipv4Addr::from_bits(base + off));
    let list: Vec<Endpoint> = (0..endpoints)
        .map(|e| Endpoint {
            addr: SocketAddr::new(ip(0x0a50_0100, i * endpoints + e), 8080),
            is_local: i + e == 0,
        })
        .collect();
    let endpoints = EndpointLists {
        local: list.iter().filter(|e| e.is_local).cloned().collect(),
        ..EndpointLists::ready(list.clone())
    };
    ServicePort::http(&format!("ns-{i}"), &format!("svc-{i:05}"), ip(0xac14_0001, i), endpoints)
}

/// Such Services on a node with this address.
pub fn objects(services: u32, endpoints: u32, node_ip: &str) -> ProxyObjects {
    ProxyObjects {
        ports: (0..services).map(|i| service(i, endpoints)).collect(),
        service_cidrs: vec!["172.20.0.0/14".parse().unwrap()],
        node_ips: vec![node_ip.parse().unwrap()],
        ..ProxyObjects::default()
    }
}

/// A SYN.
pub fn syn(src: &str, dst: &str, dport: u16) -> Packet {
    Packet::tcp_syn(src.parse().unwrap(), 40_000, dst.parse().unwrap(), dport)
}

/// A node that packets are sent through.
pub struct Node {
    /// Its rules.
    pub engine: Engine,
    /// Its affinity.
    pub dynamic: DynamicSets,
    /// Its addresses.
    pub cx: NodeCx,
    /// Its random numbers.
    pub random: KernelRandom,
    /// Time of the next packet.
    pub now: SimTime,
    /// Device that packets come in by, if they do.
    pub iface: &'static str,
}

/// What became of a packet.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// The last verdict.
    pub verdict: HookVerdict,
    /// New destination.
    pub dnat: Option<SocketAddr>,
    /// Source rewritten.
    pub masquerade: bool,
    /// What it took.
    pub work: Work,
}

impl Node {
    /// A node with these rules and addresses.
    pub fn new(engine: Engine, local: &[&str]) -> Self {
        let mut cx = NodeCx::default();
        cx.local_addrs.extend(local.iter().map(|a| a.parse::<IpAddr>().unwrap()));
        let random = KernelRandom::new(Stream::new(7, "node/0", "kernel"));
        Node { engine, dynamic: DynamicSets::new(), cx, random, now: SimTime::ZERO, iface: "" }
    }

    /// The first packet of a connection from a pod or from outside: in through prerouting, then to this node
    /// or onwards.
    pub fn first_packet(&mut self, packet: Packet) -> Outcome {
        self.traced(packet, Hook::Prerouting, &mut ())
    }

    /// The same, or made on this node if `from` is output, telling which rules matched.
    pub fn traced(&mut self, packet: Packet, from: Hook, trace: &mut impl Observer) -> Outcome {
        let mut work = Work::new();
        let mut cx = PacketCx {
            packet,
            ct: CtView::NEW,
            in_iface: if from == Hook::Output { "" } else { self.iface },
            out_iface: "",
            nat: NatRequest::default(),
            node: &self.cx,
            dummy_addrs: &BTreeSet::new(),
            sets: &IpSets::default(),
            notrack: false,
            hotdrop: false,
            flow: None,
            bridge: None,
            recent: &mut RecentTables::default(),
            memory: &mut Memory::default(),
            now: self.now,
            ipvs_virtual: None,
            random: &mut self.random,
            work: &mut work,
        };
        let mut hooks = self.engine.hooks();
        hooks.sort_by_key(|h| h.priority);
        let mut verdict = HookVerdict::Accept;
        let mut next = Some(from);
        'path: while let Some(hook) = next {
            for h in hooks.iter().filter(|h| h.hook == hook) {
                verdict = self.engine.run_observed(h.id, &mut cx, Some(&mut self.dynamic), self.now, trace);
                if verdict != HookVerdict::Accept {
                    break 'path;
                }
                if let (false, Some(to)) = (cx.ct.dnat, cx.nat.dnat) {
                    cx.packet.dst = to.ip();
                    cx.packet.dport = to.port();
                    cx.ct.dnat = true;
                }
            }
            next = match hook {
                Hook::Prerouting if self.cx.local_addrs.contains(&cx.packet.dst) => Some(Hook::Input),
                Hook::Prerouting => Some(Hook::Forward),
                Hook::Forward | Hook::Output => Some(Hook::Postrouting),
                Hook::Input | Hook::Postrouting => None,
            };
        }
        let (dnat, masquerade) = (cx.nat.dnat, cx.nat.masquerade.is_some());
        Outcome { verdict, dnat, masquerade, work }
    }
}

/// IPv4, everywhere in these tests.
pub const V4: Family = Family::Ipv4;
