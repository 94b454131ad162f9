//! Which tuple a connection gets, and after how many probes.

use super::*;
use crate::kernel::conntrack::{ConntrackConfig, Direction, NatStatus};
use sim_core::classify::{Proto, TcpFlags};
use sim_core::rng::Stream;

const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 2));

struct Place {
    ct: Conntrack,
    random: KernelRandom,
    work: Work,
}

fn addr(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

/// Answers of a connection from a pod's `sport` to a backend.
fn reply(sport: u16) -> Tuple {
    Tuple { src: addr([10, 244, 0, 9], 8080), dst: addr([10, 244, 1, 5], sport), proto: Proto::Tcp }
}

fn place() -> Place {
    let config = ConntrackConfig { buckets: 1 << 16, max: 1 << 20, ..ConntrackConfig::for_cores(1) };
    Place {
        ct: Conntrack::new(config, (1, 2)),
        random: KernelRandom::new(Stream::new(1, "test", "random")),
        work: Work::new(),
    }
}

impl Place {
    fn binder(&mut self) -> Binder<'_> {
        let Place { ct, random, work } = self;
        Binder { ct, now: SimTime::ZERO, random, work }
    }
    /// Enters a masqueraded connection whose answers go to `port` of the node.
    fn take(&mut self, port: u16) -> u32 {
        let taken = Tuple { dst: SocketAddr::new(NODE, port), ..reply(0) };
        // Of another client each.
        let client = addr([10, 244, 2, (port >> 8) as u8], port);
        let original = Tuple { src: client, dst: addr([10, 96, 0, 1], 80), proto: Proto::Tcp };
        let nat = NatStatus { dst: true, src: true };
        self.ct.insert(original, taken, nat, SimTime::ZERO, &mut Work::new()).unwrap()
    }
    fn probes(&mut self) -> u32 {
        std::mem::take(&mut self.work)[Unit::NatTupleProbes]
    }
}

#[test]
fn a_destination_costs_a_probe_only_if_the_port_changes() {
    let mut p = place();
    let from = Tuple { src: addr([10, 96, 0, 1], 80), ..reply(40_000) };
    assert_eq!(p.binder().destination(from, addr([10, 244, 0, 9], 80)).src, addr([10, 244, 0, 9], 80));
    assert_eq!(p.probes(), 0);
    assert_eq!(p.binder().destination(from, addr([10, 244, 0, 9], 8080)).src.port(), 8080);
    assert_eq!(p.probes(), 1);
}

#[test]
fn a_null_binding_keeps_the_tuple_or_finds_the_source_another_port() {
    let mut p = place();
    assert_eq!(p.binder().null(reply(40_000), Manip::Source), reply(40_000));
    assert_eq!(p.probes(), 1);
    let taken = reply(40_000);
    p.ct.insert(taken, taken.reversed(), NatStatus::default(), SimTime::ZERO, &mut Work::new()).unwrap();
    let found = p.binder().null(taken, Manip::Source);
    assert!(found.dst.ip() == taken.dst.ip() && found.dst.port() >= 1024 && found != taken);
    assert_eq!(p.probes(), 3, "the tuple twice, and the first port drawn");
    assert_eq!(p.binder().null(taken, Manip::Destination), taken, "a destination stays");
    assert_eq!(p.probes(), 1);
}

#[test]
fn masquerading_keeps_a_free_port_and_draws_one_if_told_to_or_if_it_is_taken() {
    let mut p = place();
    let kept = p.binder().masquerade(reply(40_000), NODE, false);
    assert_eq!((kept.dst, p.probes()), (SocketAddr::new(NODE, 40_000), 1));
    let drawn = p.binder().masquerade(reply(40_000), NODE, true);
    assert!(drawn.dst.port() != 40_000 && drawn.dst.ip() == NODE);
    assert_eq!(p.probes(), 1);
    p.take(40_000);
    let other = p.binder().masquerade(reply(40_000), NODE, false);
    assert!(other.dst.port() >= 1024 && other.dst.port() != 40_000);
    assert_eq!(p.probes(), 2);
}

#[test]
fn a_port_is_searched_for_among_those_of_its_class() {
    for (port, low, high) in
        [(80, 1, 511), (511, 1, 511), (512, 600, 1023), (1023, 600, 1023), (1024, 1024, 65_535)]
    {
        let mut p = place();
        for _ in 0..50 {
            let got = p.binder().masquerade(reply(port), NODE, true).dst.port();
            assert!((low..=high).contains(&got), "{port}: {got}");
        }
    }
}

#[test]
fn a_search_among_taken_ports_ends_after_248_and_keeps_the_last() {
    let mut p = place();
    for port in 1024..=65_535 {
        p.take(port);
    }
    let kept = p.binder().masquerade(reply(40_000), NODE, true);
    assert_eq!(p.probes(), 128 + 64 + 32 + 16 + 8);
    assert!(p.ct.is_used(&kept, SimTime::ZERO, &mut Work::new()), "the confirmation will fail");
}

#[test]
fn late_in_a_window_a_closed_connection_gives_its_port_away() {
    let mut p = place();
    for port in 1024..=65_535 {
        let id = p.take(port);
        p.ct.advance(id, Direction::Reply, TcpFlags::SYN_ACK, SimTime::ZERO);
        p.ct.advance(id, Direction::Original, TcpFlags { rst: true, ..TcpFlags::ACK }, SimTime::ZERO);
    }
    let before = p.ct.len();
    let got = p.binder().masquerade(reply(40_000), NODE, true);
    assert_eq!(p.probes(), 97, "the first of the last 32 attempts of the window of 128");
    assert_eq!(p.ct.len(), before - 1);
    assert!(!p.ct.is_used(&got, SimTime::ZERO, &mut Work::new()));
    // UDP has no such states.
    let udp = Tuple { proto: Proto::Udp, ..reply(40_000) };
    assert_eq!(p.binder().masquerade(udp, NODE, true).proto, Proto::Udp);
}

#[test]
fn the_probes_of_a_search_grow_as_ports_are_taken() {
    let mut p = place();
    // Half of all ports, in no order.
    for port in (1024..=65_535u16).filter(|p| p.wrapping_mul(40_503) & 0x8000 == 0) {
        p.take(port);
    }
    let occupied = f64::from(p.ct.len()) / 64_512.0;
    let searches = 4000;
    for _ in 0..searches {
        p.binder().masquerade(reply(40_000), NODE, true);
    }
    let mean = f64::from(p.probes()) / f64::from(searches);
    let expected = 1.0 / (1.0 - occupied);
    assert!((mean / expected - 1.0).abs() < 0.25, "{mean} of {expected}");
}

#[test]
fn a_client_socket_keeps_its_translated_port_towards_other_servers() {
    let mut p = place();
    let original = Tuple { src: reply(40_000).dst, dst: addr([10, 96, 0, 7], 80), proto: Proto::Tcp };
    let there =
        Tuple { src: addr([10, 244, 0, 77], 80), dst: SocketAddr::new(NODE, 1111), proto: Proto::Tcp };
    let nat = NatStatus { dst: true, src: true };
    p.ct.insert(original, there, nat, SimTime::ZERO, &mut Work::new()).unwrap();
    assert_eq!(p.binder().masquerade(reply(40_000), NODE, false).dst.port(), 1111);
    assert_eq!(p.probes(), 1);
}

#[test]
fn a_range_spreads_clients_over_its_addresses_and_ports_by_hash_and_search() {
    let mut p = place();
    let range = Bounds {
        addrs: Some((IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 4]))),
        ports: Some((2000, 2003)),
        port_base: None,
        random: false,
        persistent: false,
    };
    let mut seen = std::collections::BTreeSet::new();
    for client in 0..200u8 {
        let from = Tuple { dst: addr([10, 244, 3, client], 40_000), ..reply(0) };
        let got = p.binder().range(from, Manip::Source, &range);
        assert!(range.holds(got.dst), "{got:?}");
        assert_eq!(
            p.binder().range(from, Manip::Source, &range).dst.ip(),
            got.dst.ip(),
            "always the same address"
        );
        seen.insert(got.dst.ip());
    }
    assert_eq!(seen.len(), 4);
    let to = Bounds { addrs: None, ..range };
    let got = p.binder().range(reply(40_000), Manip::Destination, &to);
    assert_eq!(got.src, addr([10, 244, 0, 9], 2000), "a destination's search begins at the first port");
    let v6 = Bounds {
        addrs: Some(("fd00::1".parse().unwrap(), "fd00::ffff:1".parse().unwrap())),
        ports: None,
        ..range
    };
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 40_000);
    let from = Tuple { src: at("fd00:96::1"), dst: at("fd00:10:244::5"), proto: Proto::Udp };
    assert!(v6.holds(p.binder().range(from, Manip::Source, &v6).dst));
}
