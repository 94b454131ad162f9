//! Laws that hold for all clusters: partial syncs lead where a full one would, chains and jumps fit together, and
//! rules are as many as they should be.

use crate::cases::inputs;
use crate::clusters::{self, NODE, config, state, states};
use crate::restore::{Kernel, jump};
use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kube::arrival::arrivals;
use sim_models::kube::resolve::resolve;
use sim_models::kube::{EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::iptables::{RuleCounts, build, rule_counts};
use std::collections::BTreeSet;

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(vec![Family::Ipv4, Family::Ipv6])
}

/// Tables after a full sync on a node without rules.
fn full(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Kernel {
    let mut kernel = Kernel::default();
    let runs = inputs(std::slice::from_ref(objects), config, family);
    kernel.restore(&runs[0][0].stdin);
    kernel
}

/// What the proxy sees while the objects go through these states: each Service before its slices.
fn seen(states: &[clusters::State], family: Family) -> Vec<ProxyObjects> {
    let objects: Vec<_> = states.iter().map(clusters::State::objects).collect();
    let first = std::iter::once(objects[0].clone());
    let later = objects.windows(2).flat_map(|pair| arrivals(&pair[0], &pair[1]));
    first.chain(later).map(|objects| resolve(&objects, family, NODE)).collect()
}

/// Rules that a port adds to (filter, nat), counted from its lists alone.
fn law(port: &ServicePort, config: &ProxyConfig, family: Family) -> (usize, usize) {
    let EndpointLists { cluster, local, reachable, has_any, .. } = &port.endpoints;
    let count = |condition: bool| usize::from(condition);
    let (external, vips) = (port.external_ips.len(), port.load_balancer_vips.len());
    let node_port = count(port.node_port != 0);
    let counted = count(family == Family::Ipv4 && config.localhost_node_ports);
    let detects = !config.cluster_cidrs.is_empty();
    let (has_internal, has_external) = (port.has_internal_endpoints(), port.has_external_endpoints());
    let is_open = *has_any && port.externally_accessible();
    let firewalled = *has_any && vips > 0 && !port.source_ranges.is_empty();

    let closed = if has_external { 0 } else { external + vips + node_port };
    let guarded = if firewalled { vips } else { 0 };
    let filter = count(!has_internal) + closed + guarded + count(port.health_check_node_port != 0);

    let entries = if *has_any { external + vips + node_port * (1 + counted) } else { 0 };
    let masquerade = count(has_internal && (config.masquerade_all || detects));
    let head = if port.external_local { 2 + count(detects) } else { 1 };
    let ext = if is_open { head + count(has_external) } else { 0 };
    let from_node = port.source_ranges.iter().any(|range| {
        ["192.168.0.2", "fd00:10::2"]
            .iter()
            .any(|ip| range.contains(&ip.parse::<std::net::IpAddr>().unwrap()))
    });
    let allowed = port.source_ranges.len() + if from_node { vips } else { 0 };
    let firewall = if firewalled { allowed + 1 } else { 0 };
    let per_endpoint = 1 + count(port.affinity_seconds.is_some());
    let spread = [(port.uses_cluster_endpoints(), cluster), (port.uses_local_endpoints(), local)];
    let spread: usize =
        spread.iter().filter(|(used, _)| *used).map(|(_, list)| list.len() * per_endpoint).sum();
    let nat = count(has_internal) + entries + masquerade + ext + firewall + spread + 2 * reachable.len();
    (filter, nat)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn partial_syncs_lead_to_the_rules_of_a_full_one(
        states in states(), config in config(), family in family(),
    ) {
        let seen = seen(&states, family);
        let runs = inputs(&seen, &config, family);
        prop_assert_eq!(runs.len(), seen.len());
        let mut kernel = Kernel::default();
        for (objects, runs) in seen.iter().zip(&runs) {
            for run in runs {
                kernel.restore(&run.stdin);
            }
            prop_assert_eq!(&kernel, &full(objects, &config, family));
        }
    }

    #[test]
    fn a_partial_sync_writes_the_chains_of_changed_services_only(states in states(), family in family()) {
        let seen = seen(&states, family);
        let runs = inputs(&seen, &ProxyConfig::default(), family);
        for (pair, runs) in seen.windows(2).zip(&runs[1..]) {
            if pair[0].zone != pair[1].zone {
                continue;
            }
            let unchanged = pair[1].ports.iter().filter(|port| {
                let of_service = |objects: &ProxyObjects| -> Vec<ServicePort> {
                    let ports = objects.ports.iter().filter(|other| other.name == port.name);
                    ports.cloned().collect()
                };
                of_service(&pair[0]) == of_service(&pair[1])
            });
            let names: BTreeSet<String> = unchanged.map(ServicePort::full_name).collect();
            for line in runs.iter().flat_map(|run| run.stdin.lines()).filter(|line| line.starts_with("-A KUBE-SVC")) {
                let of_unchanged = names.iter().any(|name| line.contains(&format!("\"{name} ")));
                prop_assert!(!of_unchanged, "{}", line);
            }
        }
    }

    #[test]
    fn chains_are_written_once_and_filled_and_used(state in state(), config in config(), family in family()) {
        let objects = state.resolve(family);
        let stdin = &inputs(std::slice::from_ref(&objects), &config, family)[0][0].stdin;
        for table in stdin.split("COMMIT\n") {
            let lines: Vec<&str> = table.lines().filter(|line| line.starts_with(':')).collect();
            prop_assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
        }
        // Jumps to chains that are not there are what `restore` itself refuses.
        let kernel = full(&objects, &config, family);
        let nat = &kernel.tables["nat"];
        let used: BTreeSet<&str> = nat.values().flatten().filter_map(|rule| jump(rule)).collect();
        let always = ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-NODEPORTS"];
        for (chain, rules) in nat.iter().filter(|(chain, _)| !always.contains(&chain.as_str())) {
            prop_assert!(used.contains(chain.as_str()), "nothing leads to {}", chain);
            prop_assert!(!rules.is_empty(), "{} is empty", chain);
            prop_assert!(chain.len() <= 28, "{}", chain);
        }
    }

    #[test]
    fn rules_are_as_many_as_the_services_call_for(state in state(), config in config(), family in family()) {
        let objects = state.resolve(family);
        let ports: Vec<(usize, usize)> =
            objects.ports.iter().map(|port| law(port, &config, family)).collect();
        let firewall = usize::from(family == Family::Ipv4 && config.localhost_node_ports);
        let invalid = usize::from(!config.conntrack.tcp_be_liberal);
        let filter = 2 + invalid + firewall + ports.iter().map(|counts| counts.0).sum::<usize>();
        let nat = 5 + ports.iter().map(|counts| counts.1).sum::<usize>();
        let built = build(&objects, &config, family);
        let RuleCounts { filter: built_filter, nat: built_nat } = rule_counts(&built);
        prop_assert_eq!((built_filter, built_nat), (filter, nat));
        // What is restored is what is built, chain by chain.
        let kernel = full(&objects, &config, family);
        for (table, name) in [(&built.xtables[0], "filter"), (&built.xtables[2], "nat")] {
            for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
                let restored = kernel.tables[name].get(&*chain.name).map_or(0, Vec::len);
                prop_assert_eq!(restored, chain.rules.len(), "{} {}", name, chain.name);
            }
        }
    }
}
