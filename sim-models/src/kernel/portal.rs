//! A proxy in user space: the ports it listens on, how it chooses endpoints, and the two connections that it copies
//! between.
//!
//! Source: kube-proxy 1.25's `pkg/proxy/userspace/proxysocket.go` (`ProxyTCP`, `getBackendConn`) and `roundrobin.go`
//! (`NextEndpoint`): each client connection that comes to a proxy port gets the next endpoint, or the one that its client
//! had before if the Service has affinity and that was used less than its time ago; kube-proxy then opens a connection
//! of its own to it, from the node.
//!
//! Departures: a client's SYN is taken to be answered when kube-proxy has one from the endpoint (in truth the kernel
//! answers it at once), and endpoints are taken in their order (kube-proxy shuffles them when they change). Left out:
//! dial timeouts and retries, and the end of a UDP flow after `udpIdleTimeout`: its place is used again when the client
//! comes back.

use super::conntrack::Tuple;
use sim_core::classify::Proto;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// First and last port that the node's own connections begin from.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// A port that the proxy listens on, for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub proto: Proto,
    /// `namespace/name:port` of the Service: what its state is kept by.
    pub service: Arc<str>,
    /// Endpoints in order.
    pub endpoints: Vec<SocketAddr>,
    /// Seconds of ClientIP affinity.
    pub affinity_seconds: Option<u32>,
}

/// The state of one service port's balancer.
#[derive(Clone, Debug, Default)]
struct Balancer {
    next: usize,
    clients: BTreeMap<IpAddr, (SocketAddr, SimTime)>,
}

type Key = (SocketAddr, SocketAddr, u8);

fn key(t: &Tuple) -> Key {
    (t.src, t.dst, t.proto.number())
}

/// The proxy's memory: balancers, and pairs of connections.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    balancers: BTreeMap<Arc<str>, Balancer>,
    /// By the client's connection as the proxy sees it: the proxy's own.
    to_endpoint: BTreeMap<Key, Tuple>,
    /// By an answer to the proxy's own connection: an answer to the client's.
    to_client: BTreeMap<Key, Tuple>,
    last_port: u16,
}

impl Pairs {
    /// The endpoint that a new connection of `client` gets.
    pub fn choose(&mut self, portal: &Portal, client: IpAddr, now: SimTime) -> Option<SocketAddr> {
        let balancer = self.balancers.entry(portal.service.clone()).or_default();
        if portal.endpoints.is_empty() {
            return None;
        }
        if let Some(seconds) = portal.affinity_seconds {
            let kept = balancer.clients.get_mut(&client).filter(|(endpoint, used)| {
                portal.endpoints.contains(endpoint) && now < *used + SimSpan::from_secs(u64::from(seconds))
            });
            if let Some((endpoint, used)) = kept {
                *used = now;
                return Some(*endpoint);
            }
        }
        let endpoint = portal.endpoints[balancer.next % portal.endpoints.len()];
        balancer.next = (balancer.next + 1) % portal.endpoints.len();
        if portal.affinity_seconds.is_some() {
            balancer.clients.insert(client, (endpoint, now));
        }
        Some(endpoint)
    }

    /// The proxy's connection for the client's connection `t`.
    pub fn towards_endpoint(&self, t: &Tuple) -> Option<Tuple> {
        self.to_endpoint.get(&key(t)).copied()
    }

    /// The answer to the client that `answer` from an endpoint becomes.
    pub fn towards_client(&self, answer: &Tuple) -> Option<Tuple> {
        self.to_client.get(&key(answer)).copied()
    }

    /// Opens a connection from `node` to `endpoint` for the client's `t`. None if every port is in use.
    pub fn open(&mut self, t: &Tuple, node: IpAddr, endpoint: SocketAddr) -> Option<Tuple> {
        if let Some(old) = self.to_endpoint.remove(&key(t)) {
            self.to_client.remove(&key(&old.reversed()));
        }
        let count = u32::from(EPHEMERAL.1 - EPHEMERAL.0) + 1;
        let first = u32::from(self.last_port.max(EPHEMERAL.0) - EPHEMERAL.0) + 1;
        let own = (0..count).find_map(|n| {
            let port = EPHEMERAL.0 + ((first + n) % count) as u16;
            let own = Tuple { src: SocketAddr::new(node, port), dst: endpoint, proto: t.proto };
            (!self.to_client.contains_key(&key(&own.reversed()))).then_some(own)
        })?;
        self.last_port = own.src.port();
        self.to_endpoint.insert(key(t), own);
        self.to_client.insert(key(&own.reversed()), t.reversed());
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(affinity_seconds: Option<u32>) -> Portal {
        let endpoints = (1..=3).map(|n| SocketAddr::from(([10, 244, 0, n], 80))).collect();
        Portal { port: 40_000, proto: Proto::Tcp, service: "ns/a:http".into(), endpoints, affinity_seconds }
    }

    fn last(endpoint: Option<SocketAddr>) -> u8 {
        match endpoint.expect("there are endpoints").ip() {
            IpAddr::V4(a) => a.octets()[3],
            IpAddr::V6(a) => panic!("{a}"),
        }
    }

    #[test]
    fn connections_take_turns_and_a_client_with_affinity_stays() {
        let (mut pairs, client) = (Pairs::default(), IpAddr::from([10, 0, 0, 1]));
        let other = IpAddr::from([10, 0, 0, 2]);
        let at = |s: u64| SimTime::ZERO + SimSpan::from_secs(s);
        let turns: Vec<u8> = (0..4).map(|_| last(pairs.choose(&portal(None), client, at(0)))).collect();
        assert_eq!(turns, [1, 2, 3, 1]);
        let (mut pairs, sticky) = (Pairs::default(), portal(Some(10)));
        let mut ask = |who, s| last(pairs.choose(&sticky, who, at(s)));
        assert_eq!([ask(client, 0), ask(other, 1), ask(client, 9), ask(client, 18)], [1, 2, 1, 1]);
        assert_eq!(ask(client, 28), 3, "ten seconds after its last connection");
        let none = Portal { endpoints: Vec::new(), ..portal(None) };
        assert_eq!(pairs.choose(&none, client, at(0)), None);
    }

    #[test]
    fn two_clients_have_two_connections_to_the_same_endpoint() {
        let mut pairs = Pairs::default();
        let (node, endpoint) = (IpAddr::from([192, 168, 0, 2]), SocketAddr::from(([10, 244, 0, 1], 80)));
        let from = |port| Tuple {
            src: SocketAddr::from(([10, 0, 0, 1], port)),
            dst: SocketAddr::new(node, 40_000),
            proto: Proto::Tcp,
        };
        let (a, b) =
            (pairs.open(&from(1), node, endpoint).unwrap(), pairs.open(&from(2), node, endpoint).unwrap());
        assert_ne!(a.src, b.src);
        assert_eq!(pairs.towards_client(&b.reversed()), Some(from(2).reversed()));
        let again = pairs.open(&from(1), node, endpoint).unwrap();
        assert_eq!(pairs.towards_client(&a.reversed()), None, "the old connection is closed");
        assert_eq!(pairs.towards_endpoint(&from(1)), Some(again));
    }
}
