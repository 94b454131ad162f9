//! Services resolved to service ports and endpoints, for one family and one node.
//!
//! Source: `pkg/proxy/serviceport.go:newBaseServiceInfo`, `pkg/proxy/endpointslicecache.go:addEndpoints`,
//! `pkg/proxy/topology.go:CategorizeEndpoints` of Kubernetes 1.36, with its feature gates on
//! ([`gates`](super::gates) stands for those that are off).
//!
//! Two departures, both because kube-proxy's own answer is random: Services keep the order of the objects
//! (kube-proxy walks a Go map), and of two non-terminating copies of one endpoint in different slices the later
//! one counts (kube-proxy keeps either).

use super::objects::{EndpointSlice, Objects, Port, Service, ServiceType, SliceEndpoint};
use super::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use ipnet::IpNet;
use sim_core::classify::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// What the proxy on node `node` sees of the Services of one family. A node that is not among the objects has no
/// addresses, no zone and no local endpoints.
pub fn resolve(objects: &Objects, family: Family, node: &str) -> ProxyObjects {
    let here = objects.node(node);
    let place = Place { node, zone: here.and_then(|n| n.zone.as_deref()) };
    let mut slices: BTreeMap<(&str, &str), (u64, Vec<&EndpointSlice>)> = BTreeMap::new();
    let mut slices_revision = 0u64;
    for slice in objects.slices.iter().filter(|slice| slice.family == family) {
        if let Some(service) = &slice.service {
            let (revision, of_service) = slices.entry((&slice.namespace, service)).or_default();
            *revision = revision.wrapping_add(slice.revision);
            of_service.push(slice);
            slices_revision = slices_revision.wrapping_add(slice.revision).wrapping_add(1);
        }
    }
    let mut ports = Vec::with_capacity(objects.services.len());
    for service in &objects.services {
        let Some(cluster_ip) = cluster_ip(service, family) else { continue };
        let (revision, slices) = match slices.get(&(&*service.namespace, &*service.name)) {
            Some((revision, slices)) => (*revision, &slices[..]),
            None => (0, &[][..]),
        };
        for port in &service.ports {
            let mut resolved = service_port(service, port, cluster_ip, family);
            resolved.revision = revision;
            resolved.endpoints = categorize(&resolved, &endpoints_of(slices, port), place);
            ports.push(resolved);
        }
    }
    ProxyObjects {
        ports,
        service_cidrs: objects
            .service_cidrs
            .iter()
            .copied()
            .filter(|cidr| is_of(cidr.addr(), family))
            .collect(),
        node_ips: here.map_or_else(Vec::new, |n| of_family(&n.addresses, family)),
        zone: here.and_then(|n| n.zone.clone()),
        slices_revision,
        node_pod_cidrs: here.map_or_else(Vec::new, |n| {
            n.pod_cidrs.iter().copied().filter(|cidr| is_of(cidr.addr(), family)).collect()
        }),
    }
}

fn is_of(addr: IpAddr, family: Family) -> bool {
    Family::of(addr) == family
}

fn of_family(addrs: &[IpAddr], family: Family) -> Vec<IpAddr> {
    addrs.iter().copied().filter(|&addr| is_of(addr, family)).collect()
}

/// The Service's address of this family, if a proxy has anything to do for it.
fn cluster_ip(service: &Service, family: Family) -> Option<IpAddr> {
    if service.kind == ServiceType::ExternalName || service.other_proxy {
        return None;
    }
    service.cluster_ips.iter().copied().find(|&ip| is_of(ip, family))
}

/// The ports of a Service, without endpoints; none if no proxy of this family has anything to do for it.
pub fn ports_of(service: &Service, family: Family) -> Vec<ServicePort> {
    let Some(cluster_ip) = cluster_ip(service, family) else { return Vec::new() };
    service.ports.iter().map(|port| service_port(service, port, cluster_ip, family)).collect()
}

/// The lists of one port from its endpoints, each address and port once, as seen from a node.
pub fn lists_of<'a>(
    port: &ServicePort,
    endpoints: impl Iterator<Item = (SocketAddr, &'a SliceEndpoint)>,
    node: &str,
    zone: Option<&str>,
) -> EndpointLists {
    let mut seen: Vec<Seen<'a>> = endpoints.map(|(addr, endpoint)| Seen { addr, endpoint }).collect();
    seen.sort_by_key(|seen| AddrText::of(seen.addr));
    categorize(port, &seen, Place { node, zone })
}

/// Everything but the endpoints.
fn service_port(service: &Service, port: &Port, cluster_ip: IpAddr, family: Family) -> ServicePort {
    // Without host bits, as Go parses them.
    let ranges = service.source_ranges.iter().filter(|range| is_of(range.addr(), family));
    let mut source_ranges: Vec<IpNet> = ranges.map(IpNet::trunc).collect();
    if source_ranges.iter().any(|range| range.prefix_len() == 0) {
        source_ranges.clear();
    }
    let externally_visible = matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer)
        || !service.external_ips.is_empty();
    let external_local = service.external_local && externally_visible;
    let health_check = service.kind == ServiceType::LoadBalancer && external_local;
    ServicePort {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        port_name: port.name.clone(),
        proto: port.proto,
        cluster_ip,
        port: port.port,
        node_port: port.node_port,
        external_ips: of_family(&service.external_ips, family),
        load_balancer_vips: of_family(&service.load_balancer_vips, family),
        source_ranges,
        affinity_seconds: service.affinity_seconds,
        internal_local: service.internal_local,
        external_local,
        health_check_node_port: if health_check { service.health_check_node_port } else { 0 },
        endpoints: EndpointLists::default(),
        revision: 0,
    }
}

/// Where the proxy runs.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a str,
    zone: Option<&'a str>,
}

/// One endpoint as seen from a place.
struct Seen<'a> {
    addr: SocketAddr,
    endpoint: &'a SliceEndpoint,
}

/// The endpoints that slices give to a Service port, one per address and port, sorted by the text "IP:port".
/// The target port is the slice's: what the Service says is for the controller that writes slices.
fn endpoints_of<'a>(slices: &[&'a EndpointSlice], port: &Port) -> Vec<Seen<'a>> {
    let mut seen: Vec<(AddrText, Seen<'a>)> = Vec::new();
    for slice in slices {
        for slice_port in slice.ports.iter().filter(|p| p.name == port.name && p.proto == port.proto) {
            for endpoint in slice.endpoints.iter().filter(|e| is_of(e.address, slice.family)) {
                let addr = SocketAddr::new(endpoint.address, slice_port.port);
                seen.push((AddrText::of(addr), Seen { addr, endpoint }));
            }
        }
    }
    // Stable, so that copies of one endpoint stay in the order of the slices.
    seen.sort_by_key(|(text, _)| *text);
    let mut out: Vec<Seen<'a>> = Vec::with_capacity(seen.len());
    for (_, next) in seen {
        match out.last_mut() {
            Some(last) if last.addr == next.addr => {
                // A terminating copy never replaces another, any other does.
                if !next.endpoint.terminating {
                    *last = next;
                }
            }
            _ => out.push(next),
        }
    }
    out
}

/// An address and port as text, in place: there are hundreds of thousands to sort. Filled up with NULs, which sort
/// before every character, so that the order is that of the texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AddrText([u8; AddrText::LONGEST]);

impl AddrText {
    /// "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535" is not reached: only mapped addresses have dots.
    const LONGEST: usize = 56;

    fn of(addr: SocketAddr) -> Self {
        let mut text = [0; Self::LONGEST];
        let mut free = &mut text[..];
        write!(free, "{addr}").expect("no address is longer");
        AddrText(text)
    }
}

/// What the hints of all ready endpoints amount to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Everywhere,
    SameZone,
    SameNode,
}

/// Hints count only if every ready endpoint has one and one of them is for this place.
fn topology(endpoints: &[Seen<'_>], place: Place<'_>) -> Topology {
    let (mut all_node, mut any_node, mut all_zone, mut any_zone) = (true, false, true, false);
    for seen in endpoints.iter().filter(|seen| seen.endpoint.ready) {
        let hints = seen.endpoint.hints.as_deref();
        all_node &= hints.is_some_and(|h| !h.nodes.is_empty());
        all_zone &= hints.is_some_and(|h| !h.zones.is_empty());
        any_node |= hinted(seen.endpoint, Topology::SameNode, place);
        any_zone |= hinted(seen.endpoint, Topology::SameZone, place);
    }
    match (all_node && any_node, all_zone && any_zone) {
        (true, _) => Topology::SameNode,
        (false, true) => Topology::SameZone,
        (false, false) => Topology::Everywhere,
    }
}

/// Whether an endpoint may be used from `place` under this topology.
fn hinted(endpoint: &SliceEndpoint, topology: Topology, place: Place<'_>) -> bool {
    let hints = endpoint.hints.as_deref();
    match topology {
        Topology::Everywhere => true,
        Topology::SameNode => hints.is_some_and(|h| h.nodes.iter().any(|node| &**node == place.node)),
        Topology::SameZone => hints.is_some_and(|h| h.zones.iter().any(|zone| Some(&**zone) == place.zone)),
    }
}

/// Sorts endpoints into the lists that rules are written from.
fn categorize(port: &ServicePort, endpoints: &[Seen<'_>], place: Place<'_>) -> EndpointLists {
    let mut lists = categorize_used(port, endpoints, place);
    let all = [&lists.cluster, &lists.local, &lists.reachable].into_iter().flatten();
    let used: BTreeSet<SocketAddr> = all.filter(|ep| ep.is_local).map(|ep| ep.addr).collect();
    let here = endpoints.iter().filter(|seen| seen.endpoint.node.as_deref() == Some(place.node));
    let idle = here.map(|seen| seen.addr).filter(|addr| !used.contains(addr)).collect();
    lists.idle_local = idle;
    lists
}

/// The lists that rules send to.
fn categorize_used(port: &ServicePort, endpoints: &[Seen<'_>], place: Place<'_>) -> EndpointLists {
    let is_local = |seen: &Seen<'_>| seen.endpoint.node.as_deref() == Some(place.node);
    let ready = |seen: &Seen<'_>| seen.endpoint.ready;
    let draining = |seen: &Seen<'_>| seen.endpoint.serving && seen.endpoint.terminating;
    let list = |keep: &dyn Fn(&Seen<'_>) -> bool| -> Vec<Endpoint> {
        let kept = endpoints.iter().filter(|seen| keep(seen));
        kept.map(|seen| Endpoint { addr: seen.addr, is_local: is_local(seen) }).collect()
    };

    let total = u32::try_from(endpoints.len()).expect("fewer than 2^32 endpoints of one port");
    let mut lists = EndpointLists { total, ..EndpointLists::default() };
    let mut by_topology = false;
    if port.uses_cluster_endpoints() {
        let mode = topology(endpoints, place);
        by_topology = mode != Topology::Everywhere;
        lists.cluster = list(&|seen| ready(seen) && hinted(seen.endpoint, mode, place));
        if lists.cluster.is_empty() {
            lists.cluster = list(&draining);
        }
        lists.has_any = !lists.cluster.is_empty();
    }
    if !port.uses_local_endpoints() {
        lists.reachable = lists.cluster.clone();
        return lists;
    }
    lists.has_any |= endpoints.iter().any(|seen| ready(seen) || draining(seen));
    lists.local = list(&|seen| is_local(seen) && ready(seen));
    let mut local_drains = false;
    if lists.local.is_empty() {
        lists.local = list(&|seen| is_local(seen) && draining(seen));
        local_drains = !lists.local.is_empty();
    }
    lists.reachable = if !port.uses_cluster_endpoints() {
        lists.local.clone()
    } else if !by_topology && !local_drains {
        // Ready endpoints of this node are among those of the cluster.
        lists.cluster.clone()
    } else {
        let member = |seen: &Seen<'_>| {
            lists.cluster.iter().chain(&lists.local).any(|endpoint| endpoint.addr == seen.addr)
        };
        list(&member)
    };
    lists
}
