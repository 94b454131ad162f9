//! The scripts of syncs against those that kube-proxy 1.36.2 handed to nft: the first of every recorded cluster, and
//! all of a recorded sequence of changes.
//!
//! Services are visited in random order there, so that scripts are compared by their parts: exact within a chain and
//! in what is fixed, without order across chains and elements.

use crate::goldens::{self, cases};
use crate::script::{Loaded, parts};
use sim_core::classify::Family;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::ProxyConfig;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::import;
use sim_models::kube::objects::Objects;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::ProxyMode;
use sim_models::proxy::nftables::build;
use sim_models::proxy::nftables::mode::Nftables;
use std::fs;
use std::path::Path;

/// Both families, and what nft calls their tables.
pub const FAMILIES: [(Family, &str); 2] = [(Family::Ipv4, "ip"), (Family::Ipv6, "ip6")];

/// What a recording says was handed to `nft -f -` for this family's table.
fn recorded(text: &str, family: &str) -> Vec<String> {
    let runs = text.split("##### ").filter_map(|run| run.split_once('\n'));
    let loads = runs.filter(|(head, _)| {
        let words: Vec<_> = head.split(' ').collect();
        words[0] == "nft" && words[3..] == ["-f", "-"]
    });
    let of_family = format!(" {family} kube-proxy");
    loads
        .filter(|(_, body)| body.lines().next().is_some_and(|l| l.contains(&of_family)))
        .map(|(_, body)| body.to_owned())
        .collect()
}

fn same_scripts(what: &str, ours: &[String], theirs: &[String]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: transactions\n{ours:#?}\nand\n{theirs:#?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (parts(ours), parts(theirs));
        assert_eq!(ours.fixed, theirs.fixed, "{what}");
        for name in ours.chains.keys().chain(theirs.chains.keys()) {
            assert_eq!(ours.chains.get(name), theirs.chains.get(name), "{what}: {name}");
        }
        assert_eq!(ours.loose, theirs.loose, "{what}");
    }
}

/// What is handed to nft in each state.
pub fn scripts(states: &[(SimTime, ProxyObjects)], config: &ProxyConfig, family: Family) -> Vec<Vec<String>> {
    let inputs = Nftables.inputs(states, config, family).expect("nftables mode writes to nft");
    assert_eq!(inputs.len(), states.len());
    inputs
        .into_iter()
        .map(|runs| {
            runs.into_iter()
                .map(|run| {
                    assert_eq!(run.command, "nft -f -");
                    run.stdin
                })
                .collect()
        })
        .collect()
}

#[test]
fn the_first_sync_writes_what_kube_proxy_wrote() {
    let mut compared = 0;
    for case in cases() {
        let Ok(stdin) = fs::read_to_string(case.folder.join("stdin.nftables.txt")) else { continue };
        for (family, name) in FAMILIES {
            let states = [(SimTime::ZERO, resolve(&case.objects, family, "node-a"))];
            let ours = scripts(&states, &case.config, family);
            same_scripts(&format!("{} {name}", case.name), &ours[0], &recorded(&stdin, name));
            compared += 1;
        }
    }
    assert_eq!(compared, 24, "recorded scripts are missing");
}

/// One recorded step: its folder and the objects after it.
struct Step {
    name: String,
    objects: Objects,
    stdin: String,
    listing: String,
}

fn steps(root: &Path) -> Vec<Step> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let steps = folders.iter().map(|folder| {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        Step {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            objects: import(&read("state.json")).unwrap(),
            stdin: read("stdin.nftables.txt"),
            listing: read("nft.txt"),
        }
    });
    steps.collect()
}

/// The states of a sequence, and how many of them make up each step. A step that changes Services and slices is seen
/// in two: the watch of Services is quicker. Steps are ten seconds apart, the two syncs of a step `minSyncPeriod`.
fn states(steps: &[Step], family: Family, pause: SimSpan) -> (Vec<(SimTime, ProxyObjects)>, Vec<usize>) {
    let mut states = Vec::new();
    let mut counts = Vec::new();
    let mut now = SimTime::ZERO;
    let mut old: Option<&Objects> = None;
    for step in steps {
        let new = &step.objects;
        now += SimSpan::from_secs(10);
        let before = states.len();
        if let Some(old) = old
            && old.services != new.services
            && old.slices != new.slices
        {
            let between = Objects { slices: old.slices.clone(), ..new.clone() };
            states.push((now, resolve(&between, family, "node-a")));
            now += pause;
        }
        states.push((now, resolve(new, family, "node-a")));
        counts.push(states.len() - before);
        old = Some(new);
    }
    (states, counts)
}

/// The states of the recorded sequence and its configuration.
pub fn sequence(family: Family) -> (Vec<(SimTime, ProxyObjects)>, ProxyConfig) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy/seq-01");
    let config = goldens::config(&fs::read_to_string(root.join("kube-proxy.nftables.yaml")).unwrap());
    (states(&steps(&root), family, PAUSE).0, config)
}

/// Its `minSyncPeriod`.
const PAUSE: SimSpan = SimSpan::from_ns(200_000_000);

#[test]
fn every_step_of_the_recorded_sequence_writes_what_kube_proxy_wrote_and_leaves_its_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy/seq-01");
    let steps = steps(&root);
    assert_eq!(steps.len(), 9);
    let config = goldens::config(&fs::read_to_string(root.join("kube-proxy.nftables.yaml")).unwrap());
    for (family, name) in FAMILIES {
        let (states, counts) = states(&steps, family, PAUSE);
        let mut ours = scripts(&states, &config, family).into_iter();
        let mut loaded = Loaded::default();
        let mut transactions = 0;
        for (step, count) in steps.iter().zip(counts) {
            let what = format!("{} {name}", step.name);
            let scripts: Vec<String> = ours.by_ref().take(count).flatten().collect();
            same_scripts(&what, &scripts, &recorded(&step.stdin, name));
            for script in &scripts {
                loaded.apply(script);
                transactions += 1;
            }
            // The table that is listed is the one built anew, and the chains that are emptied but not yet deleted.
            let built = build(&resolve(&step.objects, family, "node-a"), &config, family).nftables.unwrap();
            let table = format!("table {name} kube-proxy {{");
            let mut listed = goldens::parse(&step.listing).remove(&table).unwrap();
            let chains = listed.blocks.keys().filter_map(|b| b.strip_prefix("\tchain ")?.strip_suffix(" {"));
            let of_services = chains.filter(|chain| chain.contains('/'));
            assert_eq!(
                of_services.collect::<std::collections::BTreeSet<_>>(),
                loaded.service_chains(),
                "{what}"
            );
            listed.blocks.retain(|head, body| !(head.contains('/') && body.is_empty()));
            goldens::compare(&what, &goldens::parse(&built.to_string())[&table], &listed);
        }
        assert_eq!(transactions, if family == Family::Ipv4 { 13 } else { 1 }, "{name}");
    }
}
