//! Single lines, what is wrong with them, and what restore input may say in other words.

use super::*;
use crate::kernel::xtables::{Match, Test};
use sim_core::classify::Proto;

/// The filter table with one rule in chain INPUT.
fn one(rule: &str, family: Family) -> Result<Saved, ReadError> {
    parse(&format!("*filter\n:INPUT ACCEPT [0:0]\n:TO - [0:0]\n-A INPUT {rule}\nCOMMIT\n"), family)
}

/// The rule as it is printed again.
fn again(rule: &str, family: Family) -> String {
    let saved = one(rule, family).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let text = saved.print();
    text.lines().nth(3).unwrap().strip_prefix("-A INPUT").unwrap().trim_start().to_owned()
}

#[test]
fn every_option_that_is_typed_is_printed_as_it_was() {
    for rule in [
        "",
        "! -s 10.1.0.0/16 ! -d 10.96.0.1/32 ! -i veth+ -o eth0 ! -p tcp -j TO",
        "-p tcp -m tcp ! --sport 1:9 --dport 80 -j ACCEPT",
        "-p udp -m udp ! --dport 1024:65535 -j DROP",
        "-p sctp -m sctp --sport 0 -j RETURN",
        "-m mark --mark 0x1 -m mark ! --mark 0x4000/0x4000 -j TO",
        "-m conntrack ! --ctstate INVALID,NEW,RELATED,ESTABLISHED,DNAT -j TO",
        "-m addrtype ! --src-type LOCAL -m addrtype --dst-type LOCAL",
        "-m recent --rcheck --seconds 10800 --reap --name A --mask 255.255.255.255 --rsource -j TO",
        "-m recent --rcheck --name A --mask 255.255.255.255 --rsource",
        "-m recent --set --name A --mask 255.255.255.255 --rsource -j TO",
        "-m set ! --match-set KUBE-CLUSTER-IP dst,dst -m set --match-set A src,dst,src",
        "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP",
        "-m physdev ! --physdev-is-in -j ACCEPT",
        "-m statistic --mode random --probability 0.33333333349 -j TO",
        "-m statistic --mode random --probability 0.00000000000 -j TO",
        "-m statistic --mode random --probability 1.00000000000 -j TO",
        "-m comment --comment word -m comment --comment \"two words\" -m comment --comment \"\"",
        "-m comment --comment \"a \\\"b\\\" \\\\ \\'c\\' -j X\"",
        "-j MARK --set-xmark 0x4000/0x0",
        "-p tcp -m tcp -j DNAT --to-destination 10.244.0.5:8080",
        "-j MASQUERADE",
        "-j MASQUERADE --random-fully",
        "-j REJECT --reject-with icmp-port-unreachable",
    ] {
        let saved = one(rule, Family::Ipv4).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let read = &saved.tables[0].chains[0].rules[0];
        assert!(!read.matches.iter().any(|m| matches!(m, Match::Opaque(_))), "{rule}");
        assert!(!matches!(read.target, Some(Target::Opaque(_))), "{rule}");
        assert_eq!(again(rule, Family::Ipv4), rule);
    }
    for rule in [
        "-s fd00::/64 -d ::1/128 -j TO",
        "-p tcp -m tcp -j DNAT --to-destination [fd00::5]:8080",
        "-j REJECT --reject-with icmp6-port-unreachable",
        "-m recent --rcheck --name A --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource",
    ] {
        assert_eq!(again(rule, Family::Ipv6), rule);
    }
}

#[test]
fn what_kube_proxy_writes_for_iptables_restore_is_read_too() {
    for (written, saved) in [
        (
            "-m comment --comment \"ns/a cluster IP\" -m tcp -p tcp -d 10.96.0.1 --dport 80 ! -s 10.244.0.0/16 -j TO",
            "! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m comment --comment \"ns/a cluster IP\" -m tcp --dport 80 -j TO",
        ),
        (
            "-m comment --comment ns/a:b -s 10.0.0.1 -j TO",
            "-s 10.0.0.1/32 -m comment --comment \"ns/a:b\" -j TO",
        ),
        ("-j MARK --or-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-j MARK --xor-mark 0x00004000", "-j MARK --set-xmark 0x4000/0x0"),
        ("-j MARK --and-mark 255", "-j MARK --set-xmark 0x0/0xffffff00"),
        ("-j MARK --set-mark 5", "-j MARK --set-xmark 0x5/0xffffffff"),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-p tcp --dport 80 -j TO", "-p tcp -m tcp --dport 80 -j TO"),
        (
            "-m recent --name A --rcheck --seconds 5 --reap -j TO",
            "-m recent --rcheck --seconds 5 --reap --name A --mask 255.255.255.255 --rsource -j TO",
        ),
        (
            "-m statistic --mode random --probability 0.3333333333 -j TO",
            "-m statistic --mode random --probability 0.33333333349 -j TO",
        ),
        ("-s 10.1.2.3/255.255.0.0 -j TO", "-s 10.1.0.0/16 -j TO"),
        ("-m multiport -p tcp --dports 80,90 -j TO", "-p tcp -m multiport --dports 80,90 -j TO"),
    ] {
        assert_eq!(again(written, Family::Ipv4), saved, "{written}");
    }
}

#[test]
fn a_word_in_quotes_is_no_option() {
    let saved = one("-m comment --comment \"-j\" -m comment --comment -j -j TO", Family::Ipv4).unwrap();
    let rule = &saved.tables[0].chains[0].rules[0];
    assert_eq!(rule.matches[..], [Match::Comment("-j".into()), Match::Comment("-j".into())]);
    assert_eq!(rule.target, Some(Target::Jump(ChainId(1))));
}

#[test]
fn a_rule_that_is_not_in_order_keeps_its_meaning() {
    let saved = one("-d 10.0.0.1 -p tcp -m tcp ! --dport 5 -s 10.0.0.2", Family::Ipv4).unwrap();
    let rule = &saved.tables[0].chains[0].rules[0];
    let is = |text: &str| Some(Test { invert: false, value: text.parse().unwrap() });
    assert_eq!((rule.src, rule.dst), (is("10.0.0.2/32"), is("10.0.0.1/32")));
    let dport = Some(Test { invert: true, value: (5, 5) });
    assert_eq!(rule.matches[..], [Match::Ports { proto: Proto::Tcp, sport: None, dport }]);
}

#[test]
fn errors_say_where_and_what_is_allowed() {
    for (text, line, column, part) in [
        ("hello", 1, 1, "*TABLE"),
        ("*nut", 1, 1, "filter, mangle, nat, raw, security"),
        ("*nat\n", 1, 1, "COMMIT is missing"),
        ("*nat\n*filter\n", 2, 1, "not ended by COMMIT"),
        ("*nat\nCOMMIT\n*nat\nCOMMIT\n", 3, 1, "twice"),
        ("*nat\n:A\n", 2, 1, ":NAME POLICY"),
        ("*nat\n:A - [1:x]\n", 2, 6, "[packets:bytes]"),
        ("*nat\n:A ACCEPT [0:0]\n", 2, 4, "no built-in chain"),
        ("*nat\n:OUTPUT QUEUE [0:0]\n", 2, 9, "ACCEPT or DROP"),
        ("*nat\n:A - [0:0]\n:A - [0:0]\n", 3, 1, "twice"),
        ("*nat\n-A B -j ACCEPT\n", 2, 4, "not declared"),
        ("*nat\n-X B\n", 2, 1, "no other command"),
        ("*nat\n[1:2 -A OUTPUT\n", 2, 1, "[packets:bytes]"),
        ("*nat\n-A OUTPUT -s 10.0.0\n", 2, 14, "no IPv4 address"),
        ("*nat\n-A OUTPUT -s ::1\n", 2, 14, "no IPv4 address"),
        ("*nat\n-A OUTPUT -s 10.0.0.0/33\n", 2, 14, "prefix"),
        ("*nat\n-A OUTPUT -s 10.0.0.1 -s 10.0.0.2\n", 2, 23, "twice"),
        ("*nat\n-A OUTPUT -j kube-svc\n", 2, 14, "declared above"),
        ("*nat\n-A OUTPUT -m tcp --dport 65536\n", 2, 26, "0 to 65535"),
        ("*nat\n-A OUTPUT -m tcp --dport\n", 2, 25, "no value"),
        ("*nat\n-A OUTPUT --dport 80\n", 2, 11, "no match"),
        ("*nat\n-A OUTPUT -m comment --comment \"é\" -m comment --comment \"x\n", 2, 57, "not closed"),
        ("*nat\n-A OUTPUT -m conntrack --ctstate NEU\n", 2, 34, "INVALID, NEW"),
        ("*nat\n-A OUTPUT -m mark --mark 0x\n", 2, 26, "32 bits"),
        ("*nat\n-A OUTPUT -j DNAT --to-destination x\n", 2, 36, "no destination"),
        ("*nat\n-A OUTPUT -j\n", 2, 13, "no target"),
        ("*nat\n-A OUTPUT -g\n", 2, 13, "no target"),
        ("*nat\n-A OUTPUT -g ACCEPT\n", 2, 14, "no target and no chain"),
        ("*nat\n-A OUTPUT -j SNAT\n", 2, 18, "needs --to-source"),
        ("*nat\n-A OUTPUT -j SNAT --to-source 1.2.3.4-1.2.3.3\n", 2, 31, "ends before it begins"),
        ("*nat\n-A OUTPUT -j DNAT --to-destination fd00::1\n", 2, 36, "no destination"),
        ("*nat\n-A OUTPUT -j DNAT --to-destination [fd00::1]:80\n", 2, 36, "other family"),
        ("*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 90-80\n", 2, 41, "no port"),
        ("*nat\n-A OUTPUT -j REJECT --reject-with sorry\n", 2, 35, "no answer"),
        ("*nat\n-A OUTPUT -j LOG --log-level loud\n", 2, 30, "no level"),
        ("*nat\n-A OUTPUT -m limit --limit 0/sec\n", 2, 28, "no rate"),
        ("*nat\n-A OUTPUT -m limit --limit 100000/sec\n", 2, 28, "no rate"),
        ("*nat\n-A OUTPUT -m limit --limit-burst 10001\n", 2, 34, "no burst"),
        ("*nat\n-A OUTPUT -m statistic --mode random --probability 7\n", 2, 52, "from 0 to 1"),
        ("*nat\n-A OUTPUT -m statistic --mode random --probability NaN\n", 2, 52, "from 0 to 1"),
        ("*nat\n-A OUTPUT -m statistic --mode nth --every 3 --packet 3\n", 2, 23, "less than --every"),
        ("*nat\n-A OUTPUT -p tcp -m tcp --dport 90:80\n", 2, 33, "ends before it begins"),
        ("*nat\n-A OUTPUT -p tcp -m tcp --tcp-flags SYN FOO\n", 2, 41, "no flag"),
        ("*nat\n-A OUTPUT -p tcp -m tcp --tcp-flags SYN\n", 2, 40, "no value"),
        ("*nat\n-A OUTPUT -m recent --name x\n", 2, 20, "one of --set"),
        ("*nat\n-A OUTPUT -m recent --set --update\n", 2, 27, "once"),
        ("*nat\n-A OUTPUT -m recent --rcheck --reap\n", 2, 20, "needs --seconds"),
        ("*nat\n-A OUTPUT -m iprange --src-range 10.0.0.9-10.0.0.1\n", 2, 34, "ends before it begins"),
        ("*nat\n-A OUTPUT -m addrtype --src-type HERE\n", 2, 34, "no type of address"),
        ("*nat\n-A OUTPUT -m conntrack --ctstatus GOOD\n", 2, 35, "no status"),
        ("*nat\n-A OUTPUT ! -p all\n", 2, 16, "fits nothing"),
        ("*nat\n-A OUTPUT -f -f\n", 2, 14, "twice"),
        ("*nat\n-A OUTPUT !\n", 2, 12, "no option"),
        ("*nat\n-A\n", 2, 3, "no chain"),
    ] {
        let error = parse(text, Family::Ipv4).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn a_plus_before_a_number_is_told_and_not_lost() {
    for (rule, part) in [
        ("-p tcp -m tcp --dport +80", "no port"),
        ("-s 10.0.0.0/+8", "no prefix"),
        ("-m mark --mark +1", "32 bits"),
        ("-m statistic --mode random --probability +0.5", "probability"),
        ("-p tcp -j REDIRECT --to-ports +80", "no port"),
    ] {
        let error = one(rule, Family::Ipv4).unwrap_err();
        assert!(error.message.contains(part), "{rule}: {error}");
    }
    assert!(parse("*nat\n:A - [+1:2]\nCOMMIT\n", Family::Ipv4).is_err());
}

#[test]
fn what_is_too_long_is_told() {
    let long = |n| "x".repeat(n);
    for (text, part) in [
        (format!("*filter\n:{} - [0:0]\nCOMMIT\n", long(29)), "28 characters"),
        (format!("*filter\n-A INPUT -i {}\nCOMMIT\n", long(16)), "15 characters"),
        (format!("*filter\n-A INPUT -j LOG --log-prefix {}\nCOMMIT\n", long(30)), "29 characters"),
        (
            format!("*filter\n-A INPUT -p tcp -m multiport --dports {}1\nCOMMIT\n", "1,".repeat(15)),
            "15 ports",
        ),
    ] {
        let error = parse(&text, Family::Ipv4).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
    let text = format!(
        "*filter\n:{} - [0:0]\n-A INPUT -i {} -m comment --comment {} -j LOG --log-prefix {}\nCOMMIT\n",
        long(28),
        long(15),
        long(255),
        long(29)
    );
    assert!(parse(&text, Family::Ipv4).is_ok());
}

#[test]
fn a_rule_is_found_again_by_its_line() {
    let text = "# a\n*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n-A INPUT -j A\n\n-A A -j DROP\n-A INPUT -j A\nCOMMIT\n";
    let saved = parse(text, Family::Ipv4).unwrap();
    let line = |chain, rule| saved.notes.line_of(&saved.tables, TableName::Filter, chain, rule);
    let found = [("INPUT", 1), ("INPUT", 2), ("A", 1), ("A", 2), ("B", 1), ("A", 0)].map(|(c, r)| line(c, r));
    assert_eq!(found, [Some(5), Some(8), Some(7), None, None, None]);
}
