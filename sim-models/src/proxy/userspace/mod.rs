//! The userspace mode of Kubernetes 1.0 to 1.25: rules that bring packets to kube-proxy itself.
//!
//! Source: `pkg/proxy/userspace/proxier.go` of Kubernetes 1.25: `iptablesInit`, `openPortal`, `openOnePortal`,
//! `openNodePort`, `iptablesCommonPortalArgs` and its callers. kube-proxy listens on one port of its own for each
//! service port (see [`ports`]) and copies bytes between the client and an endpoint that it picks itself. So no rule
//! names an endpoint: endpoints, session affinity and Services without endpoints change nothing here. Packets that come
//! in are redirected to the proxy port (KUBE-PORTALS-CONTAINER), those made on the node get the node's address as
//! their destination (KUBE-PORTALS-HOST), because kube-proxy is bound to the wildcard address.
//!
//! The mode knows neither traffic policies nor source ranges, `nodePortAddresses`, masquerading or health checks; SCTP
//! it refuses (`proxysocket.go:newProxySocket`), so such ports have no rules. A node without an address has no rules
//! for its own packets; a real kube-proxy does not start there. Left out: what versions before 1.25 did otherwise
//! (KUBE-NODEPORT-NON-LOCAL is younger than 1.0), and that it serves one family only, that of its bind address.

mod dump;
pub mod inputs;
pub mod mode;
pub mod ports;

use crate::config::ProxyConfig;
use crate::kernel::hook::Hook;
use crate::kernel::portal::Portal;
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Chain, ChainId, CtStates, Match, Policy, Rule, Table, TableName, Target, Test};
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::conntrack;
use crate::proxy::names::service_port_name;
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Chains of table nat, each at its place.
const NAT: [&str; 8] = [
    "PREROUTING",
    "INPUT",
    "OUTPUT",
    "POSTROUTING",
    "KUBE-PORTALS-CONTAINER",
    "KUBE-PORTALS-HOST",
    "KUBE-NODEPORT-CONTAINER",
    "KUBE-NODEPORT-HOST",
];
/// Chains of table filter, each at its place.
const FILTER: [&str; 4] = ["INPUT", "FORWARD", "OUTPUT", "KUBE-NODEPORT-NON-LOCAL"];

const PORTALS_CONTAINER: usize = 4;
const PORTALS_HOST: usize = 5;
const NODEPORT_CONTAINER: usize = 6;
const NODEPORT_HOST: usize = 7;
const NON_LOCAL: usize = 3;

/// A rule and the chain that it is appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    table: TableName,
    chain: usize,
    rule: Rule,
}

/// What kube-proxy writes in userspace mode for one family.
pub fn build(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    let (mut filter, mut nat) = fixed(family);
    let ports = ports::allocate(objects, config.kubernetes_minor);
    let mut portals = Vec::new();
    for (port, proxy_port) in objects.ports.iter().zip(ports) {
        let Some(proxy_port) = proxy_port else { continue };
        portals.push(Portal {
            port: proxy_port,
            proto: port.proto,
            service: service_port_name(port, config.kubernetes_minor).into(),
            // It knows no traffic policy.
            endpoints: port.endpoints.cluster.iter().map(|e| e.addr).collect(),
            affinity_seconds: port.affinity_seconds,
        });
        for placed in service_rules(port, proxy_port, objects, config) {
            let table = if placed.table == TableName::Nat { &mut nat } else { &mut filter };
            table.chains[placed.chain].rules.push(placed.rule);
        }
    }
    let sysctls = conntrack::sysctls(config);
    let xtables_backend = config.backend;
    NodeRules { xtables: vec![filter, nat], xtables_backend, sysctls, portals, ..NodeRules::default() }
}

/// Tables filter and nat with the jumps to kube-proxy's chains. Portals come first in their chains and node ports
/// last, since a node port matches whatever is for this machine.
fn fixed(family: Family) -> (Table, Table) {
    let table = |name, chains: &[&str], hooks: &[Hook]| Table {
        name,
        family,
        chains: (chains.iter().enumerate())
            .map(|(n, chain)| Chain {
                name: (*chain).into(),
                base: hooks.get(n).map(|&hook| (hook, Policy::Accept)),
                rules: Vec::new(),
            })
            .collect(),
    };
    let jump = |matches: &[Match], to: usize| Rule {
        matches: matches.iter().cloned().collect(),
        target: Some(Target::Jump(ChainId(to as u32))),
        ..Rule::default()
    };
    let mut filter = table(TableName::Filter, &FILTER, &[Hook::Input, Hook::Forward, Hook::Output]);
    let flow = Match::Comment("Ensure that non-local NodePort traffic can flow".into());
    filter.chains[0].rules.push(jump(&[flow], NON_LOCAL));
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];
    let mut nat = table(TableName::Nat, &NAT, &hooks);
    let portals = Match::Comment("handle ClusterIPs; NOTE: this must be before the NodePort rules".into());
    let last =
        Match::Comment("handle service NodePorts; NOTE: this must be the last rule in the chain".into());
    let local = Match::AddrtypeLocal { src: false, invert: false };
    for (from, portal, node_port) in
        [(0, PORTALS_CONTAINER, NODEPORT_CONTAINER), (2, PORTALS_HOST, NODEPORT_HOST)]
    {
        let node_ports = [local.clone(), last.clone()];
        let rules = [jump(std::slice::from_ref(&portals), portal), jump(&node_ports, node_port)];
        nat.chains[from].rules.extend(rules);
    }
    (filter, nat)
}

/// What one service port adds, in kube-proxy's order.
fn service_rules(
    port: &ServicePort,
    proxy_port: u16,
    objects: &ProxyObjects,
    config: &ProxyConfig,
) -> Vec<Placed> {
    let mut w = Writer {
        comment: service_port_name(port, config.kubernetes_minor).into(),
        proto: port.proto,
        proxy_port,
        host: objects.node_ips.first().map(|&ip| SocketAddr::new(ip, proxy_port)),
        out: Vec::new(),
        places: BTreeMap::new(),
    };
    let not_bridged = Match::PhysdevIsIn { invert: true };
    let local = Match::AddrtypeLocal { src: false, invert: false };
    w.container(PORTALS_CONTAINER, Some(port.cluster_ip), port.port, &[]);
    w.on_node(PORTALS_HOST, Some(port.cluster_ip), port.port, &[]);
    for &addr in &port.external_ips {
        // From outside, or to an address that this machine has; not from a pod to somewhere else.
        w.container(PORTALS_CONTAINER, Some(addr), port.port, std::slice::from_ref(&not_bridged));
        w.container(PORTALS_CONTAINER, Some(addr), port.port, std::slice::from_ref(&local));
        w.on_node(PORTALS_HOST, Some(addr), port.port, std::slice::from_ref(&local));
    }
    for &addr in &port.load_balancer_vips {
        w.container(PORTALS_CONTAINER, Some(addr), port.port, &[]);
        w.on_node(PORTALS_HOST, Some(addr), port.port, &[]);
    }
    if port.node_port != 0 {
        w.container(NODEPORT_CONTAINER, None, port.node_port, &[]);
        w.on_node(NODEPORT_HOST, None, port.node_port, &[]);
        let new = Match::State(CtStates { new: true, ..CtStates::default() });
        let rule = w.rule(None, proxy_port, &[new], Target::Accept);
        w.push(TableName::Filter, NON_LOCAL, rule);
    }
    w.out
}

struct Writer {
    comment: Arc<str>,
    proto: Proto,
    proxy_port: u16,
    host: Option<SocketAddr>,
    out: Vec<Placed>,
    /// Positions in `out` by chain and destination.
    places: BTreeMap<(usize, Option<IpNet>), Vec<usize>>,
}

impl Writer {
    fn rule(&self, dst: Option<IpAddr>, dport: u16, more: &[Match], target: Target) -> Rule {
        let dport = Some(Test { invert: false, value: (dport, dport) });
        let mut matches: SmallVec<[Match; 2]> = SmallVec::new();
        matches.push(Match::Comment(self.comment.clone()));
        matches.push(Match::Ports { proto: self.proto, sport: None, dport });
        matches.extend(more.iter().cloned());
        Rule {
            dst: dst.map(|addr| Test { invert: false, value: IpNet::from(addr) }),
            proto: Some(Test { invert: false, value: self.proto }),
            matches,
            target: Some(target),
            ..Rule::default()
        }
    }
    fn container(&mut self, chain: usize, dst: Option<IpAddr>, dport: u16, more: &[Match]) {
        let rule = self.rule(dst, dport, more, Target::Redirect { port: self.proxy_port });
        self.push(TableName::Nat, chain, rule);
    }
    fn on_node(&mut self, chain: usize, dst: Option<IpAddr>, dport: u16, more: &[Match]) {
        let Some(host) = self.host else { return };
        let rule = self.rule(dst, dport, more, Target::Dnat(host));
        self.push(TableName::Nat, chain, rule);
    }
    /// Appends a rule unless it is there, as `EnsureRule` does.
    fn push(&mut self, table: TableName, chain: usize, rule: Rule) {
        let placed = Placed { table, chain, rule };
        let same = self.places.entry((chain, placed.rule.dst.map(|test| test.value))).or_default();
        if !same.iter().any(|&at| self.out[at] == placed) {
            same.push(self.out.len());
            self.out.push(placed);
        }
    }
}

#[cfg(test)]
mod tests;
