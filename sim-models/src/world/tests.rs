//! The world as a whole: conservation, common random numbers, determinism, and what stale rules do.

mod fate;

use super::*;
use crate::config::{
    CacheState, ChurnConfig, ClusterConfig, ControlConfig, EndpointLaw, FaultConfig, KernelConfig,
    NodeConfig, PodConfig, ProxyConfig, TrafficConfig, TrafficTarget,
};
use sim_core::record::PointRecord;

fn config(mode: &str) -> WorldConfig {
    WorldConfig {
        seed: 7,
        duration: SimSpan::from_secs(2),
        warmup: SimSpan::ZERO,
        cluster: ClusterConfig {
            nodes: 4,
            services: 50,
            endpoints: EndpointLaw::Fixed(3),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_cidr: "10.128.0.0/9".parse().unwrap(),
            objects: None,
        },
        proxy: ProxyConfig {
            mode: mode.to_owned(),
            cluster_cidrs: vec!["10.128.0.0/9".parse().unwrap()],
            min_sync_period: SimSpan::from_ms(200),
            ..ProxyConfig::default()
        },
        kernel: KernelConfig { profile: "linux-6.18".to_owned(), cache: CacheState::Hot, cores: 2 },
        traffic: vec![TrafficConfig {
            name: "test".to_owned(),
            rate_per_node: 200.0,
            requests: 2,
            think: SimSpan::from_ms(1),
            service_time: SimSpan::from_ms(1),
            to: TrafficTarget::Uniform,
            timeout: SimSpan::from_secs(10),
            retries: 0,
        }],
        churn: ChurnConfig { rate: 0.0 },
        control: ControlConfig::default(),
        pods: PodConfig::default(),
        nodes: NodeConfig::default(),
        timeline: Vec::new(),
        faults: FaultConfig::default(),
    }
}

fn run_with(config: WorldConfig) -> PointRecord {
    let profile = CostProfile::named("linux-6.18").unwrap();
    run(Arc::new(config), Arc::new(profile), &|_, _| true).unwrap()
}

fn value(record: &PointRecord, name: &str) -> f64 {
    record.metric(name).unwrap_or_else(|| panic!("no metric {name}")).value.get()
}

const MODES: [&str; 3] = ["iptables", "ipvs", "nftables"];

#[test]
fn modes_that_only_have_rules_are_refused_and_the_others_are_all_tested_here() {
    let names: Vec<&str> = crate::proxy::simulated().map(|mode| mode.name()).collect();
    assert_eq!(names, MODES);
    for mode in ["userspace", "ebpf"] {
        let profile = Arc::new(CostProfile::named("linux-6.18").unwrap());
        let error = run(Arc::new(config(mode)), profile, &|_, _| true).unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains(&format!("{mode} mode has rules but no simulation")), "{error}");
    }
}

#[test]
fn every_mode_sees_the_same_connections() {
    let records: Vec<PointRecord> = MODES.iter().map(|m| run_with(config(m))).collect();
    for record in &records {
        assert_eq!(value(record, "connections"), value(&records[0], "connections"), "{}", record.mode);
        assert_eq!(value(record, "failed_connections"), 0.0, "{}", record.mode);
    }
    assert!(value(&records[0], "connections") > 1_400.0);
}

#[test]
fn the_same_configuration_gives_the_same_record_and_another_seed_another() {
    for mode in MODES {
        let (a, b) = (run_with(config(mode)), run_with(config(mode)));
        assert_eq!(a, b, "{mode}");
        let other = run_with(WorldConfig { seed: 8, ..config(mode) });
        assert_ne!(a.fingerprint, other.fingerprint, "{mode}");
    }
}

#[test]
fn each_connection_ends_and_each_change_reaches_every_node() {
    for mode in MODES {
        let mut config = config(mode);
        config.churn.rate = 5.0;
        let profile = Arc::new(CostProfile::named("linux-6.18").unwrap());
        let world = World::new(Arc::new(config), profile).unwrap();
        let mut simulation = Simulation::new(world);
        let (world, cx) = simulation.parts();
        world.begin(cx);
        simulation.run();
        let now = simulation.now();
        let world = simulation.into_model();
        assert!(world.connections.iter().all(|(_, c)| c.is_none()), "{mode}: connections outlive the run");
        world.check(now);
        assert!(world.plane.log().version() > 5, "{mode}: {} changes", world.plane.log().version());
        let (opened, closed, failed) = world.measures.balance();
        assert_eq!(opened, closed + failed, "{mode}: opened = closed + failed");
        assert!(opened > 1_400, "{mode}: {opened}");
    }
}

#[test]
fn only_first_packets_walk_the_rules() {
    let record = run_with(config("iptables"));
    let rules = value(&record, "rules_evaluated_mean");
    // 50 Services in random order, and what every first packet walks beside them.
    assert!((45.0..75.0).contains(&rules), "{rules}");
    assert!(value(&record, "established_packet_p99") < value(&record, "first_packet_p50"));
}

#[test]
fn a_replaced_endpoint_breaks_connections_until_the_rules_have_changed() {
    let mut slow = config("iptables");
    slow.churn.rate = 20.0;
    slow.proxy.min_sync_period = SimSpan::from_secs(100);
    let mut quick = slow.clone();
    quick.proxy.min_sync_period = SimSpan::from_ms(1);
    let (slow, quick) = (run_with(slow), run_with(quick));
    let failed = |r: &PointRecord| value(r, "failed_connections");
    assert!(failed(&quick) > 0.0, "syncs take time, and pods vanish at once");
    assert!(failed(&slow) > 3.0 * failed(&quick), "slow {} quick {}", failed(&slow), failed(&quick));
}

#[test]
fn a_service_without_endpoints_refuses_connections_in_every_mode() {
    for mode in MODES {
        let mut config = config(mode);
        config.cluster.endpoints = EndpointLaw::Fixed(0);
        let record = run_with(config);
        assert_eq!(value(&record, "failed_connections"), value(&record, "connections"), "{mode}");
    }
}

#[test]
fn an_overloaded_core_shows_in_the_latency_and_not_in_the_cost() {
    let mut busy = config("iptables");
    busy.kernel.cores = 1;
    busy.traffic[0].rate_per_node = 20_000.0;
    busy.duration = SimSpan::from_ms(200);
    let record = run_with(busy);
    assert!(value(&record, "cpu_utilisation") > 0.3);
    assert!(value(&record, "first_packet_latency_p99") > 1.5 * value(&record, "first_packet_p99"));
}

#[test]
fn a_pod_behind_two_services_is_replaced_behind_both() {
    let alone = WorldConfig { churn: ChurnConfig { rate: 5.0 }, ..config("iptables") };
    let made = crate::kube::generate::generate(&alone.cluster, alone.seed).unwrap();
    let mut objects = made.objects;
    for pair in 0..objects.slices.len() / 2 {
        objects.slices[2 * pair + 1].endpoints = objects.slices[2 * pair].endpoints.clone();
    }
    let mut shared = alone.clone();
    shared.cluster.objects = Some(Arc::new(objects));
    let failed = |r: &PointRecord| value(r, "failed_connections") / value(r, "connections");
    let (alone, shared) = (run_with(alone), run_with(shared));
    // Twice as many connections go to each pod; if the second Service kept the old pod, half of them would fail for good.
    assert!(
        failed(&shared) < 4.0 * failed(&alone) + 0.01,
        "shared {} alone {}",
        failed(&shared),
        failed(&alone)
    );
}
