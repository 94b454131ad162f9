//! `[[services]]` as Kubernetes objects: each entry is one port of a Service with an EndpointSlice of its own, as for
//! a Service without selector whose endpoints are kept by hand (the API server's own, for example).
//!
//! Entries of the same namespace and name are ports of one Service. No nodes are made: endpoints are outside of them.

use crate::settings;
use sim_core::classify::{Family, Proto};
use sim_models::kube::objects::{EndpointSlice, Objects, Port, Service, SliceEndpoint, SlicePort};
use std::net::SocketAddr;
use std::sync::Arc;

/// The objects of checked entries, Services in the order in which they first appear.
pub fn objects(entries: &[settings::Service]) -> Objects {
    let mut objects = Objects::default();
    for (i, entry) in entries.iter().enumerate() {
        let namespace: Arc<str> = entry.namespace.value.as_str().into();
        let name: Arc<str> = entry.name.value.as_str().into();
        let port_name: Arc<str> = entry.port_name.value.as_str().into();
        let proto = proto(&entry.protocol.value);
        let number = u16::try_from(entry.port.value).expect("the key table allows ports only");
        let port = Port { name: port_name.clone(), proto, port: number, node_port: 0 };
        let same = |s: &&mut Service| s.namespace == namespace && s.name == name;
        match objects.services.iter_mut().find(same) {
            Some(service) => service.ports.push(port),
            None => objects.services.push(service(namespace.clone(), name.clone(), entry, port)),
        }
        // Addresses that share a port number share a slice.
        let mut by_port: Vec<(u16, Vec<SliceEndpoint>)> = Vec::new();
        for target in &entry.endpoints.value {
            match by_port.iter_mut().find(|(p, _)| *p == target.port()) {
                Some((_, list)) => list.push(endpoint(target)),
                None => by_port.push((target.port(), vec![endpoint(target)])),
            }
        }
        for (k, (number, endpoints)) in by_port.into_iter().enumerate() {
            objects.slices.push(EndpointSlice {
                namespace: namespace.clone(),
                name: format!("{name}-{i}-{k}").into(),
                service: Some(name.clone()),
                family: Family::of(entry.cluster_ip.value),
                endpoints,
                ports: vec![SlicePort { name: port_name.clone(), proto, port: number }],
                revision: 0,
            });
        }
    }
    objects
}

fn service(namespace: Arc<str>, name: Arc<str>, entry: &settings::Service, port: Port) -> Service {
    Service::cluster_ip(namespace, name, entry.cluster_ip.value, port)
}

fn endpoint(target: &SocketAddr) -> SliceEndpoint {
    SliceEndpoint {
        address: target.ip(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    }
}

fn proto(name: &str) -> Proto {
    match name {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        other => panic!("the key table allows protocol = {other}"),
    }
}
