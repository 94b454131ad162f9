//! Services.

use super::Checker;
use super::names::is_service_name;
use crate::kube::import::position::Step::{self, At, Key};
use crate::kube::import::position::quoted;
use crate::kube::import::raw;
use crate::kube::import::shape::{NumberOrName, key};
use crate::kube::objects::{Port, Service, ServiceType};
use sim_core::classify::{Family, Proto};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Seconds of ClientIP affinity where none are given.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

const FAMILIES: [(&str, Family); 2] = [("IPv4", Family::Ipv4), ("IPv6", Family::Ipv6)];

impl Checker<'_> {
    pub(in super::super) fn service(&mut self, raw: &raw::Service<'_>) {
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
        let health = [Key("spec"), Key("healthCheckNodePort")];
        let health_check_node_port = self.port(spec.health_check_node_port, true, &health);
        let service = Service {
            namespace,
            name,
            kind,
            cluster_ips: self.cluster_ips(spec),
            ports,
            external_ips: self.external_ips(spec),
            load_balancer_vips: self.ingress(raw.status.as_ref()),
            source_ranges: self.networks(
                spec.load_balancer_source_ranges.as_ref(),
                &[Key("spec"), Key("loadBalancerSourceRanges")],
            ),
            affinity_seconds: self.affinity(spec),
            internal_local: internal,
            external_local: external,
            health_check_node_port,
            other_proxy: raw.metadata.label(key::SERVICE_PROXY_NAME).is_some(),
        };
        // What another Service has keeps this one out; a broken Service keeps nobody out.
        if self.errors.is_empty() {
            for (path, message) in self.gathered.claims.claim(&service) {
                self.error(&path, message);
            }
        }
        if self.errors.is_empty() && spec.selector.as_ref().is_some_and(|selector| selector.hash != 0) {
            self.gathered.mirror.selects(&service);
        }
        self.gathered.objects.services.push(service);
    }

    /// The cluster IPs of the declared families; none for a headless Service.
    fn cluster_ips(&mut self, spec: &raw::ServiceSpec<'_>) -> Vec<IpAddr> {
        let first = spec.cluster_ip.as_deref().unwrap_or_default();
        if first.is_empty() || first == "None" {
            return Vec::new();
        }
        let first_path = [Key("spec"), Key("clusterIP")];
        let mut families: Vec<Family> = Vec::new();
        let path = [Key("spec"), Key("ipFamilies")];
        for (i, family) in self.list(spec.ip_families.as_ref(), &path).iter().enumerate() {
            let family = self.word(Some(family), &[path[0], path[1], At(i)], &FAMILIES);
            families.push(family);
        }
        let path = [Key("spec"), Key("clusterIPs")];
        let given = self.list(spec.cluster_ips.as_ref(), &path);
        let mut ips: Vec<IpAddr> = Vec::new();
        if families.is_empty() || given.is_empty() {
            // Written before there were families: the only address decides.
            ips.extend(self.ip(first, &first_path));
            return ips;
        }
        for (i, ip) in given.iter().enumerate() {
            let path = [path[0], path[1], At(i)];
            let Some(ip) = self.ip(ip, &path) else { continue };
            if ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
                self.error(&path, format!("{ip} is the second address of its family"));
            } else if families.contains(&Family::of(ip)) {
                ips.push(ip);
            }
        }
        if self.ip(first, &first_path).is_some_and(|first| ips.first() != Some(&first)) {
            self.error(&first_path, format!("{} is not the first of spec.clusterIPs", quoted(first)));
        }
        ips
    }

    fn external_ips(&mut self, spec: &raw::ServiceSpec<'_>) -> Vec<IpAddr> {
        let path = [Key("spec"), Key("externalIPs")];
        let mut ips = Vec::new();
        for (i, ip) in self.list(spec.external_ips.as_ref(), &path).iter().enumerate() {
            ips.extend(self.routable(ip, &[path[0], path[1], At(i)]));
        }
        ips
    }

    /// Addresses of the load balancer that arrive as they are: ipMode Proxy rewrites them before, and where there is
    /// only a host name nothing is known.
    fn ingress(&mut self, status: Option<&raw::ServiceStatus<'_>>) -> Vec<IpAddr> {
        let path = [Key("status"), Key("loadBalancer"), Key("ingress")];
        let balancer = status.and_then(|status| status.load_balancer.as_ref());
        let mut vips = Vec::new();
        let ingress = self.list(balancer.and_then(|balancer| balancer.ingress.as_ref()), &path);
        for (i, ingress) in ingress.iter().enumerate() {
            let at = |key| [path[0], path[1], path[2], At(i), Key(key)];
            let mode = ingress.ip_mode.as_deref();
            let vip = self.word(mode, &at("ipMode"), &[("VIP", true), ("Proxy", false)]);
            let ip = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
            let ip = ip.and_then(|ip| self.ip(ip, &at("ip")));
            vips.extend(ip.filter(|_| vip));
        }
        vips
    }

    fn affinity(&mut self, spec: &raw::ServiceSpec<'_>) -> Option<u32> {
        let path = [Key("spec"), Key("sessionAffinity")];
        let words = [("None", false), ("ClientIP", true)];
        if !self.word(spec.session_affinity.as_deref(), &path, &words) {
            return None;
        }
        let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let Some(seconds) = client_ip.and_then(|client_ip| client_ip.timeout_seconds) else {
            return Some(DEFAULT_AFFINITY_SECONDS);
        };
        match u32::try_from(seconds.0) {
            Ok(seconds @ 1..=86_400) => Some(seconds),
            _ => {
                let path =
                    [Key("spec"), Key("sessionAffinityConfig"), Key("clientIP"), Key("timeoutSeconds")];
                self.error(&path, format!("{} is not in 1-86400", seconds.0));
                None
            }
        }
    }

    fn service_ports(&mut self, spec: &raw::ServiceSpec<'_>) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        let path = [Key("spec"), Key("ports")];
        let given = self.list(spec.ports.as_ref(), &path);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut numbers: BTreeSet<(Proto, u16)> = BTreeSet::new();
        for (i, port) in given.iter().enumerate() {
            let at = |key| [path[0], path[1], At(i), Key(key)];
            let name = port.name.as_deref().unwrap_or_default();
            if !name.is_empty() {
                self.dns_label(name, &at("name"));
            } else if given.len() > 1 {
                self.error(&at("name"), "is missing: a Service with several ports names each".to_owned());
            }
            if !names.insert(name) {
                self.error(&at("name"), format!("{} is the name of another port", quoted(name)));
            }
            if port.port.is_none() {
                self.error(&at("port"), "is missing".to_owned());
                continue;
            }
            self.target_port(port.target_port.as_ref(), &at("targetPort"));
            let proto = self.protocol(port.protocol.as_deref(), &at("protocol"));
            let number = self.port(port.port, false, &at("port"));
            if number != 0 && !numbers.insert((proto, number)) {
                self.error(&at("port"), format!("{number} is the number of another port of this protocol"));
            }
            ports.push(Port {
                name: self.name(name),
                proto,
                port: number,
                node_port: self.port(port.node_port, true, &at("nodePort")),
            });
        }
        ports
    }

    /// The controller that writes slices looks this up; a proxy reads the result. 0 and "" stand for the port itself.
    fn target_port(&mut self, target: Option<&NumberOrName<'_>>, path: &[Step<'static>]) {
        match target {
            Some(NumberOrName::Number(number)) if !(0..=65_535).contains(number) => {
                self.error(path, format!("{number} is not in 1-65535"));
            }
            Some(NumberOrName::Name(name)) if !name.is_empty() && !is_service_name(name) => {
                let rule = "lower-case letters, digits and single inner dashes, at least one letter, at most 15 characters";
                self.error(path, format!("{} is no port name: {rule}", quoted(name)));
            }
            _ => {}
        }
    }
}
