//! The ledger: sizes against the rule counts that a real kube-proxy served, windows against their definition.

use super::rig::{Event, Setup, ms, proxy, simulation};
use crate::config::ProxyConfig;
use crate::control::services::Cluster;
use crate::kube::import::import;
use crate::proxy::fleet::{Beginning, Ledger};
use crate::proxy::mode;
use sim_core::classify::Family;
use sim_core::des::Schedule as _;
use std::collections::{BTreeMap, BTreeSet};

/// `sync_proxy_rules_iptables_total` of kube-proxy 1.36.2 for the objects in `tests/kube-proxy/`, IPv4: filter, nat. Those whose
/// slices differ in their ports, or whose rules differ from node to node, are not the ledger's.
const RECORDED: [(&str, &str, u64, u64); 4] = [
    ("01", include_str!("../../../../tests/kube-proxy/01-clusterip-basic/input.json"), 4, 82),
    ("03", include_str!("../../../../tests/kube-proxy/03-nodeport/input.json"), 6, 43),
    ("10", include_str!("../../../../tests/kube-proxy/10-headless-externalname/input.json"), 4, 15),
    ("09", include_str!("../../../../tests/kube-proxy/09-no-endpoints/input.json"), 16, 10),
];

#[test]
fn sizes_are_the_rule_counts_that_kube_proxy_served() {
    let config =
        ProxyConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..ProxyConfig::default() };
    let mode = mode("iptables").unwrap().simulated().unwrap();
    for (name, text, filter, nat) in RECORDED {
        let objects = import(text).unwrap();
        let cluster = Cluster::of(&objects, &BTreeMap::new(), Family::Ipv4);
        let beginning = Beginning::of(&cluster.services, &cluster.state);
        let ledger = Ledger::new(mode, &config, Family::Ipv4, &cluster.services, &beginning);
        let table = ledger.table(0);
        let rules = table.size.common_rules + table.size.own_rules - table.filter_rules;
        assert_eq!((4 + table.filter_rules, 5 + rules), (filter, nat), "{name}: {table:?}");
    }
}

#[test]
fn a_window_is_the_difference_of_the_tables_and_has_each_service_once() {
    for name in ["iptables", "nftables", "ipvs"] {
        let mut sim = simulation(Setup { nodes: 1, services: 5, proxy: proxy(name, 36), ..Setup::default() });
        for i in 0..40 {
            sim.context().at(ms(1_000 + i * 10), Event::Touch((i * i % 5) as u32));
        }
        sim.run_until(ms(10_000));
        let rig = sim.model();
        let ledger = &rig.fleet.modes()[0].ledger;
        for from in 0..=40 {
            for to in from..=40 {
                let window = ledger.window(from, to);
                let (mut sum, before) = (ledger.table(from), window.replaced);
                sum += window.written;
                sum -= before;
                assert_eq!(sum, ledger.table(to), "{name}: {from} to {to}");
                let services: BTreeSet<_> =
                    rig.log.between(from, to).iter().map(|c| c.what.service()).collect();
                assert_eq!(window.services as usize, services.len(), "{name}: {from} to {to}");
                assert_eq!(window.written.size.ports, services.len() as u64, "{name}: {from} to {to}");
            }
        }
        let last = *ledger.changes_of(ledger.service_of(40), 40).collect::<Vec<_>>().first().unwrap();
        assert_eq!(last, 40);
    }
}
