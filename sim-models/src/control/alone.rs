//! The control plane by itself, with nobody but watchers around it: for tests, and for questions about watches alone.

use super::addresses::Addresses;
use super::effect::Effect;
use super::log::PodId;
use super::plane::{ControlEvent, ControlPlane};
use super::services::Cluster;
use crate::config::{ClusterConfig, WorldConfig};
use crate::kube::generate::{GenerateError, generate};
use crate::kube::objects::Objects;
use sim_core::classify::Family;
use sim_core::des::{Context, Model, Simulation};
use sim_core::units::SimTime;
use std::collections::BTreeMap;

/// A control plane that nothing else listens to.
#[derive(Clone, Debug)]
pub struct Alone {
    /// It.
    pub plane: ControlPlane,
    /// What it told, with the time.
    pub effects: Vec<(SimTime, Effect)>,
    buffer: Vec<Effect>,
}

impl Model for Alone {
    type Event = ControlEvent;

    fn handle(&mut self, event: ControlEvent, now: SimTime, cx: &mut Context<ControlEvent>) {
        self.plane.handle(event, now, cx, &mut self.buffer);
        self.effects.extend(self.buffer.drain(..).map(|effect| (now, effect)));
    }

    fn digest(event: &ControlEvent) -> u64 {
        event.digest()
    }
}

impl Alone {
    /// The control plane of a generated cluster, at rest.
    ///
    /// # Errors
    /// If there is no cluster of this shape.
    pub fn new(config: &WorldConfig) -> Result<Self, GenerateError> {
        let ClusterConfig { nodes, .. } = config.cluster;
        let made = generate(&config.cluster, config.seed)?;
        let names: Vec<&str> = made.objects.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names.len(), nodes as usize, "generated nodes");
        Ok(Alone::with(config, &made.objects, &names, Some(Addresses::Generated(made.addresses))))
    }

    /// The control plane of these objects, at rest; `nodes` are the names of the nodes.
    pub fn of(config: &WorldConfig, objects: &Objects, nodes: &[&str]) -> Self {
        Alone::with(config, objects, nodes, None)
    }

    fn with(config: &WorldConfig, objects: &Objects, nodes: &[&str], addresses: Option<Addresses>) -> Self {
        let index: BTreeMap<&str, u32> = nodes.iter().copied().zip(0..).collect();
        let cluster = Cluster::of(objects, &index, Family::Ipv4);
        let names = objects.services.iter().map(|s| format!("{}/{}", s.namespace, s.name));
        let pods = || (0..cluster.pods.len() as u32).map(|i| cluster.pods.get(PodId(i)));
        let addresses = addresses.unwrap_or_else(|| {
            let taken = pods().map(|pod| pod.address).collect();
            Addresses::imported(taken, pods().map(|pod| (pod.address, pod.node)), nodes.len())
        });
        let plane = ControlPlane::new(config, &cluster, names, nodes.len() as u32, addresses);
        Alone { plane, effects: Vec::new(), buffer: Vec::new() }
    }

    /// Begins: replacements at once, the timeline from the start.
    pub fn begin(self) -> Simulation<Alone> {
        let mut simulation = Simulation::new(self);
        let (alone, cx) = simulation.parts();
        alone.plane.start(SimTime::ZERO, SimTime::ZERO, cx);
        simulation
    }
}
