//! The objects as one node sees them, or all nodes where they see the same, at any version of the history.
//!
//! A view starts from the objects resolved and is moved along the log in either direction: a write changes the endpoints of
//! one Service, whose ports get their lists anew ([`Place::lists`], as a full resolve would give them); the others are not
//! touched.

use super::History;
use crate::control::log::ServiceId;
use crate::control::services::{Place, State};
use crate::kube::{ProxyObjects, ServicePort};
use sim_core::classify::Proto;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Whose view it is.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// The node; none where all nodes share it. Then every endpoint is somebody's own: what depends on an endpoint
    /// being local (hairpin entries) can only ever match on the endpoint's own node.
    pub(super) node: Option<u32>,
    /// Its zone.
    pub(super) zone: Option<Arc<str>>,
}

/// A port of a Service before and after a move; `None` where it is not there.
pub(super) type Moved = (Option<ServicePort>, Option<ServicePort>);

/// The objects at one version.
pub(super) struct View {
    seat: Seat,
    objects: ProxyObjects,
    state: State,
    /// Place of each Service's first port; of one that is not there, where it would be.
    first: Vec<usize>,
}

impl View {
    /// The view of the version that `state` is at; `objects` are those resolved for the seat.
    pub(super) fn new(seat: Seat, mut objects: ProxyObjects, state: State, history: History<'_>) -> Self {
        if seat.node.is_none() {
            let all = objects.ports.iter_mut().flat_map(|port| &mut port.endpoints.reachable);
            all.for_each(|e| e.is_local = true);
        }
        let mut view = View { seat, objects, state, first: Vec::new() };
        view.place(history);
        let there = |(id, first): (u32, &usize)| match view.state.is_there(ServiceId(id)) {
            true => first + history.services.get(ServiceId(id)).ports.len(),
            false => *first,
        };
        let ports = (0u32..).zip(&view.first).last().map_or(0, there);
        assert_eq!(ports, view.objects.ports.len(), "every Service has its ports among the objects");
        view
    }

    /// The objects as they are at [`View::at`].
    pub(super) fn objects(&self) -> &ProxyObjects {
        &self.objects
    }
    /// The version that it stands at.
    pub(super) fn at(&self) -> u64 {
        self.state.version()
    }

    /// Moves to `version`; the ports that differ.
    pub(super) fn move_to(&mut self, version: u64, history: History<'_>, nodes: &[Arc<str>]) -> Vec<Moved> {
        let mut touched: BTreeMap<ServiceId, Vec<ServicePort>> = BTreeMap::new();
        let (objects, first) = (&self.objects, &self.first);
        // Its ports as they were; those of a Service that is not there are none.
        let before = |id: ServiceId| {
            let at = id.0 as usize;
            let start = first.get(at).copied().unwrap_or(objects.ports.len());
            let end = first.get(at + 1).copied().unwrap_or(objects.ports.len());
            objects.ports[start..end].to_vec()
        };
        self.state.go_to(version, history.log, |id| {
            touched.entry(id).or_insert_with(|| before(id));
        });
        let mut moved = Vec::new();
        for (id, before) in touched {
            moved.extend(self.renew(id, before, history, nodes));
        }
        moved
    }

    /// Every UDP port, with the endpoints that are serving: what connection tracking is cleaned up by.
    pub(super) fn udp(&self, history: History<'_>) -> Vec<(ServicePort, BTreeSet<SocketAddr>)> {
        let mut all = Vec::new();
        for id in (0..history.services.len() as u32).map(ServiceId).filter(|&id| self.state.is_there(id)) {
            let entry = history.services.get(id);
            for (port, &target) in entry.ports.iter().zip(&entry.targets) {
                if port.proto == Proto::Udp {
                    let serving = self.state.endpoints(id).iter().filter(|(_, c)| c.serving);
                    let addrs =
                        serving.map(|(pod, _)| SocketAddr::new(history.pods.get(*pod).address, target));
                    all.push((port.clone(), addrs.collect()));
                }
            }
        }
        all
    }

    /// Finds the places of all ports anew.
    fn place(&mut self, history: History<'_>) {
        let mut at = 0;
        self.first.clear();
        for id in (0..history.services.len() as u32).map(ServiceId) {
            self.first.push(at);
            at += if self.state.is_there(id) { history.services.get(id).ports.len() } else { 0 };
        }
    }

    /// Makes the ports of a Service anew, from what they were.
    fn renew(
        &mut self,
        id: ServiceId,
        before: Vec<ServicePort>,
        history: History<'_>,
        nodes: &[Arc<str>],
    ) -> Vec<Moved> {
        let entry = history.services.get(id);
        let place = Place {
            pods: history.pods,
            first: history.first,
            nodes,
            node: self.seat.node,
            zone: self.seat.zone.as_deref(),
        };
        let there = if self.state.is_there(id) { entry.ports.len() } else { 0 };
        let port = |n: usize| {
            let endpoints = place.lists(entry, n, self.state.endpoints(id));
            ServicePort { endpoints, ..entry.ports[n].clone() }
        };
        let after: Vec<ServicePort> = (0..there).map(port).collect();
        if before.len() == there {
            let first = self.first[id.0 as usize];
            self.objects.ports[first..first + there].clone_from_slice(&after);
        } else {
            // A Service comes or goes: those behind it move.
            self.put(id, before.len(), &after, history);
        }
        let count = before.len().max(there);
        let (mut before, mut after) = (before.into_iter(), after.into_iter());
        let pairs = (0..count).map(|_| (before.next(), after.next()));
        pairs.filter(|(before, after)| before != after).collect()
    }

    fn put(&mut self, id: ServiceId, gone: usize, ports: &[ServicePort], history: History<'_>) {
        // Places of before: those of Services that come later are behind all.
        let first = self.first.get(id.0 as usize).copied().unwrap_or(self.objects.ports.len());
        let at = id.0 as usize;
        self.first.resize(self.first.len().max(history.services.len()), self.objects.ports.len());
        self.objects.ports.splice(first..first + gone, ports.iter().cloned());
        let behind = self.first.len();
        for later in &mut self.first[(at + 1).min(behind)..] {
            *later = *later + ports.len() - gone;
        }
    }
}
