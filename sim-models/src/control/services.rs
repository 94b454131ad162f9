//! Services and their endpoints as they are numbered in a run, and their state at any version of the log.
//!
//! [`ServiceId`]s are places in the objects' list of Services, new Services come behind. [`PodId`]s are given in the order in
//! which slices first name an address. What slices say beyond an address's conditions (hints, ports of single slices) is
//! kept of the beginning: pods that come later have no hints and listen on the port of the Service's first slice.

use super::log::{Change, ChangeLog, Conditions, PodId, ServiceId, What};
use super::pods::{Answering, Pod, Pods};
use crate::kube::objects::{Objects, SliceEndpoint};
use crate::kube::resolve;
use crate::kube::{EndpointLists, ServicePort};
use sim_core::classify::Family;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One Service.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    /// Its ports as kube-proxy resolves them, without endpoints; none for one that no proxy looks at.
    pub ports: Vec<ServicePort>,
    /// The port that pods listen on, by port.
    pub targets: Vec<u16>,
}

/// All Services that are or were there.
#[derive(Clone, Debug, Default)]
pub struct Services {
    all: Vec<ServiceEntry>,
}

impl Services {
    /// Adds one.
    pub fn add(&mut self, entry: ServiceEntry) -> ServiceId {
        self.all.push(entry);
        ServiceId(u32::try_from(self.all.len() - 1).expect("fewer than 2^32 Services"))
    }
    /// One of them.
    pub fn get(&self, id: ServiceId) -> &ServiceEntry {
        &self.all[id.0 as usize]
    }
    /// How many there ever were.
    pub fn len(&self) -> usize {
        self.all.len()
    }
    /// Whether there never was one.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Endpoints of every Service at one version.
#[derive(Clone, Debug, Default)]
pub struct State {
    version: u64,
    /// By Service: whether it is there, and its endpoints in the order in which they came.
    services: Vec<(bool, Vec<(PodId, Conditions)>)>,
}

impl State {
    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Whether a Service is there.
    pub fn is_there(&self, service: ServiceId) -> bool {
        self.services.get(service.0 as usize).is_some_and(|(there, _)| *there)
    }
    /// Endpoints of a Service.
    pub fn endpoints(&self, service: ServiceId) -> &[(PodId, Conditions)] {
        self.services.get(service.0 as usize).map_or(&[], |(_, endpoints)| endpoints)
    }

    /// Goes to another version, forwards or back; `touched` is told each Service that a change on the way is about.
    pub fn go_to(&mut self, version: u64, log: &ChangeLog, mut touched: impl FnMut(ServiceId)) {
        while self.version < version {
            self.version += 1;
            let change = log.of(self.version);
            self.apply(change, true);
            touched(change.what.service());
        }
        while self.version > version {
            let change = log.of(self.version);
            self.apply(change, false);
            touched(change.what.service());
            self.version -= 1;
        }
    }

    fn apply(&mut self, change: &Change, forwards: bool) {
        let id = change.what.service().0 as usize;
        if self.services.len() <= id {
            self.services.resize(id + 1, (false, Vec::new()));
        }
        let (there, endpoints) = &mut self.services[id];
        match &change.what {
            What::ServiceAdded { .. } => *there = forwards,
            What::ServiceRemoved { .. } => *there = !forwards,
            What::Endpoints { deltas, .. } => {
                for delta in deltas {
                    let (old, new) = if forwards { (delta.from, delta.to) } else { (delta.to, delta.from) };
                    let at = endpoints.iter().position(|(pod, _)| *pod == delta.pod);
                    let found = at.map(|at| endpoints[at].1);
                    assert_eq!(found, old, "{delta:?} at version {}", self.version);
                    match (at, new) {
                        (Some(at), Some(new)) => endpoints[at].1 = new,
                        (Some(at), None) => {
                            endpoints.swap_remove(at);
                        }
                        (None, Some(new)) => endpoints.push((delta.pod, new)),
                        (None, None) => {}
                    }
                }
            }
        }
    }
}

/// A cluster at its beginning, numbered.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its Services.
    pub services: Services,
    /// Its pods that are behind a Service, all answering.
    pub pods: Pods,
    /// Endpoints at version 0.
    pub state: State,
    /// What the slices said about each pod beyond its conditions, by [`PodId`]; pods that come later have none.
    pub first: Vec<SliceEndpoint>,
}

impl Cluster {
    /// Numbers `objects`, of one family; `nodes` gives indices to nodes' names.
    pub fn of(objects: &Objects, nodes: &BTreeMap<&str, u32>, family: Family) -> Cluster {
        let mut cluster = Cluster::default();
        let mut ids: BTreeMap<IpAddr, PodId> = BTreeMap::new();
        let mut by_service: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (i, slice) in objects.slices.iter().enumerate().filter(|(_, s)| s.family == family) {
            if let Some(service) = &slice.service {
                by_service.entry((&slice.namespace, service)).or_default().push(i);
            }
        }
        for service in &objects.services {
            let ports = resolve::ports_of(service, family);
            let slices = by_service.get(&(&*service.namespace, &*service.name)).map_or(&[][..], |s| s);
            let slices = || slices.iter().map(|&i| &objects.slices[i]);
            let target = |port: &ServicePort| {
                let mut all = slices().flat_map(|s| &s.ports);
                all.find(|p| p.name == port.port_name && p.proto == port.proto).map_or(port.port, |p| p.port)
            };
            let targets = ports.iter().map(target).collect();
            let id = cluster.services.add(ServiceEntry { ports, targets });
            let mut endpoints: Vec<(PodId, Conditions)> = Vec::new();
            for endpoint in slices().flat_map(|s| &s.endpoints) {
                let pod = *ids.entry(endpoint.address).or_insert_with(|| {
                    cluster.first.push(endpoint.clone());
                    cluster.pods.add(Pod {
                        address: endpoint.address,
                        node: endpoint.node.as_deref().and_then(|name| nodes.get(name)).copied(),
                        service: id,
                        state: Answering::Listening,
                    })
                });
                let SliceEndpoint { ready, serving, terminating, .. } = *endpoint;
                if !endpoints.iter().any(|(known, _)| *known == pod) {
                    endpoints.push((pod, Conditions { ready, serving, terminating }));
                }
            }
            cluster.state.services.push((true, endpoints));
        }
        cluster
    }
}

/// What kube-proxy on a node makes of a port's endpoints (`pkg/proxy/topology.go:CategorizeEndpoints`).
pub struct Place<'a> {
    /// All pods.
    pub pods: &'a Pods,
    /// What the first slices said ([`Cluster::first`]).
    pub first: &'a [SliceEndpoint],
    /// Names of nodes.
    pub nodes: &'a [Arc<str>],
    /// The node; none for a view that all nodes share, in which every endpoint is somebody's own.
    pub node: Option<u32>,
    /// Its zone.
    pub zone: Option<&'a str>,
}

impl Place<'_> {
    /// Endpoint lists of port `port` of a Service.
    pub fn lists(
        &self,
        entry: &ServiceEntry,
        port: usize,
        endpoints: &[(PodId, Conditions)],
    ) -> EndpointLists {
        let target = entry.targets[port];
        let said: Vec<SliceEndpoint> = endpoints
            .iter()
            .map(|&(id, c)| {
                let pod = self.pods.get(id);
                SliceEndpoint {
                    address: pod.address,
                    ready: c.ready,
                    serving: c.serving,
                    terminating: c.terminating,
                    node: pod.node.map(|n| self.nodes[n as usize].clone()),
                    hints: self.first.get(id.0 as usize).and_then(|said| said.hints.clone()),
                }
            })
            .collect();
        let name = self.node.map_or("", |n| &*self.nodes[n as usize]);
        let seen = said.iter().map(|e| (SocketAddr::new(e.address, target), e));
        let mut lists = resolve::lists_of(&entry.ports[port], seen, name, self.zone);
        if self.node.is_none() {
            lists.reachable.iter_mut().for_each(|e| e.is_local = true);
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, EndpointLaw};
    use crate::control::log::Delta;
    use crate::kube::generate::generate;
    use sim_core::units::SimTime;

    fn made() -> Objects {
        let config = ClusterConfig {
            nodes: 2,
            services: 5,
            endpoints: EndpointLaw::Fixed(3),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_cidr: "10.128.0.0/9".parse().unwrap(),
            objects: None,
        };
        generate(&config, 1).unwrap().objects
    }

    #[test]
    fn a_place_sees_what_resolving_the_objects_gives() {
        let objects = made();
        let names: Vec<Arc<str>> = objects.nodes.iter().map(|n| n.name.clone()).collect();
        let index = names.iter().zip(0..).map(|(n, i)| (&**n, i)).collect();
        let cluster = Cluster::of(&objects, &index, Family::Ipv4);
        let whole = resolve::resolve(&objects, Family::Ipv4, &names[1]);
        let place =
            Place { pods: &cluster.pods, first: &cluster.first, nodes: &names, node: Some(1), zone: None };
        for (i, port) in whole.ports.iter().enumerate() {
            let id = ServiceId(i as u32);
            let lists = place.lists(cluster.services.get(id), 0, cluster.state.endpoints(id));
            assert_eq!(lists, port.endpoints, "{}", port.full_name());
        }
    }

    #[test]
    fn a_version_is_reached_from_both_sides() {
        let objects = made();
        let mut cluster = Cluster::of(&objects, &BTreeMap::new(), Family::Ipv4);
        let service = ServiceId(2);
        let pod = cluster.state.endpoints(service)[0].0;
        let mut log = ChangeLog::default();
        let steps =
            [(Some(Conditions::READY), Some(Conditions::DRAINING)), (Some(Conditions::DRAINING), None)];
        for (from, to) in steps {
            let what = What::Endpoints { service, deltas: [Delta { pod, from, to }].into_iter().collect() };
            log.push(Change { what, trigger: None, committed: SimTime::ZERO, bytes: 0 });
        }
        let sorted = |state: &State| {
            let mut all = state.endpoints(service).to_vec();
            all.sort_by_key(|(pod, _)| *pod);
            all
        };
        let before = sorted(&cluster.state);
        let mut touched = Vec::new();
        cluster.state.go_to(2, &log, |id| touched.push(id));
        assert_eq!((cluster.state.endpoints(service).len(), &touched[..]), (2, &[service, service][..]));
        cluster.state.go_to(0, &log, |_| {});
        assert_eq!(sorted(&cluster.state), before);
    }
}
