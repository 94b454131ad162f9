//! What a world is made from: every value resolved, checked and in its unit.
//!
//! A scenario's plan produces one [`WorldConfig`] per sweep point and mode.

use crate::kube::objects::Objects;
use ipnet::IpNet;
use sim_core::units::SimSpan;
use std::sync::Arc;

/// One simulated cluster under one proxy mode.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Root of all random streams. Equal for every mode of a sweep point, so that arrivals are the same.
    pub seed: u64,
    /// Simulated time that is measured.
    pub duration: SimSpan,
    /// Simulated time before measuring begins.
    pub warmup: SimSpan,
    /// Nodes, Services and endpoints.
    pub cluster: ClusterConfig,
    /// The proxy.
    pub proxy: ProxyConfig,
    /// The kernel.
    pub kernel: KernelConfig,
    /// Clients.
    pub traffic: Vec<TrafficConfig>,
    /// Endpoint changes while traffic runs; zero means none.
    pub churn: ChurnConfig,
}

/// Nodes, Services and endpoints, generated or imported.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Number of nodes, at least 1. With `objects`, nodes are those of the import when it has any.
    pub nodes: u32,
    /// Number of generated Services, each with one TCP port.
    pub services: u32,
    /// Endpoints of each generated Service.
    pub endpoints: EndpointLaw,
    /// Network that cluster IPs come from.
    pub service_cidr: IpNet,
    /// Network that pod addresses come from.
    pub cluster_cidr: IpNet,
    /// Imported or hand-written objects instead of generated ones.
    pub objects: Option<Arc<Objects>>,
}

/// How many endpoints a generated Service has.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointLaw {
    /// The same number each.
    Fixed(u32),
    /// (name, endpoints, share of Services); shares add up to 1.
    Mix(Vec<(String, u32, f64)>),
}

/// kube-proxy's configuration, as far as it shapes rules and syncs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Name of a mode in [`crate::proxy::MODES`].
    pub mode: String,
    /// Kubernetes minor version, 36 for 1.36.
    pub kubernetes_minor: u32,
    /// IPVS scheduler.
    pub scheduler: String,
    /// Bit of the mark that asks for masquerading.
    pub masquerade_bit: u8,
    /// Masquerade all cluster-IP traffic.
    pub masquerade_all: bool,
    /// Leave out what kube-proxy adds for itself: mangle canary, loopback protection, nfacct.
    pub bare_rules: bool,
    /// Network that tells pods from the rest (`clusterCIDR` with detectLocalMode ClusterCIDR); `None`: no detector.
    pub local_cidr: Option<IpNet>,
    /// Answer NodePorts on loopback (iptables mode).
    pub localhost_node_ports: bool,
    /// Least time from the end of a sync to the start of the next.
    pub min_sync_period: SimSpan,
}

/// Kernel and machine of every node.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Name of the cost profile.
    pub profile: String,
    /// What else happened to the caches between two packets.
    pub cache: CacheState,
    /// Cores that packets are spread over by flow hash.
    pub cores: u32,
}

/// State of the caches when a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheState {
    /// Nothing but packets runs: what the last packets left is still there.
    Hot,
    /// Other work has pushed the rules out of the private caches into the shared one.
    Shared,
    /// Other work has pushed the rules out to memory.
    Cold,
}

/// Clients of one kind.
#[derive(Clone, Debug)]
pub struct TrafficConfig {
    /// Name in reports.
    pub name: String,
    /// New connections per second from each node's pods.
    pub rate_per_node: f64,
    /// Requests on one connection, at least 1.
    pub requests: u32,
    /// Pause between an answer and the next request.
    pub think: SimSpan,
    /// Time a pod takes to answer.
    pub service_time: SimSpan,
    /// Which Services are called.
    pub to: TrafficTarget,
}

/// Which Services a client calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficTarget {
    /// Every Service port with the same probability.
    Uniform,
    /// One Service, `namespace/name`.
    Service(String),
}

/// Endpoint changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChurnConfig {
    /// Changes per second in the whole cluster, Poisson; each replaces one endpoint of one Service.
    pub rate: f64,
}

impl Default for ProxyConfig {
    /// kube-proxy 1.36's defaults in iptables mode, without a local detector.
    fn default() -> Self {
        ProxyConfig {
            mode: "iptables".to_owned(),
            kubernetes_minor: 36,
            scheduler: "rr".to_owned(),
            masquerade_bit: 14,
            masquerade_all: false,
            bare_rules: false,
            local_cidr: None,
            localhost_node_ports: true,
            min_sync_period: SimSpan::from_secs(1),
        }
    }
}
