//! `[[events]]`: read with their places, resolved to what the models take, and told in a few words.

use crate::diagnostic::Diagnostic;
use crate::keys::{EVENT, Kind, grouped};
use crate::reader::{Context, NodeList, NodeName, Reader, Spot};
use crate::tree::At;
use sim_core::units::SimSpan;
use sim_models::config::{Action, ModeSwitch, Planned, Selection, Share};

/// One entry of the list.
pub struct Event {
    /// When.
    pub at: Spot<SimSpan>,
    /// What; none if that was refused.
    pub wish: Option<Wish>,
}

/// An action as it is written.
pub struct Wish {
    /// Place of the action's name.
    pub at: At,
    /// Its dotted path.
    pub key: String,
    /// What it says.
    pub act: Act,
}

/// What an action says.
pub enum Act {
    RollingUpdate {
        of: Which,
        surge: Spot<Share>,
        unavailable: Spot<Share>,
    },
    Scale {
        of: Which,
        replicas: Spot<u64>,
    },
    FailNodes {
        nodes: Spot<NodeList>,
        recover_after: Option<Spot<SimSpan>>,
    },
    FailZone {
        zone: Spot<u64>,
        recover_after: Option<Spot<SimSpan>>,
    },
    ApiOutage {
        lasts: Spot<SimSpan>,
    },
    AddNodes {
        count: Spot<u64>,
    },
    AddServices {
        count: Spot<u64>,
        endpoints: Spot<u64>,
    },
    RemoveServices {
        count: Spot<u64>,
    },
    RestartProxies {
        nodes: Spot<NodeList>,
    },
    SwitchMode {
        to: Spot<String>,
        restart: Spot<bool>,
        flush: Spot<bool>,
        wait: Option<Spot<bool>>,
        parallel: Spot<u64>,
    },
    DropWatches {
        nodes: Spot<NodeList>,
        lasts: Spot<SimSpan>,
    },
    FailRestores {
        nodes: Spot<NodeList>,
        lasts: Spot<SimSpan>,
    },
    FlushRules {
        nodes: Spot<NodeList>,
    },
    Relabel {
        nodes: Spot<NodeList>,
    },
}

/// Which Services: at most one of these is written.
pub struct Which {
    pub service: Option<Spot<String>>,
    pub services: Option<Spot<u64>>,
    pub pods: Option<Spot<u64>>,
}

impl Which {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Which {
        let which = Which {
            service: r.entry("service").map(|_| r.text(cx, "service")),
            services: r.entry("services").map(|_| r.integer(cx, "services")),
            pods: r.entry("pods").map(|_| r.integer(cx, "pods")),
        };
        let mut written = Vec::new();
        written.extend(which.service.as_ref().map(Spot::place));
        written.extend(which.services.as_ref().map(Spot::place));
        written.extend(which.pods.as_ref().map(Spot::place));
        if let [first, second, ..] = written[..] {
            let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
            let message = format!("`{}` and `{}` both say which Services", last(first.key), last(second.key));
            cx.out.push(Diagnostic::new(second.at, second.key, message).and(first.at, first.key));
        }
        which
    }

    fn selection(&self) -> Selection {
        match (&self.service, &self.services, &self.pods) {
            (Some(spot), ..) => Selection::Named(spot.value.clone()),
            (_, Some(spot), _) => Selection::First(narrow(spot)),
            (.., Some(spot)) => Selection::Pods(narrow(spot)),
            _ => Selection::All,
        }
    }
}

fn narrow(spot: &Spot<u64>) -> u32 {
    u32::try_from(spot.value).expect("limits are below 2^32")
}

impl Event {
    /// Reads an entry.
    pub fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Event {
        let at = r.span(cx, "at");
        let names = || EVENT.keys.iter().filter(|k| matches!(k.kind, Kind::Action(_))).map(|k| k.name);
        let written: Vec<&str> = names().filter(|name| r.entry(name).is_some()).collect();
        match written[..] {
            [name] => Event { at, wish: r.action(cx, name).map(|action| Wish::read(cx, name, &action)) },
            // An action that was misspelt is told as such.
            [] if r.has_unknown() => Event { at, wish: None },
            [] => {
                let d = Diagnostic::new(r.at(), r.path(), "this event does nothing");
                let all: Vec<&str> = names().collect();
                cx.out.push(d.help(format!("allowed: one of {}", all.join(", "))));
                Event { at, wish: None }
            }
            [first, second, ..] => {
                let place = |name: &str| r.key_at(name).unwrap_or(r.at());
                let message = format!("this event does two things: `{first}` and `{second}`");
                let d = Diagnostic::new(place(second), &r.key_path(second), message);
                let d = d.and(place(first), &r.key_path(first));
                cx.out.push(d.help("allowed: one action an event; two events may have the same time"));
                Event { at, wish: None }
            }
        }
    }

    /// For the models. `nodes` finds a node's number; everything has been checked.
    pub fn planned(&self, nodes: &Nodes<'_>) -> Planned {
        let wish = self.wish.as_ref().expect("a refused event is not planned");
        Planned { at: self.at.value, action: wish.act.action(nodes) }
    }
}

impl Wish {
    fn read(cx: &mut Context<'_>, name: &str, r: &Reader<'_>) -> Wish {
        let recover = |cx: &mut Context<'_>| r.entry("recover_after").map(|_| r.span(cx, "recover_after"));
        let act = match name {
            "rolling_update" => Act::RollingUpdate {
                of: Which::read(cx, r),
                surge: r.pod_share(cx, "max_surge"),
                unavailable: r.pod_share(cx, "max_unavailable"),
            },
            "scale" => Act::Scale { of: Which::read(cx, r), replicas: r.integer(cx, "replicas") },
            "fail_nodes" => Act::FailNodes { nodes: r.nodes(cx, "nodes"), recover_after: recover(cx) },
            "fail_zone" => Act::FailZone { zone: r.integer(cx, "zone"), recover_after: recover(cx) },
            "api_outage" => Act::ApiOutage { lasts: r.span(cx, "lasts") },
            "add_nodes" => Act::AddNodes { count: r.integer(cx, "count") },
            "add_services" => {
                Act::AddServices { count: r.integer(cx, "count"), endpoints: r.integer(cx, "endpoints") }
            }
            "remove_services" => Act::RemoveServices { count: r.integer(cx, "count") },
            "restart_proxies" => Act::RestartProxies { nodes: r.nodes(cx, "nodes") },
            "switch_mode" => Act::SwitchMode {
                to: r.text(cx, "to"),
                restart: r.boolean(cx, "restart"),
                flush: r.boolean(cx, "flush"),
                wait: r.entry("wait").map(|_| r.boolean(cx, "wait")),
                parallel: r.integer(cx, "parallel"),
            },
            "drop_watches" => Act::DropWatches { nodes: r.nodes(cx, "nodes"), lasts: r.span(cx, "lasts") },
            "fail_restores" => Act::FailRestores { nodes: r.nodes(cx, "nodes"), lasts: r.span(cx, "lasts") },
            "flush_rules" => Act::FlushRules { nodes: r.nodes(cx, "nodes") },
            "relabel" => Act::Relabel { nodes: r.nodes(cx, "nodes") },
            other => panic!("the key table has an action {other} that nobody reads"),
        };
        Wish { at: r.at(), key: r.path().to_owned(), act }
    }
}

impl Act {
    /// Nodes that it names.
    pub fn nodes(&self) -> Option<&Spot<NodeList>> {
        match self {
            Act::FailNodes { nodes, .. }
            | Act::RestartProxies { nodes }
            | Act::DropWatches { nodes, .. }
            | Act::FailRestores { nodes, .. }
            | Act::FlushRules { nodes }
            | Act::Relabel { nodes } => Some(nodes),
            _ => None,
        }
    }

    fn action(&self, nodes: &Nodes<'_>) -> Action {
        let span = |spot: &Option<Spot<SimSpan>>| spot.as_ref().map(|spot| spot.value);
        match self {
            Act::RollingUpdate { of, surge, unavailable } => Action::RollingUpdate {
                services: of.selection(),
                max_surge: surge.value,
                max_unavailable: unavailable.value,
            },
            Act::Scale { of, replicas } => {
                Action::Scale { services: of.selection(), replicas: narrow(replicas) }
            }
            Act::FailNodes { nodes: list, recover_after } => {
                Action::FailNodes { nodes: nodes.numbers(list), recover_after: span(recover_after) }
            }
            Act::FailZone { zone, recover_after } => {
                Action::FailZone { zone: narrow(zone), recover_after: span(recover_after) }
            }
            Act::ApiOutage { lasts } => Action::ApiOutage { lasts: lasts.value },
            Act::AddNodes { count } => Action::AddNodes { count: narrow(count) },
            Act::AddServices { count, endpoints } => {
                Action::AddServices { count: narrow(count), endpoints: narrow(endpoints) }
            }
            Act::RemoveServices { count } => Action::RemoveServices { count: narrow(count) },
            Act::RestartProxies { nodes: list } => match list.value {
                NodeList::All => Action::RestartProxies { nodes: Vec::new() },
                NodeList::These(_) => Action::RestartProxies { nodes: nodes.numbers(list) },
            },
            Act::SwitchMode { to, restart, flush, wait, parallel } => Action::SwitchMode(ModeSwitch {
                to: to.value.clone(),
                restart: restart.value,
                flush: flush.value,
                wait: wait.as_ref().map_or(restart.value, |wait| wait.value),
                parallel: narrow(parallel),
            }),
            Act::DropWatches { nodes: list, lasts } => {
                Action::DropWatches { nodes: nodes.numbers(list), lasts: lasts.value }
            }
            Act::FailRestores { nodes: list, lasts } => {
                Action::FailRestores { nodes: nodes.numbers(list), lasts: lasts.value }
            }
            Act::FlushRules { nodes: list } => Action::FlushRules { nodes: nodes.numbers(list) },
            Act::Relabel { nodes: list } => Action::Relabel { nodes: nodes.numbers(list) },
        }
    }
}

/// The nodes of a cluster, as events name them.
pub struct Nodes<'a> {
    /// How many there are.
    pub count: u64,
    /// Names of imported ones; generated ones are called `node-0` and so on.
    pub imported: Vec<&'a str>,
}

impl Nodes<'_> {
    /// The number of a node, if there is such a one among the first `count`.
    pub fn find(&self, name: &NodeName, count: u64) -> Option<u64> {
        let number = match name {
            NodeName::Number(n) => Some(*n),
            NodeName::Name(text) => {
                let at = self.imported.iter().position(|there| there == text);
                at.map(|at| at as u64).or_else(|| {
                    let digits = text.strip_prefix("node-")?;
                    let number: u64 = digits.parse().ok()?;
                    let generated = self.imported.is_empty() && number.to_string() == digits;
                    generated.then_some(number)
                })
            }
        };
        number.filter(|n| *n < count)
    }

    fn numbers(&self, list: &Spot<NodeList>) -> Vec<u32> {
        let narrow = |n: u64| u32::try_from(n).expect("limits are below 2^32");
        match &list.value {
            NodeList::All => (0..narrow(self.count)).collect(),
            NodeList::These(nodes) => {
                // Nodes that events add are among those that later ones name.
                nodes.iter().map(|(node, _)| narrow(self.find(node, u64::MAX).expect("checked"))).collect()
            }
        }
    }
}

/// An action in a few words, for charts and reports.
pub fn told(action: &Action) -> String {
    let number = |n: u32| grouped(n.into());
    let some = |n: u32, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{} {many}", number(n)),
    };
    let which = |nodes: &[u32]| match nodes {
        [] => "all nodes".to_owned(),
        [node] => format!("node {node}"),
        nodes => some(u32::try_from(nodes.len()).unwrap_or(u32::MAX), "node", "nodes"),
    };
    let of = |services: &Selection| match services {
        Selection::Named(name) => name.clone(),
        Selection::Pods(n) => some(*n, "pod", "pods"),
        Selection::First(n) => some(*n, "Service", "Services"),
        Selection::All => "all Services".into(),
    };
    match action {
        Action::RollingUpdate { services, .. } => format!("rolling update of {}", of(services)),
        Action::Scale { services, replicas } => {
            format!("{} to {}", of(services), some(*replicas, "pod", "pods"))
        }
        Action::FailNodes { nodes, .. } => format!("{} down", which(nodes)),
        Action::FailZone { zone, .. } => format!("zone {zone} down"),
        Action::ApiOutage { .. } => "API server away".into(),
        Action::AddNodes { count } => format!("{} more", some(*count, "node", "nodes")),
        Action::AddServices { count, .. } => format!("{} more", some(*count, "Service", "Services")),
        Action::RemoveServices { count } => format!("{} less", some(*count, "Service", "Services")),
        Action::RestartProxies { nodes } => format!("kube-proxy restarts, {}", which(nodes)),
        Action::SwitchMode(switch) => format!("switch to {}", switch.to),
        Action::DropWatches { nodes, .. } => format!("watches of {} break", which(nodes)),
        Action::FailRestores { nodes, .. } => format!("restores of {} fail", which(nodes)),
        Action::FlushRules { nodes } => format!("rules of {} flushed", which(nodes)),
        Action::Relabel { nodes } => format!("{} relabelled", which(nodes)),
    }
}

/// The end of an action that has one, in a few words.
pub fn told_end(action: &Action) -> String {
    match action {
        Action::FailNodes { nodes, .. } if nodes.len() == 1 => format!("node {} back", nodes[0]),
        Action::FailNodes { nodes, .. } => format!("{} nodes back", nodes.len()),
        Action::FailZone { zone, .. } => format!("zone {zone} back"),
        Action::ApiOutage { .. } => "API server back".into(),
        Action::DropWatches { .. } => "watches can come back".into(),
        Action::FailRestores { .. } => "restores work again".into(),
        other => told(other),
    }
}

/// How long an action goes on, where it has an end of its own.
pub fn lasts(action: &Action) -> Option<SimSpan> {
    match action {
        Action::ApiOutage { lasts }
        | Action::DropWatches { lasts, .. }
        | Action::FailRestores { lasts, .. } => Some(*lasts),
        Action::FailNodes { recover_after, .. } | Action::FailZone { recover_after, .. } => *recover_after,
        _ => None,
    }
}
