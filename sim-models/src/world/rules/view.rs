//! The objects as one node sees them, or all nodes where they see the same, at any version of the history.
//!
//! A view starts from the objects resolved and is moved along the [`ChangeLog`] in either direction: a write changes the
//! endpoints of one Service, whose ports get their lists anew ([`endpoint_lists`], as a full resolve would give them);
//! the others are not touched.
//!
//! Left out: hints of endpoints that come later (the EndpointSlice controller's topology cache), and target ports that
//! differ from those of the Service's first slices.

use crate::control::log::{Change, ChangeLog, Conditions, Delta, PodId, ServiceId, What};
use crate::control::pods::Pods;
use crate::kube::objects::{EndpointSlice, Objects, Service, SliceEndpoint};
use crate::kube::resolve::{endpoint_lists, services_with_ports};
use crate::kube::{EndpointLists, ProxyObjects, ServicePort};
use sim_core::classify::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Target port of each of a Service's ports, where the slice has one of that name.
type Targets = Arc<[Option<u16>]>;

/// One endpoint of a Service, in a slice now or once.
#[derive(Clone)]
struct Member {
    pod: PodId,
    endpoint: SliceEndpoint,
    targets: Targets,
    is_listed: bool,
}

/// A Service without its endpoints.
struct Entry {
    ports: Vec<ServicePort>,
    /// What pods listen on that come later.
    targets: Targets,
}

/// Every Service that ever was, by [`ServiceId`].
pub(super) struct Catalogue {
    family: Family,
    services: Vec<Entry>,
    /// Endpoints at the beginning.
    start: Vec<Vec<Member>>,
}

impl Catalogue {
    /// The Services of `objects`; their endpoints are among `pods`.
    pub(super) fn new(objects: &Objects, pods: &Pods, family: Family) -> Self {
        let ids = (0..pods.len() as u32).map(PodId);
        let by_address: BTreeMap<IpAddr, PodId> = ids.map(|id| (pods.get(id).address, id)).collect();
        let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in objects.slices.iter().filter(|slice| slice.family == family) {
            if let Some(service) = &slice.service {
                slices.entry((&slice.namespace, service)).or_default().push(slice);
            }
        }
        let mut catalogue = Catalogue { family, services: Vec::new(), start: Vec::new() };
        for (service, ports) in services_with_ports(objects, family) {
            let of_service = slices.get(&(&*service.namespace, &*service.name)).map_or(&[][..], |s| &s[..]);
            let members = of_service.iter().flat_map(|slice| {
                let targets = targets_of(&ports, slice);
                let by_address = &by_address;
                slice.endpoints.iter().map(move |endpoint| Member {
                    pod: by_address.get(&endpoint.address).copied().unwrap_or(PodId(u32::MAX)),
                    endpoint: endpoint.clone(),
                    targets: targets.clone(),
                    is_listed: true,
                })
            });
            catalogue.start.push(members.collect());
            // Where there is no slice, pods listen on the Service's own ports.
            let own = || ports.iter().map(|port| Some(port.port)).collect();
            let targets = of_service.first().map_or_else(own, |slice| targets_of(&ports, slice));
            catalogue.services.push(Entry { ports, targets });
        }
        catalogue
    }

    /// A Service that is created later, with what its pods listen on: the next [`ServiceId`].
    pub(super) fn add(&mut self, service: &Service, target: u16) {
        let alone = Objects { services: vec![service.clone()], ..Objects::default() };
        let (_, ports) = services_with_ports(&alone, self.family).pop().expect("a Service with an address");
        let targets = ports.iter().map(|_| Some(target)).collect();
        self.services.push(Entry { ports, targets });
    }

    fn entry(&self, service: ServiceId) -> &Entry {
        let known = self.services.len();
        self.services.get(service.0 as usize).unwrap_or_else(|| panic!("{service:?} of {known}"))
    }
}

fn targets_of(ports: &[ServicePort], slice: &EndpointSlice) -> Targets {
    let of = |port: &ServicePort| {
        let same = slice.ports.iter().find(|p| p.name == port.port_name && p.proto == port.proto);
        same.map(|p| p.port)
    };
    ports.iter().map(of).collect()
}

/// Whose view it is.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Name of the node, of any node where all see the same.
    pub(super) node: Arc<str>,
    /// Its zone.
    pub(super) zone: Option<Arc<str>>,
    /// Whether all nodes share it. Then every endpoint is somebody's own: what depends on an endpoint being local
    /// (hairpin entries) can only ever match on the endpoint's own node.
    pub(super) is_shared: bool,
}

/// A port of a Service before and after a move; `None` where it is not there.
pub(super) type Moved = (Option<ServicePort>, Option<ServicePort>);

/// The objects at one version.
pub(super) struct View {
    seat: Seat,
    objects: ProxyObjects,
    at: u64,
    is_there: Vec<bool>,
    members: Vec<Vec<Member>>,
    /// Place of each Service's first port; of one that is not there, where it would be.
    first: Vec<usize>,
}

impl View {
    /// The view of version 0; `objects` are those resolved for the seat.
    pub(super) fn new(seat: Seat, mut objects: ProxyObjects, catalogue: &Catalogue) -> Self {
        if seat.is_shared {
            objects.ports.iter_mut().for_each(|port| share(&mut port.endpoints));
        }
        let is_there = vec![true; catalogue.start.len()];
        let mut view =
            View { seat, objects, at: 0, is_there, members: catalogue.start.clone(), first: Vec::new() };
        view.place(catalogue);
        let ports = view.first.last().map_or(0, |_| view.ports_there(catalogue));
        assert_eq!(ports, view.objects.ports.len(), "every Service has its ports among the objects");
        view
    }

    /// The objects as they are at [`View::at`].
    pub(super) fn objects(&self) -> &ProxyObjects {
        &self.objects
    }
    /// The version that it stands at.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Moves to `version`; the ports that differ.
    ///
    /// # Panics
    /// If the log does not go as far.
    pub(super) fn move_to(
        &mut self,
        version: u64,
        log: &ChangeLog,
        pods: &Pods,
        nodes: &[Arc<str>],
        catalogue: &Catalogue,
    ) -> Vec<Moved> {
        let mut touched: BTreeMap<ServiceId, Vec<ServicePort>> = BTreeMap::new();
        let grown = catalogue.services.len();
        self.is_there.resize(grown, false);
        self.members.resize(grown, Vec::new());
        let forward = self.at < version;
        let (from, to) = (self.at.min(version), self.at.max(version));
        let changes = log.between(from, to);
        let mut ordered: Box<dyn Iterator<Item = &Change>> =
            if forward { Box::new(changes.iter()) } else { Box::new(changes.iter().rev()) };
        let mut came_or_went = false;
        for change in &mut ordered {
            let service = change.what.service();
            touched.entry(service).or_insert_with(|| self.ports_of(service, catalogue).to_vec());
            match &change.what {
                What::Endpoints { deltas, .. } => {
                    for delta in deltas {
                        let to = if forward { delta.to } else { delta.from };
                        self.set(service, delta, to, pods, nodes, catalogue);
                    }
                }
                What::ServiceAdded { .. } | What::ServiceRemoved { .. } => {
                    let added = matches!(change.what, What::ServiceAdded { .. });
                    let is_there = added == forward;
                    self.put(service, is_there, catalogue);
                    came_or_went = true;
                }
            }
        }
        if came_or_went {
            self.place(catalogue);
        }
        self.at = version;
        touched
            .into_iter()
            .flat_map(|(service, before)| self.relist(service, before, catalogue))
            .filter(|(before, after)| before != after)
            .collect()
    }

    /// Addresses of every UDP port, with the endpoints that are serving: what connection tracking is cleaned up by.
    pub(super) fn udp(&self, catalogue: &Catalogue) -> Vec<(ServicePort, BTreeSet<SocketAddr>)> {
        let mut all = Vec::new();
        let there = (0..self.is_there.len()).filter(|&service| self.is_there[service]);
        for service in there {
            for (at, port) in catalogue.services[service].ports.iter().enumerate() {
                if port.proto != sim_core::classify::Proto::Udp {
                    continue;
                }
                let serving = self.members[service].iter().filter(|m| m.is_listed && m.endpoint.serving);
                let addrs = serving
                    .filter_map(|m| Some(SocketAddr::new(m.endpoint.address, m.targets[at]?)))
                    .collect();
                all.push((port.clone(), addrs));
            }
        }
        all
    }

    fn ports_of(&self, service: ServiceId, catalogue: &Catalogue) -> &[ServicePort] {
        let at = service.0 as usize;
        match self.is_there[at] {
            true => &self.objects.ports[self.first[at]..][..catalogue.entry(service).ports.len()],
            false => &[],
        }
    }

    fn ports_there(&self, catalogue: &Catalogue) -> usize {
        let all = self.is_there.iter().zip(&catalogue.services).filter(|(there, _)| **there);
        all.map(|(_, entry)| entry.ports.len()).sum()
    }

    /// Finds the places of all ports anew.
    fn place(&mut self, catalogue: &Catalogue) {
        let mut at = 0;
        self.first.clear();
        for (is_there, entry) in self.is_there.iter().zip(&catalogue.services) {
            self.first.push(at);
            at += if *is_there { entry.ports.len() } else { 0 };
        }
    }

    /// A Service comes or goes.
    fn put(&mut self, service: ServiceId, is_there: bool, catalogue: &Catalogue) {
        let (at, entry) = (service.0 as usize, catalogue.entry(service));
        assert_ne!(self.is_there[at], is_there, "{service:?} comes or goes twice");
        self.place(catalogue);
        let first = self.first[at];
        if is_there {
            self.objects.ports.splice(first..first, entry.ports.iter().cloned());
        } else {
            self.objects.ports.drain(first..first + entry.ports.len());
        }
        self.is_there[at] = is_there;
        self.place(catalogue);
    }

    fn set(
        &mut self,
        service: ServiceId,
        delta: &Delta,
        to: Option<Conditions>,
        pods: &Pods,
        nodes: &[Arc<str>],
        catalogue: &Catalogue,
    ) {
        let members = &mut self.members[service.0 as usize];
        let at = members.iter().position(|m| m.pod == delta.pod).unwrap_or_else(|| {
            let pod = pods.get(delta.pod);
            let endpoint = SliceEndpoint {
                address: pod.address,
                ready: false,
                serving: false,
                terminating: false,
                node: pod.node.map(|node| nodes[node as usize].clone()),
                hints: None,
            };
            let targets = catalogue.entry(service).targets.clone();
            members.push(Member { pod: delta.pod, endpoint, targets, is_listed: false });
            members.len() - 1
        });
        let member = &mut members[at];
        member.is_listed = to.is_some();
        if let Some(Conditions { ready, serving, terminating }) = to {
            let e = &mut member.endpoint;
            (e.ready, e.serving, e.terminating) = (ready, serving, terminating);
        }
    }

    /// Makes the lists of a Service's ports anew.
    fn relist(&mut self, service: ServiceId, before: Vec<ServicePort>, catalogue: &Catalogue) -> Vec<Moved> {
        let at = service.0 as usize;
        if !self.is_there[at] {
            return before.into_iter().map(|port| (Some(port), None)).collect();
        }
        let (first, entry) = (self.first[at], catalogue.entry(service));
        let mut before = before.into_iter();
        let mut moved = Vec::with_capacity(entry.ports.len());
        for n in 0..entry.ports.len() {
            let listed = self.members[at].iter().filter(|m| m.is_listed);
            let endpoints = listed
                .filter_map(|m| Some((SocketAddr::new(m.endpoint.address, m.targets[n]?), &m.endpoint)));
            let port = &mut self.objects.ports[first + n];
            let mut lists =
                endpoint_lists(port, endpoints.clone(), &self.seat.node, self.seat.zone.as_deref());
            if self.seat.is_shared {
                lists.idle_local = endpoints.map(|(addr, _)| addr).collect();
                share(&mut lists);
            }
            port.endpoints = lists;
            moved.push((before.next(), Some(port.clone())));
        }
        moved
    }
}

/// Every endpoint is local where nodes share what they see.
fn share(lists: &mut EndpointLists) {
    lists.reachable.iter_mut().for_each(|e| e.is_local = true);
    let used: BTreeSet<SocketAddr> = lists.reachable.iter().map(|e| e.addr).collect();
    lists.idle_local.retain(|addr| !used.contains(addr));
}
