//! From a [`WorldConfig`] to a world at rest: objects, nodes, client pods, rules.

use super::measure::Measures;
use super::{Clients, World};
use crate::config::{FeatureGates, TrafficTarget, WorldConfig};
use crate::control::{Builder, SyncLoop, Versions};
use crate::host::Host;
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
use crate::workload::{CLIENT_PODS, LOCAL_PORTS};
use sim_core::classify::{Family, Packet};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

/// Where addresses of new pods come from.
pub(super) enum Addresses {
    /// The pod networks of a generated cluster.
    Generated(PodAddresses),
    /// Next to the address that is replaced.
    Imported,
}

impl World {
    pub(super) fn new(config: Arc<WorldConfig>, profile: Arc<CostProfile>) -> Result<Self, String> {
        let mode = proxy::mode(&config.proxy.mode).ok_or_else(|| format!("no mode {}", config.proxy.mode))?;
        let mode =
            mode.simulated().ok_or_else(|| format!("{} mode has rules but no simulation", mode.name()))?;
        if scheduler::by_name(&config.proxy.ipvs.scheduler).is_none() {
            return Err(format!("no IPVS scheduler {}", config.proxy.ipvs.scheduler));
        }
        let (mut objects, mut addresses) = cluster(&config)?;
        if config.proxy.gates != FeatureGates::default() {
            gates::apply(Arc::make_mut(&mut objects), config.proxy.gates);
        }
        let nodes = nodes(&objects, &config);
        let builder = Builder {
            mode,
            config: config.proxy.clone(),
            family: Family::Ipv4,
            seed: config.seed,
            profile: profile.clone(),
        };
        let views = views(&objects, &nodes);
        let mut versions = Vec::new();
        for view in &views {
            let name = &nodes[view.unwrap_or(0) as usize].name;
            let mut seen = resolve(&objects, Family::Ipv4, name);
            if view.is_none() {
                // Nodes share these rules, so every endpoint is somebody's own: what depends on an endpoint being
                // local (hairpin entries) can only ever match on the endpoint's own node.
                for port in &mut seen.ports {
                    port.endpoints.reachable.iter_mut().for_each(|e| e.is_local = true);
                }
            }
            let rules = builder.rules(&seen);
            versions.push(Versions::new(*view, seen, builder.stack(&rules)));
        }
        let group: Vec<usize> = (0..nodes.len()).map(|n| if views.len() == 1 { 0 } else { n }).collect();
        let start = start(&objects, &nodes[0], &builder, config.kernel.cores);
        let hosts: Vec<Host> = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| {
                let (stack, _) = versions[group[n]].load(0, 0, &[], &builder);
                let path = format!("node/{n}");
                let mut state = NodeState::new(config.seed, &path, config.kernel.cores, &node.addresses);
                let settings = ConntrackConfig::new(config.kernel.cores, &config.proxy.conntrack);
                state.conntrack = state.conntrack.configured(settings);
                Host::new(node.name.clone(), node.addresses.clone(), state, stack, config.kernel.cores)
            })
            .collect();
        let pods = client_pods(&objects, &nodes, &mut addresses);
        if let Some(n) = pods.iter().position(Vec::is_empty) {
            return Err(format!("node {}: its pod network has no address left for a client", nodes[n].name));
        }
        let clients = clients(&config, &versions[0].objects().ports, nodes.len())?;
        let index: BTreeMap<&str, u32> = nodes.iter().zip(0..).map(|(n, i)| (&*n.name, i)).collect();
        let (alive, endpoints) = endpoints(&objects, versions[0].objects(), &index);
        let ports = &versions[0].objects().ports;
        let residency = profile.residency(&locality(&config, ports, &hosts[0].stack, &clients));
        let first_sync = start.first_sync.unwrap_or(SimSpan::ZERO);
        Ok(World {
            network: Network::new(nodes.len() as u32),
            syncs: vec![SyncLoop::idle_since(SimTime::ZERO); nodes.len()],
            churn: Stream::new(config.seed, "churn", "changes"),
            watch: Stream::new(config.seed, "control", "watch delays"),
            measures: Measures::new(),
            changes: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            measuring: false,
            ended: false,
            ready: 0,
            config,
            profile,
            hosts,
            pods,
            builder,
            versions,
            group,
            first_sync,
            start,
            alive,
            clients,
            endpoints,
            addresses,
            residency,
        })
    }

    /// Draws the next change and makes it: the old pod is gone, the new one there.
    pub(super) fn draw_change(&mut self) -> Option<Replaced> {
        let candidates = self.endpoints.by_port.iter().filter(|list| !list.is_empty()).count() as u64;
        if candidates == 0 {
            return None;
        }
        let nth = self.churn.below(candidates) as usize;
        let list = self.endpoints.by_port.iter().filter(|list| !list.is_empty()).nth(nth)?;
        let old = list[self.churn.below(list.len() as u64) as usize];
        let node = self.churn.below(self.hosts.len() as u64) as u32;
        let new = match &mut self.addresses {
            Addresses::Generated(pool) => {
                let ip = pool.allocate(node as usize)?;
                pool.release(old);
                ip
            }
            Addresses::Imported => {
                let clients: BTreeSet<IpAddr> = self.pods.iter().flatten().map(|(ip, _)| *ip).collect();
                let hosts = self.hosts.iter().flat_map(|h| h.addresses.iter().copied());
                neighbour(old, &self.alive, &hosts.chain(clients).collect())?
            }
        };
        let ports = self.endpoints.by_pod.remove(&old).unwrap_or_default();
        for &port in &ports {
            for endpoint in self.endpoints.by_port[port as usize].iter_mut().filter(|e| **e == old) {
                *endpoint = new;
            }
        }
        self.endpoints.by_pod.insert(new, ports.clone());
        let listened: Vec<SocketAddr> = self
            .alive
            .range(SocketAddr::new(old, 0)..=SocketAddr::new(old, u16::MAX))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in listened {
            self.alive.remove(&addr);
            self.alive.insert(SocketAddr::new(new, addr.port()), Some(node));
        }
        Some(Replaced { ports, old, new, node })
    }
}

/// One pod replaced by another.
pub(super) struct Replaced {
    pub(super) ports: Vec<u32>,
    pub(super) old: IpAddr,
    pub(super) new: IpAddr,
    pub(super) node: u32,
}

/// Who serves what.
pub(super) struct Endpoints {
    /// Pods of every service port.
    by_port: Vec<Vec<IpAddr>>,
    /// Service ports of every pod.
    by_pod: BTreeMap<IpAddr, Vec<u32>>,
}

/// Objects as generated or imported.
fn cluster(config: &WorldConfig) -> Result<(Arc<Objects>, Addresses), String> {
    match &config.cluster.objects {
        Some(objects) => Ok((objects.clone(), Addresses::Imported)),
        None => {
            let made = generate::generate(&config.cluster, config.seed).map_err(|e| e.to_string())?;
            Ok((Arc::new(made.objects), Addresses::Generated(made.addresses)))
        }
    }
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

/// One view that all nodes share, unless a Service or a hint makes rules depend on the node.
fn views(objects: &Objects, nodes: &[Node]) -> Vec<Option<u32>> {
    let by_policy =
        objects.services.iter().any(|s| s.internal_local || s.external_local || !s.external_ips.is_empty());
    let by_node_port = objects.services.iter().any(|s| s.ports.iter().any(|p| p.node_port != 0));
    let by_hint = objects.slices.iter().any(|s| s.endpoints.iter().any(|e| e.hints.is_some()));
    if by_policy || by_node_port || by_hint {
        (0..nodes.len() as u32).map(Some).collect()
    } else {
        vec![None]
    }
}

/// Figures of the first node as it really sees the cluster.
fn start(objects: &Objects, node: &Node, builder: &Builder, cores: u32) -> Start {
    let seen = resolve(objects, Family::Ipv4, &node.name);
    let rules = builder.rules(&seen);
    let busiest = seen.ports.iter().enumerate().find(|(_, p)| !p.endpoints.reachable.is_empty());
    Start {
        services: seen.ports.len() as u64,
        endpoints: seen.ports.iter().map(|p| p.endpoints.reachable.len() as u64).sum(),
        rules: builder.mode.rule_count(&rules),
        memory: builder.stack(&rules).memory_bytes(u64::from(cores)),
        first_sync: builder.first_sync(&seen),
        change_sync: busiest.and_then(|(port, _)| builder.change_sync(&seen, &[port as u32])),
        empty: seen.ports.iter().filter(|p| p.endpoints.reachable.is_empty()).count() as u64,
    }
}

/// Addresses of every node's client pods, with the first source port of each.
fn client_pods(objects: &Objects, nodes: &[Node], addresses: &mut Addresses) -> Vec<Vec<(IpAddr, u16)>> {
    let mut of_node = |n: usize, node: &Node| -> Vec<IpAddr> {
        match addresses {
            Addresses::Generated(pool) => (0..CLIENT_PODS).filter_map(|_| pool.allocate(n)).collect(),
            Addresses::Imported => imported_pods(objects, n, node),
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
        let path = |node: usize| format!("clients/{class}/node/{node}");
        all.push(Clients {
            gap: SimSpan::from_ns_f64(1e9 / traffic.rate_per_node),
            requests: traffic.requests,
            think: traffic.think,
            service_time: traffic.service_time,
            targets,
            streams: (0..nodes).map(|n| Stream::new(config.seed, &path(n), "connections")).collect(),
        });
    }
    Ok(all)
}

type Alive = BTreeMap<SocketAddr, Option<u32>>;

/// Every endpoint with its node, and who serves what.
fn endpoints(objects: &Objects, seen: &ProxyObjects, nodes: &BTreeMap<&str, u32>) -> (Alive, Endpoints) {
    let mut alive = Alive::new();
    for slice in &objects.slices {
        for endpoint in &slice.endpoints {
            let node = endpoint.node.as_deref().and_then(|name| nodes.get(name)).copied();
            for port in &slice.ports {
                alive.insert(SocketAddr::new(endpoint.address, port.port), node);
            }
        }
    }
    let by_port: Vec<Vec<IpAddr>> =
        seen.ports.iter().map(|p| p.endpoints.reachable.iter().map(|e| e.addr.ip()).collect()).collect();
    let mut by_pod: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
    for (list, port) in by_port.iter().zip(0..) {
        for ip in list {
            by_pod.entry(*ip).or_default().push(port);
        }
    }
    (alive, Endpoints { by_port, by_pod })
}

/// The nearest higher address that nobody has.
fn neighbour(ip: IpAddr, alive: &Alive, others: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let taken: BTreeSet<IpAddr> = alive.keys().map(SocketAddr::ip).collect();
    let IpAddr::V4(v4) = ip else { return None };
    (1..65_536u32)
        .filter_map(|i| u32::from(v4).checked_add(i))
        .map(|a| IpAddr::V4(Ipv4Addr::from(a)))
        .find(|a| !taken.contains(a) && !others.contains(a))
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
