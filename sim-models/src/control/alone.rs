//! The control plane by itself, with nobody but watchers around it: for tests, and for questions about watches alone.

use super::addresses::Addresses;
use super::effect::Effect;
use super::plane::{ControlEvent, ControlPlane};
use super::services::Cluster;
use crate::config::{ClusterConfig, WorldConfig};
use crate::kube::generate::{GenerateError, generate};
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
        let index: BTreeMap<&str, u32> =
            made.objects.nodes.iter().zip(0..).map(|(n, i)| (&*n.name, i)).collect();
        let cluster = Cluster::of(&made.objects, &index, Family::Ipv4);
        let names = made.objects.services.iter().map(|s| format!("{}/{}", s.namespace, s.name));
        let plane = ControlPlane::new(config, &cluster, names, nodes, Addresses::Generated(made.addresses));
        Ok(Alone { plane, effects: Vec::new(), buffer: Vec::new() })
    }

    /// Begins: replacements at once, the timeline from the start.
    pub fn begin(self) -> Simulation<Alone> {
        let mut simulation = Simulation::new(self);
        let (alone, cx) = simulation.parts();
        alone.plane.start(SimTime::ZERO, SimTime::ZERO, cx);
        simulation
    }
}
