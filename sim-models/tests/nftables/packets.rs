//! Packets through kube-proxy's nftables rules: what becomes of them, and exactly what that takes.

use crate::support::{Node, V4, config, objects, syn};
use sim_core::classify::{Family, Unit, Work};
use sim_core::units::SimSpan;
use sim_models::kernel::hook::HookVerdict;
use sim_models::kernel::nftables::{Engine, SetId, Table};
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::kube::{EndpointLists, ProxyObjects};
use sim_models::proxy::nftables::{Change, build, update};

const NODE: &str = "192.168.0.2";

fn table(objects: &ProxyObjects, minor: u32) -> Table {
    build(objects, &config(minor, "10.64.0.0/10"), V4).nftables.unwrap()
}

fn node(objects: &ProxyObjects, minor: u32) -> Node {
    Node::new(Engine::new(&table(objects, minor), 42).unwrap(), &[NODE, "127.0.0.1"])
}

fn counted(work: &Work, units: &[Unit]) -> Vec<u32> {
    units.iter().map(|u| work[*u]).collect()
}

#[test]
fn a_pod_reaches_an_endpoint_of_the_cluster_ip_unmasqueraded() {
    let mut node = node(&objects(3, 2, NODE), 36);
    let mut seen = [0; 2];
    for _ in 0..200 {
        let o = node.first_packet(syn("10.80.9.9", "172.20.0.2", 80));
        assert_eq!((o.verdict, o.masquerade), (HookVerdict::Accept, false));
        match o.dnat.unwrap().to_string().as_str() {
            "10.80.1.2:8080" => seen[0] += 1,
            "10.80.1.3:8080" => seen[1] += 1,
            other => panic!("sent to {other}"),
        }
    }
    assert!(seen.iter().all(|&n| n > 70), "{seen:?}");
}

/// Counted by hand from the rules; the recorded ruleset of three Services with two endpoints.
#[test]
fn the_first_packet_to_a_cluster_ip_takes_this_work() {
    let mut node = node(&objects(3, 2, NODE), 36);
    let o = node.first_packet(syn("10.80.9.9", "172.20.0.2", 80));
    use Unit::*;
    // Base chains: pre-dnat, nat-prerouting, filter-forward, nat-postrouting.
    // Bitwise: 4 ct, saddr, CIDR, mark.
    // Rules: 2 (firewall check), 1 + 2 + 1 (services, service), 2 + 1 + 2 (forward), 1 + 2 (masquerading).
    let units = [NftChains, NftRules, NftJumps, Returns, NftCt, NftBitwise, NftNumgen, NftNat, RngU32];
    assert_eq!(counted(&o.work, &units), [4, 14, 6, 4, 4, 7, 1, 1, 1]);
    // Payload: 2 firewall; 1 cluster-ips + 1 saddr + 2 vmap; 2 endpoints check + 1 cluster-ips + 1 CIDR;
    // 3 hairpin. Meta: 1; 1 vmap + 1 l4proto; 1; 1 mark + 1 hairpin. Lookups: 1; 1 + 1 + 1; 1 + 1; 1.
    assert_eq!(counted(&o.work, &[NftPayload, NftMeta, NftLookup, Jhash]), [13, 6, 7, 7]);
    // Compares: 3 ct state, 1 ct status, saddr, l4proto, CIDR, mark. Immediates: the five jumps.
    assert_eq!(counted(&o.work, &[NftCmp, NftImmediate]), [8, 5]);
}

#[test]
fn a_client_outside_the_cluster_is_masqueraded() {
    let mut node = node(&objects(3, 2, NODE), 36);
    let o = node.first_packet(syn("203.0.113.2", "172.20.0.1", 80));
    assert!(o.dnat.is_some() && o.masquerade);
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    for minor in [35, 36] {
        let mut node = node(&objects(1, 1, NODE), minor);
        assert!(node.first_packet(syn("10.80.1.0", "172.20.0.1", 80)).masquerade, "1.{minor}");
        assert!(!node.first_packet(syn("10.80.1.1", "172.20.0.1", 80)).masquerade, "1.{minor}");
    }
}

#[test]
fn a_node_port_is_answered_on_the_node_address_only() {
    let mut o = objects(3, 2, NODE);
    o.ports[1].node_port = 30_001;
    let mut node = node(&o, 36);
    let hit = node.first_packet(syn("203.0.113.2", NODE, 30_001));
    assert!(hit.dnat.is_some() && hit.masquerade);
    assert_eq!(node.first_packet(syn("203.0.113.2", NODE, 30_002)).dnat, None);
    assert_eq!(node.first_packet(syn("203.0.113.2", "127.0.0.1", 30_001)).dnat, None);
}

#[test]
fn a_service_without_endpoints_rejects_new_connections() {
    let mut o = objects(3, 2, NODE);
    o.ports[2].endpoints = EndpointLists::default();
    o.ports[2].node_port = 30_002;
    let mut node = node(&o, 36);
    let refused = node.first_packet(syn("10.80.9.9", "172.20.0.3", 80));
    assert_eq!((refused.verdict, refused.dnat), (HookVerdict::Reject, None));
    assert_eq!(node.first_packet(syn("203.0.113.2", NODE, 30_002)).verdict, HookVerdict::Reject);
}

#[test]
fn unknown_ports_of_cluster_ips_are_rejected_and_unallocated_addresses_dropped() {
    let mut node = node(&objects(3, 2, NODE), 36);
    assert_eq!(node.first_packet(syn("10.80.9.9", "172.20.0.1", 81)).verdict, HookVerdict::Reject);
    assert_eq!(node.first_packet(syn("10.80.9.9", "172.20.9.9", 80)).verdict, HookVerdict::Drop);
    assert_eq!(node.first_packet(syn("10.80.9.9", "8.8.8.8", 53)).verdict, HookVerdict::Accept);
}

#[test]
fn source_ranges_admit_only_their_clients() {
    let mut o = objects(1, 2, NODE);
    o.ports[0].load_balancer_vips = vec!["198.18.0.1".parse().unwrap()];
    let ranges = ["198.51.100.0/24", "203.0.113.0/25", "10.1.2.4/31"];
    for n in 1..=ranges.len() {
        o.ports[0].source_ranges = ranges[..n].iter().map(|r| r.parse().unwrap()).collect();
        let mut node = node(&o, 36);
        for (client, inside) in [
            ("198.51.100.7", 1),
            ("203.0.113.127", 2),
            ("10.1.2.5", 3),
            ("203.0.113.128", 9),
            ("10.1.2.6", 9),
        ] {
            let o = node.first_packet(syn(client, "198.18.0.1", 80));
            assert_eq!(o.verdict == HookVerdict::Accept, inside <= n, "{client} with {n} ranges");
            assert_eq!(o.work[Unit::RbSteps] > 0, n > 1, "one range is a comparison, more are a tree");
        }
    }
}

#[test]
fn affinity_keeps_a_client_with_its_endpoint_until_it_expires() {
    let mut o = objects(2, 8, NODE);
    o.ports[0].affinity_seconds = Some(60);
    let mut node = node(&o, 36);
    let mut endpoints = std::collections::BTreeSet::new();
    for client in 0..40 {
        let packet = syn(&format!("10.80.9.{client}"), "172.20.0.1", 80);
        let first = node.first_packet(packet);
        for _ in 0..5 {
            node.now += SimSpan::from_secs(50);
            let again = node.first_packet(packet);
            assert_eq!(again.dnat, first.dnat);
            assert_eq!(again.work[Unit::RngU32], 0, "found, so nothing is drawn");
        }
        endpoints.insert(first.dnat);
        node.now += SimSpan::from_secs(60);
        assert_eq!(node.first_packet(packet).work[Unit::RngU32], 1, "expired, so drawn again");
    }
    assert!(endpoints.len() > 4, "{endpoints:?}");
    let held: usize = (0..20).map(|s| node.dynamic.len(SetId(s))).sum();
    assert_eq!(held, 1, "the collector has removed all but the last client");
}

#[test]
fn both_layouts_send_packets_to_the_same_place() {
    let o = objects(50, 3, NODE);
    let (mut new, mut old) = (node(&o, 36), node(&o, 35));
    for i in 1..=50 {
        for src in ["10.80.9.9", "203.0.113.2"] {
            let packet = syn(src, &format!("172.20.0.{i}"), 80);
            let (a, b) = (new.first_packet(packet), old.first_packet(packet));
            assert_eq!((a.verdict, a.dnat, a.masquerade), (b.verdict, b.dnat, b.masquerade));
            assert!(a.work[Unit::NftRules] > 0 && a.work[Unit::NftRules] != b.work[Unit::NftRules]);
        }
    }
}

/// Slab measurements on kernel 6.18, layout with a chain per endpoint: 2.5 KB a Service with one endpoint, 4.2
/// with three, 9.6 with ten.
#[test]
fn memory_per_service_is_what_the_slabs_grew_by() {
    for (endpoints, measured) in [(1, 2500.0), (3, 4200.0), (10, 9600.0)] {
        let bytes =
            |n| Engine::new(&table(&objects(n, endpoints, NODE), 35), 1).unwrap().memory_bytes() as f64;
        let each = (bytes(4000) - bytes(1000)) / 3000.0;
        assert!((each / measured - 1.0).abs() < 0.08, "{endpoints} endpoints: {each} bytes");
    }
}

#[test]
fn a_changed_endpoint_replaces_one_chain_and_equals_a_rebuild() {
    for minor in [35, 36] {
        let config = config(minor, "10.64.0.0/10");
        let before = objects(20, 3, NODE);
        let mut after = before.clone();
        let lists = &mut after.ports[7].endpoints;
        for list in [&mut lists.cluster, &mut lists.reachable] {
            list[1].addr = "10.99.0.1:8080".parse().unwrap();
        }
        let mut t = build(&before, &config, V4).nftables.unwrap();
        let mut engine = Engine::new(&t, 42).unwrap();
        let change = Change { old: Some(&before.ports[7]), new: Some(&after.ports[7]) };
        update(&mut t, &mut engine, change, &after, &config, V4);
        let rebuilt = build(&after, &config, V4).nftables.unwrap();
        let rules = |t: &Table| {
            let mut chains: Vec<String> =
                t.to_string().split("\n\n").filter(|c| c.contains("numgen")).map(str::to_owned).collect();
            chains.sort();
            chains
        };
        assert_eq!(rules(&t), rules(&rebuilt));
        let mut node = Node::new(engine, &[NODE]);
        let hits = (0..300)
            .filter(|_| {
                let o = node.first_packet(syn("10.80.9.9", "172.20.0.8", 80));
                o.dnat == Some("10.99.0.1:8080".parse().unwrap())
            })
            .count();
        assert!((70..130).contains(&hits), "{hits} of 300");
    }
}

#[test]
fn a_service_that_loses_its_endpoints_and_gets_them_back_is_where_it_was() {
    let config = config(36, "10.64.0.0/10");
    let full = objects(20, 3, NODE);
    let mut empty = full.clone();
    empty.ports[0].endpoints = EndpointLists::default();
    let mut t = build(&full, &config, V4).nftables.unwrap();
    let mut engine = Engine::new(&t, 42).unwrap();
    let counts = engine.counts();
    let change = Change { old: Some(&full.ports[0]), new: Some(&empty.ports[0]) };
    update(&mut t, &mut engine, change, &empty, &config, V4);
    let mut node = Node::new(engine.clone(), &[NODE]);
    assert_eq!(node.first_packet(syn("10.80.9.9", "172.20.0.1", 80)).verdict, HookVerdict::Reject);
    let change = Change { old: Some(&empty.ports[0]), new: Some(&full.ports[0]) };
    update(&mut t, &mut engine, change, &full, &config, V4);
    assert_eq!(engine.counts(), counts);
    let mut node = Node::new(engine, &[NODE]);
    assert!(node.first_packet(syn("10.80.9.9", "172.20.0.1", 80)).dnat.is_some());
}

/// The recorded dual-stack cluster: Service default/ds answers on fd00:96::e01:80.
#[test]
fn ipv6_packets_reach_endpoints_and_are_masqueraded_from_outside() {
    let text = include_str!("../kube-proxy/14-dualstack/input.json");
    let resolved = resolve(&import(text).expect("recorded objects are sound"), Family::Ipv6, "node-a");
    let table = build(&resolved, &config(36, "fd00:244::/48"), Family::Ipv6).nftables.unwrap();
    let mut node = Node::new(Engine::new(&table, 42).unwrap(), &["fd00:10::2", "::1"]);
    let mut endpoints = std::collections::BTreeSet::new();
    for (client, masquerade) in [("fd00:244::9", false), ("2001:db8:99::1", true)] {
        for _ in 0..40 {
            let o = node.first_packet(syn(client, "fd00:96::e01", 80));
            assert_eq!((o.verdict, o.masquerade), (HookVerdict::Accept, masquerade), "{client}");
            endpoints.insert(o.dnat.unwrap().to_string());
        }
    }
    let all: Vec<_> = endpoints.iter().map(String::as_str).collect();
    assert_eq!(all, ["[fd00:244:1::181]:8080", "[fd00:244::180]:8080"]);
    assert_eq!(node.first_packet(syn("fd00:244::9", "fd00:96::e04", 80)).verdict, HookVerdict::Reject);
    assert_eq!(node.first_packet(syn("fd00:244::9", "fd00:96::ffff", 80)).verdict, HookVerdict::Drop);
    assert_eq!(node.first_packet(syn("2001:db8:1::7", "2001:db8::60", 80)).verdict, HookVerdict::Drop);
}
