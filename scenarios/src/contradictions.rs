//! Settings that are fine by themselves and cannot be true together: each is told with the places of both, before
//! anything runs. Events are walked in order of time, so that nodes and Services that earlier ones add are there.

use crate::checks::{self, SERVICES_DEFAULT};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::endpoints;
use crate::events::{Act, Event, Nodes, Which, Wish};
use crate::keys::{NODES_MAX, SERVICES_MAX, grouped};
use crate::reader::{Context, NodeList, NodeName, Place, Spot, contradiction};
use crate::refusal::plain_span;
use crate::settings::Settings;
use sim_core::units::SimSpan;
use sim_models::config::{PodConfig, Share};
use sim_models::kube::generate;
use sim_models::kube::objects::Objects;
use std::collections::BTreeMap;

/// Runs all of these checks on one sweep point.
pub fn check(cx: &mut Context<'_>, s: &Settings, import: Option<&Objects>) {
    graces(cx, s);
    zones(cx, s, checks::nodes(s, import));
    let mut walk = Walk::new(s, import);
    walk.cluster(cx);
    let mut order: Vec<&Event> = s.events.iter().filter(|event| event.at.ok).collect();
    order.sort_by_key(|event| event.at.value); // stable
    for event in order {
        walk.event(cx, event);
    }
}

/// A time as a person writes it.
fn time(span: SimSpan) -> String {
    plain_span(span.as_ns())
}

fn graces(cx: &mut Context<'_>, s: &Settings) {
    let t = &s.time;
    if t.grace.ok && t.pre_stop.ok && t.pre_stop.value > t.grace.value {
        let message = format!(
            "the preStop hook takes {}, longer than the grace period of {} that it is part of",
            time(t.pre_stop.value),
            time(t.grace.value)
        );
        let default = time(PodConfig::default().grace);
        cx.out.push(contradiction(t.pre_stop.place(), t.grace.place(), &default, message));
    }
    let grace = t.monitor_grace(s.proxy.kubernetes.value);
    let grace_ok = t.monitor_grace.as_ref().is_none_or(|spot| spot.ok);
    if t.heartbeat.ok && grace_ok && grace <= t.heartbeat.value {
        let message = format!(
            "nodes renew their Lease every {} and are Unknown after {} of silence: every node would be",
            time(t.heartbeat.value),
            time(grace)
        );
        let unwritten = Place { at: t.heartbeat.at, key: "nodes.monitor_grace", written: false };
        let there = t.monitor_grace.as_ref().map_or(unwritten, Spot::place);
        let default = if t.heartbeat.written { time(grace) } else { time(t.heartbeat.value) };
        cx.out.push(contradiction(t.heartbeat.place(), there, &default, message));
    }
}

fn zones(cx: &mut Context<'_>, s: &Settings, nodes: u64) {
    let zones = &s.time.zones;
    if zones.ok && s.cluster.nodes.ok && zones.value > nodes {
        let message = format!("{} zones of {} nodes: some zones would be empty", zones.value, grouped(nodes));
        let default = grouped(nodes);
        cx.out.push(contradiction(zones.place(), s.cluster.nodes.place(), &default, message));
    }
}

/// The cluster as events leave it.
struct Walk<'a> {
    s: &'a Settings,
    import: Option<&'a Objects>,
    nodes: Nodes<'a>,
    services: u64,
    pods: u64,
    /// Nodes that are down: until when, and by which event.
    down: BTreeMap<u64, (SimSpan, Place<'a>)>,
    /// End of the last outage of the API servers, and its event.
    outage: Option<(SimSpan, Place<'a>)>,
    /// Modes that kube-proxy runs, and who says so.
    modes: (Vec<String>, Place<'a>),
}

impl<'a> Walk<'a> {
    fn new(s: &'a Settings, import: Option<&'a Objects>) -> Self {
        let written = s.cluster.services.as_ref().map_or(SERVICES_DEFAULT, |spot| spot.value);
        let law = &s.cluster.endpoints.value;
        let written = endpoints::services(law, written, s.cluster.nodes.value);
        let (services, pods) = match import {
            Some(objects) => {
                let pods = objects.slices.iter().map(|slice| slice.endpoints.len() as u64).sum();
                (objects.services.len() as u64, pods)
            }
            None if !s.services.is_empty() => {
                let pods = s.services.iter().map(|service| service.endpoints.value.len() as u64).sum();
                (s.services.len() as u64, pods)
            }
            None => (written, endpoints::total(law, written, s.cluster.nodes.value)),
        };
        let names = import.map_or_else(Vec::new, |o| o.nodes.iter().map(|node| &*node.name).collect());
        Walk {
            s,
            import,
            nodes: Nodes { count: checks::nodes(s, import), imported: names },
            services,
            pods,
            down: BTreeMap::new(),
            outage: None,
            modes: (s.proxy.modes.value.clone(), s.proxy.modes.place()),
        }
    }

    /// Pods that all nodes take together.
    fn room(&self) -> u64 {
        self.nodes.count * self.per_node()
    }

    fn per_node(&self) -> u64 {
        u64::from(self.s.time.pods().per_node)
    }

    /// The cluster as it begins: the limit counts only where it is written, for rules can be asked about that no
    /// nodes could hold the pods of.
    fn cluster(&self, cx: &mut Context<'_>) {
        let Some(per_node) = self.s.time.per_node.as_ref().filter(|spot| spot.ok) else { return };
        let known = self.s.cluster.nodes.ok && self.s.cluster.endpoints.ok && self.s.services.is_empty();
        if known && self.pods > self.room() {
            let message = format!(
                "the cluster has {} pods, its {} nodes take {} of {} each",
                grouped(self.pods),
                grouped(self.nodes.count),
                grouped(self.room()),
                grouped(per_node.value)
            );
            let there = match (&self.s.cluster.services, self.import) {
                (_, Some(_)) => self.s.cluster.import.as_ref().map(Spot::place),
                (Some(services), _) => Some(services.place()),
                _ => Some(self.s.cluster.endpoints.place()),
            };
            cx.out.push(contradiction(per_node.place(), there.unwrap_or(self.nodes_key()), "3", message));
        }
    }

    /// What says how many nodes there are.
    fn nodes_key(&self) -> Place<'a> {
        match (&self.s.cluster.import, self.nodes.imported.is_empty()) {
            (Some(import), false) => import.place(),
            _ => self.s.cluster.nodes.place(),
        }
    }

    /// What says how many Services there are.
    fn services_key(&self) -> Place<'a> {
        match (&self.s.cluster.import, &self.s.cluster.services, self.s.services.first()) {
            (Some(import), ..) => import.place(),
            (_, Some(services), _) => services.place(),
            (.., Some(service)) => Place { at: service.at, key: "services", written: true },
            _ => Place { at: self.s.cluster.endpoints.at, key: "cluster.services", written: false },
        }
    }

    fn event(&mut self, cx: &mut Context<'_>, event: &'a Event) {
        let duration = &self.s.duration;
        if duration.ok && event.at.value > duration.value {
            let message = format!(
                "this happens at {}, after the end of the run at {}",
                time(event.at.value),
                time(duration.value)
            );
            cx.out.push(contradiction(event.at.place(), duration.place(), "10s", message));
        }
        let Some(wish) = &event.wish else { return };
        if let Some(list) = wish.act.nodes() {
            self.nodes_are_there(cx, list);
        }
        match &wish.act {
            Act::RollingUpdate { of, surge, unavailable } => {
                self.rollout(cx, wish, of, surge, unavailable);
            }
            Act::Scale { of, replicas } => self.scale(cx, wish, of, replicas),
            Act::FailNodes { nodes, recover_after } => {
                let numbers = self.numbers(nodes);
                self.fail(cx, event, nodes.place(), numbers, recover_after.as_ref());
            }
            Act::FailZone { zone, recover_after } => {
                let zones = &self.s.time.zones;
                if zone.ok && zones.ok && zone.value >= zones.value {
                    let message = format!("there is no zone {}: zones are counted from 0", zone.value);
                    let count = grouped(zones.value);
                    cx.out.push(contradiction(zone.place(), zones.place(), &count, message));
                } else if zone.ok && zones.ok {
                    let of_zone = |n: &u64| n % zones.value == zone.value;
                    let numbers = (0..self.nodes.count).filter(of_zone).collect();
                    self.fail(cx, event, zone.place(), numbers, recover_after.as_ref());
                }
            }
            Act::ApiOutage { lasts } => {
                if let Some((end, earlier)) = self.outage
                    && event.at.value < end
                {
                    let message = format!(
                        "the API servers go away at {}, but are away until {} already",
                        time(event.at.value),
                        time(end)
                    );
                    let d = Diagnostic::new(event.at.at, &event.at.key, message);
                    cx.out.push(d.and(earlier.at, earlier.key));
                }
                self.outage = Some((event.at.value.saturating_add(lasts.value), lasts.place()));
            }
            Act::AddNodes { count } => {
                self.nodes.count += if count.ok { count.value } else { 0 };
                if self.nodes.count > NODES_MAX {
                    let message = format!(
                        "that makes {} nodes, at most {} are simulated",
                        grouped(self.nodes.count),
                        grouped(NODES_MAX)
                    );
                    cx.out.push(contradiction(count.place(), self.nodes_key(), "3", message));
                }
            }
            Act::AddServices { count, endpoints } => {
                self.services += if count.ok { count.value } else { 0 };
                self.pods += if count.ok && endpoints.ok { count.value * endpoints.value } else { 0 };
                if self.services > SERVICES_MAX {
                    let message = format!(
                        "that makes {} Services, at most {} are simulated",
                        grouped(self.services),
                        grouped(SERVICES_MAX)
                    );
                    cx.out.push(contradiction(count.place(), self.services_key(), "100", message));
                }
                self.holds(cx, count.place(), self.pods, "with these Services the cluster has");
            }
            Act::RemoveServices { count } => {
                if count.ok && count.value > self.services {
                    let message = format!(
                        "{} Services are deleted, there are {} then",
                        grouped(count.value),
                        grouped(self.services)
                    );
                    cx.out.push(contradiction(count.place(), self.services_key(), "100", message));
                }
                self.services = self.services.saturating_sub(count.value);
            }
            Act::SwitchMode { to, restart, wait, parallel, .. } => {
                self.switch(cx, to, restart, wait.as_ref(), parallel);
            }
            Act::RestartProxies { .. }
            | Act::DropWatches { .. }
            | Act::FailRestores { .. }
            | Act::FlushRules { .. }
            | Act::Relabel { .. } => {}
        }
    }

    /// Each node that is named must be there, once.
    fn nodes_are_there(&self, cx: &mut Context<'_>, list: &'a Spot<NodeList>) {
        let NodeList::These(nodes) = &list.value else { return };
        let mut seen = BTreeMap::new();
        for (name, at) in nodes.iter().filter(|_| list.ok) {
            let Some(number) = self.nodes.find(name, self.nodes.count) else {
                let count = grouped(self.nodes.count);
                let message = match name {
                    NodeName::Number(n) => format!("there is no node {n}: nodes are counted from 0"),
                    NodeName::Name(text) => format!("there is no node `{text}`"),
                };
                let here = Place { at: *at, key: &list.key, written: true };
                let mut d = contradiction(here, self.nodes_key(), &count, message);
                if let NodeName::Name(text) = name
                    && let Some(near) = did_you_mean(text, self.nodes.imported.iter().copied())
                {
                    d = d.label(format!("did you mean `{near}`?"));
                }
                let last = self.nodes.count - 1;
                cx.out.push(d.help(format!("allowed: 0 to {last}, or names such as {}", self.example())));
                continue;
            };
            if seen.insert(number, ()).is_some() {
                cx.out.push(Diagnostic::new(*at, &list.key, format!("node {number} is named twice")));
            }
        }
    }

    fn example(&self) -> String {
        self.nodes.imported.first().map_or_else(|| "node-0".to_owned(), |name| (*name).to_owned())
    }

    fn numbers(&self, list: &Spot<NodeList>) -> Vec<u64> {
        match &list.value {
            NodeList::All if list.ok => (0..self.nodes.count).collect(),
            NodeList::All => Vec::new(),
            NodeList::These(nodes) => {
                nodes.iter().filter_map(|(name, _)| self.nodes.find(name, self.nodes.count)).collect()
            }
        }
    }

    fn fail(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
        place: Place<'a>,
        numbers: Vec<u64>,
        recover_after: Option<&Spot<SimSpan>>,
    ) {
        let now = event.at.value;
        let end = recover_after.map_or(SimSpan::from_ns(u64::MAX), |spot| now.saturating_add(spot.value));
        let already = numbers.iter().find_map(|n| {
            let (until, by) = self.down.get(n).filter(|(until, _)| now < *until)?;
            Some((*n, *until, *by))
        });
        if let Some((node, until, by)) = already {
            let until = match until.as_ns() {
                u64::MAX => "for good".to_owned(),
                ns => format!("until {}", plain_span(ns)),
            };
            let message = format!("node {node} fails at {}, but is down {until} already", time(now));
            cx.out.push(Diagnostic::new(place.at, place.key, message).and(by.at, by.key));
        }
        self.down.extend(numbers.into_iter().map(|n| (n, (end, place))));
    }

    /// Pods of some Services, and how many Services these are. Tells what of the selection is not there.
    fn selected(&self, cx: &mut Context<'_>, wish: &Wish, of: &'a Which) -> Option<(u64, u64)> {
        if let Some(service) = self.s.services.first() {
            let message =
                "Services that are written out have endpoints kept by hand, not pods of a Deployment";
            let d = Diagnostic::new(wish.at, &wish.key, message);
            cx.out
                .push(d.and(service.at, "services").help("allowed with cluster.services or cluster.import"));
            return None;
        }
        let each = (self.pods as f64 / self.services.max(1) as f64).max(1.0);
        let too_many = |cx: &mut Context<'_>, spot: &Spot<u64>, there: u64, what: &str| {
            let message =
                format!("{} {what} are asked for, there are {}", grouped(spot.value), grouped(there));
            cx.out.push(contradiction(spot.place(), self.services_key(), "100", message));
            None
        };
        match of {
            Which { service: Some(spot), .. } if spot.ok => {
                if !self.has_service(&spot.value) {
                    let d = contradiction(
                        spot.place(),
                        self.services_key(),
                        "100",
                        format!("there is no Service `{}`", spot.value),
                    );
                    let d = match self.import {
                        None => d.help(format!("the first Service is {}", generate::service_name(0))),
                        Some(_) => d,
                    };
                    cx.out.push(d);
                    return None;
                }
                Some((each as u64, 1))
            }
            Which { services: Some(spot), .. } if spot.ok => match spot.value > self.services {
                true => too_many(cx, spot, self.services, "Services"),
                false => Some(((spot.value as f64 * each) as u64, spot.value)),
            },
            Which { pods: Some(spot), .. } if spot.ok => match spot.value > self.pods {
                true => too_many(cx, spot, self.pods, "pods"),
                false => Some((spot.value, (spot.value as f64 / each).ceil() as u64)),
            },
            Which { service: None, services: None, pods: None } => Some((self.pods, self.services)),
            _ => None,
        }
    }

    fn has_service(&self, name: &str) -> bool {
        match self.import {
            Some(objects) => objects.services.iter().any(|v| format!("{}/{}", v.namespace, v.name) == name),
            None => {
                let number: Option<usize> = name.rsplit("svc-").next().and_then(|digits| digits.parse().ok());
                number.is_some_and(|n| (n as u64) < self.services && generate::service_name(n) == name)
            }
        }
    }

    fn rollout(
        &self,
        cx: &mut Context<'_>,
        wish: &'a Wish,
        of: &'a Which,
        surge: &'a Spot<Share>,
        unavailable: &'a Spot<Share>,
    ) {
        let zero = |share: Share| matches!(share, Share::Pods(0) | Share::Percent(0));
        if surge.ok && unavailable.ok && zero(surge.value) && zero(unavailable.value) {
            let message = "max_surge and max_unavailable are both 0: no pod could ever be replaced";
            cx.out.push(contradiction(unavailable.place(), surge.place(), "25%", message));
        }
        let Some((pods, services)) = self.selected(cx, wish, of) else { return };
        let extra = match surge.value {
            Share::Pods(n) => u64::from(n) * services,
            Share::Percent(_) => u64::from(surge.value.of(u32::try_from(pods).unwrap_or(u32::MAX), true)),
        };
        let at = of
            .pods
            .as_ref()
            .or(of.services.as_ref())
            .map_or(Place { at: wish.at, key: &wish.key, written: true }, Spot::place);
        self.holds(cx, at, self.pods + extra, "during this update there are up to");
    }

    fn scale(&mut self, cx: &mut Context<'_>, wish: &'a Wish, of: &'a Which, replicas: &'a Spot<u64>) {
        let Some((pods, services)) = self.selected(cx, wish, of) else { return };
        if replicas.ok {
            self.pods = (self.pods - pods.min(self.pods)) + services * replicas.value;
            self.holds(cx, replicas.place(), self.pods, "scaled so, the cluster has");
        }
    }

    /// Whether the nodes hold so many pods.
    fn holds(&self, cx: &mut Context<'_>, at: Place<'_>, pods: u64, what: &str) {
        let per_node = self.s.time.per_node.as_ref();
        if pods <= self.room() || per_node.is_some_and(|spot| !spot.ok) || !self.s.cluster.nodes.ok {
            return;
        }
        let message = format!(
            "{what} {} pods, the {} nodes take {} of {} each",
            grouped(pods),
            grouped(self.nodes.count),
            grouped(self.room()),
            grouped(self.per_node())
        );
        let there = per_node.map_or(self.nodes_key(), Spot::place);
        let mut d = contradiction(at, there, &grouped(self.nodes.count), message);
        if per_node.is_none() {
            d = d.help(format!("key: pods.per_node = {}, its default", self.per_node()));
        }
        cx.out.push(d);
    }

    fn switch(
        &mut self,
        cx: &mut Context<'_>,
        to: &'a Spot<String>,
        restart: &'a Spot<bool>,
        wait: Option<&'a Spot<bool>>,
        parallel: &'a Spot<u64>,
    ) {
        if !to.ok {
            return;
        }
        let (modes, from) = &self.modes;
        if modes.contains(&to.value) {
            let message = format!("kube-proxy runs in {} mode already", to.value);
            let default = self.s.proxy.modes.value.join(", ");
            cx.out.push(contradiction(to.place(), *from, &default, message));
        }
        let kubernetes = &self.s.proxy.kubernetes;
        let later = |mode: &&crate::known::ModeHistory| {
            mode.mode == to.value && kubernetes.ok && kubernetes.value < mode.first_minor
        };
        if let Some(mode) = cx.known.mode_history.iter().find(later) {
            let message = format!("Kubernetes 1.{} has no {} mode", kubernetes.value, mode.mode);
            let told = format!("{} mode: {}", mode.mode, mode.told);
            cx.out.push(contradiction(to.place(), kubernetes.place(), "1.36", message).help(told));
        }
        if let Some(wait) = wait.filter(|wait| wait.ok && wait.value)
            && restart.ok
            && !restart.value
        {
            let message = "without a restart there is no first sync to wait for";
            cx.out.push(contradiction(wait.place(), restart.place(), "true", message));
        }
        if parallel.ok && self.s.cluster.nodes.ok && parallel.value > self.nodes.count {
            let message = format!(
                "{} nodes at once are more than the {} that there are",
                grouped(parallel.value),
                grouped(self.nodes.count)
            );
            let default = grouped(self.nodes.count);
            cx.out.push(contradiction(parallel.place(), self.nodes_key(), &default, message));
        }
        if restart.value {
            self.modes = (vec![to.value.clone()], to.place());
        }
    }
}
