//! The expressions of each rule beside those that iptables-nft 1.8.9 sends, as `nft --debug=netlink` shows them: against
//! recordings, and where root, iptables-nft and nft are there against the tools themselves.

use crate::lab::{able, file, output_of};
use crate::support::objects;
use sim_core::classify::Family;
use sim_models::config::{ProxyConfig, XtablesBackend};
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::nftables::from_xtables::expressions;
use sim_models::kernel::nftables::netlink::{Names, lines};
use sim_models::kernel::xtables::Table;
use sim_models::kernel::xtables::parse::parse;
use sim_models::kernel::xtables::print::write_table;
use sim_models::proxy::iptables::build;
use std::collections::BTreeMap;

const RECORDED: [(Family, &str, &str); 2] = [
    (
        Family::Ipv4,
        include_str!("../data/iptables_nft/v4.rules"),
        include_str!("../data/iptables_nft/v4.netlink"),
    ),
    (
        Family::Ipv6,
        include_str!("../data/iptables_nft/v6.rules"),
        include_str!("../data/iptables_nft/v6.netlink"),
    ),
];

/// Expressions of every rule, by table and chain.
type Rules = BTreeMap<(String, String), Vec<String>>;

/// What nft shows: `ip filter FORWARD 7 6`, then a line an expression.
fn shown(text: &str) -> Rules {
    let mut out = Rules::new();
    for block in text.split("\n\n").filter(|block| block.contains("[ ")) {
        // A warning on stderr may stand between two rules.
        let block: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
        let words: Vec<&str> = block[0].split(' ').collect();
        let exprs: String = block[1..].iter().map(|line| format!("{line}\n")).collect();
        out.entry((words[1].to_owned(), words[2].to_owned())).or_default().push(exprs);
    }
    out
}

/// The same of our own.
fn ours(tables: &[Table]) -> Rules {
    let sets = IpSets::new(&[], 0);
    let mut out = Rules::new();
    for table in tables {
        let names = Names {
            family: table.family,
            chain: &|id| table.chains[id.0 as usize].name.to_string(),
            set: &|id| id.to_string(),
        };
        for chain in table.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            let rules = chain.rules.iter().map(|rule| {
                let exprs = expressions(table, rule, &sets).unwrap_or_else(|e| panic!("{rule:?}: {e}"));
                lines(&exprs, &names)
            });
            out.insert((table.name.name().to_owned(), chain.name.to_string()), rules.collect());
        }
    }
    out
}

#[track_caller]
fn compare(ours: &Rules, real: &Rules) -> usize {
    assert_eq!(ours.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
    for (at, rules) in ours {
        for (i, (a, b)) in rules.iter().zip(&real[at]).enumerate() {
            assert_eq!(a, b, "rule {i} of {at:?}");
        }
        assert_eq!(rules.len(), real[at].len(), "{at:?}");
    }
    ours.values().map(Vec::len).sum()
}

fn restore(family: Family) -> &'static str {
    if family == Family::Ipv4 { "iptables-nft-restore" } else { "ip6tables-nft-restore" }
}

fn load(what: &str, family: Family, text: &str) -> Rules {
    let script = format!("{} < \"$1\"\nnft --debug=netlink list ruleset 2> /dev/null", restore(family));
    shown(&output_of(&script, &[&file(&format!("iptables-nft.{what}"), text)]))
}

#[test]
fn every_rule_becomes_the_expressions_that_were_recorded_from_iptables_nft() {
    for (family, rules, netlink) in RECORDED {
        let tables = parse(rules, family).expect("the rules are right").tables;
        assert!(compare(&ours(&tables), &shown(netlink)) >= 18);
    }
}

#[test]
fn the_iptables_nft_of_this_machine_sends_the_same() {
    if !able("iptables-nft expressions", &["iptables-nft-restore", "ip6tables-nft-restore", "nft"]) {
        return;
    }
    for (family, rules, netlink) in RECORDED {
        compare(&load("recorded", family, rules), &shown(netlink));
    }
    let config = ProxyConfig { backend: XtablesBackend::Nft, ..ProxyConfig::default() };
    let tables = build(&objects(40, 3, "192.168.0.2"), &config, Family::Ipv4).xtables;
    let mut text = String::new();
    for table in &tables {
        write_table(table, &mut text).expect("a string takes any text");
    }
    // The counters that these rules name are not in every kernel.
    let text: String =
        text.lines().filter(|line| !line.contains("nfacct")).map(|line| format!("{line}\n")).collect();
    let tables = parse(&text, Family::Ipv4).expect("our own text").tables;
    assert!(compare(&ours(&tables), &load("kube-proxy", Family::Ipv4, &text)) > 400);
}
