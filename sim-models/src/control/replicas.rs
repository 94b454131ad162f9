//! Deployments and ReplicaSets at work: pods created and chosen for deletion.
//!
//! Source: `pkg/controller/replicaset/replica_set.go:manageReplicas`, `slowStartBatch`, `getPodsToDelete`;
//! `pkg/controller/controller_utils.go:ActivePodsWithRanks.Less`: of two pods goes first the one without a node, then the one that is not
//! running, the one that is not ready, the one with more pods of its Service on its node, the one that became ready
//! later (on a logarithmic scale, then at random: `LogarithmicScaleDown`), the newer one.
//!
//! A Deployment's controller looks at it some milliseconds after anything of it changed (`look_after`): a
//! write and two watches. Its new ReplicaSet and all old ones then create and delete pods, through a client with the
//! controller's rate limit.
//!
//! Left out: pod-deletion-cost, quotas.

use super::api_server::Client;
use super::deployment::{Step, slow_start, sync};
use super::log::PodId;
use super::plane::{ControlEvent, ControlPlane, PodStep};
use super::pod::Phase;
use sim_core::dist;
use sim_core::units::SimTime;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pods that one sync of a ReplicaSet creates or deletes at most (`replicaset.BurstReplicas`).
const BURST: i64 = 500;

impl ControlPlane {
    /// Something of a Deployment changed.
    pub(super) fn look_after(&mut self, service: u32) {
        if !std::mem::replace(&mut self.services[service as usize].looked_after, true) {
            let delay = self.control.etcd_write + self.control.watch_fixed.times(2);
            self.after(delay, ControlEvent::Deployment(service));
        }
    }

    /// The Deployment's controller and those of its ReplicaSets look at it.
    pub(super) fn deployment(&mut self, service: u32) {
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Controller);
            return self.later(at, ControlEvent::Deployment(service));
        }
        let entry = &mut self.services[service as usize];
        entry.looked_after = false;
        let (replicas, limits) = (entry.replicas, entry.limits());
        let rolling = entry.old.wanted > 0;
        let changed = if rolling {
            match sync(replicas, limits, &entry.old, &entry.new) {
                Step::New(wanted) => std::mem::replace(&mut entry.new.wanted, wanted) != wanted,
                Step::Old(wanted) => std::mem::replace(&mut entry.old.wanted, wanted) != wanted,
                Step::Wait => false,
            }
        } else {
            std::mem::replace(&mut entry.new.wanted, replicas) != replicas
        };
        let template = entry.template;
        let missing = [(entry.old.missing(), template.wrapping_sub(1)), (entry.new.missing(), template)];
        for (missing, template) in missing {
            if missing > 0 {
                self.create_pods(service, template, missing.min(BURST) as u32);
            } else if missing < 0 {
                self.delete_pods(service, template, (-missing).min(BURST) as usize);
            }
        }
        if changed || missing.iter().any(|(missing, _)| missing.abs() > BURST) {
            self.look_after(service);
        }
    }

    fn create_pods(&mut self, service: u32, template: u32, count: u32) {
        self.services[service as usize].set(template).creating += count;
        let mut from = self.now;
        for batch in slow_start(count) {
            let start = from;
            for _ in 0..batch {
                let token = self.replica_client.take(start);
                let at = self.api.write(self.now, token);
                from = from.max(at);
                self.later(at, ControlEvent::Create { service, template });
            }
        }
    }

    /// A pod's creation has come to the API server.
    pub(super) fn create(&mut self, service: u32, template: u32) {
        let answers = self.api.answers(self.now);
        let set = self.services[service as usize].set(template);
        set.creating -= 1;
        set.active += u32::from(answers);
        let (left, short) = (set.creating, set.missing() != 0);
        if answers {
            let pod = self.add_pod(service, template);
            let takes = dist::exponential(&mut self.streams.scheduling, self.pod_config.scheduling);
            self.after(takes, ControlEvent::Pod { pod, step: PodStep::Bind });
        }
        if !answers || (left == 0 && short) {
            self.look_after(service);
        }
    }

    fn delete_pods(&mut self, service: u32, template: u32, count: usize) {
        for pod in self.chosen(service, template, count) {
            self.leave(pod);
            let token = self.replica_client.take(self.now);
            let at = self.api.write(self.now, token);
            self.later(at, ControlEvent::Pod { pod, step: PodStep::Delete });
        }
    }

    /// Which pods of a ReplicaSet go first.
    fn chosen(&self, service: u32, template: u32, count: usize) -> Vec<u32> {
        let entry = &self.services[service as usize];
        let newest = template == entry.template;
        let active = entry.members.iter().copied().filter(|&pod| !self.lives[pod as usize].leaving);
        let mut per_node: BTreeMap<Option<u32>, u32> = BTreeMap::new();
        for pod in active.clone() {
            *per_node.entry(self.pods.get(PodId(pod)).node).or_default() += 1;
        }
        let mut pods: Vec<u32> =
            active.filter(|&pod| (self.lives[pod as usize].template == entry.template) == newest).collect();
        if count < pods.len() {
            let node = |pod: u32| self.pods.get(PodId(pod)).node;
            pods.sort_by_cached_key(|&pod| {
                let life = &self.lives[pod as usize];
                let ready = life.phase == Phase::Ready && !life.lost;
                let crowd = per_node.get(&node(pod)).copied().unwrap_or(0);
                let running = life.phase >= Phase::Running;
                let age = self.logarithmic(life.ready_since);
                let any = pod.wrapping_mul(0x9e37_79b1);
                (life.phase != Phase::Pending, running, ready, Reverse(crowd), age, any)
            });
            pods.truncate(count);
        }
        pods
    }

    /// An age on a logarithmic scale: its bits (`controller_utils.go:logarithmicRankDiff`).
    fn logarithmic(&self, since: SimTime) -> u32 {
        u64::BITS - self.now.since(since).as_ns().leading_zeros()
    }
}
