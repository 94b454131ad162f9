//! The rules of one Service port: entries into KUBE-SERVICES and its like, and the chains they lead to.
//!
//! Source: the loop over `proxier.svcPortMap` in `pkg/proxy/iptables/proxier.go:syncProxyRules`. What is here
//! depends on one Service port and the [`SyncContext`] only, so that a partial sync can rebuild a single Service.

use super::endpoints::EndpointChains;
use super::fixed::{FilterChain, NatChain, loopback_v4};
use super::{SyncContext, chain, commented, is, rule};
use crate::kernel::xtables::{Chain, ChainId, Match, Rule, Target};
use crate::kube::ServicePort;
use crate::proxy::names::{self, ServiceChain};
use ipnet::IpNet;
use smallvec::{SmallVec, smallvec};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that one Service port adds to the tables.
#[derive(Clone, Debug, Default)]
pub struct ServiceRules {
    /// Rules of the shared chains of table filter, in the order in which they are written.
    pub filter: Vec<(ChainId, Rule)>,
    /// The same of table nat.
    pub nat: Vec<(ChainId, Rule)>,
    /// Chains of the port and its endpoints in table nat, in the order in which they are written; the first has
    /// the index given to [`service_rules`].
    pub nat_chains: Vec<Chain>,
}

/// The chains of a port that exist.
#[derive(Clone, Copy)]
struct Targets {
    external: Option<ChainId>,
    firewall: Option<ChainId>,
    cluster: Option<ChainId>,
    local: Option<ChainId>,
}

impl Targets {
    /// Where traffic under a policy goes; `None` where the policy has no endpoints.
    fn policy(&self, local: bool) -> Option<ChainId> {
        if local { self.local } else { self.cluster }
    }
}

/// The rules of one Service port. Its chains in table nat get the indices from `first` on.
pub fn service_rules(port: &ServicePort, first: ChainId, cx: &SyncContext) -> ServiceRules {
    let writer = Writer::new(port, first, cx);
    let mut out = ServiceRules::default();
    writer.entries(&mut out);
    writer.chains(&mut out.nat_chains);
    out
}

/// One Service port, with the names of its chains.
pub(super) struct Writer<'a> {
    port: &'a ServicePort,
    cx: &'a SyncContext,
    /// ServicePortName.
    name: String,
    hash: String,
    first: ChainId,
    /// Names of the chains in [`Targets`] that exist.
    own: SmallVec<[Arc<str>; 2]>,
    to: Targets,
    endpoints: EndpointChains<'a>,
}

impl<'a> Writer<'a> {
    /// Finds out which chains the port has. They get the indices from `first` on.
    pub(super) fn new(port: &'a ServicePort, first: ChainId, cx: &'a SyncContext) -> Self {
        let lists = &port.endpoints;
        let name = names::service_port_name(port, cx.kubernetes_minor);
        let hash = names::service_hash(&name, port.proto.name());
        let mut own = SmallVec::new();
        let mut add = |kind: ServiceChain, wanted: bool| {
            wanted.then(|| {
                own.push(names::service_chain(kind, &hash));
                ChainId(first.0 + own.len() as u32 - 1)
            })
        };
        let firewalled = !port.load_balancer_vips.is_empty() && !port.source_ranges.is_empty();
        let to = Targets {
            external: add(ServiceChain::External, lists.has_any && port.externally_accessible()),
            firewall: add(ServiceChain::Firewall, lists.has_any && firewalled),
            cluster: add(ServiceChain::Cluster, !lists.cluster.is_empty() && port.uses_cluster_endpoints()),
            local: add(ServiceChain::Local, !lists.local.is_empty() && port.uses_local_endpoints()),
        };
        let endpoints = EndpointChains::new(port, &name, ChainId(first.0 + own.len() as u32));
        Writer { port, cx, name, hash, first, own, to, endpoints }
    }

    /// Names of all its chains, in order.
    pub(super) fn chain_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.own.iter().chain(self.endpoints.names())
    }

    /// Name of the chain with this index.
    pub(super) fn chain_name(&self, ChainId(id): ChainId) -> &str {
        let at = (id - self.first.0) as usize;
        self.own.get(at).unwrap_or_else(|| &self.endpoints.names()[at - self.own.len()])
    }

    /// Whether the chain with this index spreads connections over endpoints.
    pub(super) fn spreads(&self, id: ChainId) -> bool {
        [self.to.cluster, self.to.local].contains(&Some(id))
    }

    /// How many rules at the head of the chain with this index have a source that was written as a network; the
    /// sources of the others are single addresses.
    pub(super) fn network_sources(&self, id: ChainId) -> usize {
        if Some(id) == self.to.firewall {
            self.port.source_ranges.len()
        } else if (id.0 - self.first.0) as usize >= self.own.len() {
            0
        } else {
            usize::MAX
        }
    }

    /// Writes its rules in chains that are shared.
    pub(super) fn entries(&self, out: &mut ServiceRules) {
        self.cluster_ip(out);
        self.external_ips(out);
        self.load_balancer(out);
        self.node_port(out);
        self.health_check(out);
    }

    /// Writes its own chains.
    pub(super) fn chains(&self, out: &mut Vec<Chain>) {
        let (lists, to) = (&self.port.endpoints, &self.to);
        let spread = |list| self.endpoints.spread(list, &self.name, self.port.affinity_seconds, self.cx);
        let bodies = [
            to.external.map(|id| (id, self.external_chain())),
            to.firewall.map(|id| (id, self.firewall_chain())),
            to.cluster.map(|id| (id, spread(&lists.cluster))),
            to.local.map(|id| (id, spread(&lists.local))),
        ];
        let internal = to.policy(self.port.internal_local).filter(|_| self.port.has_internal_endpoints());
        for ((id, mut body), name) in bodies.into_iter().flatten().zip(&self.own) {
            if Some(id) == internal
                && let Some(masquerade) = self.masquerade_rule().filter(|_| !self.cx.masquerade_in_services)
            {
                body.insert(0, masquerade);
            }
            out.push(chain(name.clone(), body));
        }
        self.endpoints.write(&self.name, self.port.affinity_seconds, self.cx, out);
    }

    /// Protocol and destination port, with an optional address and the matches that come before the port.
    fn towards(&self, ip: Option<IpAddr>, before: impl IntoIterator<Item = Match>, port: u16) -> Rule {
        let proto = self.port.proto;
        let mut matches: SmallVec<[Match; 2]> = before.into_iter().collect();
        matches.push(Match::Ports { proto, sport: None, dport: is((port, port)) });
        Rule { dst: ip.map(IpNet::from).and_then(is), proto: is(proto), matches, ..Rule::default() }
    }

    /// The rule for the port at `ip`, with a comment.
    fn at(&self, ip: IpAddr, comment: String, target: Target) -> Rule {
        let comment: Arc<str> = comment.into();
        Rule { target: Some(target), ..self.towards(Some(ip), [Match::Comment(comment)], self.port.port) }
    }

    /// What happens to traffic that finds no endpoint, and the comment that says why: an error where there is no
    /// endpoint at all, silence where other nodes have some.
    fn nowhere(&self) -> (String, Target) {
        if self.port.endpoints.has_any {
            (format!("{} has no local endpoints", self.name), Target::Drop)
        } else {
            (format!("{} has no endpoints", self.name), Target::Reject)
        }
    }

    /// "name cluster IP" towards the cluster IP, for whoever is not a pod: replies must come back this way.
    fn masquerade_rule(&self) -> Option<Rule> {
        if !self.cx.masquerade_all && self.cx.local.is_none() {
            return None;
        }
        let comment = format!("{} cluster IP", self.name);
        let to_masquerade = Target::Jump(NatChain::MarkMasq.id());
        let mut rule = self.at(self.port.cluster_ip, comment, to_masquerade);
        if let (false, Some(pods)) = (self.cx.masquerade_all, &self.cx.local) {
            pods.restrict(&mut rule, false);
        }
        Some(rule)
    }

    fn cluster_ip(&self, out: &mut ServiceRules) {
        let ip = self.port.cluster_ip;
        match self.to.policy(self.port.internal_local) {
            Some(internal) if self.port.has_internal_endpoints() => {
                let services = NatChain::Services.id();
                if self.cx.masquerade_in_services {
                    out.nat.extend(self.masquerade_rule().map(|rule| (services, rule)));
                }
                let comment = format!("{} cluster IP", self.name);
                out.nat.push((services, self.at(ip, comment, Target::Jump(internal))));
            }
            _ => {
                let (comment, target) = self.nowhere();
                out.filter.push((FilterChain::Services.id(), self.at(ip, comment, target)));
            }
        }
    }

    fn external_ips(&self, out: &mut ServiceRules) {
        for &ip in &self.port.external_ips {
            // With endpoints elsewhere both are written: pods and the node itself take the chain's short cut.
            if let Some(external) = self.to.external {
                let comment = format!("{} external IP", self.name);
                out.nat.push((NatChain::Services.id(), self.at(ip, comment, Target::Jump(external))));
            }
            self.close(ip, out);
        }
    }

    /// Refuses outsiders at an address if there is nothing for them.
    fn close(&self, ip: IpAddr, out: &mut ServiceRules) {
        if !self.port.has_external_endpoints() {
            let (comment, target) = self.nowhere();
            out.filter.push((FilterChain::ExternalServices.id(), self.at(ip, comment, target)));
        }
    }

    fn load_balancer(&self, out: &mut ServiceRules) {
        for &ip in &self.port.load_balancer_vips {
            if let Some(entry) = self.to.firewall.or(self.to.external) {
                let comment = format!("{} loadbalancer IP", self.name);
                out.nat.push((NatChain::Services.id(), self.at(ip, comment, Target::Jump(entry))));
            }
            if self.to.firewall.is_some() {
                let firewall = names::service_chain(ServiceChain::Firewall, &self.hash);
                let comment = format!("{} traffic not accepted by {firewall}", self.name);
                out.filter.push((FilterChain::ProxyFirewall.id(), self.at(ip, comment, Target::Drop)));
            }
        }
        self.port.load_balancer_vips.iter().for_each(|&ip| self.close(ip, out));
    }

    fn node_port(&self, out: &mut ServiceRules) {
        let port = self.port.node_port;
        if port == 0 {
            return;
        }
        if let Some(external) = self.to.external {
            let comment: Arc<str> = self.name.as_str().into();
            let to_port = || Rule {
                target: Some(Target::Jump(external)),
                ..self.towards(None, [Match::Comment(comment.clone())], port)
            };
            let node_ports = NatChain::NodePorts.id();
            if self.cx.localhost_node_ports {
                // A copy that only counts how much loopback is used this way.
                let mut counted = Rule { dst: is(loopback_v4()), ..to_port() };
                counted.matches.push(Match::Nfacct("localhost_nps_accepted_pkts".into()));
                out.nat.push((node_ports, counted));
            }
            out.nat.push((node_ports, to_port()));
        }
        if !self.port.has_external_endpoints() {
            let (comment, target) = self.nowhere();
            let before = [Match::Comment(comment.into()), Match::AddrtypeLocal { src: false, invert: false }];
            let closed = Rule { target: Some(target), ..self.towards(None, before, port) };
            out.filter.push((FilterChain::ExternalServices.id(), closed));
        }
    }

    fn health_check(&self, out: &mut ServiceRules) {
        let port = self.port.health_check_node_port;
        if port == 0 {
            return;
        }
        // The health check is HTTP, whatever the Service's protocol.
        let proto = sim_core::classify::Proto::Tcp;
        let accept = Rule {
            proto: is(proto),
            matches: smallvec![
                Match::Comment(format!("{} health check node port", self.name).into()),
                Match::Ports { proto, sport: None, dport: is((port, port)) },
            ],
            ..rule(Target::Accept)
        };
        out.filter.push((FilterChain::NodePorts.id(), accept));
    }

    /// KUBE-EXT: masquerades what comes from outside, or under policy Local gives pods and the node a short cut
    /// to all endpoints and leaves the sources of everybody else alone.
    fn external_chain(&self) -> Vec<Rule> {
        let name = &self.name;
        let to_masquerade = Target::Jump(NatChain::MarkMasq.id());
        let mut rules = Vec::new();
        if !self.port.external_local {
            let comment = format!("masquerade traffic for {name} external destinations");
            rules.push(commented(comment, to_masquerade));
        } else if let Some(cluster) = self.to.cluster {
            if let Some(pods) = &self.cx.local {
                let comment = format!("pod traffic for {name} external destinations");
                let mut from_pods = commented(comment, Target::Jump(cluster));
                pods.restrict(&mut from_pods, true);
                rules.push(from_pods);
            }
            for (what, target) in [("masquerade", to_masquerade), ("route", Target::Jump(cluster))] {
                let comment = format!("{what} LOCAL traffic for {name} external destinations");
                let mut local = commented(comment, target);
                local.matches.push(Match::AddrtypeLocal { src: true, invert: false });
                rules.push(local);
            }
        }
        if self.port.has_external_endpoints() {
            rules.extend(self.to.policy(self.port.external_local).map(|policy| rule(Target::Jump(policy))));
        }
        rules
    }

    /// KUBE-FW: sources that the load balancer may serve. Whoever comes through is dropped in table filter.
    fn firewall_chain(&self) -> Vec<Rule> {
        let Some(external) = self.to.external else { return Vec::new() };
        let from = |net: IpNet| {
            let comment = format!("{} loadbalancer IP", self.name);
            Rule { src: is(net), ..commented(comment, Target::Jump(external)) }
        };
        let ranges = &self.port.source_ranges;
        let mut rules: Vec<Rule> = ranges.iter().map(|&range| from(range.trunc())).collect();
        // A node that may use the load balancer sends to it with the VIP as its source where some component has
        // bound the VIP to a device of the node.
        if self.cx.node_ip.is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip))) {
            rules.extend(self.port.load_balancer_vips.iter().map(|&vip| from(vip.into())));
        }
        let name = &self.name;
        let comment = format!("other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL");
        rules.push(Rule { matches: smallvec![Match::Comment(comment.into())], ..Rule::default() });
        rules
    }
}
