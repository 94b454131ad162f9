//! Packets through IPVS: what they are translated to, what they count, what they leave behind.

use super::conn_table::{ConnKey, ConnTable};
use super::tcp_state::ConnState;
use super::*;
use crate::kernel::hook::KernelRandom;
use proptest::prelude::*;
use sim_core::classify::{Packet, Proto, TcpFlags, Unit, Work};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::net::{IpAddr, SocketAddr};

const VIP: [u8; 4] = [10, 96, 0, 1];

fn key(proto: Proto) -> ServiceKey {
    ServiceKey { addr: VIP.into(), port: 80, proto }
}

fn pod(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 244, 0, n], 8080))
}

fn server(scheduler: &str, proto: Proto, endpoints: u8) -> VirtualServer {
    VirtualServer {
        addr: VIP.into(),
        port: 80,
        proto,
        scheduler: scheduler.into(),
        flags: SchedulerFlags::default(),
        persistence_seconds: None,
        persistence_prefix: None,
        real: (1..=endpoints).map(|n| RealServer::new(pod(n))).collect(),
    }
}

mod closing;
mod kernels;
mod persistence;

/// One node and its clock.
struct Node {
    services: Services,
    state: IpvsState,
    random: KernelRandom,
    now: SimTime,
    work: Work,
}

impl Node {
    fn new(servers: &[VirtualServer]) -> Self {
        Node::with(IpvsConfig::default(), servers)
    }
    fn with(config: IpvsConfig, servers: &[VirtualServer]) -> Self {
        Node {
            services: Services::new(servers).unwrap(),
            state: IpvsState::new(config, 1234),
            random: KernelRandom::new(Stream::new(1, "node", "kernel")),
            now: SimTime::ZERO,
            work: Work::new(),
        }
    }
    fn wait(&mut self, seconds: u64) {
        self.now += SimSpan::from_secs(seconds);
    }
    fn send(&mut self, packet: Packet) -> IpvsVerdict {
        self.work = Work::new();
        self.state.request(&self.services, &packet, self.now, &mut self.random, &mut self.work)
    }
    fn syn(&mut self, sport: u16) -> IpvsVerdict {
        self.send(syn(sport))
    }
    /// A new connection; the pod that got it.
    fn open(&mut self, sport: u16) -> SocketAddr {
        match self.syn(sport) {
            IpvsVerdict::Translate { to, new: true } => to,
            other => panic!("{other:?} instead of a new connection"),
        }
    }
    fn answer(&mut self, server: SocketAddr, sport: u16, flags: TcpFlags) -> Option<SocketAddr> {
        self.work = Work::new();
        let client = syn(sport);
        let packet = Packet::tcp_syn(server.ip(), server.port(), client.src, client.sport).with_flags(flags);
        self.state.reply(&self.services, &packet, self.now, &mut self.work)
    }
}

/// A SYN of the test's client number `n`, whose port is above those that IPVS treats apart.
fn syn(n: u16) -> Packet {
    Packet::tcp_syn([10, 244, 9, 9].into(), 1024 + n, VIP.into(), 80)
}

fn udp(sport: u16) -> Packet {
    Packet { proto: Proto::Udp, ..syn(sport).with_flags(TcpFlags::default()) }
}

proptest! {
    /// The oracle keeps connections in creation order and compares the newest of the bucket first.
    #[test]
    fn a_lookup_compares_exactly_the_newer_connections_of_its_bucket(
        ports in prop::collection::btree_set(1u16..60_000, 1..1_500),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
    ) {
        let mut table = ConnTable::new(Tables::Fixed, 8, 77);
        let client: IpAddr = [10, 244, 9, 9].into();
        let of = |port| ConnKey {
            client,
            client_port: port,
            virt: VIP.into(),
            virt_port: 80,
            proto: Proto::Tcp,
        };
        let later = SimTime::from_ns(1_000_000_000);
        let mut alive: Vec<_> =
            ports.iter().map(|&port| (port, table.insert(&of(port), 5, pod(1), ConnState::None, later))).collect();
        for pick in gone {
            if alive.len() > 1 {
                table.remove(alive.remove(pick.index(alive.len())).1);
            }
        }
        for &port in &ports {
            let bucket = table.bucket(client, port, Proto::Tcp);
            let chain = alive.iter().rev().filter(|(p, _)| table.bucket(client, *p, Proto::Tcp) == bucket);
            let (mut steps, mut found) = (0, None);
            for &(p, id) in chain {
                steps += 1;
                if p == port {
                    found = Some(id);
                    break;
                }
            }
            let mut work = Work::new();
            prop_assert_eq!(table.lookup_in(&of(port), &mut work), found);
            prop_assert_eq!(work[Unit::IpvsConnSteps], steps);
            prop_assert_eq!(work[Unit::LinesChase], steps + 1);
        }
    }
}

#[test]
fn many_connections_make_every_lookup_walk_n_over_4096() {
    let mut table = ConnTable::new(Tables::Fixed, conn_table::DEFAULT_BITS, 5);
    let later = SimTime::from_ns(1_000_000_000);
    for n in 0..40_960u32 {
        let key = ConnKey {
            client: IpAddr::from((0x0af4_0000 + n / 64).to_be_bytes()),
            client_port: 1024 + (n % 64) as u16,
            virt: VIP.into(),
            virt_port: 80,
            proto: Proto::Tcp,
        };
        table.insert(&key, 0, pod(1), ConnState::None, later);
    }
    let mut work = Work::new();
    for port in 0..2_000 {
        let absent = ConnKey {
            client: [10, 1, 2, 3].into(),
            client_port: port,
            virt: VIP.into(),
            virt_port: 80,
            proto: Proto::Tcp,
        };
        assert_eq!(table.lookup_in(&absent, &mut work), None);
    }
    let mean = work[Unit::IpvsConnSteps] / 200;
    assert!((95..105).contains(&mean), "{mean} tenths of a step");
}

#[test]
fn new_connections_go_round_from_the_newest_real_server_to_the_oldest() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 3)]);
    let got: Vec<_> = (1..=5).map(|port| node.open(port)).collect();
    assert_eq!(got, [3, 2, 1, 3, 2].map(pod));
}

#[test]
fn the_first_packet_counts_two_lookups_a_service_and_a_choice() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 1)]);
    node.open(1);
    let first: Vec<_> = node.work.iter().map(|(unit, n)| (unit.name(), n)).collect();
    let expected = [
        ("ipvs_conn_lookup", 2),
        ("ipvs_svc_lookup", 1),
        ("ipvs_svc_steps", 1),
        ("ipvs_schedule", 1),
        ("ipvs_dest_steps", 1),
        ("ipvs_conn_new", 1),
        ("ipvs_xmit", 1),
        ("route_miss", 1),
        ("route_local_miss", 1),
        ("lines_chase", 11),
        ("lines_own", 9),
        ("lines_endpoint", 4),
        ("ipvs_tcp", 1),
    ];
    assert_eq!(first, expected);
    node.send(syn(1).with_flags(TcpFlags::ACK));
    let later: Vec<_> = node.work.iter().map(|(unit, n)| (unit.name(), n)).collect();
    let expected = [
        ("ipvs_conn_lookup", 2),
        ("ipvs_conn_steps", 1),
        ("ipvs_xmit", 1),
        ("lines_chase", 3),
        ("ipvs_tcp", 1),
    ];
    assert_eq!(later, expected);
}

#[test]
fn a_route_is_looked_up_once_until_routes_are_dropped() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let misses = |node: &Node| (node.work[Unit::RouteMiss], node.work[Unit::RouteLocalMiss]);
    let mut seen = Vec::new();
    for port in 1..=4 {
        node.open(port);
        seen.push(misses(&node));
    }
    assert_eq!(seen, [(1, 1), (1, 0), (0, 0), (0, 0)]);
    node.state.drop_routes();
    node.send(syn(1).with_flags(TcpFlags::ACK));
    assert_eq!(misses(&node), (1, 1));
}

#[test]
fn a_connection_keeps_its_server_and_replies_come_from_the_service() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 3)]);
    let to = node.open(7);
    node.open(8);
    assert_eq!(node.send(syn(7).with_flags(TcpFlags::ACK)), IpvsVerdict::Translate { to, new: false });
    assert_eq!(node.answer(to, 7, TcpFlags::SYN_ACK), Some(SocketAddr::from((VIP, 80))));
    assert_eq!(node.work[Unit::IpvsConnLookup], 1);
    let stranger = pod(77);
    assert_eq!(node.answer(stranger, 7, TcpFlags::ACK), None, "every forwarded packet is looked up");
    assert_eq!(node.work[Unit::IpvsConnLookup], 1);
}

#[test]
fn ipv6_goes_the_same_way() {
    let vip: IpAddr = "fd00:96::1".parse().unwrap();
    let real: SocketAddr = "[fd00:244::5]:8080".parse().unwrap();
    let mut node = Node::new(&[VirtualServer {
        addr: vip,
        real: vec![RealServer::new(real)],
        ..server("rr", Proto::Tcp, 0)
    }]);
    let client: IpAddr = "fd00:244::9".parse().unwrap();
    let packet = Packet::tcp_syn(client, 4_000, vip, 80);
    assert_eq!(node.send(packet), IpvsVerdict::Translate { to: real, new: true });
    let answer = Packet::tcp_syn(real.ip(), 8080, client, 4_000).with_flags(TcpFlags::SYN_ACK);
    let from = node.state.reply(&node.services, &answer, node.now, &mut node.work);
    assert_eq!(from, Some(SocketAddr::new(vip, 80)));
}

#[test]
fn what_is_no_service_and_what_has_no_server_are_told_apart() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 0)]);
    assert_eq!(node.syn(1), IpvsVerdict::NoDestination);
    assert_eq!(node.send(Packet { dport: 81, ..syn(1) }), IpvsVerdict::NotAService);
    assert_eq!(node.send(syn(1).with_flags(TcpFlags::ACK)), IpvsVerdict::NotAService, "no SYN, no lookup");
    assert_eq!(node.work[Unit::IpvsSvcLookup], 0);
    assert_eq!(node.state.conn_count(), 0);
}

#[test]
fn tcp_flags_move_a_connection_between_active_and_inactive() {
    let mut node = Node::new(&[server("lc", Proto::Tcp, 1)]);
    let counts = |node: &Node| node.state.connections(&key(Proto::Tcp), pod(1));
    node.open(1);
    assert_eq!(counts(&node), (1, 0), "a SYN makes it active");
    node.answer(pod(1), 1, TcpFlags::SYN_ACK);
    node.send(syn(1).with_flags(TcpFlags::ACK));
    assert_eq!(counts(&node), (1, 0));
    node.send(syn(1).with_flags(TcpFlags::FIN_ACK));
    assert_eq!(counts(&node), (0, 1));
    node.answer(pod(1), 1, TcpFlags::FIN_ACK);
    node.wait(121);
    node.state.advance(&node.services, node.now);
    assert_eq!((counts(&node), node.state.conn_count()), ((0, 0), 0), "gone after TIME_WAIT's two minutes");
}

/// One server never closes, the other resets at once.
#[test]
fn lc_avoids_the_slow_server_and_rr_does_not_notice() {
    for (scheduler, to_slow) in [("rr", 100), ("lc", 1)] {
        let mut node = Node::new(&[server(scheduler, Proto::Tcp, 2)]);
        let mut slow = 0;
        for port in 1..=200 {
            if node.open(port) == pod(2) {
                slow += 1;
            } else {
                node.answer(pod(1), port, TcpFlags { rst: true, ..TcpFlags::ACK });
            }
        }
        assert_eq!(slow, to_slow, "{scheduler}");
    }
}

#[test]
fn udp_never_counts_as_active_so_nq_and_sed_send_everything_to_one() {
    for scheduler in ["nq", "sed"] {
        let mut node = Node::new(&[server(scheduler, Proto::Udp, 3)]);
        for port in 1..=50 {
            assert_eq!(node.send(udp(port)), IpvsVerdict::Translate { to: pod(3), new: true }, "{scheduler}");
        }
        assert_eq!(node.state.connections(&key(Proto::Udp), pod(3)), (0, 50));
    }
    let mut node = Node::new(&[server("lc", Proto::Udp, 3)]);
    for port in 1..=30 {
        node.send(udp(port));
    }
    let spread = [1, 2, 3].map(|n| node.state.connections(&key(Proto::Udp), pod(n)));
    assert_eq!(spread, [(0, 10); 3], "lc counts all connections");
}

#[test]
fn an_idle_connection_expires_after_its_states_timeout() {
    let rows: [(Packet, u64); 2] = [(syn(1), 60), (udp(1), 300)];
    for (packet, seconds) in rows {
        let mut node = Node::new(&[server("rr", Proto::Tcp, 1), server("rr", Proto::Udp, 1)]);
        node.send(packet);
        node.wait(seconds - 1);
        node.state.advance(&node.services, node.now);
        assert_eq!(node.state.conn_count(), 1);
        // A packet starts the time anew.
        node.send(packet);
        node.wait(seconds - 1);
        node.state.advance(&node.services, node.now);
        assert_eq!(node.state.conn_count(), 1);
        node.wait(2);
        node.state.advance(&node.services, node.now);
        assert_eq!(node.state.conn_count(), 0);
    }
}

#[test]
fn a_syn_on_a_closed_connection_is_scheduled_anew() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    assert_eq!(node.open(5), pod(2));
    assert_eq!(node.syn(5), IpvsVerdict::Translate { to: pod(2), new: false }, "a retransmission");
    node.answer(pod(2), 5, TcpFlags { rst: true, ..TcpFlags::ACK });
    assert_eq!(node.open(5), pod(1));
    assert_eq!(node.state.conn_count(), 2, "the closed one goes with the next tick");
    node.now += SimSpan::from_ms(4);
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.conn_count(), 1);
}

#[test]
fn a_deleted_server_that_returns_gets_its_connections_back() {
    let config = IpvsConfig { expire_nodest_conn: false, ..IpvsConfig::default() };
    let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
    let to = node.open(5);
    node.services.remove_real_server(&key(Proto::Tcp), to).unwrap();
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.connections(&key(Proto::Tcp), to), (1, 0));
    node.services.add_real_server(&key(Proto::Tcp), RealServer::new(to)).unwrap();
    let verdict = node.send(syn(5).with_flags(TcpFlags::ACK));
    assert_eq!(verdict, IpvsVerdict::Translate { to, new: false });
    assert_eq!(node.state.connections(&key(Proto::Tcp), to), (1, 0));
}

#[test]
fn a_deleted_service_is_no_service_and_one_made_again_starts_afresh() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2), server("rr", Proto::Udp, 2)]);
    node.open(5);
    node.services.remove(&key(Proto::Tcp)).unwrap();
    assert_eq!(node.syn(6), IpvsVerdict::NotAService);
    assert!(matches!(node.send(udp(6)), IpvsVerdict::Translate { new: true, .. }));
    node.services.add(&server("rr", Proto::Tcp, 1)).unwrap();
    assert_eq!(node.open(6), pod(1));
    assert_eq!(node.services.add(&server("rr", Proto::Tcp, 1)), Err(ServiceError::Exists(key(Proto::Tcp))));
}

#[test]
fn a_removed_endpoint_is_drained_before_it_is_deleted() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let mut graceful = GracefulTermination::default();
    let tcp = key(Proto::Tcp);
    let to = node.open(5);
    assert_eq!(to, pod(2));
    graceful.sync_real_servers(&mut node.services, &node.state, &tcp, &[pod(1)]).unwrap();
    assert_eq!(node.services.find(&tcp).unwrap().real[1].weight, 0);
    assert!((10..20).all(|port| node.open(port) == pod(1)), "nothing new goes there");
    assert_eq!(node.send(syn(5).with_flags(TcpFlags::ACK)), IpvsVerdict::Translate { to, new: false });
    assert_eq!(graceful.check(&mut node.services, &node.state), 0);
    node.send(syn(5).with_flags(TcpFlags { rst: true, ..TcpFlags::ACK }));
    node.wait(11);
    node.state.advance(&node.services, node.now);
    assert_eq!(graceful.check(&mut node.services, &node.state), 1);
    assert!(graceful.is_empty());
    assert_eq!(node.services.find(&tcp).unwrap().real.len(), 1);
}

#[test]
fn an_endpoint_wanted_again_while_it_drains_comes_back_as_the_newest() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let mut graceful = GracefulTermination::default();
    let tcp = key(Proto::Tcp);
    node.open(4);
    assert_eq!(node.open(5), pod(1));
    graceful.sync_real_servers(&mut node.services, &node.state, &tcp, &[pod(2)]).unwrap();
    assert_eq!(graceful.len(), 1);
    graceful.sync_real_servers(&mut node.services, &node.state, &tcp, &[pod(1), pod(2)]).unwrap();
    assert!(graceful.is_empty());
    let order: Vec<_> = node.services.find(&tcp).unwrap().real.iter().map(|r| (r.addr, r.weight)).collect();
    assert_eq!(order, [(pod(2), 1), (pod(1), 1)]);
    assert_eq!(
        node.send(syn(5).with_flags(TcpFlags::ACK)),
        IpvsVerdict::Translate { to: pod(1), new: false }
    );
}

#[test]
fn udp_and_unused_endpoints_are_deleted_at_once() {
    let mut node = Node::new(&[server("rr", Proto::Udp, 2), server("rr", Proto::Tcp, 2)]);
    node.send(udp(5));
    let mut graceful = GracefulTermination::default();
    for proto in [Proto::Udp, Proto::Tcp] {
        graceful.sync_real_servers(&mut node.services, &node.state, &key(proto), &[pod(1)]).unwrap();
        assert_eq!(node.services.find(&key(proto)).unwrap().real.len(), 1);
    }
    assert!(graceful.is_empty());
}

#[test]
fn a_change_of_one_service_leaves_other_nodes_and_services_alone() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2), server("rr", Proto::Udp, 2)]);
    let shared = node.services.clone();
    node.services.remove_real_server(&key(Proto::Tcp), pod(1)).unwrap();
    assert_eq!(shared.find(&key(Proto::Tcp)).unwrap().real.len(), 2);
    let lists = [&shared, &node.services].map(|s| s.find(&key(Proto::Udp)).unwrap().real.clone());
    assert!(std::sync::Arc::ptr_eq(&lists[0], &lists[1]));
}

#[test]
fn bad_servers_are_refused_with_a_reason() {
    let unknown = server("fastest", Proto::Tcp, 1);
    let error = Services::new(&[unknown]).unwrap_err();
    assert_eq!(error.to_string(), "no IPVS scheduler is called \"fastest\"");
    let mut services = Services::new(&[server("rr", Proto::Tcp, 1)]).unwrap();
    assert_eq!(services.set_weight(&key(Proto::Tcp), pod(9), 1), Err(ServiceError::DestMissing(pod(9))));
    assert_eq!(services.remove(&key(Proto::Udp)), Err(ServiceError::Missing(key(Proto::Udp))));
    assert_eq!(
        services.add_real_server(&key(Proto::Tcp), RealServer::new(pod(1))),
        Err(ServiceError::DestExists(pod(1)))
    );
}

proptest! {
    /// Random packets, changes and pauses: counters of every server always equal the connections that exist.
    #[test]
    fn counters_equal_connections_under_any_sequence(
        scheduler in prop::sample::select(scheduler::SCHEDULERS).prop_map(|(name, ..)| name),
        sticky in any::<bool>(),
        steps in prop::collection::vec((0u8..9, 1u16..12, 1u8..5), 1..300),
    ) {
        let persistence_seconds = sticky.then_some(100);
        let mut node = Node::new(&[VirtualServer { persistence_seconds, ..server(scheduler, Proto::Tcp, 4) }]);
        let tcp = key(Proto::Tcp);
        for (what, port, pod_n) in steps {
            match what {
                0..=2 => {
                    node.syn(port);
                }
                3 => {
                    node.send(syn(port).with_flags(TcpFlags::ACK));
                }
                4 => {
                    node.send(syn(port).with_flags(TcpFlags::FIN_ACK));
                }
                5 => {
                    node.answer(pod(pod_n), port, TcpFlags { rst: true, ..TcpFlags::ACK });
                }
                6 => node.wait(u64::from(port) * 7),
                7 => {
                    let _ = node.services.remove_real_server(&tcp, pod(pod_n));
                }
                _ => {
                    let real = RealServer { weight: u32::from(port % 3), ..RealServer::new(pod(pod_n)) };
                    if node.services.add_real_server(&tcp, real).is_err() {
                        node.services.set_weight(&tcp, pod(pod_n), real.weight).unwrap();
                    }
                }
            }
            node.state.advance(&node.services, node.now);
            let counted: u32 = (1..5).map(|n| node.state.connections(&tcp, pod(n))).map(|(a, i)| a + i).sum();
            let templates = node.state.template_count();
            prop_assert_eq!(counted as usize + templates, node.state.conn_count());
        }
        node.wait(100_000);
        node.state.advance(&node.services, node.now);
        // A template that still had connections when it expired looks again a minute later.
        node.wait(61);
        node.state.advance(&node.services, node.now);
        prop_assert_eq!(node.state.conn_count(), 0);
    }
}
