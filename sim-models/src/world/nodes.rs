//! The control plane, kube-proxies and hosts brought together: what each tells the others.
//!
//! The control plane writes and tells of pods and nodes ([`Effect`]); the fleet hears of writes by its watches, syncs, and
//! says which rules a kernel has from when on ([`Loaded`]); hosts get those rules when a packet asks for them.

use super::clients::Clients;
use super::rules::History;
use super::{Event, World};
use crate::config::{Action, Planned, ProxyConfig};
use crate::control::effect::Effect;
use crate::control::log::What;
use crate::control::plane::ControlEvent;
use crate::proxy::fleet::{Env, Fleet, Loaded, ProxyEvent};
use crate::workload::{CLIENT_PODS, LOCAL_PORTS};
use sim_core::des::Context;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};

/// Between two looks at whether everything that had begun has ended.
const LOOK: SimSpan = SimSpan::from_ms(100);
/// How long a run waits after its end for syncs under way; a sync that retries for longer is left to itself.
const PATIENCE: SimSpan = SimSpan::from_secs(3_600);

impl World {
    /// Everything begins: kube-proxies have run for long, clients call, and what is planned is put into the queue.
    pub(super) fn begin(&mut self, cx: &mut Context<Event>) {
        let now = SimTime::ZERO;
        let origin = now + self.config.warmup;
        self.with_fleet(now, |fleet, env, _| fleet.start(now, cx, env));
        self.plane.start(now, origin, cx);
        for (index, planned) in (0u32..).zip(self.config.timeline.clone()) {
            if is_the_fleets(&planned.action) {
                cx.schedule_at(origin + planned.at, Event::Planned { index });
            }
        }
        for node in 0..self.hosts.len() as u32 {
            self.clients_begin(node, cx);
        }
        cx.schedule_at(origin, Event::Measure);
        cx.schedule_at(origin + self.config.duration, Event::End);
    }

    fn clients_begin(&mut self, node: u32, cx: &mut Context<Event>) {
        for (class, clients) in self.clients.iter_mut().enumerate() {
            let gap = dist::exponential(&mut clients.streams[node as usize], clients.gap);
            cx.schedule_after(gap, Event::Open { class: class as u16, node });
        }
    }

    /// Something happens in the control plane.
    pub(super) fn control(&mut self, event: ControlEvent, now: SimTime, cx: &mut Context<Event>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.plane.handle(event, now, cx, &mut effects);
        for effect in effects.drain(..) {
            self.effect(effect, now, cx);
        }
        self.effects = effects;
    }

    fn effect(&mut self, effect: Effect, now: SimTime, cx: &mut Context<Event>) {
        match effect {
            Effect::Committed => {
                self.new_services();
                self.with_fleet(now, |fleet, env, _| fleet.changed(now, cx, env));
            }
            Effect::Pod(pod) => self.places.set(pod, self.plane.pods().get(pod)),
            Effect::NodeDown(node) => {
                self.node_down(node, now);
                self.with_fleet(now, |fleet, env, loaded| fleet.node_down(node, now, cx, env, loaded));
            }
            Effect::NodeUp(node) => {
                self.node_up(node);
                self.with_fleet(now, |fleet, _, _| fleet.node_up(node, now, cx));
            }
            Effect::NodeAdded(node) => {
                self.add_node(node, now, cx);
                self.with_fleet(now, |fleet, env, _| assert_eq!(fleet.node_added(now, cx, env), node));
            }
            Effect::ApiDown => self.with_fleet(now, |fleet, env, _| fleet.api_down(now, env)),
            Effect::ApiUp => self.with_fleet(now, |fleet, env, _| fleet.api_up(now, cx, env)),
        }
    }

    /// Calls the fleet with what it sees of the world, and hands on what it loaded.
    fn with_fleet(&mut self, now: SimTime, call: impl FnOnce(&mut Fleet, &mut Env<'_>, &mut Vec<Loaded>)) {
        let mut loaded = std::mem::take(&mut self.loaded);
        let World { fleet, plane, services, watch, hosts, .. } = self;
        call(fleet, &mut Env { log: plane.log(), services, watch, cores: hosts }, &mut loaded);
        for one in loaded.drain(..) {
            self.rules_loaded(one, now);
        }
        self.loaded = loaded;
    }

    /// Gives new Services of the log their ports before anybody asks for them.
    fn new_services(&mut self) {
        let log = self.plane.log();
        for change in log.between(self.numbered, log.version()) {
            if let What::ServiceAdded { service } = change.what {
                let entry = self.later_services.make(service);
                let id = self.services.add(entry);
                assert_eq!(id, service, "Services are numbered in the order in which they come");
            }
        }
        self.numbered = log.version();
    }

    /// A node joins: a host without rules, with clients of its own.
    fn add_node(&mut self, node: u32, now: SimTime, cx: &mut Context<Event>) {
        let added = self.later_nodes.make(node);
        let index = self.hosts.add(added.addresses.clone());
        assert_eq!(index, node, "nodes are numbered in the order in which they come");
        self.book.add_node(added);
        self.network.add_host();
        let pods = (0..CLIENT_PODS).filter_map(|_| self.plane.client_address(node));
        self.pods.push(pods.map(|ip| (ip, *LOCAL_PORTS.start())).collect());
        for (class, clients) in self.clients.iter_mut().enumerate() {
            clients.streams.push(Clients::stream(self.config.seed, class, node as usize));
        }
        self.measures.node_joined(node, now);
        if !self.pods[node as usize].is_empty() && !self.ended {
            self.clients_begin(node, cx);
        }
    }

    /// Something happens to a kube-proxy.
    pub(super) fn proxy(&mut self, event: ProxyEvent, now: SimTime, cx: &mut Context<Event>) {
        self.with_fleet(now, |fleet, env, loaded| fleet.handle(event, now, cx, env, loaded));
    }

    /// Something of the timeline that is kube-proxies' affair is due.
    pub(super) fn planned(&mut self, index: u32, now: SimTime, cx: &mut Context<Event>) {
        let Planned { action, .. } = self.config.timeline[index as usize].clone();
        let proxy = self.config.proxy.clone();
        self.with_fleet(now, |fleet, env, loaded| match &action {
            Action::RestartProxies { nodes } => fleet.restart(nodes, now, cx, env, loaded),
            Action::SwitchMode(switch) => {
                fleet.switch_mode(switch, switched(&proxy, &switch.to), now, cx, env, loaded);
            }
            Action::DropWatches { nodes, lasts } => {
                nodes.iter().for_each(|&node| fleet.drop_watches(node, now, now + *lasts, env));
            }
            Action::FailRestores { nodes, lasts } => {
                nodes.iter().for_each(|&node| fleet.fail_restores(node, now + *lasts));
            }
            Action::FlushRules { nodes } => {
                nodes.iter().for_each(|&node| fleet.flush(node, now, cx, loaded));
            }
            Action::Relabel { nodes } => nodes.iter().for_each(|&node| fleet.relabel(node, now, cx, env)),
            other => unreachable!("{other:?} is the control plane's"),
        });
        self.book.set_modes(self.fleet.modes().iter().map(|mode| (mode.mode, &mode.config)));
    }

    /// A node's kernel has other rules from now on.
    pub(super) fn rules_loaded(&mut self, loaded: Loaded, now: SimTime) {
        let Loaded { node, rules, udp_cleanup } = loaded;
        self.hosts.load(node, rules);
        if rules.is_some() {
            self.measures.node_serves(node, now);
        }
        if self.hosts.follows_versions(node) {
            self.prepare(node, now);
        }
        // Where nothing is tracked there is nothing to look for.
        if let Some(rules) = rules.filter(|_| udp_cleanup && self.hosts.tracked(node) > 0) {
            let (pods, log) = (self.plane.pods(), self.plane.log());
            let history = History { log, pods, services: &self.services, first: &self.first };
            let udp = self.book.udp(node, rules.version, history);
            let cleaned = self.hosts.clean_udp(node, &udp);
            self.measures.cleaned(cleaned);
            self.fleet.reconciled(node, SimSpan::ZERO, u64::from(cleaned));
        }
    }

    /// Hands the node its rules if it has loaded others since the last packet.
    pub(super) fn prepare(&mut self, node: u32, now: SimTime) {
        if self.hosts.wants_rules(node) {
            let (pods, log) = (self.plane.pods(), self.plane.log());
            let history = History { log, pods, services: &self.services, first: &self.first };
            let stack = self.book.stack(node, self.hosts.rules(node), history);
            self.hosts.give(node, stack, now);
        }
    }

    /// Nothing new begins; connections and syncs under way go on to their end, so that none is left out because it
    /// takes long.
    pub(super) fn end(&mut self, now: SimTime, cx: &mut Context<Event>) {
        self.ended = true;
        self.plane.end();
        self.fleet.end_faults();
        let version = self.plane.log().version();
        self.measures.end(self.hosts.busy(), self.fleet.totals(), self.watch.sent(), version);
        self.give_up = now + PATIENCE;
        cx.schedule_after(SimSpan::ZERO, Event::Look);
    }

    /// Ends the run when nothing is under way any more.
    pub(super) fn look(&mut self, now: SimTime, cx: &mut Context<Event>) {
        let idle = self.connections.len() == self.free.len();
        if idle && (self.fleet.is_settled(self.plane.log()) || now >= self.give_up) {
            return cx.stop();
        }
        cx.schedule_after(LOOK, Event::Look);
    }

    pub(super) fn begin_measuring(&mut self, now: SimTime, cx: &mut Context<Event>) {
        self.measuring = true;
        cx.schedule_after(SimSpan::ZERO, Event::Sample);
        self.measures.begin(now, self.hosts.busy(), self.watch.sent(), self.plane.log().version());
        self.fleet.measure_from(now);
    }
}

impl Clients {
    /// Arrivals and choices of a class on a node.
    pub(super) fn stream(seed: u64, class: usize, node: usize) -> Stream {
        Stream::new(seed, &format!("clients/{class}/node/{node}"), "connections")
    }
}

/// Whether an action is carried out by kube-proxies and not by the control plane.
fn is_the_fleets(action: &Action) -> bool {
    matches!(
        action,
        Action::RestartProxies { .. }
            | Action::SwitchMode(_)
            | Action::DropWatches { .. }
            | Action::FailRestores { .. }
            | Action::FlushRules { .. }
            | Action::Relabel { .. }
    )
}

/// The same configuration for another mode; what was only the old mode's default is the new one's.
fn switched(old: &ProxyConfig, to: &str) -> ProxyConfig {
    let is_default = old.min_sync_period == ProxyConfig::default_min_sync_period(&old.mode);
    let period = if is_default { ProxyConfig::default_min_sync_period(to) } else { old.min_sync_period };
    ProxyConfig { mode: to.to_owned(), min_sync_period: period, ..old.clone() }
}
