//! What each match fits and what not, after the kernel's function for it.

use super::*;
use crate::kernel::conntrack::Tuple;
use crate::kernel::hook::{Bridged, CtState, FlowRef};
use sim_core::classify::{Detail, TcpFlags};

/// Whether the rule matches the packet on its way through.
fn fits(rule: &str, packet: Packet) -> bool {
    fits_with(rule, packet, |_| {})
}

fn fits_with(rule: &str, packet: Packet, change: impl FnOnce(&mut PacketCx<'_>)) -> bool {
    let mut node = Node::of(&one(rule), packet.family());
    node.send_at(0, Hook::Forward, packet, change).first()
}

#[track_caller]
fn rows(rows: &[(&str, Packet, bool)]) {
    for &(rule, packet, expected) in rows {
        assert_eq!(fits(rule, packet), expected, "{rule}: {packet}");
    }
}

fn with(detail: Detail) -> Packet {
    Packet { detail, ..syn() }
}

fn flags(flags: TcpFlags) -> Packet {
    syn().with_flags(flags)
}

#[test]
fn multiport_looks_at_the_ports_of_its_side() {
    let tcp = |sport, dport| packet(Proto::Tcp, sport, dport);
    rows(&[
        ("-p tcp -m multiport --dports 80,443,8000:9000", tcp(1, 80), true),
        ("-p tcp -m multiport --dports 80,443,8000:9000", tcp(80, 1), false),
        ("-p tcp -m multiport --dports 80,443,8000:9000", tcp(1, 8500), true),
        ("-p tcp -m multiport --dports 80,443,8000:9000", tcp(1, 9001), false),
        ("-p tcp -m multiport --sports 80", tcp(80, 1), true),
        ("-p tcp -m multiport --sports 80", tcp(1, 80), false),
        ("-p tcp -m multiport --ports 80", tcp(80, 1), true),
        ("-p tcp -m multiport --ports 80", tcp(1, 80), true),
        ("-p tcp -m multiport --ports 80", tcp(1, 2), false),
        ("-p tcp -m multiport ! --dports 80,443", tcp(1, 80), false),
        ("-p tcp -m multiport ! --dports 80,443", tcp(1, 81), true),
        ("-p udp -m multiport --dports 80", packet(Proto::Udp, 1, 80), true),
        (
            "-p tcp -m multiport --dports 80",
            Packet { detail: Detail { fragment: 9, ..Detail::ORDINARY }, ..tcp(1, 80) },
            false,
        ),
        (
            "-p tcp -m multiport ! --dports 80",
            Packet { detail: Detail { fragment: 9, ..Detail::ORDINARY }, ..tcp(1, 81) },
            false,
        ),
    ]);
}

#[test]
fn tcp_compares_flags_and_options() {
    let ack_psh = TcpFlags { psh: true, ..TcpFlags::ACK };
    rows(&[
        ("-p tcp --syn", syn(), true),
        ("-p tcp --syn", flags(TcpFlags::SYN_ACK), false),
        ("-p tcp ! --syn", flags(TcpFlags::SYN_ACK), true),
        ("-p tcp --tcp-flags ALL NONE", flags(TcpFlags::NONE), true),
        ("-p tcp --tcp-flags ALL NONE", syn(), false),
        ("-p tcp --tcp-flags ALL ACK,PSH", flags(ack_psh), true),
        ("-p tcp --tcp-flags ALL ACK", flags(ack_psh), false),
        ("-p tcp --tcp-flags ACK,RST ACK", flags(ack_psh), true),
        ("-p tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", flags(ack_psh), true),
        // As a packet of Linux has them: MSS on the SYN, time stamps on all.
        ("-p tcp --tcp-option 2", syn(), true),
        ("-p tcp --tcp-option 2", flags(ack_psh), false),
        ("-p tcp ! --tcp-option 2", flags(ack_psh), true),
        ("-p tcp --tcp-option 8", flags(ack_psh), true),
        ("-p tcp --sport 1000 --tcp-flags SYN SYN", syn(), true),
        ("-p tcp --sport 1001 --tcp-flags SYN SYN", syn(), false),
    ]);
}

#[test]
fn icmp_compares_type_and_code_and_255_is_any_over_ipv4() {
    let icmp = |kind, code| Packet {
        detail: Detail { icmp: (kind, code), ..Detail::ORDINARY },
        ..packet(Proto::Icmp, 0, 0)
    };
    let v6 =
        |kind| Packet { detail: Detail { icmp: (kind, 0), ..Detail::ORDINARY }, ..packet_v6(Proto::Icmpv6) };
    rows(&[
        ("-p icmp --icmp-type 8", icmp(8, 0), true),
        ("-p icmp --icmp-type echo-request", icmp(8, 3), true),
        ("-p icmp --icmp-type 8", icmp(0, 0), false),
        ("-p icmp --icmp-type 3/4", icmp(3, 4), true),
        ("-p icmp --icmp-type 3/4", icmp(3, 3), false),
        ("-p icmp ! --icmp-type 3/4", icmp(3, 3), true),
        ("-p icmp --icmp-type any", icmp(77, 7), true),
        ("-p icmp ! --icmp-type any", icmp(77, 7), false),
        ("-p icmp", icmp(77, 7), true),
        ("-p icmp --icmp-type 8", syn(), false),
        ("-p ipv6-icmp -m icmp6 --icmpv6-type 128", v6(128), true),
        ("-p icmpv6 --icmpv6-type neighbour-solicitation", v6(135), true),
        ("-p ipv6-icmp -m icmp6 --icmpv6-type 255", v6(128), false),
        ("-p 58", v6(1), true),
    ]);
}

#[test]
fn iprange_takes_both_ends_in() {
    let from = |last: u8| Packet { src: [10, 0, 0, last].into(), ..syn() };
    rows(&[
        ("-m iprange --src-range 10.0.0.2-10.0.0.9", from(1), false),
        ("-m iprange --src-range 10.0.0.2-10.0.0.9", from(2), true),
        ("-m iprange --src-range 10.0.0.2-10.0.0.9", from(9), true),
        ("-m iprange --src-range 10.0.0.2-10.0.0.9", from(10), false),
        ("-m iprange ! --src-range 10.0.0.2-10.0.0.9", from(10), true),
        ("-m iprange --dst-range 10.1.0.1-10.1.0.1", from(1), true),
        ("-m iprange --src-range 10.0.0.2-10.0.0.9 --dst-range 10.1.0.2-10.1.0.3", from(2), false),
        ("-m iprange --src-range fd00::-fd00::9", packet_v6(Proto::Tcp), true),
        ("-m iprange ! --dst-range fd00::-fd00::9", packet_v6(Proto::Tcp), false),
    ]);
}

#[test]
fn header_values_are_compared() {
    let ttl = |ttl| with(Detail { ttl, ..Detail::ORDINARY });
    let length = |length| with(Detail { length, ..Detail::ORDINARY });
    let to = |dst: [u8; 4]| Packet { dst: dst.into(), ..syn() };
    rows(&[
        ("-m ttl --ttl-lt 5", ttl(4), true),
        ("-m ttl --ttl-lt 5", ttl(5), false),
        ("-m ttl --ttl-gt 5", ttl(6), true),
        ("-m ttl --ttl-eq 5", ttl(5), true),
        ("-m ttl ! --ttl-eq 5", ttl(5), false),
        ("-m hl --hl-eq 64", packet_v6(Proto::Udp), true),
        ("-m length --length 10:20", length(20), true),
        ("-m length --length 10:20", length(21), false),
        ("-m length ! --length 10:20", length(21), true),
        ("-m length --length 100:", length(5000), true),
        ("-m pkttype --pkt-type broadcast", to([255; 4]), true),
        ("-m pkttype --pkt-type multicast", to([224, 0, 0, 1]), true),
        ("-m pkttype ! --pkt-type unicast", to([10, 0, 0, 1]), false),
    ]);
}

#[test]
fn protocols_beyond_the_ports_are_compared_by_number() {
    let of = |number| packet(Proto::from_number(number), 0, 0);
    rows(&[
        ("-p gre", of(47), true),
        ("-p esp", of(47), false),
        ("! -p esp", of(47), true),
        ("-p 99", of(99), true),
        ("-p all", of(99), true),
        ("! -p udp", syn(), true),
    ]);
}

#[test]
fn a_later_fragment_is_seen_by_f_and_by_no_match_on_ports() {
    let later = |fragment| with(Detail { fragment, ..Detail::ORDINARY });
    rows(&[
        ("-f", later(9), true),
        ("-f", syn(), false),
        ("! -f", syn(), true),
        ("! -f", later(9), false),
        ("-p tcp -f", later(9), true),
        ("-p tcp -m tcp --dport 80", later(9), false),
        ("-p tcp -m tcp ! --dport 81", later(9), false),
        ("-p tcp -m tcp", later(9), false),
    ]);
}

#[test]
fn the_state_of_a_connection_is_told() {
    let state = |rule: &str, state, dnat, snat| {
        fits_with(rule, syn(), |cx| cx.ct = CtView { state, dnat, snat, ..CtView::NEW })
    };
    for (rule, of, dnat, snat, expected) in [
        ("-m state --state NEW,UNTRACKED", CtState::Untracked, false, false, true),
        ("-m state ! --state NEW", CtState::Established, false, false, true),
        ("-m state ! --state NEW", CtState::New, false, false, false),
        ("-m conntrack --ctstate SNAT", CtState::New, false, true, true),
        ("-m conntrack --ctstate SNAT", CtState::New, true, false, false),
        ("-m conntrack ! --ctstate SNAT,DNAT", CtState::Established, true, false, false),
        ("-m conntrack --ctstate DNAT", CtState::Untracked, true, false, false),
        ("-m conntrack --ctstate UNTRACKED", CtState::Invalid, false, false, false),
        // Without a connection nothing but the state is asked.
        ("-m conntrack --ctstate INVALID --ctproto udp", CtState::Invalid, false, false, true),
        ("-m conntrack --ctproto tcp", CtState::Invalid, false, false, false),
        ("-m conntrack --ctproto tcp", CtState::New, false, false, true),
        ("-m conntrack ! --ctproto 6", CtState::New, false, false, false),
    ] {
        assert_eq!(state(rule, of, dnat, snat), expected, "{rule} {of:?}");
    }
}

#[test]
fn a_connections_tuples_are_those_before_nat_and_after() {
    // To 10.96.0.1:443, translated to this packet's 10.1.0.1:80.
    let tuple = |src: &str, dst: &str| Tuple {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: Proto::Tcp,
    };
    // What changes a packet's surroundings may do so for any lifetime.
    let original: &'static Tuple = Box::leak(Box::new(tuple("10.0.0.1:1000", "10.96.0.1:443")));
    let reply: &'static Tuple = Box::leak(Box::new(tuple("10.1.0.1:80", "10.0.0.1:1000")));
    for (rule, expected) in [
        ("--ctorigdst 10.96.0.1 --ctorigdstport 443", true),
        ("--ctorigdst 10.1.0.1", false),
        ("! --ctorigdst 10.96.0.0/12", false),
        ("--ctorigsrc 10.0.0.0/8 --ctorigsrcport 1:1000", true),
        ("--ctreplsrc 10.1.0.1 --ctreplsrcport 80", true),
        ("! --ctreplsrcport 80:90", false),
        ("--ctrepldst 10.0.0.1 --ctrepldstport 999", false),
        ("--ctdir ORIGINAL", true),
        ("--ctdir REPLY", false),
        ("--ctstatus CONFIRMED", false),
        ("! --ctstatus ASSURED,CONFIRMED", true),
        ("--ctstatus NONE", false),
        ("--ctexpire 1:100", false),
        ("--ctexpire 0", true),
    ] {
        let rule = format!("-m conntrack {rule}");
        let flow = Some(FlowRef { original, reply, conn: None });
        assert_eq!(fits_with(&rule, syn(), |cx| cx.flow = flow), expected, "{rule}");
    }
}

#[test]
fn a_connections_mark_is_compared_where_there_is_a_connection() {
    let fits =
        |rule: &str, state, mark| fits_with(rule, syn(), |cx| cx.ct = CtView { state, mark, ..CtView::NEW });
    assert!(fits("-m connmark --mark 0x1/0xff", CtState::New, 0x301));
    assert!(!fits("-m connmark --mark 0x1", CtState::New, 0x301));
    assert!(fits("-m connmark ! --mark 0x1", CtState::Established, 0x301));
    assert!(!fits("-m connmark ! --mark 0x1", CtState::Untracked, 0x301));
}

#[test]
fn physdev_without_a_bridge_holds_only_what_is_negated() {
    let port = |in_port, out_port| Some(Bridged { in_port, out_port });
    for (rule, bridge, expected) in [
        ("--physdev-is-in", None, false),
        ("! --physdev-is-in", None, true),
        ("--physdev-in veth+", None, false),
        ("! --physdev-in veth+", None, true),
        ("! --physdev-is-bridged ! --physdev-is-out", None, true),
        ("! --physdev-is-bridged --physdev-is-in", None, false),
        ("--physdev-is-in", port(Some("veth1"), None), true),
        ("! --physdev-is-in", port(Some("veth1"), None), false),
        ("--physdev-in veth+", port(Some("veth1"), None), true),
        ("--physdev-in veth", port(Some("veth1"), None), false),
        ("! --physdev-in veth2", port(Some("veth1"), None), true),
        ("--physdev-is-bridged", port(Some("veth1"), None), false),
        ("--physdev-is-bridged", port(Some("veth1"), Some("veth2")), true),
        ("--physdev-out veth2 --physdev-is-bridged", port(Some("veth1"), Some("veth2")), true),
        ("--physdev-out veth3 --physdev-is-bridged", port(Some("veth1"), Some("veth2")), false),
        ("! --physdev-out veth3", port(Some("veth1"), None), false),
        ("! --physdev-is-out", port(Some("veth1"), None), true),
    ] {
        let rule = format!("-m physdev {rule}");
        assert_eq!(fits_with(&rule, syn(), |cx| cx.bridge = bridge), expected, "{rule} {bridge:?}");
    }
}

#[test]
fn types_of_addresses_are_any_of_the_list_over_ipv4_and_all_of_it_over_ipv6() {
    let to = |dst: &str| {
        let dst: IpAddr = dst.parse().unwrap();
        let src: IpAddr =
            if dst.is_ipv4() { "10.0.0.1".parse().unwrap() } else { "fd00::9".parse().unwrap() };
        Packet::tcp_syn(src, 1, dst, 80)
    };
    rows(&[
        ("-m addrtype --dst-type LOCAL,UNICAST", to(NODE), true),
        ("-m addrtype --dst-type LOCAL,UNICAST", to("8.8.8.8"), true),
        ("-m addrtype --dst-type UNICAST", to(NODE), false),
        ("-m addrtype --dst-type MULTICAST", to("224.0.0.251"), true),
        ("-m addrtype --dst-type BROADCAST", to("255.255.255.255"), true),
        ("-m addrtype --dst-type BROADCAST", to("0.0.0.0"), true),
        ("-m addrtype ! --dst-type UNICAST,LOCAL", to("224.0.0.251"), true),
        ("-m addrtype --src-type LOCAL --dst-type LOCAL", to(NODE), false),
        ("-m addrtype ! --src-type LOCAL --dst-type LOCAL", to(NODE), true),
        // A virtual address is on kube-ipvs0 and the packet leaves by veth0.
        ("-m addrtype --dst-type LOCAL", to("10.96.0.1"), true),
        ("-m addrtype --dst-type LOCAL --limit-iface-out", to("10.96.0.1"), false),
        ("-m addrtype --dst-type LOCAL --limit-iface-in", to(NODE), true),
        ("-m addrtype --dst-type LOCAL --limit-iface-in", to("127.0.0.1"), false),
        ("-m addrtype --dst-type LOCAL,UNICAST", to("fd00:1::1"), true),
        ("-m addrtype --dst-type LOCAL,UNICAST", to("fd00:2::1"), false),
        ("-m addrtype --dst-type UNICAST", to("fd00:1::1"), true),
        ("-m addrtype --dst-type MULTICAST", to("ff02::1"), true),
        ("-m addrtype --dst-type MULTICAST,UNICAST", to("ff02::1"), false),
    ]);
}

#[test]
fn a_set_with_networks_asked_for_its_exceptions_has_none() {
    rows(&[
        ("-m set --match-set PORTS dst,dst --return-nomatch", syn(), true),
        ("-m set --match-set NETS dst,dst,src ! --update-counters", syn(), true),
        ("-m set --match-set NETS dst,dst,src --return-nomatch", syn(), false),
        ("-m set ! --match-set NETS dst,dst,src --return-nomatch", syn(), true),
    ]);
}

#[test]
fn a_limit_lets_its_burst_through_and_then_its_rate() {
    let mut node = Node::new(&one("-m limit --limit 10/sec --limit-burst 3"));
    let mut at = |ms| node.send_at(ms, Hook::Forward, syn(), |_| {}).first();
    assert_eq!([0, 0, 0, 0].map(&mut at), [true, true, true, false]);
    // A tenth of a second for the next; credits left over count.
    assert_eq!([60, 99, 100, 160, 200].map(&mut at), [false, false, true, false, true]);
    // After a pause, the burst again and no more.
    assert_eq!([60_000; 4].map(&mut at), [true, true, true, false]);
}

#[test]
fn a_limit_over_hours_counts_in_32_bits_without_overflow() {
    let mut node = Node::new(&one("-m limit --limit 3/hour --limit-burst 1"));
    let mut at = |s: u64| node.send_at(s * 1000, Hook::Forward, syn(), |_| {}).first();
    assert_eq!([0, 1199, 1201, 2000, 400_000_000].map(&mut at), [true, false, true, false, true]);
}

#[test]
fn every_nth_packet_matches_from_the_first_that_is_said() {
    for (rule, expected) in [
        ("--every 3 --packet 0", [true, false, false, true, false, false]),
        ("--every 3 --packet 2", [false, false, true, false, false, true]),
        ("! --every 3 --packet 1", [true, false, true, true, false, true]),
        ("--every 1 --packet 0", [true; 6]),
    ] {
        let mut node = Node::new(&one(&format!("-m statistic --mode nth {rule}")));
        assert_eq!([(); 6].map(|()| node.send(Hook::Forward, syn()).first()), expected, "{rule}");
    }
}

#[test]
fn a_negated_chance_draws_once_and_takes_the_rest() {
    for (probability, expected) in [("0.0", true), ("1.0", false)] {
        let mut node = Node::new(&one(&format!("-m statistic --mode random ! --probability {probability}")));
        let outcome = node.send(Hook::Forward, syn());
        assert_eq!(outcome.first(), expected);
        assert_eq!(outcome.work[sim_core::classify::Unit::RngU32], 1);
    }
}

#[test]
fn recent_guards_a_port_by_the_packets_of_a_minute() {
    // What many nodes have for ssh: the fourth new connection within a minute is dropped.
    let text = "*filter\n:INPUT ACCEPT [0:0]\n\
                -A INPUT -p tcp -m tcp --dport 22 -m recent --update --seconds 60 --hitcount 4 --name SSH -j DROP\n\
                -A INPUT -p tcp -m tcp --dport 22 -m recent --set --name SSH -j ACCEPT\nCOMMIT\n";
    let mut node = Node::new(text);
    let ssh = packet(Proto::Tcp, 1, 22);
    let mut at =
        |second: u64| node.send_at(second * 1000, Hook::Input, ssh, |_| {}).verdict == HookVerdict::Drop;
    // Four are noted; from then on each that is dropped is noted too, until a minute is quiet.
    assert_eq!(
        [0, 1, 2, 3, 4, 50, 55, 58, 120].map(&mut at),
        [false, false, false, false, true, true, true, true, false]
    );
}

#[test]
fn only_an_address_of_this_node_fails_to_lead_back() {
    for (rule, src, expected) in [
        ("-m rpfilter --validmark --invert", "10.0.0.1", false),
        ("-m rpfilter", "10.0.0.1", true),
        ("-m rpfilter", NODE, false),
        ("-m rpfilter --accept-local", NODE, true),
        ("-m rpfilter --loose --invert", NODE, true),
    ] {
        let text = format!("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING {rule}\nCOMMIT\n");
        let packet = Packet { src: src.parse().unwrap(), ..syn() };
        assert_eq!(Node::new(&text).send(Hook::Prerouting, packet).first(), expected, "{rule} {src}");
    }
}
