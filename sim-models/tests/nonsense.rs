//! Rules that make no sense: what the kernel or its tools refuse is refused, with words that say what is wrong, and what
//! they take has an end.

use sim_core::classify::{Family, Packet, Proto, TcpFlags, Verdict};
use sim_core::units::SimTime;
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::proxy::mode;
use std::net::IpAddr;

/// The rules compiled, or what is said against them, by the reader with its place or by the compiler.
fn compiled(mode_name: &str, text: &str) -> Result<Stack, String> {
    let dumps = mode(mode_name).and_then(|mode| mode.dumps()).expect("a mode");
    let rules = dumps.read(text, Family::Ipv4).map_err(|error| error.to_string())?;
    if let Some(table) = &rules.nftables {
        table.validate()?;
    }
    Stack::new(&rules, 1).map_err(|error| error.to_string())
}

/// Table filter with these lines after its built-in chains and chains A and B.
fn filter(rules: &str) -> String {
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n{rules}\nCOMMIT\n"
    )
}

/// kube-proxy's table with these lines.
fn nft(lines: &str) -> String {
    format!(
        "table ip kube-proxy {{\n\tchain nat-prerouting {{\n\t\ttype nat hook prerouting priority dstnat; policy \
         accept;\n\t\tjump services\n\t}}\n\n\tchain services {{\n{lines}\t}}\n}}\n"
    )
}

#[test]
fn nonsense_is_refused_in_words_that_say_what_is_wrong() {
    let deep: String = (0..20).map(|n| format!("\tchain c{n} {{\n\t\tjump c{}\n\t}}\n\n", n + 1)).collect();
    let deep = format!(
        "table ip kube-proxy {{\n\tchain in {{\n\t\ttype filter hook input priority filter; policy accept;\n\
         \t\tjump c0\n\t}}\n\n{deep}\tchain c20 {{\n\t\tdrop\n\t}}\n}}\n"
    );
    let rows: [(&str, &str, String, &[&str]); 18] = [
        ("a missing chain", "iptables", filter("-A FORWARD -j NOWHERE"), &["NOWHERE"]),
        ("a rule in a missing chain", "iptables", filter("-A NOWHERE -j DROP"), &["NOWHERE"]),
        (
            "probability 7",
            "iptables",
            filter("-A FORWARD -m statistic --mode random --probability 7 -j DROP"),
            &["7"],
        ),
        (
            "a negative probability",
            "iptables",
            filter("-A FORWARD -m statistic --mode random --probability -0.5 -j DROP"),
            &["-0.5"],
        ),
        (
            "a set that is not there",
            "iptables",
            filter("-A FORWARD -m set --match-set none dst -j DROP"),
            &["none"],
        ),
        ("a truncated rule", "iptables", filter("-A FORWARD -d"), &["-d"]),
        ("a truncated match", "iptables", filter("-A FORWARD -p tcp -m tcp --dport"), &["--dport"]),
        ("a truncated target", "iptables", filter("-A FORWARD -j"), &["-j"]),
        ("no such address", "iptables", filter("-A FORWARD -d 10.0.0.256/32 -j DROP"), &["10.0.0.256"]),
        ("no such mask", "iptables", filter("-A FORWARD -d 10.0.0.1/33 -j DROP"), &["10.0.0.1/33"]),
        (
            "an address of the other family",
            "iptables",
            filter("-A FORWARD -d fd00::1/128 -j DROP"),
            &["fd00::1"],
        ),
        ("no such port", "iptables", filter("-A FORWARD -p tcp -m tcp --dport 65536 -j DROP"), &["65536"]),
        ("a missing chain", "nftables", nft("\t\tgoto nowhere\n"), &["nowhere"]),
        ("a missing map", "nftables", nft("\t\tip daddr . meta l4proto . th dport vmap @none\n"), &["none"]),
        ("a loop", "nftables", nft("\t\tjump services\n"), &["loop"]),
        ("jumps too deep", "nftables", deep, &["too many links"]),
        ("a truncated rule", "nftables", nft("\t\tip daddr\n"), &["ip daddr"]),
        (
            "a truncated table",
            "nftables",
            "table ip kube-proxy {\n\tchain services {\n".to_owned(),
            &["never closed"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, mode, text, parts) in rows {
        match compiled(mode, &text) {
            Ok(_) => wrong.push(format!("{mode}: {what}: it is taken")),
            Err(said) => {
                if !parts.iter().all(|part| said.contains(part)) {
                    wrong.push(format!("{mode}: {what}: {parts:?} is not in: {said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What becomes of a packet, with each of the three ways in.
fn fates(stack: &Stack, packet: Packet) -> [Verdict; 3] {
    let node: IpAddr = "192.168.0.2".parse().unwrap();
    [Origin::Pod, Origin::Wire, Origin::Host].map(|origin| {
        let mut state = NodeState::new(1, "node", 1, &[node]);
        cross(stack, &mut state, packet, origin, SimTime::ZERO).verdict
    })
}

/// The kernel refuses a loop (`ip_tables.c:mark_source_chains`). Whoever takes it runs out of places to come back to,
/// where the kernel's walk drops the packet (`ipt_do_table`): either way there is an end.
#[test]
fn a_loop_of_jumps_has_an_end() {
    let loops = [
        "-A FORWARD -j A\n-A A -j B\n-A B -j A",
        "-A FORWARD -j A\n-A A -j A",
        "-A FORWARD -j A\n-A A -p udp -j A\n-A A -j B\n-A B -p tcp -j A",
    ];
    let syn = Packet::tcp_syn("10.244.0.9".parse().unwrap(), 40_000, "10.244.1.9".parse().unwrap(), 80);
    for rules in loops {
        match compiled("iptables", &filter(rules)) {
            Err(said) => assert!(said.contains("loop"), "{rules}: {said}"),
            Ok(stack) => assert_eq!(fates(&stack, syn)[0], Verdict::Drop, "{rules}"),
        }
    }
}

/// Packets that no client sends: another protocol, no ports, no flags, from and to the same address.
#[test]
fn strange_packets_go_through_or_are_dropped() {
    let nat = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 0 -j DNAT --to-destination 10.244.1.9:80
-A PREROUTING -d 10.96.0.1/32 -p udp -m udp --dport 80 -j DNAT --to-destination 10.244.1.9:80
COMMIT
";
    let stack = compiled("iptables", nat).expect("rules that are right");
    let [vip, pod]: [IpAddr; 2] = ["10.96.0.1", "10.244.0.9"].map(|addr| addr.parse().unwrap());
    let to: std::net::SocketAddr = "10.244.1.9:80".parse().unwrap();
    let none = TcpFlags::default();
    let syn = Packet::tcp_syn(pod, 40_000, vip, 0);
    let icmp = Packet { proto: Proto::Icmp, sport: 0, dport: 0, flags: none, ..syn };
    assert_eq!(fates(&stack, icmp)[0], Verdict::Accept);
    let udp = Packet { proto: Proto::Udp, sport: 0, dport: 80, flags: none, ..syn };
    assert_eq!(fates(&stack, udp)[0], Verdict::Dnat { to, masquerade: false });
    assert_eq!(fates(&stack, Packet { dport: 81, ..udp })[1], Verdict::Accept);
    assert_eq!(fates(&stack, Packet { proto: Proto::Sctp, ..udp })[2], Verdict::Accept);
    for flags in [none, TcpFlags::ACK, TcpFlags::SYN_ACK, TcpFlags::FIN_ACK, TcpFlags { rst: true, ..none }] {
        for packet in [syn.with_flags(flags), Packet { src: vip, ..syn.with_flags(flags) }] {
            // Whatever the flags say: no rule here refuses.
            for verdict in fates(&stack, packet) {
                assert!(!matches!(verdict, Verdict::Reject), "{packet}: {verdict:?}");
            }
        }
    }
}
