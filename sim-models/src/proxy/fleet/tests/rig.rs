//! A small world around a fleet: a cluster, changes at random, cores that steal time, and a listener that checks what is loaded.

use crate::config::{
    ClusterConfig, ControlConfig, EndpointLaw, FaultConfig, ModeSwitch, NodeConfig, ProxyConfig,
};
use crate::control::log::{Change, ChangeLog, Conditions, Delta, PodId, ServiceId, What};
use crate::control::services::{Cluster, Services, State};
use crate::control::watch::Watch;
use crate::kernel::cost::CostProfile;
use crate::kube::generate::generate;
use crate::kube::objects::Objects;
use crate::proxy::fleet::{Cores, Env, Fleet, FleetConfig, Loaded, ProxyEvent, RulesId, Whereabouts};
use crate::proxy::mode;
use sim_core::classify::Family;
use sim_core::des::{Context, Model, Schedule as _, Simulation};
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    Proxy(ProxyEvent),
    /// A change of one endpoint of a Service, and the next one after an exponential time.
    Churn,
    /// A change of one endpoint of this Service.
    Touch(u32),
    Down(u32),
    Up(u32),
    Join,
    ApiDown,
    ApiUp,
    Relabel(u32),
    Flush(u32),
    Restart(u32),
    FailRestores(u32, SimSpan),
    DropWatches(u32, SimSpan),
    Switch(ModeSwitch),
}

impl From<ProxyEvent> for Event {
    fn from(event: ProxyEvent) -> Self {
        Event::Proxy(event)
    }
}

/// Cores on which packets run for a share of the time.
#[derive(Default)]
pub struct Busy {
    /// Packet work in each second of a sync.
    pub share: f64,
    begun: BTreeMap<u32, SimTime>,
}

impl Cores for Busy {
    fn begin(&mut self, node: u32, _cpu: SimSpan, now: SimTime) {
        assert!(self.begun.insert(node, now).is_none(), "node {node} does two syncs");
    }
    fn stolen(&mut self, node: u32, now: SimTime) -> SimSpan {
        let since = self.begun.insert(node, now).expect("a sync");
        let stolen = now.since(since).as_ns() as f64 * self.share;
        // A microsecond is not worth an event.
        if stolen < 1_000.0 { SimSpan::ZERO } else { SimSpan::from_ns_f64(stolen) }
    }
    fn end(&mut self, node: u32, _now: SimTime) {
        self.begun.remove(&node).expect("a sync");
    }
}

/// One rule set loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub at: SimTime,
    pub node: u32,
    pub rules: Option<RulesId>,
}

pub struct Rig {
    pub fleet: Fleet,
    pub log: ChangeLog,
    pub services: Services,
    pub first: State,
    pub profile: Arc<CostProfile>,
    pub cluster: Cluster,
    pub watch: Watch,
    pub cores: Busy,
    pub loads: Vec<Load>,
    loaded: Vec<Loaded>,
    endpoints: Vec<Vec<PodId>>,
    stream: Stream,
    rate: f64,
    until: SimTime,
    /// What packets of each node meet, as a world would keep it.
    pub kernels: Vec<Option<RulesId>>,
}

/// What a rig is made from.
pub struct Setup {
    pub seed: u64,
    pub nodes: u32,
    pub services: u32,
    pub endpoints: u32,
    pub rate: f64,
    pub churn_for: SimSpan,
    pub proxy: ProxyConfig,
    pub node: NodeConfig,
    pub faults: FaultConfig,
    pub stolen: f64,
    pub profile: &'static str,
    /// Objects instead of generated ones.
    pub objects: Option<Objects>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            seed: 1,
            nodes: 3,
            services: 20,
            endpoints: 3,
            rate: 0.0,
            churn_for: SimSpan::ZERO,
            proxy: ProxyConfig::default(),
            node: NodeConfig { boot: SimSpan::from_secs(1), ..NodeConfig::default() },
            faults: FaultConfig::default(),
            stolen: 0.0,
            profile: "linux-6.18",
            objects: None,
        }
    }
}

pub fn ms(t: u64) -> SimTime {
    SimTime::ZERO + SimSpan::from_ms(t)
}

/// kube-proxy's settings in a mode.
pub fn proxy(name: &str, minor: u32) -> ProxyConfig {
    let min_sync_period = ProxyConfig::default_min_sync_period(name);
    ProxyConfig { mode: name.to_owned(), kubernetes_minor: minor, min_sync_period, ..ProxyConfig::default() }
}

pub fn simulation(setup: Setup) -> Simulation<Rig> {
    let config = ClusterConfig {
        nodes: setup.nodes,
        services: setup.services,
        endpoints: EndpointLaw::Fixed(setup.endpoints),
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        cluster_cidr: "10.128.0.0/9".parse().unwrap(),
        objects: None,
    };
    let objects = setup.objects.unwrap_or_else(|| generate(&config, setup.seed).unwrap().objects);
    let names: Vec<Arc<str>> = objects.nodes.iter().map(|n| n.name.clone()).collect();
    let index = names.iter().zip(0..).map(|(n, i)| (&**n, i)).collect();
    let cluster = Cluster::of(&objects, &index, Family::Ipv4);
    let profile = Arc::new(CostProfile::named(setup.profile).unwrap());
    let fleet_config = FleetConfig {
        seed: setup.seed,
        mode: mode(&setup.proxy.mode).unwrap().simulated().unwrap(),
        proxy: setup.proxy,
        family: Family::Ipv4,
        profile: profile.clone(),
        nodes: setup.node,
        faults: setup.faults,
        start_up: SimSpan::from_ms(500),
        list_bytes: 100_000,
        measured_from: SimTime::ZERO,
        churning: false,
    };
    let endpoints = (0..cluster.services.len() as u32)
        .map(|s| cluster.state.endpoints(ServiceId(s)).iter().map(|(pod, _)| *pod).collect())
        .collect();
    let rig = Rig {
        fleet: Fleet::new(fleet_config, &cluster.services, &cluster.state, setup.nodes),
        log: ChangeLog::default(),
        services: cluster.services.clone(),
        first: cluster.state.clone(),
        profile,
        watch: Watch::new(&ControlConfig::default(), setup.nodes, setup.seed),
        cores: Busy { share: setup.stolen, ..Busy::default() },
        loads: Vec::new(),
        loaded: Vec::new(),
        endpoints,
        cluster,
        stream: Stream::new(setup.seed, "rig", "churn"),
        rate: setup.rate,
        until: SimTime::ZERO + setup.churn_for,
        kernels: vec![Some(RulesId { mode: 0, version: 0, under: None }); setup.nodes as usize],
    };
    let mut sim = Simulation::new(rig);
    let (rig, cx) = sim.parts();
    let mut env =
        Env { log: &rig.log, services: &rig.services, watch: &mut rig.watch, cores: &mut rig.cores };
    rig.fleet.start(SimTime::ZERO, cx, &mut env);
    if rig.rate > 0.0 {
        cx.schedule_at(SimTime::ZERO, Event::Churn);
    }
    sim
}

impl Rig {
    /// One pod of a Service is replaced.
    fn touch(&mut self, service: u32, now: SimTime) {
        let pods = &mut self.endpoints[service as usize];
        let old = pods.remove(0);
        let pod = crate::control::pods::Pod {
            address: "10.200.0.1".parse().unwrap(),
            node: Some(self.stream.below(u64::from(self.fleet.len())) as u32),
            service: ServiceId(service),
            state: crate::control::pods::Answering::Listening,
        };
        let new = self.cluster.pods.add(pod);
        pods.push(new);
        let ready = Some(Conditions::READY);
        let deltas = [Delta { pod: old, from: ready, to: None }, Delta { pod: new, from: None, to: ready }];
        let what = What::Endpoints { service: ServiceId(service), deltas: deltas.into_iter().collect() };
        let trigger = Some(SimTime::from_ns(now.as_ns().saturating_sub(5_000_000)));
        self.log.push(Change { what, trigger, committed: now, bytes: 1_000 });
    }

    /// Where endpoints are.
    pub fn whereabouts(&self) -> Whereabouts<'_> {
        Whereabouts { log: &self.log, pods: &self.cluster.pods, first: &self.first }
    }

    pub fn check(&self, now: SimTime) {
        self.fleet.check(&self.log, now, self.watch.is_up());
    }
}

impl Model for Rig {
    type Event = Event;

    fn handle(&mut self, event: Event, now: SimTime, cx: &mut Context<Event>) {
        let changed = match event {
            Event::Churn => {
                if self.watch.is_up() {
                    let service = self.stream.below(self.endpoints.len() as u64) as u32;
                    self.touch(service, now);
                }
                let next = now + dist::exponential(&mut self.stream, SimSpan::from_ns_f64(1e9 / self.rate));
                if next < self.until {
                    cx.at(next, Event::Churn);
                }
                true
            }
            Event::Touch(service) => {
                self.touch(service, now);
                true
            }
            _ => false,
        };
        let mut env =
            Env { log: &self.log, services: &self.services, watch: &mut self.watch, cores: &mut self.cores };
        let (fleet, loaded) = (&mut self.fleet, &mut self.loaded);
        match event {
            Event::Proxy(event) => fleet.handle(event, now, cx, &mut env, loaded),
            Event::Down(node) => fleet.node_down(node, now, cx, &mut env, loaded),
            Event::Up(node) => fleet.node_up(node, now, cx),
            Event::Join => {
                let node = fleet.node_added(now, cx, &mut env);
                assert_eq!(node as usize, self.kernels.len());
                self.kernels.push(None);
            }
            Event::ApiDown => fleet.api_down(now, &mut env),
            Event::ApiUp => fleet.api_up(now, cx, &mut env),
            Event::Relabel(node) => fleet.relabel(node, now, cx, &mut env),
            Event::Flush(node) => fleet.flush(node, now, cx, loaded),
            Event::Restart(node) => fleet.restart(&[node], now, cx, &mut env, loaded),
            Event::FailRestores(node, lasts) => fleet.fail_restores(node, now + lasts),
            Event::DropWatches(node, lasts) => fleet.drop_watches(node, now, now + lasts, &mut env),
            Event::Switch(switch) => {
                let config = proxy(&switch.to, 36);
                fleet.switch_mode(&switch, config, now, cx, &mut env, loaded);
            }
            Event::Churn | Event::Touch(_) => {}
        }
        if changed {
            fleet.changed(now, cx, &mut env);
        }
        for l in self.loaded.drain(..) {
            // Versions only rise while the kernel has rules.
            let kernel = &mut self.kernels[l.node as usize];
            if let (Some(old), Some(new)) = (*kernel, l.rules) {
                assert!(old.version <= new.version, "node {} at {now}: {old:?} then {new:?}", l.node);
            }
            *kernel = l.rules;
            self.loads.push(Load { at: now, node: l.node, rules: l.rules });
        }
    }

    fn digest(event: &Event) -> u64 {
        match event {
            Event::Proxy(event) => event.digest(),
            _ => 0,
        }
    }
}
