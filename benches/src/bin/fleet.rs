//! How long the fleet alone takes: 5,000 kube-proxies, 10,000 Services of 25 endpoints, 20 endpoint changes a second, one
//! simulated hour, without packets: `cargo run --release -p windtunnel-benches --bin fleet [nodes [seconds [mode]]]`.
//!
//! Prints the time, the events, the syncs, the pairs of change and node, and the peak of the process's memory where the
//! system tells it.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::classify::Family;
use sim_core::des::{Context, Model, Simulation};
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::{ClusterConfig, ControlConfig, EndpointLaw, FaultConfig, NodeConfig, ProxyConfig};
use sim_models::control::log::{Change, ChangeLog, Conditions, Delta, PodId, ServiceId, What};
use sim_models::control::services::{Cluster, Services};
use sim_models::control::watch::Watch;
use sim_models::kernel::cost::CostProfile;
use sim_models::kube::generate::generate;
use sim_models::proxy::fleet::{Cores, Env, Fleet, FleetConfig, Loaded, ProxyEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 25;
const CHANGES_PER_SECOND: f64 = 20.0;

enum Event {
    Proxy(ProxyEvent),
    Churn,
}

impl From<ProxyEvent> for Event {
    fn from(event: ProxyEvent) -> Self {
        Event::Proxy(event)
    }
}

/// Cores without packets.
struct Idle;

impl Cores for Idle {
    fn begin(&mut self, _node: u32, _cpu: SimSpan, _now: SimTime) {}
    fn stolen(&mut self, _node: u32, _now: SimTime) -> SimSpan {
        SimSpan::ZERO
    }
    fn end(&mut self, _node: u32, _now: SimTime) {}
}

struct World {
    fleet: Fleet,
    log: ChangeLog,
    services: Services,
    watch: Watch,
    loaded: Vec<Loaded>,
    loads: u64,
    stream: Stream,
    pods: u32,
    endpoints: Vec<Vec<PodId>>,
}

impl Model for World {
    type Event = Event;

    fn handle(&mut self, event: Event, now: SimTime, cx: &mut Context<Event>) {
        if let Event::Churn = event {
            let service = self.stream.below(u64::from(SERVICES)) as u32;
            let pods = &mut self.endpoints[service as usize];
            let (old, new) = (pods.remove(0), PodId(self.pods));
            self.pods += 1;
            pods.push(new);
            let ready = Some(Conditions::READY);
            let deltas =
                [Delta { pod: old, from: ready, to: None }, Delta { pod: new, from: None, to: ready }];
            let what = What::Endpoints { service: ServiceId(service), deltas: deltas.into_iter().collect() };
            self.log.push(Change { what, trigger: Some(now), committed: now, bytes: 1_500 });
            let mean = SimSpan::from_ns_f64(1e9 / CHANGES_PER_SECOND);
            cx.schedule_after(dist::exponential(&mut self.stream, mean), Event::Churn);
        }
        let mut env =
            Env { log: &self.log, services: &self.services, watch: &mut self.watch, cores: &mut Idle };
        match event {
            Event::Churn => self.fleet.changed(now, cx, &mut env),
            Event::Proxy(event) => self.fleet.handle(event, now, cx, &mut env, &mut self.loaded),
        }
        self.loads += self.loaded.len() as u64;
        self.loaded.clear();
    }

    fn digest(event: &Event) -> u64 {
        match event {
            Event::Proxy(event) => event.digest(),
            Event::Churn => 0,
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |or: u32| words.next().map_or(or, |w| w.parse().expect("a number"));
    let (nodes, seconds) = (number(5_000), number(3_600));
    let name = words.next().unwrap_or_else(|| "iptables".to_owned());
    let began = Instant::now();
    let mut sim = Simulation::new(world(&name, nodes));
    let (world, cx) = sim.parts();
    let mut env =
        Env { log: &world.log, services: &world.services, watch: &mut world.watch, cores: &mut Idle };
    world.fleet.start(SimTime::ZERO, cx, &mut env);
    cx.schedule_at(SimTime::ZERO, Event::Churn);
    let set_up = began.elapsed();
    let end = SimTime::ZERO + SimSpan::from_secs(u64::from(seconds));
    let outcome = sim.run_until(end);
    let took = began.elapsed() - set_up;
    let world = sim.model();
    world.fleet.check(&world.log, end, true);
    let (totals, latencies) = (world.fleet.totals(), world.fleet.latencies());
    let of = |q| SimSpan::from_ns(latencies.live.quantile(q).unwrap_or(0));
    println!("{name}, {nodes} nodes, {SERVICES} Services x {ENDPOINTS}, {seconds} s");
    println!(
        "set-up {:.2} s, run {:.2} s, {} events",
        set_up.as_secs_f64(),
        took.as_secs_f64(),
        outcome.events
    );
    println!(
        "{} syncs ({} full), {} changes, {} loads",
        totals.syncs,
        totals.full,
        world.log.version(),
        world.loads
    );
    println!("{} pairs live: p50 {}, p90 {}, p99 {}", latencies.live.count(), of(0.5), of(0.9), of(0.99));
    let everywhere = latencies.convergence(world.fleet.everywhere(&world.log));
    let of = |q| SimSpan::from_ns(everywhere.quantile(q).unwrap_or(0));
    println!("everywhere: p50 {}, p90 {}, p99 {}", of(0.5), of(0.9), of(0.99));
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(peak) = status.lines().find(|l| l.starts_with("VmHWM"))
    {
        println!("{peak}");
    }
}

fn world(name: &str, nodes: u32) -> World {
    let config = ClusterConfig {
        nodes,
        services: SERVICES,
        endpoints: EndpointLaw::Fixed(ENDPOINTS),
        service_cidr: "10.96.0.0/12".parse().expect("a network"),
        cluster_cidr: "10.128.0.0/9".parse().expect("a network"),
        objects: None,
    };
    let objects = generate(&config, 1).expect("a cluster").objects;
    let cluster = Cluster::of(&objects, &BTreeMap::new(), Family::Ipv4);
    let min_sync_period = ProxyConfig::default_min_sync_period(name);
    let fleet = FleetConfig {
        seed: 1,
        mode: sim_models::proxy::mode(name).and_then(|m| m.simulated()).expect("a mode"),
        proxy: ProxyConfig { mode: name.to_owned(), min_sync_period, ..ProxyConfig::default() },
        family: Family::Ipv4,
        profile: Arc::new(CostProfile::named("linux-6.18").expect("the profile")),
        nodes: NodeConfig::default(),
        faults: FaultConfig::default(),
        start_up: SimSpan::from_secs(1),
        list_bytes: 25_000_000,
        measured_from: SimTime::ZERO,
        churning: false,
    };
    let ids = (0..SERVICES).map(ServiceId);
    World {
        fleet: Fleet::new(fleet, &cluster.services, &cluster.state, nodes),
        log: ChangeLog::default(),
        watch: Watch::new(&ControlConfig::default(), nodes, 1),
        loaded: Vec::new(),
        loads: 0,
        stream: Stream::new(1, "bench", "churn"),
        pods: cluster.pods.len() as u32,
        endpoints: ids.map(|s| cluster.state.endpoints(s).iter().map(|(pod, _)| *pod).collect()).collect(),
        services: cluster.services,
    }
}
