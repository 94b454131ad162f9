//! When a connection gives way: packets of ended connections, drained and deleted servers, and what conntrack says.

use super::*;

impl Node {
    /// A packet of which conntrack knows, or not.
    fn send_tracked(&mut self, packet: Packet, confirmed: bool) -> IpvsVerdict {
        self.work = Work::new();
        let arrival = Arrival { now: self.now, confirmed, local_out: false };
        self.state.request_of(&self.services, &packet, arrival, &mut self.random, &mut self.work)
    }
}

fn reset() -> TcpFlags {
    TcpFlags { rst: true, ..TcpFlags::ACK }
}

#[test]
fn a_deleted_server_takes_its_connections_along() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let to = node.open(5);
    node.services.remove_real_server(&key(Proto::Tcp), to).unwrap();
    assert_eq!(node.send(syn(5).with_flags(TcpFlags::ACK)), IpvsVerdict::NotAService);
    assert_eq!(node.state.conn_count(), 0);
    assert_eq!(node.open(5), pod(1));
}

#[test]
fn before_linux_5_9_connections_of_a_deleted_server_ended_at_their_next_packet() {
    let config = IpvsConfig { before_linux_5_9: true, ..IpvsConfig::default() };
    let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
    let to = node.open(5);
    node.services.remove_real_server(&key(Proto::Tcp), to).unwrap();
    assert_eq!(node.send(syn(5).with_flags(TcpFlags::ACK)), IpvsVerdict::Drop);
    node.now += SimSpan::from_ms(4);
    assert_eq!(node.send(syn(5).with_flags(TcpFlags::ACK)), IpvsVerdict::NotAService);
    assert_eq!(node.open(5), pod(1));
}

#[test]
fn without_expire_nodest_conn_packets_to_a_deleted_server_vanish() {
    let config = IpvsConfig { expire_nodest_conn: false, ..IpvsConfig::default() };
    let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
    let to = node.open(5);
    node.services.remove_real_server(&key(Proto::Tcp), to).unwrap();
    for _ in 0..3 {
        assert_eq!(node.send(syn(5).with_flags(TcpFlags::ACK)), IpvsVerdict::Drop);
        assert_eq!(node.syn(5), IpvsVerdict::Drop);
        node.now += SimSpan::from_ms(10);
    }
    assert_eq!(node.state.conn_count(), 1);
}

/// `mode` of `conn_reuse_mode`, whether the kernel is old, whether conntrack has the entry confirmed; what a SYN on a
/// closed connection gets.
#[test]
fn a_syn_on_a_closed_connection_follows_conn_reuse_mode_and_conntrack() {
    let again = |n| IpvsVerdict::Translate { to: pod(n), new: true };
    let same = IpvsVerdict::Translate { to: pod(2), new: false };
    let rows = [
        (1, false, false, again(1)),
        (1, false, true, IpvsVerdict::Drop),
        (1, true, false, IpvsVerdict::Drop),
        (3, false, false, again(1)),
        (0, false, false, same),
        (0, true, true, same),
    ];
    for (conn_reuse_mode, before_linux_5_9, confirmed, expected) in rows {
        let config = IpvsConfig { conn_reuse_mode, before_linux_5_9, ..IpvsConfig::default() };
        let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
        node.open(5);
        node.answer(pod(2), 5, reset());
        let row = (conn_reuse_mode, before_linux_5_9, confirmed);
        assert_eq!(node.send_tracked(syn(5), confirmed), expected, "{row:?}");
        if expected == IpvsVerdict::Drop {
            // The client's next SYN, a second later, finds nothing left.
            node.wait(1);
            assert_eq!(node.send_tracked(syn(5), false), again(1), "{row:?}");
        }
    }
    let config = IpvsConfig { conntrack: false, ..IpvsConfig::default() };
    let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
    node.open(5);
    node.answer(pod(2), 5, reset());
    assert_eq!(node.send_tracked(syn(5), true), again(1), "without conntrack=1 its entry does not matter");
}

#[test]
fn a_syn_on_a_connection_to_a_drained_server_is_scheduled_anew_under_expire_nodest_conn() {
    let drained = |config: IpvsConfig| {
        let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
        let to = node.open(5);
        node.services.set_weight(&key(Proto::Tcp), to, 0).unwrap();
        (node, to)
    };
    let (mut node, to) = drained(IpvsConfig::default());
    let ack = node.send(syn(5).with_flags(TcpFlags::ACK));
    assert_eq!(ack, IpvsVerdict::Translate { to, new: false }, "what is open goes on");
    assert_eq!(node.send_tracked(syn(5), false), IpvsVerdict::Translate { to: pod(1), new: true });
    let (mut node, _) = drained(IpvsConfig { conn_reuse_mode: 0, ..IpvsConfig::default() });
    assert_eq!(node.send_tracked(syn(5), false), IpvsVerdict::Translate { to: pod(1), new: true });
    let (mut node, to) = drained(IpvsConfig { expire_nodest_conn: false, ..IpvsConfig::default() });
    assert_eq!(node.send_tracked(syn(5), false), IpvsVerdict::Translate { to, new: false });
    let old = IpvsConfig { conn_reuse_mode: 0, before_linux_5_9: true, ..IpvsConfig::default() };
    let (mut node, to) = drained(old);
    assert_eq!(node.send_tracked(syn(5), false), IpvsVerdict::Translate { to, new: false });
}

#[test]
fn only_a_syn_opens_a_tcp_connection_unless_sloppy_tcp_says_otherwise() {
    let flags = [TcpFlags::ACK, TcpFlags::FIN_ACK, reset(), TcpFlags::default()];
    let sloppy = IpvsConfig { sloppy_tcp: true, ..IpvsConfig::default() };
    for (config, opened) in [(IpvsConfig::default(), [false; 4]), (sloppy, [true, true, false, true])] {
        let mut node = Node::with(config, &[server("rr", Proto::Tcp, 2)]);
        for (port, (flags, opens)) in (1..).zip(flags.into_iter().zip(opened)) {
            let verdict = node.send(syn(port).with_flags(flags));
            let new = matches!(verdict, IpvsVerdict::Translate { new: true, .. });
            assert_eq!(new, opens, "{flags:?}");
        }
    }
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let verdict = node.send(syn(1).with_flags(TcpFlags::SYN_ACK));
    assert!(matches!(verdict, IpvsVerdict::Translate { new: true, .. }), "SYN is looked at, ACK is not");
    let reset_syn = TcpFlags { rst: true, ..TcpFlags::SYN };
    assert_eq!(node.send(syn(2).with_flags(reset_syn)), IpvsVerdict::NotAService);
}

#[test]
fn ftps_data_port_and_replies_of_local_servers_are_not_scheduled() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    assert_eq!(node.send(Packet { sport: 20, ..syn(1) }), IpvsVerdict::NotAService);
    // A client on this node calls the service and is itself called on the same ports.
    let local_out = Arrival { now: node.now, confirmed: false, local_out: true };
    let call = |node: &mut Node, packet: Packet| {
        node.work = Work::new();
        node.state.request_of(&node.services, &packet, local_out, &mut node.random, &mut node.work)
    };
    assert!(matches!(call(&mut node, syn(5)), IpvsVerdict::Translate { new: true, .. }));
    assert_eq!(node.work[Unit::IpvsConnLookup], 3, "as a reply, as a request, and turned round");
}

#[test]
fn a_client_without_a_port_finds_no_connection() {
    let mut node = Node::new(&[server("rr", Proto::Tcp, 2)]);
    let packet = Packet { sport: 0, ..syn(1) };
    for n in [2, 1, 2] {
        assert_eq!(node.send(packet), IpvsVerdict::Translate { to: pod(n), new: true });
    }
}

#[test]
fn thresholds_close_a_server_at_the_upper_and_open_it_below_the_lower_one() {
    let mut limited = server("rr", Proto::Tcp, 2);
    (limited.real[1].upper, limited.real[1].lower) = (4, 2);
    let mut node = Node::new(&[limited.clone()]);
    let to_limited = |node: &mut Node, ports: std::ops::Range<u16>| {
        ports.map(|port| node.open(port)).filter(|to| *to == pod(2)).count()
    };
    assert_eq!(to_limited(&mut node, 1..21), 4);
    let close = |node: &mut Node, count: usize| {
        let open: Vec<u16> = (1..21)
            .filter(|&port| {
                let verdict = node.send(syn(port).with_flags(TcpFlags::ACK));
                verdict == IpvsVerdict::Translate { to: pod(2), new: false }
            })
            .collect();
        for port in open.into_iter().take(count) {
            node.send(syn(port).with_flags(reset()));
        }
        node.wait(11);
    };
    close(&mut node, 2);
    assert_eq!(to_limited(&mut node, 100..110), 0, "two are left, which is not below two");
    close(&mut node, 1);
    assert!(to_limited(&mut node, 200..210) > 0);
    // Without a lower threshold three quarters of the upper one count.
    limited.real[1].lower = 0;
    let mut node = Node::new(&[limited]);
    assert_eq!(to_limited(&mut node, 1..21), 4);
    close(&mut node, 1);
    assert_eq!(to_limited(&mut node, 100..110), 0, "three of four");
    close(&mut node, 1);
    assert!(to_limited(&mut node, 200..210) > 0);
}

#[test]
fn a_lower_threshold_above_the_upper_one_is_refused() {
    let mut limited = server("rr", Proto::Tcp, 1);
    (limited.real[0].upper, limited.real[0].lower) = (2, 3);
    assert_eq!(Services::new(&[limited]).unwrap_err(), ServiceError::Thresholds(pod(1)));
}

#[test]
fn an_sctp_association_counts_as_active_when_it_is_set_up() {
    let mut node = Node::new(&[server("lc", Proto::Sctp, 1)]);
    let packet = Packet { proto: Proto::Sctp, ..syn(5).with_flags(TcpFlags::default()) };
    let counts = |node: &Node| node.state.connections(&key(Proto::Sctp), pod(1));
    let answer = |node: &mut Node| {
        let client = packet.src;
        let packet = Packet { src: pod(1).ip(), sport: 8080, dst: client, dport: packet.sport, ..packet };
        node.state.reply(&node.services, &packet, node.now, &mut Work::new())
    };
    node.send(packet);
    answer(&mut node);
    node.send(packet);
    assert_eq!(counts(&node), (0, 1));
    answer(&mut node);
    assert_eq!(counts(&node), (1, 0));
}
