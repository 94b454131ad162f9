//! Checks that need several keys: is the cluster possible, does it fit its networks, can the run be afforded.
//!
//! Everything here is arithmetic on settings: absurd input is refused before anything is allocated.

use crate::contradictions;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::endpoints;
use crate::keys::{CONNECTIONS_MAX, ENDPOINTS_MAX, NODES_MAX, SERVICES_MAX, grouped};
use crate::known::ModeHistory;
use crate::reader::{Context, contradiction};
use crate::scenario::KUBECTL;
use crate::settings::Settings;
use ipnet::IpNet;
use sim_models::config::{ClusterConfig, EndpointLaw};
use sim_models::kube::generate::{self, GenerateError};
use sim_models::kube::objects::Objects;
use std::collections::{BTreeMap, BTreeSet};

/// Services of a scenario that does not say how many.
pub const SERVICES_DEFAULT: u64 = 100;
/// Names that a message lists before it says how many more there are.
const LISTED: usize = 12;

/// Runs all checks on one sweep point.
pub fn check(cx: &mut Context<'_>, s: &Settings, import: Option<&Objects>) {
    one_source_of_services(cx, s);
    modes_of_the_version(cx, s);
    networks(cx, s);
    s.proxy.check(cx);
    cost(cx, s, nodes(s, import));
    written_services(cx, s);
    if let Some(objects) = import {
        imported(cx, s, objects);
    }
    targets(cx, s, import);
    contradictions::check(cx, s, import);
}

fn one_source_of_services(cx: &mut Context<'_>, s: &Settings) {
    let mut sources = Vec::new();
    sources.extend(s.cluster.services.as_ref().map(|v| (v.at, "cluster.services")));
    sources.extend(s.cluster.import.as_ref().map(|v| (v.at, "cluster.import")));
    sources.extend(s.services.first().map(|v| (v.at, "[[services]]")));
    if let [(_, first), (at, second), ..] = sources[..] {
        let key = second.trim_matches(['[', ']']);
        let d = Diagnostic::new(at, key, format!("{first} and {second} cannot stand together"));
        cx.out.push(d.help("allowed: one of cluster.services (generated), cluster.import, [[services]]"));
    }
}

fn modes_of_the_version(cx: &mut Context<'_>, s: &Settings) {
    let (kubernetes, modes) = (&s.proxy.kubernetes, &s.proxy.modes);
    if !kubernetes.ok || !modes.ok {
        return;
    }
    let known = cx.known;
    let later = |mode: &&ModeHistory| modes.value.contains(&mode.mode) && kubernetes.value < mode.first_minor;
    for mode in known.mode_history.iter().filter(later) {
        let message = format!("Kubernetes 1.{} has no {} mode", kubernetes.value, mode.mode);
        let d = if kubernetes.written { kubernetes.wrong(message) } else { modes.wrong(message) };
        cx.out.push(d.help(format!("{} mode: {}", mode.mode, mode.told)));
    }
}

/// Addresses that can be given out: all but the network's own and the broadcast address.
fn usable(net: &IpNet) -> u64 {
    let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u64.checked_shl(host_bits).unwrap_or(u64::MAX).saturating_sub(2)
}

fn networks(cx: &mut Context<'_>, s: &Settings) {
    let (service, cluster) = (&s.cluster.service_cidr, &s.cluster.cluster_cidr);
    if service.ok && cluster.ok {
        let overlap = service.value.contains(&cluster.value.network())
            || cluster.value.contains(&service.value.network());
        let (at, key) = if service.written {
            (service.at, "cluster.service_cidr")
        } else {
            (cluster.at, "cluster.cluster_cidr")
        };
        if overlap {
            let message =
                format!("service_cidr {} and cluster_cidr {} overlap", service.value, cluster.value);
            cx.out.push(
                Diagnostic::new(at, key, message).help("pods and Services need addresses of their own"),
            );
        } else if service.value.addr().is_ipv4() != cluster.value.addr().is_ipv4() {
            let message = format!(
                "service_cidr {} and cluster_cidr {} are of two families",
                service.value, cluster.value
            );
            cx.out.push(Diagnostic::new(at, key, message));
        }
    }
    if s.cluster.import.is_some() || !s.services.is_empty() {
        return;
    }
    let services = s.cluster.services.as_ref();
    let (law, nodes) = (&s.cluster.endpoints, s.cluster.nodes.value);
    if let Some(services) = services
        && law.ok
        && law.value == EndpointLaw::ClusterLoader2
    {
        let message = "ClusterLoader2's load test makes as many Services as nodes ask for";
        cx.out.push(contradiction(services.place(), law.place(), "3", message));
        return;
    }
    let count = endpoints::services(&law.value, services.map_or(SERVICES_DEFAULT, |v| v.value), nodes);
    if services.is_some_and(|v| !v.ok) {
        return;
    }
    let room = usable(&service.value);
    if service.ok && count > room {
        let at = if service.written { service.at } else { services.map_or(service.at, |v| v.at) };
        let message = format!(
            "service_cidr {} has {} usable addresses, too few for {} Services",
            service.value,
            grouped(room),
            grouped(count)
        );
        let fit = u32::from(service.value.max_prefix_len()) - (64 - (count + 1).leading_zeros());
        cx.out.push(
            Diagnostic::new(at, "cluster.service_cidr", message)
                .help(format!("allowed: a prefix of /{fit} or shorter")),
        );
    }
    if !law.ok {
        return;
    }
    let endpoints = endpoints::total(&law.value, count, nodes);
    let at = if law.written { law.at } else { services.map_or(law.at, |v| v.at) };
    if endpoints > ENDPOINTS_MAX {
        let message = format!(
            "{} Services have {} endpoints together, at most {} are simulated",
            grouped(count),
            grouped(endpoints),
            grouped(ENDPOINTS_MAX)
        );
        cx.out.push(
            Diagnostic::new(at, "cluster.endpoints", message).help(
                "reason: 5,000 nodes of 110 pods are 550,000; ten times that would not fit into memory",
            ),
        );
    } else if cluster.ok && endpoints > usable(&cluster.value) {
        let at = if cluster.written { cluster.at } else { at };
        let message = format!(
            "cluster_cidr {} has {} usable addresses, too few for {} endpoints",
            cluster.value,
            grouped(usable(&cluster.value)),
            grouped(endpoints)
        );
        cx.out.push(Diagnostic::new(at, "cluster.cluster_cidr", message));
    }
}

/// What the generator of clusters says of this one. The checks above say the same of most cases with a better place.
pub fn fits(cx: &mut Context<'_>, s: &Settings, cluster: &ClusterConfig) {
    if cluster.objects.is_some() {
        return;
    }
    let Err(error) = generate::fits(cluster) else { return };
    let networks = [
        (&s.cluster.cluster_cidr, "cluster.cluster_cidr"),
        (&s.cluster.service_cidr, "cluster.service_cidr"),
    ];
    let guilty = match error {
        GenerateError::ServiceCidrTooSmall { .. } => networks[1],
        _ => *networks.iter().find(|(spot, _)| spot.written).unwrap_or(&networks[0]),
    };
    cx.out.push(Diagnostic::new(guilty.0.at, guilty.1, error.to_string()));
}

fn cost(cx: &mut Context<'_>, s: &Settings, nodes: u64) {
    let seconds = s.duration.value.as_secs_f64() + s.warmup.value.as_secs_f64();
    if !s.duration.ok || !s.warmup.ok || !s.cluster.nodes.ok {
        return;
    }
    let nodes = nodes as f64;
    let mut total = 0.0;
    for traffic in s.traffic.iter().filter(|t| t.rate.ok) {
        let requests = if traffic.requests.ok { traffic.requests.value as f64 } else { 1.0 };
        total += traffic.rate.value * nodes * seconds * requests;
        if total > CONNECTIONS_MAX {
            let message = format!(
                "the run would make {total:.1e} requests, at most {CONNECTIONS_MAX:.0e} are simulated"
            );
            let sum = format!("rate x nodes x (duration + warmup) x requests, {nodes} nodes, {seconds} s");
            let d = traffic.rate.wrong(message);
            cx.out.push(
                d.help(format!("estimated as {sum}"))
                    .help("reason: that many take hours and change no figure's third digit"),
            );
            return;
        }
    }
}

fn written_services(cx: &mut Context<'_>, s: &Settings) {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeMap::new();
    let mut ips = BTreeMap::new();
    for service in s.services.iter().filter(|v| v.name.ok && v.namespace.ok && v.port_name.ok) {
        let name =
            (service.namespace.value.as_str(), service.name.value.as_str(), service.port_name.value.as_str());
        if !names.insert(name) {
            let message = format!("Service {}/{} has two ports named `{}`", name.0, name.1, name.2);
            cx.out.push(service.name.wrong(message).help(
                "a Service with several ports is written as several [[services]] with different port_name",
            ));
        }
        if !(service.cluster_ip.ok && service.port.ok && service.protocol.ok) {
            continue;
        }
        let ip = service.cluster_ip.value;
        if ips.insert((name.0, name.1), ip).is_some_and(|other| other != ip) {
            let message = format!("Service {}/{} has two cluster IPs", name.0, name.1);
            cx.out.push(service.cluster_ip.wrong(message));
        }
        let address = (service.cluster_ip.value, service.port.value, service.protocol.value.as_str());
        if let Some(other) = addresses.insert(address, name) {
            let message = format!(
                "{}:{}/{} already belongs to Service {}/{}",
                address.0, address.1, address.2, other.0, other.1
            );
            cx.out.push(service.cluster_ip.wrong(message));
        }
        let ipv4 = service.cluster_ip.value.is_ipv4();
        if service.endpoints.ok && service.endpoints.value.iter().any(|e| e.is_ipv4() != ipv4) {
            let message = format!("endpoints of another family than cluster_ip {}", service.cluster_ip.value);
            cx.out.push(service.endpoints.wrong(message));
        }
        if service.endpoints.ok && service.endpoints.value.iter().any(|e| e.port() == 0) {
            cx.out.push(service.endpoints.wrong("port 0 is no port"));
        }
    }
}

/// Limits of an imported cluster, whose numbers no key of the scenario says.
fn imported(cx: &mut Context<'_>, s: &Settings, objects: &Objects) {
    let Some(import) = &s.cluster.import else { return };
    let endpoints: u64 = objects.slices.iter().map(|slice| slice.endpoints.len() as u64).sum();
    if objects.services.is_empty() {
        let kinds: Vec<String> = objects.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let mut d = import.wrong("the imported cluster has no Services");
        if !kinds.is_empty() {
            d = d.help(format!("left out: {}", kinds.join(", ")));
        }
        cx.out.push(d.help(format!("allowed: {KUBECTL}")));
    }
    for (count, max, what) in [
        (objects.services.len() as u64, SERVICES_MAX, "Services"),
        (objects.nodes.len() as u64, NODES_MAX, "Nodes"),
        (endpoints, ENDPOINTS_MAX, "endpoints"),
    ] {
        if count > max {
            let count = grouped(count);
            cx.out.push(import.wrong(format!(
                "the imported cluster has {count} {what}, at most {} are simulated",
                grouped(max)
            )));
        }
    }
}

/// Nodes of the cluster: those of the import if it has any.
pub fn nodes(s: &Settings, objects: Option<&Objects>) -> u64 {
    match objects {
        Some(objects) if !objects.nodes.is_empty() => objects.nodes.len() as u64,
        _ => s.cluster.nodes.value,
    }
}

fn targets(cx: &mut Context<'_>, s: &Settings, objects: Option<&Objects>) {
    for traffic in s.traffic.iter().filter(|t| t.to.ok && t.to.value != "uniform") {
        let to = traffic.to.value.as_str();
        if !to.contains('/') {
            let d = traffic.to.wrong(format!("`{to}` is not a target"));
            cx.out.push(d.help("allowed: \"uniform\", or one Service as \"namespace/name\""));
            continue;
        }
        let names: Vec<String> = match objects {
            Some(objects) => objects.services.iter().map(|v| format!("{}/{}", v.namespace, v.name)).collect(),
            None => {
                let named = s.services.iter().filter(|v| v.name.ok && v.namespace.ok);
                named.map(|v| format!("{}/{}", v.namespace.value, v.name.value)).collect()
            }
        };
        // Generated Services get their names later: the world looks those up.
        if !names.is_empty() && !names.iter().any(|name| name == to) {
            let mut d = traffic.to.wrong(format!("there is no Service `{to}`"));
            if let Some(near) = did_you_mean(to, names.iter().map(String::as_str)) {
                d = d.label(format!("did you mean `{near}`?"));
            }
            let rest = names.len().saturating_sub(LISTED);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            cx.out
                .push(d.help(format!("allowed: uniform, {}{more}", names[..names.len() - rest].join(", "))));
        }
    }
}
