//! The EndpointSlice controller: from pods that changed to slices written.
//!
//! Source: `pkg/controller/endpointslice/endpointslice_controller.go`. A change of a pod puts its Services' keys into the
//! work queue after the batch period (`onPodUpdate`, `AddAfter`); a key that is there already is not put in twice, one
//! that a worker has is put in again when the worker is through (`client-go/util/workqueue/queue.go`). A worker works out
//! which slices change and writes them one after the other, each after a token of the client's bucket. A failed write
//! puts the key back with backoff (`handleErr`).
//!
//! `last-change-trigger-time` is the earliest transition of a pod's Ready condition, or the Service's creation, among
//! what changed (`staging/src/k8s.io/endpointslice/util/trigger_time_tracker.go`): a deletion has none. Kubernetes keeps these
//! times in whole seconds; here they are exact, so that latencies measured from them are not half a second too long.
//!
//! Left out: the check for stale informers, slices that others wrote, mirrored Endpoints, the time of the computation.

use super::api_server::{Bucket, Client};
use super::log::{PodId, ServiceId, What};
use super::plane::{ControlEvent, ControlPlane, Listed};
use super::slices::{Cut, Wanted, Write};
use crate::config::{ControlConfig, EndpointsObjects};
use sim_core::units::SimTime;
use std::collections::VecDeque;

/// Endpoints of an Endpoints object since Kubernetes 1.22 (`endpoints_controller.go:maxCapacity`).
const ENDPOINTS_MAX: u32 = 1_000;

/// Its queue and its workers.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    pub(super) cut: Cut,
    queue: VecDeque<u32>,
    workers: Vec<Option<Running>>,
    client: Bucket,
}

/// What a worker is at.
#[derive(Clone, Debug)]
struct Running {
    service: u32,
    writes: Vec<Write>,
    done: usize,
    trigger: Option<SimTime>,
}

impl Controller {
    pub(super) fn new(config: &ControlConfig, kubernetes_minor: u32) -> Self {
        let cut = match config.endpoints {
            EndpointsObjects::Slices { max } => Cut { max, single: false },
            EndpointsObjects::Endpoints if kubernetes_minor >= 22 => Cut { max: ENDPOINTS_MAX, single: true },
            EndpointsObjects::Endpoints => Cut { max: u32::MAX - 1, single: true },
        };
        assert!(cut.max > 0 && config.workers > 0, "slices without endpoints, or no workers");
        Controller {
            cut,
            queue: VecDeque::new(),
            workers: vec![None; config.workers as usize],
            client: Bucket::new(config.writes_per_second, config.writes_burst),
        }
    }

    fn idle(&self) -> Option<usize> {
        self.workers.iter().position(Option::is_none)
    }
}

impl ControlPlane {
    /// What slices should say of a pod may be another now; `trigger` is when its readiness changed, if it did.
    pub(super) fn touch(&mut self, pod: u32, trigger: Option<SimTime>) {
        let own = self.pods.get(PodId(pod)).service.0;
        self.touch_for(pod, own, trigger);
        let others: Vec<u32> =
            self.also.get(&pod).map_or_else(Vec::new, |all| all.iter().map(|(other, _)| *other).collect());
        for other in others {
            self.touch_for(pod, other, trigger);
        }
    }

    fn touch_for(&mut self, pod: u32, service: u32, trigger: Option<SimTime>) {
        let entry = &mut self.services[service as usize];
        entry.dirty.push(pod);
        entry.trigger = earlier(entry.trigger, trigger);
        self.add_key(service);
    }

    /// The controller is told of a Service, and waits for more of it.
    pub(super) fn add_key(&mut self, service: u32) {
        let key = &mut self.services[service as usize].key;
        if !std::mem::replace(&mut key.waiting, true) {
            self.after(self.control.watch_fixed + self.control.batch_period, ControlEvent::Enqueue(service));
        }
    }

    /// A key gets into the work queue.
    pub(super) fn enqueue(&mut self, service: u32) {
        let key = &mut self.services[service as usize].key;
        key.waiting = false;
        if key.running {
            key.again = true;
        } else if !std::mem::replace(&mut key.queued, true) {
            self.controller.queue.push_back(service);
        }
        self.employ();
    }

    /// Gives keys to idle workers.
    fn employ(&mut self) {
        while let Some(worker) = self.controller.idle()
            && let Some(service) = self.controller.queue.pop_front()
        {
            let entry = &mut self.services[service as usize];
            (entry.key.queued, entry.key.running) = (false, true);
            let trigger = entry.trigger.take();
            let writes = self.reconcile(service);
            self.controller.workers[worker] = Some(Running { service, writes, done: 0, trigger });
            self.next_write(worker);
        }
    }

    /// The writes that a Service needs.
    fn reconcile(&mut self, service: u32) -> Vec<Write> {
        let entry = &mut self.services[service as usize];
        let mut dirty = std::mem::take(&mut entry.dirty);
        dirty.append(&mut entry.left_out);
        dirty.sort_unstable();
        dirty.dedup();
        let there = entry.there;
        let wanted: Vec<Wanted> = dirty
            .iter()
            .map(|&pod| {
                let to = self.lives[pod as usize].wanted(!self.controller.cut.single);
                Wanted { pod: PodId(pod), from: self.listed(pod, service), to: to.filter(|_| there) }
            })
            .collect();
        let mut left_out = Vec::new();
        let slices = &self.services[service as usize].slices;
        let writes = slices.plan(self.controller.cut, there, &wanted, |pod| left_out.push(pod.0));
        self.services[service as usize].left_out = left_out;
        writes
    }

    /// Schedules a worker's next write, or ends its work.
    fn next_write(&mut self, worker: usize) {
        let running = self.controller.workers[worker].as_ref().expect("the worker is at work");
        if running.done == running.writes.len() {
            return self.through(worker);
        }
        let token = self.controller.client.take(self.now);
        let at = self.api.write(self.now, token);
        self.later(at, ControlEvent::Written(worker as u32));
    }

    /// A worker's write has come to the API server.
    pub(super) fn written(&mut self, worker: u32) {
        let worker = worker as usize;
        let mut running = self.controller.workers[worker].take().expect("the worker is at work");
        if !self.api.answers(self.now) {
            return self.put_back(running);
        }
        let write = &running.writes[running.done];
        let service = running.service;
        let before = write.before.map_or(0, |len| self.control.encoded(len));
        let after = write.after.map(|len| self.control.encoded(len));
        self.object_bytes = self.object_bytes - before + after.unwrap_or(0);
        for delta in &write.deltas {
            let listed = delta.to.map(|conditions| (write.slice, conditions));
            self.set_listed(delta.pod.0, service, listed);
        }
        self.services[service as usize].slices.apply(write);
        let what = What::Endpoints { service: ServiceId(service), deltas: write.deltas.clone() };
        let trigger = running.trigger.filter(|_| write.after.is_some());
        running.done += 1;
        self.controller.workers[worker] = Some(running);
        // A deleted object comes with its last state.
        self.commit(what, trigger, after.unwrap_or(before));
        self.next_write(worker);
        self.employ();
    }

    /// The API servers do not answer: what is not written is done again.
    fn put_back(&mut self, running: Running) {
        let entry = &mut self.services[running.service as usize];
        for write in &running.writes[running.done..] {
            entry.dirty.extend(write.deltas.iter().map(|delta| delta.pod.0));
        }
        entry.trigger = earlier(entry.trigger, running.trigger);
        entry.key.running = false;
        entry.key.again = false;
        if !std::mem::replace(&mut entry.key.waiting, true) {
            let at = self.api.retry(self.now, Client::Controller);
            self.later(at, ControlEvent::Enqueue(running.service));
        }
        self.employ();
    }

    /// A worker is through with its key.
    fn through(&mut self, worker: usize) {
        let running = self.controller.workers[worker].take().expect("the worker is at work");
        let key = &mut self.services[running.service as usize].key;
        key.running = false;
        if std::mem::take(&mut key.again) && !std::mem::replace(&mut key.queued, true) {
            self.controller.queue.push_back(running.service);
        }
    }

    /// Which slice of a Service names a pod, and what it says.
    pub(super) fn listed(&self, pod: u32, service: u32) -> Listed {
        if self.pods.get(PodId(pod)).service.0 == service {
            return self.lives[pod as usize].listed;
        }
        let others = self.also.get(&pod)?;
        others.iter().find(|(other, _)| *other == service).and_then(|(_, listed)| *listed)
    }

    fn set_listed(&mut self, pod: u32, service: u32, listed: Listed) {
        if self.pods.get(PodId(pod)).service.0 == service {
            self.lives[pod as usize].listed = listed;
        } else if let Some(slot) =
            self.also.get_mut(&pod).and_then(|all| all.iter_mut().find(|(other, _)| *other == service))
        {
            slot.1 = listed;
        }
    }
}

fn earlier(a: Option<SimTime>, b: Option<SimTime>) -> Option<SimTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
