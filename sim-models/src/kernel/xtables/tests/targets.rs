//! What each target does to a packet, its connection and the walk.

use super::*;
use crate::kernel::hook::{CtState, NatRange, NatTo};
use sim_core::classify::{Detail, TcpFlags};

const ALL: &str =
    ":PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n";

/// The rule in a chain of a table; a second one drops what goes on.
fn run(
    table: &str,
    hook: Hook,
    rule: &str,
    packet: Packet,
    change: impl FnOnce(&mut PacketCx<'_>),
) -> Outcome {
    let chains = match table {
        "filter" => ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n",
        "raw" => ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n",
        _ => ALL,
    };
    let chain = hook.chain_name();
    let text = format!("*{table}\n{chains}-A {chain} {rule}\nCOMMIT\n");
    Node::of(&text, packet.family()).send_at(0, hook, packet, change)
}

#[test]
fn connmark_moves_marks_between_the_packet_and_its_connection() {
    for (rule, packet_mark, ct_mark, expected) in [
        ("--set-xmark 0x5/0xffffffff", 0x10, 0x3, (0x10, 0x5)),
        ("--or-mark 0x4", 0x10, 0x3, (0x10, 0x7)),
        ("--and-mark 0x1", 0x10, 0x3, (0x10, 0x1)),
        ("--xor-mark 0x1", 0x10, 0x3, (0x10, 0x2)),
        ("--save-mark", 0x10, 0x3, (0x10, 0x10)),
        ("--save-mark --nfmask 0xf0 --ctmask 0xf", 0x12, 0x23, (0x12, 0x30)),
        ("--restore-mark", 0x10, 0x3, (0x3, 0x3)),
        ("--restore-mark --mask 0x1", 0x10, 0x3, (0x11, 0x3)),
        ("--restore-mark --nfmask 0xf0 --ctmask 0xff", 0x12, 0x83, (0x81, 0x83)),
    ] {
        let set = |cx: &mut PacketCx<'_>| (cx.packet.mark, cx.ct.mark) = (packet_mark, ct_mark);
        let out = run("mangle", Hook::Prerouting, &format!("-j CONNMARK {rule}"), syn(), set);
        assert_eq!((out.packet.mark, out.ct.mark), expected, "{rule}");
        let untracked = |cx: &mut PacketCx<'_>| {
            set(cx);
            cx.ct.state = CtState::Untracked;
        };
        let out = run("mangle", Hook::Prerouting, &format!("-j CONNMARK {rule}"), syn(), untracked);
        assert_eq!((out.packet.mark, out.ct.mark), (packet_mark, ct_mark), "{rule}: no connection");
    }
}

#[test]
fn a_packet_not_tracked_is_so_for_the_rules_after() {
    for rule in ["-j NOTRACK", "-j CT --notrack"] {
        let out = run("raw", Hook::Prerouting, rule, syn(), |_| {});
        assert_eq!(
            (out.notrack, out.ct.state, out.verdict),
            (true, CtState::Untracked, HookVerdict::Accept),
            "{rule}"
        );
    }
}

#[test]
fn nat_targets_ask_for_a_range_and_end_the_walk() {
    let range = NatRange {
        to: NatTo::Same,
        ports: None,
        port_base: None,
        random: false,
        random_fully: false,
        persistent: false,
    };
    let addrs = |first: [u8; 4], last: [u8; 4]| NatTo::Addrs(first.into(), last.into());
    for (hook, rule, expected) in [
        (
            Hook::Postrouting,
            "-j SNAT --to-source 1.2.3.4",
            NatRange { to: addrs([1, 2, 3, 4], [1, 2, 3, 4]), ..range },
        ),
        (
            Hook::Input,
            "-p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:1000-2000 --random --persistent",
            NatRange {
                to: addrs([1, 2, 3, 4], [1, 2, 3, 9]),
                ports: Some((1000, 2000)),
                random: true,
                persistent: true,
                ..range
            },
        ),
        (
            Hook::Postrouting,
            "-p tcp -j SNAT --to-source :7 --random-fully",
            NatRange { ports: Some((7, 7)), random_fully: true, ..range },
        ),
        (
            Hook::Postrouting,
            "-p tcp -j MASQUERADE --to-ports 1000-2000 --random-fully",
            NatRange { to: NatTo::OutDevice, ports: Some((1000, 2000)), random_fully: true, ..range },
        ),
        (
            Hook::Postrouting,
            "-j MASQUERADE --random",
            NatRange { to: NatTo::OutDevice, random: true, ..range },
        ),
        (
            Hook::Output,
            "-p tcp -j REDIRECT --to-ports 5",
            NatRange { to: NatTo::Here, ports: Some((5, 5)), ..range },
        ),
        (Hook::Prerouting, "-p tcp -j REDIRECT", NatRange { to: NatTo::Here, ..range }),
        (
            Hook::Prerouting,
            "-p tcp -j DNAT --to-destination 1.2.3.4:80-90/1080",
            NatRange {
                to: addrs([1, 2, 3, 4], [1, 2, 3, 4]),
                ports: Some((80, 90)),
                port_base: Some(1080),
                ..range
            },
        ),
        (
            Hook::Prerouting,
            "-j DNAT --to-destination 1.2.3.4",
            NatRange { to: addrs([1, 2, 3, 4], [1, 2, 3, 4]), ..range },
        ),
    ] {
        let out = run("nat", hook, rule, syn(), |_| {});
        assert_eq!((out.nat.range, out.verdict), (Some(expected), HookVerdict::Accept), "{rule}");
    }
    let out = run("nat", Hook::Prerouting, "-p tcp -j DNAT --to-destination 1.2.3.4:80", syn(), |_| {});
    assert_eq!((out.nat.range, out.nat.dnat), (None, Some("1.2.3.4:80".parse().unwrap())));
    let v6 = packet_v6(Proto::Tcp);
    let out =
        run("nat", Hook::Prerouting, "-p tcp -j DNAT --to-destination [fd00::5-fd00::6]:80", v6, |_| {});
    let to = NatTo::Addrs("fd00::5".parse().unwrap(), "fd00::6".parse().unwrap());
    assert_eq!(out.nat.range, Some(NatRange { to, ports: Some((80, 80)), ..range }));
}

#[test]
fn reject_answers_what_can_be_answered_and_drops_the_rest() {
    let reset = syn().with_flags(TcpFlags { rst: true, ..TcpFlags::ACK });
    let later = Packet { detail: Detail { fragment: 9, ..Detail::ORDINARY }, ..syn() };
    for (rule, packet, verdict) in [
        ("-p tcp -j REJECT --reject-with tcp-reset", syn(), HookVerdict::Reject),
        ("-p tcp -j REJECT --reject-with tcp-reset", reset, HookVerdict::Drop),
        ("-j REJECT --reject-with icmp-host-prohibited", reset, HookVerdict::Reject),
        ("-j REJECT --reject-with icmp-host-prohibited", later, HookVerdict::Drop),
        ("-j REJECT --reject-with admin-prohib", packet(Proto::Udp, 1, 2), HookVerdict::Reject),
    ] {
        assert_eq!(run("filter", Hook::Forward, rule, packet, |_| {}).verdict, verdict, "{rule} {packet}");
    }
}

#[test]
fn mangling_targets_change_the_header_and_go_on() {
    for (rule, ttl) in [("--ttl-set 9", 9), ("--ttl-inc 3", 67), ("--ttl-inc 255", 255), ("--ttl-dec 65", 0)]
    {
        let out = run("mangle", Hook::Prerouting, &format!("-j TTL {rule}"), syn(), |_| {});
        assert_eq!((out.packet.detail.ttl, out.verdict), (ttl, HookVerdict::Accept), "{rule}");
    }
    let out = run("mangle", Hook::Prerouting, "-j HL --hl-dec 1", packet_v6(Proto::Udp), |_| {});
    assert_eq!(out.packet.detail.ttl, 63);
    let clamp = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu";
    assert_eq!(
        run("mangle", Hook::Postrouting, clamp, syn(), |_| {}).matched().len(),
        2,
        "goes on to the policy"
    );
}

#[test]
fn what_is_logged_goes_on() {
    for rule in ["-j LOG", "-j LOG --log-prefix x --log-level debug", "-j NFLOG --nflog-group 3"] {
        let out = run("filter", Hook::Forward, rule, syn(), |_| {});
        assert_eq!((out.matched(), out.verdict), (vec![(1, 0), (1, 1)], HookVerdict::Accept), "{rule}");
    }
}
