//! Scripts and tables against a real nft and kernel, in a network namespace of their own.
//!
//! Needs root and nft; without them a test says so on stderr and passes, unless `CI=true`.

use crate::goldens::{self, cases};
use crate::lab::{able, file, in_namespace, output_of};
use crate::random::{self, Cluster};
use crate::script::Loaded;
use crate::support::{V4, config};
use crate::syncs::{FAMILIES, scripts, sequence};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sim_core::classify::Family;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::{DetectLocal, NodePortAddresses, ProxyConfig};
use sim_models::kube::ProxyObjects;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::nftables::{LONGEST_COMMENT, build, refused_by_nft};
use std::path::{Path, PathBuf};

/// Loads each state's scripts one after another, lists the table after each state, and compares it with the one built
/// for the state, but for chains that were emptied and not yet deleted.
fn follow(what: &str, states: &[(SimTime, ProxyObjects)], config: &ProxyConfig, family: Family) {
    let name = FAMILIES.iter().find(|(f, _)| *f == family).expect("a family").1;
    let mut files: Vec<PathBuf> = Vec::new();
    let mut steps = String::new();
    let mut loaded = Loaded::default();
    let mut chains = Vec::new();
    for runs in scripts(states, config, family) {
        for run in &runs {
            files.push(file(&format!("{}.{}.nft", what.replace([' ', '/'], "-"), files.len()), run));
            steps.push_str(&format!("nft -f - < \"${{{}}}\"\n", files.len()));
            loaded.apply(run);
        }
        chains.push(loaded.service_chains().len());
        steps.push_str(&format!("nft list table {name} kube-proxy\necho ==\n"));
    }
    let listed = output_of(&steps, &files.iter().map(PathBuf::as_path).collect::<Vec<&Path>>());
    let head = format!("table {name} kube-proxy {{");
    let listings: Vec<&str> = listed.split("==\n").filter(|text| !text.is_empty()).collect();
    assert_eq!(listings.len(), states.len(), "{what}");
    for (i, (text, (_, objects))) in listings.iter().zip(states).enumerate() {
        let mut listed = goldens::parse(text).remove(&head).expect("the table");
        let of_services = listed.blocks.keys().filter(|head| head.contains("chain ") && head.contains('/'));
        assert_eq!(of_services.count(), chains[i], "{what}, state {i}");
        listed
            .blocks
            .retain(|head, lines| !(head.contains("chain ") && head.contains('/') && lines.is_empty()));
        // A list that meets a resize of the hash table begins again and has elements twice (`rhashtable_walk_enter`).
        let sets = listed.blocks.iter_mut().filter(|(head, _)| !head.contains("chain "));
        sets.for_each(|(_, elements)| elements.dedup());
        let table = build(objects, config, family).nftables.expect("a table");
        let built = goldens::parse(&table.to_string());
        goldens::compare(&format!("{what}, state {i}"), &built[&head], &listed);
    }
}

#[test]
fn nft_takes_the_first_script_of_every_recorded_cluster_and_lists_the_printed_table() {
    if !able("nft first scripts", &["nft"]) {
        return;
    }
    for case in cases() {
        for (family, name) in FAMILIES {
            for minor in [35, 36] {
                let config = ProxyConfig { kubernetes_minor: minor, ..case.config.clone() };
                let states = [(SimTime::ZERO, resolve(&case.objects, family, "node-a"))];
                follow(&format!("{} {name} 1.{minor}", case.name), &states, &config, family);
            }
        }
    }
}

#[test]
fn nft_takes_every_step_of_the_recorded_sequence() {
    if !able("nft sequence", &["nft"]) {
        return;
    }
    for (family, name) in FAMILIES {
        let (states, config) = sequence(family);
        for minor in [35, 36] {
            let config = ProxyConfig { kubernetes_minor: minor, ..config.clone() };
            follow(&format!("seq-01 {name} 1.{minor}"), &states, &config, family);
        }
    }
}

#[test]
fn nft_takes_random_sequences_of_changes() {
    if !able("nft random sequences", &["nft"]) {
        return;
    }
    let mut runner = TestRunner::deterministic();
    for n in 0..6 {
        let mut cluster: Cluster = random::cluster().new_tree(&mut runner).unwrap().current();
        let changes = random::changes().new_tree(&mut runner).unwrap().current();
        let mut at = SimTime::ZERO;
        let mut states = vec![(at, random::objects(&cluster))];
        for change in &changes {
            at += SimSpan::from_secs(10);
            cluster = random::changed(&cluster, change);
            states.push((at, random::objects(&cluster)));
        }
        for minor in [35, 36] {
            follow(&format!("random {n} 1.{minor}"), &states, &config(minor, "10.244.0.0/16"), V4);
        }
    }
}

/// Configurations that change rules, by what they are called.
fn configurations() -> Vec<(&'static str, ProxyConfig)> {
    let base = || config(36, "10.244.0.0/16");
    let detect = |detect_local| ProxyConfig { detect_local, ..base() };
    let cidrs = |list: &[&str]| ProxyConfig {
        node_port_addresses: NodePortAddresses::Cidrs(list.iter().map(|c| c.parse().unwrap()).collect()),
        ..base()
    };
    vec![
        ("bridge", detect(DetectLocal::BridgeInterface("cbr0".into()))),
        ("prefix", detect(DetectLocal::InterfaceNamePrefix("veth".into()))),
        ("long prefix", detect(DetectLocal::InterfaceNamePrefix("cali-longer".into()))),
        ("longest bridge", detect(DetectLocal::BridgeInterface("fifteen-letters".into()))),
        ("no detector", ProxyConfig { cluster_cidrs: Vec::new(), ..base() }),
        ("one address", ProxyConfig { cluster_cidrs: vec!["10.244.0.7/32".parse().unwrap()], ..base() }),
        ("masqueradeAll", ProxyConfig { masquerade_all: true, ..base() }),
        ("first bit", ProxyConfig { masquerade_bit: 0, ..base() }),
        ("last bit", ProxyConfig { masquerade_bit: 31, ..base() }),
        ("loopback", cidrs(&["127.0.0.0/8", "192.168.0.0/24"])),
        ("no match", cidrs(&["10.99.0.0/16"])),
        ("everything", cidrs(&["0.0.0.0/0"])),
        ("other family", cidrs(&["fd00::/8"])),
    ]
}

#[test]
fn nft_lists_the_printed_table_under_every_configuration() {
    if !able("nft configurations", &["nft"]) {
        return;
    }
    let case = cases().into_iter().find(|case| case.name == "06-etp-local").expect("the case");
    for (name, config) in configurations() {
        let mut objects = resolve(&case.objects, V4, "node-a");
        objects
            .service_cidrs
            .extend(["10.112.0.0/12", "172.30.0.0/16"].map(|c| c.parse::<ipnet::IpNet>().unwrap()));
        for minor in [35, 36] {
            let config = ProxyConfig { kubernetes_minor: minor, ..config.clone() };
            follow(&format!("{name} 1.{minor}"), &[(SimTime::ZERO, objects.clone())], &config, V4);
        }
    }
}

#[test]
fn nft_refuses_what_the_diagnostic_says_it_refuses() {
    if !able("nft refusals", &["nft"]) {
        return;
    }
    let loads = |objects: &ProxyObjects, config: &ProxyConfig| {
        let script = &scripts(&[(SimTime::ZERO, objects.clone())], config, V4)[0][0];
        let file = file("refused.nft", script);
        in_namespace("nft -f - < \"$1\"", &[&file]).status.success()
    };
    let base = config(36, "10.244.0.0/16");
    for length in [LONGEST_COMMENT, LONGEST_COMMENT + 1] {
        let mut objects = crate::support::objects(1, 0, random::NODE);
        let port = &mut objects.ports[0];
        port.port_name = "".into();
        let rest = length - port.namespace.len() - 1;
        port.name = "n".repeat(rest).into();
        let table = build(&objects, &base, V4).nftables.expect("a table");
        assert_eq!(refused_by_nft(&table).is_none(), loads(&objects, &base), "{length}");
        assert_eq!(refused_by_nft(&table).is_none(), length == LONGEST_COMMENT, "{length}");
    }
    let objects = crate::support::objects(1, 1, random::NODE);
    for (name, prefix, taken) in [
        ("fifteen-letters", false, true),
        ("sixteen--letters", false, false),
        ("fourteen-lette", true, true),
        ("fifteen-letters", true, false),
        ("sixteen--letters", true, false),
    ] {
        let detect = if prefix { DetectLocal::InterfaceNamePrefix } else { DetectLocal::BridgeInterface };
        let config = ProxyConfig { detect_local: detect(name.into()), ..base.clone() };
        let table = build(&objects, &config, V4).nftables.expect("a table");
        assert_eq!(loads(&objects, &config), taken, "{name}, prefix {prefix}");
        assert_eq!(refused_by_nft(&table).is_none(), taken, "{name}, prefix {prefix}");
    }
}
