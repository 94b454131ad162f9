//! Packets through the rules of generated clusters: what the classification benches measure.
//!
//! * [`Node`]: one node of a cluster in one mode, with connections tracked, as the simulator runs it.
//! * [`Walk`]: the NAT table's walk alone, as [`Compiled::run`] does it for the first packet of a connection.
//! * [`Syncs`]: what kube-proxy gives to its tools, on a start and after a change.
//! * [`Scan`]: nothing but the address columns of a chain of rules that do not fit.

use sim_core::classify::linear::{AddrPair, AddrTest, LinearTable};
use sim_core::classify::{Family, Packet, TcpFlags, Unit, Work};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::{ClusterConfig, EndpointLaw, ProxyConfig};
use sim_models::kernel::hook::{
    ChainKind, CtView, Hook, HookVerdict, KernelRandom, NatRequest, NodeCx, PacketCx,
};
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::Compiled;
use sim_models::kernel::xtables::memory::Memory;
use sim_models::kernel::xtables::recent::RecentTables;
use sim_models::kernel::xtables::reference::Reference;
use sim_models::kube::ProxyObjects;
use sim_models::kube::generate::generate;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{self, ProxyMode};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));
const NODES: u32 = 10;
/// Source ports that clients cycle through.
const SOURCE_PORTS: u32 = 50_000;

/// A cluster of `services` Services with `endpoints` endpoints each.
pub fn cluster(services: u32, endpoints: u32) -> ClusterConfig {
    ClusterConfig {
        nodes: NODES,
        services,
        endpoints: EndpointLaw::Fixed(endpoints),
        service_cidr: "10.96.0.0/12".parse().expect("a constant"),
        cluster_cidr: "10.128.0.0/9".parse().expect("a constant"),
        objects: None,
    }
}

/// kube-proxy's configuration on such a cluster.
pub fn config(mode: &dyn ProxyMode) -> ProxyConfig {
    ProxyConfig {
        mode: mode.name().to_owned(),
        cluster_cidrs: vec!["10.128.0.0/9".parse().expect("a constant")],
        ..ProxyConfig::default()
    }
}

/// What kube-proxy on the first node of such a cluster knows.
pub fn objects(services: u32, endpoints: u32) -> ProxyObjects {
    let made = generate(&cluster(services, endpoints), 1).expect("the networks are large enough");
    resolve(&made.objects, Family::Ipv4, &made.objects.nodes[0].name)
}

/// The mode of that name.
///
/// # Panics
/// If there is none.
pub fn mode(name: &str) -> &'static dyn ProxyMode {
    proxy::mode(name).unwrap_or_else(|| panic!("no mode {name}"))
}

/// The rules that `mode` writes for `objects`.
pub fn build(mode: &dyn ProxyMode, objects: &ProxyObjects) -> NodeRules {
    mode.build(objects, &config(mode), Family::Ipv4)
}

/// Two states of a generated cluster: an endpoint of one Service is replaced.
pub struct Syncs {
    mode: &'static dyn ProxyMode,
    states: [(SimTime, ProxyObjects); 2],
}

impl Syncs {
    /// The states under the mode of that name.
    pub fn new(mode_name: &str, services: u32, endpoints: u32) -> Self {
        let first = objects(services, endpoints);
        let mut second = first.clone();
        let addr = SocketAddr::from(([10, 255, 255, 1], 8080));
        second.replace_endpoint(0, 0, addr, false).expect("the first Service has an endpoint");
        let states = [(SimTime::ZERO, first), (SimTime::ZERO + SimSpan::from_secs(60), second)];
        Syncs { mode: mode(mode_name), states }
    }

    /// Bytes of the first sync's input.
    pub fn first(&self) -> u64 {
        self.written(1)
    }

    /// Bytes of the inputs of both syncs.
    pub fn both(&self) -> u64 {
        self.written(2)
    }

    fn written(&self, states: usize) -> u64 {
        let inputs = self.mode.inputs(&self.states[..states], &config(self.mode), Family::Ipv4);
        let inputs = inputs.expect("a mode that writes to tools");
        inputs.iter().flatten().map(|input| input.stdin.len() as u64).sum()
    }
}

/// A node of a generated cluster.
pub struct Node {
    objects: ProxyObjects,
    stack: Stack,
    state: NodeState,
    flows: u32,
}

impl Node {
    /// A node in `mode` with `services` Services of three endpoints each, that has seen no packet.
    pub fn new(mode_name: &str, services: u32) -> Self {
        let objects = objects(services, 3);
        let stack = Stack::new(&build(mode(mode_name), &objects), 1).expect("rules of a mode compile");
        Node { objects, stack, state: fresh_state(), flows: 0 }
    }

    /// Forgets all connections.
    pub fn restart(&mut self) {
        self.state = fresh_state();
        self.flows = 0;
    }

    /// The first packet of a new connection from a pod to the Service at `place`; returns its work.
    ///
    /// # Panics
    /// After as many connections as there are source ports: [`Node::restart`] before.
    pub fn first_packet(&mut self, place: usize) -> Work {
        self.flows += 1;
        assert!(self.flows < SOURCE_PORTS, "{} flows without a restart", self.flows);
        let now = SimTime::ZERO + SimSpan::from_us(u64::from(self.flows) * 100);
        let syn = self.syn(place, self.flows);
        let crossing = cross(&self.stack, &mut self.state, syn, Origin::Pod, now);
        assert!(crossing.first && crossing.packet.dport == 8080, "not translated: {crossing:?}");
        crossing.work
    }

    /// Opens a connection to the Service at `place` and returns a packet that belongs to it.
    pub fn open(&mut self, place: usize) -> Packet {
        let now = SimTime::ZERO + SimSpan::from_us(u64::from(self.flows + 1) * 100);
        self.first_packet(place);
        let syn = self.syn(place, self.flows);
        // The answer comes from whichever endpoint was drawn: its tuple is the connection's.
        let tuple = sim_models::kernel::conntrack::Tuple::of(&syn);
        let (id, _) = self.state.conntrack.lookup(&tuple, now, &mut Work::new()).expect("just opened");
        let reply = self.state.conntrack.conn(id).reply;
        let answer = Packet {
            flags: TcpFlags::SYN_ACK,
            ..Packet::new(syn.proto, reply.src.ip(), reply.src.port(), reply.dst.ip(), reply.dst.port())
        };
        cross(&self.stack, &mut self.state, answer, Origin::Pod, now);
        syn.with_flags(TcpFlags::ACK)
    }

    /// A packet of a connection that [`Node::open`] made; returns its work.
    pub fn established_packet(&mut self, packet: Packet) -> Work {
        let now = SimTime::ZERO + SimSpan::from_us(u64::from(self.flows) * 100);
        let crossing = cross(&self.stack, &mut self.state, packet, Origin::Pod, now);
        assert!(!crossing.first && crossing.packet.dport == 8080, "not of a connection: {crossing:?}");
        crossing.work
    }

    fn syn(&self, place: usize, flow: u32) -> Packet {
        let port = &self.objects.ports[place];
        Packet::tcp_syn(CLIENT, 1024 + flow as u16, port.cluster_ip, port.port)
    }
}

fn fresh_state() -> NodeState {
    NodeState::new(1, "bench", 2, &[NODE])
}

/// The walk through PREROUTING of the nat table of iptables mode.
pub struct Walk {
    compiled: Compiled,
    hook: usize,
    objects: ProxyObjects,
    sets: IpSets,
    node: NodeCx,
    dummy_addrs: BTreeSet<IpAddr>,
    recent: RecentTables,
    memory: Memory,
    random: KernelRandom,
}

impl Walk {
    /// The walk on a node of a cluster of `services` Services.
    pub fn new(services: u32) -> Self {
        let objects = objects(services, 3);
        let rules = build(mode("iptables"), &objects);
        let sets = IpSets::new(&rules.ipsets, 1);
        let compiled = Compiled::new(&rules.xtables, &sets).expect("rules of a mode compile");
        let nat =
            |h: &&sim_models::kernel::hook::HookFn| h.hook == Hook::Prerouting && h.kind == ChainKind::Nat;
        let hook = compiled.hooks().iter().find(nat).expect("kube-proxy has a PREROUTING chain").id;
        Walk {
            compiled,
            hook,
            objects,
            sets,
            node: NodeCx { local_addrs: [NODE].into() },
            dummy_addrs: BTreeSet::new(),
            recent: RecentTables::default(),
            memory: Memory::default(),
            random: KernelRandom::new(Stream::new(1, "bench", "get_random_u32")),
        }
    }

    /// Walks for a packet to the Service at `place` until it finds an endpoint, scanning columns of addresses; returns the
    /// rules evaluated.
    pub fn run(&mut self, place: usize) -> u32 {
        self.packet(place, |compiled, hook, cx| compiled.run_linear(hook, cx, &mut ()))[Unit::RuleEvals]
    }

    /// The same by the index, as the simulator does it; returns all of its work.
    pub fn indexed(&mut self, place: usize) -> Work {
        self.packet(place, |compiled, hook, cx| compiled.run(hook, cx))
    }

    /// The same by the plain reference, rule after rule.
    pub fn reference(&mut self, reference: &Reference, place: usize) -> Work {
        self.packet(place, |_, hook, cx| reference.run(hook, cx, &mut ()))
    }

    fn packet(
        &mut self,
        place: usize,
        walk: impl FnOnce(&Compiled, usize, &mut PacketCx<'_>) -> HookVerdict,
    ) -> Work {
        let port = &self.objects.ports[place];
        let mut work = Work::new();
        let mut cx = PacketCx {
            packet: Packet::tcp_syn(CLIENT, 40_000, port.cluster_ip, port.port),
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
        let verdict = walk(&self.compiled, self.hook, &mut cx);
        assert!(verdict == HookVerdict::Accept && cx.nat.dnat.is_some(), "{verdict:?} {:?}", cx.nat);
        work
    }
}

/// A chain of rules, one address each.
pub struct Scan {
    table: LinearTable<1>,
}

impl Scan {
    /// A chain of `rules` rules.
    pub fn new(rules: u32) -> Self {
        let mut table = LinearTable::new();
        for i in 0..rules {
            table.push(AddrTest { dst: [0x0a60_0001 + i], dst_mask: [u32::MAX], src: [0], src_mask: [0] });
        }
        Scan { table }
    }

    /// Looks for the rule at `place`; returns the rules evaluated.
    pub fn run(&self, place: u32) -> u32 {
        let addrs = AddrPair { dst: [0x0a60_0001 + place], src: [0x0af4_0009] };
        let found = self.table.next_fit(0..self.table.len(), &addrs);
        assert_eq!(found, Some(place as usize));
        place + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_to_the_last_service_evaluates_a_rule_for_each() {
        let mut walk = Walk::new(500);
        let (first, last) = (walk.run(0), walk.run(499));
        // Endpoints are chosen at random: up to two rules more or less.
        assert!((497..=501).contains(&(last - first)), "{first} {last}");
        assert_eq!(Scan::new(500).run(499), 500);
    }

    #[test]
    fn a_node_translates_first_packets_and_knows_the_later_ones() {
        for mode in proxy::simulated() {
            let mut node = Node::new(mode.name(), 50);
            let evals = node.first_packet(49)[Unit::RuleEvals];
            let packet = node.open(7);
            let later = node.established_packet(packet);
            if mode.name() == "iptables" {
                assert!(evals > 50 && later[Unit::RuleEvals] < 30, "{evals} {later:?}");
            }
        }
    }
}
