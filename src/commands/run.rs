//! `windtunnel run`: the one way through. Text -> `Scenario` -> `Plan` -> `World` -> run -> `RunRecord` -> report.

use crate::cli::{Format, RunArgs};
use crate::commands::load::{Loaded, load};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::output::{RUN_DIGITS, RunDir, hash};
use crate::progress::Progress;
use crate::terminal;
use rayon::prelude::*;
use reports::Report;
use scenarios::plan::PlannedPoint;
use scenarios::scenario::{IMPORT_FILE, PROXY_CONFIG_FILE};
use sim_core::record::{
    Basis, ChartRecord, ConstantRecord, Crossover, Fixed, PointRecord, ProfileRecord, RunRecord, SCHEMA,
};
use sim_core::units::SimTime;
use sim_models::kernel::cost::CostProfile;
use sim_models::world::{self, Stopped};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Columns that a table may take.
const TABLE_WIDTH: usize = 100;
/// Name and version that records carry.
const TOOL: &str = concat!("windtunnel ", env!("CARGO_PKG_VERSION"));

/// Runs every scenario. All are planned before any is simulated: a slip in the last one is told at once.
pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    interrupt::listen()?;
    let mut exit = Exit::Fine;
    for loaded in load_all(args)? {
        let simulated = simulate(&loaded, args)?;
        let record = record(&loaded, simulated);
        let place = write(&loaded, &record, args)?;
        show(&record, &place, args)?;
        exit = exit.max(verdict(&record, args));
    }
    Ok(exit)
}

/// Text -> `Scenario` -> `Plan`, for every file; the errors of all files are told together.
fn load_all(args: &RunArgs) -> Result<Vec<Loaded>, Failure> {
    let mut plans = Vec::new();
    let mut errors = String::new();
    for path in &args.scenarios {
        match load(path, &args.set, args.seed) {
            Ok(loaded) => plans.push(loaded),
            Err(Failure::Input(text)) => errors.push_str(&text),
            Err(other) => return Err(other),
        }
    }
    if errors.is_empty() { Ok(plans) } else { Err(Failure::Input(errors)) }
}

/// What the simulation of a plan gives.
struct Simulated {
    profile: CostProfile,
    points: Vec<PointRecord>,
}

/// `Plan` -> `World`s -> run. Points are independent and run on all cores; results keep the order of the plan.
fn simulate(loaded: &Loaded, args: &RunArgs) -> Result<Simulated, Failure> {
    let plan = &loaded.plan;
    let profile = CostProfile::named(&plan.profile).ok_or_else(|| {
        Failure::Ours(format!("profile {} was planned with but is not there", plan.profile))
    })?;
    let shared = Arc::new(profile.clone());
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.map_or(0, usize::from))
        .build()
        .map_err(|e| Failure::Ours(format!("cannot start threads: {e}")))?;
    let progress = Progress::new(&plan.name, plan.points.len());
    let points = threads.install(|| {
        plan.points
            .par_iter()
            .map(|point| {
                interrupt::poll()?;
                let record = simulate_point(point, &shared, &progress)?;
                progress.done(point.index);
                Ok(record)
            })
            .collect::<Result<Vec<_>, Failure>>()
    })?;
    interrupt::poll()?;
    Ok(Simulated { profile, points })
}

/// The prices that a run uses, as a record tells them.
fn profile_record(profile: &CostProfile) -> ProfileRecord {
    let unit_of = |name: &str| match name {
        n if n.ends_with("_bytes") || n.contains("_bytes_") => "bytes",
        n if n.ends_with("_lines") => "lines",
        n if n.starts_with("sync.") => "us",
        _ => profile.unit.as_str(),
    };
    let constants = profile.constants().into_iter().map(|(name, c)| ConstantRecord {
        unit: unit_of(&name).to_owned(),
        value: Fixed::new(c.value),
        error: Fixed::new(c.error),
        source: c.source,
        name,
    });
    ProfileRecord {
        name: profile.name.clone(),
        unit: profile.unit.clone(),
        description: profile.description.clone(),
        constants: constants.collect(),
    }
}

/// One `World`, run to its end.
fn simulate_point(
    point: &PlannedPoint,
    profile: &Arc<CostProfile>,
    progress: &Progress,
) -> Result<PointRecord, Failure> {
    let line = point.line();
    let go_on = |now: SimTime, end: SimTime| {
        progress.at(point.index, &line, now.as_ns(), end.as_ns());
        interrupt::poll().is_ok()
    };
    let mut record =
        world::run(point.config.clone(), profile.clone(), &go_on).map_err(|stopped| match stopped {
            Stopped::Impossible(why) => Failure::Input(format!("error: point {}: {why}\n", point.index)),
            Stopped::Cancelled => Failure::Interrupted,
        })?;
    record.index = point.index;
    record.axis_units = point.axis_units();
    record.variant.clone_from(&point.variant);
    record.timeline = point.moments();
    record.axes = point.axes.iter().map(|(key, value)| (key.clone(), Fixed::new(*value))).collect();
    Ok(record)
}

/// Everything a report needs.
fn record(loaded: &Loaded, simulated: Simulated) -> RunRecord {
    let plan = &loaded.plan;
    // A scenario without a configuration file keeps its hash.
    let mut inputs = vec![plan.resolved.as_str(), loaded.import.as_str()];
    inputs.extend(Some(loaded.proxy_config.as_str()).filter(|text| !text.is_empty()));
    let fingerprints: Vec<&str> = simulated.points.iter().map(|p| p.fingerprint.as_str()).collect();
    let mut record = RunRecord {
        schema: SCHEMA,
        tool: TOOL.to_owned(),
        name: plan.name.clone(),
        title: plan.title.clone(),
        scenario_hash: hash(&inputs),
        seed: plan.seed,
        fingerprint: hash(&fingerprints)[..16].to_owned(),
        profile: profile_record(&simulated.profile),
        crossovers: crossovers(&plan.charts, &simulated.points),
        notes: notes(&simulated.profile, &simulated.points),
        points: simulated.points,
        charts: plan.charts.clone(),
        gates: Vec::new(),
        published: Vec::new(),
    };
    plan.judge(&mut record);
    record
}

/// Where modes cross in the cost of a first packet: in its mean, or in the figure of it that the scenario charts
/// first.
fn crossovers(charts: &[ChartRecord], points: &[PointRecord]) -> Vec<Crossover> {
    let charted = charts.iter().map(|c| c.y.as_str()).find(|y| y.starts_with("first_packet_"));
    reports::crossover::find_in(points, charted.unwrap_or("first_packet_mean"))
}

/// Remarks on what the figures are worth.
fn notes(profile: &CostProfile, points: &[PointRecord]) -> Vec<String> {
    let mut notes = Vec::new();
    let at = |p: &PointRecord| format!("{} at {} Services", p.line(), p.services);
    let value = |p: &PointRecord, name: &str| p.metric(name).map_or(0.0, |m| m.value.get());
    let list = |points: Vec<String>| points.join(", ");
    for (figure, what) in [("first_packet_mean", "Costs of packets"), ("first_full_sync", "Times of syncs")] {
        let guessed = |p: &&PointRecord| p.metric(figure).is_some_and(|m| m.basis == Basis::Extrapolated);
        let extrapolated: Vec<String> = points.iter().filter(guessed).map(at).collect();
        if !extrapolated.is_empty() {
            let places = list(extrapolated);
            notes.push(format!("{what} are extrapolated beyond what the profile was measured on: {places}."));
        }
    }
    if profile.unit != "ns" {
        notes.push(format!(
            "Profile {} counts {}: latencies and CPU shares take one for {} ns, an estimate.",
            profile.name, profile.unit, profile.ns_per_unit
        ));
    }
    let empty: Vec<String> = points
        .iter()
        .filter(|p| value(p, "services_without_endpoints") > 0.0)
        .map(|p| format!("{} of {} ({})", value(p, "services_without_endpoints"), p.services, p.mode))
        .collect();
    if !empty.is_empty() {
        notes
            .push(format!("Connections to service ports without endpoints fail: {} have none.", list(empty)));
    }
    let saturated: Vec<String> =
        points.iter().filter(|p| value(p, "cpu_utilisation") > 0.9).map(at).collect();
    if !saturated.is_empty() {
        notes.push(format!("Saturated: packet work takes over 90 % of the cores: {}.", list(saturated)));
    }
    // Without any clients there is no figure of them to be uncertain.
    let is_few = |p: &&PointRecord| (1.0..1000.0).contains(&value(p, "connections"));
    let few: Vec<String> = points.iter().filter(is_few).map(at).collect();
    if !few.is_empty() {
        notes
            .push(format!("Fewer than 1,000 connections were measured, so p99 is uncertain: {}.", list(few)));
    }
    notes
}

/// `RunRecord` -> the run directory, which appears whole or not at all.
fn write(loaded: &Loaded, record: &RunRecord, args: &RunArgs) -> Result<PathBuf, Failure> {
    let name =
        &hash(&[TOOL, &record.scenario_hash, &record.seed.to_string(), &json(&record.profile)])[..RUN_DIGITS];
    let dir = RunDir::begin(&args.out, &record.name, name)?;
    dir.write(Path::new("scenario.toml"), loaded.plan.resolved.as_bytes())?;
    if !loaded.import.is_empty() {
        dir.write(Path::new(IMPORT_FILE), loaded.import.as_bytes())?;
    }
    if !loaded.proxy_config.is_empty() {
        dir.write(Path::new(PROXY_CONFIG_FILE), loaded.proxy_config.as_bytes())?;
    }
    for (path, bytes) in files(record) {
        interrupt::poll()?;
        dir.write(&path, &bytes)?;
    }
    dir.commit()
}

/// The files of a report.
fn files(record: &RunRecord) -> Vec<(PathBuf, Vec<u8>)> {
    Report::new(record).files()
}

/// The result on stdout, its place on stderr.
fn show(record: &RunRecord, place: &Path, args: &RunArgs) -> Result<(), Failure> {
    let report = Report::new(record);
    terminal::print(&match args.output {
        Format::Json => report.json(),
        Format::Csv => report.csv(),
        Format::Md => report.markdown(),
        Format::Table => report.table(TABLE_WIDTH, terminal::stdout_colour()),
    })?;
    for gate in record.gates.iter().filter(|g| !g.passed) {
        eprintln!("gate failed: {}: {}", gate.expect, gate.observed);
    }
    eprintln!("results in {}", place.display());
    Ok(())
}

/// The exit code that a finished run deserves.
fn verdict(record: &RunRecord, args: &RunArgs) -> Exit {
    let extrapolated = record.points.iter().flat_map(|p| &p.metrics).any(|m| m.basis == Basis::Extrapolated);
    if args.strict && extrapolated {
        Exit::OutsideRange
    } else if record.gates.iter().any(|g| !g.passed) {
        Exit::GateFailed
    } else {
        Exit::Fine
    }
}

/// Indented JSON with a newline at its end.
fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("records have text keys and finite numbers");
    text.push('\n');
    text
}
