//! The ebpf mode: Services as the maps of a Cilium-like load balancer, so that they can be laid beside kube-proxy's.
//!
//! kube-proxy has no such mode; clusters run it instead of kube-proxy. Source: Cilium's kube-proxy replacement
//! (`pkg/loadbalancer/reconciler/bpf_reconciler.go:updateFrontend`, `loadbalancer.go:NewSvcFlag`, `bpf/lib/lb.h`):
//! a frontend for every address a Service answers on, backends shared by all frontends, an id for the way back. An
//! address whose outside and inside traffic policies differ has a frontend for each of the two scopes. A Local policy
//! without local endpoints has no backends: unlike ipvs mode it does not fall back to the cluster's.
//!
//! Numbers are given in order of the objects, so equal objects have equal numbers; Cilium gives them as Services
//! come and reuses what is free. Source ranges are in the map for every frontend of a Service, but checked on load
//! balancers' addresses only, Cilium's default (`bpf-lb-source-range-all-types=false`). Of kube-proxy's configuration
//! only `nodePortAddresses` counts.

pub mod mode;

use crate::config::{NodePortAddresses, ProxyConfig};
use crate::kernel::ebpf::{
    AffinityMatch, Backend, BackendId, Frontend, FrontendKind, ReverseNat, ReverseNatId, Scope, ServiceMap,
    SourceRange,
};
use crate::kernel::rules::NodeRules;
use crate::kube::{Endpoint, ProxyObjects, ServicePort};
use crate::proxy::node_ports::NodePortIps;
use sim_core::classify::{Family, Proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The maps of one family.
pub fn build(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
    let node_ips = match NodePortIps::of(objects, config, family, NodePortAddresses::Unset) {
        NodePortIps::All => objects.node_ips.clone(),
        NodePortIps::Only(ips) => ips.into_iter().filter(|ip| !ip.is_loopback()).collect(),
    };
    let wildcard: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut writer =
        Writer { map: ServiceMap::new(family), backends: BTreeMap::new(), taken: BTreeSet::new() };
    for port in &objects.ports {
        writer.frontend(port, port.cluster_ip, FrontendKind::ClusterIp);
        for &addr in &port.external_ips {
            writer.frontend(port, addr, FrontendKind::ExternalIp);
        }
        for &addr in &port.load_balancer_vips {
            writer.frontend(port, addr, FrontendKind::LoadBalancer);
        }
        if port.node_port != 0 {
            for &addr in std::iter::once(&wildcard).chain(&node_ips) {
                writer.frontend(port, addr, FrontendKind::NodePort);
            }
        }
    }
    NodeRules { service_map: Some(writer.map), ..NodeRules::default() }
}

struct Writer {
    map: ServiceMap,
    backends: BTreeMap<(SocketAddr, Proto), BackendId>,
    /// Frontends that are there, by address and protocol: a map has one value a key, and the first Service keeps it.
    taken: BTreeSet<(SocketAddr, Proto)>,
}

impl Writer {
    fn frontend(&mut self, port: &ServicePort, addr: IpAddr, kind: FrontendKind) {
        let number = if kind == FrontendKind::NodePort { port.node_port } else { port.port };
        let addr = SocketAddr::new(addr, number);
        if !self.taken.insert((addr, port.proto)) {
            return;
        }
        let lists = &port.endpoints;
        let (external, internal) = (port.external_local, port.internal_local);
        // Whoever uses the cluster IP, its policy is the internal one.
        let of_external_scope = if kind == FrontendKind::ClusterIp { internal } else { external };
        let two_scopes = kind != FrontendKind::ClusterIp && external != internal;
        let scopes = [(Scope::External, of_external_scope), (Scope::Internal, internal)];
        for (scope, only_local) in scopes.into_iter().take(if two_scopes { 2 } else { 1 }) {
            let next = u32::try_from(self.map.reverse_nat.len() + 1).expect("fewer than 2^32 frontends");
            let id = ReverseNatId(next);
            self.map.reverse_nat.push(ReverseNat { id, addr });
            let slots = self.slots(if only_local { &lists.local } else { &lists.cluster }, port.proto);
            if port.affinity_seconds.is_some() {
                let matches = slots.iter().map(|&backend| AffinityMatch { frontend: id, backend });
                self.map.affinity.extend(matches);
            }
            let ranges = port.source_ranges.iter().map(|net| SourceRange { frontend: id, net: net.trunc() });
            self.map.source_ranges.extend(ranges);
            self.map.frontends.push(Frontend {
                addr,
                proto: port.proto,
                scope,
                kind,
                external_local: external,
                internal_local: internal,
                two_scopes,
                affinity_seconds: port.affinity_seconds,
                checks_source: kind == FrontendKind::LoadBalancer && !port.source_ranges.is_empty(),
                routable: kind != FrontendKind::ClusterIp && !addr.ip().is_unspecified(),
                reverse_nat: id,
                slots,
            });
        }
    }

    fn slots(&mut self, endpoints: &[Endpoint], proto: Proto) -> Vec<BackendId> {
        let mut slots = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let next = u32::try_from(self.map.backends.len() + 1).expect("fewer than 2^32 backends");
            let id = *self.backends.entry((endpoint.addr, proto)).or_insert(BackendId(next));
            if id.0 == next {
                self.map.backends.push(Backend { id, addr: endpoint.addr, proto });
            }
            slots.push(id);
        }
        slots
    }
}

#[cfg(test)]
mod tests;
