//! Accuracy as a test: the instruction profile against the cells and packets that were recorded on its kernel.
//!
//! The files are the packet costs of the measurements, without the columns and metrics that nothing here reads.

mod control;

use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{Cell, DumpRig, Measurement, Rig, parse_csv, parse_packets};
use std::collections::BTreeMap;

const PACKETS: &str = include_str!("tcg61-packets-rand-100.jsonl");
const LEGACY: &str = include_str!("../kube-proxy/rand-100/iptables-save.legacy.txt");
const NFT: &str = include_str!("../kube-proxy/rand-100/nft.txt");

fn profile() -> CostProfile {
    CostProfile::named("linux-6.1-instructions").expect("embedded")
}

fn name(m: &Measurement) -> String {
    let c = &m.cell;
    format!("{} {} {}x{} {} {}", c.case, c.mode, c.services, c.endpoints, c.position, c.metric)
}

/// Errors of the cells that say something of the profile, and the cells that have no prediction.
fn errors(text: &str) -> (Vec<(f64, String)>, Vec<String>) {
    let profile = profile();
    let mut rigs: BTreeMap<Cell, Result<Rig, String>> = BTreeMap::new();
    let (mut errors, mut missing) = (Vec::new(), Vec::new());
    for m in parse_csv(text).expect("a file of measurements") {
        let build = || Rig::new(&m.cell).map_err(|e| e.to_string());
        let rig = rigs.entry(m.cell.ruleset()).or_insert_with(build);
        match rig
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|r| r.predict(&m, &profile).map_err(|e| e.to_string()))
        {
            Err(reason) => missing.push(format!("{}: {reason}", name(&m))),
            // What 200 packets happened to meet decides these more than any price.
            Ok(p) if p.is_by_chance(m.value) => {}
            Ok(p) => errors.push(((p.value / m.value - 1.0).abs(), name(&m))),
        }
    }
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    (errors, missing)
}

#[track_caller]
fn hold(text: &str, cells: usize) {
    let (errors, missing) = errors(text);
    assert!(errors.len() >= cells, "{} cells predicted; missing: {missing:#?}", errors.len());
    let median = errors[errors.len() / 2].0;
    assert!(median <= 0.005, "median error {median}");
    let beyond: Vec<_> = errors.iter().filter(|e| e.0 > 0.02 && !NOT_UNDERSTOOD.contains(&&*e.1)).collect();
    assert!(beyond.is_empty(), "beyond 2 %: {beyond:#?}");
}

/// Cells beyond the bound: a piece of the model is missing that has not been found. Later packets of the node's own to an
/// IPVS address take 1,900 instructions more than counted; a client that is new to a list with room takes 1,500 more in
/// two of three cells.
const NOT_UNDERSTOOD: [&str; 4] = [
    "affinity_miss ipt 10x10 mid first_pkt",
    "affinity_miss ipt 10x10 last first_pkt",
    "host_out_masq ipvs-rr 100x1 mid first_pkt",
    "host_out_masq ipvs-rr 100x1 mid est_pkt_1flow",
];

#[test]
fn the_grid_is_predicted_within_two_percent() {
    hold(include_str!("tcg61-grid.csv"), 165);
}

#[test]
fn the_components_are_predicted_within_two_percent() {
    hold(include_str!("tcg61-components.csv"), 100);
}

#[test]
fn every_case_is_predicted_within_two_percent() {
    hold(include_str!("tcg61-cases.csv"), 270);
}

fn dumps() -> BTreeMap<&'static str, DumpRig> {
    [("iptables-legacy", LEGACY), ("nftables", NFT)]
        .into_iter()
        .map(|(mode, text)| (mode, DumpRig::new(mode, text).expect("a recorded dump")))
        .collect()
}

#[test]
fn every_packet_through_the_recorded_dump_matches_the_same_rules_and_costs_the_same() {
    let (dumps, profile) = (dumps(), profile());
    let (mut differences, mut errors) = (Vec::new(), Vec::new());
    for record in parse_packets(PACKETS).expect("recorded packets") {
        let checked = dumps[&*record.mode].check(&record, &profile);
        differences.extend(checked.differences.iter().map(|d| format!("{} {}: {d}", record.id, record.mode)));
        let predicted = checked.predicted.expect("the profile's kernel");
        errors.push(((predicted / record.value - 1.0).abs(), format!("{} {}", record.id, record.mode)));
    }
    assert_eq!(errors.len(), 90);
    assert!(differences.is_empty(), "{differences:#?}");
    let beyond: Vec<_> = errors.iter().filter(|e| e.0 > 0.02).collect();
    assert!(beyond.is_empty(), "beyond 2 %: {beyond:#?}");
}

#[test]
fn a_rule_that_is_missing_from_a_dump_is_noticed() {
    let records = parse_packets(PACKETS).expect("recorded packets");
    let record = records.iter().find(|r| r.mode == "iptables-legacy" && r.outcome == "dnat").expect("one");
    let profile = profile();
    let without: String =
        LEGACY.lines().filter(|l| !l.contains("--ctstate NEW")).map(|l| format!("{l}\n")).collect();
    let checked = DumpRig::new(&record.mode, &without).expect("still a dump").check(record, &profile);
    assert!(
        checked.differences.iter().any(|d| d.starts_with("matched only in the record: filter -A FORWARD"))
    );
    let to = format!("-d {}/32", record.packet.dst);
    let without: String = LEGACY.lines().filter(|l| !l.contains(&to)).map(|l| format!("{l}\n")).collect();
    let checked = DumpRig::new(&record.mode, &without).expect("still a dump").check(record, &profile);
    assert!(checked.differences.iter().any(|d| d.starts_with("outcome: dnat recorded")));
}
