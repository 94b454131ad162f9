//! What holds for every cluster: how many rules there are, and that a table that was changed step by step is the one
//! built anew.

use crate::goldens::{self, Listing};
use crate::random::{changed, changes, cluster, objects, ports};
use crate::script::Loaded;
use crate::support::{V4, config};
use proptest::prelude::*;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::ProxyConfig;
use sim_models::kernel::nftables::{Engine, Table};
use sim_models::kube::{ProxyObjects, ServicePort};
use sim_models::proxy::ProxyMode;
use sim_models::proxy::nftables::mode::Nftables;
use sim_models::proxy::nftables::{Change, build, update};
use std::collections::BTreeSet;

fn table(objects: &ProxyObjects, config: &ProxyConfig) -> Table {
    build(objects, config, V4).nftables.unwrap()
}

fn rules(table: &Table) -> usize {
    table.chains.iter().map(|chain| chain.rules.len()).sum()
}

/// (chains, rules, elements) of one service port since 1.36.
fn expected(port: &ServicePort) -> (usize, usize, usize) {
    let e = &port.endpoints;
    let affinity = port.affinity_seconds.is_some();
    let picks = |list: usize| {
        if list == 0 {
            0
        } else if affinity {
            list + 1
        } else {
            1
        }
    };
    let (mut chains, mut rules) = (0, picks(e.cluster.len()) + picks(e.local.len()));
    chains += usize::from(!e.cluster.is_empty()) + usize::from(!e.local.is_empty());
    if affinity {
        chains += e.reachable.len();
        rules += 2 * e.reachable.len();
    }
    let external = port.has_external_endpoints();
    if e.has_any && port.externally_accessible() {
        chains += 1;
        // Mark and go on; or three ways to leave out the policy, and the policy where it leads anywhere.
        rules += if port.external_local { 3 + usize::from(external) } else { 2 };
    }
    let firewall = !port.load_balancer_vips.is_empty() && !port.source_ranges.is_empty();
    chains += usize::from(firewall);
    rules += usize::from(firewall);
    let outside = port.external_ips.len() + port.load_balancer_vips.len() + usize::from(port.node_port != 0);
    let elements = 1
        + outside * (usize::from(e.has_any) + usize::from(!external))
        + if firewall { port.load_balancer_vips.len() } else { 0 }
        + e.reachable.iter().filter(|e| e.is_local).count();
    (chains, rules, elements)
}

/// A listing without what a partial sync leaves behind: emptied chains, and affinity sets of endpoints that are gone.
fn listing(table: &Table, reference: &Listing) -> Listing {
    let mut out = goldens::parse(&table.to_string()).remove("table ip kube-proxy {").unwrap();
    out.blocks.retain(|head, lines| {
        !(head.contains("chain ") && head.contains('/') && lines.is_empty())
            && (!head.contains("set affinity-") || reference.blocks.contains_key(head))
    });
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chains_rules_and_elements_follow_from_the_ports(cluster in cluster()) {
        let config = config(36, "10.244.0.0/16");
        let objects = objects(&cluster);
        let empty = ProxyObjects { ports: Vec::new(), ..objects.clone() };
        let (built, empty) = (table(&objects, &config), table(&empty, &config));
        let elements = |table: &Table| table.sets.iter().map(|set| set.elements.len()).sum::<usize>();
        let mut want = (empty.chains.len(), rules(&empty), elements(&empty));
        for port in &objects.ports {
            let (chains, rules, elements) = expected(port);
            want = (want.0 + chains, want.1 + rules, want.2 + elements);
        }
        // Every Service has one cluster IP, whatever its ports.
        want.2 += objects.ports.iter().map(|port| port.cluster_ip).collect::<BTreeSet<_>>().len();
        prop_assert_eq!((built.chains.len(), rules(&built), elements(&built)), want);
    }

    #[test]
    fn no_key_is_in_a_set_twice_even_if_services_share_addresses(cluster in cluster(), shared in any::<bool>()) {
        let mut objects = objects(&cluster);
        if shared {
            for port in objects.ports.iter_mut().filter(|port| port.externally_accessible()) {
                port.external_ips = vec!["198.18.0.99".parse().unwrap(), port.cluster_ip];
                port.port = 80;
            }
        }
        for minor in [35, 36] {
            let table = table(&objects, &config(minor, "10.244.0.0/16"));
            for set in &table.sets {
                let keys: BTreeSet<_> = set.elements.iter().map(|e| &e.key).collect();
                prop_assert_eq!(keys.len(), set.elements.len(), "1.{} {}", minor, set.name);
            }
            prop_assert_eq!(table.validate(), Ok(()));
        }
    }

    #[test]
    fn scripts_of_syncs_lead_to_the_table_that_a_first_sync_makes(
        first in cluster(),
        changes in changes(),
        slow in prop::collection::vec(any::<bool>(), 8),
        zones in prop::collection::vec(prop::bool::weighted(0.1), 8),
    ) {
        for minor in [35, 36] {
            let config = config(minor, "10.244.0.0/16");
            let (mut at, mut cluster, mut zone) = (SimTime::ZERO, first.clone(), 0);
            let mut states = vec![(at, objects(&cluster))];
            for ((change, slow), new_zone) in changes.iter().zip(&slow).zip(&zones) {
                at += if *slow { SimSpan::from_secs(10) } else { SimSpan::from_ns(200_000_000) };
                cluster = changed(&cluster, change);
                zone += u32::from(*new_zone);
                let mut state = objects(&cluster);
                state.zone = (zone > 0).then(|| format!("zone-{zone}").into());
                states.push((at, state));
            }
            let inputs = Nftables.inputs(&states, &config, V4).unwrap();
            let mut loaded = Loaded::default();
            for ((i, (at, state)), runs) in states.iter().enumerate().zip(&inputs) {
                for run in runs {
                    loaded.apply(&run.stdin);
                }
                let anew = Nftables.inputs(&[(*at, state.clone())], &config, V4).unwrap();
                let mut built = Loaded::default();
                built.apply(&anew[0][0].stdin);
                prop_assert_eq!(&loaded.without_stale(), &built, "1.{} state {}", minor, i);
                // Deletes come alone and first, and nothing is written for no change.
                prop_assert!(runs.len() <= 2);
                let same = i > 0 && states[i - 1].1.ports == state.ports && states[i - 1].1.zone == state.zone;
                prop_assert_eq!(runs.is_empty(), same);
                prop_assert!(runs.len() < 2 || runs[0].stdin.lines().all(|line| line.starts_with("delete chain ")));
            }
        }
    }

    #[test]
    fn a_running_table_that_is_updated_port_by_port_equals_one_built_anew(
        first in cluster(),
        changes in changes(),
    ) {
        for minor in [35, 36] {
            let config = config(minor, "10.244.0.0/16");
            let mut cluster = first.clone();
            let mut running = table(&objects(&cluster), &config);
            let mut engine = Engine::new(&running, 1).unwrap();
            for change in &changes {
                let next = changed(&cluster, change);
                let at = |c: &crate::random::Cluster| {
                    let spec = c.get(change.0).cloned().flatten();
                    spec.map_or_else(Vec::new, |spec| ports(change.0, &spec))
                };
                let (old, new) = (at(&cluster), at(&next));
                let mut now = objects(&cluster);
                // Ports go and change before ports come: two of one Service never claim the same key.
                for i in (0..old.len().max(new.len())).rev() {
                    let key = |port: &ServicePort| (port.proto, port.port);
                    let kept = new.get(i).filter(|n| old.get(i).is_none_or(|o| key(o) == key(n)));
                    for (before, after) in [(old.get(i), kept), (None, new.get(i).filter(|_| kept.is_none()))] {
                        if before.is_none() && after.is_none() {
                            continue;
                        }
                        now.ports.retain(|port| before.is_none_or(|b| (&b.name, &b.port_name) != (&port.name, &port.port_name)));
                        now.ports.extend(after.cloned());
                        update(&mut running, &mut engine, Change { old: before, new: after }, &now, &config, V4);
                    }
                }
                cluster = next;
            }
            let built = table(&objects(&cluster), &config);
            let built = goldens::parse(&built.to_string()).remove("table ip kube-proxy {").unwrap();
            let running = listing(&running, &built);
            prop_assert_eq!(&running.blocks, &built.blocks, "1.{}", minor);
        }
    }
}
