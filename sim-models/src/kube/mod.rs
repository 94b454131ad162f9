//! Kubernetes objects, and Services resolved to ports and endpoints as kube-proxy does.
//!
//! [`objects`] holds what kubectl prints, read by [`import`] or made by [`generate`]; [`resolve`] turns it into
//! [`ServicePort`]s for one family and one node; [`change`] replaces single endpoints while a simulation runs;
//! [`arrival`] gives the states that a proxy sees between two states of the objects; [`gates`] takes out what feature
//! gates turn off.

pub mod arrival;
pub mod change;
pub mod cluster_loader;
pub mod gates;
pub mod generate;
pub mod import;
pub mod objects;
pub mod resolve;

use ipnet::IpNet;
use sim_core::classify::Proto;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything a proxy needs to write rules for one family on one node: service ports in the order in which
/// they are visited. (The real kube-proxy visits them in Go's random map order; here the order is that of the
/// objects, so that output is reproducible.)
#[derive(Clone, Debug, Default)]
pub struct ProxyObjects {
    /// Service ports with their endpoints.
    pub ports: Vec<ServicePort>,
    /// ServiceCIDRs of this family, where the cluster says them.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of the node itself, primary first (`status.addresses` of the Node).
    pub node_ips: Vec<IpAddr>,
    /// Networks of the node's own pods (`spec.podCIDRs`).
    pub node_pod_cidrs: Vec<IpNet>,
    /// Zone of the node; a change makes kube-proxy write everything anew.
    pub zone: Option<Arc<str>>,
    /// Stands for the versions of all slices of the family, also those whose Service is gone: kube-proxy syncs when
    /// any of them changes. 0 where nothing but the ports counts.
    pub slices_revision: u64,
}

/// Where an affinity or a traffic policy applies, and the addresses a Service answers on: one entry of
/// `spec.ports` of one Service, for one family (`pkg/proxy/serviceport.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub name: Arc<str>,
    /// Name of the port, may be empty.
    pub port_name: Arc<str>,
    /// Transport protocol.
    pub proto: Proto,
    /// Address that every pod can use.
    pub cluster_ip: IpAddr,
    /// Port on the cluster IP, external IPs and load-balancer VIPs.
    pub port: u16,
    /// Port on every node, 0 where there is none.
    pub node_port: u16,
    /// `spec.externalIPs` of this family.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of this family with ipMode VIP or unset.
    pub load_balancer_vips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges` of this family; empty if any is a /0.
    pub source_ranges: Vec<IpNet>,
    /// Seconds of ClientIP affinity.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local` on an externally visible Service.
    pub external_local: bool,
    /// `healthCheckNodePort` where it counts, else 0.
    pub health_check_node_port: u16,
    /// Endpoints of this port in kube-proxy's order: sorted by the text "IP:port".
    pub endpoints: EndpointLists,
    /// Stands for the versions of the slices that the endpoints come from: kube-proxy takes any change of a slice
    /// for a change of its Service, annotations included. 0 where nothing but the endpoints counts.
    pub revision: u64,
}

/// Endpoints of one port, sorted into the lists that rules are written from (`pkg/proxy/topology.go`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointLists {
    /// Usable by policy Cluster.
    pub cluster: Vec<Endpoint>,
    /// Usable by policy Local.
    pub local: Vec<Endpoint>,
    /// All that rules may send to from this node.
    pub reachable: Vec<Endpoint>,
    /// Whether any endpoint exists anywhere.
    pub has_any: bool,
    /// Endpoints on this node that no rule sends to: not ready, or left out by topology. ipvs mode lists them for
    /// hairpins all the same.
    pub idle_local: Vec<SocketAddr>,
    /// Endpoints of the port whatever their condition: what kube-proxy's large-cluster mode counts.
    pub total: u32,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port.
    pub addr: SocketAddr,
    /// Runs on this node.
    pub is_local: bool,
}

impl EndpointLists {
    /// Ready endpoints that every policy but Local may use.
    pub fn ready(endpoints: Vec<Endpoint>) -> Self {
        EndpointLists {
            local: Vec::new(),
            idle_local: Vec::new(),
            has_any: !endpoints.is_empty(),
            total: u32::try_from(endpoints.len()).expect("fewer than 2^32 endpoints of one port"),
            reachable: endpoints.clone(),
            cluster: endpoints,
        }
    }
}

impl ServicePort {
    /// TCP port `http` (80) of a ClusterIP Service with nothing that is optional.
    pub fn http(namespace: &str, name: &str, cluster_ip: IpAddr, endpoints: EndpointLists) -> Self {
        ServicePort {
            namespace: namespace.into(),
            name: name.into(),
            port_name: "http".into(),
            proto: Proto::Tcp,
            cluster_ip,
            port: 80,
            node_port: 0,
            external_ips: Vec::new(),
            load_balancer_vips: Vec::new(),
            source_ranges: Vec::new(),
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            health_check_node_port: 0,
            endpoints,
            revision: 0,
        }
    }

    /// `ns/name` or `ns/name:port`, kube-proxy's ServicePortName.
    pub fn full_name(&self) -> String {
        if self.port_name.is_empty() {
            format!("{}/{}", self.namespace, self.name)
        } else {
            format!("{}/{}:{}", self.namespace, self.name, self.port_name)
        }
    }
    /// Has an entry for traffic from outside: a node port, a load balancer's address or an external IP.
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.load_balancer_vips.is_empty() || !self.external_ips.is_empty()
    }

    /// Some traffic may go to endpoints on any node.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_accessible()
    }

    /// Some traffic may go to endpoints on this node only.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }

    /// Traffic to the cluster IP has somewhere to go.
    pub fn has_internal_endpoints(&self) -> bool {
        self.endpoints.has_any && !(self.internal_local && self.endpoints.local.is_empty())
    }

    /// Traffic from outside has somewhere to go.
    pub fn has_external_endpoints(&self) -> bool {
        self.endpoints.has_any && !(self.external_local && self.endpoints.local.is_empty())
    }
}
