//! Single scenes: when a node syncs, what it has, what it tells.

use super::rig::{Event, Rig, Setup, ms, proxy, simulation};
use crate::config::ModeSwitch;
use crate::proxy::fleet::Scope;
use sim_core::des::{Schedule as _, Simulation};
use sim_core::units::SimSpan;

fn run(sim: &mut Simulation<Rig>, until: u64) {
    sim.run_until(ms(until));
    sim.model().check(ms(until));
}

fn versions(rig: &Rig, node: u32) -> Vec<Option<u64>> {
    rig.loads.iter().filter(|l| l.node == node).map(|l| l.rules.map(|r| r.version)).collect()
}

#[test]
fn an_idle_node_syncs_at_once_and_the_second_of_two_close_changes_waits() {
    let mut sim = simulation(Setup { nodes: 1, ..Setup::default() });
    for at in [10_000, 10_300, 10_600] {
        sim.context().at(ms(at), Event::Touch(3));
    }
    run(&mut sim, 20_000);
    let rig = sim.model();
    assert_eq!(versions(rig, 0), [Some(1), Some(3)]);
    let (first, second) = (rig.loads[0].at.since(ms(10_000)), rig.loads[1].at.since(rig.loads[0].at));
    assert!(first > SimSpan::from_ms(2) && first < SimSpan::from_ms(300), "{first}");
    assert!(second > SimSpan::from_secs(1) && second < SimSpan::from_ms(1_400), "{second}");
    rig.fleet.check_settled(&rig.log);
}

#[test]
fn nothing_happens_in_an_idle_hour_but_one_full_sync_of_each_node() {
    let mut sim = simulation(Setup { nodes: 50, ..Setup::default() });
    run(&mut sim, 3_600_000);
    let totals = sim.model().fleet.totals();
    assert_eq!((totals.syncs, totals.full, totals.failed), (50, 50, 0));
    assert!(sim.model().loads.is_empty(), "the rules are the same: {:?}", sim.model().loads);
    // ipvs mode syncs once a sync-period.
    let mut sim = simulation(Setup { nodes: 10, proxy: proxy("ipvs", 36), ..Setup::default() });
    run(&mut sim, 300_000);
    let syncs = sim.model().fleet.totals().syncs;
    assert!((90..=100).contains(&syncs), "{syncs}");
}

#[test]
fn a_restart_keeps_the_kernels_rules_and_a_new_node_is_without_any_until_its_first_sync() {
    let mut sim = simulation(Setup { nodes: 2, ..Setup::default() });
    let cx = sim.context();
    cx.at(ms(5_000), Event::Restart(0));
    cx.at(ms(5_001), Event::Touch(1));
    cx.at(ms(6_000), Event::Join);
    run(&mut sim, 60_000);
    let rig = sim.model();
    assert_eq!(versions(rig, 0), [Some(1)]);
    let (restarted, joined) =
        (rig.loads.iter().find(|l| l.node == 0).unwrap(), rig.loads.iter().find(|l| l.node == 2).unwrap());
    // A start-up of 500 ms and a list; the boot of a second besides.
    assert!(restarted.at > ms(5_500) && restarted.at < ms(7_000), "{}", restarted.at);
    assert!(joined.at > ms(7_500) && joined.at < ms(9_500), "{}", joined.at);
    assert_eq!(rig.fleet.totals().first, 2);
    // Its latencies count from the commit for the node that stood still, not at all for the new one.
    assert_eq!(rig.fleet.latencies().nodes(1), 2);
    rig.fleet.check_settled(&rig.log);
}

#[test]
fn a_failed_restore_is_tried_again_by_a_full_sync_after_the_sync_period() {
    for (name, partial) in [("iptables", 1), ("nftables", 0)] {
        let mut sim = simulation(Setup { nodes: 1, proxy: proxy(name, 36), ..Setup::default() });
        let cx = sim.context();
        cx.at(ms(9_000), Event::FailRestores(0, SimSpan::from_secs(2)));
        cx.at(ms(10_000), Event::Touch(2));
        run(&mut sim, 60_000);
        let rig = sim.model();
        let at = rig.loads[0].at;
        assert!(at > ms(40_000) && at < ms(41_500), "{name}: {at}");
        let totals = rig.fleet.totals();
        assert_eq!((totals.failed, totals.full, totals.syncs), (1, 1, 1), "{name}");
        let metrics = &rig.fleet.node(0).metrics;
        assert_eq!(metrics.partial_failures, partial, "{name}");
        // What the failed sync took is never observed by kube-proxy, but live all the same.
        assert_eq!(metrics.programming.count(), 0);
        assert_eq!(rig.fleet.latencies().live.count(), 1);
    }
}

#[test]
fn a_flush_is_noticed_by_the_canary_in_iptables_mode_and_by_nobody_in_nftables_mode() {
    let mut sim = simulation(Setup { nodes: 20, ..Setup::default() });
    (0..20).for_each(|node| sim.context().at(ms(10_000), Event::Flush(node)));
    run(&mut sim, 60_000);
    let rig = sim.model();
    for node in 0..20 {
        let loads: Vec<_> = rig.loads.iter().filter(|l| l.node == node).collect();
        assert_eq!(loads.len(), 2, "{loads:?}");
        assert!(loads[0].rules.is_none() && loads[1].at < ms(41_500), "{loads:?}");
    }
    let mut sim = simulation(Setup { nodes: 1, proxy: proxy("nftables", 36), ..Setup::default() });
    sim.context().at(ms(10_000), Event::Flush(0));
    run(&mut sim, 100_000);
    assert_eq!(versions(sim.model(), 0), [None]);
    // The next partial sync finds no table, the retry writes everything.
    sim.context().at(ms(200_000), Event::Touch(0));
    run(&mut sim, 300_000);
    assert_eq!(versions(sim.model(), 0), [None, Some(1)]);
    assert!(sim.model().loads[1].at > ms(230_000));
    assert_eq!(sim.model().fleet.node(0).metrics.nftables_failures, 1);
}

#[test]
fn nodes_keep_their_last_rules_during_an_outage_and_catch_up_after_it() {
    let mut sim = simulation(Setup { nodes: 3, ..Setup::default() });
    let cx = sim.context();
    cx.at(ms(10_000), Event::ApiDown);
    cx.at(ms(11_000), Event::Restart(1));
    cx.at(ms(60_000), Event::ApiUp);
    cx.at(ms(60_000), Event::Touch(1));
    run(&mut sim, 50_000);
    assert!(sim.model().loads.is_empty());
    run(&mut sim, 200_000);
    let rig = sim.model();
    assert!(rig.loads.iter().all(|l| l.at > ms(60_000)));
    rig.fleet.check_settled(&rig.log);
}

#[test]
fn a_mode_switch_without_a_flush_leaves_the_old_rules_under_the_new_ones() {
    let switch =
        |to: &str, restart, flush| ModeSwitch { to: to.to_owned(), restart, flush, wait: true, parallel: 1 };
    for (to, flush, under) in [("ipvs", false, Some((0, 0))), ("ipvs", true, None), ("nftables", false, None)]
    {
        let mut sim = simulation(Setup { nodes: 4, ..Setup::default() });
        sim.context().at(ms(1_000), Event::Switch(switch(to, true, flush)));
        run(&mut sim, 60_000);
        let rig = sim.model();
        for node in 0..4 {
            let rules = rig.fleet.kernel(node).unwrap();
            assert_eq!((rules.mode, rules.under), (1, under), "{to}, flush {flush}");
            assert!(!rig.fleet.is_drained(node));
        }
        // One node after the other.
        let times: Vec<_> = rig.loads.iter().filter(|l| l.rules.is_some()).map(|l| l.at).collect();
        assert!(times.windows(2).all(|w| w[1].since(w[0]) > SimSpan::from_ms(500)), "{times:?}");
        rig.fleet.check_settled(&rig.log);
    }
    let mut sim = simulation(Setup { nodes: 2, ..Setup::default() });
    sim.context().at(ms(1_000), Event::Switch(switch("ipvs", false, true)));
    run(&mut sim, 60_000);
    assert!(sim.model().loads.is_empty(), "nothing reads the new ConfigMap");
}

#[test]
fn packets_on_the_same_core_make_a_sync_longer() {
    let at = |stolen| {
        let mut sim = simulation(Setup { nodes: 1, stolen, ..Setup::default() });
        sim.context().at(ms(10_000), Event::Touch(0));
        run(&mut sim, 20_000);
        (sim.model().loads[0].at, sim.model().fleet.node(0).metrics.syncs.sum_ns)
    };
    let ((alone, alone_ns), (shared, shared_ns)) = (at(0.0), at(0.5));
    assert!(shared > alone);
    // Half of each second goes to packets: the sum of a geometric series.
    let ratio = shared_ns as f64 / alone_ns as f64;
    assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
}

#[test]
fn the_exposition_has_the_names_and_buckets_of_kube_proxy() {
    let mut sim = simulation(Setup { nodes: 2, ..Setup::default() });
    sim.context().at(ms(10_000), Event::Touch(0));
    run(&mut sim, 20_000);
    let rig = sim.model();
    let text = rig.fleet.exposition(Scope::Node(0), &rig.log, ms(20_000));
    for line in [
        "# HELP kubeproxy_sync_proxy_rules_duration_seconds [ALPHA] SyncProxyRules latency in seconds",
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 1",
        "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"} 1",
        "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
        "kubeproxy_sync_proxy_rules_iptables_total{ip_family=\"IPv4\",table=\"filter\"} 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let all = rig.fleet.exposition(Scope::All, &rig.log, ms(20_000));
    assert!(all.contains("kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 2"));
}
