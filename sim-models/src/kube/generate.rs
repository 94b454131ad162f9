//! A synthetic cluster from a few numbers: nodes, Services with one TCP port each, and their pods.
//!
//! Services come in the order of their cluster IPs. Pods go round robin over the nodes, and every node has a pod
//! network of its own, a /24 (IPv6: a /120) or larger, as the node IPAM controller gives out. The
//! `default/kubernetes` Service is not made, so that `services` is the number of KUBE-SERVICES rules.
//! Left out: UDP, node ports, load balancers, zones, pods without a Service. Import objects for those.

use super::cluster_loader;
use super::objects::{EndpointSlice, Node, Objects, Port, Service, SliceEndpoint, SlicePort};
use crate::config::{ClusterConfig, EndpointLaw};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use sim_core::rng::Stream;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Port of every generated Service.
pub const SERVICE_PORT: u16 = 80;
/// Port that every generated pod listens on.
pub const POD_PORT: u16 = 8080;
/// Namespaces that Services are spread over.
const NAMESPACES: u32 = 40;
/// Endpoints of one slice, the controller's `--max-endpoints-per-slice`.
const ENDPOINTS_PER_SLICE: usize = 100;

/// Why a cluster of this shape cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// No nodes.
    #[error("a cluster needs at least one node")]
    NoNodes,
    /// Cluster IPs run out.
    #[error("{cidr} has {room} cluster IPs, {services} Services need more: make service_cidr larger")]
    ServiceCidrTooSmall {
        /// The network.
        cidr: IpNet,
        /// Addresses for Services in it.
        room: u128,
        /// Services asked for.
        services: u32,
    },
    /// Pod networks of the nodes do not fit.
    #[error(
        "{cidr} has no room for {nodes} pod networks of /{node_prefix}: make cluster_cidr at least a /{needed}"
    )]
    ClusterCidrTooSmall {
        /// The network.
        cidr: IpNet,
        /// Nodes asked for.
        nodes: u32,
        /// Prefix length of one node's pod network.
        node_prefix: u8,
        /// Longest prefix that would do.
        needed: u8,
    },
    /// No network of the family can hold the cluster.
    #[error("{nodes} nodes with {pods_per_node} pods each do not fit into any network of this family")]
    TooManyPods {
        /// Nodes asked for.
        nodes: u32,
        /// Pods on a node.
        pods_per_node: u64,
    },
    /// Two networks share addresses.
    #[error("{a} and {b} overlap")]
    Overlap {
        /// One network.
        a: IpNet,
        /// The other.
        b: IpNet,
    },
    /// One network is IPv4, the other IPv6.
    #[error("service_cidr {service} and cluster_cidr {cluster} are of different families")]
    Families {
        /// Network of the cluster IPs.
        service: IpNet,
        /// Network of the pods.
        cluster: IpNet,
    },
    /// Shares of a mix that are no shares.
    #[error("the shares of an endpoint mix must be positive and add up to 1, not {sum}")]
    Shares {
        /// What they add up to.
        sum: f64,
    },
}

/// Addresses of one generated cluster: who has which, and which are free.
#[derive(Clone, Debug)]
pub struct PodAddresses {
    /// The first pod network; those of the other nodes follow it.
    base: u128,
    family: Family,
    /// Addresses of one node's network.
    per_node: u64,
    nodes: Vec<NodePool>,
}

/// Free addresses of one node: given out in turn, as the host-local CNI plugin does.
#[derive(Clone, Debug, Default)]
struct NodePool {
    next: u64,
    free: u64,
    used: Vec<u64>,
}

impl PodAddresses {
    fn new(config: &ClusterConfig, node_prefix: u8) -> Self {
        let bits = config.cluster_cidr.max_prefix_len() - node_prefix;
        let per_node = 1u64 << bits;
        let pool = NodePool::new(per_node);
        let base = number(config.cluster_cidr.network());
        let nodes = vec![pool; config.nodes as usize];
        PodAddresses { base, family: Family::of(config.cluster_cidr.addr()), per_node, nodes }
    }

    /// A free address on node `node`; `None` if all are taken or there is no such node.
    pub fn allocate(&mut self, node: usize) -> Option<IpAddr> {
        let first = self.base + node as u128 * u128::from(self.per_node);
        let pool = self.nodes.get_mut(node).filter(|pool| pool.free > 0)?;
        while pool.is_used(pool.next) {
            pool.next = (pool.next + 1) % self.per_node;
        }
        let at = pool.next;
        pool.mark(at, true);
        pool.free -= 1;
        pool.next = (at + 1) % self.per_node;
        Some(address(first + u128::from(at), self.family))
    }

    /// Takes an address back. Addresses that are not a pod's are ignored.
    pub fn release(&mut self, addr: IpAddr) {
        let Some(node) = self.node_of(addr) else { return };
        let at = ((number(addr) - self.base) % u128::from(self.per_node)) as u64;
        let pool = &mut self.nodes[node];
        if pool.is_used(at) && at > 1 && at < self.per_node - 1 {
            pool.mark(at, false);
            pool.free += 1;
        }
    }

    /// A node joins; its pod network follows the last one's.
    pub fn add_node(&mut self) {
        let fresh = NodePool::new(self.per_node);
        self.nodes.push(fresh);
    }

    /// Index of the node whose pod network holds `addr`.
    pub fn node_of(&self, addr: IpAddr) -> Option<usize> {
        let offset = number(addr).checked_sub(self.base).filter(|_| Family::of(addr) == self.family)?;
        let node = usize::try_from(offset / u128::from(self.per_node)).ok()?;
        (node < self.nodes.len()).then_some(node)
    }
}

impl NodePool {
    fn new(per_node: u64) -> Self {
        let words = per_node.div_ceil(64) as usize;
        // The network's own address, the gateway's and the broadcast address are not a pod's.
        let mut pool = NodePool { next: 2, free: per_node - 3, used: vec![0; words] };
        for taken in [0, 1, per_node - 1] {
            pool.mark(taken, true);
        }
        pool
    }
    fn is_used(&self, at: u64) -> bool {
        self.used[(at / 64) as usize] >> (at % 64) & 1 == 1
    }
    fn mark(&mut self, at: u64, used: bool) {
        let bit = 1u64 << (at % 64);
        let word = &mut self.used[(at / 64) as usize];
        *word = if used { *word | bit } else { *word & !bit };
    }
}

/// A generated cluster.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Its objects.
    pub objects: Objects,
    /// Its pod addresses, for pods that come later.
    pub addresses: PodAddresses,
}

/// Whether a cluster of this shape can be made; what [`generate`] would say, without making it.
pub fn fits(config: &ClusterConfig) -> Result<(), GenerateError> {
    node_prefix(config).map(|_| ())
}

/// Number of generated Services: that of the configuration, unless the law of endpoints says how many there are.
pub fn service_count(config: &ClusterConfig) -> u32 {
    match config.endpoints {
        EndpointLaw::ClusterLoader2 => cluster_loader::services(config.nodes).iter().map(|(n, _)| n).sum(),
        EndpointLaw::Fixed(_) | EndpointLaw::Mix(_) => config.services,
    }
}

/// Number of endpoints of all Services.
pub fn total_endpoints(config: &ClusterConfig) -> Result<u64, GenerateError> {
    Ok(shares(config)?.iter().map(|&(count, endpoints)| u64::from(count) * u64::from(endpoints)).sum())
}

/// Prefix length of a node's pod network, after all checks.
fn node_prefix(config: &ClusterConfig) -> Result<u8, GenerateError> {
    let (service, cluster) = (config.service_cidr.trunc(), config.cluster_cidr.trunc());
    if config.nodes == 0 {
        return Err(GenerateError::NoNodes);
    }
    if Family::of(service.addr()) != Family::of(cluster.addr()) {
        return Err(GenerateError::Families { service, cluster });
    }
    let nodes_net = node_network(Family::of(service.addr()));
    for (a, b) in [(service, cluster), (service, nodes_net), (cluster, nodes_net)] {
        if a.contains(&b) || b.contains(&a) {
            return Err(GenerateError::Overlap { a, b });
        }
    }
    let host_bits = u32::from(service.max_prefix_len() - service.prefix_len());
    // The network's own address and the broadcast address are no cluster IPs.
    let room = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX).saturating_sub(2);
    let services = service_count(config);
    if u128::from(services) > room {
        return Err(GenerateError::ServiceCidrTooSmall { cidr: service, room, services });
    }
    let pods = total_endpoints(config)?;
    // Half as many again for pods that start before others have stopped, and three addresses that no pod gets.
    let pods_per_node = pods.div_ceil(u64::from(config.nodes));
    let addresses = pods_per_node + pods_per_node / 2 + 3;
    let node_bits = addresses.next_power_of_two().trailing_zeros().max(8);
    let all_bits = node_bits + u64::from(config.nodes).next_power_of_two().trailing_zeros();
    let max = u32::from(cluster.max_prefix_len());
    if all_bits > max || node_bits > 24 {
        return Err(GenerateError::TooManyPods { nodes: config.nodes, pods_per_node });
    }
    // Both are at most 128 here.
    let (node_prefix, needed) = ((max - node_bits) as u8, (max - all_bits) as u8);
    let networks = 1u128.checked_shl(u32::from(node_prefix.saturating_sub(cluster.prefix_len())));
    if node_prefix < cluster.prefix_len() || networks.is_some_and(|n| n < u128::from(config.nodes)) {
        return Err(GenerateError::ClusterCidrTooSmall {
            cidr: cluster,
            nodes: config.nodes,
            node_prefix,
            needed,
        });
    }
    Ok(node_prefix)
}

/// (Services, endpoints each), by largest remainder, so that the numbers of Services add up.
fn shares(config: &ClusterConfig) -> Result<Vec<(u32, u32)>, GenerateError> {
    let parts = match &config.endpoints {
        EndpointLaw::Fixed(endpoints) => return Ok(vec![(config.services, *endpoints)]),
        EndpointLaw::ClusterLoader2 => return Ok(cluster_loader::services(config.nodes).to_vec()),
        EndpointLaw::Mix(parts) => parts,
    };
    let sum: f64 = parts.iter().map(|(_, _, share)| share).sum();
    // Written so that a NaN is refused too.
    if !((sum - 1.0).abs() < 1e-6 && parts.iter().all(|(_, _, share)| *share > 0.0)) {
        return Err(GenerateError::Shares { sum });
    }
    let exact: Vec<f64> =
        parts.iter().map(|(_, _, share)| share / sum * f64::from(config.services)).collect();
    let mut counts: Vec<u32> = exact.iter().map(|x| x.floor() as u32).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let given: u32 = counts.iter().sum();
    for &part in by_remainder.iter().cycle().take(config.services.saturating_sub(given) as usize) {
        counts[part] += 1;
    }
    Ok(counts.into_iter().zip(parts).map(|(count, (_, endpoints, _))| (count, *endpoints)).collect())
}

/// Endpoints of every Service in turn: the shares, shuffled by a stream of the seed.
fn endpoint_counts(config: &ClusterConfig, seed: u64) -> Result<Vec<u32>, GenerateError> {
    let shares = shares(config)?;
    let mut counts: Vec<u32> = Vec::new();
    for &(services, endpoints) in &shares {
        counts.extend(std::iter::repeat_n(endpoints, services as usize));
    }
    if shares.len() > 1 {
        let mut stream = Stream::new(seed, "cluster", "endpoints of services");
        for last in (1..counts.len()).rev() {
            counts.swap(last, stream.below(last as u64 + 1) as usize);
        }
    }
    Ok(counts)
}

/// `namespace/name` of the generated Service of that number.
pub fn service_name(number: usize) -> String {
    format!("ns-{}/svc-{number:05}", number % NAMESPACES as usize)
}

/// Makes the cluster that `config` describes; its `objects` field is not looked at.
pub fn generate(config: &ClusterConfig, seed: u64) -> Result<Generated, GenerateError> {
    let prefix = node_prefix(config)?;
    let counts = endpoint_counts(config, seed)?;
    let mut addresses = PodAddresses::new(config, prefix);
    let family = addresses.family;
    let nodes = make_nodes(config, prefix, &addresses);
    let namespaces: Vec<Arc<str>> = (0..NAMESPACES).map(|i| format!("ns-{i}").into()).collect();
    let port_name: Arc<str> = "http".into();
    let mut services = Vec::with_capacity(counts.len());
    let mut slices = Vec::with_capacity(counts.len());
    let mut pod = 0usize;
    let first_ip = number(config.service_cidr.network()) + 1;
    for (i, &endpoints) in counts.iter().enumerate() {
        let namespace = namespaces[i % namespaces.len()].clone();
        let name: Arc<str> = format!("svc-{i:05}").into();
        services.push(service(
            namespace.clone(),
            name.clone(),
            address(first_ip + i as u128, family),
            &port_name,
        ));
        let mut list: Vec<SliceEndpoint> = Vec::with_capacity(endpoints as usize);
        for _ in 0..endpoints {
            let node = pod % nodes.len();
            pod += 1;
            let address = addresses.allocate(node).expect("the pod networks were checked to be large enough");
            list.push(ready_endpoint(address, nodes[node].name.clone()));
        }
        for (k, part) in list.chunks(ENDPOINTS_PER_SLICE).enumerate() {
            slices.push(EndpointSlice {
                namespace: namespace.clone(),
                name: format!("{name}-{k}").into(),
                service: Some(name.clone()),
                family,
                endpoints: part.to_vec(),
                ports: vec![SlicePort { name: port_name.clone(), proto: Proto::Tcp, port: POD_PORT }],
                revision: 0,
            });
        }
    }
    let objects = Objects {
        nodes,
        services,
        slices,
        service_cidrs: vec![config.service_cidr.trunc()],
        ..Objects::default()
    };
    Ok(Generated { objects, addresses })
}

/// An endpoint that is ready and goes nowhere.
fn ready_endpoint(address: IpAddr, node: Arc<str>) -> SliceEndpoint {
    SliceEndpoint { address, ready: true, serving: true, terminating: false, node: Some(node), hints: None }
}

fn service(namespace: Arc<str>, name: Arc<str>, ip: IpAddr, port_name: &Arc<str>) -> Service {
    let port = Port { name: port_name.clone(), proto: Proto::Tcp, port: SERVICE_PORT, node_port: 0 };
    Service::cluster_ip(namespace, name, ip, port)
}

/// Network of the nodes themselves: 192.168.0.0/16, or fd00:10::/64.
fn node_network(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::new_assert(Ipv4Addr::new(192, 168, 0, 0).into(), 16),
        Family::Ipv6 => IpNet::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0).into(), 64),
    }
}

fn make_nodes(config: &ClusterConfig, prefix: u8, pods: &PodAddresses) -> Vec<Node> {
    let first = number(node_network(pods.family).network()) + 2;
    (0..config.nodes)
        .map(|i| {
            let pod_net = pods.base + u128::from(i) * u128::from(pods.per_node);
            Node {
                name: format!("node-{i}").into(),
                zone: None,
                addresses: vec![address(first + u128::from(i), pods.family)],
                pod_cidrs: vec![IpNet::new_assert(address(pod_net, pods.family), prefix)],
            }
        })
        .collect()
}

/// An address as a number.
fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address of this number.
fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(u32::try_from(number).expect("an IPv4 address has 32 bits")).into(),
        Family::Ipv6 => Ipv6Addr::from(number).into(),
    }
}
