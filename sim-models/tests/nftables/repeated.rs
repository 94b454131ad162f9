//! What one change makes kube-proxy write, change by change, as in `TestSyncProxyRulesRepeated`
//! (`pkg/proxy/nftables/proxier_test.go`).

use crate::support::{V4, config, objects};
use crate::syncs::scripts;
use sim_core::units::SimTime;
use sim_models::kube::{EndpointLists, ProxyObjects};
use sim_models::proxy::names::nft_service_base;

const NODE: &str = "192.168.0.2";

/// What is written in each state; states are given with the milliseconds at which they are seen.
fn written(states: &[(u64, &ProxyObjects)]) -> Vec<Vec<String>> {
    let states: Vec<_> =
        states.iter().map(|(ms, o)| (SimTime::from_ns(ms * 1_000_000), (*o).clone())).collect();
    scripts(&states, &config(36, "10.64.0.0/10"), V4)
}

fn lines(script: &str) -> Vec<String> {
    script.lines().map(|line| line.replace(" ip kube-proxy", "")).collect()
}

/// Three Services, and the same without the endpoints of the first.
fn with_and_without() -> (ProxyObjects, ProxyObjects) {
    let full = objects(3, 2, NODE);
    let mut empty = full.clone();
    empty.ports[0].endpoints = EndpointLists::default();
    (full, empty)
}

/// The chain of the first, second or third Service.
fn chain(i: usize) -> String {
    format!("service-{}", nft_service_base(&objects(3, 2, NODE).ports[i]))
}

#[test]
fn nothing_is_written_where_nothing_changed_for_the_family() {
    let full = objects(3, 2, NODE);
    let mut sorted_otherwise = full.clone();
    sorted_otherwise.ports.reverse();
    let written = written(&[(0, &full), (5000, &full), (9000, &sorted_otherwise)]);
    assert_eq!((written[0].len(), written[1].len(), written[2].len()), (1, 0, 0));
}

#[test]
fn another_version_of_a_slice_writes_the_chains_of_its_service_again() {
    let full = objects(3, 2, NODE);
    let mut annotated = full.clone();
    annotated.ports[1].revision += 1;
    let written = written(&[(0, &full), (5000, &annotated)]);
    let lines = lines(&written[1][0]);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let chain = chain(1);
    assert_eq!(lines[..2], [format!("add chain {chain}"), format!("flush chain {chain}")]);
    assert!(
        lines[2].starts_with(&format!("add rule {chain} meta l4proto tcp dnat ip addr . port to numgen"))
    );
}

#[test]
fn a_stale_chain_is_emptied_in_every_sync_and_deleted_once_a_second_has_passed() {
    let (full, empty) = with_and_without();
    let mut later = empty.clone();
    let mut states = vec![(0, full), (5000, empty)];
    for at in [5500, 6500, 7501, 9000] {
        later.slices_revision += 1;
        states.push((at, later.clone()));
    }
    let states: Vec<_> = states.iter().map(|(at, o)| (*at, o)).collect();
    let written = written(&states);
    assert!(lines(&written[1][0]).contains(&format!("flush chain {}", chain(0))));
    // A second from the last time it was emptied, and not a moment less.
    for soon in &written[2..4] {
        assert_eq!(soon.len(), 1);
        assert_eq!(lines(&soon[0]), [format!("flush chain {}", chain(0))]);
    }
    assert_eq!(written[4].len(), 2);
    assert_eq!(lines(&written[4][0]), [format!("delete chain {}", chain(0))]);
    assert!(written[4][1].is_empty() && written[5] == [""], "nothing is left to do, and nft is run even so");
}

#[test]
fn a_chain_that_is_needed_again_in_time_is_not_deleted() {
    let (full, empty) = with_and_without();
    let written = written(&[(0, &full), (5000, &empty), (5500, &full), (9000, &empty)]);
    assert_eq!(written[2].len(), 1);
    let back = lines(&written[2][0]);
    assert!(back.contains(&format!("add chain {}", chain(0))));
    assert!(back.contains(&"delete element no-endpoint-services { 172.20.0.1 . tcp . 80 }".to_owned()));
    assert_eq!(written[3].len(), 1, "it was not stale any more");
}

#[test]
fn affinity_sets_go_at_once_and_their_chains_later() {
    let mut before = objects(1, 2, NODE);
    before.ports[0].affinity_seconds = Some(60);
    let mut after = before.clone();
    after.ports[0].affinity_seconds = None;
    let written = written(&[(0, &before), (5000, &after)]);
    let lines = lines(&written[1][0]);
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("delete set affinity-"), count("flush chain endpoint-")), (2, 2), "{lines:#?}");
    assert_eq!(count("delete chain"), 0);
}

#[test]
fn another_zone_writes_everything_again_but_keeps_base_chains_and_elements() {
    let full = objects(3, 2, NODE);
    let moved = ProxyObjects { zone: Some("zone-b".into()), ..full.clone() };
    let written = written(&[(0, &full), (5000, &moved)]);
    let (first, again) = (lines(&written[0][0]), lines(&written[1][0]));
    assert!(first.contains(&"delete chain filter-input".to_owned()));
    assert_eq!(again[0], first[0], "add table");
    assert!(!again.contains(&"delete chain filter-input".to_owned()));
    let elements = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with("add element")).cloned().collect()
    };
    assert_eq!(elements(&again), ["add element nodeport-ips { 192.168.0.2 }"]);
    let rules = |lines: &[String]| lines.iter().filter(|line| line.starts_with("add rule")).count();
    assert_eq!(rules(&first), rules(&again));
}

#[test]
fn an_address_of_two_services_changes_hands_within_every_sync() {
    let mut shared = objects(2, 2, NODE);
    for port in &mut shared.ports {
        port.external_ips = vec!["198.18.0.1".parse().unwrap()];
    }
    let mut other = shared.clone();
    other.slices_revision += 1;
    let written = written(&[(0, &shared), (5000, &other)]);
    let lines = lines(&written[1][0]);
    let key = "198.18.0.1 . tcp . 80";
    let commands: Vec<&str> = lines.iter().map(|line| line.split(" : ").next().unwrap()).collect();
    let (add, delete) =
        (format!("add element service-ips {{ {key}"), format!("delete element service-ips {{ {key} }}"));
    assert_eq!(commands, [&delete, &add, &delete, &add]);
    assert!(lines[3].contains("goto external-") && lines[3].contains("svc-00001"), "the last one has it");
}
