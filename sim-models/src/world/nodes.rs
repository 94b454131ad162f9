//! Changes of the objects and the syncs that bring them to nodes.

use super::{Event, World, setup};
use crate::control::log::{self, Conditions, Delta, ServiceId, What};
use crate::control::pods::{Answering, Pod};
use crate::control::{self, Change, SyncLoop};
use crate::proxy::fleet::{Loaded, RulesId};
use sim_core::des::Context;
use sim_core::dist;
use sim_core::units::{SimSpan, SimTime};
use smallvec::smallvec;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Changes and syncs.
impl World {
    pub(super) fn first_sync_ends(&mut self, _node: u32, now: SimTime, cx: &mut Context<Event>) {
        self.ready += 1;
        if self.ready < self.hosts.len() as u32 {
            return;
        }
        for sync in &mut self.syncs {
            *sync = SyncLoop::idle_since(now);
        }
        for class in 0..self.clients.len() {
            for node in 0..self.hosts.len() {
                let clients = &mut self.clients[class];
                let gap = dist::exponential(&mut clients.streams[node], clients.gap);
                cx.schedule_after(gap, Event::Open { class: class as u16, node: node as u32 });
            }
        }
        self.schedule_change(cx);
        cx.schedule_after(self.config.warmup, Event::Measure);
        cx.schedule_after(self.config.warmup + self.config.duration, Event::End);
    }

    fn schedule_change(&mut self, cx: &mut Context<Event>) {
        if self.config.churn.rate > 0.0 {
            let mean = SimSpan::from_ns_f64(1e9 / self.config.churn.rate);
            cx.schedule_after(dist::exponential(&mut self.churn, mean), Event::Replace);
        }
    }

    fn version_of(&self, node: u32) -> u64 {
        let loaded = self.hosts.rules(node).map_or(0, |rules| rules.version);
        self.logged.partition_point(|version| *version < loaded) as u64
    }

    pub(super) fn replace(&mut self, now: SimTime, cx: &mut Context<Event>) {
        if self.ended {
            return;
        }
        self.schedule_change(cx);
        let nodes = self.hosts.len() as u32;
        let Some(setup::Replaced { ports, old, new, node }) = self.draw_change() else { return };
        self.write(&ports, old, new, node, now);
        self.changes.push(Change { at: now, ports, old, new, node, nodes_left: nodes });
        let version = self.changes.len() as u64;
        for node in 0..nodes {
            let delay = control::watch_delay(&mut self.watch);
            cx.schedule_after(delay, Event::Learn { node, version });
        }
    }

    /// Writes the change to the log: one write for each Service of the pod.
    fn write(&mut self, ports: &[u32], old: IpAddr, new: IpAddr, node: u32, now: SimTime) {
        let old = self.places.find(old).expect("it was replaced").pod;
        self.cluster.pods.get_mut(old).state = Answering::Absent;
        let pod = Pod { address: new, node: Some(node), ..*self.cluster.pods.get(old) };
        let new = self.cluster.pods.add(Pod { state: Answering::Listening, ..pod });
        for pod in [old, new] {
            self.places.set(pod, self.cluster.pods.get(pod));
        }
        let services: BTreeSet<ServiceId> = ports.iter().map(|&port| self.owners[port as usize]).collect();
        for service in services {
            let ready = Some(Conditions::READY);
            let gone = Delta { pod: old, from: ready, to: None };
            let come = Delta { pod: new, from: None, to: ready };
            let what = What::Endpoints { service, deltas: smallvec![gone, come] };
            self.log.push(log::Change { what, trigger: Some(now), committed: now, bytes: 0 });
        }
        self.logged.push(self.log.version());
    }

    pub(super) fn learn(&mut self, node: u32, version: u64, now: SimTime, cx: &mut Context<Event>) {
        let period = self.config.proxy.min_sync_period;
        if let Some(start) = self.syncs[node as usize].learn(version, period, now) {
            cx.schedule_at(start, Event::SyncStarts { node });
        }
    }

    pub(super) fn sync_starts(&mut self, node: u32, cx: &mut Context<Event>) {
        let sync = &mut self.syncs[node as usize];
        sync.target = sync.known;
        let version = sync.target;
        let from = self.version_of(node);
        let group = &mut self.versions[self.group[node as usize]];
        let (_, duration) = group.load(version, from, &self.changes, &self.builder);
        cx.schedule_after(duration, Event::SyncEnds { node, version });
    }

    pub(super) fn sync_ends(&mut self, node: u32, version: u64, now: SimTime, cx: &mut Context<Event>) {
        let group = self.group[node as usize];
        let from = self.version_of(node);
        self.versions[group].load(version, from, &self.changes, &self.builder);
        for change in &mut self.changes[from as usize..version as usize] {
            change.nodes_left -= 1;
            if change.nodes_left == 0 {
                self.measures.converged(change.at, now);
            }
        }
        let rules = RulesId { mode: 0, version: self.logged[version as usize], under: None };
        self.rules_loaded(Loaded { node, rules: Some(rules), udp_cleanup: false }, now);
        // Rules that every node of the group has left behind and none is loading are not needed again.
        let members = (0..self.hosts.len()).filter(|&n| self.group[n] == group);
        let oldest = members.map(|n| match self.syncs[n] {
            SyncLoop { busy: true, target, .. } => target.min(self.version_of(n as u32)),
            _ => self.version_of(n as u32),
        });
        let oldest = oldest.min().unwrap_or(version);
        self.versions[group].forget_before(oldest);
        if let Some(start) = self.syncs[node as usize].end_run(self.config.proxy.min_sync_period, now) {
            cx.schedule_at(start, Event::SyncStarts { node });
        }
    }
}
