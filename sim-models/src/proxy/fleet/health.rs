//! What kube-proxy answers to those who ask how it is: healthz, and the health-check node ports of Services.
//!
//! Source: `pkg/proxy/healthcheck/proxy_health.go:isHealthy` (a sync that was asked for more than twice the sync-period ago
//! and has not ended well) and `service_health.go:SyncEndpoints` (local ready endpoints as of the last sync). Left out: the
//! deletion taint of the cluster autoscaler.

use super::engine::Fleet;
use crate::control::log::{ChangeLog, PodId, ServiceId, What};
use crate::control::pods::Pods;
use crate::control::services::State;
use sim_core::units::SimTime;

/// The answer on a Service's `healthCheckNodePort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthAnswer {
    /// `localEndpoints`.
    pub local_endpoints: u32,
    /// `serviceProxyHealthy`.
    pub proxy_healthy: bool,
    /// The HTTP status.
    pub status: u16,
}

impl Fleet {
    /// Whether a node's kube-proxy calls itself healthy (`/healthz`); nothing if nobody answers.
    pub fn is_healthy(&self, node: u32, now: SimTime) -> Option<bool> {
        let node = &self.nodes[node as usize];
        if !node.is_running() {
            return None;
        }
        let arrived = (node.next_arrival <= now).then_some(node.next_arrival);
        let period = self.modes[node.mode as usize].config.sync_period;
        Some(match node.queued.or(node.asked).or(arrived) {
            Some(queued) => now < queued + period.times(2),
            None => true,
        })
    }

    /// What a node answers on the health-check node port of a Service; nothing if nobody listens: kube-proxy is not there or
    /// the Service has no such port. `first` is the state at version 0.
    pub fn health_check(
        &self,
        node: u32,
        service: ServiceId,
        log: &ChangeLog,
        pods: &Pods,
        first: &State,
        now: SimTime,
    ) -> Option<HealthAnswer> {
        let proxy_healthy = self.is_healthy(node, now)?;
        let version = self.nodes[node as usize].own_version()?;
        let ledger = &self.modes[self.nodes[node as usize].mode as usize].ledger;
        if !ledger.ports_of(service).any(|port| port.health_check_node_port != 0) {
            return None;
        }
        let local_endpoints = self.local_ready(node, service, version, log, pods, first);
        let status = if local_endpoints > 0 && proxy_healthy { 200 } else { 503 };
        Some(HealthAnswer { local_endpoints, proxy_healthy, status })
    }

    /// Ready endpoints of a Service that run on a node, at a version.
    fn local_ready(
        &self,
        node: u32,
        service: ServiceId,
        version: u64,
        log: &ChangeLog,
        pods: &Pods,
        first: &State,
    ) -> u32 {
        let here = |pod: PodId| pods.get(pod).node == Some(node);
        // The last word about a pod counts: changes come latest first, the beginning after them.
        let mut said: Vec<(PodId, bool)> = Vec::new();
        let mut say = |pod: PodId, ready: bool| {
            if here(pod) && !said.iter().any(|(known, _)| *known == pod) {
                said.push((pod, ready));
            }
        };
        for v in self.modes[0].ledger.changes_of(service, version) {
            if let What::Endpoints { deltas, .. } = &log.of(v).what {
                deltas.iter().rev().for_each(|d| say(d.pod, d.to.is_some_and(|c| c.ready)));
            }
        }
        first.endpoints(service).iter().for_each(|(pod, c)| say(*pod, c.ready));
        said.iter().filter(|(_, ready)| *ready).count() as u32
    }
}
