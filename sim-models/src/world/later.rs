//! Names and addresses of what comes while a run goes on: Services and nodes that nobody has written down.

use crate::control::log::ServiceId;
use crate::control::services::ServiceEntry;
use crate::kube::generate::{POD_PORT, SERVICE_PORT};
use crate::kube::objects::Node;
use crate::kube::{EndpointLists, ServicePort};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Services that are created: one TCP port each, an address from the top of the Services' network, where an allocator that
/// begins at the bottom has not been.
pub(super) struct LaterServices {
    network: IpNet,
    taken: BTreeSet<IpAddr>,
    next: u128,
}

impl LaterServices {
    /// Of a network of which some addresses are taken.
    pub(super) fn new(network: IpNet, taken: impl Iterator<Item = IpAddr>) -> Self {
        LaterServices { network, taken: taken.collect(), next: 1 }
    }

    /// The next one.
    ///
    /// # Panics
    /// If the network is full.
    pub(super) fn make(&mut self, id: ServiceId) -> ServiceEntry {
        let ip = loop {
            let ip = below(self.network.broadcast(), self.next);
            assert!(
                self.network.contains(&ip),
                "no address in {} is left for Service {}",
                self.network,
                id.0
            );
            self.next += 1;
            if self.taken.insert(ip) {
                break ip;
            }
        };
        let name = format!("added-{}", id.0);
        let port = ServicePort::http("default", &name, ip, EndpointLists::default());
        ServiceEntry { ports: vec![ServicePort { port: SERVICE_PORT, ..port }], targets: vec![POD_PORT] }
    }
}

fn below(address: IpAddr, steps: u128) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4).wrapping_sub(steps as u32))),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6).wrapping_sub(steps)).into()),
    }
}

/// Nodes that join: `node-N`, with addresses behind that of the last node of the beginning.
pub(super) struct LaterNodes {
    last: IpAddr,
    known: u32,
}

impl LaterNodes {
    /// Nodes behind these.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let primary = nodes.iter().filter_map(|n| n.addresses.iter().find(|ip| ip.is_ipv4()));
        let last = primary.copied().max().unwrap_or(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 9)));
        LaterNodes { last, known: nodes.len() as u32 }
    }

    /// Node `index`.
    pub(super) fn make(&self, index: u32) -> Node {
        let steps = u128::from(index - self.known + 1);
        let address = below(self.last, steps.wrapping_neg());
        Node {
            name: format!("node-{index}").into(),
            zone: None,
            addresses: vec![address],
            pod_cidrs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_services_get_addresses_that_nobody_has() {
        let taken = ["10.96.255.254", "10.96.255.252"].map(|ip| ip.parse().unwrap());
        let mut later = LaterServices::new("10.96.0.0/16".parse().unwrap(), taken.into_iter());
        let ips: Vec<String> =
            (7..10).map(|id| later.make(ServiceId(id)).ports[0].cluster_ip.to_string()).collect();
        assert_eq!(ips, ["10.96.255.253", "10.96.255.251", "10.96.255.250"]);
    }

    #[test]
    fn new_nodes_follow_the_last_one() {
        let node = |address: &str| Node {
            name: "n".into(),
            zone: None,
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: Vec::new(),
        };
        let later = LaterNodes::new(&[node("192.168.0.10"), node("192.168.0.255")]);
        let made = later.make(3);
        assert_eq!((&*made.name, made.addresses[0].to_string()), ("node-3", "192.168.1.1".to_owned()));
    }
}
