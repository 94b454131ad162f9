//! The reference clusters, and the same ones with every address made IPv6.
//!
//! kube-proxy was recorded with IPv4 clusters, but for one of both families. So that IPv6 rules see the same variety,
//! `a.b.c.d` becomes the address of `fd00::/96` with these low bits, and a prefix length grows by 96.

use sim_core::classify::Family;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The recorded node.
pub const NODE: &str = "node-a";

/// A cluster of which a node has rules.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// Its objects.
    pub json: String,
    /// All pods, for `--cluster-cidr`.
    pub cluster_cidr: &'static str,
    pub families: Vec<Family>,
}

impl Cluster {
    /// What a proxy on the node sees of one family.
    pub fn objects(&self, family: Family) -> ProxyObjects {
        let objects = import(&self.json).unwrap_or_else(|e| panic!("{}: {e:?}", self.name));
        resolve(&objects, family, NODE)
    }
}

/// An IPv4 address in the IPv6 clusters.
pub fn mapped(addr: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = addr.octets();
    Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(u32::from_be_bytes([a, b, c, d])))
}

/// The address for this family.
pub fn in_family(family: Family, addr: &str) -> IpAddr {
    let addr: Ipv4Addr = addr.parse().expect("an address");
    if family == Family::Ipv4 { addr.into() } else { mapped(addr).into() }
}

/// The text with every IPv4 address and network made IPv6.
fn made_ipv6(json: &str) -> String {
    let mut out = String::new();
    // Strings are every second part: nothing in these files is escaped.
    for (n, part) in json.split('"').enumerate() {
        if n > 0 {
            out.push('"');
        }
        let (addr, length) = part.trim().split_once('/').map_or((part.trim(), None), |(a, l)| (a, Some(l)));
        match (addr.parse::<Ipv4Addr>(), length.map(str::parse::<u8>)) {
            (Ok(addr), None) if n % 2 == 1 => out.push_str(&mapped(addr).to_string()),
            (Ok(_), Some(Ok(0))) if n % 2 == 1 => out.push_str("::/0"),
            (Ok(addr), Some(Ok(length))) if n % 2 == 1 => {
                out.push_str(&format!("{}/{}", mapped(addr), length + 96));
            }
            _ if part == "IPv4" => out.push_str("IPv6"),
            _ => out.push_str(part),
        }
    }
    out
}

/// All of them, the largest first.
pub fn clusters() -> Vec<Cluster> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = root.join("sim-models/tests/kube-proxy");
    let mut files: Vec<(String, PathBuf)> = vec![
        ("rand-100".to_owned(), root.join("scenarios/clusters/rand-100.json")),
        ("seq-01".to_owned(), recorded.join("seq-01/08-scale-svc2-back/state.json")),
    ];
    let mut folders: Vec<PathBuf> =
        fs::read_dir(recorded).expect("the recorded cases").map(|e| e.expect("readable").path()).collect();
    folders.sort();
    for folder in folders {
        let input = folder.join("input.json");
        if input.exists() {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            files.push((name, input));
        }
    }
    assert!(files.len() >= 14, "reference clusters are missing: {files:?}");
    let mut clusters = Vec::new();
    for (name, file) in files {
        let json = fs::read_to_string(file).expect("a recorded file");
        if json.contains("\"IPv6\"") {
            let families = vec![Family::Ipv4, Family::Ipv6];
            clusters.push(Cluster { name, json, cluster_cidr: "10.244.0.0/16,fd00:244::/48", families });
            continue;
        }
        let six = Cluster {
            name: format!("{name}-v6"),
            json: made_ipv6(&json),
            cluster_cidr: "fd00::af4:0/112",
            families: vec![Family::Ipv6],
        };
        clusters.push(Cluster { name, json, cluster_cidr: "10.244.0.0/16", families: vec![Family::Ipv4] });
        clusters.push(six);
    }
    clusters
}
