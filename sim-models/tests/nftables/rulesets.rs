//! The builder against the rulesets that the kernel measurements were taken with, rule by rule.
//!
//! The files are scripts for `nft -f`; their wording is brought to the wording of `nft list`, which is what the
//! table prints. Their generator had its own hash in chain names, so the eight characters of the hash are left out
//! on both sides; the recorded dumps of a real kube-proxy hold the hashes.

use crate::support::{V4, config, objects, service};
use sim_models::config::ProxyConfig;
use sim_models::kernel::nftables::Table;
use sim_models::kernel::nftables::print::RuleText;
use sim_models::kube::{EndpointLists, ProxyObjects};
use sim_models::proxy::nftables::build;
use std::collections::{BTreeMap, BTreeSet};

/// Rules by chain in order, elements by set without order.
#[derive(Debug, Default, PartialEq)]
struct Ruleset {
    rules: BTreeMap<String, Vec<String>>,
    elements: BTreeMap<String, BTreeSet<String>>,
}

fn parse_script(text: &str) -> Ruleset {
    let mut out = Ruleset::default();
    for line in without_hashes(text).lines() {
        if let Some(rest) = line.strip_prefix("add rule ip kube-proxy ") {
            let (chain, rule) = rest.split_once(' ').unwrap();
            out.rules.entry(chain.to_owned()).or_default().push(listed(rule));
        } else if let Some(rest) = line.strip_prefix("add element ip kube-proxy ") {
            let (set, element) = rest.split_once(" { ").unwrap();
            let element = element.strip_suffix(" }").unwrap();
            assert!(
                out.elements.entry(set.to_owned()).or_default().insert(element.to_owned()),
                "twice: {line}"
            );
        }
    }
    out
}

/// The text without the hashes of per-Service names.
fn without_hashes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, prefix)) = ["service-", "local-", "external-", "endpoint-", "affinity-", "firewall-"]
        .iter()
        .filter_map(|p| rest.find(p).map(|at| (at + p.len(), p)))
        .min()
    {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let hash = rest.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count();
        assert!(hash == 0 || hash == 8, "{prefix} in {text}");
        rest = &rest[hash..];
    }
    out + rest
}

/// A rule as `nft list` would print it.
fn listed(rule: &str) -> String {
    rule.replace("mark set mark or 0x00004000", "meta mark set meta mark | 0x00004000")
        .replace("mark set mark or 0x4000", "meta mark set meta mark | 0x00004000")
        .replace("mark set mark xor 0x00004000", "meta mark set meta mark ^ 0x00004000")
        .replace("mark set mark xor 0x4000", "meta mark set meta mark ^ 0x00004000")
        .replace("mark and 0x00004000 != 0 ", "meta mark & 0x00004000 != 0x00000000 ")
        .replace("mark and 0x4000 == 0 ", "meta mark & 0x00004000 == 0x00000000 ")
        .replace("dnat ip addr . port to numgen", "dnat ip to numgen")
        .replace("{ 172.20.0.0/14 }", "172.20.0.0/14")
        .replace(" , ", ", ")
}

fn of_table(table: &Table) -> Ruleset {
    let mut out = Ruleset::default();
    for chain in table.chains.iter().filter(|c| !c.rules.is_empty()) {
        let rules = chain.rules.iter().map(|r| without_hashes(&RuleText(table, r).to_string())).collect();
        out.rules.insert(without_hashes(&chain.name), rules);
    }
    let text = table.to_string();
    for set in table.sets.iter().filter(|s| !s.elements.is_empty()) {
        let body = text.split_once(&format!(" {} {{\n", set.name)).unwrap().1;
        let body = body.split_once("elements = { ").unwrap().1.split_once(" }\n\t}").unwrap().0;
        let elements = body.split(',').map(|e| without_hashes(e.trim())).collect();
        out.elements.insert(set.name.to_string(), elements);
    }
    out
}

fn built(objects: &ProxyObjects, config: &ProxyConfig) -> Ruleset {
    of_table(&build(objects, config, V4).nftables.expect("nftables mode writes a table"))
}

#[test]
fn the_layout_of_1_36_is_the_measured_one() {
    let recorded = parse_script(include_str!("rulesets/grid_clusterip_miss_masq_host.S3.E2.nft136"));
    assert_eq!(built(&objects(3, 2, "192.168.0.2"), &config(36, "10.64.0.0/10")), recorded);
}

#[test]
fn the_layout_before_1_36_is_the_measured_one() {
    let recorded = parse_script(include_str!("rulesets/nft_10_2.full"));
    assert_eq!(built(&objects(10, 2, "10.64.0.1"), &config(35, "10.64.0.0/10")), recorded);
}

#[test]
fn node_ports_external_ips_affinity_and_missing_endpoints_are_the_measured_ones() {
    let config = config(36, "10.64.0.0/10");
    let mut o = objects(3, 2, "192.168.0.2");
    for (port, n) in o.ports.iter_mut().zip(0..) {
        port.node_port = 30_000 + n;
    }
    assert_eq!(built(&o, &config), parse_script(include_str!("rulesets/nodeport.S3.E2.nft136")));

    let mut o = objects(3, 2, "192.168.0.2");
    for (port, n) in o.ports.iter_mut().zip(1..) {
        port.external_ips = vec![format!("198.18.0.{n}").parse().unwrap()];
    }
    assert_eq!(built(&o, &config), parse_script(include_str!("rulesets/externalip.S3.E2.nft136")));

    let mut o = objects(3, 2, "192.168.0.2");
    for port in &mut o.ports {
        port.affinity_seconds = Some(10_800);
    }
    assert_eq!(built(&o, &config), parse_script(include_str!("rulesets/affinity.S3.E2.nft136")));

    let mut o = objects(3, 2, "192.168.0.2");
    for i in 3..5 {
        o.ports.push(service(i, 2));
        o.ports.last_mut().unwrap().endpoints = EndpointLists::default();
    }
    assert_eq!(built(&o, &config), parse_script(include_str!("rulesets/reject_noep.S3.E2.nft136")));
}
