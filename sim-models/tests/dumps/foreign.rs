//! What other programs have in the tables: rules with many extensions, loaded into Linux 6.18 and saved by
//! iptables 1.8.9 of both backends (`tests/data/foreign/`), with and without counters.

use super::{iptables, random};
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::ipset::IpSets;
use sim_models::kernel::xtables::{CompileError, Compiled, Match, Problem, Target, opaque_name};
use sim_models::proxy::Form;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Name, family and text of each save.
fn saves() -> Vec<(String, Family, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/foreign");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut saves: Vec<(String, Family, String)> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let family = if name.starts_with("ip6") { Family::Ipv6 } else { Family::Ipv4 };
            (name, family, fs::read_to_string(&path).unwrap())
        })
        .collect();
    saves.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(saves.len(), 8);
    saves
}

#[test]
fn rules_of_other_programs_are_printed_as_they_were() {
    for (name, family, text) in saves() {
        let read = iptables().read(&text, family).unwrap_or_else(|error| panic!("{name}: {error}"));
        let printed = iptables().print(&read, Form::Load);
        for (ours, theirs) in printed.lines().zip(text.lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(printed, text, "{name}");
    }
}

#[test]
fn only_what_has_no_type_is_kept_as_text() {
    let (_, family, text) = saves().into_iter().find(|(name, ..)| name == "iptables.legacy.txt").unwrap();
    let read = iptables().read(&text, family).unwrap();
    let mut names = BTreeSet::new();
    for rule in read.xtables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        for m in &rule.matches {
            if let Match::Opaque(text) = m {
                names.insert(opaque_name(text).to_owned());
            }
        }
        if let Some(Target::Opaque(text)) = &rule.target {
            names.insert(opaque_name(text).to_owned());
        }
    }
    let expected = ["-s", "NETMAP", "TPROXY", "hashlimit", "owner", "sctp", "string", "u32"];
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    assert_eq!(names, expected);
}

#[test]
fn nothing_of_it_is_kube_proxys() {
    for (name, family, text) in saves() {
        let read = iptables().read(&text, family).unwrap();
        assert!(!random::opaque(&read.xtables).is_empty());
        assert_eq!(iptables().diff(&Default::default(), &read, &ProxyConfig::default()), [], "{name}");
    }
}

#[test]
fn a_ruleset_with_an_extension_that_is_not_modelled_cannot_be_run() {
    for (rule, extension) in [
        ("-m owner --uid-owner 0 -j ACCEPT", "owner"),
        ("-m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP", "hashlimit"),
        ("-j CLASSIFY --set-class 0001:0001", "CLASSIFY"),
        ("-s 10.0.0.1/255.0.255.0 -j ACCEPT", "-s"),
        ("-p nonsense -j ACCEPT", "-p"),
    ] {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {rule}\nCOMMIT\n");
        let read = iptables().read(&text, Family::Ipv4).unwrap();
        match Compiled::new(&read.xtables, &IpSets::default()) {
            Err(CompileError {
                chain,
                rule: 1,
                problem: Problem::NotModelled { extension: named, text },
                ..
            }) => {
                assert_eq!((&*chain, &*named), ("INPUT", extension));
                assert!(rule.contains(&*text), "{text}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
}

#[test]
fn what_ipset_saved_is_printed_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/foreign/sets.ipset");
    let text = fs::read_to_string(path).unwrap();
    let saved = sim_models::kernel::ipset::parse::parse(&text).unwrap();
    assert_eq!((saved.sets.len(), saved.notes.others.len()), (6, 8));
    assert_eq!(saved.print(), text);
}
