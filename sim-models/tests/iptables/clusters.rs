//! Random clusters: Services of every shape with endpoints in every condition, on a node of two.

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use sim_core::classify::{Family, Proto};
use sim_models::config::ProxyConfig;
use sim_models::kube::ProxyObjects;
use sim_models::kube::objects::{
    EndpointSlice, Hints, Node, Objects, Port, Service, ServiceType, SliceEndpoint, SlicePort,
};
use sim_models::kube::resolve::resolve;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The node that rules are for.
pub const NODE: &str = "node-a";

/// What is random about a Service.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For each port: its protocol and whether it has a node port.
    pub ports: Vec<(Proto, bool)>,
    /// Numbers of external IPs, load-balancer addresses and source ranges.
    pub outside: [usize; 3],
    pub affinity_seconds: Option<u32>,
    pub local: [bool; 2],
    pub endpoints: Vec<Pod>,
    /// Stands for annotations of the slice.
    pub revision: u64,
}

/// What is random about an endpoint.
#[derive(Clone, Debug)]
pub struct Pod {
    pub host: u8,
    pub ready: bool,
    pub draining: bool,
    pub is_local: bool,
    pub zone: Option<bool>,
}

/// Services by number, and the zone of the node.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub services: BTreeMap<u8, Shape>,
    pub zone: bool,
}

fn pod() -> impl Strategy<Value = Pod> {
    let ready = prop::bool::weighted(0.7);
    (0u8..12, ready, any::<bool>(), any::<bool>(), weighted(0.5, any::<bool>()))
        .prop_map(|(host, ready, draining, is_local, zone)| Pod { host, ready, draining, is_local, zone })
}

pub fn shape() -> impl Strategy<Value = Shape> {
    let proto = prop::sample::select(vec![Proto::Tcp, Proto::Udp, Proto::Sctp]);
    let ports = vec((proto, any::<bool>()), 1..3);
    let outside = [0usize..2, 0usize..3, 0usize..3];
    (ports, outside, weighted(0.2, 1u32..20_000), any::<[bool; 2]>(), vec(pod(), 0..5), 0u64..3).prop_map(
        |(ports, outside, affinity_seconds, local, endpoints, revision)| Shape {
            ports,
            outside,
            affinity_seconds,
            local,
            endpoints,
            revision,
        },
    )
}

pub fn state() -> impl Strategy<Value = State> {
    (btree_map(0u8..8, shape(), 0..6), any::<bool>()).prop_map(|(services, zone)| State { services, zone })
}

/// States one after another, each a few Services away from the one before; now and then the zone changes.
pub fn states() -> impl Strategy<Value = Vec<State>> {
    let change = (0u8..8, weighted(0.7, shape()), prop::bool::weighted(0.1));
    (state(), vec(vec(change, 0..3), 1..6)).prop_map(|(first, steps)| {
        let mut states = vec![first];
        for step in steps {
            let mut next = states.last().unwrap().clone();
            for (number, shape, moves) in step {
                match shape {
                    Some(shape) => next.services.insert(number, shape),
                    None => next.services.remove(&number),
                };
                next.zone ^= moves;
            }
            states.push(next);
        }
        states
    })
}

/// Settings that shape rules.
pub fn config() -> impl Strategy<Value = ProxyConfig> {
    (any::<[bool; 4]>(), 0u8..32).prop_map(|([all, localhost, detects, liberal], masquerade_bit)| {
        let cidrs = ["10.244.0.0/16", "fd00:244::/48"].map(|cidr| cidr.parse().unwrap());
        let mut config = ProxyConfig {
            masquerade_all: all,
            localhost_node_ports: localhost,
            masquerade_bit,
            cluster_cidrs: if detects { cidrs.to_vec() } else { Vec::new() },
            ..ProxyConfig::default()
        };
        config.conntrack.tcp_be_liberal = liberal;
        config
    })
}

fn both(v4: String, v6: String) -> Vec<IpAddr> {
    vec![v4.parse().unwrap(), v6.parse().unwrap()]
}

impl State {
    /// The objects of both families.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects {
            nodes: vec![Node {
                name: NODE.into(),
                zone: Some(zone(self.zone).into()),
                addresses: both("192.168.0.2".to_owned(), "fd00:10::2".to_owned()),
                pod_cidrs: Vec::new(),
            }],
            ..Objects::default()
        };
        for (&number, shape) in &self.services {
            objects.services.push(shape.service(number));
            for family in [Family::Ipv4, Family::Ipv6] {
                objects.slices.push(shape.slice(number, family));
            }
        }
        objects
    }

    /// What the proxy of one family sees.
    pub fn resolve(&self, family: Family) -> ProxyObjects {
        resolve(&self.objects(), family, NODE)
    }
}

fn zone(which: bool) -> &'static str {
    if which { "zone-a" } else { "zone-b" }
}

impl Shape {
    fn port_name(&self, i: usize) -> String {
        if self.ports.len() == 1 { String::new() } else { format!("p{i}") }
    }

    fn service(&self, n: u8) -> Service {
        let [external, vips, ranges] = self.outside;
        let addresses = |count: usize, v4: &str, v6: &str| -> Vec<IpAddr> {
            (0..count).flat_map(|i| both(format!("{v4}.{n}.{i}"), format!("{v6}:{n}::{i}"))).collect()
        };
        // One range that holds the node, and one that is a single address.
        let nets = ["192.168.0.0/16", "203.0.113.7/32", "fd00:10::/64", "2001:db8:9::7/128"];
        let nets = nets.map(|net| net.parse::<IpNet>().unwrap());
        let source_ranges = [&nets[..ranges], &nets[2..2 + ranges]].concat();
        let ports = self.ports.iter().zip(0u16..).map(|(&(proto, has_node_port), i)| Port {
            name: self.port_name(usize::from(i)).into(),
            proto,
            port: 80 + i,
            node_port: if has_node_port { 30_000 + u16::from(n) * 10 + i } else { 0 },
        });
        let cluster_ips = both(format!("10.96.0.{}", n + 1), format!("fd00:96::{}", n + 1));
        let service = Service::cluster_ip(
            "default".into(),
            format!("svc{n}").into(),
            cluster_ips[0],
            Port { name: "".into(), proto: Proto::Tcp, port: 1, node_port: 0 },
        );
        Service {
            kind: ServiceType::LoadBalancer,
            cluster_ips,
            ports: ports.collect(),
            external_ips: addresses(external, "198.51", "2001:db8:1"),
            load_balancer_vips: addresses(vips, "203.0", "2001:db8:2"),
            source_ranges,
            affinity_seconds: self.affinity_seconds,
            internal_local: self.local[0],
            external_local: self.local[1],
            health_check_node_port: if self.local[1] { 32_000 + u16::from(n) } else { 0 },
            ..service
        }
    }

    fn slice(&self, n: u8, family: Family) -> EndpointSlice {
        let endpoints = self.endpoints.iter().map(|pod| SliceEndpoint {
            address: both(format!("10.244.{n}.{}", pod.host), format!("fd00:244:0:{n}::{}", pod.host))
                [usize::from(family == Family::Ipv6)],
            ready: pod.ready,
            serving: pod.ready || pod.draining,
            terminating: !pod.ready && pod.draining,
            node: Some(if pod.is_local { NODE } else { "node-b" }.into()),
            hints: pod
                .zone
                .map(|which| Box::new(Hints { zones: vec![zone(which).into()], nodes: Vec::new() })),
        });
        let ports = self.ports.iter().zip(0u16..).map(|(&(proto, _), i)| SlicePort {
            name: self.port_name(usize::from(i)).into(),
            proto,
            port: 8080 + i,
        });
        EndpointSlice {
            namespace: "default".into(),
            name: format!("svc{n}-aaaaa").into(),
            service: Some(format!("svc{n}").into()),
            family,
            endpoints: endpoints.collect(),
            ports: ports.collect(),
            revision: self.revision,
        }
    }
}
