//! Rules by version: the same as those built from the objects of that version, and no more of them than packets meet.

use super::*;
use crate::config::{ClusterConfig, EndpointLaw};
use crate::control::log::{Change, Conditions, Delta, PodId, ServiceId, What};
use crate::control::pods::{Answering, Pod};
use crate::control::services::{Cluster, ServiceEntry};
use crate::kernel::path::{NodeState, Origin, cross};
use crate::kube::ServicePort;
use crate::kube::generate::generate;
use crate::kube::resolve::ports_of;
use sim_core::classify::{Packet, Verdict};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use smallvec::smallvec;
use std::collections::BTreeMap;

/// A cluster and what was written to it, with the objects of every version.
struct Written {
    cluster: Cluster,
    log: ChangeLog,
    versions: Vec<Objects>,
}

impl Written {
    fn new(nodes: u32, services: u32, local: bool) -> Self {
        let config = ClusterConfig {
            nodes,
            services,
            endpoints: EndpointLaw::Fixed(3),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_cidr: "10.128.0.0/9".parse().unwrap(),
            objects: None,
        };
        let mut objects = generate(&config, 1).unwrap().objects;
        if local {
            objects.services.iter_mut().step_by(2).for_each(|s| s.internal_local = true);
        }
        let index: BTreeMap<&str, u32> = objects.nodes.iter().zip(0..).map(|(n, i)| (&*n.name, i)).collect();
        let cluster = Cluster::of(&objects, &index, Family::Ipv4);
        Written { cluster, log: ChangeLog::default(), versions: vec![objects] }
    }

    fn objects(&self) -> &Objects {
        self.versions.last().unwrap()
    }

    fn write(&mut self, what: What, objects: Objects) {
        let (trigger, committed) = (None, SimTime::ZERO);
        self.log.push(Change { what, trigger, committed, bytes: 0 });
        self.versions.push(objects);
    }

    /// A pod of a Service gets other conditions, comes or goes.
    fn set(&mut self, service: u32, pod: PodId, from: Option<Conditions>, to: Option<Conditions>) {
        let mut objects = self.objects().clone();
        let Pod { address, node, .. } = *self.cluster.pods.get(pod);
        let node = node.map(|n| objects.nodes[n as usize].name.clone());
        let endpoints = &mut objects.slices[service as usize].endpoints;
        endpoints.retain(|e| e.address != address);
        if let Some(Conditions { ready, serving, terminating }) = to {
            endpoints.push(SliceEndpoint { address, ready, serving, terminating, node, hints: None });
        }
        let deltas = smallvec![Delta { pod, from, to }];
        self.write(What::Endpoints { service: ServiceId(service), deltas }, objects);
    }

    fn history(&self) -> History<'_> {
        let Cluster { pods, services, first, .. } = &self.cluster;
        History { log: &self.log, pods, services, first }
    }

    fn book(&self, modes: &[&str]) -> RuleBook {
        let mode = |name: &&str| {
            let config = ProxyConfig {
                mode: (*name).to_owned(),
                cluster_cidrs: vec!["10.128.0.0/9".parse().unwrap()],
                ..ProxyConfig::default()
            };
            Mode { mode: crate::proxy::mode(name).unwrap().simulated().unwrap(), config }
        };
        let objects = Arc::new(self.versions[0].clone());
        let nodes = objects.nodes.clone();
        RuleBook::new(modes.iter().map(mode).collect(), objects, nodes, self.cluster.state.clone(), 1)
    }
}

const READY: Option<Conditions> = Some(Conditions::READY);
const DRAINING: Option<Conditions> = Some(Conditions::DRAINING);
const NOT_READY: Option<Conditions> = Some(Conditions::NOT_READY);

fn plain(version: u64) -> RulesId {
    RulesId { mode: 0, version, under: None }
}

/// Random writes: a pod changes, comes, or goes.
fn churned(local: bool) -> Written {
    let mut written = Written::new(3, 6, local);
    let mut stream = Stream::new(3, "test", "writes");
    let mut now: Vec<(u32, PodId, Option<Conditions>)> =
        (0..18u32).map(|i| (i / 3, PodId(i), READY)).collect();
    for n in 0..60u32 {
        let at = stream.below(now.len() as u64) as usize;
        let to = [READY, DRAINING, NOT_READY, None][stream.below(4) as usize];
        let (service, pod, from) = now[at];
        written.set(service, pod, from, to);
        now[at].2 = to;
        if n % 10 == 0 {
            let address = [10, 129, 0, n as u8 + 1].into();
            let state = Answering::Listening;
            let pod = written.cluster.pods.add(Pod {
                address,
                node: Some(n % 3),
                service: ServiceId(service),
                state,
            });
            written.set(service, pod, None, READY);
            now.push((service, pod, READY));
        }
    }
    written
}

#[test]
fn objects_moved_along_the_history_are_those_that_resolving_each_version_gives() {
    for local in [false, true] {
        let written = churned(local);
        let mut book = written.book(&["iptables"]);
        let versions = written.versions.len() as u64;
        // Forward one by one, back in leaps.
        let order = (0..versions).chain([versions - 1, 40, 7, 0, 30]);
        for version in order {
            for node in 0..3u32 {
                let objects = &written.versions[version as usize];
                let name = &objects.nodes[node as usize].name;
                let wanted = resolve(objects, Family::Ipv4, name);
                let seen = book.objects(node, version, written.history());
                assert_eq!(seen.ports.len(), wanted.ports.len());
                for (seen, wanted) in seen.ports.iter().zip(&wanted.ports) {
                    let (mut seen, mut wanted) = (seen.clone(), wanted.clone());
                    if !local {
                        // All nodes share one view, in which every endpoint is local.
                        for port in [&mut seen, &mut wanted] {
                            port.endpoints.reachable.iter_mut().for_each(|e| e.is_local = true);
                            port.endpoints.cluster.iter_mut().for_each(|e| e.is_local = true);
                            port.endpoints.idle_local.clear();
                        }
                    }
                    assert_eq!(seen, wanted, "version {version}, node {node}");
                }
            }
        }
    }
}

#[test]
fn services_come_and_go_with_their_ports_in_their_places() {
    let mut written = Written::new(2, 4, false);
    let mut later = written.versions[0].services[3].clone();
    (later.name, later.cluster_ips) = ("later".into(), vec!["10.96.9.9".parse().unwrap()]);
    let removed = |mut objects: Objects, at: usize| {
        objects.services.remove(at);
        objects
    };
    let mut with = written.objects().clone();
    with.services.push(later.clone());
    written.write(What::ServiceAdded { service: ServiceId(4) }, with.clone());
    written.write(What::ServiceRemoved { service: ServiceId(1) }, removed(with, 1));
    let all = removed(written.objects().clone(), 3);
    written.write(What::ServiceRemoved { service: ServiceId(4) }, all);
    let ports = ports_of(&later, Family::Ipv4);
    written.cluster.services.add(ServiceEntry { ports, targets: vec![8080] });
    let mut book = written.book(&["iptables"]);
    for version in [0u64, 1, 2, 3, 2, 1, 0, 3, 0] {
        let names = |ports: &[ServicePort]| ports.iter().map(|p| p.name.to_string()).collect::<Vec<_>>();
        let seen = names(&book.objects(0, version, written.history()).ports);
        let wanted = names(&resolve(&written.versions[version as usize], Family::Ipv4, "node-0").ports);
        assert_eq!(seen, wanted, "version {version}");
    }
}

#[test]
fn nothing_is_compiled_before_a_packet_asks_and_each_version_once() {
    let mut written = Written::new(50, 10, false);
    for pod in 0..20 {
        written.set(pod / 3, PodId(pod), READY, None);
    }
    let mut book = written.book(&["iptables"]);
    assert_eq!(book.made(), (0, 0));
    let held: Vec<Arc<Stack>> =
        (0..50).map(|node| book.stack(node, Some(plain(20)), written.history())).collect();
    assert_eq!(book.made(), (1, 0));
    assert!(held.iter().all(|stack| Arc::ptr_eq(stack, &held[0])));
}

#[test]
fn what_no_node_has_is_forgotten_but_for_the_newest_few() {
    let mut written = Written::new(2, 10, false);
    for pod in 0..20 {
        written.set(pod / 3, PodId(pod), READY, None);
    }
    let mut book = written.book(&["iptables"]);
    let held = book.stack(0, Some(plain(1)), written.history());
    for version in 2..=20 {
        book.stack(0, Some(plain(version)), written.history());
    }
    let all = |book: &RuleBook| book.made().0 + book.made().1;
    assert_eq!(all(&book), 20);
    // The one that is held and those asked for last are there without being compiled again.
    assert!(Arc::ptr_eq(&held, &book.stack(1, Some(plain(1)), written.history())));
    book.stack(1, Some(plain(20)), written.history());
    assert_eq!(all(&book), 20);
    book.stack(1, Some(plain(5)), written.history());
    assert_eq!(all(&book), 21);
}

#[test]
fn a_node_without_rules_lets_packets_to_a_cluster_ip_through_as_they_are() {
    let written = Written::new(2, 10, false);
    let mut book = written.book(&["iptables"]);
    let mut send = |id: Option<RulesId>| {
        let stack = book.stack(0, id, written.history());
        let mut state = NodeState::new(1, "node", 1, &[[192, 168, 0, 2].into()]);
        let vip = written.versions[0].services[0].cluster_ips[0];
        let syn = Packet::tcp_syn([10, 128, 0, 5].into(), 40_000, vip, 80);
        cross(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO).verdict
    };
    assert_eq!(send(None), Verdict::Accept);
    assert!(matches!(send(Some(plain(0))), Verdict::Dnat { .. }));
}

#[test]
fn rules_of_another_mode_lie_under_the_new_ones_at_the_version_that_they_had() {
    let mut written = Written::new(2, 1, false);
    for pod in 0..3 {
        written.set(0, PodId(pod), READY, None);
    }
    let mut book = written.book(&["ipvs", "iptables"]);
    let id = |under| RulesId { mode: 1, version: 3, under };
    let (clean, both) =
        (book.rules(0, id(None), written.history()), book.rules(0, id(Some((0, 1))), written.history()));
    assert!(clean.ipvs.is_empty());
    assert_eq!(both.ipvs[0].real.len(), 2);
}

/// First packets to every Service, and what becomes of them with what work.
fn probed(stack: &Stack, services: u32) -> Vec<(Verdict, sim_core::classify::Work)> {
    let mut state = NodeState::new(1, "node", 1, &[[192, 168, 0, 2].into()]);
    let mut send = |n: u32| {
        let vip = std::net::Ipv4Addr::from(u32::from_be_bytes([10, 96, 0, 1]) + n % services);
        let from = [10, 128, 0, 5].into();
        let syn = Packet::tcp_syn(from, 30_000 + n as u16, vip.into(), 80);
        let crossing = cross(stack, &mut state, syn, Origin::Pod, SimTime::ZERO);
        (crossing.verdict, crossing.work)
    };
    (0..services * 8).map(&mut send).collect()
}

#[test]
fn rules_brought_from_version_to_version_are_those_compiled_anew_to_the_last_unit_of_work() {
    let mode = "iptables";
    for local in [false, true] {
        let written = churned(local);
        let mut book = written.book(&[mode]);
        let versions = written.versions.len() as u64;
        for version in (0..versions).chain([versions - 2, 30, 29, 31]) {
            let brought = book.stack(1, Some(plain(version)), written.history());
            let fresh = compile(&written.book(&[mode]).rules(1, plain(version), written.history()), 1);
            for (brought, fresh) in probed(&brought, 6).into_iter().zip(probed(&fresh, 6)) {
                assert_eq!(brought, fresh, "version {version}");
            }
        }
        let (compiled, brought) = book.made();
        assert!(brought > compiled, "{brought} brought, {compiled} compiled");
    }
}
