//! How the walk goes: order of checks, jumps, gotos, returns, and packets that it drops.

use super::*;
use sim_core::classify::{Detail, TcpFlags, Unit};

/// FORWARD is chain 0; user chains follow from 3 on, in the order of their lines.
fn table(lines: &str) -> String {
    format!("*filter\n:FORWARD DROP [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{lines}COMMIT\n")
}

fn fragment(fragment: u16) -> Packet {
    Packet { detail: Detail { fragment, ..Detail::ORDINARY }, ..syn() }
}

fn truncated() -> Packet {
    Packet { detail: Detail { truncated: true, ..Detail::ORDINARY }, ..syn() }
}

#[test]
fn a_chain_gone_to_returns_to_where_its_caller_was_called_from() {
    let lines = ":A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j ACCEPT\n-A A -g B\n-A A -j DROP\n-A B -p tcp\n";
    let outcome = Node::new(&table(lines)).send(Hook::Forward, syn());
    // FORWARD's jump, A's goto, B's rule, B's closing RETURN, then FORWARD's second rule; never A's second.
    assert_eq!(outcome.matched(), [(0, 0), (3, 0), (4, 0), (4, 1), (0, 1)]);
    assert_eq!(outcome.verdict, HookVerdict::Accept);
    assert_eq!((outcome.work[Unit::Jumps], outcome.work[Unit::Returns]), (2, 1));
}

#[test]
fn a_goto_from_a_built_in_chain_ends_at_its_policy() {
    for last in ["-A B -j RETURN\n", ""] {
        let lines = format!(":B - [0:0]\n-A FORWARD -g B\n-A FORWARD -j ACCEPT\n{last}");
        let outcome = Node::new(&table(&lines)).send(Hook::Forward, syn());
        // B's RETURN, by rule or by its end; then the policy entry, past the two rules of FORWARD.
        assert_eq!(outcome.matched(), [(0, 0), (3, 0), (0, 2)]);
        assert_eq!(outcome.verdict, HookVerdict::Drop);
    }
}

#[test]
fn return_from_a_built_in_chain_is_its_policy() {
    let outcome =
        Node::new(&table("-A FORWARD -j RETURN\n-A FORWARD -j ACCEPT\n")).send(Hook::Forward, syn());
    assert_eq!((outcome.matched(), outcome.verdict), (vec![(0, 0), (0, 2)], HookVerdict::Drop));
}

#[test]
fn a_rule_without_target_and_one_that_continues_count_and_go_on() {
    let lines = "-A FORWARD\n-A FORWARD -j LOG --log-prefix x\n-A FORWARD -j MARK --set-xmark 0x1/0xffffffff\n\
                 -A FORWARD -m mark --mark 0x1 -j ACCEPT\n";
    let outcome = Node::new(&table(lines)).send(Hook::Forward, syn());
    assert_eq!(outcome.matched(), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    assert_eq!((outcome.verdict, outcome.packet.mark), (HookVerdict::Accept, 1));
    assert_eq!(outcome.work[Unit::TargetCalls], 2);
}

#[test]
fn a_tcp_fragment_at_eight_bytes_is_dropped_and_a_later_one_does_not_match() {
    let lines =
        "-A FORWARD -s 10.9.0.0/16\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\n-A FORWARD -j ACCEPT\n";
    let mut node = Node::new(&table(lines));
    let evil = node.send(Hook::Forward, fragment(1));
    assert_eq!((evil.verdict, evil.matched()), (HookVerdict::Drop, vec![]));
    assert!(evil.steps.contains(&Step::XtMissed {
        table: 0,
        chain: super::super::ChainId(0),
        from: 0,
        to: 2
    }));
    assert_eq!((evil.work[Unit::RuleEvals], evil.work[Unit::RuleHits]), (2, 0));
    let later = node.send(Hook::Forward, fragment(185));
    assert_eq!((later.verdict, later.matched()), (HookVerdict::Accept, vec![(0, 2)]));
}

#[test]
fn a_packet_that_ends_in_its_header_is_dropped_by_the_match_that_wants_it() {
    for (rule, packet, dropped) in [
        ("-p tcp -m tcp --dport 80", truncated(), true),
        ("-p tcp -m tcp --syn", truncated(), true),
        ("-p udp -m udp --dport 80", truncated(), false),
        (
            "-p udp -m udp --dport 80",
            Packet { proto: Proto::Udp, flags: TcpFlags::NONE, ..truncated() },
            true,
        ),
        (
            "-p udp -m udp --dport 80",
            Packet { proto: Proto::Udp, flags: TcpFlags::NONE, ..fragment(1) },
            false,
        ),
        (
            "-p sctp -m sctp --dport 80",
            Packet { proto: Proto::Sctp, flags: TcpFlags::NONE, ..truncated() },
            true,
        ),
        ("-p tcp -m multiport --dports 80", truncated(), true),
        ("-p tcp -m multiport --dports 80", fragment(1), false),
        (
            "-p icmp -m icmp --icmp-type 8",
            Packet { proto: Proto::Icmp, flags: TcpFlags::NONE, ..truncated() },
            true,
        ),
        // Whoever does not look at the header lets it pass.
        ("-p tcp", truncated(), false),
    ] {
        let outcome = Node::new(&one(rule)).send(Hook::Forward, packet);
        assert_eq!(outcome.verdict == HookVerdict::Drop, dropped, "{rule}: {packet:?}");
    }
}

#[test]
fn matches_run_in_their_order_until_one_fails() {
    let outcome = |rule: &str| Node::new(&one(rule)).send(Hook::Forward, syn());
    let first = outcome("-m mark --mark 0x1 -m limit --limit 1/sec -m comment --comment x");
    assert_eq!(
        (first.work[Unit::MatchMark], first.work[Unit::MatchOther], first.work[Unit::MatchComment]),
        (1, 0, 0)
    );
    let second =
        outcome("-m comment --comment x -m limit --limit 1/sec -m mark --mark 0x1 -m comment --comment y");
    assert_eq!(
        (second.work[Unit::MatchMark], second.work[Unit::MatchOther], second.work[Unit::MatchComment]),
        (1, 1, 1)
    );
    // Of a rule whose protocol fails no match runs.
    let none = outcome("-p udp -m comment --comment x");
    assert_eq!((none.work[Unit::MatchComment], none.work[Unit::RuleIpHits]), (0, 1));
}

#[test]
fn jumps_nest_as_deep_as_there_are_chains() {
    let depth = 500;
    let mut lines: String = (0..depth).map(|n| format!(":C{n:03} - [0:0]\n")).collect();
    lines += "-A FORWARD -j C000\n-A FORWARD -j ACCEPT\n";
    lines.extend((1..depth).map(|n| format!("-A C{:03} -j C{n:03}\n", n - 1)));
    let outcome = Node::new(&table(&lines)).send(Hook::Forward, syn());
    assert_eq!(outcome.verdict, HookVerdict::Accept);
    assert_eq!((outcome.work[Unit::Jumps], outcome.work[Unit::Returns]), (depth, depth));
}

/// Raw packets of Linux 6.18 through OUTPUT, with the counters of its rules afterwards.
#[test]
fn malformed_packets_match_and_are_dropped_as_in_the_kernel() {
    let rules = "-p tcp -f\n-p tcp ! -f\n-p tcp -m tcp --dport 80\n-p tcp -m multiport --dports 80\n\
                 -p tcp -m tcp --tcp-flags SYN SYN\n-p udp -m udp --dport 80\n-p icmp -m icmp --icmp-type 8\n\
                 -p icmp -m icmp ! --icmp-type 8\n-p icmp -m icmp --icmp-type any\n-m comment --comment last";
    let rules: String = rules.lines().map(|rule| format!("-A OUTPUT {rule}\n")).collect();
    let text = format!("*filter\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n");
    let icmp = Detail { icmp: (8, 0), ..Detail::ORDINARY };
    let cut = |detail: Detail| Detail { truncated: true, ..detail };
    let at = |fragment, detail: Detail| Detail { fragment, ..detail };
    let whole = Detail::ORDINARY;
    for (what, proto, detail, matched, verdict) in [
        ("syn", Proto::Tcp, whole, &[1, 2, 3, 4, 9][..], HookVerdict::Accept),
        ("fragment at 8 bytes", Proto::Tcp, at(1, whole), &[0], HookVerdict::Drop),
        ("fragment at 72 bytes", Proto::Tcp, at(9, whole), &[0, 9], HookVerdict::Accept),
        ("8 bytes of TCP", Proto::Tcp, cut(whole), &[1], HookVerdict::Drop),
        ("4 bytes of UDP", Proto::Udp, cut(whole), &[], HookVerdict::Drop),
        ("UDP fragment at 8 bytes", Proto::Udp, at(1, whole), &[9], HookVerdict::Accept),
        ("1 byte of ICMP", Proto::Icmp, cut(icmp), &[], HookVerdict::Drop),
        ("echo request", Proto::Icmp, icmp, &[6, 8, 9], HookVerdict::Accept),
        ("ICMP fragment at 24 bytes", Proto::Icmp, at(3, icmp), &[9], HookVerdict::Accept),
    ] {
        let sent = Packet { detail, ..packet(proto, 1000, 80) };
        let outcome = Node::new(&text).send(Hook::Output, sent);
        let of_rules: Vec<u32> =
            outcome.matched().into_iter().map(|(_, rule)| rule).filter(|&r| r < 10).collect();
        assert_eq!((&*of_rules, outcome.verdict), (matched, verdict), "{what}");
    }
}
