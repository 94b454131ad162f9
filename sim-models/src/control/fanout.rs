//! What watches of one large Service cost under Endpoints and under EndpointSlices: the table of KEP-752.
//!
//! The controller and the watches of this crate are run on a Service whose pods appear, are replaced once, and are
//! replaced one after the other; events and bytes are what [`Watch`] has sent. As the KEP does, JSON of 100 bytes an endpoint
//! is counted and small objects of up to 1 KB.

use super::alone::Alone;
use super::log::{PodId, ServiceId};
use super::plane::ControlPlane;
use super::pod::Phase;
use super::pods::Answering;
use super::watch::{Sent, Watch};
use crate::config::{
    CacheState, ChurnConfig, ClusterConfig, ControlConfig, Encoding, EndpointLaw, EndpointsObjects,
    FaultConfig, KernelConfig, NodeConfig, PodConfig, ProxyConfig, WorldConfig,
};
use crate::kube::generate::GenerateError;
use sim_core::des::Simulation;
use sim_core::units::SimSpan;

/// What was sent to all watchers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Objects written.
    pub writes: u64,
    /// Watch events.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A row of the table for one kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// All pods of the Service appear at once.
    pub create: Load,
    /// One pod is replaced.
    pub single: Load,
    /// Every pod is replaced, one after the other.
    pub rolling: Load,
}

/// Watch events and bytes of a Service with `endpoints` pods that `nodes` nodes watch.
///
/// # Errors
/// If there is no such cluster.
pub fn fanout(endpoints: u32, nodes: u32, objects: EndpointsObjects) -> Result<Fanout, GenerateError> {
    let config = config(nodes, objects);
    let mut simulation = Alone::new(&config)?.begin();
    let mut watch = Watch::new(&config.control, nodes, config.seed);
    let (alone, cx) = simulation.parts();
    alone.plane.all_appear(0, endpoints);
    alone.plane.flush(cx);
    simulation.run();
    let create = sent(&mut watch, &simulation, Load::default());
    let replace = |simulation: &mut Simulation<Alone>, at: usize| {
        let now = simulation.now();
        let (alone, cx) = simulation.parts();
        alone.plane.now = now;
        let pod = alone.plane.services[0].members[at];
        let node = alone.plane.pods.get(PodId(pod)).node.expect("a pod on a node");
        alone.plane.replace_pod(pod, node).expect("an address is free");
        alone.plane.flush(cx);
        simulation.run();
    };
    let before = create;
    replace(&mut simulation, 0);
    let single = sent(&mut watch, &simulation, before);
    let before = Load {
        writes: before.writes + single.writes,
        events: before.events + single.events,
        bytes: before.bytes + single.bytes,
    };
    for pod in 0..endpoints as usize {
        replace(&mut simulation, pod);
    }
    let rolling = sent(&mut watch, &simulation, before);
    Ok(Fanout { create, single, rolling })
}

/// What was sent since `before`.
fn sent(watch: &mut Watch, simulation: &Simulation<Alone>, before: Load) -> Load {
    let log = simulation.model().plane.log();
    for version in before.writes + 1..=log.version() {
        watch.committed(version, log.of(version));
    }
    let Sent { events, bytes, .. } = watch.sent();
    Load {
        writes: log.version() - before.writes,
        events: events - before.events,
        bytes: bytes - before.bytes,
    }
}

fn config(nodes: u32, objects: EndpointsObjects) -> WorldConfig {
    WorldConfig {
        seed: 1,
        duration: SimSpan::from_secs(1),
        warmup: SimSpan::ZERO,
        cluster: ClusterConfig {
            nodes,
            services: 1,
            endpoints: EndpointLaw::Fixed(0),
            service_cidr: "10.96.0.0/12".parse().expect("a network"),
            cluster_cidr: "10.128.0.0/9".parse().expect("a network"),
            objects: None,
        },
        // The Endpoints objects of the table are of before their limit of 1,000 endpoints.
        proxy: ProxyConfig { kubernetes_minor: 16, ..ProxyConfig::default() },
        kernel: KernelConfig { profile: String::new(), cache: CacheState::Hot, cores: 1 },
        traffic: Vec::new(),
        churn: ChurnConfig { rate: 0.0 },
        control: ControlConfig { encoding: Encoding::Json, endpoints: objects, ..ControlConfig::default() },
        pods: PodConfig::default(),
        nodes: NodeConfig::default(),
        timeline: Vec::new(),
        faults: FaultConfig::default(),
    }
}

impl ControlPlane {
    /// So many pods of a Service are ready at once, round robin over the nodes.
    fn all_appear(&mut self, service: u32, count: u32) {
        for i in 0..count {
            let node = i % self.nodes();
            let Some(address) = self.addresses.allocate(node, None) else { continue };
            let pod = self.add_pod(service, 0);
            let entry = self.pods.get_mut(PodId(pod));
            (entry.address, entry.node, entry.state) = (address, Some(node), Answering::Listening);
            let place = self.nodes[node as usize].enter(pod);
            self.scheduler.count(node);
            let life = &mut self.lives[pod as usize];
            (life.phase, life.on_node) = (Phase::Ready, place);
            let set = &mut self.services[service as usize].new;
            (set.wanted, set.active, set.ready) = (set.wanted + 1, set.active + 1, set.ready + 1);
            self.services[service as usize].replicas += 1;
            self.touch(pod, Some(self.now));
        }
        debug_assert_eq!(self.pods.get(PodId(0)).service, ServiceId(service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To one digit, as the table is published.
    fn rounded(bytes: u64) -> u64 {
        let scale = 10u64.pow(bytes.ilog10());
        (bytes + scale / 2) / scale * scale
    }

    #[test]
    fn the_table_of_kep_752_comes_out_of_the_controller_and_the_watches() {
        const MB: u64 = 1_000_000;
        const GB: u64 = 1_000 * MB;
        const TB: u64 = 1_000 * GB;
        let (endpoints, nodes) = (20_000, 5_000);
        let rows = [
            (EndpointsObjects::Endpoints, [5_000, 10 * GB, 10 * GB, 200 * TB]),
            (EndpointsObjects::Slices { max: 100 }, [1_000_000, 10 * GB, 50 * MB, TB]),
            // The KEP says about 10 GB for the creation too, but 5 MB for one event of each watcher, 1 KB each: of these
            // 20,000 are 100 GB. The model gives what the KEP's own size of the object makes.
            (EndpointsObjects::Slices { max: 1 }, [100_000_000, 100 * GB, 5 * MB, 100 * GB]),
        ];
        for (objects, want) in rows {
            let got = fanout(endpoints, nodes, objects).unwrap();
            let bytes = [got.create.bytes, got.single.bytes, got.rolling.bytes].map(rounded);
            assert_eq!([got.create.events, bytes[0], bytes[1], bytes[2]], want, "{objects:?} {got:?}");
            assert_eq!((got.single.writes, got.rolling.writes), (1, u64::from(endpoints)), "{objects:?}");
        }
    }
}
