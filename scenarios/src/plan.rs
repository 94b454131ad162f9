//! From a [`Scenario`] to a [`Plan`]: units resolved, the sweep expanded, every error told at once.
//!
//! A sweep point is the scenario with the swept values set, read again: so each value is checked where it was written,
//! and there is no second way in which a key gets its meaning. Each point becomes one [`WorldConfig`] a mode.

use crate::checks::{self, SERVICES_DEFAULT};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::endpoints;
use crate::events::{self, Nodes};
use crate::gate::{self, Gate};
use crate::keys;
use crate::known::Known;
use crate::kube_proxy::KubeProxyConfiguration;
use crate::proxy;
use crate::published::{self, Figure, Places};
use crate::reader::{Context, Spot};
use crate::scenario::{IMPORT_FILE, PROXY_CONFIG_FILE, Scenario, resolved};
use crate::services;
use crate::settings::Settings;
use crate::sweep::{self, Axis};
use crate::tree::{At, Node, Table, Value};
use crate::variants::{self, Variant};
use sim_core::record::{ChartRecord, Moment, RunRecord};
use sim_models::config::{
    CacheState, ChurnConfig, ClusterConfig, EndpointLaw, KernelConfig, TrafficConfig, TrafficTarget,
    WorldConfig,
};
use sim_models::kube::objects::Objects;
use std::collections::BTreeMap;
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
    /// Figures that others have published.
    pub published: Vec<Figure>,
    /// Whether a published figure that is missed fails the run.
    pub judge_published: bool,
    /// The scenario with every default written out, TOML that plans to the same; an import is called
    /// [`IMPORT_FILE`] in it, a configuration of kube-proxy [`PROXY_CONFIG_FILE`].
    pub resolved: String,
}

/// One simulation.
#[derive(Clone, Debug)]
pub struct PlannedPoint {
    /// Position in the plan.
    pub index: u32,
    /// Name of the variant; empty if there are none.
    pub variant: String,
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
        let variants = variants::variants(cx, &scenario.root, &axes);
        let modes = modes(cx, scenario, &base, &variants);
        let combinations = sweep::combinations(cx, &axes, modes.len() * variants.len());
        // The scenario itself is checked only where it is a point of its own: swept values may make it possible.
        let is_point = axes.is_empty() && matches!(&variants[..], [only] if only.name.is_empty());
        if is_point {
            checks::check(cx, &base, import.map(Arc::as_ref));
        }
        let charts = charts(cx, &base, &axes);
        let places = Places { modes: &modes, variants: &variants, axes: &axes };
        let gates = gates(cx, &base, &places);
        // Modes that were refused would make every figure of them look wrong.
        let published: Vec<Figure> = match base.proxy.modes.ok {
            true => base.published.iter().filter_map(|p| p.resolve(cx, &places)).collect(),
            false => Vec::new(),
        };
        let mut points = Vec::new();
        for combination in &combinations {
            for variant in &variants {
                let tree = point_tree(cx, &scenario.root, variant, &axes, combination);
                let mut settings = Settings::read(cx, &tree);
                proxy::put_under(cx, &mut settings, file.as_ref());
                if !is_point {
                    checks::check(cx, &settings, import.map(Arc::as_ref));
                }
                if !cx.out.is_empty() {
                    continue;
                }
                let place: Vec<(String, f64)> = axes
                    .iter()
                    .zip(combination)
                    .map(|(a, i)| {
                        let value = sweep::number(&a.key, &a.values[*i]);
                        (a.key.clone(), value.expect("checked by the reader"))
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
                    let variant = variant.name.clone();
                    points.push(PlannedPoint { index, variant, axes: place.clone(), config });
                }
            }
        }
        if !out.is_empty() {
            return Err(out);
        }
        let mut root = scenario.root.clone();
        let counted = base.cluster.endpoints.value == EndpointLaw::ClusterLoader2;
        if base.cluster.services.is_none()
            && base.cluster.import.is_none()
            && base.services.is_empty()
            && !counted
        {
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
            published,
            judge_published: base.gates.iter().any(|spot| spot.value.trim() == published::GATE),
            resolved: resolved(&root),
        })
    }
}

impl Plan {
    /// Judges a run: puts what others have published beside it, then the outcome of the gates.
    pub fn judge(&self, record: &mut RunRecord) {
        record.published = self.published.iter().map(|figure| figure.evaluate(record)).collect();
        let gates = self.gates.iter().map(|gate| gate.evaluate(record));
        let published = self.judge_published.then(|| published::judge(record));
        record.gates = gates.chain(published).collect();
    }
}

impl PlannedPoint {
    /// What tells it from others at the same place: the mode, with its variant.
    pub fn line(&self) -> String {
        [self.config.proxy.mode.as_str(), &self.variant].join(" ").trim_end().to_owned()
    }

    /// Units of its axes that are no counts.
    pub fn axis_units(&self) -> BTreeMap<String, String> {
        let unit = |key: &str| match keys::find(key).ok()?.kind {
            keys::Kind::Span { .. } => Some("ns"),
            keys::Kind::Rate { .. } => Some("per_s"),
            keys::Kind::Ratio => Some("ratio"),
            _ => None,
        };
        self.axes.iter().filter_map(|(key, _)| Some((key.clone(), unit(key)?.to_owned()))).collect()
    }

    /// What is planned to happen, in order of time; what lasts is there with its end.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments = Vec::new();
        for planned in &self.config.timeline {
            let what = events::told(&planned.action);
            if let Some(lasts) = events::lasts(&planned.action) {
                let at_ns = planned.at.saturating_add(lasts).as_ns();
                moments.push(Moment { at_ns, what: events::told_end(&planned.action) });
            }
            moments.push(Moment { at_ns: planned.at.as_ns(), what });
        }
        moments.retain(|moment| moment.at_ns <= self.config.duration.as_ns());
        moments.sort_by_key(|moment| moment.at_ns); // stable
        moments
    }
}

/// Modes that run in any variant, in the order in which they first run.
fn modes(cx: &mut Context<'_>, scenario: &Scenario, base: &Settings, variants: &[Variant]) -> Vec<String> {
    let mut modes: Vec<String> = Vec::new();
    for variant in variants {
        let mut tree = scenario.root.clone();
        variant.apply(cx, &mut tree);
        let of = match variant.name.is_empty() {
            true => base.proxy.modes.value.clone(),
            false => {
                let mut settings = Settings::read(cx, &tree);
                if !settings.proxy.modes.written {
                    settings.proxy.modes.value.clone_from(&base.proxy.modes.value);
                }
                settings.proxy.modes.value
            }
        };
        for mode in of {
            if !modes.contains(&mode) {
                modes.push(mode);
            }
        }
    }
    modes
}

/// The scenario at one sweep point.
fn point_tree(
    cx: &mut Context<'_>,
    root: &Table,
    variant: &Variant,
    axes: &[Axis],
    combination: &[usize],
) -> Table {
    let mut tree = root.clone();
    variant.apply(cx, &mut tree);
    for (axis, i) in axes.iter().zip(combination) {
        let path: Vec<&str> = axis.key.split('.').collect();
        if !keys::list_is_there(&tree, &axis.key) || !tree.set(&path, &axis.values[*i]) {
            let message = format!("`{}` leads nowhere in this scenario", axis.key);
            cx.out.push(Diagnostic::new(axis.at, &format!("sweep.{}", axis.key), message));
        }
    }
    tree
}

/// Horizontal axes that are no swept key.
const OWN_AXES: [&str; 3] = ["time", "distribution", "cumulative"];

fn charts(cx: &mut Context<'_>, base: &Settings, axes: &[Axis]) -> Vec<ChartRecord> {
    for chart in &base.charts {
        let (x, y) = (&chart.x.value, &chart.y);
        if chart.x.ok && !OWN_AXES.contains(&x.as_str()) && !axes.iter().any(|a| a.key == *x) {
            let allowed: Vec<&str> = axes.iter().map(|a| a.key.as_str()).chain(OWN_AXES).collect();
            let mut d = chart.x.wrong(format!("`{x}` is not swept"));
            if let Some(near) = did_you_mean(x, allowed.iter().copied()) {
                d = d.label(format!("did you mean `{near}`?"));
            }
            cx.out.push(d.help(format!("allowed: {}", allowed.join(", "))));
        } else if chart.x.ok && y.ok {
            let known = cx.known;
            let (names, what) = match x.as_str() {
                "time" => (&known.series, "a figure over time"),
                "distribution" | "cumulative" => (&known.distributions, "a distribution"),
                _ => (&known.metrics, "a metric"),
            };
            if !names.is_empty() && !names.iter().any(|n| n.name == y.value) {
                let message = format!("`{}` is not {what}, which x = \"{x}\" needs", y.value);
                let allowed: Vec<&str> = names.iter().map(|n| n.name.as_str()).collect();
                let d = Diagnostic::new(y.at, &y.key, message).and(chart.x.at, &chart.x.key);
                cx.out.push(d.help(format!("allowed: {}", allowed.join(", "))));
            }
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

fn gates(cx: &mut Context<'_>, base: &Settings, places: &Places<'_>) -> Vec<Gate> {
    let swept: Vec<&str> = places.axes.iter().map(|a| a.key.as_str()).collect();
    let variants: Vec<&str> = places.variants.iter().map(|v| v.name.as_str()).collect();
    let names = gate::Names { known: cx.known, modes: places.modes, swept: &swept, variants: &variants };
    let mut gates = Vec::new();
    for spot in base.gates.iter().filter(|g| g.ok) {
        if spot.value.trim() == published::GATE {
            if !base.published.iter().any(|p| p.is_claimed()) {
                let message = "there is no published figure with a tolerance that was not fitted";
                cx.out.push(spot.wrong(message).help("allowed with [[published]] that have a `tolerance`"));
            }
            continue;
        }
        match gate::parse(&spot.value, names) {
            Ok(gate) => match place_of(&gate, places.axes) {
                GatePlace::Planned => gates.push(gate),
                GatePlace::PinnedAway => {}
                GatePlace::Nowhere(key, value, values) => {
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
    /// The sweep does not have it: the key, the value, and the values that it has.
    Nowhere(String, f64, String),
}

fn place_of(gate: &Gate, axes: &[Axis]) -> GatePlace {
    for (key, value) in &gate.at {
        let axis = axes.iter().find(|a| a.key == *key).expect("the parser allows swept keys only");
        if axis.values.iter().any(|n| sweep::number(key, n) == Some(*value)) {
            continue;
        }
        if axis.values.iter().all(|n| n.at.source != 0) {
            return GatePlace::PinnedAway;
        }
        let values: Vec<String> = axis.values.iter().map(|n| n.value.to_toml()).collect();
        return GatePlace::Nowhere(key.clone(), *value, values.join(", "));
    }
    GatePlace::Planned
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
    let minor = s.proxy.kubernetes.value;
    let imported = objects.as_deref().map_or_else(Vec::new, |o| o.nodes.iter().map(|n| &*n.name).collect());
    let nodes = Nodes { count: checks::nodes(s, objects.as_deref()), imported };
    let mut timeline: Vec<_> = s.events.iter().map(|event| event.planned(&nodes)).collect();
    timeline.sort_by_key(|planned| planned.at); // stable
    WorldConfig {
        seed: s.seed.value,
        duration: s.duration.value,
        warmup: s.warmup.value,
        cluster: ClusterConfig {
            nodes: narrow(nodes.count),
            services: match (&s.cluster.services, &objects) {
                (Some(spot), _) => count(spot),
                (None, Some(objects)) => narrow(objects.services.len() as u64),
                (None, None) => {
                    narrow(endpoints::services(&s.cluster.endpoints.value, SERVICES_DEFAULT, nodes.count))
                }
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
                timeout: t.timeout.value,
                retries: count(&t.retries),
            })
            .collect(),
        churn: ChurnConfig { rate: s.churn_rate.value },
        control: s.time.control(minor),
        pods: s.time.pods(),
        nodes: s.time.nodes(minor),
        timeline,
        faults: s.time.faults,
    }
}
