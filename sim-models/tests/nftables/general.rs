//! Statements that other programs have put into the table: text, JSON and expressions beside those of nft 1.0.6
//! (`tests/data/nftables/`), of the nft of this machine, and what packets do there.

use crate::lab::{able, file, output_of};
use crate::support::{Node, syn};
use sim_core::classify::{Proto, Unit};
use sim_models::kernel::hook::HookVerdict;
use sim_models::kernel::nftables::json::document;
use sim_models::kernel::nftables::read::ruleset;
use sim_models::kernel::nftables::{Engine, Statement, Table, netlink};
use sim_models::kernel::options::CompileOptions;

const TEXT: &str = include_str!("../data/nftables/general.txt");
const JSON: &str = include_str!("../data/nftables/general.json");
const NETLINK: &str = include_str!("../data/nftables/general.netlink");

fn read(dump: &str) -> Table {
    ruleset(dump, "kube-proxy").unwrap_or_else(|e| panic!("{e}\n{dump}")).tables.remove(0)
}

/// What nft shows of each rule; names of anonymous sets are left out, since the kernel numbers them.
fn shown(text: &str) -> Vec<String> {
    let blocks = text.split("\n\n").filter(|block| block.contains("[ "));
    let mut out: Vec<String> = Vec::new();
    for block in blocks {
        // Elements of sets stand before the first rule.
        let rule = block.rsplit_once("\nip kube-proxy ").map_or(block, |(_, rule)| rule);
        let lines = rule.lines().skip(1);
        // What a log says of its level, and the flags of addresses' binding, are not modelled.
        out.push(lines.map(|line| format!("{}\n", normal(line))).collect());
    }
    out
}

fn normal(line: &str) -> String {
    let mut line = line.to_owned();
    for name in ["__set", "__map"] {
        if let Some(at) = line.find(name) {
            let digits = line[at + name.len()..].bytes().take_while(u8::is_ascii_digit).count();
            line.replace_range(at..at + name.len() + digits, "__");
        }
    }
    if line.starts_with("  [ log") { "  [ log ]".to_owned() } else { line }
}

fn ours(table: &Table) -> Vec<String> {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    rules
        .map(|rule| netlink::rule(table, rule).lines().map(|line| format!("{}\n", normal(line))).collect())
        .collect()
}

#[track_caller]
fn compare(table: &Table, netlink: &str) {
    let (ours, real) = (ours(table), shown(netlink));
    for (i, (a, b)) in ours.iter().zip(&real).enumerate() {
        assert_eq!(a, b, "rule {i}");
    }
    assert_eq!(ours.len(), real.len());
}

#[test]
fn all_of_them_are_typed_and_printed_as_nft_does_in_text_and_json() {
    let table = read(TEXT);
    for chain in &table.chains {
        for rule in &chain.rules {
            let is_opaque = |s: &Statement| matches!(s, Statement::Opaque(_));
            assert!(!rule.statements.iter().any(is_opaque), "{rule:?}");
        }
    }
    assert_eq!(table.validate(), Ok(()));
    assert_eq!(table.to_string(), TEXT);
    assert_eq!(read(JSON), table);
    let rules = |text: &str| -> Vec<serde_json::Value> {
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let objects = document["nftables"].as_array().unwrap();
        objects.iter().filter_map(|o| o.get("rule").map(|rule| rule["expr"].clone())).collect()
    };
    for (a, b) in rules(&document([&table])).iter().zip(rules(JSON)) {
        assert_eq!(*a, b);
    }
}

#[test]
fn they_become_the_expressions_that_were_recorded_from_nft() {
    compare(&read(TEXT), NETLINK);
}

#[test]
fn the_nft_of_this_machine_sends_the_same() {
    if !able("nft expressions", &["nft"]) {
        return;
    }
    let script = "nft -f \"$1\"\nnft --debug=netlink list ruleset 2> /dev/null";
    let netlink = output_of(script, &[&file("nft.general", TEXT)]);
    // The table itself follows the rules.
    compare(&read(TEXT), netlink.split("\ntable ip").next().expect("a split has a first part"));
}

/// The verdict of an input chain with these rules and the policy drop, and what it took.
fn run(
    rules: &str,
    packet: sim_core::classify::Packet,
    iface: &'static str,
) -> (HookVerdict, sim_core::classify::Work) {
    let table = read(&format!(
        "table ip kube-proxy {{\n\tchain c {{\n\t\ttype filter hook prerouting priority 0; policy drop;\n{rules}\t}}\n}}\n"
    ));
    let mut node = Node::new(Engine::new(&table, 1).unwrap(), &["192.168.0.2"]);
    node.iface = iface;
    let out = node.first_packet(packet);
    (out.verdict, out.work)
}

#[test]
fn packets_that_no_rule_accepts_are_dropped_by_the_policy() {
    let rows: [(&str, u16, HookVerdict); 16] = [
        ("tcp dport { 22, 80-90, 443 } accept", 85, HookVerdict::Accept),
        ("tcp dport { 22, 80-90, 443 } accept", 91, HookVerdict::Drop),
        ("tcp dport { 22, 80, 443 } accept", 443, HookVerdict::Accept),
        ("tcp dport != { 22, 80, 443 } accept", 443, HookVerdict::Drop),
        ("tcp dport 80-90 accept", 90, HookVerdict::Accept),
        ("tcp dport != 80-90 accept", 90, HookVerdict::Drop),
        ("tcp dport > 1023 accept", 1024, HookVerdict::Accept),
        ("tcp dport > 1023 accept", 1023, HookVerdict::Drop),
        ("udp dport 80 accept", 80, HookVerdict::Drop),
        ("iifname { \"lo\", \"veth7\" } accept", 80, HookVerdict::Accept),
        ("iif \"lo\" accept", 80, HookVerdict::Drop),
        ("ct state vmap { established : drop, new : accept }", 80, HookVerdict::Accept),
        (
            "ip saddr . tcp dport { 10.0.0.0/8 . 80-90, 10.0.0.2-10.0.0.5 . 22 } accept",
            81,
            HookVerdict::Accept,
        ),
        ("ip saddr . tcp dport { 10.0.0.0/8 . 80-90, 10.0.0.2-10.0.0.5 . 22 } accept", 22, HookVerdict::Drop),
        ("tcp flags syn / fin,syn,rst,ack reject with tcp reset", 80, HookVerdict::Reject),
        (
            "meta mark set 0x00000005\n\t\tmeta mark & 0x00000004 == 0x00000004 accept",
            80,
            HookVerdict::Accept,
        ),
    ];
    for (rule, port, verdict) in rows {
        let (found, _) = run(&format!("\t\t{rule}\n"), syn("10.80.9.9", "192.168.0.2", port), "veth7");
        assert_eq!(found, verdict, "{rule}, port {port}");
    }
}

#[test]
fn lookups_cost_what_their_backend_visits() {
    let work = |rule: &str, port| run(&format!("\t\t{rule}\n"), syn("10.80.9.9", "192.168.0.2", port), "").1;
    // Ports without ranges are bits of a bitmap, with ranges boundaries of a tree, in a map entries of a hash table.
    let bitmap = work("tcp dport { 22, 80, 443 } accept", 80);
    assert_eq!((bitmap[Unit::Jhash], bitmap[Unit::RbSteps], bitmap[Unit::NftLookup]), (0, 0, 1));
    assert!(work("tcp dport { 22, 80-90, 443 } accept", 85)[Unit::RbSteps] >= 2);
    assert_eq!(work("tcp dport vmap { 22 : drop, 80 : accept }", 80)[Unit::Jhash], 1);
    let pipapo = work("ip saddr . tcp dport { 10.0.0.0/8 . 80-90 } accept", 85);
    assert_eq!((pipapo[Unit::PipapoGroups], pipapo[Unit::Jhash]), (6, 0));
    assert_eq!(work("counter packets 0 bytes 0 accept", 80)[Unit::NftCounter], 1);
}

#[test]
fn a_limit_lets_its_burst_through_and_then_its_rate() {
    let table = read(
        "table ip kube-proxy {\n\tchain c {\n\t\ttype filter hook prerouting priority 0; policy drop;\n\
         \t\tlimit rate 10/second burst 3 packets accept\n\t}\n}\n",
    );
    let mut node = Node::new(Engine::new(&table, 1).unwrap(), &["192.168.0.2"]);
    let mut passed = |ms: u64| {
        node.now = sim_core::units::SimTime::ZERO + sim_core::units::SimSpan::from_ms(ms);
        node.first_packet(syn("10.80.9.9", "192.168.0.2", 80)).verdict == HookVerdict::Accept
    };
    let at = [0, 0, 0, 0, 99, 100, 150, 200, 1000, 1000, 1000, 1000];
    let expected = [true, true, true, false, false, true, false, true, true, true, true, false];
    assert_eq!(at.map(&mut passed), expected);
}

#[test]
fn numgen_inc_goes_round_and_random_draws() {
    let table = read(
        "table ip kube-proxy {\n\tchain c {\n\t\ttype filter hook prerouting priority 0; policy drop;\n\
         \t\tnumgen inc mod 3 offset 5 vmap { 5 : accept, 6 : drop, 7 : accept }\n\t}\n}\n",
    );
    let mut node = Node::new(Engine::new(&table, 1).unwrap(), &["192.168.0.2"]);
    let mut udp = syn("10.80.9.9", "192.168.0.2", 80);
    udp.proto = Proto::Udp;
    let verdicts = [(); 6].map(|()| node.first_packet(udp).verdict);
    let (yes, no) = (HookVerdict::Accept, HookVerdict::Drop);
    assert_eq!(verdicts, [yes, no, yes, yes, no, yes]);
}

#[test]
fn values_that_overlap_are_no_map() {
    let table = read(
        "table ip kube-proxy {\n\tchain c {\n\t\tip daddr vmap { 10.0.0.1 : accept, 10.0.0.0/24 : drop }\n\t}\n}\n",
    );
    assert!(Engine::new(&table, 1).unwrap_err().to_string().contains("kube-proxy writes no such statement"));
}

#[test]
fn what_is_not_understood_is_refused_by_name_or_decides_nothing() {
    let table = read(
        "table ip kube-proxy {\n\tcounter hits {\n\t\tpackets 0 bytes 0\n\t}\n\n\tchain c {\n\
         \t\ttype filter hook prerouting priority 0; policy drop;\n\
         \t\tcounter packets 0 bytes 0 osf name \"Linux\" accept\n\t\ttcp dport 80 accept\n\t}\n}\n",
    );
    assert!(Engine::new(&table, 1).unwrap_err().to_string().contains("counter hits"));
    let engine = Engine::with(&table, 1, CompileOptions { allow_opaque: true }).unwrap();
    let rule = "counter packets 0 bytes 0 osf name \"Linux\" accept";
    let warnings: Vec<String> = engine.warnings().iter().map(ToString::to_string).collect();
    let undecided = format!("table kube-proxy: chain c: this rule decides nothing: {rule}");
    assert_eq!(warnings, ["table kube-proxy: counter hits is left out".to_owned(), undecided]);
    let mut node = Node::new(engine, &["192.168.0.2"]);
    let mut verdict = |port| node.first_packet(syn("10.80.9.9", "192.168.0.2", port)).verdict;
    assert_eq!([80, 81].map(&mut verdict), [HookVerdict::Accept, HookVerdict::Drop]);
}
