//! Restore inputs held against those of the real kube-proxy, byte for byte.
//!
//! kube-proxy visits Services in random order, another one at each sync, and unused chains too. So the order of the
//! Services is read from the recording and given to the objects, and lines that delete chains are sorted.

use crate::cases::{NODE, config, folders, inputs, objects, recorded, recorded_of, root};
use sim_core::classify::Family;
use sim_models::kube::ProxyObjects;
use sim_models::kube::arrival::arrivals;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::input::ToolInput;
use std::collections::BTreeSet;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Names of Service ports in the order in which rules of these chains of a table show them.
fn order_in(stdin: &str, table: &str, chains: &[&str]) -> Vec<String> {
    let text = stdin.split(&format!("*{table}\n")).nth(1).unwrap().split("COMMIT").next().unwrap();
    let mut names: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.contains("this must be the last rule")) {
        let is_of = |chain: &&str| line.starts_with(&format!("-A {chain} "));
        let Some((_, comment)) = line.split_once("--comment ").filter(|_| chains.iter().any(is_of)) else {
            continue;
        };
        let name = comment.trim_start_matches('"').split(' ').next().unwrap().to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The order in which a recorded sync visited Services: that of table nat and that of table filter, merged.
fn order(stdin: &str) -> Vec<String> {
    let nat = order_in(stdin, "nat", &["KUBE-SERVICES", "KUBE-NODEPORTS"]);
    let chains = ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"];
    let mut merged: Vec<String> = Vec::new();
    let mut nat = nat.into_iter().peekable();
    for name in order_in(stdin, "filter", &chains) {
        if nat.clone().any(|other| other == name) {
            merged.extend(std::iter::from_fn(|| nat.next_if(|other| *other != name)));
            nat.next();
        }
        merged.push(name);
    }
    merged.extend(nat);
    merged
}

/// The objects with their Services in the order in which a recorded sync visited them.
fn reordered(mut objects: ProxyObjects, stdin: &str) -> ProxyObjects {
    let order = order(stdin);
    objects.ports.sort_by_key(|port| order.iter().position(|name| *name == port.full_name()));
    objects
}

/// An input with the chains that it deletes sorted.
fn normal(input: &ToolInput) -> String {
    let stdin = &input.stdin;
    let deleted: BTreeSet<&str> = stdin.lines().filter_map(|line| line.strip_prefix("-X ")).collect();
    let mut sorted_lines = deleted.iter().map(|chain| format!(":{chain} - [0:0]"));
    let mut sorted_deletions = deleted.iter().map(|chain| format!("-X {chain}"));
    let mut out = format!("{}\n", input.command);
    for line in stdin.lines() {
        let chain_line = line.strip_prefix(':').and_then(|line| line.split(' ').next());
        let line = if line.starts_with("-X ") {
            sorted_deletions.next().unwrap()
        } else if chain_line.is_some_and(|chain| deleted.contains(chain)) {
            sorted_lines.next().unwrap()
        } else {
            line.to_owned()
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn compare(what: &str, ours: &[ToolInput], theirs: &[ToolInput]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: runs of the tool");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (normal(ours), normal(theirs));
        for (i, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
            assert_eq!(ours, theirs, "{what}: line {i}");
        }
        assert_eq!(ours.len(), theirs.len(), "{what}: length");
    }
}

#[test]
fn full_syncs_write_what_kube_proxy_wrote() {
    let mut compared = 0;
    for case in folders(&root()) {
        let folder = root().join(&case);
        let file = folder.join("stdin.iptables.txt");
        // Of the largest case no input was kept.
        if !file.exists() {
            continue;
        }
        let (objects, config) = (objects(&folder.join("input.json")), config(&folder));
        for family in FAMILIES {
            let theirs = recorded_of(&file, family);
            let resolved = reordered(resolve(&objects, family, NODE), &theirs[0].stdin);
            compare(&format!("{case} {family:?}"), &inputs(&[resolved], &config, family)[0], &theirs);
            compared += 1;
        }
    }
    assert_eq!(compared, 24, "twelve cases, two families");
}

#[test]
fn every_step_of_a_recorded_sequence_writes_what_kube_proxy_wrote() {
    let folder = root().join("seq-01");
    let config = config(&folder);
    let steps = folders(&folder);
    assert_eq!(steps.len(), 9);
    for family in FAMILIES {
        let mut states = Vec::new();
        let mut expected: Vec<Vec<ToolInput>> = Vec::new();
        let mut last = None;
        for step in &steps {
            let new = objects(&folder.join(step).join("state.json"));
            let theirs = recorded_of(&folder.join(step).join("stdin.iptables.txt"), family);
            let arriving = last.as_ref().map_or_else(|| vec![new.clone()], |last| arrivals(last, &new));
            let mut runs = theirs.into_iter();
            for state in &arriving {
                let resolved = resolve(state, family, NODE);
                // Only a state that changes something for this family is a run of its tool.
                let changes = states.last().is_none_or(|last| {
                    sim_models::proxy::changes::Changes::between(last, &resolved)
                        != sim_models::proxy::changes::Changes::Nothing
                });
                let run = if changes { runs.next() } else { None };
                states.push(run.as_ref().map_or(resolved.clone(), |run| reordered(resolved, &run.stdin)));
                expected.push(run.into_iter().collect());
            }
            assert_eq!(runs.count(), 0, "{step} {family:?}: kube-proxy ran more often");
            last = Some(new);
        }
        for (i, (ours, theirs)) in inputs(&states, &config, family).iter().zip(&expected).enumerate() {
            compare(&format!("state {i} {family:?}"), ours, theirs);
        }
    }
}

#[test]
fn the_recorded_sequence_has_as_many_syncs_as_kube_proxy_made() {
    let folder = root().join("seq-01");
    let runs = |step: &String| recorded(&folder.join(step).join("stdin.iptables.txt")).len();
    let counts: Vec<usize> = folders(&folder).iter().map(runs).collect();
    // The first of IPv6 with it; Services that come or go with their slices take two.
    assert_eq!(counts, [2, 2, 2, 1, 1, 1, 1, 1, 1]);
}
