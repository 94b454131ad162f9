//! From a [`Scenario`] to a [`Plan`]: units resolved, the sweep expanded, every error told at once.
//!
//! A sweep point is the scenario with the swept values set, read again: so each value is checked where it was written,
//! and there is no second way in which a key gets its meaning. Each point becomes one [`WorldConfig`] a mode.

use crate::checks::{self, SERVICES_DEFAULT};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::gate::{self, Gate};
use crate::keys;
use crate::known::Known;
use crate::kube_proxy::KubeProxyConfiguration;
use crate::proxy;
use crate::reader::{Context, Spot};
use crate::scenario::{IMPORT_FILE, PROXY_CONFIG_FILE, Scenario, resolved};
use crate::services;
use crate::settings::Settings;
use crate::sweep::{self, Axis};
use crate::tree::{At, Node, Table, Value};
use sim_core::record::ChartRecord;
use sim_core::units::SimSpan;
use sim_models::config::{
    CacheState, ChurnConfig, ClusterConfig, ControlConfig, FaultConfig, KernelConfig, NodeConfig, PodConfig,
    TrafficConfig, TrafficTarget, WorldConfig,
};
use sim_models::kube::objects::Objects;
use std::sync::Arc;

/// What will be simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stem of the scenario's file name.
    pub name: String,
    /// Heading of the report.
    pub title: String,
    /// Root of all random streams.
    pub seed: u64,
    /// Name of the cost profile.
    pub profile: String,
    /// Sweep points times modes, modes running fastest.
    pub points: Vec<PlannedPoint>,
    /// Charts of the report.
    pub charts: Vec<ChartRecord>,
    /// Conditions on the result.
    pub gates: Vec<Gate>,
    /// The scenario with every default written out, TOML that plans to the same; an import is called
    /// [`IMPORT_FILE`] in it, a configuration of kube-proxy [`PROXY_CONFIG_FILE`].
    pub resolved: String,
}

/// One simulation.
#[derive(Clone, Debug)]
pub struct PlannedPoint {
    /// Position in the plan.
    pub index: u32,
    /// Swept keys and their values: counts as they are, times in nanoseconds, rates per second.
    pub axes: Vec<(String, f64)>,
    /// The world.
    pub config: Arc<WorldConfig>,
}

impl Plan {
    /// Plans a scenario. What [`Scenario::import`] and [`Scenario::proxy_config`] name must have been handed over, or reported as unreadable.
    ///
    /// # Errors
    /// Everything that is wrong with the scenario.
    ///
    /// # Panics
    /// If the scenario names a file of which the caller said nothing.
    pub fn new(scenario: &Scenario, known: &Known) -> Result<Plan, Diagnostics> {
        let mut out = scenario.pending.clone();
        let texts = scenario.proxy_config.as_ref();
        let file = texts.and_then(|(name, text)| KubeProxyConfiguration::read(&mut out, name, text, known));
        let cx = &mut Context { known, out: &mut out };
        let mut base = Settings::read(cx, &scenario.root);
        assert!(
            !base.proxy.file.as_ref().is_some_and(|spot| spot.ok) || texts.is_some() || !cx.out.is_empty(),
            "{}: proxy.config was not handed over",
            scenario.name
        );
        proxy::put_under(cx, &mut base, file.as_ref());
        let import = scenario.objects.as_ref();
        let promised = base.cluster.import.as_ref().is_some_and(|spot| spot.ok);
        assert!(
            !promised || import.is_some() || !cx.out.is_empty(),
            "{}: the import was not handed over",
            scenario.name
        );
        let axes = sweep::axes(cx, &scenario.root);
        let combinations = sweep::combinations(cx, &axes, base.proxy.modes.value.len());
        // The scenario itself is checked only where it is a point of its own: swept values may make it possible.
        if axes.is_empty() {
            checks::check(cx, &base, import.map(Arc::as_ref));
        }
        let charts = charts(cx, &base, &axes);
        let gates = gates(cx, &base, &axes);
        let mut points = Vec::new();
        for combination in &combinations {
            let tree = point_tree(cx, &scenario.root, &axes, combination);
            let mut settings = Settings::read(cx, &tree);
            proxy::put_under(cx, &mut settings, file.as_ref());
            if !axes.is_empty() {
                checks::check(cx, &settings, import.map(Arc::as_ref));
            }
            if !cx.out.is_empty() {
                continue;
            }
            let place: Vec<(String, f64)> = axes
                .iter()
                .zip(combination)
                .map(|(a, i)| {
                    (a.key.clone(), sweep::number(&a.key, &a.values[*i]).expect("checked by the reader"))
                })
                .collect();
            let objects = match settings.services.as_slice() {
                [] => import.cloned(),
                written => Some(Arc::new(services::objects(written))),
            };
            for mode in &settings.proxy.modes.value {
                let index = u32::try_from(points.len()).expect("at most POINTS_MAX");
                let config = Arc::new(world(&settings, mode, objects.clone(), file.as_ref()));
                checks::fits(cx, &settings, &config.cluster);
                points.push(PlannedPoint { index, axes: place.clone(), config });
            }
        }
        if !out.is_empty() {
            return Err(out);
        }
        let mut root = scenario.root.clone();
        if base.cluster.services.is_none() && base.cluster.import.is_none() && base.services.is_empty() {
            let at = At { source: 0, start: 0, end: 0 };
            root.set(&["cluster", "services"], &Node { at, value: Value::Integer(SERVICES_DEFAULT.into()) });
        }
        if import.is_some() {
            let at = At { source: 0, start: 0, end: 0 };
            root.set(&["cluster", "import"], &Node { at, value: Value::Text(IMPORT_FILE.to_owned()) });
        }
        if file.is_some() {
            let at = At { source: 0, start: 0, end: 0 };
            root.set(&["proxy", "config"], &Node { at, value: Value::Text(PROXY_CONFIG_FILE.to_owned()) });
        }
        let title = if base.title.value.is_empty() { scenario.name.clone() } else { base.title.value };
        Ok(Plan {
            name: scenario.name.clone(),
            title,
            seed: base.seed.value,
            profile: base.kernel.profile.value,
            points,
            charts,
            gates,
            resolved: resolved(&root),
        })
    }
}

/// The scenario at one sweep point.
fn point_tree(cx: &mut Context<'_>, root: &Table, axes: &[Axis], combination: &[usize]) -> Table {
    let mut tree = root.clone();
    for (axis, i) in axes.iter().zip(combination) {
        let path: Vec<&str> = axis.key.split('.').collect();
        if !keys::list_is_there(&tree, &axis.key) || !tree.set(&path, &axis.values[*i]) {
            let message = format!("`{}` leads nowhere in this scenario", axis.key);
            cx.out.push(Diagnostic::new(axis.at, &format!("sweep.{}", axis.key), message));
        }
    }
    tree
}

fn charts(cx: &mut Context<'_>, base: &Settings, axes: &[Axis]) -> Vec<ChartRecord> {
    for chart in &base.charts {
        let x = &chart.x.value;
        if chart.x.ok && x != "distribution" && !axes.iter().any(|a| a.key == *x) {
            let swept: Vec<&str> = axes.iter().map(|a| a.key.as_str()).collect();
            let mut d = chart.x.wrong(format!("`{x}` is not swept"));
            if let Some(near) = crate::diagnostic::did_you_mean(x, swept.iter().copied()) {
                d = d.label(format!("did you mean `{near}`?"));
            }
            cx.out.push(d.help(format!("allowed: {}", [&swept[..], &["distribution"]].concat().join(", "))));
        }
    }
    base.charts
        .iter()
        .map(|c| ChartRecord {
            x: c.x.value.clone(),
            y: c.y.value.clone(),
            by: c.by.value.clone(),
            title: c.title.value.clone(),
            log_x: c.log_x.value,
            log_y: c.log_y.value,
        })
        .collect()
}

fn gates(cx: &mut Context<'_>, base: &Settings, axes: &[Axis]) -> Vec<Gate> {
    let swept: Vec<&str> = axes.iter().map(|a| a.key.as_str()).collect();
    let mut gates = Vec::new();
    for spot in base.gates.iter().filter(|g| g.ok) {
        match gate::parse(&spot.value, cx.known, &base.proxy.modes.value, &swept) {
            Ok(gate) => match place_of(&gate, axes) {
                GatePlace::Planned => gates.push(gate),
                GatePlace::PinnedAway => {}
                GatePlace::Nowhere(values) => {
                    let (key, value) = gate.at.as_ref().expect("only a gate with a place can miss it");
                    let message = format!("`{key}` is never {value}: this gate could not be judged");
                    cx.out.push(spot.wrong(message).help(format!("swept values: {values}")));
                }
            },
            // Modes that were refused would make every gate on them look wrong.
            Err(_) if !base.proxy.modes.ok => {}
            Err((message, help)) => cx.out.push(spot.wrong(message).help(help)),
        }
    }
    gates
}

/// Whether the place that a gate is confined to is simulated.
enum GatePlace {
    /// It is, or the gate speaks of every point.
    Planned,
    /// It would be, had `--set` not pinned the key to another value: the gate says nothing about this run.
    PinnedAway,
    /// The sweep does not have it; its values.
    Nowhere(String),
}

fn place_of(gate: &Gate, axes: &[Axis]) -> GatePlace {
    let Some((key, value)) = &gate.at else { return GatePlace::Planned };
    let axis = axes.iter().find(|a| a.key == *key).expect("the parser allows swept keys only");
    if axis.values.iter().any(|n| sweep::number(key, n) == Some(*value)) {
        GatePlace::Planned
    } else if axis.values.iter().all(|n| n.at.source != 0) {
        GatePlace::PinnedAway
    } else {
        let values: Vec<String> = axis.values.iter().map(|n| n.value.to_toml()).collect();
        GatePlace::Nowhere(values.join(", "))
    }
}

/// The world of one point under one mode. All settings have been checked.
fn world(
    s: &Settings,
    mode: &str,
    objects: Option<Arc<Objects>>,
    file: Option<&KubeProxyConfiguration>,
) -> WorldConfig {
    let narrow = |n: u64| u32::try_from(n).expect("limits are below 2^32");
    let count = |spot: &Spot<u64>| narrow(spot.value);
    WorldConfig {
        seed: s.seed.value,
        duration: s.duration.value,
        warmup: s.warmup.value,
        cluster: ClusterConfig {
            nodes: narrow(checks::nodes(s, objects.as_deref())),
            services: match (&s.cluster.services, &objects) {
                (Some(spot), _) => count(spot),
                (None, Some(objects)) => narrow(objects.services.len() as u64),
                (None, None) => narrow(SERVICES_DEFAULT),
            },
            endpoints: s.cluster.endpoints.value.clone(),
            service_cidr: s.cluster.service_cidr.value,
            cluster_cidr: s.cluster.cluster_cidr.value,
            objects,
        },
        proxy: s.proxy.config(mode, &s.cluster, file),
        kernel: KernelConfig {
            profile: s.kernel.profile.value.clone(),
            cache: match s.kernel.cache.value.as_str() {
                "hot" => CacheState::Hot,
                "shared" => CacheState::Shared,
                "cold" => CacheState::Cold,
                other => panic!("the key table allows cache = {other}"),
            },
            cores: count(&s.kernel.cores),
        },
        traffic: s
            .traffic
            .iter()
            .map(|t| TrafficConfig {
                name: t.name.value.clone(),
                rate_per_node: t.rate.value,
                requests: count(&t.requests),
                think: t.think.value,
                service_time: t.service_time.value,
                to: match t.to.value.as_str() {
                    "uniform" => TrafficTarget::Uniform,
                    service => TrafficTarget::Service(service.to_owned()),
                },
                timeout: SimSpan::from_secs(10),
                retries: 0,
            })
            .collect(),
        churn: ChurnConfig { rate: s.churn_rate.value },
        control: ControlConfig::default(),
        pods: PodConfig::default(),
        nodes: NodeConfig::default(),
        timeline: Vec::new(),
        faults: FaultConfig::default(),
    }
}
