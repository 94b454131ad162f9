//! The control plane: pods, Deployments, nodes and Services as the API server knows them, and the controllers that act on
//! them, as one state machine.
//!
//! Each subject is a file: [`pod`](super::pod) lives, [`replicas`](super::replicas) (Deployments and ReplicaSets at work,
//! by the rules in [`deployment`](super::deployment)), [`scheduler`](super::scheduler),
//! [`node_lifecycle`](super::node_lifecycle), [`endpointslice`](super::endpointslice) (the controller, by the rules in
//! [`slices`](super::slices)), [`api_server`](super::api_server), [`churn`](super::churn),
//! [`actions`](super::actions) (what the timeline plans). Nodes hear of writes through [`watch`](super::watch).
//!
//! An event's consequences come out as [`Effect`]s and as changes in the [`ChangeLog`]. Nothing here is done for every node
//! or pod of the cluster at every event: heartbeats are worked out when a node dies.
//!
//! Left out: what controllers and kubelets hear of writes comes after [`ControlConfig::watch_fixed`], whatever the load.

use super::addresses::Addresses;
use super::api_server::{ApiServer, Bucket};
use super::deployment::{Limits, ReplicaSet};
use super::effect::Effect;
use super::endpointslice::Controller;
pub use super::event::{ControlEvent, PodStep};
use super::log::{Change, ChangeLog, Conditions, PodId, ServiceId, What};
use super::node_lifecycle::{Node, NodeController};
use super::pod::{Life, Phase};
use super::pods::Pods;
use super::scheduler::Scheduler;
use super::services::{Cluster, State};
use super::slices::Slices;
use crate::config::{ChurnConfig, ControlConfig, NodeConfig, Planned, PodConfig, Share, WorldConfig};
use sim_core::des::Schedule;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// A Service with its Deployment.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) there: bool,
    /// `spec.replicas` of the Deployment.
    pub(super) replicas: u32,
    pub(super) surge: Share,
    pub(super) unavailable: Share,
    /// Number of its newest template.
    pub(super) template: u32,
    pub(super) old: ReplicaSet,
    pub(super) new: ReplicaSet,
    /// The Deployment's controller is going to look.
    pub(super) looked_after: bool,
    /// Its pods that are not gone.
    pub(super) members: Vec<u32>,
    pub(super) slices: Slices,
    /// Pods whose endpoints may have to change.
    pub(super) dirty: Vec<u32>,
    /// Pods that the one Endpoints object has no room for.
    pub(super) left_out: Vec<u32>,
    /// When the first of these changes happened.
    pub(super) trigger: Option<SimTime>,
    pub(super) key: Key,
}

/// Where a Service is in the EndpointSlice controller's work queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    /// It is going to be added.
    pub(super) waiting: bool,
    pub(super) queued: bool,
    pub(super) running: bool,
    /// It is to be queued again when the worker is through.
    pub(super) again: bool,
}

impl Service {
    pub(super) fn new(replicas: u32) -> Self {
        Service {
            there: true,
            replicas,
            surge: Share::Percent(25),
            unavailable: Share::Percent(25),
            template: 0,
            old: ReplicaSet::default(),
            new: ReplicaSet { wanted: replicas, ..ReplicaSet::default() },
            looked_after: false,
            members: Vec::new(),
            slices: Slices::default(),
            dirty: Vec::new(),
            left_out: Vec::new(),
            trigger: None,
            key: Key::default(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::of(self.surge, self.unavailable, self.replicas)
    }

    pub(super) fn set(&mut self, template: u32) -> &mut ReplicaSet {
        if template == self.template { &mut self.new } else { &mut self.old }
    }
}

/// How many of everything there are, for checks of conservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods that Deployments want.
    pub wanted: u64,
    /// Pods without a node.
    pub pending: u64,
    /// Pods on a node that are not running yet.
    pub starting: u64,
    /// Running ones that are not ready.
    pub running: u64,
    /// Ready ones.
    pub ready: u64,
    /// Pods that are being deleted.
    pub terminating: u64,
    /// Pods that are gone.
    pub gone: u64,
    /// All pods there ever were: the sum of the six.
    pub pods: u64,
    /// Endpoints in all slices.
    pub listed: u64,
    /// Events put into the queue.
    pub scheduled: u64,
    /// Events handled.
    pub handled: u64,
    /// Writes to etcd.
    pub writes: u64,
}

/// The control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    pub(super) seed: u64,
    pub(super) control: ControlConfig,
    pub(super) pod_config: PodConfig,
    pub(super) node_config: NodeConfig,
    pub(super) churn: ChurnConfig,
    pub(super) timeline: Vec<Planned>,
    pub(super) names: BTreeMap<String, u32>,
    pub(super) log: ChangeLog,
    pub(super) pods: Pods,
    pub(super) lives: Vec<Life>,
    /// Pods that other Services than their own select too, with what those Services' slices say.
    pub(super) also: BTreeMap<u32, Vec<(u32, Listed)>>,
    /// By Service, the others that select its pods.
    pub(super) shared: BTreeMap<u32, Vec<u32>>,
    pub(super) services: Vec<Service>,
    pub(super) nodes: Vec<Node>,
    pub(super) addresses: Addresses,
    pub(super) scheduler: Scheduler,
    pub(super) unscheduled: VecDeque<u32>,
    pub(super) api: ApiServer,
    pub(super) replica_client: Bucket,
    pub(super) user_client: Bucket,
    pub(super) controller: Controller,
    pub(super) node_controller: NodeController,
    pub(super) streams: Streams,
    pub(super) outages: u32,
    pub(super) churns: bool,
    /// Bytes of all slices and Services as they are encoded.
    pub(super) object_bytes: u64,
    pub(super) now: SimTime,
    out: Vec<(SimTime, ControlEvent)>,
    pub(super) effects: Vec<Effect>,
    state: State,
    scheduled: u64,
    handled: u64,
}

/// Which slice a pod's endpoint is in, and what that says.
pub(super) type Listed = Option<(u32, Conditions)>;

/// One stream a purpose.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) scheduling: Stream,
    pub(super) startup: Stream,
    pub(super) probes: Stream,
    pub(super) shutdown: Stream,
    pub(super) churn: Stream,
}

impl ControlPlane {
    /// The control plane of a cluster as it is at the beginning, all at rest. `names` are those of its Services
    /// (`namespace/name`, in the order of the objects), `nodes` is their number.
    pub fn new(
        config: &WorldConfig,
        cluster: &Cluster,
        names: impl Iterator<Item = String>,
        nodes: u32,
        addresses: Addresses,
    ) -> Self {
        let seed = config.seed;
        let stream = |path: &str, purpose: &str| Stream::new(seed, path, purpose);
        let client = || Bucket::new(config.control.writes_per_second, config.control.writes_burst);
        let mut plane = ControlPlane {
            seed,
            control: config.control.clone(),
            pod_config: config.pods.clone(),
            node_config: config.nodes.clone(),
            churn: config.churn,
            timeline: config.timeline.clone(),
            names: names.zip(0..).collect(),
            log: ChangeLog::default(),
            pods: cluster.pods.clone(),
            lives: Vec::with_capacity(cluster.pods.len()),
            also: BTreeMap::new(),
            shared: BTreeMap::new(),
            services: Vec::with_capacity(cluster.services.len()),
            nodes: Vec::with_capacity(nodes as usize),
            addresses,
            scheduler: Scheduler::new(config.pods.per_node, seed),
            unscheduled: VecDeque::new(),
            api: ApiServer::new(&config.control, seed),
            replica_client: client(),
            user_client: client(),
            controller: Controller::new(&config.control, config.proxy.kubernetes_minor),
            node_controller: NodeController::new(&config.control, &config.nodes),
            streams: Streams {
                scheduling: stream("control/scheduler", "delays"),
                startup: stream("control/kubelets", "startup"),
                probes: stream("control/kubelets", "probes"),
                shutdown: stream("control/kubelets", "shutdown"),
                churn: stream("churn", "changes"),
            },
            outages: 0,
            churns: false,
            object_bytes: 0,
            now: SimTime::ZERO,
            out: Vec::new(),
            effects: Vec::new(),
            state: cluster.state.clone(),
            scheduled: 0,
            handled: 0,
        };
        for _ in 0..nodes {
            plane.add_node();
        }
        plane.adopt(cluster);
        plane
    }

    /// Takes over the pods and endpoints that are there at the beginning.
    fn adopt(&mut self, cluster: &Cluster) {
        for pod in 0..self.pods.len() as u32 {
            self.lives.push(Life::new(0, SimTime::ZERO));
            if let Some(node) = self.pods.get(PodId(pod)).node {
                self.lives[pod as usize].on_node = self.nodes[node as usize].enter(pod);
                self.scheduler.count(node);
            }
        }
        for service in 0..cluster.services.len() as u32 {
            let endpoints = cluster.state.endpoints(ServiceId(service));
            let mut entry = Service::new(0);
            let max = self.controller.cut.max;
            let (mut slice, mut lengths) = (0u32, vec![0u32]);
            let mut all: Vec<(u32, Listed)> = Vec::with_capacity(endpoints.len());
            for &(pod, conditions) in endpoints {
                // The one Endpoints object has all that are there at the beginning, whatever its limit is.
                if lengths[slice as usize] == max && !self.controller.cut.single {
                    slice += 1;
                    lengths.push(0);
                }
                lengths[slice as usize] += 1;
                all.push((pod.0, Some((slice, conditions))));
            }
            for len in &lengths {
                self.object_bytes += self.control.encoded(*len);
            }
            self.object_bytes += self.control.encoded(0);
            entry.slices = Slices::of(lengths);
            for (pod, listed) in all {
                let id = PodId(pod);
                if self.pods.get(id).service.0 != service {
                    let owner = self.pods.get(id).service.0;
                    self.also.entry(pod).or_default().push((service, listed));
                    let shared = self.shared.entry(owner).or_default();
                    if !shared.contains(&service) {
                        shared.push(service);
                    }
                    continue;
                }
                let life = &mut self.lives[pod as usize];
                life.listed = listed;
                life.place = entry.members.len() as u32;
                entry.members.push(pod);
                let conditions = listed.map_or(Conditions::READY, |(_, conditions)| conditions);
                life.phase = if conditions.serving { Phase::Ready } else { Phase::Running };
                life.terminating = conditions.terminating;
                life.leaving = conditions.terminating;
                if !life.leaving {
                    entry.replicas += 1;
                    entry.new.wanted += 1;
                    entry.new.active += 1;
                    entry.new.ready += u32::from(life.phase == Phase::Ready);
                }
            }
            self.services.push(entry);
        }
    }

    /// Puts what is planned into the queue, counted from `origin`, the end of the warm-up, and lets endpoints be replaced
    /// from `churn_from` on until [`ControlPlane::end`].
    pub fn start(&mut self, churn_from: SimTime, origin: SimTime, cx: &mut impl Schedule<ControlEvent>) {
        for (i, planned) in (0u32..).zip(self.timeline.clone()) {
            if self.acts(&planned.action) {
                self.later(origin + planned.at, ControlEvent::Action(i));
            }
        }
        if self.churn.rate > 0.0 {
            self.churns = true;
            let gap = self.churn_gap();
            self.later(churn_from + gap, ControlEvent::Churn);
        }
        self.flush(cx);
    }

    /// No more endpoints are replaced; what has begun goes on.
    pub fn end(&mut self) {
        self.churns = false;
    }

    /// Lets `event` happen. What the rest of the world has to know is appended to `effects`.
    pub fn handle(
        &mut self,
        event: ControlEvent,
        now: SimTime,
        cx: &mut impl Schedule<ControlEvent>,
        effects: &mut Vec<Effect>,
    ) {
        self.now = now;
        self.handled += 1;
        match event {
            ControlEvent::Action(i) => self.act(i as usize),
            ControlEvent::OutageEnds => self.outage_ends(),
            ControlEvent::Churn => self.replace_one(),
            ControlEvent::AddService(add) => self.add_service(add),
            ControlEvent::RemoveService(service) => self.remove_service(service),
            ControlEvent::Deployment(service) => self.deployment(service),
            ControlEvent::Create { service, template } => self.create(service, template),
            ControlEvent::Pod { pod, step } => self.pod_step(pod, step),
            ControlEvent::Enqueue(service) => self.enqueue(service),
            ControlEvent::Written(worker) => self.written(worker),
            ControlEvent::NodeSilent { node, fall } => self.node_silent(node, fall),
            ControlEvent::MarkNotReady => self.mark_not_ready(),
            ControlEvent::Taint(zone) => self.taint(zone),
            ControlEvent::Evict { node, taint } => self.evict(node, taint),
            ControlEvent::NodeBack { node, fall } => self.node_back(node, fall),
            ControlEvent::NodeJoins => self.node_joins(),
        }
        effects.append(&mut self.effects);
        self.flush(cx);
    }

    pub(super) fn flush(&mut self, cx: &mut impl Schedule<ControlEvent>) {
        self.scheduled += self.out.len() as u64;
        for (at, event) in self.out.drain(..) {
            cx.at(at, event);
        }
    }

    pub(super) fn later(&mut self, at: SimTime, event: ControlEvent) {
        self.out.push((at, event));
    }

    pub(super) fn after(&mut self, delay: SimSpan, event: ControlEvent) {
        self.later(self.now + delay, event);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// A write is in etcd.
    pub(super) fn commit(&mut self, what: What, trigger: Option<SimTime>, bytes: u64) {
        self.log.push(Change { what, trigger, committed: self.now, bytes });
        self.effect(Effect::Committed);
    }

    /// All writes so far.
    pub fn log(&self) -> &ChangeLog {
        &self.log
    }

    /// All pods.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// Nodes that are or were there.
    pub fn nodes(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// A free address of a node's pod network, for a pod that no Service has.
    pub fn client_address(&mut self, node: u32) -> Option<IpAddr> {
        self.addresses.allocate(node, None)
    }

    /// Whether a node runs.
    pub fn node_runs(&self, node: u32) -> bool {
        self.nodes[node as usize].runs
    }

    /// Services that are or were there.
    pub fn service_count(&self) -> u32 {
        self.services.len() as u32
    }

    /// Whether API servers answer at `now`.
    pub fn api_answers(&self, now: SimTime) -> bool {
        self.api.answers(now)
    }

    /// Bytes of everything that kube-proxy lists, as encoded.
    pub fn list_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Endpoints of a Service at the newest version, in the order in which they came.
    pub fn endpoints(&mut self, service: ServiceId) -> &[(PodId, Conditions)] {
        self.state.go_to(self.log.version(), &self.log, |_| {});
        self.state.endpoints(service)
    }

    /// How many of everything there are; looks at every pod.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            pods: self.lives.len() as u64,
            scheduled: self.scheduled,
            handled: self.handled,
            writes: self.api.writes(),
            ..Counts::default()
        };
        for life in &self.lives {
            let count = match life.phase {
                Phase::Gone => &mut counts.gone,
                _ if life.terminating => &mut counts.terminating,
                Phase::Pending => &mut counts.pending,
                Phase::Bound => &mut counts.starting,
                Phase::Running => &mut counts.running,
                Phase::Ready => &mut counts.ready,
            };
            *count += 1;
        }
        for service in &self.services {
            counts.wanted += u64::from(service.new.wanted) + u64::from(service.old.wanted);
            counts.listed += service.slices.lengths().map(u64::from).sum::<u64>();
        }
        counts
    }
}
