//! Dumps of a node read back: what kube-proxy 1.36.2 wrote (`tests/kube-proxy/`, both backends of iptables), what the
//! modes print for random clusters, and dumps that somebody has changed.

mod changes;
mod foreign;
mod hostile;
mod ipvs;
mod random;

use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::dump::Difference;
use sim_models::kernel::rules::NodeRules;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{Dumps, Form, mode};
use std::fs;
use std::path::{Path, PathBuf};

fn iptables() -> &'static dyn Dumps {
    mode("iptables").unwrap().dumps().unwrap()
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy").join(case)
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every recorded case.
fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.join("iptables-save.legacy.txt").exists());
    let mut names: Vec<String> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    names
}

/// The dumps of a case, with their names.
fn dumps(case: &str) -> Vec<(String, Family, String)> {
    let mut out = Vec::new();
    for (family, tool) in [(Family::Ipv4, "iptables"), (Family::Ipv6, "ip6tables")] {
        for backend in ["", ".legacy"] {
            let file = format!("{tool}-save{backend}.txt");
            out.push((format!("{case}/{file}"), family, text_of(&folder(case).join(file))));
        }
    }
    out
}

/// What the objects of a case call for.
fn built(case: &str, family: Family) -> NodeRules {
    let shared = folder("../../../scenarios/clusters").join(format!("{case}.json"));
    let input = if shared.exists() { shared } else { folder(case).join("input.json") };
    let objects: ProxyObjects = resolve(&import(&text_of(&input)).unwrap(), family, "node-a");
    let file: serde_json::Value =
        serde_json::from_str(&text_of(&folder(case).join("kube-proxy.yaml"))).unwrap();
    let cidrs = file["clusterCIDR"].as_str().unwrap().split(',');
    let config = ProxyConfig {
        cluster_cidrs: cidrs.map(|cidr| cidr.parse().unwrap()).collect(),
        ..ProxyConfig::default()
    };
    iptables().build(&objects, &config, family)
}

/// How `text` differs from what case `case` calls for.
fn diff(case: &str, family: Family, text: &str) -> Vec<Difference> {
    let found = iptables().read(text, family).unwrap_or_else(|error| panic!("{case}: {error}"));
    iptables().diff(&built(case, family), &found, &ProxyConfig::default())
}

#[test]
fn printing_what_was_read_gives_every_recorded_dump_back() {
    for case in cases() {
        for (name, family, text) in dumps(&case) {
            let read = iptables().read(&text, family).unwrap_or_else(|error| panic!("{name}: {error}"));
            let printed = iptables().print(&read, Form::Load);
            for (ours, theirs) in printed.lines().zip(text.lines()) {
                assert_eq!(ours, theirs, "{name}");
            }
            assert_eq!(printed.len(), text.len(), "{name}");
        }
    }
}

#[test]
fn everything_that_kube_proxy_writes_is_typed() {
    for case in cases() {
        for (name, family, text) in dumps(&case) {
            let read = iptables().read(&text, family).unwrap();
            assert_eq!(random::opaque(&read.xtables), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn a_recorded_dump_does_not_differ_from_the_rules_of_its_own_objects() {
    for case in cases() {
        for (name, family, text) in dumps(&case) {
            let differences = diff(&case, family, &text);
            assert!(differences.is_empty(), "{name}: {}", differences[0]);
        }
    }
}
