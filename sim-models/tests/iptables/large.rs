//! Large clusters: above a thousand endpoints kube-proxy leaves out comments of endpoints and does not look for
//! unused chains at every sync (`TestSyncProxyRulesLargeClusterMode`).

use crate::cases::{inputs, inputs_apart};
use crate::clusters::{State, states};
use crate::restore::Kernel;
use proptest::prelude::*;
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use sim_models::config::ProxyConfig;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use std::net::Ipv4Addr;

fn service(name: &str, network: u32, endpoints: std::ops::Range<u32>) -> ServicePort {
    let list = endpoints.map(|i| {
        let ip = Ipv4Addr::from((10 << 24) + (network << 16) + i);
        Endpoint { addr: (ip, 8080).into(), is_local: false }
    });
    let ip = Ipv4Addr::from((172 << 24) + (30 << 16) + network);
    ServicePort::http("ns", name, ip.into(), EndpointLists::ready(list.collect()))
}

fn objects(ports: Vec<ServicePort>) -> ProxyObjects {
    ProxyObjects { ports, ..ProxyObjects::default() }
}

fn endpoint_chains(kernel: &Kernel) -> usize {
    kernel.tables["nat"].keys().filter(|chain| chain.starts_with("KUBE-SEP-")).count()
}

#[test]
fn crossing_the_threshold_leaves_old_comments_and_unused_chains_until_there_is_reason_to_touch_them() {
    let big = || service("big", 1, 0..1000);
    let states = [
        objects(vec![big()]),
        objects(vec![big(), service("small", 2, 0..1)]),
        objects(vec![big(), service("small", 2, 1..2)]),
        objects(vec![big()]),
    ];
    let runs = inputs(&states, &ProxyConfig::default(), Family::Ipv4);
    let mut kernel = Kernel::default();
    let mut chains = Vec::new();
    for runs in &runs {
        runs.iter().for_each(|run| kernel.restore(&run.stdin));
        chains.push(endpoint_chains(&kernel));
    }
    let comments = |i: usize| runs[i][0].stdin.matches(" -> 10.").count();
    assert_eq!([0, 1, 2, 3].map(comments), [1000, 0, 0, 0], "comments written at each sync");
    assert_eq!(chains, [1000, 1001, 1002, 1000], "the replaced endpoint's chain stays for a while");
    // At a thousand again, the unused chains go.
    assert_eq!(runs[3][0].stdin.matches("-X KUBE-SEP-").count(), 2);
    let rules = kernel.tables["nat"].values().flatten();
    assert_eq!(rules.filter(|rule| rule.contains(" -> 10.")).count(), 1000, "comments of the first sync");
}

#[test]
fn a_large_cluster_looks_for_unused_chains_again_after_the_sync_period() {
    let big = || service("big", 1, 0..1000);
    let states: Vec<ProxyObjects> =
        (0..6).map(|i| objects(vec![big(), service("small", 2, i..i + 1)])).collect();
    for (seconds, deleted) in [(1, [0, 0, 0, 0, 0, 0]), (10, [0, 0, 0, 0, 4, 0]), (31, [0, 1, 1, 1, 1, 1])] {
        let apart = SimSpan::from_secs(seconds);
        let runs = inputs_apart(apart, &states, &ProxyConfig::default(), Family::Ipv4);
        let counts: Vec<usize> = runs.iter().map(|runs| runs[0].stdin.matches("\n-X ").count()).collect();
        assert_eq!(counts, deleted, "every {seconds} s");
    }
}

#[test]
fn a_large_cluster_is_one_with_more_than_a_thousand_endpoints() {
    for (endpoints, comments) in [(1000, 1000), (1001, 0)] {
        let runs =
            inputs(&[objects(vec![service("a", 1, 0..endpoints)])], &ProxyConfig::default(), Family::Ipv4);
        assert_eq!(runs[0][0].stdin.matches(" -> 10.").count(), comments, "{endpoints}");
    }
}

/// What a sync at last left behind of chains that nobody uses does not count.
fn used_chains(kernel: &Kernel, wanted: &Kernel) -> Kernel {
    let mut kernel = kernel.without_comments();
    for (name, table) in &mut kernel.tables {
        table.retain(|chain, _| wanted.tables[name].contains_key(chain));
    }
    kernel
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn around_the_threshold_partial_syncs_lead_to_the_rules_of_a_full_one(states in states()) {
        let see = |state: &State| {
            let mut seen = state.resolve(Family::Ipv4);
            seen.ports.push(service("big", 1, 0..996));
            seen
        };
        let seen: Vec<ProxyObjects> = states.iter().map(see).collect();
        let config = ProxyConfig::default();
        let mut kernel = Kernel::default();
        for (objects, runs) in seen.iter().zip(inputs(&seen, &config, Family::Ipv4)) {
            runs.iter().for_each(|run| kernel.restore(&run.stdin));
            let mut wanted = Kernel::default();
            let full = inputs(std::slice::from_ref(objects), &config, Family::Ipv4);
            wanted.restore(&full[0][0].stdin);
            prop_assert_eq!(used_chains(&kernel, &wanted), wanted.without_comments());
        }
    }
}
