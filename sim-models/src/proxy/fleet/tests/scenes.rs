//! Single scenes: when a node syncs, what it has, what it tells.

use super::rig::{Event, Rig, Setup, ms, proxy, simulation};
use crate::config::{ModeSwitch, NodeConfig};
use crate::control::log::ServiceId;
use crate::kube::import::import;
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
    // A start-up of 500 ms and a list.
    assert!(restarted.at > ms(5_500) && restarted.at < ms(7_000), "{}", restarted.at);
    assert!(joined.at > ms(6_500) && joined.at < ms(8_500), "{}", joined.at);
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
    let text = rig.fleet.exposition(Scope::Node(0), rig.whereabouts(), ms(20_000));
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
    let all = rig.fleet.exposition(Scope::All, rig.whereabouts(), ms(20_000));
    assert!(all.contains("kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 2"));
}

#[test]
fn every_line_of_a_real_kube_proxys_metrics_that_is_ours_is_the_same() {
    let recorded = [
        ("iptables", include_str!("../../../../tests/data/metrics/iptables.txt")),
        ("nftables", include_str!("../../../../tests/data/metrics/nftables.txt")),
    ];
    for (name, recorded) in recorded {
        let mut sim = simulation(Setup { nodes: 1, proxy: proxy(name, 36), ..Setup::default() });
        sim.context().at(ms(1_000), Event::Restart(0));
        run(&mut sim, 10_000);
        let rig = sim.model_mut();
        rig.fleet.reconciled(0, SimSpan::from_ms(3), 0);
        let text = rig.fleet.exposition(Scope::Node(0), rig.whereabouts(), ms(10_000));
        // Names, helps, types, labels and bounds, without values; IPv6 and counters of packets are not modelled.
        let shape = |text: &str| -> Vec<String> {
            let ours = text.lines().filter(|l| !l.contains("IPv6") && !l.contains("_packets_total"));
            let bare = |l: &str| match l.strip_prefix("kubeproxy_") {
                Some(sample) => sample.rsplit_once(' ').expect("a value").0.to_owned(),
                None => l.to_owned(),
            };
            ours.map(bare).collect()
        };
        assert_eq!(shape(&text), shape(recorded), "{name}");
    }
}

#[test]
fn others_that_hold_the_xtables_lock_delay_iptables_mode_and_not_nftables_mode() {
    let node =
        NodeConfig { lock_users_per_second: 5.0, lock_held: SimSpan::from_ms(160), ..NodeConfig::default() };
    let time = |name: &str, node: NodeConfig| {
        let mut sim = simulation(Setup { nodes: 40, proxy: proxy(name, 36), node, ..Setup::default() });
        sim.context().at(ms(10_000), Event::Touch(0));
        run(&mut sim, 100_000);
        sim.model().fleet.check_settled(&sim.model().log);
        let loads = &sim.model().loads;
        (loads.iter().map(|l| l.at.as_ns()).sum::<u64>() / 40, sim.model().fleet.totals())
    };
    let (free, totals) = time("iptables", NodeConfig::default());
    assert_eq!(totals.lock_wait, SimSpan::ZERO);
    let (taken, totals) = time("iptables", node.clone());
    // Four fifths of the time: four holdings of 160 ms on average.
    let wait = (taken - free) as f64 / 1e9;
    assert!((0.3..1.2).contains(&wait) && totals.lock_wait > SimSpan::from_secs(10), "{wait} s");
    assert_eq!(time("nftables", NodeConfig::default()).0, time("nftables", node).0);
}

#[test]
fn a_sync_waits_for_the_lock_five_seconds_and_has_then_failed() {
    let node = NodeConfig {
        lock_users_per_second: 0.999,
        lock_held: SimSpan::from_secs(1),
        ..NodeConfig::default()
    };
    let mut sim = simulation(Setup { nodes: 5, node, ..Setup::default() });
    sim.context().at(ms(10_000), Event::Touch(0));
    run(&mut sim, 30_000);
    assert_eq!(sim.model().fleet.totals().failed, 5);
    assert_eq!(sim.model().fleet.totals().lock_wait, SimSpan::from_secs(25));
    assert!(sim.model().loads.is_empty());
}

#[test]
fn healthz_is_bad_when_a_sync_has_been_wanted_for_two_sync_periods() {
    let mut sim = simulation(Setup { nodes: 2, ..Setup::default() });
    let cx = sim.context();
    cx.at(ms(9_000), Event::FailRestores(0, SimSpan::from_secs(100)));
    cx.at(ms(10_000), Event::Touch(2));
    for (at, healthy) in [(9_999, true), (60_000, true), (71_000, false), (150_000, true)] {
        run(&mut sim, at);
        let fleet = &sim.model().fleet;
        assert_eq!(fleet.is_healthy(0, ms(at)), Some(healthy), "at {at} ms");
        assert_eq!(fleet.is_healthy(1, ms(at)), Some(true));
    }
    sim.context().at(ms(150_000), Event::Down(0));
    run(&mut sim, 150_001);
    assert_eq!(sim.model().fleet.is_healthy(0, ms(150_001)), None);
}

#[test]
fn versions_before_1_27_write_everything_in_every_sync_of_iptables_mode() {
    for (minor, full) in [(26, 3), (27, 0)] {
        let mut sim = simulation(Setup { nodes: 1, proxy: proxy("iptables", minor), ..Setup::default() });
        for at in [10_000, 20_000, 30_000] {
            sim.context().at(ms(at), Event::Touch(3));
        }
        run(&mut sim, 40_000);
        assert_eq!(
            (sim.model().fleet.totals().syncs, sim.model().fleet.totals().full),
            (3, full),
            "1.{minor}"
        );
    }
}

#[test]
fn a_changed_zone_label_is_a_full_sync_that_loads_the_same_rules() {
    let mut sim = simulation(Setup { nodes: 1, ..Setup::default() });
    sim.context().at(ms(10_000), Event::Relabel(0));
    run(&mut sim, 20_000);
    assert_eq!((sim.model().fleet.totals().full, sim.model().loads.len()), (1, 0));
}

#[test]
fn health_check_node_ports_answer_what_a_real_kube_proxy_answered() {
    let text = include_str!("../../../../tests/kube-proxy/06-etp-local/input.json");
    let objects = import(text).unwrap();
    let names: Vec<_> = objects.services.iter().map(|s| s.name.clone()).collect();
    let mut sim = simulation(Setup { nodes: 1, objects: Some(objects), ..Setup::default() });
    run(&mut sim, 1_000);
    let rig = sim.model();
    let answer = |name: &str| {
        let id = names.iter().position(|n| &**n == name).unwrap() as u32;
        let answer = rig.fleet.health_check(0, ServiceId(id), rig.whereabouts(), ms(1_000));
        answer.map(|a| (a.local_endpoints, a.proxy_healthy, a.status))
    };
    for (name, local, status) in
        [("etp", 2, 200), ("etp-remote", 0, 503), ("etp-none", 0, 503), ("etp-fw", 0, 503)]
    {
        assert_eq!(answer(name), Some((local, true, status)), "{name}");
    }
    assert_eq!(answer("kubernetes"), None);
    // A first sync at the end of a start, so that there is one to tell of.
    sim.context().at(ms(2_000), Event::Restart(0));
    run(&mut sim, 10_000);
    let rig = sim.model();
    let text = rig.fleet.exposition(Scope::Node(0), rig.whereabouts(), ms(10_000));
    let line = "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 2";
    assert!(text.contains(line), "{text}");
}
