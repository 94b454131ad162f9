//! nftables mode: the table that kube-proxy writes (`pkg/proxy/nftables/proxier.go`).
//!
//! [`build`] writes the whole table; [`update`] changes an existing one for one service port; [`sync`] writes the
//! scripts that kube-proxy hands to nft, first and later; [`refused`] knows what nft would not take. All of them are
//! made from one sequence of additions ([`sink`]), which [`base`] begins and [`service`] goes on with. Two layouts exist:
//! since Kubernetes 1.36 a Service without affinity is one rule that picks an endpoint out of an anonymous map and
//! hairpin traffic is told by a set; before, every endpoint has a chain ([`Shape::endpoint_chains`]).
//!
//! Departures: service ports are written in the order of the objects, where kube-proxy follows Go's random map
//! order; of two ports that claim the same address and port the later one stays, as there.
//! The older layout is that of a release around 1.33, as it was measured; others before 1.36 differ in names of
//! chains and in single rules (since kubernetes/kubernetes pull request 131492 the masquerade rule has no port).

mod base;
pub mod mode;
mod refused;
mod script;
mod service;
mod sink;
pub mod sizes;
mod sync;
mod update;

pub use refused::{LONGEST_COMMENT, refused_by_nft};
pub use update::update;

use super::conntrack;
use super::local::LocalDetector;
use super::node_ports::NodePortIps;
use crate::config::{NodePortAddresses, ProxyConfig};
use crate::kernel::nftables::{SetId, Table};
use crate::kernel::rules::NodeRules;
use crate::kube::{ProxyObjects, ServicePort};
use sim_core::classify::Family;
use std::net::IpAddr;

/// First Kubernetes minor version that writes one rule a Service and the hairpin set (kubernetes/kubernetes
/// pull requests 135800 and 136499).
pub const FIRST_MINOR_WITHOUT_ENDPOINT_CHAINS: u32 = 36;

/// Name of the table of each family.
const TABLE: &str = "kube-proxy";
/// What it says of itself.
const TABLE_COMMENT: &str = "rules for kube-proxy";

/// What shapes the rules besides the Services.
#[derive(Clone, Debug)]
struct Shape {
    family: Family,
    /// A chain per endpoint (before 1.36).
    endpoint_chains: bool,
    mark: u32,
    masquerade_all: bool,
    local: Option<LocalDetector>,
    node_port_ips: NodePortIps,
    /// The node's own address, for NodePorts and for source ranges that contain it.
    node_ip: Option<IpAddr>,
}

/// One service port before and after a change; `None` where it does not exist.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// As the table has it.
    pub old: Option<&'a ServicePort>,
    /// As it is to be.
    pub new: Option<&'a ServicePort>,
}

/// The named sets and maps of the table.
#[derive(Clone, Copy, Debug)]
struct Sets {
    hairpin: Option<SetId>,
    cluster_ips: SetId,
    no_endpoint_services: SetId,
    no_endpoint_nodeports: SetId,
    firewall_ips: SetId,
    service_ips: SetId,
    service_nodeports: SetId,
}

impl Sets {
    fn of(table: &Table) -> Self {
        let named = |name: &str| table.find_set(name).unwrap_or_else(|| panic!("no set {name}"));
        Sets {
            hairpin: table.find_set("hairpin-connections"),
            cluster_ips: named("cluster-ips"),
            no_endpoint_services: named("no-endpoint-services"),
            no_endpoint_nodeports: named("no-endpoint-nodeports"),
            firewall_ips: named("firewall-ips"),
            service_ips: named("service-ips"),
            service_nodeports: named("service-nodeports"),
        }
    }

    /// Those that Services fill, in the order in which kube-proxy removes elements that are left over.
    fn in_order_of_cleanup(&self) -> impl Iterator<Item = SetId> {
        let fixed = [
            self.cluster_ips,
            self.service_ips,
            self.firewall_ips,
            self.no_endpoint_services,
            self.no_endpoint_nodeports,
            self.service_nodeports,
        ];
        fixed.into_iter().chain(self.hairpin)
    }
}

impl Shape {
    fn new(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Self {
        Shape {
            family,
            endpoint_chains: config.kubernetes_minor < FIRST_MINOR_WITHOUT_ENDPOINT_CHAINS,
            mark: 1 << config.masquerade_bit,
            masquerade_all: config.masquerade_all,
            local: LocalDetector::of(objects, config, family),
            node_port_ips: NodePortIps::of(objects, config, family, NodePortAddresses::Primary),
            node_ip: objects.node_ips.iter().copied().find(|ip| Family::of(*ip) == family),
        }
    }
}

/// Everything kube-proxy writes for these objects on one node, for one family.
pub fn build(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    let shape = Shape::new(objects, config, family);
    let mut table = Table::new(family, TABLE, Some(TABLE_COMMENT));
    let sets = base::write(&mut table, &shape, &objects.service_cidrs);
    for port in &objects.ports {
        service::write(&mut table, &shape, &sets, port);
    }
    for set in &mut table.sets {
        set.keep_last();
    }
    NodeRules { nftables: Some(table), sysctls: conntrack::sysctls(config), ..NodeRules::default() }
}
