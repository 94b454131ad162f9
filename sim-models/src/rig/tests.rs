//! The rig's rules against the files of the generator that the measurements were taken with.

use super::*;
use std::collections::BTreeMap;

fn cell(case: &str, mode: &str, services: u32, endpoints: u32) -> Cell {
    Cell {
        kernel: "tcg61".to_owned(),
        case: case.to_owned(),
        outside: true,
        mode: mode.to_owned(),
        services,
        endpoints,
        position: String::new(),
        metric: String::new(),
    }
}

/// Words of a line, quotes respected.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => out.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            _ => word.push(c),
        }
    }
    out.extend((!word.is_empty()).then_some(word));
    out
}

/// A rule with the parts that the kernel tests first in one order, and the matches in theirs.
fn normal(rule: &str) -> String {
    let (mut basic, mut matches): (BTreeMap<String, String>, Vec<Vec<String>>) = Default::default();
    let mut negated = false;
    let mut words = words(rule).into_iter().peekable();
    while let Some(word) = words.next() {
        let not = if std::mem::take(&mut negated) { "! " } else { "" };
        match word.as_str() {
            "!" => negated = true,
            "-m" => matches.push(vec![words.next().expect("a match")]),
            "-s" | "-d" | "-p" | "-j" => {
                let value = words.next().expect("a value");
                let value = value.trim_end_matches("/32").trim_end_matches("/128").to_owned();
                basic.insert(word, format!("{not}{value}"));
            }
            "--dport" => {
                let of = matches.iter_mut().find(|m| ["tcp", "udp"].contains(&m[0].as_str()));
                of.expect("-m tcp").push(format!("{not}{word} {}", words.next().expect("a port")));
            }
            _ => {
                // What belongs to an option: everything up to the next one.
                let mut text = format!("{not}{word}");
                while words.peek().is_some_and(|w| !w.starts_with('-') && w != "!") {
                    text += &format!(" {}", words.next().expect("peeked"));
                }
                match basic.contains_key("-j") {
                    true => *basic.get_mut("-j").expect("checked") += &format!(" {text}"),
                    false => matches.last_mut().expect("an option of a match").push(text),
                }
            }
        }
    }
    // Options of one match in any order, without those that iptables adds as defaults.
    let matches: Vec<String> = matches
        .into_iter()
        .map(|mut m| {
            m.retain(|option| !option.starts_with("--mask") && option != "--rsource");
            m[1..].sort();
            // The generator's comments have IPv6 endpoints without brackets.
            m.join(" ").replace(['[', ']'], "")
        })
        .collect();
    format!("{basic:?} {matches:?}")
        .replace("--xor-mark 0x4000", "--set-xmark 0x4000/0x0")
        .replace("--or-mark 0x4000", "--set-xmark 0x4000/0x4000")
        .replace("0.50000000000", "0.5000000000")
        .replace("\"REJECT --reject-with icmp-port-unreachable\"", "\"REJECT\"")
}

/// Rules by table and chain, in order.
fn by_chain(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut table = String::new();
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let (chain, rule) = rest.split_once(' ').expect("a rule");
            out.entry(format!("{table} {chain}")).or_default().push(normal(rule));
        }
    }
    out
}

fn saved(rules: &NodeRules) -> String {
    crate::kernel::xtables::print::iptables_save(rules)
}

#[track_caller]
fn compare(rig: Rig, recorded: &str) {
    let (ours, theirs) = (by_chain(&saved(rig.rules())), by_chain(recorded));
    for (chain, rules) in &theirs {
        assert_eq!(ours.get(chain), Some(rules), "{chain}");
    }
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
}

#[test]
fn the_iptables_rules_of_each_case_are_the_generators() {
    for (case, mode, recorded) in [
        ("grid", "ipt", include_str!("../../tests/rig/rulesets/grid_clusterip_miss_masq_host.S3.E2.ipt")),
        ("nodeport", "ipt", include_str!("../../tests/rig/rulesets/nodeport.S3.E2.ipt")),
        ("externalip", "ipt", include_str!("../../tests/rig/rulesets/externalip.S3.E2.ipt")),
        ("affinity_hit", "ipt", include_str!("../../tests/rig/rulesets/affinity.S3.E2.ipt")),
        ("ipv6", "ipt", include_str!("../../tests/rig/rulesets/ipv6.S3.E2.ipt")),
        ("pre121", "ipt_pre121", include_str!("../../tests/data/iptables/before-1.21.txt")),
        ("nodeport", "ipvs-rr", include_str!("../../tests/data/ipvs/ipvs_nodeport.S3.E2.ipt")),
    ] {
        compare(Rig::new(&cell(case, mode, 3, 2)).expect("a case of the rig"), recorded);
    }
}

#[test]
fn services_without_endpoints_follow_the_others_and_are_rejected() {
    let rig = Rig::new(&cell("reject_sent", "ipt", 3, 2)).expect("a case of the rig");
    let recorded = include_str!("../../tests/rig/rulesets/reject_noep.S3.E2.ipt");
    let (ours, theirs) = (by_chain(&saved(rig.rules())), by_chain(recorded));
    // The small copy has two of them, the measured ruleset ten.
    assert_eq!(ours["filter KUBE-SERVICES"][..2], theirs["filter KUBE-SERVICES"]);
    assert_eq!(ours["filter KUBE-SERVICES"].len(), 10);
    assert_eq!(ours["nat KUBE-SERVICES"], theirs["nat KUBE-SERVICES"]);
}
