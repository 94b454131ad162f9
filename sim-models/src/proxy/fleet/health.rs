//! What kube-proxy answers to those who ask how it is: healthz, and the health-check node ports of Services.
//!
//! Source: `pkg/proxy/healthcheck/proxy_health.go:isHealthy` (a sync that was asked for more than twice the sync-period ago
//! and has not ended well) and `service_health.go:SyncEndpoints` (local ready endpoints as of the last sync). Left out: the
//! deletion taint of the cluster autoscaler.

use super::engine::Fleet;
use crate::control::log::{ChangeLog, Conditions, PodId, ServiceId, What};
use crate::control::pods::Pods;
use crate::control::services::State;
use sim_core::units::SimTime;

/// What tells where endpoints are: the fleet itself knows only how many there are.
#[derive(Clone, Copy)]
pub struct Whereabouts<'a> {
    /// What was written.
    pub log: &'a ChangeLog,
    /// All pods.
    pub pods: &'a Pods,
    /// Endpoints at version 0.
    pub first: &'a State,
}

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
    /// the Service has no such port.
    pub fn health_check(
        &self,
        node: u32,
        service: ServiceId,
        at: Whereabouts<'_>,
        now: SimTime,
    ) -> Option<HealthAnswer> {
        let proxy_healthy = self.is_healthy(node, now)?;
        let version = self.nodes[node as usize].own_version()?;
        let ledger = &self.modes[self.nodes[node as usize].mode as usize].ledger;
        if !ledger.ports_of(service).any(|port| port.health_check_node_port != 0) {
            return None;
        }
        let local_endpoints = self.local(node, service, version, at).0;
        let status = if local_endpoints > 0 && proxy_healthy { 200 } else { 503 };
        Some(HealthAnswer { local_endpoints, proxy_healthy, status })
    }

    /// Endpoints of a Service that run on a node, at a version: ready ones, and those that rules may send to.
    fn local(&self, node: u32, service: ServiceId, version: u64, at: Whereabouts<'_>) -> (u32, u32) {
        let here = |pod: PodId| at.pods.get(pod).node == Some(node);
        // The last word about a pod counts: changes come latest first, the beginning after them.
        let mut said: Vec<(PodId, Option<Conditions>)> = Vec::new();
        let mut say = |pod: PodId, conditions: Option<Conditions>| {
            if here(pod) && !said.iter().any(|(known, _)| *known == pod) {
                said.push((pod, conditions));
            }
        };
        for v in self.modes[0].ledger.changes_of(service, version) {
            if let What::Endpoints { deltas, .. } = &at.log.of(v).what {
                deltas.iter().rev().for_each(|d| say(d.pod, d.to));
            }
        }
        at.first.endpoints(service).iter().for_each(|(pod, c)| say(*pod, Some(*c)));
        let count = |keep: fn(&Conditions) -> bool| {
            said.iter().filter_map(|(_, c)| c.as_ref()).filter(|c| keep(c)).count() as u32
        };
        (count(|c| c.ready), count(|c| c.ready || c.serving && c.terminating))
    }

    /// Ports of policy Local that have endpoints, but none on this node, as of its last sync: those of external traffic,
    /// those of internal traffic.
    pub(super) fn without_local_endpoints(&self, node: u32, at: Whereabouts<'_>) -> (u64, u64) {
        let state = &self.nodes[node as usize];
        let Some(version) = state.own_version() else { return (0, 0) };
        let ledger = &self.modes[state.mode as usize].ledger;
        let mut sum = (0, 0);
        for service in ledger.of_policy_local() {
            if self.local(node, service, version, at).1 == 0 {
                for port in ledger.ports_of(service) {
                    sum.0 += u64::from(port.external_local);
                    sum.1 += u64::from(port.internal_local);
                }
            }
        }
        sum
    }
}
