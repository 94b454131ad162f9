//! The control plane by itself: what must hold of lives, rollouts, failures and slices.

use super::alone::Alone;
use super::effect::Effect;
use super::log::{Conditions, PodId, ServiceId, What};
use super::pod::Phase;
use crate::config::*;
use sim_core::des::{Ending, Simulation};
use sim_core::units::{SimSpan, SimTime};

fn s(seconds: u64) -> SimTime {
    SimTime::ZERO + SimSpan::from_secs(seconds)
}

fn config(nodes: u32, services: u32, endpoints: u32) -> WorldConfig {
    WorldConfig {
        seed: 7,
        duration: SimSpan::from_secs(1),
        warmup: SimSpan::ZERO,
        cluster: ClusterConfig {
            nodes,
            services,
            endpoints: EndpointLaw::Fixed(endpoints),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_cidr: "10.128.0.0/9".parse().unwrap(),
            objects: None,
        },
        proxy: ProxyConfig::default(),
        kernel: KernelConfig { profile: String::new(), cache: CacheState::Hot, cores: 1 },
        traffic: Vec::new(),
        churn: ChurnConfig { rate: 0.0 },
        control: ControlConfig::default(),
        pods: PodConfig::default(),
        nodes: NodeConfig::default(),
        timeline: Vec::new(),
        faults: FaultConfig::default(),
    }
}

fn plan(config: &mut WorldConfig, at: u64, action: Action) {
    config.timeline.push(Planned { at: SimSpan::from_secs(at), action });
}

fn roll(services: Selection) -> Action {
    Action::RollingUpdate { services, max_surge: Share::Percent(25), max_unavailable: Share::Percent(25) }
}

fn begun(config: &WorldConfig) -> Simulation<Alone> {
    Alone::new(config).unwrap().begin()
}

/// What holds at any time between two events.
fn conserved(simulation: &mut Simulation<Alone>) {
    let plane = &mut simulation.parts().0.plane;
    let counts = plane.counts();
    let c = &counts;
    assert_eq!(c.pending + c.starting + c.running + c.ready + c.terminating + c.gone, c.pods, "{c:?}");
    let mut listed = 0;
    for service in 0..plane.service_count() {
        let endpoints = plane.endpoints(ServiceId(service)).to_vec();
        listed += endpoints.len() as u64;
        for &(pod, conditions) in &endpoints {
            let said = plane.listed(pod.0, service).map(|(_, said)| said);
            assert_eq!(said, Some(conditions), "{pod:?} of {service}");
        }
        let entry = &plane.services[service as usize];
        for set in [(&entry.old, false), (&entry.new, true)] {
            let of = |pod: &&u32| (plane.lives[**pod as usize].template == entry.template) == set.1;
            let active = entry.members.iter().filter(of).filter(|p| !plane.lives[**p as usize].leaving);
            assert_eq!(active.clone().count() as u32, set.0.active, "service {service}");
            let ready = active.filter(|p| {
                let life = &plane.lives[**p as usize];
                life.phase == Phase::Ready && !life.lost
            });
            assert_eq!(ready.count() as u32, set.0.ready, "service {service}");
        }
    }
    assert_eq!(listed, counts.listed);
    let on_nodes: usize = plane.nodes.iter().map(|node| node.pods()).sum();
    let with_node = plane.lives.iter().zip(0..).filter(|(life, _)| life.phase != Phase::Gone);
    assert_eq!(on_nodes, with_node.filter(|(_, i)| plane.pods.get(PodId(*i)).node.is_some()).count());
}

/// What holds when nothing is left to happen.
fn settled(simulation: &mut Simulation<Alone>) {
    conserved(simulation);
    let plane = &mut simulation.parts().0.plane;
    let counts = plane.counts();
    assert_eq!(counts.scheduled, counts.handled);
    for service in 0..plane.service_count() {
        let mut said = plane.endpoints(ServiceId(service)).to_vec();
        said.sort_by_key(|(pod, _)| *pod);
        let entry = &plane.services[service as usize];
        let selected = |pod: &u32| {
            let others =
                plane.also.get(pod).is_some_and(|all| all.iter().any(|(other, _)| *other == service));
            entry.there && (others || plane.pods.get(PodId(*pod)).service.0 == service)
        };
        let wanted: Vec<(PodId, Conditions)> = (0..plane.lives.len() as u32)
            .filter(selected)
            .filter_map(|pod| plane.lives[pod as usize].wanted(true).map(|c| (PodId(pod), c)))
            .collect();
        assert_eq!(said, wanted, "service {service}");
        let replicas = if entry.there { entry.replicas } else { 0 };
        assert_eq!((entry.new.wanted, entry.old.wanted), (replicas, 0), "service {service}");
        assert_eq!((entry.new.active, entry.old.active), (replicas, 0), "service {service}");
    }
}

fn to_the_end(simulation: &mut Simulation<Alone>) {
    assert_eq!(simulation.run_until(s(100_000)).ending, Ending::Drained);
    settled(simulation);
}

#[test]
fn a_replaced_endpoint_is_one_write_that_names_both_pods() {
    let mut config = config(4, 10, 3);
    config.churn.rate = 5.0;
    let mut simulation = begun(&config);
    simulation.run_until(s(100));
    simulation.parts().0.plane.end();
    to_the_end(&mut simulation);
    let log = simulation.model().plane.log();
    assert!((400..600).contains(&log.version()), "{}", log.version());
    let mut delays = 0.0;
    for change in log.between(0, log.version()) {
        let What::Endpoints { deltas, .. } = &change.what else { panic!("{change:?}") };
        assert!(deltas.len() >= 2 && deltas.len().is_multiple_of(2), "{change:?}");
        delays += change.committed.since(change.trigger.unwrap()).as_secs_f64();
    }
    // 2 ms to the controller, 3 ms into etcd.
    let mean = delays / log.version() as f64;
    assert!((0.004..0.008).contains(&mean), "{mean}");
}

#[test]
fn a_rolling_update_stays_within_its_limits_and_replaces_every_pod() {
    let mut config = config(20, 1, 40);
    plan(&mut config, 1, roll(Selection::All));
    let mut simulation = begun(&config);
    let (mut most, mut least) = (0, u32::MAX);
    for step in 0..2_000u64 {
        let ending = simulation.run_until(SimTime::ZERO + SimSpan::from_ms(100 * step)).ending;
        let service = &simulation.model().plane.services[0];
        most = most.max(service.old.active + service.new.active);
        least = least.min(service.old.ready + service.new.ready);
        if ending == Ending::Drained {
            break;
        }
    }
    to_the_end(&mut simulation);
    assert_eq!((most, least), (50, 30));
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.pods, counts.gone, counts.ready), (80, 40, 40));
    // A new pod is not ready, then ready; an old one terminates, then is gone: many of them in one write.
    let log = simulation.model().plane.log();
    let deltas: usize = log
        .between(0, log.version())
        .iter()
        .map(|c| if let What::Endpoints { deltas, .. } = &c.what { deltas.len() } else { 0 })
        .sum();
    assert!((150..=160).contains(&deltas) && log.version() < 160, "{deltas} in {}", log.version());
}

#[test]
fn pods_that_terminate_are_no_longer_ready_but_serve_until_they_end() {
    let mut config = config(3, 1, 4);
    config.pods.pre_stop = SimSpan::from_secs(5);
    plan(&mut config, 1, Action::Scale { services: Selection::All, replicas: 3 });
    let mut simulation = begun(&config);
    simulation.run_until(s(3));
    let endpoints = simulation.parts().0.plane.endpoints(ServiceId(0)).to_vec();
    let draining: Vec<_> = endpoints.iter().filter(|(_, c)| *c == Conditions::DRAINING).collect();
    assert_eq!((endpoints.len(), draining.len()), (4, 1));
    to_the_end(&mut simulation);
    assert_eq!(simulation.parts().0.plane.endpoints(ServiceId(0)).len(), 3);
    let gone = draining[0].0;
    let told: Vec<SimTime> = simulation
        .model()
        .effects
        .iter()
        .filter(|(_, e)| *e == Effect::Pod(gone))
        .map(|(at, _)| *at)
        .collect();
    assert!(told.len() == 2 && told[0] > s(6), "refusing, then absent: {told:?}");
}

#[test]
fn a_dead_node_is_noticed_after_its_grace_and_its_pods_are_replaced_after_their_tolerance() {
    let mut config = config(10, 5, 20);
    plan(&mut config, 100, Action::FailNodes { nodes: vec![3], recover_after: None });
    let mut simulation = begun(&config);
    let until = |simulation: &mut Simulation<Alone>, at| {
        simulation.run_until(s(at));
        let plane = &mut simulation.parts().0.plane;
        let all: Vec<Conditions> = (0..5)
            .flat_map(|service| plane.endpoints(ServiceId(service)).to_vec())
            .map(|(_, conditions)| conditions)
            .collect();
        let ready = all.iter().filter(|c| c.ready).count();
        (all.len(), ready)
    };
    assert_eq!(until(&mut simulation, 139), (100, 100), "ten pods are dark, and nobody knows");
    assert_eq!(until(&mut simulation, 162), (100, 90), "not ready after 40 to 60 s");
    assert_eq!(until(&mut simulation, 440), (100, 90));
    // The taint comes at once, the eviction 300 s later: replaced elsewhere; the old ones terminate for ever.
    assert_eq!(until(&mut simulation, 500), (110, 100));
    to_the_end(&mut simulation);
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.ready, counts.terminating, counts.gone), (100, 10, 0));
    assert_eq!(
        simulation.model().effects.iter().filter(|(_, e)| matches!(e, Effect::NodeDown(3))).count(),
        1
    );
}

#[test]
fn a_node_that_comes_back_in_time_starts_its_pods_again_with_other_addresses() {
    let mut config = config(4, 2, 8);
    plan(&mut config, 10, Action::FailNodes { nodes: vec![1], recover_after: Some(SimSpan::from_secs(20)) });
    let mut simulation = begun(&config);
    to_the_end(&mut simulation);
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.ready, counts.gone, counts.terminating), (16, 4, 0));
    let up: Vec<_> = simulation.model().effects.iter().filter(|(_, e)| *e == Effect::NodeUp(1)).collect();
    assert_eq!(up, [&(s(35), Effect::NodeUp(1))]);
}

#[test]
fn nobody_is_evicted_when_all_zones_are_dead() {
    let mut config = config(6, 2, 6);
    config.nodes.zones = 2;
    for zone in [0, 1] {
        plan(&mut config, 10, Action::FailZone { zone, recover_after: None });
    }
    let mut simulation = begun(&config);
    simulation.run_until(s(5_000));
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.terminating, counts.pods), (0, 12));
    // One zone alone is evicted node by node.
    config.timeline.pop();
    let mut simulation = begun(&config);
    to_the_end(&mut simulation);
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.terminating, counts.ready), (6, 12));
}

#[test]
fn nothing_is_written_in_an_outage_and_everything_after_it() {
    let mut config = config(10, 5, 10);
    config.churn.rate = 2.0;
    plan(&mut config, 5, roll(Selection::First(2)));
    plan(&mut config, 10, Action::ApiOutage { lasts: SimSpan::from_secs(60) });
    let mut simulation = begun(&config);
    simulation.run_until(s(200));
    simulation.parts().0.plane.end();
    to_the_end(&mut simulation);
    let log = simulation.model().plane.log();
    let during = log.between(0, log.version()).iter().filter(|c| c.committed >= s(10) && c.committed < s(70));
    assert_eq!(during.count(), 0);
    let effects = &simulation.model().effects;
    assert!(effects.contains(&(s(10), Effect::ApiDown)) && effects.contains(&(s(70), Effect::ApiUp)));
}

#[test]
fn services_come_with_pods_and_go_with_them() {
    let mut config = config(5, 3, 2);
    plan(&mut config, 1, Action::AddServices { count: 40, endpoints: 5 });
    plan(&mut config, 300, Action::RemoveServices { count: 41 });
    let mut simulation = begun(&config);
    simulation.run_until(s(299));
    assert_eq!(simulation.model().plane.counts().ready, 6 + 200);
    to_the_end(&mut simulation);
    let counts = simulation.model().plane.counts();
    assert_eq!((counts.ready, counts.gone, counts.listed), (4, 202, 4));
    let log = simulation.model().plane.log();
    let removed =
        log.between(0, log.version()).iter().filter(|c| matches!(c.what, What::ServiceRemoved { .. }));
    assert_eq!(removed.count(), 41);
}

#[test]
fn pods_without_room_wait_for_a_node() {
    let mut config = config(2, 1, 4);
    config.pods.per_node = 3;
    plan(&mut config, 1, Action::Scale { services: Selection::All, replicas: 8 });
    plan(&mut config, 100, Action::AddNodes { count: 1 });
    let mut simulation = begun(&config);
    simulation.run_until(s(99));
    assert_eq!(simulation.model().plane.counts().pending, 2);
    to_the_end(&mut simulation);
    assert_eq!(simulation.model().plane.counts().ready, 8);
}

#[test]
fn a_batch_period_makes_one_write_of_many_changes() {
    let writes = |batch| {
        let mut config = config(10, 1, 50);
        config.control.batch_period = SimSpan::from_ms(batch);
        plan(&mut config, 1, roll(Selection::All));
        let mut simulation = begun(&config);
        to_the_end(&mut simulation);
        simulation.model().plane.log().version()
    };
    let (without, with) = (writes(0), writes(5_000));
    assert!(with * 4 < without, "{with} of {without}");
}

#[test]
fn whatever_fails_pods_are_conserved_and_slices_say_what_they_are() {
    use proptest::prelude::*;
    let action = (0u8..9, 0u32..8, 1u64..120).prop_map(|(kind, n, seconds)| {
        let lasts = SimSpan::from_secs(seconds);
        match kind {
            0 => Action::ApiOutage { lasts },
            1 => Action::FailNodes { nodes: vec![n], recover_after: Some(lasts) },
            2 => Action::FailNodes { nodes: vec![n], recover_after: Some(SimSpan::from_secs(seconds * 10)) },
            3 => Action::FailZone { zone: n % 2, recover_after: Some(lasts) },
            4 => Action::Scale { services: Selection::First(n), replicas: (seconds % 9) as u32 },
            5 => Action::AddServices { count: n % 3, endpoints: (seconds % 5) as u32 },
            6 => Action::RemoveServices { count: n % 2 },
            7 => Action::AddNodes { count: n % 2 },
            _ => Action::RollingUpdate {
                services: Selection::First(n),
                max_surge: Share::Pods(n % 3),
                max_unavailable: Share::Percent(seconds as u32),
            },
        }
    });
    let timeline = proptest::collection::vec((0u64..600, action), 0..12);
    let objects =
        prop_oneof![Just(EndpointsObjects::Slices { max: 2 }), Just(EndpointsObjects::Slices { max: 100 }),];
    proptest!(ProptestConfig::with_cases(60), |(timeline in timeline, objects in objects, seed: u64)| {
        let mut config = config(6, 6, 4);
        (config.seed, config.nodes.zones) = (seed, 2);
        config.control.endpoints = objects;
        config.churn.rate = 1.0;
        for (at, action) in timeline {
            plan(&mut config, at, action);
        }
        let mut simulation = begun(&config);
        for minute in 1..=12 {
            simulation.run_until(s(60 * minute));
            conserved(&mut simulation);
        }
        simulation.parts().0.plane.end();
        to_the_end(&mut simulation);
    });
}

/// Two Services that select the same three pods of one node, and a third with one of its own.
fn shared() -> (WorldConfig, Alone) {
    use crate::kube::objects::*;
    use sim_core::classify::{Family, Proto};
    let config = config(2, 0, 0);
    let port = || Port { name: "http".into(), proto: Proto::Tcp, port: 80, node_port: 0 };
    let endpoint = |last: u8| SliceEndpoint {
        address: std::net::Ipv4Addr::new(10, 244, 0, last).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("a".into()),
        hints: None,
    };
    let mut objects = Objects::default();
    for (i, (name, pods)) in
        [("one", vec![2, 3, 4]), ("two", vec![2, 3, 4]), ("other", vec![9])].into_iter().enumerate()
    {
        let ip = std::net::Ipv4Addr::new(10, 96, 0, i as u8 + 1).into();
        objects.services.push(Service::cluster_ip("default".into(), name.into(), ip, port()));
        objects.slices.push(EndpointSlice {
            namespace: "default".into(),
            name: format!("{name}-0").into(),
            service: Some(name.into()),
            family: Family::Ipv4,
            endpoints: pods.into_iter().map(endpoint).collect(),
            ports: vec![SlicePort { name: "http".into(), proto: Proto::Tcp, port: 8080 }],
            revision: 0,
        });
    }
    let alone = Alone::of(&config, &objects, &["a", "b"]);
    (config, alone)
}

#[test]
fn a_pod_behind_two_services_is_replaced_in_both() {
    let (_, mut alone) = shared();
    assert!(alone.plane.replace_pod(1, 1).is_some());
    let mut simulation = alone.begin();
    to_the_end(&mut simulation);
    let plane = &mut simulation.parts().0.plane;
    assert_eq!(plane.log().version(), 2);
    let mut lists: Vec<Vec<PodId>> = Vec::new();
    for service in 0..2 {
        let mut pods: Vec<PodId> = plane.endpoints(ServiceId(service)).iter().map(|(pod, _)| *pod).collect();
        pods.sort();
        lists.push(pods);
    }
    assert_eq!(lists[0], [PodId(0), PodId(2), PodId(4)]);
    assert_eq!(lists[0], lists[1]);
    assert_eq!(plane.pods().get(PodId(4)).address.to_string(), "10.244.0.5");
}

#[test]
fn new_pods_of_shared_services_are_behind_all_of_them() {
    let (config, alone) = shared();
    let mut config = config;
    plan(&mut config, 1, Action::Scale { services: Selection::Named("default/one".into()), replicas: 5 });
    let mut alone = alone;
    alone.plane.timeline = config.timeline;
    let mut simulation = alone.begin();
    to_the_end(&mut simulation);
    let plane = &mut simulation.parts().0.plane;
    assert_eq!((plane.endpoints(ServiceId(0)).len(), plane.endpoints(ServiceId(1)).len()), (5, 5));
    assert_eq!(plane.endpoints(ServiceId(2)).len(), 1);
}

#[test]
fn an_endpoints_object_drops_terminating_pods_and_holds_a_thousand() {
    let mut config = config(20, 1, 990);
    config.control.endpoints = EndpointsObjects::Endpoints;
    config.pods.pre_stop = SimSpan::from_secs(5);
    plan(&mut config, 1, Action::Scale { services: Selection::All, replicas: 1_005 });
    plan(&mut config, 200, Action::Scale { services: Selection::All, replicas: 1_003 });
    plan(&mut config, 300, Action::Scale { services: Selection::All, replicas: 900 });
    let mut simulation = begun(&config);
    for (at, listed) in [(100, 1_000), (202, 1_000), (310, 900)] {
        simulation.run_until(s(at));
        let endpoints = simulation.parts().0.plane.endpoints(ServiceId(0)).to_vec();
        assert_eq!(endpoints.len(), listed, "at {at} s");
        assert!(endpoints.iter().all(|(_, c)| *c == Conditions::READY), "terminating ones are gone at once");
    }
    to_the_end(&mut simulation);
}
