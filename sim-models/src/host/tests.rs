//! Hosts: idle ones cost nothing, syncs and packets share cores, and what connections keep in IPVS and conntrack.

use super::*;
use crate::config::ProxyConfig;
use crate::kube::{Endpoint, EndpointLists, ProxyObjects};
use crate::proxy::fleet::Cores as _;
use sim_core::classify::{Family, TcpFlags, Verdict};

const NODE: [u8; 4] = [192, 168, 0, 2];
const VIP: [u8; 4] = [10, 96, 0, 1];

fn hosts(cores: u32, nodes: usize) -> Hosts {
    let conntrack = ConntrackConfig::for_cores(cores);
    Hosts::new(Machine { seed: 1, cores, conntrack }, vec![vec![NODE.into()]; nodes])
}

fn ms(n: u64) -> SimTime {
    SimTime::ZERO + SimSpan::from_ms(n)
}

fn port(proto: Proto, pods: &[u8]) -> ServicePort {
    let endpoint = |&n: &u8| Endpoint { addr: ([10, 244, 1, n], 8080).into(), is_local: false };
    let lists = EndpointLists::ready(pods.iter().map(endpoint).collect());
    ServicePort { proto, ..ServicePort::http("ns", "a", VIP.into(), lists) }
}

fn stack(mode: &str, proto: Proto, pods: &[u8]) -> Arc<Stack> {
    let objects = ProxyObjects {
        ports: vec![port(proto, pods)],
        node_ips: vec![NODE.into()],
        ..ProxyObjects::default()
    };
    let config = ProxyConfig {
        mode: mode.to_owned(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..ProxyConfig::default()
    };
    let rules = crate::proxy::mode(mode).unwrap().build(&objects, &config, Family::Ipv4);
    Arc::new(Stack::new(&rules, 1).unwrap())
}

fn packet(proto: Proto, sport: u16, flags: TcpFlags) -> Packet {
    let syn = Packet::tcp_syn([10, 244, 0, 5].into(), sport, VIP.into(), 80);
    Packet { proto, flags, ..syn }
}

fn goes_to(hosts: &mut Hosts, packet: Packet, now: SimTime) -> Option<u8> {
    match hosts.classify(0, packet, Origin::Pod, now).packet.dst {
        IpAddr::V4(v4) if v4.octets()[0] == 10 && v4.octets()[1] == 244 => Some(v4.octets()[3]),
        _ => None,
    }
}

#[test]
fn a_node_without_packets_takes_less_than_two_hundred_bytes() {
    let mut hosts = hosts(8, 5_000);
    let rules = RulesId { mode: 0, version: 7, under: Some((1, 3)) };
    for node in 0..5_000 {
        hosts.load(node, Some(rules));
        hosts.begin(node, SimSpan::from_ms(100), SimTime::ZERO);
        hosts.end(node, ms(100));
    }
    assert!(hosts.idle_bytes(4_999) <= 200, "{} bytes", hosts.idle_bytes(4_999));
}

#[test]
fn a_sync_goes_to_the_core_with_the_least_packet_work_and_ends_later_by_what_comes_there() {
    let mut hosts = hosts(2, 1);
    hosts.give(0, stack("iptables", Proto::Tcp, &[1]), SimTime::ZERO);
    let of_core = |hosts: &Hosts, core: usize| {
        let cores = &hosts.all[0].life.as_ref().unwrap().cores;
        (1..100).map(|port| packet(Proto::Tcp, port, TcpFlags::SYN)).find(|p| cores.of(p) == core).unwrap()
    };
    let (first, second) = (of_core(&hosts, 0), of_core(&hosts, 1));
    hosts.serve(0, &first, SimSpan::from_us(50), SimTime::ZERO);
    hosts.begin(0, SimSpan::from_ms(10), ms(1));
    assert!(hosts.is_disturbed(0, &second) && !hosts.is_disturbed(0, &first));
    hosts.serve(0, &second, SimSpan::from_us(300), ms(2));
    hosts.serve(0, &first, SimSpan::from_us(900), ms(2));
    // Half of this packet's work comes after the sync's undisturbed end, and counts at the next asking.
    hosts.serve(0, &second, SimSpan::from_ms(2), ms(10));
    assert_eq!(hosts.stolen(0, ms(11)), SimSpan::from_us(1_300));
    assert_eq!(hosts.stolen(0, ms(13)), SimSpan::from_ms(1));
    assert_eq!(hosts.stolen(0, ms(14)), SimSpan::ZERO);
    hosts.end(0, ms(14));
    assert!(!hosts.is_disturbed(0, &second));
}

#[test]
fn work_of_long_ago_does_not_keep_a_sync_from_a_core() {
    let mut cores = Cores::new(2);
    let at = cores.of(&packet(Proto::Tcp, 1, TcpFlags::SYN));
    let other = (1..100).map(|p| packet(Proto::Tcp, p, TcpFlags::SYN)).find(|p| cores.of(p) != at).unwrap();
    cores.serve(&packet(Proto::Tcp, 1, TcpFlags::SYN), SimSpan::from_ms(10), SimTime::ZERO);
    cores.serve(&other, SimSpan::from_us(100), ms(500));
    assert_eq!(cores.quietest(ms(500)), at);
}

#[test]
fn a_real_server_with_a_connection_drains_and_is_deleted_a_minute_after_the_last_one_ended() {
    let mut hosts = hosts(1, 1);
    hosts.give(0, stack("ipvs", Proto::Tcp, &[1]), SimTime::ZERO);
    assert_eq!(goes_to(&mut hosts, packet(Proto::Tcp, 40_000, TcpFlags::SYN), ms(1)), Some(1));
    hosts.load(0, None);
    hosts.give(0, stack("ipvs", Proto::Tcp, &[2]), ms(1_000));
    assert_eq!(hosts.draining(0), 1);
    // The connection goes on to the server that takes no new ones.
    assert_eq!(goes_to(&mut hosts, packet(Proto::Tcp, 40_000, TcpFlags::ACK), ms(2_000)), Some(1));
    for port in 40_001..40_005 {
        assert_eq!(goes_to(&mut hosts, packet(Proto::Tcp, port, TcpFlags::SYN), ms(2_000)), Some(2));
    }
    // Idle connections last 15 minutes; then the next look takes it away.
    goes_to(&mut hosts, packet(Proto::Tcp, 40_006, TcpFlags::SYN), ms(14 * 60_000));
    assert_eq!(hosts.draining(0), 1);
    goes_to(&mut hosts, packet(Proto::Tcp, 40_007, TcpFlags::SYN), ms(17 * 60_000));
    assert_eq!(hosts.draining(0), 0);
}

#[test]
fn a_real_server_of_udp_goes_at_once_and_takes_its_connections_along() {
    let mut hosts = hosts(1, 1);
    hosts.give(0, stack("ipvs", Proto::Udp, &[1]), SimTime::ZERO);
    let request = packet(Proto::Udp, 40_000, TcpFlags::default());
    assert_eq!(goes_to(&mut hosts, request, ms(1)), Some(1));
    hosts.load(0, None);
    hosts.give(0, stack("ipvs", Proto::Udp, &[2]), ms(1_000));
    assert_eq!(hosts.draining(0), 0);
    // `expire_nodest_conn`: the flow is scheduled anew.
    assert_eq!(goes_to(&mut hosts, request, ms(2_000)), Some(2));
}

#[test]
fn a_udp_flow_sticks_to_a_pod_that_is_gone_until_its_entry_is_deleted() {
    let mut hosts = hosts(1, 1);
    hosts.give(0, stack("iptables", Proto::Udp, &[1]), SimTime::ZERO);
    let request = packet(Proto::Udp, 40_000, TcpFlags::default());
    assert_eq!(goes_to(&mut hosts, request, ms(1)), Some(1));
    hosts.load(0, None);
    hosts.give(0, stack("iptables", Proto::Udp, &[2]), ms(1_000));
    assert_eq!(goes_to(&mut hosts, request, ms(2_000)), Some(1));
    let serving = |pods: &[u8]| pods.iter().map(|&n| ([10, 244, 1, n], 8080).into()).collect();
    // A Service without serving endpoints is left alone, and so are other ports.
    assert_eq!(hosts.clean_udp(0, &[(port(Proto::Udp, &[2]), serving(&[]))]), 0);
    let other = ServicePort { port: 81, ..port(Proto::Udp, &[2]) };
    assert_eq!(hosts.clean_udp(0, &[(other, serving(&[2]))]), 0);
    assert_eq!(hosts.clean_udp(0, &[(port(Proto::Udp, &[2]), serving(&[1, 2]))]), 0);
    assert_eq!(hosts.clean_udp(0, &[(port(Proto::Udp, &[2]), serving(&[2]))]), 1);
    assert_eq!(goes_to(&mut hosts, request, ms(3_000)), Some(2));
}

#[test]
fn a_node_that_lost_power_knows_no_connection_and_no_rules() {
    let mut hosts = hosts(1, 1);
    let rules = RulesId { mode: 0, version: 0, under: None };
    hosts.load(0, Some(rules));
    hosts.give(0, stack("iptables", Proto::Tcp, &[1]), SimTime::ZERO);
    goes_to(&mut hosts, packet(Proto::Tcp, 40_000, TcpFlags::SYN), ms(1));
    assert_eq!(hosts.tracked(0), 1);
    hosts.power_off(0);
    assert!(hosts.is_down(0));
    hosts.power_on(0);
    assert_eq!((hosts.is_down(0), hosts.tracked(0), hosts.rules(0)), (false, 0, None));
    hosts.give(0, Arc::new(Stack::new(&Default::default(), 1).unwrap()), ms(2));
    let crossing = hosts.classify(0, packet(Proto::Tcp, 40_000, TcpFlags::ACK), Origin::Pod, ms(3));
    assert_eq!(crossing.verdict, Verdict::Accept);
    assert_eq!(crossing.packet.dst, IpAddr::from(VIP));
}
