//! iptables mode: the rules that kube-proxy 1.36 writes.
//!
//! Source: `pkg/proxy/iptables/proxier.go:syncProxyRules` and `setupIptables`. [`build`] gives the state of the
//! three tables after a full sync on a node where nothing else has written rules: the fixed chains ([`fixed`]),
//! then for every Service port the rules and chains of [`service`] and [`endpoints`]. The same rules in
//! kube-proxy's own words are what [`syncs`] gives to `iptables-restore`, sync after sync, written by [`restore`].
//!
//! Assumed, as on any current node: `MASQUERADE --random-fully` and the nfacct counters. Before 1.21 the
//! masquerade rule of a cluster IP sits in KUBE-SERVICES itself, two rules a Service, and before 1.19 the name of
//! an unnamed port ends in a colon ([`names::service_port_name`](super::names::service_port_name)). Nothing else of
//! older versions is modelled (their KUBE-XLB chains, KUBE-FW chains for every load balancer, KUBE-MARK-DROP; no
//! nfacct counters).

mod endpoints;
mod fixed;
pub mod mode;
mod restore;
mod service;
pub mod sizes;
mod syncs;
pub mod update;

pub use service::{ServiceRules, service_rules};

use super::local::LocalDetector;
use super::node_ports::NodePortIps;
use crate::config::{NodePortAddresses, ProxyConfig, XtablesBackend};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Chain, ChainId, Match, Rule, Table, TableName, Target, Test};
use crate::kube::ProxyObjects;
use crate::proxy::conntrack;
use fixed::NatChain;
use service::Writer;
use sim_core::classify::Family;
use smallvec::SmallVec;
use std::sync::Arc;

/// Total endpoints above which comments of single endpoints are left out (`largeClusterEndpointsThreshold`).
pub const LARGE_CLUSTER_ENDPOINTS: u64 = 1000;

/// What all Service ports of one sync have in common.
#[derive(Clone, Debug)]
pub struct SyncContext {
    /// Family of the tables.
    pub family: Family,
    /// How pods are told from the rest.
    pub local: Option<LocalDetector>,
    /// Addresses that answer on NodePorts.
    pub node_port_ips: NodePortIps,
    /// Invalid packets are dropped, unless connection tracking is liberal.
    pub drop_invalid: bool,
    /// Masquerade all cluster-IP traffic.
    pub masquerade_all: bool,
    /// NodePorts answer on 127.0.0.0/8.
    pub localhost_node_ports: bool,
    /// Leave out comments of single endpoints.
    pub large_cluster: bool,
    /// The mark that asks for masquerading.
    pub masquerade_mark: u32,
    /// The cluster IP's masquerade rule comes before the jump in KUBE-SERVICES (before 1.21).
    pub masquerade_in_services: bool,
    /// Version that writes the rules, for the names of unnamed ports.
    pub kubernetes_minor: u32,
    /// The node's own address.
    pub node_ip: Option<std::net::IpAddr>,
}

impl SyncContext {
    /// The context of a sync of `objects`.
    pub fn new(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Self {
        let node_port_ips = NodePortIps::of(objects, config, family, NodePortAddresses::Unset);
        let localhost = config.localhost_node_ports && node_port_ips.allow_ipv4_loopback(config);
        SyncContext {
            family,
            local: LocalDetector::of(objects, config, family),
            drop_invalid: !config.conntrack.tcp_be_liberal,
            masquerade_all: config.masquerade_all,
            localhost_node_ports: localhost && family == Family::Ipv4,
            node_port_ips,
            large_cluster: is_large(objects),
            masquerade_mark: 1 << (config.masquerade_bit & 31),
            masquerade_in_services: config.kubernetes_minor < 21,
            kubernetes_minor: config.kubernetes_minor,
            node_ip: objects.node_ips.first().copied(),
        }
    }
}

/// Whether there are so many endpoints that kube-proxy spares itself comments and listings.
fn is_large(objects: &ProxyObjects) -> bool {
    let endpoints: u64 = objects.ports.iter().map(|port| u64::from(port.endpoints.total)).sum();
    endpoints > LARGE_CLUSTER_ENDPOINTS
}

/// All rules of one family on one node, after a full sync.
pub fn build(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    let cx = SyncContext::new(objects, config, family);
    let mut filter = fixed::filter_table(&cx);
    let mut nat = fixed::nat_table(&cx);
    let mut rules = ServiceRules::default();
    for port in &objects.ports {
        let writer = Writer::new(port, ChainId(nat.chains.len() as u32), &cx);
        writer.entries(&mut rules);
        writer.chains(&mut nat.chains);
        for (table, entries) in [(&mut filter, &mut rules.filter), (&mut nat, &mut rules.nat)] {
            for (chain, rule) in entries.drain(..) {
                table.chains[chain.0 as usize].rules.push(rule);
            }
        }
    }
    NatChain::Services.of(&mut nat).extend(fixed::last_services_rules(&cx));
    for table in [&mut filter, &mut nat] {
        table.chains.iter_mut().for_each(|chain| chain.rules.shrink_to_fit());
        table.chains.shrink_to_fit();
    }
    let mangle = fixed::mangle_table(&cx);
    // As iptables-save lists them on a node that kube-proxy has set up: iptables-nft in the order of creation (the
    // canary is the first), iptables-legacy as the kernel's modules came.
    let xtables = match config.backend {
        XtablesBackend::Legacy => vec![filter, mangle, nat],
        XtablesBackend::Nft => vec![mangle, filter, nat],
    };
    let route_localnet = ("net.ipv4.conf.all.route_localnet".to_owned(), "1".to_owned());
    let mut sysctls = conntrack::sysctls(config);
    sysctls.extend(cx.localhost_node_ports.then_some(route_localnet));
    NodeRules { xtables, xtables_backend: config.backend, sysctls, ..NodeRules::default() }
}

/// Number of rules as kube-proxy's metric `sync_proxy_rules_iptables_total` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Rules of table filter that a full sync restores: those of kube-proxy's own chains.
    pub filter: usize,
    /// The same of table nat.
    pub nat: usize,
}

/// Counts the rules of kube-proxy's own chains; jumps from the built-in chains are not restored and not counted.
pub fn rule_counts(rules: &NodeRules) -> RuleCounts {
    let count = |name: TableName| -> usize {
        let tables = rules.xtables.iter().filter(|table| table.name == name);
        let own = tables.flat_map(|table| &table.chains).filter(|chain| chain.base.is_none());
        own.map(|chain| chain.rules.len()).sum()
    };
    RuleCounts { filter: count(TableName::Filter), nat: count(TableName::Nat) }
}

/// A rule without conditions.
fn rule(target: Target) -> Rule {
    Rule { target: Some(target), ..Rule::default() }
}

/// A rule with only a comment for a condition.
fn commented(comment: impl Into<Arc<str>>, target: Target) -> Rule {
    Rule { matches: SmallVec::from_iter([Match::Comment(comment.into())]), ..rule(target) }
}

fn is<T>(value: T) -> Option<Test<T>> {
    Some(Test { invert: false, value })
}

fn is_not<T>(value: T) -> Option<Test<T>> {
    Some(Test { invert: true, value })
}

fn chain(name: impl Into<Arc<str>>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: None, rules }
}

fn table(name: TableName, family: Family, chains: Vec<Chain>) -> Table {
    Table { name, family, chains }
}
