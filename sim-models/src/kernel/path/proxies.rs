//! Packets of clusters that run an eBPF load balancer, or kube-proxy in user space.

use super::route::Device;
use super::*;
use crate::config::ProxyConfig;
use crate::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_core::classify::{Family, Proto, TcpFlags};
use sim_core::units::SimSpan;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 2));
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));
const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 5));
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 4));

fn at(s: u64) -> SimTime {
    SimTime::ZERO + SimSpan::from_secs(s)
}

/// A Service on a cluster IP, a load balancer's address and node port 30080, with `endpoints` endpoints elsewhere.
fn service(endpoints: u8) -> ServicePort {
    let endpoint = |n| Endpoint { addr: SocketAddr::from(([10, 244, 1, n], 8080)), is_local: false };
    let lists = EndpointLists::ready((1..=endpoints).map(endpoint).collect());
    ServicePort {
        node_port: 30_080,
        load_balancer_vips: vec![IpAddr::from([203, 0, 113, 9])],
        ..ServicePort::http("ns", "a", VIP, lists)
    }
}

fn stack(mode: &str, port: ServicePort) -> Stack {
    let objects = ProxyObjects { ports: vec![port], node_ips: vec![NODE], ..ProxyObjects::default() };
    let config = ProxyConfig { mode: mode.to_owned(), kubernetes_minor: 25, ..ProxyConfig::default() };
    Stack::new(&crate::proxy::mode(mode).unwrap().build(&objects, &config, Family::Ipv4), 1).unwrap()
}

fn node() -> NodeState {
    NodeState::new(1, "test", 2, &[NODE])
}

fn go(stack: &Stack, state: &mut NodeState, packet: Packet, origin: Origin) -> Crossing {
    cross(stack, state, packet, origin, SimTime::ZERO)
}

fn answer(sent: &Packet, flags: TcpFlags) -> Packet {
    Packet { src: sent.dst, sport: sent.dport, dst: sent.src, dport: sent.sport, flags, mark: 0, ..*sent }
}

fn ends(p: &Packet) -> (IpAddr, u16, IpAddr, u16) {
    (p.src, p.sport, p.dst, p.dport)
}

#[test]
fn a_socket_is_translated_when_it_connects_and_its_packets_cost_no_lookup() {
    let (stack, mut state) = (stack("ebpf", service(3)), node());
    for origin in [Origin::Pod, Origin::Host] {
        let syn = Packet::tcp_syn(POD, 40_000, VIP, 80);
        let first = go(&stack, &mut state, syn, origin);
        // Frontend, slot, backend, and the socket's way back.
        assert_eq!((first.work[Unit::EbpfLookup], first.work[Unit::EbpfUpdates]), (4, 1));
        assert_eq!((first.work[Unit::CtLookup], first.work[Unit::NatMangle]), (0, 0));
        assert!(matches!(first.verdict, Verdict::Dnat { to, masquerade: false } if to.port() == 8080));
        let later = go(&stack, &mut state, syn.with_flags(TcpFlags::ACK), origin);
        assert_eq!((later.packet.dst, later.work[Unit::EbpfLookup]), (first.packet.dst, 0));
    }
    assert!(state.conntrack.is_empty());
    let elsewhere = Packet::tcp_syn(POD, 40_000, OUTSIDE, 443);
    let passed = go(&stack, &mut state, elsewhere, Origin::Pod);
    assert_eq!((passed.verdict, passed.work[Unit::EbpfLookup]), (Verdict::Accept, 1));
}

#[test]
fn a_tcp_connection_gets_any_backend_and_an_unconnected_udp_socket_keeps_its_own() {
    let (stack, mut state) = (stack("ebpf", service(3)), node());
    let mut hits: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for sport in 1000..4000 {
        let to = go(&stack, &mut state, Packet::tcp_syn(POD, sport, VIP, 80), Origin::Pod).packet.dst;
        *hits.entry(to).or_default() += 1;
    }
    assert!(hits.len() == 3 && hits.values().all(|n| (850..1150).contains(n)), "{hits:?}");
    let udp = ServicePort { proto: Proto::Udp, ..service(3) };
    let stack = super::proxies::stack("ebpf", udp);
    let packet =
        Packet { proto: Proto::Udp, flags: TcpFlags::default(), ..Packet::tcp_syn(POD, 53, VIP, 80) };
    let backends: BTreeSet<IpAddr> =
        (0..20).map(|_| go(&stack, &mut state, packet, Origin::Pod).packet.dst).collect();
    assert_eq!(backends.len(), 1);
}

#[test]
fn a_node_port_is_found_by_the_wildcard_on_any_address_of_the_node() {
    let (stack, mut state) = (stack("ebpf", service(1)), node());
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let to = |state: &mut NodeState, ip, port| {
        go(&stack, state, Packet::tcp_syn(POD, 40_000, ip, port), Origin::Host)
    };
    // One miss, the address, the wildcard; then slot, backend, way back.
    let wild = to(&mut state, loopback, 30_080);
    assert_eq!((wild.packet.dport, wild.work[Unit::EbpfLookup]), (8080, 6));
    assert_eq!(
        to(&mut state, NODE, 30_080).work[Unit::EbpfLookup],
        4,
        "the node's own address is a frontend"
    );
    let foreign = to(&mut state, OUTSIDE, 30_080);
    assert_eq!((foreign.verdict, foreign.work[Unit::EbpfLookup]), (Verdict::Accept, 2));
    assert_eq!(to(&mut state, loopback, 8080).work[Unit::EbpfLookup], 1, "no node port");
}

#[test]
fn a_service_without_backends_refuses_and_source_ranges_keep_others_out() {
    let (empty, mut state) = (stack("ebpf", service(0)), node());
    let syn = Packet::tcp_syn(POD, 40_000, VIP, 80);
    assert_eq!(go(&empty, &mut state, syn, Origin::Pod).verdict, Verdict::Reject);
    let ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let limited = stack("ebpf", ServicePort { source_ranges: ranges, ..service(1) });
    let from = |ip| Packet::tcp_syn(ip, 40_000, IpAddr::from([203, 0, 113, 9]), 80);
    assert_eq!(go(&limited, &mut state, from(OUTSIDE), Origin::Wire).verdict, Verdict::Drop);
    let let_in = go(&limited, &mut state, from(IpAddr::from([192, 0, 2, 7])), Origin::Wire);
    assert!(matches!(let_in.verdict, Verdict::Dnat { .. }));
    // A cluster IP is none of the network's business.
    assert_eq!(
        go(&limited, &mut state, Packet::tcp_syn(OUTSIDE, 1, VIP, 80), Origin::Wire).verdict,
        Verdict::Accept
    );
}

#[test]
fn a_client_with_affinity_keeps_its_backend_until_the_time_is_over_or_the_backend_gone() {
    let sticky = |endpoints| stack("ebpf", ServicePort { affinity_seconds: Some(100), ..service(endpoints) });
    let (many, mut state) = (sticky(20), node());
    let mut call = |stack: &Stack, sport, s| {
        cross(stack, &mut state, Packet::tcp_syn(POD, sport, VIP, 80), Origin::Pod, at(s)).packet.dst
    };
    let first = call(&many, 1, 0);
    assert!((2..30).all(|n| call(&many, n, u64::from(n) * 40) == first), "each call begins the time anew");
    let later: BTreeSet<IpAddr> = (100..130).map(|n| call(&many, n, 10_000 + u64::from(n) * 200)).collect();
    assert!(later.len() > 5, "{later:?}");
    let one = sticky(1);
    let left = IpAddr::from([10, 244, 1, 1]);
    assert_eq!(call(&one, 1, 40_000), left);
}

#[test]
fn what_comes_from_outside_is_looked_up_packet_by_packet_and_answered_from_where_it_was_called() {
    let (stack, mut state) = (stack("ebpf", service(1)), node());
    let syn = Packet::tcp_syn(OUTSIDE, 40_000, NODE, 30_080);
    let first = go(&stack, &mut state, syn, Origin::Wire);
    assert!(matches!(first.verdict, Verdict::Dnat { masquerade: true, .. }));
    assert_eq!((first.packet.src, first.packet.sport), (NODE, 40_000), "its port is free");
    assert_eq!(first.work[Unit::EbpfUpdates], 4);
    let back = go(&stack, &mut state, answer(&first.packet, TcpFlags::SYN_ACK), Origin::Wire);
    assert_eq!(ends(&back.packet), ends(&answer(&syn, TcpFlags::SYN_ACK)));
    let again = go(&stack, &mut state, syn.with_flags(TcpFlags::ACK), Origin::Wire);
    assert_eq!(ends(&again.packet), ends(&first.packet));
    assert!(again.work[Unit::EbpfLookup] > 0 && again.work[Unit::EbpfUpdates] == 0);
    // Another client with the same port gets another one.
    let other = Packet { src: IpAddr::from([198, 51, 100, 5]), ..syn };
    assert_ne!(go(&stack, &mut state, other, Origin::Wire).packet.sport, 40_000);
    // A backend of this node sees the client's own address, and its answer comes from the pod.
    let mut near = node();
    near.routes.add(
        Device { name: "lxc1".into(), addresses: Vec::new(), queue: false },
        &["10.244.1.1/32".parse().unwrap()],
    );
    let local = go(&stack, &mut near, syn, Origin::Wire);
    assert_eq!(local.packet.src, OUTSIDE);
    let back = go(&stack, &mut near, answer(&local.packet, TcpFlags::SYN_ACK), Origin::Pod);
    assert_eq!(ends(&back.packet), ends(&answer(&syn, TcpFlags::SYN_ACK)));
}

#[test]
fn kube_proxy_in_user_space_takes_each_connection_to_the_next_endpoint_and_back() {
    for (origin, client) in [(Origin::Pod, POD), (Origin::Host, NODE), (Origin::Wire, OUTSIDE)] {
        let (stack, mut state) = (stack("userspace", service(3)), node());
        let (to, port) = if origin == Origin::Wire { (NODE, 30_080) } else { (VIP, 80) };
        let mut endpoints = Vec::new();
        for sport in 40_000..40_006 {
            let syn = Packet::tcp_syn(client, sport, to, port);
            let first = go(&stack, &mut state, syn, origin);
            assert!(
                first.first && matches!(first.verdict, Verdict::Dnat { masquerade: true, .. }),
                "{first:?}"
            );
            assert_eq!((first.packet.src, first.work[Unit::UserspaceHops]), (NODE, 1));
            endpoints.push(first.packet.dst);
            let back = go(&stack, &mut state, answer(&first.packet, TcpFlags::SYN_ACK), Origin::Wire);
            assert_eq!(ends(&back.packet), ends(&answer(&syn, TcpFlags::SYN_ACK)), "{origin:?}");
            let ack = go(&stack, &mut state, syn.with_flags(TcpFlags::ACK), origin);
            assert_eq!((ends(&ack.packet), ack.first), (ends(&first.packet), false));
            assert_eq!(ack.work[Unit::UserspaceHops], 1);
        }
        assert_eq!(endpoints[..3], endpoints[3..], "in turn");
        // The client's connection and the proxy's own.
        assert_eq!(state.conntrack.len(), 12);
    }
}

#[test]
fn a_userspace_service_without_endpoints_closes_the_connection_and_one_that_is_its_own_endpoint_ends() {
    let (empty, mut state) = (stack("userspace", service(0)), node());
    let syn = Packet::tcp_syn(POD, 40_000, VIP, 80);
    assert_eq!(go(&empty, &mut state, syn, Origin::Pod).verdict, Verdict::Reject);
    let own = Endpoint { addr: SocketAddr::new(VIP, 80), is_local: false };
    let round = ServicePort { endpoints: EndpointLists::ready(vec![own]), ..service(1) };
    let crossing = go(&stack("userspace", round), &mut node(), syn, Origin::Pod);
    assert_eq!((crossing.verdict, crossing.work[Unit::UserspaceHops]), (Verdict::Drop, 16));
}
