//! Nodes that die and come back, and what the node controller makes of it.
//!
//! Source: `pkg/controller/nodelifecycle/node_lifecycle_controller.go`: kubelet renews its Lease every
//! [`NodeConfig::heartbeat`], the controller looks every [`NodeConfig::monitor_period`] (`monitorNodeHealth`); a node of which it
//! has seen nothing new for [`NodeConfig::monitor_grace`] is Unknown (`tryUpdateNodeHealth`). Then
//! * each of its pods is written to be not ready (`pkg/controller/util/node/controller_utils.go:MarkPodsNotReady`), through
//!   a client with the usual rate: a dead zone takes long;
//! * the node waits for its NoExecute taint: one node of its zone in 10 s (`nodeEvictionRate` 0.1), one in 100 s if 55 % of
//!   a zone of more than 50 nodes are not ready, none in a smaller such zone, again one in 10 s if all of a zone are
//!   (`setLimiterInZone`, `ComputeZoneState`), and none at all, the tainted ones set free, if all zones are
//!   (`handleDisruption`);
//! * pods of a tainted node are deleted after [`NodeConfig::eviction`] (`pkg/controller/tainteviction`); on a dead node they
//!   stay terminating, and their ReplicaSets replace them elsewhere.
//!
//! Heartbeats are no events: the last one is worked out when a node dies. A node that comes back is empty: pods that
//! were to go are gone, the others start again with new addresses. After an outage of the API servers the controllers
//! begin anew with all their clocks: they lost their lease (`leaderelection`, 10 s) and were started again.
//!
//! Left out: nodes that are cut off but alive, kubelet's own readiness, Node objects being deleted by the cloud, and that
//! a node that comes back in an outage cannot say so yet.

use super::api_server::{Bucket, Client};
use super::effect::Effect;
use super::log::PodId;
use super::plane::{ControlEvent, ControlPlane, PodStep};
use super::pod::{NO_ADDRESS, Phase};
use super::pods::Answering;
use super::zones::ZoneState;
use crate::config::{ControlConfig, NodeConfig};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::VecDeque;

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) runs: bool,
    /// How often it failed.
    fall: u32,
    /// The controller says Unknown.
    unknown: bool,
    /// Number of its taint; events of older ones are void.
    taint: u32,
    tainted: bool,
    /// When it renews its lease, within a heartbeat.
    phase: SimSpan,
    /// The controller's round that saw its last heartbeat.
    seen: SimTime,
    pods: Vec<u32>,
}

impl Node {
    /// A pod comes; its place.
    pub(super) fn enter(&mut self, pod: u32) -> u32 {
        self.pods.push(pod);
        self.pods.len() as u32 - 1
    }

    /// How many pods are there.
    #[cfg(test)]
    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// The pod at a place goes; the pod that has this place now.
    pub(super) fn exit(&mut self, place: u32) -> Option<u32> {
        self.pods.swap_remove(place as usize);
        self.pods.get(place as usize).copied()
    }
}

/// One zone.
#[derive(Clone, Debug, Default)]
struct Zone {
    nodes: u32,
    unready: u32,
    /// Nodes that wait for their taint.
    queue: VecDeque<u32>,
    /// A taint is going to be set.
    busy: bool,
    last: Option<SimTime>,
}

/// The node controller and the taint eviction controller.
#[derive(Clone, Debug)]
pub(super) struct NodeController {
    zones: Vec<Zone>,
    /// Pods that are to be marked not ready.
    marks: VecDeque<u32>,
    marking: bool,
    client: Bucket,
    evictions: Bucket,
    stopped: bool,
}

impl NodeController {
    pub(super) fn new(control: &ControlConfig, nodes: &NodeConfig) -> Self {
        NodeController {
            zones: vec![Zone::default(); nodes.zones.max(1) as usize],
            marks: VecDeque::new(),
            marking: false,
            client: Bucket::new(control.writes_per_second, control.writes_burst),
            evictions: Bucket::new(control.writes_per_second, control.writes_burst),
            stopped: false,
        }
    }
}

/// The first multiple of `period` that is not before `at`.
fn round_at(at: SimTime, period: SimSpan) -> SimTime {
    let period = period.as_ns().max(1);
    SimTime::from_ns(at.as_ns().div_ceil(period) * period)
}

impl ControlPlane {
    fn zone_of(&self, node: u32) -> usize {
        node as usize % self.node_controller.zones.len()
    }

    /// A node more, with the next index.
    pub(super) fn add_node(&mut self) {
        let seed = self.seed;
        let index = self.nodes.len() as u32;
        let heartbeat = self.node_config.heartbeat.as_ns().max(1);
        let mut stream = Stream::new(seed, &format!("node/{index}"), "heartbeats");
        let phase = SimSpan::from_ns(stream.below(heartbeat));
        let zone = self.zone_of(index);
        self.node_controller.zones[zone].nodes += 1;
        self.scheduler.add_node(0);
        self.nodes.push(Node {
            runs: true,
            fall: 0,
            unknown: false,
            taint: 0,
            tainted: false,
            phase,
            seen: self.now,
            pods: Vec::new(),
        });
    }

    pub(super) fn node_joins(&mut self) {
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Kubelet);
            return self.later(at, ControlEvent::NodeJoins);
        }
        self.add_node();
        self.addresses.add_node();
        self.effect(Effect::NodeAdded(self.nodes() - 1));
        self.place_unscheduled();
    }

    /// A node dies.
    pub(super) fn fail_node(&mut self, node: u32, recover_after: Option<SimSpan>) {
        let Some(state) = self.nodes.get_mut(node as usize).filter(|state| state.runs) else { return };
        state.runs = false;
        state.fall += 1;
        let fall = state.fall;
        // Its last heartbeat, and the controller's round that saw it.
        let heartbeat = self.node_config.heartbeat.as_ns().max(1);
        let since = self.now.as_ns().saturating_sub(state.phase.as_ns());
        let last = SimTime::from_ns(since / heartbeat * heartbeat) + state.phase;
        state.seen = round_at(last.min(self.now), self.node_config.monitor_period);
        let pods = state.pods.clone();
        self.effect(Effect::NodeDown(node));
        for pod in pods {
            self.state(pod, Answering::Dark);
        }
        self.expect_silence(node);
        if let Some(after) = recover_after {
            self.after(after + self.node_config.boot, ControlEvent::NodeBack { node, fall });
        }
    }

    /// Plans the round in which the controller finds a dead node silent.
    fn expect_silence(&mut self, node: u32) {
        let Node { seen, fall, .. } = self.nodes[node as usize];
        let silent = seen + self.node_config.monitor_grace + SimSpan::from_ns(1);
        let at = round_at(silent, self.node_config.monitor_period).max(self.now);
        self.later(at, ControlEvent::NodeSilent { node, fall });
    }

    /// The controllers were started again and know nothing of before.
    pub(super) fn controllers_forget(&mut self) {
        for node in 0..self.nodes() {
            let now = self.now;
            let state = &mut self.nodes[node as usize];
            if !state.runs && !state.unknown {
                state.seen = now;
                self.expect_silence(node);
            }
        }
    }

    pub(super) fn node_silent(&mut self, node: u32, fall: u32) {
        let state = &self.nodes[node as usize];
        let due = state.seen + self.node_config.monitor_grace < self.now;
        if state.runs || state.fall != fall || state.unknown || !due || !self.api.answers(self.now) {
            return;
        }
        self.nodes[node as usize].unknown = true;
        self.scheduler.set_open(node, false);
        let zone = self.zone_of(node);
        self.node_controller.zones[zone].unready += 1;
        self.node_controller.zones[zone].queue.push_back(node);
        let pods = self.nodes[node as usize].pods.iter().copied();
        self.node_controller.marks.extend(pods);
        self.mark_next();
        self.disruption();
        self.taint_next(zone);
    }

    /// Plans the next write of a pod's status.
    fn mark_next(&mut self) {
        let controller = &mut self.node_controller;
        if controller.marking || controller.marks.is_empty() {
            return;
        }
        controller.marking = true;
        let token = controller.client.take(self.now);
        let at = self.api.write(self.now, token);
        self.later(at, ControlEvent::MarkNotReady);
    }

    /// The status of the next pod is written: not ready.
    pub(super) fn mark_not_ready(&mut self) {
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Controller);
            return self.later(at, ControlEvent::MarkNotReady);
        }
        self.node_controller.marking = false;
        let Some(pod) = self.node_controller.marks.pop_front() else { return };
        let node = self.pods.get(PodId(pod)).node;
        let silent = node.is_some_and(|node| self.nodes[node as usize].unknown);
        let life = &mut self.lives[pod as usize];
        if silent && life.phase == Phase::Ready && !std::mem::replace(&mut life.lost, true) {
            let (leaving, template) = (life.leaving, life.template);
            let service = self.pods.get(PodId(pod)).service.0;
            if !leaving {
                self.services[service as usize].set(template).ready -= 1;
            }
            self.touch(pod, Some(self.now));
            self.look_after(service);
        }
        self.mark_next();
    }

    /// Looks whether all zones are without a ready node, or no longer.
    fn disruption(&mut self) {
        let zones = &self.node_controller.zones;
        let states = zones.iter().filter(|z| z.nodes > 0).map(|z| ZoneState::of(z.nodes, z.unready));
        let all = states.clone().count() > 0 && { states }.all(|state| state == ZoneState::Full);
        if all == std::mem::replace(&mut self.node_controller.stopped, all) {
            return;
        }
        if all {
            for node in &mut self.nodes {
                (node.tainted, node.taint) = (false, node.taint + 1);
            }
        } else {
            for node in 0..self.nodes() {
                let zone = self.zone_of(node);
                let state = &self.nodes[node as usize];
                let queue = &mut self.node_controller.zones[zone].queue;
                if state.unknown && !state.tainted && !queue.contains(&node) {
                    queue.push_back(node);
                }
            }
            (0..self.node_controller.zones.len()).for_each(|zone| self.taint_next(zone));
        }
    }

    /// Plans the next taint of a zone.
    fn taint_next(&mut self, zone: usize) {
        let stopped = self.node_controller.stopped;
        let entry = &mut self.node_controller.zones[zone];
        if stopped || entry.busy || entry.queue.is_empty() {
            return;
        }
        let Some(gap) = ZoneState::of(entry.nodes, entry.unready).taint_gap(entry.nodes) else { return };
        entry.busy = true;
        let at = entry.last.map_or(self.now, |last| self.now.max(last + gap));
        self.later(at, ControlEvent::Taint(zone as u32));
    }

    /// The next node of a zone gets its taint.
    pub(super) fn taint(&mut self, zone: u32) {
        let zone = zone as usize;
        self.node_controller.zones[zone].busy = false;
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Controller);
            self.node_controller.zones[zone].busy = true;
            return self.later(at, ControlEvent::Taint(zone as u32));
        }
        if !self.node_controller.stopped
            && let Some(node) = self.node_controller.zones[zone].queue.pop_front()
            && self.nodes[node as usize].unknown
        {
            self.node_controller.zones[zone].last = Some(self.now);
            let state = &mut self.nodes[node as usize];
            (state.tainted, state.taint) = (true, state.taint + 1);
            let event = ControlEvent::Evict { node, taint: state.taint };
            self.after(self.node_config.eviction, event);
        }
        self.taint_next(zone);
    }

    /// The tolerance of a tainted node's pods is over.
    pub(super) fn evict(&mut self, node: u32, taint: u32) {
        let state = &self.nodes[node as usize];
        if !state.tainted || state.taint != taint {
            return;
        }
        for pod in state.pods.clone() {
            if !self.lives[pod as usize].terminating {
                let token = self.node_controller.evictions.take(self.now);
                let at = self.api.write(self.now, token);
                self.later(at, ControlEvent::Pod { pod, step: PodStep::Delete });
            }
        }
    }

    /// A node is back, empty.
    pub(super) fn node_back(&mut self, node: u32, fall: u32) {
        let state = &mut self.nodes[node as usize];
        if state.runs || state.fall != fall {
            return;
        }
        state.runs = true;
        (state.tainted, state.taint) = (false, state.taint + 1);
        let unknown = std::mem::replace(&mut state.unknown, false);
        self.effect(Effect::NodeUp(node));
        if unknown {
            let zone = self.zone_of(node);
            self.node_controller.zones[zone].unready -= 1;
            self.node_controller.zones[zone].queue.retain(|waiting| *waiting != node);
            self.scheduler.set_open(node, true);
            self.disruption();
            self.taint_next(zone);
        }
        for pod in self.nodes[node as usize].pods.clone() {
            self.restart_pod(pod, node);
        }
        self.place_unscheduled();
    }

    /// kubelet finds a pod that was on its node before: one that is to go is gone, another starts again, with another
    /// address.
    fn restart_pod(&mut self, pod: u32, node: u32) {
        let life = self.lives[pod as usize];
        self.state(pod, Answering::Absent);
        let fresh = self.pods.get(PodId(pod)).address == NO_ADDRESS;
        if fresh && life.phase == Phase::Bound && !life.terminating {
            return self.begin_start(pod);
        }
        let heard = self.now + self.control.watch_fixed;
        if life.terminating {
            let at = self.api.write(self.now, heard);
            return self.later(at, ControlEvent::Pod { pod, step: PodStep::Remove });
        }
        let service = self.pods.get(PodId(pod)).service.0;
        let leaving = life.leaving;
        self.remove(pod);
        if leaving {
            return;
        }
        let fresh = self.add_pod(service, life.template);
        self.services[service as usize].set(life.template).active += 1;
        self.pods.get_mut(PodId(fresh)).node = Some(node);
        self.scheduler.count(node);
        let place = self.nodes[node as usize].enter(fresh);
        let entry = &mut self.lives[fresh as usize];
        (entry.phase, entry.on_node) = (Phase::Bound, place);
        self.begin_start(fresh);
    }

    /// Pods that found no node are tried again.
    fn place_unscheduled(&mut self) {
        for pod in std::mem::take(&mut self.unscheduled) {
            self.after(self.pod_config.scheduling, ControlEvent::Pod { pod, step: PodStep::Bind });
        }
    }
}
