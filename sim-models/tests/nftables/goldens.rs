//! The table against what kube-proxy 1.36.2 wrote for the same objects (kernel 6.18, nft 1.0.6, node `node-a`), case
//! by case in `tests/kube-proxy/`.
//!
//! kube-proxy visits Services in random order and nft lists elements in hash order. So chains and sets are compared
//! by name and elements as a set; everything inside a chain is compared exactly, and so is the order of the
//! sets and chains that do not belong to a Service.

use ipnet::IpNet;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kube::import::import;
use sim_models::kube::objects::Objects;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::nftables::build;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Blocks of one table by their first line, and the first lines of the fixed ones in order.
#[derive(Debug, Default, PartialEq)]
pub struct Listing {
    /// Lines by the block's first line.
    pub blocks: BTreeMap<String, Vec<String>>,
    order: Vec<String>,
}

/// The tables of a listing by their first line.
pub fn parse(text: &str) -> BTreeMap<String, Listing> {
    let mut out = BTreeMap::<String, Listing>::new();
    let (mut table, mut block) = (String::new(), String::new());
    let text = text.replace(",\n\t\t\t     ", ", ");
    for line in text.lines().filter(|l| !["", "}", "\t}"].contains(l)) {
        if line.starts_with("table ") {
            table = line.to_owned();
            out.insert(table.clone(), Listing::default());
            block = "head".to_owned();
            continue;
        }
        let listing = out.get_mut(&table).unwrap();
        if line.ends_with(" {") && line.starts_with('\t') && !line.starts_with("\t\t") {
            block = line.to_owned();
            if !line.contains('/') {
                listing.order.push(block.clone());
            }
            listing.blocks.insert(block.clone(), Vec::new());
        } else if let Some(elements) = line.strip_prefix("\t\telements = { ") {
            let mut elements: Vec<_> =
                elements.strip_suffix(" }").unwrap().split(", ").map(str::to_owned).collect();
            elements.sort();
            listing.blocks.get_mut(&block).unwrap().extend(elements);
        } else {
            listing.blocks.entry(block.clone()).or_default().push(line.to_owned());
        }
    }
    out
}

/// Panics where they differ.
pub fn compare(case: &str, ours: &Listing, theirs: &Listing) {
    assert_eq!(ours.order, theirs.order, "{case}: fixed sets and chains");
    for name in ours.blocks.keys().chain(theirs.blocks.keys()) {
        assert_eq!(ours.blocks.get(name), theirs.blocks.get(name), "{case}: {name}");
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The configuration in a `kube-proxy.nftables.yaml`, as far as the recorded ones differ.
pub fn config(kube_proxy: &str) -> ProxyConfig {
    let file: serde_json::Value = serde_json::from_str(kube_proxy).unwrap();
    let cidrs = file["clusterCIDR"].as_str().unwrap().split(',').map(|c| c.parse::<IpNet>().unwrap());
    ProxyConfig { cluster_cidrs: cidrs.collect(), ..crate::support::config(36, "10.0.0.0/8") }
}

/// A recorded cluster.
pub struct Case {
    /// Name of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its objects.
    pub objects: Objects,
    /// kube-proxy's configuration.
    pub config: ProxyConfig,
}

/// All recorded clusters.
pub fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy");
    let paths = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    folders.retain(|folder| !name(folder).starts_with("seq-"));
    assert!(folders.len() >= 13, "recorded cases are missing: {folders:?}");
    let cases = folders.into_iter().map(|folder| {
        let name = name(&folder);
        // The objects of the large case are shared with the scenarios.
        let shared = root.join("../../../scenarios/clusters").join(format!("{name}.json"));
        let input = read(if shared.exists() { shared } else { folder.join("input.json") });
        let objects = import(&input).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
        let config = config(&read(folder.join("kube-proxy.nftables.yaml")));
        Case { name, folder, objects, config }
    });
    cases.collect()
}

#[test]
fn tables_are_those_that_kube_proxy_wrote_for_the_same_objects() {
    for case in cases() {
        let recorded = parse(&read(case.folder.join("nft.txt")));
        assert_eq!(recorded.len(), 2, "{}: tables {:?}", case.name, recorded.keys());
        for (family, name) in
            [(Family::Ipv4, "table ip kube-proxy {"), (Family::Ipv6, "table ip6 kube-proxy {")]
        {
            let objects = resolve(&case.objects, family, "node-a");
            let table = build(&objects, &case.config, family).nftables.unwrap();
            let ours = parse(&table.to_string());
            compare(&format!("{} {family:?}", case.name), &ours[name], &recorded[name]);
        }
    }
}
