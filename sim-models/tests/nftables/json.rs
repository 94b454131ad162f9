//! nft's JSON of the tables that we build, against what `nft -j list ruleset` said of kube-proxy's.

use crate::goldens::{self, cases};
use serde_json::{Value, json};
use sim_core::classify::Family;
use sim_models::kernel::nftables::Table;
use sim_models::kernel::nftables::json::document;
use sim_models::kube::objects::Objects;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::nftables::build;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Text of a file.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The tables that we build for these objects, one a family.
pub fn tables(objects: &Objects, config: &sim_models::config::ProxyConfig) -> Vec<Table> {
    [Family::Ipv4, Family::Ipv6]
        .map(|family| build(&resolve(objects, family, "node-a"), config, family).nftables.unwrap())
        .into()
}

/// The recorded sequence: a step's folder and the tables that we build for its objects.
pub fn steps() -> Vec<(PathBuf, Vec<Table>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy/seq-01");
    let config = goldens::config(&read(root.join("kube-proxy.nftables.yaml")));
    let mut folders: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    assert_eq!(folders.len(), 9, "recorded steps are missing");
    let step = |folder: PathBuf| {
        let objects = sim_models::kube::import::import(&read(folder.join("state.json"))).unwrap();
        let tables = tables(&objects, &config);
        (folder, tables)
    };
    folders.into_iter().map(step).collect()
}

/// Every recorded dump with the tables that we build for its objects.
pub fn recorded() -> Vec<(PathBuf, Vec<Table>)> {
    let cases = cases().into_iter().map(|case| (tables(&case.objects, &case.config), case.folder));
    let mut all: Vec<_> = cases.map(|(tables, folder)| (folder, tables)).collect();
    all.extend(steps());
    assert!(all.len() >= 22, "recorded dumps are missing");
    all
}

/// A document without handles, by what each object is. Elements are sorted, and the sets and chains that belong to no
/// Service are listed in order.
fn by_name(document: &str) -> BTreeMap<String, Vec<Value>> {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut out = BTreeMap::<String, Vec<Value>>::new();
    for object in document["nftables"].as_array().unwrap() {
        let (kind, body) = object.as_object().unwrap().iter().next().unwrap();
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove("handle");
        if let Some(elements) = body.get_mut("elem") {
            elements.as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        let family = body["family"].as_str().unwrap_or_default().to_owned();
        let name = body["chain"].as_str().or(body["name"].as_str()).unwrap_or_default().to_owned();
        if !name.contains('/') && kind != "rule" {
            out.entry(format!("{family} in order")).or_default().push(json!([kind, name]));
        }
        out.entry(format!("{family} {kind} {name}")).or_default().push(body);
    }
    out
}

#[test]
fn the_json_of_our_tables_is_what_nft_said_of_kube_proxys() {
    for (folder, tables) in recorded() {
        let ours = by_name(&document(&tables));
        let mut theirs = by_name(&read(folder.join("nft.json")));
        // Stale chains: emptied, deleted by a later sync.
        theirs.retain(|name, objects| {
            let is_stale = name.contains(" chain ")
                && name.contains('/')
                && !ours.contains_key(name)
                && objects[0].get("hook").is_none();
            !is_stale
        });
        for name in ours.keys().chain(theirs.keys()) {
            assert_eq!(ours.get(name), theirs.get(name), "{}: {name}", folder.display());
        }
    }
}

#[test]
fn handles_are_consecutive_and_the_document_is_one_line() {
    let case = cases().remove(0);
    let text = document(&tables(&case.objects, &case.config));
    assert_eq!(text.find('\n'), Some(text.len() - 1));
    let document: Value = serde_json::from_str(&text).unwrap();
    let handles = document["nftables"].as_array().unwrap().iter().filter_map(|object| {
        let body = object.as_object().unwrap().values().next().unwrap();
        (body["family"] == "ip" && body["table"] == "kube-proxy").then(|| body["handle"].as_u64().unwrap())
    });
    let handles: Vec<u64> = handles.collect();
    assert!(handles.len() > 50);
    assert_eq!(handles, (1..=handles.len() as u64).collect::<Vec<_>>());
}
