//! The rules that nodes have loaded: from the name of a version to the tables that packets cross.
//!
//! kube-proxy's fleet names rules ([`RulesId`]: mode, version, what lies under them); nothing is built until a packet
//! meets them. Then the objects are moved to that version ([`View`]), the mode builds its rules and the kernel's tables
//! are compiled, once for all nodes that see the same. A run of 5,000 nodes without traffic compiles nothing.
//!
//! Nodes see the same unless a policy, a hint or a node port makes rules depend on the node; then each has a view of its
//! own, made when it is first needed.

mod view;
mod workshop;

use crate::config::ProxyConfig;
use crate::control::log::ChangeLog;
use crate::control::pods::Pods;
use crate::control::services::{Services, State};
use crate::kernel::path::Stack;
use crate::kernel::rules::NodeRules;
use crate::kube::objects::{Node, Objects, SliceEndpoint};
use crate::kube::resolve::resolve;
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::fleet::RulesId;
use crate::proxy::{Simulated, overlay::overlay};
use sim_core::classify::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use view::{Seat, View};
use workshop::Workshop;

/// Compiled rules that are kept although no node has them: a node that lags a little finds them.
const KEPT: usize = 4;

/// A mode of the run, with its configuration.
pub struct Mode {
    /// The mode.
    pub mode: &'static dyn Simulated,
    /// Its configuration.
    pub config: ProxyConfig,
}

impl Mode {
    /// What it writes for these objects.
    pub fn rules(&self, objects: &ProxyObjects, family: Family) -> NodeRules {
        let mut rules = self.mode.build(objects, &self.config, family);
        if self.config.bare_rules {
            rules.strip_own_additions();
        }
        // The kernel's own, whatever the mode.
        rules.ipvs_tables = self.config.ipvs.tables;
        rules
    }
}

/// What happened, and what it speaks of.
#[derive(Clone, Copy)]
pub struct History<'a> {
    /// Writes.
    pub log: &'a ChangeLog,
    /// Pods.
    pub pods: &'a Pods,
    /// Services.
    pub services: &'a Services,
    /// What slices said at the beginning ([`Cluster::first`](crate::control::services::Cluster::first)).
    pub first: &'a [SliceEndpoint],
}

struct Built {
    stack: Arc<Stack>,
    /// When it was last asked for, in askings.
    asked: u64,
}

/// All rules of a run.
pub struct RuleBook {
    family: Family,
    seed: u64,
    modes: Vec<Mode>,
    objects: Arc<Objects>,
    nodes: Vec<Node>,
    names: Vec<Arc<str>>,
    by_node: bool,
    /// Endpoints at version 0.
    start: State,
    views: BTreeMap<u32, View>,
    built: BTreeMap<(u32, RulesId), Built>,
    empty: Arc<Stack>,
    /// What the next version is made from, by group and mode.
    workshops: BTreeMap<(u32, u8), Workshop>,
    asked: u64,
    compiled: u64,
    brought: u64,
}

impl RuleBook {
    /// The rules of `modes` on `nodes` for `objects`, whose endpoints are `start`.
    pub fn new(modes: Vec<Mode>, objects: Arc<Objects>, nodes: Vec<Node>, start: State, seed: u64) -> Self {
        let family = Family::Ipv4;
        let nothing = NodeRules { ipvs_tables: modes[0].config.ipvs.tables, ..NodeRules::default() };
        RuleBook {
            family,
            seed,
            by_node: depend_on_the_node(&objects),
            names: nodes.iter().map(|node| node.name.clone()).collect(),
            empty: compile(&nothing, seed),
            modes,
            objects,
            nodes,
            start,
            views: BTreeMap::new(),
            built: BTreeMap::new(),
            workshops: BTreeMap::new(),
            asked: 0,
            compiled: 0,
            brought: 0,
        }
    }

    /// The modes of the run, of which there may be more than before.
    pub fn set_modes<'a>(&mut self, modes: impl Iterator<Item = (&'static dyn Simulated, &'a ProxyConfig)>) {
        self.modes = modes.map(|(mode, config)| Mode { mode, config: config.clone() }).collect();
    }

    /// A node joins, with the next index.
    pub fn add_node(&mut self, node: Node) {
        self.names.push(node.name.clone());
        self.nodes.push(node);
    }

    /// Which nodes share rules: those with equal groups.
    pub fn group(&self, node: u32) -> u32 {
        if self.by_node { node } else { 0 }
    }

    /// The objects as `node` sees them at `version`.
    pub fn objects(&mut self, node: u32, version: u64, history: History<'_>) -> &ProxyObjects {
        self.view(node, version, history).objects()
    }

    /// UDP ports of the version that `node` has, with their serving endpoints.
    pub fn udp(
        &mut self,
        node: u32,
        version: u64,
        history: History<'_>,
    ) -> Vec<(ServicePort, BTreeSet<SocketAddr>)> {
        self.view(node, version, history);
        self.views[&self.group(node)].udp(history)
    }

    /// The compiled rules called `id` on `node`; without rules, an empty kernel.
    pub fn stack(&mut self, node: u32, id: Option<RulesId>, history: History<'_>) -> Arc<Stack> {
        let Some(id) = id else { return self.empty.clone() };
        let key = (self.group(node), id);
        self.asked += 1;
        if let Some(built) = self.built.get_mut(&key) {
            built.asked = self.asked;
            return built.stack.clone();
        }
        let stack = match id.under {
            None => self.bring(node, id.mode, id.version, history),
            Some(_) => {
                self.compiled += 1;
                compile(&self.rules(node, id, history), self.seed)
            }
        };
        self.built.insert(key, Built { stack: stack.clone(), asked: self.asked });
        self.forget();
        stack
    }

    /// Rules of one mode alone: from those of the version before, or compiled.
    fn bring(&mut self, node: u32, mode: u8, version: u64, history: History<'_>) -> Arc<Stack> {
        let key = (self.group(node), mode);
        if let Some(mut workshop) = self.workshops.remove(&key) {
            self.view(node, workshop.version, history);
            let view = self.views.get_mut(&key.0).expect("just looked at");
            let moved = view.move_to(version, history, &self.names);
            if let Some(stack) = workshop.bring_to(version, &moved, view.objects()) {
                self.workshops.insert(key, workshop);
                self.brought += 1;
                return stack;
            }
        }
        let rules = self.plain(node, mode, version, history);
        let stack = compile(&rules, self.seed);
        self.compiled += 1;
        let (objects, mode) = (self.views[&key.0].objects(), &self.modes[usize::from(mode)]);
        if let Some(workshop) = Workshop::new(version, &stack, objects, mode, self.family) {
            self.workshops.insert(key, workshop);
        }
        stack
    }

    /// The rules called `id` as data.
    pub fn rules(&mut self, node: u32, id: RulesId, history: History<'_>) -> NodeRules {
        let under = id.under.map(|(mode, version)| self.plain(node, mode, version, history));
        let rules = self.plain(node, id.mode, id.version, history);
        under.map_or_else(|| rules.clone(), |under| overlay(&under, &rules))
    }

    /// How many times rules were compiled, and how many times they were brought from another version instead.
    pub fn made(&self) -> (u64, u64) {
        (self.compiled, self.brought)
    }

    fn plain(&mut self, node: u32, mode: u8, version: u64, history: History<'_>) -> NodeRules {
        self.view(node, version, history);
        let view = &self.views[&self.group(node)];
        self.modes[usize::from(mode)].rules(view.objects(), self.family)
    }

    fn view(&mut self, node: u32, version: u64, history: History<'_>) -> &View {
        let group = self.group(node);
        let view = self.views.entry(group).or_insert_with(|| {
            let here = &self.nodes[group as usize];
            let mut objects = resolve(&self.objects, self.family, &here.name);
            // The objects do not know a node that was made up for them or joined later.
            let of_family = |ip: &IpAddr| Family::of(*ip) == self.family;
            objects.node_ips = here.addresses.iter().copied().filter(of_family).collect();
            let seat = Seat { node: self.by_node.then_some(group), zone: here.zone.clone() };
            View::new(seat, objects, self.start.clone(), history)
        });
        if view.at() != version {
            view.move_to(version, history, &self.names);
        }
        view
    }

    /// Forgets what no node has, but for the newest few.
    fn forget(&mut self) {
        let mut idle: Vec<(u64, (u32, RulesId))> = Vec::new();
        for (key, built) in &self.built {
            if Arc::strong_count(&built.stack) == 1 {
                idle.push((built.asked, *key));
            }
        }
        idle.sort_unstable();
        for (_, key) in idle.iter().rev().skip(KEPT) {
            self.built.remove(key);
        }
    }
}

/// Whether a policy, a node port or a hint makes rules differ from node to node.
fn depend_on_the_node(objects: &Objects) -> bool {
    let by_policy =
        objects.services.iter().any(|s| s.internal_local || s.external_local || !s.external_ips.is_empty());
    let by_node_port = objects.services.iter().any(|s| s.ports.iter().any(|p| p.node_port != 0));
    let by_hint = objects.slices.iter().any(|s| s.endpoints.iter().any(|e| e.hints.is_some()));
    by_policy || by_node_port || by_hint
}

fn compile(rules: &NodeRules, seed: u64) -> Arc<Stack> {
    Arc::new(Stack::new(rules, seed).unwrap_or_else(|e| panic!("a mode's own rules: {e}")))
}

#[cfg(test)]
mod tests;
