//! What the kernel refuses, as it was seen to on Linux 6.18 with iptables 1.8.9, and what is only text here.

use super::*;
use crate::kernel::xtables::{CompileError, CompileOptions, Policy, Problem, Target};

fn compile(text: &str) -> Result<Compiled, CompileError> {
    let family = if text.contains("::") { Family::Ipv6 } else { Family::Ipv4 };
    Compiled::new(&tables(text, family), &sets())
}

#[track_caller]
fn error(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_loop_is_refused_where_packets_get_to_it() {
    let chains = "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n";
    for (rules, told) in [
        ("-A INPUT -j A\n-A A -j A\n", "chain A, rule 1: a jump to A"),
        ("-A INPUT -j A\n-A A -p tcp\n-A A -j B\n-A B -j A\n", "chain B, rule 1: a jump to A"),
        ("-A INPUT -g A\n-A A -g B\n-A B -g A\n", "chain B, rule 1: a jump to A"),
        // After a rule that ends every walk, too: the kernel looks at every rule.
        ("-A INPUT -j A\n-A A -j ACCEPT\n-A A -j A\n", "chain A, rule 2: a jump to A"),
    ] {
        let text = format!("{chains}{rules}COMMIT\n");
        let error = error(&text);
        assert!(error.starts_with("table filter, ") && error.contains(told), "{rules}: {error}");
    }
    for rules in
        ["-A A -j A\n", "-A A -j B\n-A B -j A\n", "-A INPUT -j A\n-A INPUT -j A\n-A A -j B\n-A INPUT -j B\n"]
    {
        assert!(compile(&format!("{chains}{rules}COMMIT\n")).is_ok(), "{rules}");
    }
}

#[test]
fn a_jump_must_lead_to_a_user_chain_that_is_there() {
    let base = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n-A A -j OUTPUT\nCOMMIT\n";
    assert!(error(base).contains("OUTPUT is a built-in chain"), "{}", error(base));
    let mut tables = tables(base, Family::Ipv4);
    tables[0].chains[2].rules[0].target = Some(Target::Jump(super::super::ChainId(7)));
    let error = Compiled::new(&tables, &sets()).unwrap_err();
    assert_eq!(error.problem, Problem::NoSuchChain { to: 7, chains: 3 });
}

#[test]
fn extensions_stand_where_they_work() {
    for (table, rule, told) in [
        ("nat", "-A PREROUTING -j REJECT", "table filter only"),
        ("filter", "-A INPUT -p tcp -j DNAT --to-destination 1.2.3.4:80", "table nat only"),
        ("nat", "-A POSTROUTING -p tcp -j DNAT --to-destination 1.2.3.4:80", "PREROUTING or OUTPUT"),
        ("nat", "-A POSTROUTING -j DNAT --to-destination 1.2.3.4", "PREROUTING or OUTPUT"),
        ("nat", "-A PREROUTING -j MASQUERADE", "POSTROUTING"),
        ("nat", "-A PREROUTING -j SNAT --to-source 1.2.3.4", "POSTROUTING or INPUT"),
        ("nat", "-A OUTPUT -j A\n-A A -j MASQUERADE", "chain A, rule 1"),
        ("nat", "-A PREROUTING -j DNAT --to-destination 1.2.3.4:80-90", "it needs -p"),
        ("nat", "-A POSTROUTING -j MASQUERADE --to-ports 80", "it needs -p"),
        ("filter", "-A INPUT -j REJECT --reject-with tcp-reset", "-p tcp"),
        ("filter", "-A INPUT -m tcp --dport 5", "-p tcp"),
        ("filter", "-A INPUT ! -p tcp -m tcp --dport 5", "-p tcp"),
        ("filter", "-A INPUT -m udp --dport 5", "-p udp"),
        ("filter", "-A INPUT -m multiport --dports 1", "-p tcp or -p udp or"),
        ("filter", "-A INPUT -p tcp -m icmp --icmp-type 8", "-p icmp"),
        ("filter", "-A INPUT -j CT --notrack", "table raw only"),
        ("filter", "-A INPUT -m rpfilter", "raw and mangle only"),
        ("raw", "-A OUTPUT -m rpfilter", "PREROUTING"),
        ("filter", "-A INPUT -j TRACE", "table raw only"),
        ("filter", "-A INPUT -j CHECKSUM --checksum-fill", "table mangle only"),
        ("filter", "-A INPUT -j NOTRACK", "table raw only"),
        ("filter", "-A INPUT -j TTL --ttl-set 30", "table mangle only"),
        ("mangle", "-A INPUT -p tcp -j TCPMSS --set-mss 30", "SYN packets only"),
        (
            "mangle",
            "-A PREROUTING -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
            "FORWARD or OUTPUT or POSTROUTING",
        ),
        ("filter", "-A INPUT -m recent --set --seconds 5 --name X", "--set and --remove"),
        ("filter", "-A INPUT -m limit --limit 1/day --limit-burst 10000", "overflow"),
        ("filter", "-A OUTPUT -m physdev --physdev-out eth0", "bridged packets only"),
        ("filter", "-A OUTPUT -m addrtype --dst-type LOCAL --limit-iface-in", "OUTPUT and POSTROUTING"),
        ("filter", "-A INPUT -m addrtype --dst-type LOCAL --limit-iface-out", "PREROUTING and INPUT"),
        ("filter", "-A INPUT -m set --match-set NOPE src", "set NOPE does not exist"),
        ("filter", "-A INPUT -m set --match-set NOPE src --return-nomatch", "set NOPE does not exist"),
    ] {
        let error = error(&format!("*{table}\n:A - [0:0]\n{rule}\nCOMMIT\n"));
        assert!(error.contains(told), "{rule}: {error}");
    }
    for (table, rule) in [
        // No packet gets to A, so that no hook forbids it.
        ("nat", "-A A -j DNAT --to-destination 1.2.3.4"),
        ("filter", "-A INPUT -j CONNMARK --set-mark 1"),
        ("filter", "-A INPUT -j MARK --set-mark 1"),
        ("filter", "-A INPUT -m physdev --physdev-out eth0"),
        ("filter", "-A INPUT -m recent --rcheck --hitcount 300 --name X"),
        ("filter", "-A INPUT -m limit"),
        ("nat", "-A INPUT -j SNAT --to-source 1.2.3.4"),
        ("raw", "-A PREROUTING -j NOTRACK"),
    ] {
        let text = format!("*{table}\n:A - [0:0]\n{rule}\nCOMMIT\n");
        assert!(compile(&text).is_ok(), "{rule}: {:?}", compile(&text).err());
    }
}

#[test]
fn an_extension_that_is_only_text_is_named_and_decides_nothing_if_allowed() {
    let text = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m owner --uid-owner 0 -j DROP\n\
                -A FORWARD -p tcp -j CLASSIFY --set-class 0001:0001\n-A FORWARD -s 10.0.0.1/255.0.255.0 -j DROP\n\
                -A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n";
    let error = compile(text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "table filter, chain FORWARD, rule 1: what owner does is not modelled: -m owner --uid-owner 0"
    );
    let options = CompileOptions { allow_opaque: true };
    let compiled = Compiled::with(&tables(text, Family::Ipv4), &sets(), options).unwrap();
    let warnings: Vec<String> = compiled.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "table filter, chain FORWARD, rule 1: what owner does is not modelled, taken not to match: -m owner --uid-owner 0",
            "table filter, chain FORWARD, rule 2: what CLASSIFY does is not modelled, the packet goes on: -j CLASSIFY --set-class 0001:0001",
            "table filter, chain FORWARD, rule 3: what -s does is not modelled, taken not to match: -s 10.0.0.1/255.0.255.0",
        ]
    );
    let mut node = Node { compiled, ..Node::new(&one("")) };
    let outcome = node.send(Hook::Forward, syn());
    assert_eq!((outcome.matched(), outcome.verdict), (vec![(0, 1), (0, 3)], HookVerdict::Accept));
    assert_eq!(node.compiled.tables.len(), 1);
    assert_eq!(tables(text, Family::Ipv4)[0].chains[0].base.map(|(_, policy)| policy), Some(Policy::Drop));
}

#[test]
fn a_limit_is_refused_where_32_bits_overflow_as_the_kernel_at_250_ticks_a_second_did() {
    for (rate, taken, refused) in [
        ("1/day", &[1, 3][..], &[2, 4, 5, 10, 50, 100, 300, 1000][..]),
        ("2/day", &[1, 2, 3, 5, 300, 1000], &[4, 10, 50, 100]),
        ("1/hour", &[1, 2, 3, 4, 5, 10, 50, 100, 300, 1000], &[0]),
    ] {
        for (bursts, expected) in [(taken, true), (refused, false)] {
            for burst in bursts {
                let rule = format!("-m limit --limit {rate} --limit-burst {burst}");
                assert_eq!(compile(&one(&rule)).is_ok(), expected, "{rule}");
            }
        }
    }
}
