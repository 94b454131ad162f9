//! The ipvs mode: virtual servers, addresses on kube-ipvs0, ipsets and a fixed set of iptables rules.
//!
//! Source: Kubernetes 1.36 `pkg/proxy/ipvs/proxier.go:syncProxyRules` and `syncEndpoint`. Every sync writes
//! everything. A Service whose Local policy finds no local endpoint falls back to the cluster's.
//!
//! `excludeCIDRs` protects virtual servers that a later sync would delete; it is [`inputs`]' business. IPv6 differs by
//! the sets' names, loopback and address forms only, and each family's proxier makes the same settings.
//!
//! Left out: addresses of the node that its Node object does not list. Where two Services share an address and port
//! the later one's real servers stay, as in kube-proxy, where "later" is random. Order is that of the objects.

pub mod inputs;
pub mod mode;
mod read;
mod restore;
mod sets;
mod settings;
pub mod sizes;
mod tables;

use crate::config::{NodePortAddresses, ProxyConfig};
use crate::kernel::ipset::SetEntry;
use crate::kernel::ipvs::{RealServer, SchedulerFlags, VirtualServer};
use crate::kernel::rules::NodeRules;
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::local::LocalDetector;
use crate::proxy::node_ports::NodePortIps;
use ipnet::IpNet;
use sets::{Set, Sets};
use sim_core::classify::{Family, Proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Which of two slightly different rulesets to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// What kube-proxy 1.36 writes.
    KubeProxy,
    /// What the cost profiles were calibrated on.
    Measured,
}

/// What kube-proxy writes in ipvs mode for one family.
pub fn build(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    build_shape(objects, config, family, Shape::KubeProxy)
}

/// The shape that the cost profiles were calibrated on: larger and fewer ipsets, a hairpin rule even without
/// hairpin elements, no DROP at the end of the source-range chain. For checking the calibration only.
pub fn build_measured_shape(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    build_shape(objects, config, family, Shape::Measured)
}

fn build_shape(objects: &ProxyObjects, config: &ProxyConfig, family: Family, shape: Shape) -> NodeRules {
    let mut builder = Builder {
        config,
        node_ips: &objects.node_ips,
        node_port_ips: node_port_ips(objects, config, family),
        sets: Sets::new(family),
        servers: Vec::new(),
        by_key: BTreeMap::new(),
        bound: Vec::new(),
        is_bound: BTreeSet::new(),
        no_node_access: Vec::new(),
    };
    for port in &objects.ports {
        builder.service_port(port);
    }
    let Builder { mut sets, servers, bound, no_node_access, .. } = builder;
    let local = LocalDetector::of(objects, config, family);
    bound.iter().for_each(|&addr| sets.insert(Set::IpvsIps, SetEntry::Ip(addr)));
    NodeRules {
        xtables: tables::write(&sets, &no_node_access, config, local.as_ref(), family, shape),
        xtables_backend: config.backend,
        ipvs_tables: config.ipvs.tables,
        ipvs: servers,
        ipsets: match shape {
            Shape::KubeProxy => sets.into_all(),
            Shape::Measured => sets.into_measured(),
        },
        dummy_addrs: bound,
        sysctls: match shape {
            Shape::KubeProxy => settings::sysctls(config),
            Shape::Measured => Vec::new(),
        },
        ipvs_timeouts: settings::timeouts(config),
        ..NodeRules::default()
    }
}

/// Addresses with a virtual server for each NodePort: never loopback, and where `nodePortAddresses` is not set no
/// link-local IPv6 either (`netlink_linux.go:isValidForSet`).
fn node_port_ips(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Vec<IpAddr> {
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match NodePortIps::of(objects, config, family, NodePortAddresses::Unset) {
        NodePortIps::All => {
            let all = objects.node_ips.iter().copied();
            all.filter(|ip| !ip.is_loopback() && !is_link_local(ip)).collect()
        }
        NodePortIps::Only(ips) => ips.into_iter().filter(|ip| !ip.is_loopback()).collect(),
    }
}

struct Builder<'a> {
    config: &'a ProxyConfig,
    node_ips: &'a [IpAddr],
    node_port_ips: Vec<IpAddr>,
    sets: Sets,
    servers: Vec<VirtualServer>,
    by_key: BTreeMap<(IpAddr, u16, Proto), usize>,
    bound: Vec<IpAddr>,
    is_bound: BTreeSet<IpAddr>,
    no_node_access: Vec<tables::NoNodeAccess>,
}

impl Builder<'_> {
    fn service_port(&mut self, svc: &ServicePort) {
        let lists = [&svc.endpoints.reachable, &svc.endpoints.cluster, &svc.endpoints.local];
        let listed = lists.into_iter().flatten().filter(|ep| ep.is_local).map(|ep| ep.addr);
        // Whatever their condition: what a pod opened while it was ready may still be open.
        for local in listed.chain(svc.endpoints.idle_local.iter().copied()) {
            let (ip, port) = (local.ip(), local.port());
            self.sets.insert(Set::LoopBack, SetEntry::IpPortIp(ip, svc.proto, port, ip));
        }
        self.sets.insert(Set::ClusterIp, SetEntry::IpPort(svc.cluster_ip, svc.proto, svc.port));
        self.server(svc, svc.cluster_ip, svc.port, svc.internal_local);
        self.bind(svc.cluster_ip);

        for &addr in &svc.external_ips {
            let set = if svc.external_local { Set::ExternalIpLocal } else { Set::ExternalIp };
            self.sets.insert(set, SetEntry::IpPort(addr, svc.proto, svc.port));
            self.server(svc, addr, svc.port, svc.external_local);
            self.bind_unless_node(addr);
        }
        for &addr in &svc.load_balancer_vips {
            self.load_balancer(svc, addr);
            self.server(svc, addr, svc.port, svc.external_local);
            self.bind_unless_node(addr);
        }
        if svc.node_port != 0 {
            if self.node_port_ips.is_empty() {
                // kube-proxy goes on to the next Service here, health check or not.
                return;
            }
            self.node_port(svc);
        }
        if svc.health_check_node_port != 0 {
            self.sets.insert(Set::HealthCheckNodePort, SetEntry::Port(svc.health_check_node_port));
        }
    }

    fn load_balancer(&mut self, svc: &ServicePort, addr: IpAddr) {
        let entry = SetEntry::IpPort(addr, svc.proto, svc.port);
        self.sets.insert(Set::LoadBalancer, entry);
        if svc.external_local {
            self.sets.insert(Set::LoadBalancerLocal, entry);
        }
        if svc.source_ranges.is_empty() {
            return;
        }
        self.sets.insert(Set::LoadBalancerFw, entry);
        for range in &svc.source_ranges {
            let from = SetEntry::IpPortNet(addr, svc.proto, svc.port, range.trunc());
            self.sets.insert(Set::LoadBalancerSourceCidr, from);
        }
        let allows = |range: &IpNet| self.node_ips.first().is_some_and(|ip| range.contains(ip));
        if svc.source_ranges.iter().any(allows) {
            // The node reaches the address from the address itself, which is on its own device.
            let from = SetEntry::IpPortIp(addr, svc.proto, svc.port, addr);
            self.sets.insert(Set::LoadBalancerSourceIp, from);
        } else {
            self.no_node_access.push((addr, svc.proto, svc.port));
        }
    }

    fn node_port(&mut self, svc: &ServicePort) {
        let (all, local) = Set::node_ports(svc.proto);
        let entries: Vec<SetEntry> = match svc.proto {
            Proto::Sctp => {
                let entry = |&ip| SetEntry::IpPort(ip, svc.proto, svc.node_port);
                self.node_port_ips.iter().map(entry).collect()
            }
            _ => vec![SetEntry::Port(svc.node_port)],
        };
        for entry in entries {
            self.sets.insert(all, entry);
            if svc.external_local {
                self.sets.insert(local, entry);
            }
        }
        for at in 0..self.node_port_ips.len() {
            self.server(svc, self.node_port_ips[at], svc.node_port, svc.external_local);
        }
    }

    fn server(&mut self, svc: &ServicePort, addr: IpAddr, port: u16, only_local: bool) {
        let lists = &svc.endpoints;
        let endpoints = if only_local && !lists.local.is_empty() { &lists.local } else { &lists.cluster };
        let server = VirtualServer {
            addr,
            port,
            proto: svc.proto,
            scheduler: self.config.ipvs.scheduler.as_str().into(),
            // kube-proxy asks for the port in the hash for mh alone.
            flags: SchedulerFlags { port: self.config.ipvs.scheduler == "mh", fallback: false },
            persistence_seconds: svc.affinity_seconds,
            persistence_prefix: None,
            real: endpoints.iter().map(|ep| RealServer::new(ep.addr)).collect(),
        };
        match self.by_key.get(&(addr, port, svc.proto)) {
            Some(&at) => self.servers[at] = server,
            None => {
                self.by_key.insert((addr, port, svc.proto), self.servers.len());
                self.servers.push(server);
            }
        }
    }

    fn bind(&mut self, addr: IpAddr) {
        if self.is_bound.insert(addr) {
            self.bound.push(addr);
        }
    }
    fn bind_unless_node(&mut self, addr: IpAddr) {
        if !self.node_ips.contains(&addr) {
            self.bind(addr);
        }
    }
}

#[cfg(test)]
mod tests;
