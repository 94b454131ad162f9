//! What clients meet when packets do not arrive: one connection at a time, on a cluster that stands still.

use super::*;
use crate::control::log::ServiceId;
use crate::control::pods::{Answering, Pod};
use crate::kernel::path::Stack;
use crate::kube::{EndpointLists, ProxyObjects, ServicePort};
use crate::network::GonePod;
use crate::proxy::fleet::{Cores as _, Loaded, RulesId};
use crate::workload::patience::Failure;
use crate::world::clients::Call;
use crate::world::places::Holder;
use sim_core::classify::{Family, Proto};

/// The only Service.
const SERVICE: ([u8; 4], u16) = ([10, 96, 0, 1], 80);

/// A cluster of one Service on three nodes.
struct Scene {
    simulation: Simulation<World>,
}

impl Scene {
    fn new(mode: &str, endpoints: u32) -> Self {
        Scene::with(mode, endpoints, |_| {})
    }

    fn with(mode: &str, endpoints: u32, change: impl FnOnce(&mut WorldConfig)) -> Self {
        let mut config = config(mode);
        config.cluster.nodes = 3;
        config.cluster.services = 1;
        config.cluster.endpoints = EndpointLaw::Fixed(endpoints);
        config.kernel.cores = 1;
        change(&mut config);
        let profile = Arc::new(CostProfile::named("linux-6.18").unwrap());
        let mut world = World::new(Arc::new(config), profile).unwrap();
        world.measuring = true;
        Scene { simulation: Simulation::new(world) }
    }

    fn world(&mut self) -> &mut World {
        self.simulation.model_mut()
    }

    /// A pod of node 0 calls the Service.
    fn call(&mut self, requests: u32, retries_left: u32) {
        let (world, cx) = self.simulation.parts();
        let (service, proto) = (SERVICE.into(), Proto::Tcp);
        let (started, now) = (cx.now(), cx.now());
        world.measures.opened(now, true);
        let call = Call {
            class: 0,
            node: 0,
            pod: 0,
            target: 0,
            service,
            proto,
            requests,
            started,
            retries_left,
            is_retry: false,
            measured: true,
        };
        world.connect(call, now, cx);
    }

    /// All pods but the first `but` are in another state from now on.
    fn set(&mut self, but: usize, state: Answering) {
        let world = self.world();
        for (address, Holder { pod, node, .. }) in world.places.all().into_iter().skip(but) {
            world.places.set(pod, &Pod { address, node, service: ServiceId(0), state });
        }
    }

    fn run_for(&mut self, span: SimSpan) {
        let limit = self.simulation.context().now() + span;
        // The clock stands at the last event: one of a connection that never was.
        let conn = ConnId { slot: 0, generation: u32::MAX };
        self.simulation.context().schedule_at(limit, Event::Fail { conn, why: Failure::TimedOut });
        self.simulation.run_until(limit);
    }

    /// Runs to the end: milliseconds that it took, calls that succeeded, and tries that failed, by how.
    fn end(mut self) -> (u64, u64, Vec<(Failure, u64)>) {
        self.simulation.run();
        let at = self.simulation.context().now().as_ns() / 1_000_000;
        let (opened, closed, failed) = self.world().measures.balance();
        assert_eq!(opened, closed + failed, "a call is neither closed nor failed");
        let all = Failure::ALL.map(|why| (why, self.world().measures.failures(why)));
        (at, closed, all.into_iter().filter(|(_, n)| *n > 0).collect())
    }
}

fn secs(n: u64) -> SimSpan {
    SimSpan::from_secs(n)
}

#[test]
fn a_pod_without_a_listener_refuses_at_once() {
    for mode in MODES {
        let mut scene = Scene::new(mode, 1);
        scene.set(0, Answering::Refusing);
        scene.call(1, 0);
        assert_eq!(scene.end(), (0, 0, vec![(Failure::Refused, 1)]), "{mode}");
    }
}

#[test]
fn what_tells_of_a_pod_that_is_gone_is_a_matter_of_the_network() {
    let met = |gone: GonePod| {
        let mut scene = Scene::new("iptables", 1);
        scene.world().network.gone = gone;
        scene.set(0, Answering::Absent);
        scene.call(1, 0);
        scene.end()
    };
    assert_eq!(met(GonePod::Unreachable), (0, 0, vec![(Failure::Unreachable, 1)]));
    assert_eq!(met(GonePod::Silent), (10_000, 0, vec![(Failure::TimedOut, 1)]));
    // The resends of the SYN at 1 and 3 s are behind it when the error comes, and wake nobody.
    let (at, closed, failures) = met(GonePod::AskedFor);
    assert_eq!((closed, failures), (0, vec![(Failure::Unreachable, 1)]));
    assert!((3_000..7_001).contains(&at), "{at} ms");
}

#[test]
fn nothing_comes_back_from_a_node_without_power_until_the_clients_patience_ends() {
    for (mode, patience) in MODES.into_iter().zip([secs(2), secs(10), secs(100)]) {
        let mut scene = Scene::with(mode, 1, |config| config.traffic[0].timeout = patience);
        scene.set(0, Answering::Dark);
        scene.call(1, 0);
        assert_eq!(scene.end(), (patience.as_ns() / 1_000_000, 0, vec![(Failure::TimedOut, 1)]), "{mode}");
    }
}

#[test]
fn a_syn_that_was_lost_is_sent_again_after_1_and_3_seconds() {
    let mut scene = Scene::new("iptables", 1);
    scene.set(0, Answering::Dark);
    scene.call(1, 0);
    scene.run_for(SimSpan::from_ms(1_500));
    scene.set(0, Answering::Listening);
    let (at, closed, failures) = scene.end();
    assert_eq!((closed, failures), (1, vec![]));
    assert!((3_000..3_020).contains(&at), "{at} ms");
}

#[test]
fn a_node_without_rules_is_unusable_until_it_has_some() {
    for mode in MODES {
        let mut scene = Scene::new(mode, 1);
        scene.world().hosts.load(0, None);
        scene.call(1, 0);
        scene.run_for(SimSpan::from_ms(1_500));
        let rules = RulesId { mode: 0, version: 0, under: None };
        let now = scene.simulation.context().now();
        scene.world().rules_loaded(Loaded { node: 0, rules: Some(rules), udp_cleanup: false }, now);
        scene.call(1, 0);
        let (at, closed, failures) = scene.end();
        // conntrack does not remember that the first SYN was not translated: without rules it did not run.
        assert_eq!((closed, failures), (2, vec![]), "{mode}");
        assert!((3_000..3_020).contains(&at), "{mode}: {at} ms");
        let mut never = Scene::new(mode, 1);
        never.world().hosts.load(0, None);
        never.call(1, 0);
        assert_eq!(never.end(), (10_000, 0, vec![(Failure::TimedOut, 1)]), "{mode}");
    }
}

#[test]
fn a_client_that_may_try_again_finds_a_pod_that_answers() {
    let mut scene = Scene::new("iptables", 3);
    scene.set(1, Answering::Refusing);
    (0..20).for_each(|_| scene.call(1, 30));
    let recovered = |scene: &mut Scene| {
        scene.simulation.run();
        scene.world().measures.recovered()
    };
    assert!((5..20).contains(&recovered(&mut scene)));
    let (_, closed, failures) = scene.end();
    assert_eq!((closed, failures.len()), (20, 1));
    let mut once = Scene::new("iptables", 3);
    once.set(1, Answering::Refusing);
    (0..20).for_each(|_| once.call(1, 0));
    assert!(once.end().1 < 20);
}

/// Rules of the Service when all its pods are on their way out.
fn without_endpoints(mode: &str) -> Arc<Stack> {
    let port = ServicePort::http("ns-0", "svc-00000", SERVICE.0.into(), EndpointLists::default());
    let objects = ProxyObjects { ports: vec![port], ..ProxyObjects::default() };
    let rules = crate::proxy::mode(mode).unwrap().build(&objects, &config(mode).proxy, Family::Ipv4);
    Arc::new(Stack::new(&rules, 7).unwrap())
}

#[test]
fn a_connection_goes_on_to_a_pod_that_drains_and_is_reset_by_one_that_has_stopped() {
    for mode in MODES {
        let drained = |state: Answering| {
            let mut scene = Scene::with(mode, 2, |config| config.traffic[0].think = secs(2));
            scene.call(2, 0);
            scene.run_for(secs(1));
            let now = scene.simulation.context().now();
            let hosts = &mut scene.world().hosts;
            hosts.load(0, Some(RulesId { mode: 0, version: 1, under: None }));
            hosts.give(0, without_endpoints(mode), now);
            scene.set(0, state);
            scene.call(1, 0);
            let (at, closed, failures) = scene.end();
            (at / 1000, closed, failures)
        };
        // The second call finds no endpoint.
        assert_eq!(drained(Answering::Listening), (2, 1, vec![(Failure::Refused, 1)]), "{mode}");
        let reset = vec![(Failure::Refused, 1), (Failure::Reset, 1)];
        assert_eq!(drained(Answering::Refusing), (2, 0, reset), "{mode}");
        let timed_out = vec![(Failure::Refused, 1), (Failure::TimedOut, 1)];
        assert_eq!(drained(Answering::Absent), (12, 0, timed_out.clone()), "{mode}");
        assert_eq!(drained(Answering::Dark), (12, 0, timed_out), "{mode}");
    }
}

#[test]
fn a_request_whose_pod_stops_before_it_answers_is_reset() {
    let with = |state: Answering| {
        let mut scene = Scene::with("iptables", 1, |config| config.traffic[0].service_time = secs(2));
        scene.call(1, 0);
        scene.run_for(secs(1));
        scene.set(0, state);
        let (at, closed, failures) = scene.end();
        (at / 1000, closed, failures)
    };
    assert_eq!(with(Answering::Listening), (2, 1, vec![]));
    assert_eq!(with(Answering::Refusing), (2, 0, vec![(Failure::Reset, 1)]));
    assert_eq!(with(Answering::Dark), (10, 0, vec![(Failure::TimedOut, 1)]));
}

#[test]
fn an_answer_that_takes_longer_than_the_clients_patience_is_not_waited_for() {
    let mut scene = Scene::with("iptables", 1, |config| config.traffic[0].service_time = secs(20));
    scene.call(1, 0);
    assert_eq!(scene.end().2, [(Failure::TimedOut, 1)]);
}

#[test]
fn a_node_that_forgot_its_connections_sends_their_packets_to_pods_that_know_nothing_of_them() {
    let mut scene = Scene::with("iptables", 3, |config| config.traffic[0].think = secs(2));
    (0..20).for_each(|_| scene.call(2, 0));
    scene.run_for(secs(1));
    let hosts = &mut scene.world().hosts;
    hosts.power_off(0);
    hosts.power_on(0);
    hosts.load(0, Some(RulesId { mode: 0, version: 0, under: None }));
    let (at, closed, failures) = scene.end();
    let (why, resets) = failures[0];
    // One of three goes where it was by chance.
    assert_eq!((at / 1000, why, failures.len(), closed + resets), (2, Failure::Reset, 1, 20));
    assert!((3..=12).contains(&closed), "{closed} survived");
}

#[test]
fn clients_of_a_node_that_loses_power_are_gone_with_it_and_the_others_wait() {
    let mut scene = Scene::with("ipvs", 1, |config| config.traffic[0].think = secs(2));
    (0..5).for_each(|_| scene.call(2, 3));
    scene.run_for(secs(1));
    let now = scene.simulation.context().now();
    scene.world().node_down(0, now);
    assert_eq!(scene.end().2, [(Failure::Vanished, 5)]);
}

#[test]
fn packets_beside_a_sync_take_longer() {
    let took = |syncs: bool| {
        let mut scene = Scene::new("iptables", 1);
        if syncs {
            for node in 0..3 {
                scene.world().hosts.begin(node, secs(1), SimTime::ZERO);
            }
        }
        scene.call(1, 0);
        scene.simulation.run();
        scene.simulation.context().now().as_ns()
    };
    assert!(took(true) > took(false) + 2_000, "beside a sync {} ns, alone {} ns", took(true), took(false));
}

#[test]
fn failures_are_told_second_by_second() {
    let mut scene = Scene::new("iptables", 1);
    scene.set(0, Answering::Refusing);
    scene.call(1, 0);
    scene.run_for(secs(2));
    (0..3).for_each(|_| scene.call(1, 0));
    scene.simulation.run();
    let refused: Vec<u64> =
        scene.world().measures.failures_by_second().iter().map(|s| s[Failure::Refused as usize]).collect();
    assert_eq!(refused, [1, 0, 3]);
}

#[test]
fn what_fails_after_the_last_answer_is_a_connection_that_succeeded() {
    let mut scene = Scene::new("iptables", 1);
    scene.call(1, 3);
    let (world, cx) = scene.simulation.parts();
    let conn = crate::world::ConnId { slot: 0, generation: 0 };
    world.connection_mut(conn).expect("it was opened").unanswered = 0;
    world.fail(conn, Failure::Reset, cx.now(), cx);
    assert!(world.connections.iter().all(|(_, c)| c.is_none()), "nobody tries again");
    assert_eq!(world.measures.balance(), (1, 1, 0));
}
