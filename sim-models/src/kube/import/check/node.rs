//! Nodes, Pods and ServiceCIDRs.

use super::Checker;
use crate::kube::import::position::Step::{At, Key};
use crate::kube::import::raw;
use crate::kube::import::shape::key;
use crate::kube::objects::{Node, Pod};
use std::net::IpAddr;

impl Checker<'_> {
    pub(in super::super) fn node(&mut self, raw: &raw::Node<'_>) {
        let (_, name) = self.names_of(&raw.metadata);
        let mut addresses: Vec<(bool, IpAddr)> = Vec::new();
        let given = raw.status.as_ref().and_then(|status| status.addresses.as_ref());
        for (i, address) in self.list(given, &[Key("status"), Key("addresses")]).iter().enumerate() {
            let internal = &*address.kind == "InternalIP";
            if internal || &*address.kind == "ExternalIP" {
                let path = [Key("status"), Key("addresses"), At(i), Key("address")];
                addresses.extend(self.ip(&address.address, &path).map(|ip| (!internal, ip)));
            }
        }
        addresses.sort_by_key(|&(external, _)| external);
        let mut pod_cidrs = Vec::new();
        if let Some(spec) = &raw.spec {
            pod_cidrs = self.networks(spec.pod_cidrs.as_ref(), &[Key("spec"), Key("podCIDRs")]);
            if let (true, Some(cidr)) = (pod_cidrs.is_empty(), &spec.pod_cidr) {
                pod_cidrs.extend(self.network(cidr, &[Key("spec"), Key("podCIDR")]));
            }
        }
        let zone = raw.metadata.label(key::ZONE).filter(|zone| !zone.is_empty());
        let zone = zone.map(|zone| self.name(zone));
        let addresses = addresses.into_iter().map(|(_, ip)| ip).collect();
        self.gathered.objects.nodes.push(Node { name, zone, addresses, pod_cidrs });
    }

    pub(in super::super) fn pod(&mut self, raw: &raw::Pod<'_>) {
        let (namespace, name) = self.names_of(&raw.metadata);
        let mut addresses = Vec::new();
        if let Some(status) = &raw.status {
            let ips = self.list(status.pod_ips.as_ref(), &[Key("status"), Key("podIPs")]);
            for (i, ip) in ips.iter().enumerate().filter_map(|(i, pod_ip)| Some((i, pod_ip.ip.as_deref()?))) {
                addresses.extend(self.ip(ip, &[Key("status"), Key("podIPs"), At(i), Key("ip")]));
            }
            if let (true, Some(ip)) =
                (addresses.is_empty(), status.pod_ip.as_deref().filter(|ip| !ip.is_empty()))
            {
                addresses.extend(self.ip(ip, &[Key("status"), Key("podIP")]));
            }
        }
        let spec = raw.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
        if let Some(node) = node {
            self.dns_name(node, &[Key("spec"), Key("nodeName")]);
        }
        let node = node.map(|node| self.name(node));
        let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        if !addresses.is_empty() {
            self.gathered.objects.pods.push(Pod { namespace, name, node, addresses, host_network });
        }
    }

    pub(in super::super) fn service_cidr(&mut self, raw: &raw::ServiceCidr<'_>) {
        let cidrs = raw.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
        let cidrs = self.networks(cidrs, &[Key("spec"), Key("cidrs")]);
        self.gathered.objects.service_cidrs.extend(cidrs);
    }
}
