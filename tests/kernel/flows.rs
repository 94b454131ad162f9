//! What is sent: every way to every address that a Service answers on, and ways to addresses that none does.
//!
//! A flow is one first packet. Flows of one client to one service port with affinity belong together, since the later
//! ones go where the first went; every other flow stands alone.

use crate::clusters::in_family;
use crate::place::EXTRA;
use sim_core::classify::{Family, Packet, Proto, TcpFlags};
use sim_models::kernel::path::Origin;
use sim_models::kube::{ProxyObjects, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// First packets that share what a node remembers.
#[derive(Clone, Debug)]
pub struct Episode {
    pub origin: Origin,
    pub packets: Vec<Packet>,
    /// Whether each packet has its choice anew: only then do its choices tell of probabilities.
    pub alone: bool,
}

/// Addresses that packets come from.
struct Clients {
    /// Where from, and the address.
    all: Vec<(Origin, IpAddr)>,
}

impl Clients {
    fn new(objects: &ProxyObjects, family: Family) -> Self {
        let node = objects.node_ips[0];
        let dual = node.is_ipv6() && node.to_string().starts_with("fd00:10:");
        let pod = |addr: &str, dual_addr: &str| {
            if dual { dual_addr.parse().expect("an address") } else { in_family(family, addr) }
        };
        let all = vec![
            (Origin::Pod, pod("10.244.0.250", "fd00:244::fa")),
            (Origin::Pod, pod("10.244.0.251", "fd00:244::fb")),
            // A pod of another node, and clients outside the cluster: on the node's own network, and far away.
            (Origin::Wire, pod("10.244.9.9", "fd00:244:9::9")),
            (Origin::Wire, in_family(family, "192.168.0.77")),
            (Origin::Wire, in_family(family, "198.51.100.7")),
            (Origin::Wire, in_family(family, "192.0.2.200")),
            (Origin::Host, node),
        ];
        Clients { all }
    }
}

/// Makes packets that are each a flow of their own.
struct Maker {
    port: u16,
}

impl Maker {
    fn packet(&mut self, src: IpAddr, dst: SocketAddr, proto: Proto) -> Packet {
        self.port = if self.port >= 60_000 { 20_000 } else { self.port + 1 };
        let flags = if proto == Proto::Tcp { TcpFlags::SYN } else { TcpFlags::default() };
        Packet { proto, flags, ..Packet::tcp_syn(src, self.port, dst.ip(), dst.port()) }
    }
}

/// Everything that is sent in a cluster, for one family.
pub fn episodes(objects: &ProxyObjects, family: Family) -> Vec<Episode> {
    let clients = Clients::new(objects, family);
    let extra: IpAddr = EXTRA[usize::from(family == Family::Ipv6)].parse().expect("an address");
    let loopback: IpAddr =
        if family == Family::Ipv4 { [127, 0, 0, 1].into() } else { "::1".parse().expect("one") };
    let mut maker = Maker { port: 20_000 };
    let mut alone = Vec::new();
    // By affinity: (port, client).
    let mut together = BTreeMap::<(usize, Origin3, IpAddr), Vec<Packet>>::new();
    let many = objects.ports.len() > 30;
    let mut drawn = BTreeSet::new();
    let frontends_of = |port: &ServicePort| {
        let mut frontends = vec![SocketAddr::new(port.cluster_ip, port.port)];
        let outside = port.external_ips.iter().chain(&port.load_balancer_vips);
        frontends.extend(outside.map(|&ip| SocketAddr::new(ip, port.port)));
        if port.node_port != 0 {
            let ips = objects.node_ips.iter().chain([&extra]);
            frontends.extend(ips.map(|&ip| SocketAddr::new(ip, port.node_port)));
        }
        frontends
    };
    let every: BTreeSet<_> = objects.ports.iter().flat_map(frontends_of).collect();
    for (at, port) in objects.ports.iter().enumerate() {
        let frontends = frontends_of(port);
        let endpoints = &port.endpoints.reachable;
        let choices = endpoints.len();
        // Of many Services each gets half of the ways.
        for (n, &(origin, src)) in clients.all.iter().enumerate() {
            for (_, &to) in frontends.iter().enumerate().filter(|(m, _)| !many || (n + m + at) % 2 == 0) {
                let times = if many || choices < 2 { 1 } else { 4 };
                for _ in 0..times {
                    let packet = maker.packet(src, to, port.proto);
                    if port.affinity_seconds.is_some() {
                        let key = (at, Origin3::from(origin), src);
                        together.entry(key).or_default().extend([packet, maker.packet(src, to, port.proto)]);
                    } else {
                        alone.push((origin, packet));
                    }
                }
            }
        }
        // The node to itself.
        if port.node_port != 0 && port.affinity_seconds.is_none() {
            let to = SocketAddr::new(loopback, port.node_port);
            alone.push((Origin::Host, maker.packet(loopback, to, port.proto)));
        }
        // Each endpoint on this node to the Services that it stands behind: sometimes to itself.
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.is_local) {
            for &to in &frontends {
                let src = endpoint.addr.ip();
                let packets = [(); 2].map(|()| maker.packet(src, to, port.proto));
                match port.affinity_seconds {
                    Some(_) => together.entry((at, Origin3::Pod, src)).or_default().extend(packets),
                    None => alone.extend(packets.map(|packet| (Origin::Pod, packet))),
                }
            }
        }
        // What misses: a neighbouring port, another protocol, an endpoint itself.
        let others = [Proto::Tcp, Proto::Udp, Proto::Sctp].into_iter().filter(|proto| *proto != port.proto);
        for (n, &(origin, src)) in clients.all.iter().enumerate().filter(|(n, _)| !many || n % 3 == at % 3) {
            let direct = endpoints.get(n % choices.max(1)).map(|endpoint| (endpoint.addr, port.proto));
            let wrong = frontends.iter().map(|to| SocketAddr::new(to.ip(), to.port() ^ 1));
            let wrong = wrong.filter(|to| !every.contains(to)).map(|to| (to, port.proto));
            let other = others.clone().map(|proto| (frontends[n % frontends.len()], proto));
            for (to, proto) in wrong.chain(other).chain(direct) {
                alone.push((origin, maker.packet(src, to, proto)));
            }
        }
        // One of each size often enough to tell its probabilities.
        if choices > 1 && port.affinity_seconds.is_none() && drawn.insert((choices, port.internal_local)) {
            let src = clients.all[0].1;
            alone.extend((0..150).map(|_| (Origin::Pod, maker.packet(src, frontends[0], port.proto))));
        }
    }
    for &(origin, src) in &clients.all {
        for (to, port) in [
            // Nobody's, in the Services' range and beside it, and the node itself.
            (in_family(family, "10.96.255.250"), 80),
            (in_family(family, "198.18.0.1"), 80),
            (objects.node_ips[0], 32_767),
            (objects.node_ips[0], 22),
            (extra, 32_767),
        ] {
            for proto in [Proto::Tcp, Proto::Udp, Proto::Sctp] {
                alone.push((origin, maker.packet(src, SocketAddr::new(to, port), proto)));
            }
        }
    }
    let alone =
        alone.into_iter().map(|(origin, packet)| Episode { origin, packets: vec![packet], alone: true });
    let together = together.into_iter().map(|((_, origin, _), packets)| Episode {
        origin: origin.into(),
        packets,
        alone: false,
    });
    alone.chain(together).collect()
}

/// [`Origin`] with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin3 {
    Pod,
    Wire,
    Host,
}

impl From<Origin> for Origin3 {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Pod => Origin3::Pod,
            Origin::Wire => Origin3::Wire,
            Origin::Host => Origin3::Host,
        }
    }
}

impl From<Origin3> for Origin {
    fn from(origin: Origin3) -> Self {
        match origin {
            Origin3::Pod => Origin::Pod,
            Origin3::Wire => Origin::Wire,
            Origin3::Host => Origin::Host,
        }
    }
}
