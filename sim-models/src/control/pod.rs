//! Lives of pods: created, bound, running, ready, terminating, gone.
//!
//! What a packet meets ([`Answering`]) follows the pod itself; what controllers see follows the pod's status in the API,
//! which kubelet writes a moment later (`pkg/kubelet/status/status_manager.go`). In order:
//! * created by its ReplicaSet, bound by the scheduler, started by kubelet ([`PodConfig::startup`]); its address answers
//!   from then on, and its status names the address: its endpoint is in a slice, not ready;
//! * its probe succeeds: ready;
//! * its deletion is written (`deletionTimestamp`): the endpoint is terminating at once, serving as long as it is ready
//!   (`staging/src/k8s.io/endpointslice/utils.go:podToEndpoint`); kubelet runs preStop, sends SIGTERM, and SIGKILL when the
//!   grace period is over (`pkg/kubelet/kuberuntime/kuberuntime_container.go:killContainer`);
//! * its process ends: its address refuses; its sandbox goes a moment later, and its address with it; its status is terminal:
//!   the endpoint is taken out (`util.ShouldPodBeInEndpoints`); then the pod is removed.
//!
//! The process serves until it ends. On a dead node no step is taken: [`node_lifecycle`](super::node_lifecycle).
//!
//! Left out: failing probes, restarts of containers, images' sizes, readiness gates.

use super::api_server::Client;
use super::effect::Effect;
use super::log::{Conditions, PodId};
use super::plane::{ControlEvent, ControlPlane, Listed, PodStep};
use super::pods::{Answering, Pod};
use crate::config::PodConfig;
use sim_core::dist;
use sim_core::units::{SimSpan, SimTime};
use std::net::{IpAddr, Ipv4Addr};

/// From the end of a pod's process to that of its sandbox and address (assumed).
const SANDBOX_STOP: SimSpan = SimSpan::from_ms(100);
/// kubelet tries again to start a pod that gets no address (assumed).
const START_AGAIN: SimSpan = SimSpan::from_secs(10);

/// How far a pod has come, as its status in the API says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Without a node.
    Pending,
    /// On a node.
    Bound,
    /// With an address.
    Running,
    /// Its probe succeeds.
    Ready,
    /// Not there any more.
    Gone,
}

/// What there is to know of a pod beside [`Pod`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) ready_since: SimTime,
    /// Its own Service's slice and what that says.
    pub(super) listed: Listed,
    /// Number of the template it was made from.
    pub(super) template: u32,
    /// Place among its Service's members.
    pub(super) place: u32,
    /// Place among its node's pods.
    pub(super) on_node: u32,
    pub(super) phase: Phase,
    /// `deletionTimestamp` is set.
    pub(super) terminating: bool,
    /// Its ReplicaSet no longer counts it.
    pub(super) leaving: bool,
    /// Its status is terminal.
    pub(super) ended: bool,
    /// The node controller has written that it is not ready.
    pub(super) lost: bool,
}

impl Life {
    pub(super) fn new(template: u32, since: SimTime) -> Self {
        Life {
            ready_since: since,
            listed: None,
            template,
            place: 0,
            on_node: 0,
            phase: Phase::Pending,
            terminating: false,
            leaving: false,
            ended: false,
            lost: false,
        }
    }

    /// What slices should say of it.
    pub(super) fn wanted(&self, with_terminating: bool) -> Option<Conditions> {
        let there = matches!(self.phase, Phase::Running | Phase::Ready) && !self.ended;
        let there = there && (with_terminating || !self.terminating);
        let serving = self.phase == Phase::Ready && !self.lost;
        there.then_some(Conditions {
            ready: serving && !self.terminating,
            serving,
            terminating: self.terminating,
        })
    }
}

/// An address that nobody has, of a pod that has none yet.
pub const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The time from a pod's binding to its running container.
fn startup(config: &PodConfig, stream: &mut sim_core::rng::Stream) -> SimSpan {
    let half = SimSpan::from_ns(config.startup.as_ns() / 2);
    half + dist::exponential(stream, config.startup - half)
}

impl ControlPlane {
    /// A pod more of a Service, without a node.
    pub(super) fn add_pod(&mut self, service: u32, template: u32) -> u32 {
        let id = self.pods.add(Pod {
            address: NO_ADDRESS,
            node: None,
            service: super::log::ServiceId(service),
            state: Answering::Absent,
        });
        let mut life = Life::new(template, self.now);
        life.place = self.services[service as usize].members.len() as u32;
        self.services[service as usize].members.push(id.0);
        self.lives.push(life);
        if let Some(others) = self.shared.get(&service) {
            self.also.insert(id.0, others.iter().map(|other| (*other, None)).collect());
        }
        id.0
    }

    pub(super) fn state(&mut self, pod: u32, state: Answering) {
        let entry = self.pods.get_mut(PodId(pod));
        if entry.state != state {
            entry.state = state;
            self.effect(Effect::Pod(PodId(pod)));
        }
    }

    fn pod_later(&mut self, at: SimTime, pod: u32, step: PodStep) {
        self.later(at, ControlEvent::Pod { pod, step });
    }

    /// kubelet writes the pod's status from now on.
    fn status(&mut self, pod: u32, step: PodStep) {
        let at = self.api.write(self.now, self.now);
        self.pod_later(at, pod, step);
    }

    fn kubelet_runs(&self, pod: u32) -> bool {
        self.pods.get(PodId(pod)).node.is_none_or(|node| self.nodes[node as usize].runs)
    }

    /// One step of a pod's life. Steps of a pod that has gone on otherwise are none.
    pub(super) fn pod_step(&mut self, pod: u32, step: PodStep) {
        let life = self.lives[pod as usize];
        if life.phase == Phase::Gone {
            return;
        }
        let by_kubelet = !matches!(step, PodStep::Bind | PodStep::Delete);
        let forced = step == PodStep::Remove && life.phase < Phase::Running;
        if by_kubelet && !forced && !self.kubelet_runs(pod) {
            return;
        }
        let writes = !matches!(step, PodStep::Start | PodStep::Probe | PodStep::End | PodStep::Unplug);
        if writes && !self.api.answers(self.now) {
            let client = if by_kubelet { Client::Kubelet } else { Client::Controller };
            let at = self.api.retry(self.now, client);
            return self.pod_later(at, pod, step);
        }
        match step {
            PodStep::Bind => self.bind(pod),
            PodStep::Start => self.start_pod(pod),
            PodStep::Report if life.phase == Phase::Bound => {
                self.lives[pod as usize].phase = Phase::Running;
                self.touch(pod, None);
            }
            PodStep::Probe if !life.terminating => {
                self.lives[pod as usize].ready_since = self.now;
                self.status(pod, PodStep::Ready);
            }
            PodStep::Ready if life.phase < Phase::Ready => self.ready(pod),
            PodStep::Delete => self.delete(pod),
            PodStep::End => {
                self.state(pod, Answering::Refusing);
                self.pod_later(self.now + SANDBOX_STOP, pod, PodStep::Unplug);
                self.status(pod, PodStep::Ended);
            }
            PodStep::Unplug => self.state(pod, Answering::Absent),
            PodStep::Ended => {
                self.lives[pod as usize].ended = true;
                self.touch(pod, None);
                let unplugged = self.now + SANDBOX_STOP;
                let at = self.api.write(self.now, unplugged);
                self.pod_later(at, pod, PodStep::Remove);
            }
            PodStep::Remove => self.remove(pod),
            PodStep::Report | PodStep::Probe | PodStep::Ready => {}
        }
    }

    fn bind(&mut self, pod: u32) {
        if self.lives[pod as usize].phase != Phase::Pending || self.lives[pod as usize].terminating {
            return;
        }
        let Some(node) = self.scheduler.place() else { return self.unscheduled.push_back(pod) };
        self.pods.get_mut(PodId(pod)).node = Some(node);
        let life = &mut self.lives[pod as usize];
        life.phase = Phase::Bound;
        life.on_node = self.nodes[node as usize].enter(pod);
        self.begin_start(pod);
    }

    /// kubelet hears of the pod and starts it.
    pub(super) fn begin_start(&mut self, pod: u32) {
        let takes = startup(&self.pod_config, &mut self.streams.startup);
        self.pod_later(self.now + self.control.watch_fixed + takes, pod, PodStep::Start);
    }

    fn start_pod(&mut self, pod: u32) {
        let life = &self.lives[pod as usize];
        let begun = self.pods.get(PodId(pod)).state != Answering::Absent;
        if life.phase != Phase::Bound || life.terminating || begun {
            return;
        }
        let node = self.pods.get(PodId(pod)).node.expect("a bound pod has a node");
        let Some(address) = self.addresses.allocate(node, None) else {
            return self.pod_later(self.now + START_AGAIN, pod, PodStep::Start);
        };
        self.pods.get_mut(PodId(pod)).address = address;
        self.state(pod, Answering::Listening);
        self.status(pod, PodStep::Report);
        let period = self.pod_config.probe_period.as_ns();
        let part = if period == 0 { 0 } else { self.streams.probes.below(period) };
        let probe = self.pod_config.probe_delay + SimSpan::from_ns(part);
        self.pod_later(self.now + probe, pod, PodStep::Probe);
    }

    fn ready(&mut self, pod: u32) {
        let life = &mut self.lives[pod as usize];
        if life.terminating {
            return;
        }
        (life.phase, life.lost) = (Phase::Ready, false);
        let (since, leaving, template) = (life.ready_since, life.leaving, life.template);
        let service = self.pods.get(PodId(pod)).service.0;
        if !leaving {
            self.services[service as usize].set(template).ready += 1;
        }
        self.touch(pod, Some(since));
        self.look_after(service);
    }

    /// The pod's ReplicaSet no longer counts it.
    pub(super) fn leave(&mut self, pod: u32) {
        let life = &mut self.lives[pod as usize];
        if std::mem::replace(&mut life.leaving, true) {
            return;
        }
        let (template, ready) = (life.template, life.phase == Phase::Ready && !life.lost);
        let service = self.pods.get(PodId(pod)).service.0;
        let set = self.services[service as usize].set(template);
        set.active -= 1;
        set.ready -= u32::from(ready);
    }

    fn delete(&mut self, pod: u32) {
        if std::mem::replace(&mut self.lives[pod as usize].terminating, true) {
            return;
        }
        self.leave(pod);
        self.touch(pod, None);
        self.look_after(self.pods.get(PodId(pod)).service.0);
        let heard = self.now + self.control.watch_fixed;
        if self.lives[pod as usize].phase == Phase::Pending {
            // Nobody runs it: it goes at once (`pkg/registry/core/pod/strategy.go:CheckGracefulDelete`).
            return self.remove(pod);
        }
        if !self.kubelet_runs(pod) {
            return;
        }
        if self.pods.get(PodId(pod)).state != Answering::Listening {
            let at = self.api.write(self.now, heard);
            return self.pod_later(at, pod, PodStep::Remove);
        }
        let shutdown = dist::exponential(&mut self.streams.shutdown, self.pod_config.shutdown);
        let takes = (self.pod_config.pre_stop + shutdown).min(self.pod_config.grace);
        self.pod_later(heard + takes, pod, PodStep::End);
    }

    /// The pod is gone, from its node and from the API.
    pub(super) fn remove(&mut self, pod: u32) {
        self.leave(pod);
        self.state(pod, Answering::Absent);
        self.forget(pod);
        self.touch(pod, None);
        if self.scheduler.has_room()
            && let Some(next) = self.unscheduled.pop_front()
        {
            let takes = dist::exponential(&mut self.streams.scheduling, self.pod_config.scheduling);
            self.pod_later(self.now + takes, next, PodStep::Bind);
        }
    }

    /// Takes a pod out of its node's and its Service's lists.
    fn forget(&mut self, pod: u32) {
        let Pod { node, service, address, .. } = *self.pods.get(PodId(pod));
        let life = &mut self.lives[pod as usize];
        life.phase = Phase::Gone;
        let (place, on_node) = (life.place as usize, life.on_node);
        if let Some(node) = node {
            if let Some(moved) = self.nodes[node as usize].exit(on_node) {
                self.lives[moved as usize].on_node = on_node;
            }
            self.scheduler.free(node);
        }
        let members = &mut self.services[service.0 as usize].members;
        members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            self.lives[*moved as usize].place = place as u32;
        }
        if address != NO_ADDRESS {
            self.addresses.release(address);
        }
    }

    /// Puts pod `new`, which is ready at once, into the place of `old`, which is gone at once.
    pub(super) fn swap(&mut self, old: u32, new: Pod) -> u32 {
        let Pod { node, service, .. } = *self.pods.get(PodId(old));
        self.state(old, Answering::Absent);
        let life = self.lives[old as usize];
        if let Some(node) = node {
            if let Some(moved) = self.nodes[node as usize].exit(life.on_node) {
                self.lives[moved as usize].on_node = life.on_node;
            }
            self.scheduler.free(node);
        }
        let id = self.pods.add(Pod { state: Answering::Absent, ..new });
        let mut next = Life::new(life.template, self.now);
        (next.phase, next.place) = (Phase::Ready, life.place);
        self.services[service.0 as usize].members[life.place as usize] = id.0;
        if let Some(node) = new.node {
            next.on_node = self.nodes[node as usize].enter(id.0);
            self.scheduler.count(node);
        }
        self.lives.push(next);
        self.lives[old as usize].phase = Phase::Gone;
        self.lives[old as usize].leaving = true;
        if let Some(others) = self.also.get(&old) {
            let others = others.iter().map(|(other, _)| (*other, None)).collect();
            self.also.insert(id.0, others);
        }
        self.state(id.0, new.state);
        self.touch(old, None);
        self.touch(id.0, Some(self.now));
        id.0
    }
}
