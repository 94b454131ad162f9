//! The same packets in kernels of different versions: what they do is equal, what they look at is not.

use super::*;
use crate::kernel::ipvs::tcp_state::Timeouts;

fn services(tables: Tables, servers: &[VirtualServer]) -> Services {
    Services::of_kernel(tables, Timeouts::default(), 99, servers).unwrap()
}

fn node(tables: Tables, servers: &[VirtualServer]) -> Node {
    Node { services: services(tables, servers), ..Node::new(&[]) }
}

fn counted(node: &Node) -> Vec<(&'static str, u32)> {
    node.work.iter().map(|(unit, n)| (unit.name(), n)).collect()
}

#[test]
fn in_resizable_tables_a_first_packet_is_two_siphashes_and_one_jhash() {
    let mut node = node(Tables::RESIZABLE, &[server("rr", Proto::Tcp, 1)]);
    node.open(1);
    let expected = [
        ("jhash", 1),
        ("siphash", 2),
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
    assert_eq!(counted(&node), expected);
}

#[test]
fn connections_of_one_client_port_share_a_chain_only_in_the_fixed_table() {
    let servers: Vec<VirtualServer> =
        (0..200).map(|n| VirtualServer { port: 1_000 + n, ..server("rr", Proto::Tcp, 1) }).collect();
    let mut steps = [0; 2];
    for (steps, tables) in steps.iter_mut().zip([Tables::Fixed, Tables::RESIZABLE]) {
        let mut node = node(tables, &servers);
        for port in 1_000..1_200 {
            node.send(Packet { dport: port, ..syn(5) });
            *steps = node.work[Unit::IpvsConnSteps];
        }
    }
    // The last SYN looks for itself behind the 199 connections before it.
    assert_eq!(steps[0], 199);
    assert!(steps[1] < 4, "{}", steps[1]);
}

#[test]
fn a_resizable_connection_table_follows_the_connections_up_and_down() {
    let mut node = node(Tables::RESIZABLE, &[server("rr", Proto::Udp, 3)]);
    assert_eq!(node.state.buckets(), 4_096, "no service yet");
    node.send(udp(1));
    assert_eq!(node.state.buckets(), 256);
    for port in 2..=200 {
        node.send(udp(port));
    }
    assert_eq!(node.state.buckets(), 4_096, "sixteen buckets a connection, rounded up");
    node.wait(301);
    node.state.advance(&node.services, node.now);
    assert_eq!((node.state.conn_count(), node.state.buckets()), (0, 256));
}

#[test]
fn the_load_factor_sets_the_size() {
    for (connections, buckets) in [(-4, 2_048), (-2, 512), (0, 256), (-8, 4_096)] {
        let tables = Tables::Resizable(LoadFactors { services: -3, connections });
        let mut node = node(tables, &[server("rr", Proto::Udp, 3)]);
        (1..=100).for_each(|port| {
            node.send(udp(port));
        });
        assert_eq!(node.state.buckets(), buckets, "{connections}");
    }
}

#[test]
fn ipvsadm_set_changes_the_lifetimes() {
    let timeouts = Timeouts::set([0, 0, 30]);
    let udp_only = [server("rr", Proto::Udp, 1)];
    let mut node = Node {
        services: Services::of_kernel(Tables::Fixed, timeouts, 0, &udp_only).unwrap(),
        ..Node::new(&[])
    };
    node.send(udp(1));
    node.wait(31);
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.conn_count(), 0);
}

proptest! {
    /// Whatever is sent: verdicts and connections are those of the fixed tables, only the steps differ.
    #[test]
    fn the_kind_of_table_changes_no_verdict(
        scheduler in prop::sample::select(scheduler::SCHEDULERS).prop_map(|(name, ..)| name),
        sticky in any::<bool>(),
        steps in prop::collection::vec((0u8..8, 1u16..30, 1u8..5), 1..200),
    ) {
        let servers = [VirtualServer {
            persistence_seconds: sticky.then_some(100),
            ..server(scheduler, Proto::Tcp, 4)
        }];
        let mut nodes = [Tables::Fixed, Tables::RESIZABLE].map(|tables| node(tables, &servers));
        let tcp = key(Proto::Tcp);
        for (what, port, pod_n) in steps {
            let [fixed, resizable] = nodes.each_mut().map(|node| {
                let verdict = match what {
                    0..=2 => Some(node.syn(port)),
                    3 => Some(node.send(syn(port).with_flags(TcpFlags::FIN_ACK))),
                    4 => {
                        let reset = TcpFlags { rst: true, ..TcpFlags::ACK };
                        let from = node.answer(pod(pod_n), port, reset);
                        from.map(|from| IpvsVerdict::Reply { from })
                    }
                    5 => {
                        node.wait(u64::from(port) * 7);
                        None
                    }
                    6 => {
                        let _ = node.services.remove_real_server(&tcp, pod(pod_n));
                        None
                    }
                    _ => {
                        let _ = node.services.add_real_server(&tcp, RealServer::new(pod(pod_n)));
                        None
                    }
                };
                node.state.advance(&node.services, node.now);
                (verdict, node.state.conn_count(), node.state.template_count())
            });
            prop_assert_eq!(fixed, resizable);
        }
    }
}
