//! What the timeline plans for the control plane: rollouts, scaling, failures, outages, nodes and Services that come and go.
//!
//! A rollout, a scaling and every new Service are writes of somebody with a client of the usual rate. With a Service its
//! Deployment comes and goes, and its slices go as the garbage collector finds them: by writes of the same rate as the
//! EndpointSlice controller's. What concerns kube-proxies alone is not handled here.

use super::api_server::Client;
use super::effect::Effect;
use super::log::{ServiceId, What};
use super::plane::{ControlEvent, ControlPlane, Service};
use crate::config::{Action, Selection, Share};
use sim_core::units::SimSpan;

/// A Service that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddService {
    /// Pods of its Deployment.
    pub endpoints: u32,
}

impl ControlPlane {
    /// Whether an action is the control plane's.
    pub(super) fn acts(&self, action: &Action) -> bool {
        match action {
            Action::RollingUpdate { .. }
            | Action::Scale { .. }
            | Action::FailNodes { .. }
            | Action::FailZone { .. }
            | Action::ApiOutage { .. }
            | Action::AddNodes { .. }
            | Action::AddServices { .. }
            | Action::RemoveServices { .. } => true,
            Action::RestartProxies { .. }
            | Action::SwitchMode(_)
            | Action::DropWatches { .. }
            | Action::FailRestores { .. }
            | Action::FlushRules { .. }
            | Action::Relabel { .. } => false,
        }
    }

    /// Something of the timeline is due.
    pub(super) fn act(&mut self, index: usize) {
        match self.timeline[index].action.clone() {
            Action::RollingUpdate { services, max_surge, max_unavailable } => {
                for service in self.selected(&services) {
                    self.roll_out(service, max_surge, max_unavailable);
                }
            }
            Action::Scale { services, replicas } => {
                for service in self.selected(&services) {
                    self.services[service as usize].replicas = replicas;
                    self.look_after(service);
                }
            }
            Action::FailNodes { nodes, recover_after } => {
                for node in nodes {
                    self.fail_node(node, recover_after);
                }
            }
            Action::FailZone { zone, recover_after } => {
                let zones = self.node_config.zones.max(1);
                for node in (0..self.nodes()).filter(|node| node % zones == zone) {
                    self.fail_node(node, recover_after);
                }
            }
            Action::ApiOutage { lasts } => self.outage(lasts),
            Action::AddNodes { count } => {
                for _ in 0..count {
                    self.after(self.node_config.boot, ControlEvent::NodeJoins);
                }
            }
            Action::AddServices { count, endpoints } => {
                for _ in 0..count {
                    let token = self.user_client.take(self.now);
                    let at = self.api.write(self.now, token);
                    self.later(at, ControlEvent::AddService(AddService { endpoints }));
                }
            }
            Action::RemoveServices { count } => {
                let there = (0..self.service_count()).rev().filter(|&s| self.services[s as usize].there);
                for service in there.take(count as usize).collect::<Vec<_>>() {
                    let token = self.user_client.take(self.now);
                    let at = self.api.write(self.now, token);
                    self.later(at, ControlEvent::RemoveService(service));
                }
            }
            other => unreachable!("{other:?} is not the control plane's"),
        }
    }

    /// The Services that a selection means; a name that is not there means none.
    pub(super) fn selected(&self, selection: &Selection) -> Vec<u32> {
        let there = || (0..self.service_count()).filter(|&s| self.services[s as usize].there);
        match selection {
            Selection::Named(name) => {
                let id = self.names.get(name).copied();
                id.filter(|&id| self.services[id as usize].there).into_iter().collect()
            }
            Selection::First(count) => there().take(*count as usize).collect(),
            Selection::All => there().collect(),
            Selection::Pods(pods) => {
                let mut left = i64::from(*pods);
                let mut take = |service: &u32| {
                    let more = left > 0;
                    left -= i64::from(self.services[*service as usize].replicas);
                    more
                };
                there().filter(|&s| self.services[s as usize].replicas > 0).take_while(&mut take).collect()
            }
        }
    }

    /// A Deployment gets a new template.
    pub(super) fn roll_out(&mut self, service: u32, surge: Share, unavailable: Share) {
        let entry = &mut self.services[service as usize];
        (entry.surge, entry.unavailable) = (surge, unavailable);
        entry.template = entry.template.wrapping_add(1);
        let new = std::mem::take(&mut entry.new);
        entry.old.wanted += new.wanted;
        entry.old.active += new.active;
        entry.old.ready += new.ready;
        entry.old.creating += new.creating;
        self.look_after(service);
    }

    /// The API servers answer nobody.
    fn outage(&mut self, lasts: SimSpan) {
        self.api.outage(self.now + lasts);
        self.outages += 1;
        if self.outages == 1 {
            self.effect(Effect::ApiDown);
        }
        self.after(lasts, ControlEvent::OutageEnds);
    }

    pub(super) fn outage_ends(&mut self) {
        self.outages -= 1;
        if self.outages == 0 {
            self.effect(Effect::ApiUp);
            self.controllers_forget();
        }
    }

    pub(super) fn add_service(&mut self, add: AddService) {
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Controller);
            return self.later(at, ControlEvent::AddService(add));
        }
        let service = self.service_count();
        let mut entry = Service::new(add.endpoints);
        entry.trigger = Some(self.now);
        self.services.push(entry);
        let bytes = self.control.encoded(0);
        self.object_bytes += bytes;
        self.commit(What::ServiceAdded { service: ServiceId(service) }, None, bytes);
        self.add_key(service);
        self.look_after(service);
    }

    pub(super) fn remove_service(&mut self, service: u32) {
        if !self.api.answers(self.now) {
            let at = self.api.retry(self.now, Client::Controller);
            return self.later(at, ControlEvent::RemoveService(service));
        }
        let entry = &mut self.services[service as usize];
        if !std::mem::replace(&mut entry.there, false) {
            return;
        }
        (entry.replicas, entry.new.wanted, entry.old.wanted) = (0, 0, 0);
        entry.dirty.extend(entry.members.iter().copied());
        entry.dirty.append(&mut entry.left_out);
        let others = self.also.iter().filter(|(_, all)| all.iter().any(|(other, _)| *other == service));
        let others: Vec<u32> = others.map(|(pod, _)| *pod).collect();
        self.services[service as usize].dirty.extend(others);
        let bytes = self.control.encoded(0);
        self.object_bytes -= bytes;
        self.commit(What::ServiceRemoved { service: ServiceId(service) }, None, bytes);
        self.add_key(service);
        self.look_after(service);
    }
}
