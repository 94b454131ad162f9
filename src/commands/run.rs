//! `windtunnel run`: the one way through. Text -> `Scenario` -> `Plan` -> `World` -> run -> `RunRecord` -> report.

use crate::cli::{Format, RunArgs};
use crate::commands::load::{Loaded, load};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::output::{RUN_DIGITS, RunDir, hash};
use crate::progress::Progress;
use crate::terminal;
use rayon::prelude::*;
use scenarios::plan::PlannedPoint;
use scenarios::scenario::IMPORT_FILE;
use sim_core::record::{Basis, PointRecord, ProfileRecord, RunRecord, SCHEMA};
use std::path::{Path, PathBuf};

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
    profile: ProfileRecord,
    points: Vec<PointRecord>,
}

/// `Plan` -> `World`s -> run. Points are independent and run on all cores; results keep the order of the plan.
fn simulate(loaded: &Loaded, args: &RunArgs) -> Result<Simulated, Failure> {
    let plan = &loaded.plan;
    let profile = profile(&plan.profile)?;
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
                let record = simulate_point(point)?;
                progress.done(&point.config.proxy.mode);
                Ok(record)
            })
            .collect::<Result<Vec<_>, Failure>>()
    })?;
    interrupt::poll()?;
    Ok(Simulated { profile, points })
}

/// The prices that a run uses, as a record tells them.
fn profile(name: &str) -> Result<ProfileRecord, Failure> {
    Err(Failure::Ours(format!("simulation not built yet: no prices for {name}")))
}

/// One `World`, run to its end.
fn simulate_point(point: &PlannedPoint) -> Result<PointRecord, Failure> {
    Err(Failure::Ours(format!("simulation not built yet: no world for {}", point.config.proxy.mode)))
}

/// Everything a report needs.
fn record(loaded: &Loaded, simulated: Simulated) -> RunRecord {
    let plan = &loaded.plan;
    let fingerprints: Vec<&str> = simulated.points.iter().map(|p| p.fingerprint.as_str()).collect();
    let mut record = RunRecord {
        schema: SCHEMA,
        tool: TOOL.to_owned(),
        name: plan.name.clone(),
        title: plan.title.clone(),
        scenario_hash: hash(&[&plan.resolved, &loaded.import]),
        seed: plan.seed,
        fingerprint: hash(&fingerprints)[..16].to_owned(),
        profile: simulated.profile,
        points: simulated.points,
        charts: plan.charts.clone(),
        crossovers: Vec::new(),
        gates: Vec::new(),
        notes: Vec::new(),
    };
    record.gates = plan.gates.iter().map(|gate| gate.evaluate(&record)).collect();
    record
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
    for (path, bytes) in files(record) {
        interrupt::poll()?;
        dir.write(&path, &bytes)?;
    }
    dir.commit()
}

/// The files of a report.
fn files(record: &RunRecord) -> Vec<(PathBuf, Vec<u8>)> {
    vec![(PathBuf::from("record.json"), json(record).into_bytes())]
}

/// The result on stdout, its place on stderr.
fn show(record: &RunRecord, place: &Path, args: &RunArgs) -> Result<(), Failure> {
    match args.output {
        Format::Json => terminal::print(&json(record))?,
        Format::Table | Format::Csv | Format::Md => {
            return Err(Failure::Ours("tables are not built yet: use -o json".into()));
        }
    }
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
