//! Clients that keep their server: templates, their masks and how long they last.

use super::*;

fn sticky(scheduler: &str, seconds: u32, endpoints: u8) -> VirtualServer {
    VirtualServer { persistence_seconds: Some(seconds), ..server(scheduler, Proto::Tcp, endpoints) }
}

#[test]
fn persistence_keeps_a_client_for_its_timeout() {
    let sticky = VirtualServer { persistence_seconds: Some(600), ..server("rr", Proto::Tcp, 3) };
    let mut node = Node::new(&[sticky]);
    let home = node.open(1);
    assert_eq!(node.work[Unit::IpvsConnNew], 2, "the template and the connection");
    assert!((2..50).all(|port| node.open(port) == home));
    assert_eq!(node.work[Unit::IpvsSchedule], 0);
    let mut other = syn(1);
    other.src = [10, 244, 9, 10].into();
    assert_ne!(node.send(other), IpvsVerdict::Translate { to: home, new: true });
    node.wait(661);
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.conn_count(), 0, "templates go when they and their connections have expired");
    assert_ne!(node.open(1), home);
}

#[test]
fn a_server_of_weight_zero_loses_its_persistent_clients_but_not_its_connections() {
    let sticky = VirtualServer { persistence_seconds: Some(600), ..server("rr", Proto::Tcp, 2) };
    let mut node = Node::new(&[sticky]);
    let home = node.open(1);
    node.services.set_weight(&key(Proto::Tcp), home, 0).unwrap();
    assert_ne!(node.open(2), home);
    let verdict = node.send(syn(1).with_flags(TcpFlags::ACK));
    assert_eq!(verdict, IpvsVerdict::Translate { to: home, new: false });
}

#[test]
fn a_mask_makes_neighbours_share_a_template() {
    let masked = VirtualServer { persistence_prefix: Some(24), ..sticky("rr", 600, 3) };
    let mut node = Node::new(&[masked]);
    let home = node.open(1);
    let from = |client: [u8; 4]| Packet { src: client.into(), ..syn(1) };
    assert_eq!(node.send(from([10, 244, 9, 77])), IpvsVerdict::Translate { to: home, new: true });
    assert_ne!(node.send(from([10, 244, 10, 9])), IpvsVerdict::Translate { to: home, new: true });
    assert_eq!(node.state.template_count(), 2);
}

#[test]
fn a_template_that_waited_for_its_connections_lasts_a_minute_from_then_on() {
    let mut node = Node::new(&[sticky("rr", 100, 2)]);
    node.open(1);
    node.answer(pod(2), 1, TcpFlags::SYN_ACK);
    node.send(syn(1).with_flags(TcpFlags::ACK));
    // Established for 900 s: at 100 s the template has a connection and looks again each minute.
    node.wait(101);
    node.open(2);
    node.answer(pod(2), 2, TcpFlags { rst: true, ..TcpFlags::ACK });
    node.send(syn(1).with_flags(TcpFlags { rst: true, ..TcpFlags::ACK }));
    node.wait(59);
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.template_count(), 1);
    node.wait(2);
    node.state.advance(&node.services, node.now);
    assert_eq!(node.state.template_count(), 0, "not the hundred seconds of the service");
}

#[test]
fn a_template_of_a_drained_server_stays_in_the_table_but_is_not_found() {
    let mut node = Node::new(&[sticky("rr", 600, 2)]);
    let home = node.open(1);
    node.services.set_weight(&key(Proto::Tcp), home, 0).unwrap();
    let other = node.open(2);
    assert_ne!(other, home);
    assert_eq!(node.state.template_count(), 2, "the old one has a connection still");
    assert!((3..20).all(|port| node.open(port) == other));
    let config = IpvsConfig { expire_quiescent_template: false, ..IpvsConfig::default() };
    let mut kept = Node::with(config, &[sticky("rr", 600, 2)]);
    let home = kept.open(1);
    kept.services.set_weight(&key(Proto::Tcp), home, 0).unwrap();
    assert_eq!(kept.open(2), home, "without expire_quiescent_template the client stays");
}

#[test]
fn connections_under_a_template_are_not_scheduled_anew_for_their_state() {
    let mut node = Node::new(&[sticky("rr", 600, 2)]);
    let home = node.open(5);
    node.answer(home, 5, TcpFlags { rst: true, ..TcpFlags::ACK });
    assert_eq!(node.syn(5), IpvsVerdict::Translate { to: home, new: false });
    assert_eq!(node.state.conn_count(), 2);
}

#[test]
fn a_service_for_all_ports_needs_persistence_and_keeps_the_port() {
    let all =
        |persistence_seconds| VirtualServer { port: 0, persistence_seconds, ..server("rr", Proto::Tcp, 2) };
    assert_eq!(Node::new(&[all(None)]).syn(5), IpvsVerdict::NoDestination);
    let mut node = Node::new(&[all(Some(600))]);
    let to = |port: u16, packet: Packet| Packet { dport: port, ..packet };
    let first = node.send(to(80, syn(5)));
    let second = node.send(to(443, syn(5)));
    let at = |port| SocketAddr::from(([10, 244, 0, 2], port));
    assert_eq!(first, IpvsVerdict::Translate { to: at(80), new: true });
    assert_eq!(second, IpvsVerdict::Translate { to: at(443), new: true });
    assert_eq!(node.state.template_count(), 1);
    assert_eq!(node.answer(at(443), 5, TcpFlags::SYN_ACK), Some(SocketAddr::from((VIP, 443))));
}

#[test]
fn on_an_ftp_services_address_other_ports_without_a_server_are_left_to_the_node() {
    let ftp = VirtualServer { port: 21, ..server("rr", Proto::Tcp, 0) };
    let mut node = Node::new(&[ftp]);
    assert_eq!(node.send(Packet { dport: 21, ..syn(5) }), IpvsVerdict::NoDestination);
    assert_eq!(node.send(Packet { dport: 4_000, ..syn(5) }), IpvsVerdict::NotAService);
}
