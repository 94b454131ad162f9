//! Random clusters and random changes of them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sim_core::classify::Proto;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use std::net::{IpAddr, SocketAddr};

/// Address of the node.
pub const NODE: &str = "192.168.0.2";

/// What varies of a Service.
#[derive(Clone, Debug)]
pub struct Spec {
    ports: usize,
    udp: bool,
    node_port: bool,
    external_ips: usize,
    vips: usize,
    /// Which of some networks are source ranges, as bits.
    ranges: u8,
    affinity: Option<u32>,
    internal_local: bool,
    external_local: bool,
    /// Which of some endpoints it has, as bits; the first two are on the node.
    endpoints: u8,
}

/// Services by place; a place keeps its name and addresses while the Service there comes, changes and goes.
pub type Cluster = Vec<Option<Spec>>;

fn spec() -> impl Strategy<Value = Spec> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let affinity = option::weighted(0.3, prop_oneof![Just(60u32), Just(10_800)]);
    (1..3usize, flags, 0..3usize, 0..3usize, 0..32u8, affinity, 0..32u8).prop_map(
        |(
            ports,
            (udp, node_port, internal_local, external_local),
            external_ips,
            vips,
            ranges,
            affinity,
            bits,
        )| {
            Spec {
                ports,
                udp,
                node_port,
                external_ips,
                vips,
                ranges,
                affinity,
                internal_local,
                external_local,
                endpoints: bits,
            }
        },
    )
}

/// A cluster.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    vec(option::weighted(0.7, spec()), 5)
}

/// A change of one place, or of none.
pub fn changes() -> impl Strategy<Value = Vec<(usize, Option<Spec>)>> {
    vec((0..6usize, option::weighted(0.7, spec())), 1..8)
}

/// The cluster after a change.
pub fn changed(cluster: &Cluster, (place, spec): &(usize, Option<Spec>)) -> Cluster {
    let mut cluster = cluster.clone();
    if let Some(at) = cluster.get_mut(*place) {
        at.clone_from(spec);
    }
    cluster
}

fn ip(text: String) -> IpAddr {
    text.parse().unwrap()
}

/// The ports of the Service at a place.
pub fn ports(place: usize, spec: &Spec) -> Vec<ServicePort> {
    // Some touch, some lie in others, and one has the node in it.
    let ranges =
        ["198.51.100.0/24", "192.168.0.0/16", "203.0.113.6/32", "203.0.113.7/32", "198.51.100.128/25"];
    let port = |n: usize| {
        let (name, port) = [("http", 80u16), ("dns", 53)][n];
        let cluster_ip = ip(format!("10.96.0.{}", place + 1));
        let mut out = ServicePort {
            port_name: name.into(),
            proto: if n == 1 && spec.udp { Proto::Udp } else { Proto::Tcp },
            port,
            external_ips: (0..spec.external_ips).map(|i| ip(format!("198.18.{place}.{i}"))).collect(),
            load_balancer_vips: (0..spec.vips).map(|i| ip(format!("198.19.{place}.{i}"))).collect(),
            source_ranges: ranges
                .iter()
                .enumerate()
                .filter(|(i, _)| spec.ranges >> i & 1 == 1)
                .map(|(_, range)| range.parse().unwrap())
                .collect(),
            node_port: if spec.node_port { u16::try_from(30_000 + 10 * place + n).unwrap() } else { 0 },
            affinity_seconds: spec.affinity,
            internal_local: spec.internal_local,
            ..ServicePort::http("ns", &format!("svc{place}"), cluster_ip, EndpointLists::default())
        };
        out.external_local = spec.external_local && out.externally_accessible();
        out.endpoints = lists(&out, place, spec.endpoints);
        out
    };
    (0..spec.ports).map(port).collect()
}

/// The endpoints of a port in the lists that rules are made from.
fn lists(port: &ServicePort, place: usize, bits: u8) -> EndpointLists {
    let all: Vec<Endpoint> = (0..5u8)
        .filter(|i| bits >> i & 1 == 1)
        .map(|i| {
            let is_local = i < 2;
            let addr = ip(format!("10.244.{}.{}", u8::from(!is_local), 10 * place + usize::from(i)));
            Endpoint { addr: SocketAddr::new(addr, port.port + 8000), is_local }
        })
        .collect();
    let local: Vec<Endpoint> = all.iter().filter(|e| e.is_local).cloned().collect();
    let (cluster, locals) = (port.uses_cluster_endpoints(), port.uses_local_endpoints());
    EndpointLists {
        has_any: !all.is_empty(),
        total: u32::try_from(all.len()).unwrap(),
        reachable: if cluster { all.clone() } else { local.clone() },
        cluster: if cluster { all } else { Vec::new() },
        local: if locals { local } else { Vec::new() },
    }
}

/// What a proxy sees of a cluster.
pub fn objects(cluster: &Cluster) -> ProxyObjects {
    let services = cluster.iter().enumerate().filter_map(|(place, spec)| Some((place, spec.as_ref()?)));
    ProxyObjects {
        ports: services.flat_map(|(place, spec)| ports(place, spec)).collect(),
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        node_ips: vec![NODE.parse().unwrap()],
        ..ProxyObjects::default()
    }
}
