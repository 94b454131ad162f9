//! The iptables rules of this project held against those that kube-proxy 1.36.2 wrote for the same objects
//! (kernel 6.18, iptables 1.8.9 legacy, node `node-a`), case by case in `tests/kube-proxy/`.
//!
//! kube-proxy visits Services in random order. So rules of chains that hold rules of many Services are compared
//! as a multiset, save the last one of nat KUBE-SERVICES; all other chains are compared exactly, and so are
//! the order of tables and chains. Counters and the two lines with the time are not compared.

use ipnet::IpNet;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::xtables::print::iptables_save;
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::iptables;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every recorded case; none is left out.
const CASES: [&str; 13] = [
    "01-clusterip-basic",
    "02-multiport-proto",
    "03-nodeport",
    "04-loadbalancer",
    "05-externalips",
    "06-etp-local",
    "08-affinity",
    "09-no-endpoints",
    "10-headless-externalname",
    "11-manual-endpoints",
    "14-dualstack",
    "23-empty",
    "rand-100",
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Objects of a case; the large one is shared with the scenarios.
fn objects(folder: &Path, case: &str) -> String {
    let shared = folder.join("../../../../scenarios/clusters").join(format!("{case}.json"));
    read(&if shared.exists() { shared } else { folder.join("input.json") })
}

fn config(kube_proxy: &str) -> ProxyConfig {
    let file: serde_json::Value = serde_json::from_str(kube_proxy).unwrap();
    let cidrs = file["clusterCIDR"].as_str().unwrap();
    let cluster_cidrs = cidrs.split(',').map(|cidr| cidr.parse::<IpNet>().unwrap()).collect();
    ProxyConfig { cluster_cidrs, ..ProxyConfig::default() }
}

/// A dump as (table, lines that name chains, rules by chain).
type Dump = Vec<(String, Vec<String>, BTreeMap<String, Vec<String>>)>;

fn parse(text: &str) -> Dump {
    let mut dump = Dump::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && *line != "COMMIT") {
        if let Some(table) = line.strip_prefix('*') {
            dump.push((table.to_owned(), Vec::new(), BTreeMap::new()));
            continue;
        }
        let (table, chains, rules) = dump.last_mut().expect("a table begins before its chains");
        if line.starts_with(':') {
            chains.push(line.split(" [").next().unwrap().to_owned());
            continue;
        }
        let chain = line.split(' ').nth(1).unwrap_or_else(|| panic!("{table}: {line:?} is no rule"));
        rules.entry(chain.to_owned()).or_default().push(line.to_owned());
    }
    for (table, _, rules) in &mut dump {
        for (chain, rules) in rules {
            if ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"]
                .contains(&chain.as_str())
            {
                let fixed = usize::from(table == "nat" && chain == "KUBE-SERVICES");
                let free = rules.len() - fixed;
                rules[..free].sort();
            }
        }
    }
    dump
}

fn compare(case: &str, file: &str, ours: &str, theirs: &str) {
    let (ours, theirs) = (parse(ours), parse(theirs));
    let names = |dump: &Dump| dump.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{case}/{file}: tables");
    for ((table, our_chains, our_rules), (_, their_chains, their_rules)) in ours.iter().zip(&theirs) {
        assert_eq!(our_chains, their_chains, "{case}/{file}: chains of {table}");
        for chain in our_rules.keys().chain(their_rules.keys()) {
            assert_eq!(our_rules.get(chain), their_rules.get(chain), "{case}/{file}: {table} {chain}");
        }
    }
}

#[test]
fn rules_are_those_that_kube_proxy_wrote_for_the_same_objects() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy");
    for case in CASES {
        let folder = root.join(case);
        let objects = import(&objects(&folder, case)).unwrap_or_else(|errors| panic!("{case}: {errors:#?}"));
        let kube_proxy = read(&folder.join("kube-proxy.yaml"));
        for (family, file) in
            [(Family::Ipv4, "iptables-save.legacy.txt"), (Family::Ipv6, "ip6tables-save.legacy.txt")]
        {
            let resolved = resolve(&objects, family, "node-a");
            let rules = iptables::build(&resolved, &config(&kube_proxy), family);
            compare(case, file, &iptables_save(&rules), &read(&folder.join(file)));
        }
    }
}

#[test]
fn every_recorded_case_is_compared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    let mut folders: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("seq-"))
        .collect();
    folders.sort();
    assert_eq!(folders, CASES);
}

/// Rules of (filter, nat) in IPv4, then IPv6, that the recorded kube-proxy's metric
/// `sync_proxy_rules_iptables_total` gave.
const RECORDED_COUNTS: [[usize; 4]; 13] = [
    [4, 82, 3, 5],
    [5, 47, 3, 5],
    [6, 43, 3, 5],
    [11, 105, 3, 5],
    [6, 36, 3, 5],
    [17, 73, 3, 5],
    [5, 77, 3, 5],
    [16, 10, 3, 5],
    [4, 15, 3, 5],
    [4, 34, 3, 5],
    [6, 37, 10, 46],
    [4, 5, 3, 5],
    [37, 1155, 3, 5],
];

#[test]
fn rules_are_as_many_as_the_metric_of_kube_proxy_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy");
    for (case, recorded) in CASES.iter().zip(RECORDED_COUNTS) {
        let folder = root.join(case);
        let objects = import(&objects(&folder, case)).unwrap();
        let kube_proxy = read(&folder.join("kube-proxy.yaml"));
        let counts = [Family::Ipv4, Family::Ipv6].map(|family| {
            let resolved = resolve(&objects, family, "node-a");
            let rules = iptables::build(&resolved, &config(&kube_proxy), family);
            let counts = iptables::rule_counts(&rules);
            [counts.filter, counts.nat]
        });
        assert_eq!(counts.concat(), recorded, "{case}");
    }
}
