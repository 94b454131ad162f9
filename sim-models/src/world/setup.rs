//! From a [`WorldConfig`] to a world at rest: objects, nodes, client pods, rules.

use super::later::{LaterNodes, LaterServices};
use super::measure::Measures;
use super::places::Places;
use super::rules::{History, Mode, RuleBook};
use super::{Clients, World};
use crate::config::{Action, CacheState, FeatureGates, TrafficTarget, WorldConfig};
use crate::control::addresses::Addresses;
use crate::control::log::PodId;
use crate::control::plane::ControlPlane;
use crate::control::pods::Pods;
use crate::control::services::Cluster;
use crate::control::watch::Watch;
use crate::host::{Hosts, Machine};
use crate::kernel::conntrack::ConntrackConfig;
use crate::kernel::cost::{CostProfile, Locality};
use crate::kernel::ipvs::scheduler;
use crate::kernel::path::{NodeState, Origin, Stack, cross};
use crate::kube::gates;
use crate::kube::generate::{self, PodAddresses};
use crate::kube::objects::{Node, Objects};
use crate::kube::resolve::resolve;
use crate::kube::{ProxyObjects, ServicePort};
use crate::network::Network;
use crate::proxy;
use crate::proxy::fleet::{Fleet, FleetConfig, RulesId};
use crate::workload::{CLIENT_PODS, LOCAL_PORTS};
use sim_core::classify::{Family, Packet};
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Figures that hold from the start.
pub(super) struct Start {
    pub(super) services: u64,
    pub(super) endpoints: u64,
    pub(super) rules: u64,
    pub(super) memory: u64,
    pub(super) first_sync: Option<SimSpan>,
    pub(super) change_sync: Option<SimSpan>,
    /// Service ports without a reachable endpoint.
    pub(super) empty: u64,
}

/// From the start of kube-proxy's container to its first request (assumed; the recorded starts took about 0.4 s before the
/// first sync began).
const START_UP: SimSpan = SimSpan::from_ms(400);

impl World {
    pub(super) fn new(config: Arc<WorldConfig>, profile: Arc<CostProfile>) -> Result<Self, String> {
        let mode = proxy::mode(&config.proxy.mode).ok_or_else(|| format!("no mode {}", config.proxy.mode))?;
        let mode =
            mode.simulated().ok_or_else(|| format!("{} mode has rules but no simulation", mode.name()))?;
        if scheduler::by_name(&config.proxy.ipvs.scheduler).is_none() {
            return Err(format!("no IPVS scheduler {}", config.proxy.ipvs.scheduler));
        }
        let (mut objects, mut pool) = cluster(&config)?;
        if config.proxy.gates != FeatureGates::default() {
            gates::apply(Arc::make_mut(&mut objects), config.proxy.gates);
        }
        let nodes = nodes(&objects, &config);
        let index: BTreeMap<&str, u32> = nodes.iter().zip(0..).map(|(n, i)| (&*n.name, i)).collect();
        let Cluster { services, pods, state, first } = Cluster::of(&objects, &index, Family::Ipv4);
        let modes = vec![Mode { mode, config: config.proxy.clone() }];
        let mut book = RuleBook::new(modes, objects.clone(), nodes.clone(), state.clone(), config.seed);

        let client_pods = client_pods(&objects, &nodes, pool.as_mut());
        if let Some(n) = client_pods.iter().position(Vec::is_empty) {
            return Err(format!("node {}: its pod network has no address left for a client", nodes[n].name));
        }
        let addresses = match pool {
            Some(pool) => Addresses::Generated(pool),
            None => imported_addresses(&pods, &nodes, &client_pods),
        };
        let names = objects.services.iter().map(|s| format!("{}/{}", s.namespace, s.name));
        let cluster = Cluster { services, pods, state, first };
        let count = nodes.len() as u32;
        let plane = ControlPlane::new(&config, &cluster, names, count, addresses);
        let places = Places::of(plane.pods());
        let Cluster { services, state, first, .. } = cluster;

        let fleet = FleetConfig {
            seed: config.seed,
            mode,
            proxy: config.proxy.clone(),
            family: Family::Ipv4,
            profile: profile.clone(),
            nodes: config.nodes.clone(),
            faults: config.faults,
            start_up: START_UP,
            list_bytes: plane.list_bytes(),
            measured_from: SimTime::MAX,
            churning: config.churn.rate > 0.0,
        };
        let mut fleet = Fleet::new(fleet, &services, &state, count);

        let settings = ConntrackConfig::new(config.kernel.cores, &config.proxy.conntrack);
        let machine = Machine { seed: config.seed, cores: config.kernel.cores, conntrack: settings };
        let mut hosts = Hosts::new(machine, nodes.iter().map(|node| node.addresses.clone()).collect());
        let rules = RulesId { mode: 0, version: 0, under: None };
        (0..count).for_each(|node| hosts.load(node, Some(rules)));

        let history = History { log: plane.log(), pods: plane.pods(), services: &services, first: &first };
        let seen = resolve(&objects, Family::Ipv4, &nodes[0].name);
        let start = start(&seen, &Mode { mode, config: config.proxy.clone() }, &mut fleet, &config, &profile);
        let targets = seen.ports;
        let clients = clients(&config, &targets, nodes.len())?;
        let locality = match clients.is_empty() {
            true => Locality::repeated(config.kernel.cache),
            false => locality(&config, &targets, &book.stack(0, Some(rules), history), &clients),
        };
        let residency = profile.residency(&locality);
        let state = match locality.state {
            CacheState::Hot => CacheState::Shared,
            pushed_out => pushed_out,
        };
        let disturbed = profile.residency(&Locality { state, ..locality });
        let joining = config.timeline.iter().map(|planned| match planned.action {
            Action::AddNodes { count } => count,
            _ => 0,
        });
        let taken = targets.iter().map(|port| port.cluster_ip);
        Ok(World {
            network: Network::new(count + joining.sum::<u32>()),
            later_services: LaterServices::new(config.cluster.service_cidr, taken),
            later_nodes: LaterNodes::new(&nodes),
            watch: Watch::new(&config.control, count, config.seed),
            measures: Measures::new(),
            numbered: 0,
            connections: Vec::new(),
            free: Vec::new(),
            measuring: false,
            ended: false,
            give_up: SimTime::MAX,
            effects: Vec::new(),
            loaded: Vec::new(),
            pods: client_pods,
            config,
            profile,
            hosts,
            places,
            plane,
            fleet,
            book,
            services,
            first,
            start,
            clients,
            targets,
            residency,
            disturbed,
        })
    }
}

/// Objects as generated or imported.
fn cluster(config: &WorldConfig) -> Result<(Arc<Objects>, Option<PodAddresses>), String> {
    match &config.cluster.objects {
        Some(objects) => Ok((objects.clone(), None)),
        None => {
            let made = generate::generate(&config.cluster, config.seed).map_err(|e| e.to_string())?;
            Ok((Arc::new(made.objects), Some(made.addresses)))
        }
    }
}

/// Addresses of pods to come in an imported cluster: beside those that somebody has.
fn imported_addresses(pods: &Pods, nodes: &[Node], clients: &[Vec<(IpAddr, u16)>]) -> Addresses {
    let all = || (0..pods.len() as u32).map(|id| pods.get(PodId(id)));
    let hosts = nodes.iter().flat_map(|node| node.addresses.iter().copied());
    let clients = clients.iter().flatten().map(|(ip, _)| *ip);
    let taken = all().map(|pod| pod.address).chain(hosts).chain(clients).collect();
    Addresses::imported(taken, all().map(|pod| (pod.address, pod.node)), nodes.len())
}

/// The nodes: the import's own with an IPv4 address, or as many as asked for.
fn nodes(objects: &Objects, config: &WorldConfig) -> Vec<Node> {
    let v4 = |node: &Node| node.addresses.iter().any(IpAddr::is_ipv4);
    let known: Vec<Node> = objects.nodes.iter().filter(|n| v4(n)).cloned().collect();
    if !known.is_empty() {
        return known;
    }
    (0..config.cluster.nodes)
        .map(|i| Node {
            name: format!("node-{i}").into(),
            zone: None,
            addresses: vec![IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 0, 10)) + i))],
            pod_cidrs: Vec::new(),
        })
        .collect()
}

/// Figures of the first node as it really sees the cluster.
fn start(
    seen: &ProxyObjects,
    mode: &Mode,
    fleet: &mut Fleet,
    config: &WorldConfig,
    profile: &CostProfile,
) -> Start {
    // Not the view that nodes share, in which every endpoint is local.
    let rules = mode.rules(seen, Family::Ipv4);
    let stack = Stack::new(&rules, config.seed).unwrap_or_else(|e| panic!("a mode's own rules: {e}"));
    Start {
        services: seen.ports.len() as u64,
        endpoints: seen.ports.iter().map(|p| p.endpoints.reachable.len() as u64).sum(),
        rules: mode.mode.rule_count(&rules),
        memory: stack.memory_bytes(u64::from(config.kernel.cores)),
        first_sync: profile.has_sync().then(|| fleet.first_sync().wall),
        change_sync: fleet.change_sync(seen).filter(|_| profile.has_sync()).map(|cost| cost.wall),
        empty: seen.ports.iter().filter(|p| p.endpoints.reachable.is_empty()).count() as u64,
    }
}

/// Addresses of every node's client pods, with the first source port of each.
fn client_pods(
    objects: &Objects,
    nodes: &[Node],
    mut pool: Option<&mut PodAddresses>,
) -> Vec<Vec<(IpAddr, u16)>> {
    let mut of_node = |n: usize, node: &Node| -> Vec<IpAddr> {
        match &mut pool {
            Some(pool) => (0..CLIENT_PODS).filter_map(|_| pool.allocate(n)).collect(),
            None => imported_pods(objects, n, node),
        }
    };
    nodes
        .iter()
        .enumerate()
        .map(|(n, node)| of_node(n, node).into_iter().map(|ip| (ip, *LOCAL_PORTS.start())).collect())
        .collect()
}

/// Pods of an imported node, or addresses of its pod network that no endpoint has.
fn imported_pods(objects: &Objects, n: usize, node: &Node) -> Vec<IpAddr> {
    let own = objects.pods.iter().filter(|p| p.node.as_deref() == Some(&*node.name) && !p.host_network);
    let own: Vec<IpAddr> =
        own.filter_map(|p| p.addresses.iter().copied().find(IpAddr::is_ipv4)).take(CLIENT_PODS).collect();
    if !own.is_empty() {
        return own;
    }
    let taken: BTreeSet<IpAddr> =
        objects.slices.iter().flat_map(|s| &s.endpoints).map(|e| e.address).collect();
    let network = node.pod_cidrs.iter().find_map(|net| match net {
        ipnet::IpNet::V4(v4) => Some((u32::from(v4.network()), u32::from(v4.broadcast()))),
        ipnet::IpNet::V6(_) => None,
    });
    let guess = u32::from(Ipv4Addr::new(10, 244, 0, 0)) + ((n as u32) << 8);
    let (first, last) = network.unwrap_or((guess, guess + 255));
    // From the end of the network, where pods come last.
    (first + 1..last)
        .rev()
        .map(|a| IpAddr::V4(Ipv4Addr::from(a)))
        .filter(|ip| !taken.contains(ip))
        .take(CLIENT_PODS)
        .collect()
}

fn clients(config: &WorldConfig, ports: &[ServicePort], nodes: usize) -> Result<Vec<Clients>, String> {
    let mut all = Vec::new();
    for (class, traffic) in config.traffic.iter().enumerate() {
        let called = |port: &ServicePort| match &traffic.to {
            TrafficTarget::Uniform => true,
            TrafficTarget::Service(name) => format!("{}/{}", port.namespace, port.name) == *name,
        };
        let targets: Vec<u32> =
            ports.iter().zip(0..).filter(|(port, _)| called(port)).map(|(_, i)| i).collect();
        if targets.is_empty() {
            return Err(format!("traffic {:?}: no Service to call", traffic.name));
        }
        all.push(Clients {
            gap: SimSpan::from_ns_f64(1e9 / traffic.rate_per_node),
            requests: traffic.requests,
            timeout: traffic.timeout,
            retries: traffic.retries,
            think: traffic.think,
            service_time: traffic.service_time,
            targets,
            streams: (0..nodes).map(|n| Clients::stream(config.seed, class, n)).collect(),
        });
    }
    Ok(all)
}

/// How this world's packets spread: measured by sending one first packet to the last Service called.
fn locality(config: &WorldConfig, ports: &[ServicePort], stack: &Stack, clients: &[Clients]) -> Locality {
    let targets: BTreeSet<u32> = clients.iter().flat_map(|c| c.targets.iter().copied()).collect();
    let endpoints: usize = targets.iter().map(|&t| ports[t as usize].endpoints.reachable.len()).sum();
    let locality = Locality {
        services: targets.len() as f64,
        endpoints: (endpoints as f64 / targets.len().max(1) as f64).max(1.0),
        ..Locality::repeated(config.kernel.cache)
    };
    let Some(port) = targets.last().map(|&t| &ports[t as usize]) else { return locality };
    let node = IpAddr::V4(Ipv4Addr::new(192, 168, 255, 254));
    let mut state = NodeState::new(config.seed, "probe", 1, &[node]);
    let client = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 1));
    let syn = Packet::tcp_syn(client, 40_000, port.cluster_ip, port.port);
    let to_service = Packet { proto: port.proto, ..syn };
    let hit = cross(stack, &mut state, to_service, Origin::Pod, SimTime::ZERO).work;
    locality.with_lines_of(&hit)
}
