//! Kubernetes objects, reduced to what a proxy reads, with every address and port already checked.
//!
//! [`import`](super::import) fills these from kubectl's JSON, [`generate`](super::generate) from a few numbers.
//! Left out: everything that no proxy looks at (selectors, target ports, annotations, owner references), and
//! FQDN EndpointSlices, which kube-proxy ignores too.

use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// A cluster's objects, each kind in the order in which it was listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Services of every type.
    pub services: Vec<Service>,
    /// EndpointSlices of both families.
    pub slices: Vec<EndpointSlice>,
    /// Pods that have an address; only for placing clients, rules come from the slices.
    pub pods: Vec<Pod>,
    /// Networks of all ServiceCIDR objects.
    pub service_cidrs: Vec<IpNet>,
    /// Items of other kinds that were left out, by kind.
    pub skipped: BTreeMap<String, u64>,
}

impl Objects {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| &*node.name == name)
    }
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` that are IP addresses, InternalIP before ExternalIP, else in order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
}

/// A pod with an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`: shares the node's addresses.
    pub host_network: bool,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on a load balancer's addresses.
    LoadBalancer,
    /// A DNS name: no rules.
    ExternalName,
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIPs`, at most one a family; empty for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<Port>,
    /// `spec.externalIPs`, both families.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP or unset, both families.
    pub load_balancer_vips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, both families, as written.
    pub source_ranges: Vec<IpNet>,
    /// Seconds of ClientIP affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `spec.externalTrafficPolicy: Local`, whether or not it counts.
    pub external_local: bool,
    /// `spec.healthCheckNodePort`, 0 where there is none.
    pub health_check_node_port: u16,
    /// Label `service.kubernetes.io/service-proxy-name`: another proxy's business.
    pub other_proxy: bool,
}

impl Service {
    /// A Service of type ClusterIP with one port and nothing that is optional.
    pub fn cluster_ip(namespace: Arc<str>, name: Arc<str>, ip: IpAddr, port: Port) -> Self {
        Service {
            namespace,
            name,
            kind: ServiceType::ClusterIp,
            cluster_ips: vec![ip],
            ports: vec![port],
            external_ips: Vec::new(),
            load_balancer_vips: Vec::new(),
            source_ranges: Vec::new(),
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            health_check_node_port: 0,
            other_proxy: false,
        }
    }
}

/// One entry of a Service's `spec.ports`.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name, may be empty.
    pub name: Arc<str>,
    /// Protocol.
    pub proto: Proto,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on every node, 0 where there is none.
    pub node_port: u16,
}

/// A part of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct EndpointSlice {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Label `kubernetes.io/service-name`; without it the slice belongs to no Service.
    pub service: Option<Arc<str>>,
    /// `addressType`.
    pub family: Family,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports` that have a name and a number.
    pub ports: Vec<SlicePort>,
    /// Stands for all of an imported slice, with what is not kept here: `resourceVersion`, labels, annotations. 0 where
    /// a slice was made and not read, and nothing compares two states of it.
    pub revision: u64,
}

impl EndpointSlice {
    /// Makes the revision, so far that of the metadata, stand for all of the slice: any difference gives, all but
    /// surely, another number. Once an import; resolving for each of a thousand nodes then costs nothing more.
    pub fn settle_revision(&mut self) {
        let mut hasher = SipHasher13::new();
        self.hash(&mut hasher);
        self.revision = hasher.finish();
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct SliceEndpoint {
    /// The first of `addresses`, the only one that proxies use.
    pub address: IpAddr,
    /// `conditions.ready`; true where unset.
    pub ready: bool,
    /// `conditions.serving`; true where unset.
    pub serving: bool,
    /// `conditions.terminating`; false where unset.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hints.forZones` and `hints.forNodes`; `None` where there are no hints.
    pub hints: Option<Box<Hints>>,
}

/// Where an endpoint should be used.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Hints {
    /// Zones.
    pub zones: Vec<Arc<str>>,
    /// Nodes.
    pub nodes: Vec<Arc<str>>,
}

/// One entry of a slice's `ports`.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct SlicePort {
    /// Name, may be empty.
    pub name: Arc<str>,
    /// Protocol.
    pub proto: Proto,
    /// Port that the pods listen on.
    pub port: u16,
}
