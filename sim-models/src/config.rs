//! What a world is made from: every value resolved, checked and in its unit.
//!
//! A scenario's plan produces one [`WorldConfig`] per sweep point and mode.

mod control;
mod timeline;

pub use control::{ControlConfig, Encoding, EndpointsObjects, NodeConfig, PodConfig};
pub use timeline::{Action, FaultConfig, ModeSwitch, Planned, Selection, Share};

use crate::kernel::ipvs::Tables;
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
    /// The control plane.
    pub control: ControlConfig,
    /// Lives of pods.
    pub pods: PodConfig,
    /// Nodes' heartbeats and what else runs on them.
    pub nodes: NodeConfig,
    /// What happens when.
    pub timeline: Vec<Planned>,
    /// Misfortunes at random.
    pub faults: FaultConfig,
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
    /// As many Services, and endpoints of each, as ClusterLoader2's load test makes on so many nodes
    /// ([`crate::kube::cluster_loader`]); the configured number of Services does not count.
    ClusterLoader2,
}

/// kube-proxy's configuration (KubeProxyConfiguration v1alpha1), as far as it shapes rules and syncs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Name of a mode in [`crate::proxy::MODES`].
    pub mode: String,
    /// Kubernetes minor version, 36 for 1.36.
    pub kubernetes_minor: u32,
    /// Which iptables the node has.
    pub backend: XtablesBackend,
    /// Bit of the mark that asks for masquerading.
    pub masquerade_bit: u8,
    /// Masquerade all cluster-IP traffic.
    pub masquerade_all: bool,
    /// Leave out what kube-proxy adds for itself: mangle canary, loopback protection, nfacct.
    pub bare_rules: bool,
    /// How traffic of this node's pods is told from the rest.
    pub detect_local: DetectLocal,
    /// `clusterCIDR`: networks of all pods; of each family the first counts.
    pub cluster_cidrs: Vec<IpNet>,
    /// Answer NodePorts on loopback (iptables mode, IPv4).
    pub localhost_node_ports: bool,
    /// Addresses of the node that answer on NodePorts.
    pub node_port_addresses: NodePortAddresses,
    /// Least time from the end of a sync to the start of the next.
    pub min_sync_period: SimSpan,
    /// Time after which a failed sync is tried again; in ipvs mode the longest time between two syncs.
    pub sync_period: SimSpan,
    /// What only ipvs mode reads.
    pub ipvs: IpvsConfig,
    /// Settings of the node's connection tracking.
    pub conntrack: ConntrackConfig,
    /// What of the objects counts.
    pub gates: FeatureGates,
}

/// `featureGates` that shape rules, all on in 1.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// `AllowServiceExternalIPs`: Services answer on their `externalIPs`.
    pub external_ips: bool,
    /// `PreferSameTrafficDistribution`: hints of endpoints may name nodes.
    pub same_node_hints: bool,
    /// `MultiCIDRServiceAllocator`: ServiceCIDRs are watched.
    pub service_cidrs: bool,
}

/// What stands behind the `iptables` command of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XtablesBackend {
    /// iptables-legacy: the kernel's x_tables.
    #[default]
    Legacy,
    /// iptables-nft: the same rules as expressions of nf_tables.
    Nft,
}

/// `detectLocalMode`, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum DetectLocal {
    /// By [`ProxyConfig::cluster_cidrs`]; without one of the family, not at all.
    #[default]
    ClusterCidr,
    /// By the node's own `spec.podCIDRs`.
    NodeCidr,
    /// By the bridge that all pods of the node are plugged into (`detectLocal.bridgeInterface`).
    BridgeInterface(Arc<str>),
    /// By the beginning of the names of pods' interfaces (`detectLocal.interfaceNamePrefix`).
    InterfaceNamePrefix(Arc<str>),
}

/// `nodePortAddresses`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Not set: every address of the node, and in nftables mode `primary`.
    #[default]
    Unset,
    /// `["primary"]`: the addresses of the Node object, one a family.
    Primary,
    /// The node's addresses inside these networks; of a family without any, every address.
    Cidrs(Vec<IpNet>),
}

/// `ipvs` of KubeProxyConfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsConfig {
    /// Scheduler of all virtual servers.
    pub scheduler: String,
    /// Answer ARP only for addresses of the interface that is asked (`arp_ignore`, `arp_announce`).
    pub strict_arp: bool,
    /// Virtual servers that are not kube-proxy's and stay.
    pub exclude_cidrs: Vec<IpNet>,
    /// `ipvsadm --set`: idle TCP connections, after FIN, and UDP; zero leaves the kernel's.
    pub timeouts: [SimSpan; 3],
    /// Kind of the kernel's hash tables: nothing of kube-proxy's, but of the same nodes.
    pub tables: Tables,
}

/// `conntrack` of KubeProxyConfiguration; zero leaves the kernel's settings alone. Rules show all of it as sysctls
/// ([`crate::proxy::conntrack`]); simulated nodes follow the limit and the lifetimes of established TCP connections and
/// of UDP flows, and have neither CLOSE_WAIT nor packets outside the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackConfig {
    /// Greatest number of entries for each core.
    pub max_per_core: u32,
    /// Least of the greatest number of entries.
    pub min: u32,
    /// Lifetime of idle established TCP connections.
    pub tcp_established: SimSpan,
    /// Lifetime in CLOSE_WAIT.
    pub tcp_close_wait: SimSpan,
    /// Take packets outside the window for valid; rules then do not drop invalid ones.
    pub tcp_be_liberal: bool,
    /// Lifetime of UDP flows without an answer.
    pub udp: SimSpan,
    /// Lifetime of UDP flows with one.
    pub udp_stream: SimSpan,
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
    /// Time after which a client gives up a connection that is not answered.
    pub timeout: SimSpan,
    /// Times that a client whose connection failed tries again with a new one.
    pub retries: u32,
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
    /// kube-proxy 1.36's defaults in iptables mode (`pkg/proxy/apis/config/v1alpha1/defaults.go`).
    fn default() -> Self {
        ProxyConfig {
            mode: "iptables".to_owned(),
            kubernetes_minor: 36,
            backend: XtablesBackend::default(),
            masquerade_bit: 14,
            masquerade_all: false,
            bare_rules: false,
            detect_local: DetectLocal::default(),
            cluster_cidrs: Vec::new(),
            localhost_node_ports: true,
            node_port_addresses: NodePortAddresses::default(),
            min_sync_period: ProxyConfig::default_min_sync_period("iptables"),
            sync_period: SimSpan::from_secs(30),
            ipvs: IpvsConfig::default(),
            conntrack: ConntrackConfig::default(),
            gates: FeatureGates::default(),
        }
    }
}

impl Default for FeatureGates {
    fn default() -> Self {
        FeatureGates { external_ips: true, same_node_hints: true, service_cidrs: true }
    }
}

impl ProxyConfig {
    /// `minSyncPeriod` where nothing is written: 1 s, and none in ipvs mode.
    pub fn default_min_sync_period(mode: &str) -> SimSpan {
        if mode == "ipvs" { SimSpan::ZERO } else { SimSpan::from_secs(1) }
    }
}

impl Default for IpvsConfig {
    fn default() -> Self {
        IpvsConfig {
            scheduler: "rr".to_owned(),
            strict_arp: false,
            exclude_cidrs: Vec::new(),
            timeouts: [SimSpan::ZERO; 3],
            tables: Tables::Fixed,
        }
    }
}

impl Default for ConntrackConfig {
    fn default() -> Self {
        ConntrackConfig {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: SimSpan::from_secs(24 * 3600),
            tcp_close_wait: SimSpan::from_secs(3600),
            tcp_be_liberal: false,
            udp: SimSpan::ZERO,
            udp_stream: SimSpan::ZERO,
        }
    }
}
