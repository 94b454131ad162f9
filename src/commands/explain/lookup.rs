//! Whose an address is: Services, pods and nodes of the cluster, and what rules alone say of it.

use super::node::{Cluster, Subject};
use sim_core::classify::{Family, Proto};
use sim_models::kernel::nftables::{Element, KeyValue};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::Match;
use sim_models::kube::ServicePort;
use sim_models::kube::objects::{Node, Pod, SliceEndpoint};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Addresses between which one may have been taken for the other, where the network of Services is not known.
const NEAR: u128 = 1 << 12;

/// What an address and port is of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// `spec.clusterIP`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// A port of this node.
    NodePort,
}

impl Front {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Front::ClusterIp => "ClusterIP",
            Front::ExternalIp => "external IP",
            Front::LoadBalancer => "load balancer IP",
            Front::NodePort => "node port",
        }
    }

    /// The same with its article.
    pub fn a_name(self) -> String {
        let article = if self == Front::ExternalIp { "an" } else { "a" };
        format!("{article} {}", self.name())
    }
}

impl Cluster {
    /// Which of a Service's addresses `addr` is, if any.
    pub fn front(&self, port: &ServicePort, addr: IpAddr) -> Option<Front> {
        if port.cluster_ip == addr {
            Some(Front::ClusterIp)
        } else if port.external_ips.contains(&addr) {
            Some(Front::ExternalIp)
        } else if port.load_balancer_vips.contains(&addr) {
            Some(Front::LoadBalancer)
        } else {
            None
        }
    }

    /// The Service port that answers there.
    pub fn service_at(&self, addr: IpAddr, number: u16, proto: Proto) -> Option<(&ServicePort, Front)> {
        let by_addr = self.resolved.ports.iter().filter(|p| (p.port, p.proto) == (number, proto));
        let found = by_addr.filter_map(|p| Some((p, self.front(p, addr)?))).next();
        found.or_else(|| {
            let is_here = self.resolved.node_ips.contains(&addr) || addr.is_loopback();
            let mut ports = self.resolved.ports.iter();
            let by_node_port = ports.find(|p| number != 0 && (p.node_port, p.proto) == (number, proto));
            by_node_port.filter(|_| is_here).map(|p| (p, Front::NodePort))
        })
    }

    /// The Service that has this address and is left to another proxy.
    pub fn others_service_at(&self, addr: IpAddr) -> Option<String> {
        let mut others = self.objects.services.iter().filter(|service| service.other_proxy);
        let found = others.find(|service| {
            let lists = [&service.cluster_ips, &service.external_ips, &service.load_balancer_vips];
            lists.into_iter().flatten().any(|of| *of == addr)
        })?;
        Some(format!("{}/{}", found.namespace, found.name))
    }

    /// The node that has this address.
    pub fn node_at(&self, addr: IpAddr) -> Option<&Node> {
        self.objects.nodes.iter().find(|node| node.addresses.contains(&addr))
    }

    /// The pod that has this address to itself.
    pub fn pod_at(&self, addr: IpAddr) -> Option<&Pod> {
        self.objects.pods.iter().find(|pod| !pod.host_network && pod.addresses.contains(&addr))
    }

    /// Services that have this address among their endpoints, by slice.
    pub fn services_of_endpoint(&self, addr: IpAddr) -> Vec<String> {
        let slices =
            self.objects.slices.iter().filter(|slice| slice.endpoints.iter().any(|e| e.address == addr));
        let mut names: Vec<String> =
            slices.filter_map(|s| Some(format!("{}/{}", s.namespace, s.service.as_ref()?))).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Everything that the slices say of a port's endpoints, whatever their condition.
    pub fn endpoints(&self, port: &ServicePort) -> Vec<(SocketAddr, &SliceEndpoint)> {
        let family = Family::of(port.cluster_ip);
        let slices = self.objects.slices.iter().filter(|slice| {
            slice.namespace == port.namespace
                && slice.service.as_ref() == Some(&port.name)
                && slice.family == family
        });
        let mut out = Vec::new();
        for slice in slices {
            for p in slice.ports.iter().filter(|p| p.name == port.port_name && p.proto == port.proto) {
                out.extend(slice.endpoints.iter().map(|e| (SocketAddr::new(e.address, p.port), e)));
            }
        }
        out
    }

    /// Whether any slice of the Service has an endpoint of any port.
    pub fn has_slices(&self, port: &ServicePort) -> bool {
        let mut slices = self.objects.slices.iter();
        slices.any(|s| {
            s.namespace == port.namespace && s.service.as_ref() == Some(&port.name) && !s.endpoints.is_empty()
        })
    }

    /// ClusterIPs nearest to an address, with their Services; none if the address is far from where such are.
    pub fn near(&self, addr: IpAddr, count: usize) -> Vec<(IpAddr, String)> {
        let number = |addr: IpAddr| match addr {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let mut all: BTreeMap<(u128, IpAddr), String> = BTreeMap::new();
        for port in &self.resolved.ports {
            let distance = number(port.cluster_ip).abs_diff(number(addr));
            all.insert((distance, port.cluster_ip), format!("{}/{}", port.namespace, port.name));
        }
        let in_cidr = self.resolved.service_cidrs.iter().any(|cidr| cidr.contains(&addr));
        let is_near = |distance: u128| in_cidr || distance < NEAR;
        all.into_iter()
            .take(count)
            .filter(|((distance, _), _)| is_near(*distance))
            .map(|((_, ip), name)| (ip, name))
            .collect()
    }
}

/// Pod, or at least node, behind an endpoint.
pub fn who(subject: &Subject, to: SocketAddr) -> Option<String> {
    let cluster = subject.cluster.as_ref()?;
    if let Some(pod) = cluster.pod_at(to.ip()) {
        let node = pod.node.as_deref().map_or(String::new(), |node| format!(" on {node}"));
        return Some(format!("{}/{}{node}", pod.namespace, pod.name));
    }
    if let Some(node) = cluster.node_at(to.ip()) {
        return Some(format!("node {}", node.name));
    }
    let mut all = cluster.objects.slices.iter().flat_map(|slice| &slice.endpoints);
    let endpoint = all.find(|endpoint| endpoint.address == to.ip())?;
    endpoint.node.as_deref().map(|node| format!("on {node}"))
}

/// Ports that rules know of an address, each with what they say of it.
pub fn ports_of(rules: &NodeRules, addr: IpAddr) -> BTreeMap<(Proto, u16), String> {
    let mut out = BTreeMap::new();
    for server in rules.ipvs.iter().filter(|server| server.addr == addr) {
        out.insert((server.proto, server.port), String::new());
    }
    for rule in rules.xtables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules) {
        let is_for = |net: &ipnet::IpNet| net.addr() == addr && net.prefix_len() == net.max_prefix_len();
        if !rule.dst.is_some_and(|dst| !dst.invert && is_for(&dst.value)) {
            continue;
        }
        let comment = rule.matches.iter().find_map(|m| match m {
            Match::Comment(text) => Some(text.split(' ').next().unwrap_or_default().to_owned()),
            _ => None,
        });
        for m in &rule.matches {
            if let Match::Ports { proto, dport: Some(port), .. } = m
                && port.value.0 == port.value.1
                && !port.invert
            {
                out.entry((*proto, port.value.0)).or_insert(comment.clone().unwrap_or_default());
            }
        }
    }
    let tables = rules.nftables.iter();
    for element in tables.flat_map(|t| &t.sets).flat_map(|set| &set.elements) {
        if let [KeyValue::Addr(ip), KeyValue::Proto(proto), KeyValue::Service(port)] = element.key[..]
            && ip == addr
        {
            out.entry((proto, port)).or_insert(element.comment.as_deref().unwrap_or_default().to_owned());
        }
    }
    out
}

/// Whether rules have a node port of this number.
pub fn has_node_port(rules: &NodeRules, number: u16, proto: Proto) -> bool {
    let chains = rules.xtables.iter().flat_map(|t| &t.chains);
    let node_ports = chains.filter(|chain| &*chain.name == "KUBE-NODEPORTS");
    let mut matches = node_ports.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches);
    let of_xtables = matches.any(
        |m| matches!(m, Match::Ports { proto: p, dport: Some(t), .. } if *p == proto && t.value == (number, number)),
    );
    let mut elements = rules.nftables.iter().flat_map(|t| &t.sets).flat_map(|set| &set.elements);
    of_xtables
        || elements.any(|element| element.key[..] == [KeyValue::Proto(proto), KeyValue::Service(number)])
}

/// Whether rules name an address as that of a Service.
pub fn is_known(rules: &NodeRules, addr: IpAddr) -> bool {
    let in_set = |element: &Element| element.key[..] == [KeyValue::Addr(addr)];
    rules.dummy_addrs.contains(&addr)
        || !ports_of(rules, addr).is_empty()
        || rules.nftables.iter().flat_map(|t| &t.sets).any(|set| set.elements.iter().any(in_set))
}
