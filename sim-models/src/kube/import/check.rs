//! From raw shapes to checked objects: names, addresses, ports and the words that a field may hold.
//!
//! The rules are those of the API server (`pkg/apis/core/validation/validation.go`,
//! `pkg/apis/discovery/validation`), as far as a proxy depends on them.

use super::position::Step::{self, At, Key};
use super::raw;
use crate::kube::objects::{
    EndpointSlice, Hints, Node, Objects, Pod, Port, Service, ServiceType, SliceEndpoint, SlicePort,
};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Seconds of ClientIP affinity where none are given.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Where in an item, and what is wrong there.
type Found = (Vec<Step<'static>>, String);

/// Checks one item and adds it to the objects. After an error the item's values do not matter: the import fails.
pub(super) struct Checker<'r> {
    objects: &'r mut Objects,
    names: &'r mut BTreeSet<Arc<str>>,
    errors: Vec<Found>,
}

impl<'r> Checker<'r> {
    pub(super) fn new(objects: &'r mut Objects, names: &'r mut BTreeSet<Arc<str>>) -> Self {
        Checker { objects, names, errors: Vec::new() }
    }

    pub(super) fn into_errors(self) -> Vec<Found> {
        self.errors
    }

    pub(super) fn error(&mut self, path: &[Step<'static>], message: String) {
        self.errors.push((path.to_vec(), message));
    }

    /// The one copy of a name.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }

    /// Checks what every object has.
    pub(super) fn metadata(&mut self, metadata: &raw::Metadata, namespaced: bool, name_is_label: bool) {
        let path = [Key("metadata"), Key("name")];
        match metadata.name.as_deref() {
            None => self.error(&path, "is missing".to_owned()),
            Some(name) if name_is_label => self.dns_label(name, &path),
            Some(name) if !is_dns_name(name) => self.error(&path, format!("{name:?} is no DNS name")),
            Some(_) => {}
        }
        let path = [Key("metadata"), Key("namespace")];
        match metadata.namespace.as_deref() {
            None if namespaced => self.error(&path, "is missing".to_owned()),
            Some(namespace) if namespaced => self.dns_label(namespace, &path),
            _ => {}
        }
    }

    fn dns_label(&mut self, name: &str, path: &[Step<'static>]) {
        if !is_dns_label(name) {
            let rule = "lower-case letters, digits and inner dashes, at most 63 characters";
            self.error(path, format!("{name:?} is no DNS label: {rule}"));
        }
    }

    fn names_of(&mut self, metadata: &raw::Metadata) -> (Arc<str>, Arc<str>) {
        let namespace = self.name(metadata.namespace.as_deref().unwrap_or_default());
        (namespace, metadata.name.as_deref().unwrap_or_default().into())
    }

    pub(super) fn node(&mut self, raw: &raw::Node) {
        let (_, name) = self.names_of(&raw.metadata);
        let mut addresses: Vec<(bool, IpAddr)> = Vec::new();
        let given = raw.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for (i, address) in given.enumerate() {
            let internal = address.kind == "InternalIP";
            if internal || address.kind == "ExternalIP" {
                let path = [Key("status"), Key("addresses"), At(i), Key("address")];
                addresses.extend(self.ip(&address.address, &path).map(|ip| (!internal, ip)));
            }
        }
        addresses.sort_by_key(|&(external, _)| external);
        let mut pod_cidrs = Vec::new();
        if let Some(spec) = &raw.spec {
            pod_cidrs = self.networks(spec.pod_cidrs.as_deref(), &[Key("spec"), Key("podCIDRs")]);
            if let (true, Some(cidr)) = (pod_cidrs.is_empty(), &spec.pod_cidr) {
                pod_cidrs.extend(self.network(cidr, &[Key("spec"), Key("podCIDR")]));
            }
        }
        let zone = raw.metadata.label("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty());
        let zone = zone.map(|zone| self.name(zone));
        let addresses = addresses.into_iter().map(|(_, ip)| ip).collect();
        self.objects.nodes.push(Node { name, zone, addresses, pod_cidrs });
    }

    pub(super) fn pod(&mut self, raw: &raw::Pod) {
        let (namespace, name) = self.names_of(&raw.metadata);
        let mut addresses = Vec::new();
        if let Some(status) = &raw.status {
            let ips = status.pod_ips.iter().flatten().enumerate();
            for (i, ip) in ips.filter_map(|(i, pod_ip)| Some((i, pod_ip.ip.as_deref()?))) {
                addresses.extend(self.ip(ip, &[Key("status"), Key("podIPs"), At(i), Key("ip")]));
            }
            if let (true, Some(ip)) =
                (addresses.is_empty(), status.pod_ip.as_deref().filter(|ip| !ip.is_empty()))
            {
                addresses.extend(self.ip(ip, &[Key("status"), Key("podIP")]));
            }
        }
        let spec = raw.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).map(|node| self.name(node));
        let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        if !addresses.is_empty() {
            self.objects.pods.push(Pod { namespace, name, node, addresses, host_network });
        }
    }

    pub(super) fn service_cidr(&mut self, raw: &raw::ServiceCidr) {
        let cidrs = raw.spec.as_ref().and_then(|spec| spec.cidrs.as_deref());
        let cidrs = self.networks(cidrs, &[Key("spec"), Key("cidrs")]);
        self.objects.service_cidrs.extend(cidrs);
    }

    pub(super) fn service(&mut self, raw: &raw::Service) {
        let none = raw::ServiceSpec::default();
        let Some(spec) = raw.spec.as_ref() else {
            return self.error(&[Key("spec")], "is missing".to_owned());
        };
        let (namespace, name) = self.names_of(&raw.metadata);
        let kind = self.word(
            spec.kind.as_deref(),
            &[Key("spec"), Key("type")],
            &[
                ("ClusterIP", ServiceType::ClusterIp),
                ("NodePort", ServiceType::NodePort),
                ("LoadBalancer", ServiceType::LoadBalancer),
                ("ExternalName", ServiceType::ExternalName),
            ],
        );
        // An ExternalName Service may keep fields of its former type, which then mean nothing.
        let spec = if kind == ServiceType::ExternalName { &none } else { spec };
        let ports = self.service_ports(spec);
        let policies = [("Cluster", false), ("Local", true)];
        let (internal, external) = (&spec.internal_traffic_policy, &spec.external_traffic_policy);
        let internal =
            self.word(internal.as_deref(), &[Key("spec"), Key("internalTrafficPolicy")], &policies);
        // The field is empty on Services that are not externally visible.
        let external = external.as_deref().filter(|policy| !policy.is_empty());
        let external = self.word(external, &[Key("spec"), Key("externalTrafficPolicy")], &policies);
        let health = spec.health_check_node_port.unwrap_or(0);
        let health_check_node_port = self.port(health, true, &[Key("spec"), Key("healthCheckNodePort")]);
        let service = Service {
            namespace,
            name,
            kind,
            cluster_ips: self.cluster_ips(spec),
            ports,
            external_ips: self.external_ips(spec),
            load_balancer_vips: self.ingress(raw.status.as_ref()),
            source_ranges: self.networks(
                spec.load_balancer_source_ranges.as_deref(),
                &[Key("spec"), Key("loadBalancerSourceRanges")],
            ),
            affinity_seconds: self.affinity(spec),
            internal_local: internal,
            external_local: external,
            health_check_node_port,
            other_proxy: raw.metadata.label("service.kubernetes.io/service-proxy-name").is_some(),
        };
        self.objects.services.push(service);
    }

    /// The cluster IPs of the declared families; none for a headless Service.
    fn cluster_ips(&mut self, spec: &raw::ServiceSpec) -> Vec<IpAddr> {
        let first = spec.cluster_ip.as_deref().unwrap_or_default();
        if first.is_empty() || first == "None" {
            return Vec::new();
        }
        let first_path = [Key("spec"), Key("clusterIP")];
        let families: Vec<Family> = spec
            .ip_families
            .iter()
            .flatten()
            .enumerate()
            .map(|(i, family)| {
                let path = [Key("spec"), Key("ipFamilies"), At(i)];
                self.word(Some(family), &path, &[("IPv4", Family::Ipv4), ("IPv6", Family::Ipv6)])
            })
            .collect();
        let mut ips: Vec<IpAddr> = Vec::new();
        match spec.cluster_ips.as_deref() {
            Some(given) if !families.is_empty() && !given.is_empty() => {
                for (i, ip) in given.iter().enumerate() {
                    let path = [Key("spec"), Key("clusterIPs"), At(i)];
                    let Some(ip) = self.ip(ip, &path) else { continue };
                    if ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
                        self.error(&path, format!("{ip} is the second address of its family"));
                    } else if families.contains(&Family::of(ip)) {
                        ips.push(ip);
                    }
                }
                if self.ip(first, &first_path).is_some_and(|first| ips.first() != Some(&first)) {
                    self.error(&first_path, format!("{first} is not the first of spec.clusterIPs"));
                }
            }
            // Written before there were families: the only address decides.
            _ => ips.extend(self.ip(first, &first_path)),
        }
        ips
    }

    fn external_ips(&mut self, spec: &raw::ServiceSpec) -> Vec<IpAddr> {
        let given = spec.external_ips.iter().flatten().enumerate();
        let mut ips = Vec::new();
        for (i, ip) in given {
            ips.extend(self.ip(ip, &[Key("spec"), Key("externalIPs"), At(i)]));
        }
        ips
    }

    /// Addresses of the load balancer that arrive as they are: ipMode Proxy rewrites them before.
    fn ingress(&mut self, status: Option<&raw::ServiceStatus>) -> Vec<IpAddr> {
        let balancer = status.and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
        let mut vips = Vec::new();
        for (i, ingress) in ingress.enumerate() {
            let at = |key| [Key("status"), Key("loadBalancer"), Key("ingress"), At(i), Key(key)];
            let mode = ingress.ip_mode.as_deref();
            let vip = self.word(mode, &at("ipMode"), &[("VIP", true), ("Proxy", false)]);
            let ip = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
            let ip = ip.and_then(|ip| self.ip(ip, &at("ip")));
            vips.extend(ip.filter(|_| vip));
        }
        vips
    }

    fn affinity(&mut self, spec: &raw::ServiceSpec) -> Option<u32> {
        let path = [Key("spec"), Key("sessionAffinity")];
        let words = [("None", false), ("ClientIP", true)];
        if !self.word(spec.session_affinity.as_deref(), &path, &words) {
            return None;
        }
        let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let Some(seconds) = client_ip.and_then(|client_ip| client_ip.timeout_seconds) else {
            return Some(DEFAULT_AFFINITY_SECONDS);
        };
        match u32::try_from(seconds) {
            Ok(seconds @ 1..=86_400) => Some(seconds),
            _ => {
                let path =
                    [Key("spec"), Key("sessionAffinityConfig"), Key("clientIP"), Key("timeoutSeconds")];
                self.error(&path, format!("{seconds} is not in 1-86400"));
                None
            }
        }
    }

    fn service_ports(&mut self, spec: &raw::ServiceSpec) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        let count = spec.ports.as_ref().map_or(0, Vec::len);
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let at = |key| [Key("spec"), Key("ports"), At(i), Key(key)];
            let name = port.name.as_deref().unwrap_or_default();
            if !name.is_empty() {
                self.dns_label(name, &at("name"));
            } else if count > 1 {
                self.error(&at("name"), "is missing: a Service with several ports names each".to_owned());
            }
            if ports.iter().any(|other| &*other.name == name) {
                self.error(&at("name"), format!("{name:?} is the name of another port"));
            }
            let Some(number) = port.port else {
                self.error(&at("port"), "is missing".to_owned());
                continue;
            };
            ports.push(Port {
                name: self.name(name),
                proto: self.protocol(port.protocol.as_deref(), &at("protocol")),
                port: self.port(number, false, &at("port")),
                node_port: self.port(port.node_port.unwrap_or(0), true, &at("nodePort")),
            });
        }
        ports
    }

    pub(super) fn slice(&mut self, raw: &raw::EndpointSlice) {
        let (namespace, name) = self.names_of(&raw.metadata);
        let path = [Key("addressType")];
        let family = match raw.address_type.as_deref() {
            None => return self.error(&path, "is missing".to_owned()),
            // kube-proxy logs and ignores it.
            Some("FQDN") => return,
            family => self.word(family, &path, &[("IPv4", Family::Ipv4), ("IPv6", Family::Ipv6)]),
        };
        let mut endpoints = Vec::with_capacity(raw.endpoints.as_ref().map_or(0, Vec::len));
        for (i, endpoint) in raw.endpoints.iter().flatten().enumerate() {
            let path = [Key("endpoints"), At(i), Key("addresses"), At(0)];
            let Some(address) = endpoint.addresses.iter().flatten().next() else {
                self.error(&path[..3], "is empty".to_owned());
                continue;
            };
            let Some(address) = self.ip(address, &path) else { continue };
            if Family::of(address) != family {
                self.error(&path, format!("{address} is not of the slice's addressType"));
            }
            endpoints.push(self.endpoint(endpoint, address));
        }
        let mut ports = Vec::new();
        for (i, port) in raw.ports.iter().flatten().enumerate() {
            let at = |key| [Key("ports"), At(i), Key(key)];
            let number = self.port(port.port.unwrap_or(0), true, &at("port"));
            let proto = self.protocol(port.protocol.as_deref(), &at("protocol"));
            // Without a name or a number the entry stands for all ports, which is nothing a proxy can use.
            if let (Some(name), true) = (&port.name, number != 0) {
                ports.push(SlicePort { name: self.name(name), proto, port: number });
            }
        }
        let service = raw.metadata.label("kubernetes.io/service-name").filter(|name| !name.is_empty());
        let service = service.map(|service| self.name(service));
        let revision = raw.metadata.revision();
        let slice = EndpointSlice { namespace, name, service, family, endpoints, ports, revision };
        self.objects.slices.push(slice);
    }

    fn endpoint(&mut self, raw: &raw::Endpoint, address: IpAddr) -> SliceEndpoint {
        let unset = raw::Conditions::default();
        let conditions = raw.conditions.as_ref().unwrap_or(&unset);
        let hints = raw.hints.as_ref().map(|hints| {
            let mut names = |list: &Option<Vec<raw::Named>>| -> Vec<Arc<str>> {
                list.iter().flatten().map(|hint| self.name(&hint.name)).collect()
            };
            Box::new(Hints { zones: names(&hints.for_zones), nodes: names(&hints.for_nodes) })
        });
        SliceEndpoint {
            address,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            node: raw.node_name.as_deref().map(|node| self.name(node)),
            hints,
        }
    }

    /// An address in its usual form: no leading zeros, not an IPv4 address in IPv6 clothes.
    fn ip(&mut self, text: &str, path: &[Step<'static>]) -> Option<IpAddr> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
                self.error(path, format!("{text:?} is an IPv4-mapped address: write it as IPv4"));
                None
            }
            Ok(ip) => Some(ip),
            Err(_) => {
                self.error(path, format!("{text:?} is no IP address"));
                None
            }
        }
    }

    fn network(&mut self, text: &str, path: &[Step<'static>]) -> Option<IpNet> {
        let trimmed = text.trim();
        let Some((ip, prefix)) = trimmed.split_once('/') else {
            self.error(path, format!("{text:?} is no network: write address/prefix"));
            return None;
        };
        let ip = self.ip(ip, path)?;
        let digits =
            prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let net = prefix.parse().ok().filter(|_| digits).and_then(|prefix| IpNet::new(ip, prefix).ok());
        if net.is_none() {
            self.error(path, format!("/{prefix} is no prefix length of {ip}"));
        }
        net
    }

    fn networks(&mut self, texts: Option<&[String]>, path: &[Step<'static>; 2]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (i, text) in texts.unwrap_or_default().iter().enumerate() {
            networks.extend(self.network(text, &[path[0], path[1], At(i)]));
        }
        networks
    }

    fn port(&mut self, number: i64, zero_is_none: bool, path: &[Step<'static>]) -> u16 {
        match u16::try_from(number) {
            Ok(0) if !zero_is_none => {}
            Ok(port) => return port,
            Err(_) => {}
        }
        self.error(path, format!("{number} is not in 1-65535"));
        0
    }

    fn protocol(&mut self, word: Option<&str>, path: &[Step<'static>]) -> Proto {
        self.word(word, path, &[("TCP", Proto::Tcp), ("UDP", Proto::Udp), ("SCTP", Proto::Sctp)])
    }

    /// The meaning of one of a few words; the first is the default.
    fn word<T: Copy>(&mut self, word: Option<&str>, path: &[Step<'static>], known: &[(&str, T)]) -> T {
        let found = word.map_or(Some(&known[0]), |word| known.iter().find(|(name, _)| *name == word));
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.error(path, format!("{:?} is none of {}", word.unwrap_or_default(), names.join(", ")));
        }
        found.unwrap_or(&known[0]).1
    }
}

/// RFC 1123: what a namespace or a Service may be called.
fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && is_dns_part(name)
}

/// RFC 1123: parts with dots between them.
fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_part)
}

fn is_dns_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
}
