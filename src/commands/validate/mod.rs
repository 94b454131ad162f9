//! `windtunnel validate`: measured against predicted, cell by cell.
//!
//! Every cell of the file is rebuilt on the measuring rig ([`sim_models::rig`]), its packets are classified, or its run
//! of a tool or sync of kube-proxy is counted ([`control`]), and the profile prices the work. A cell that cannot be predicted is listed with the reason, never left out in
//! silence; a cell known to be blemished is told apart, and not held against the profile.

mod control;
mod packets;

use crate::cli::{Format, ValidateArgs};
use crate::exit::{Exit, Failure};
use crate::terminal;
use rayon::prelude::*;
use serde::Serialize;
use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{self, Cell, Measurement, Rig};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};

/// The whole result.
#[derive(Serialize)]
struct Validation {
    profile: String,
    cells: Vec<CellResult>,
    median_abs_error: Option<f64>,
    p90_abs_error: Option<f64>,
    p95_abs_error: Option<f64>,
    max_abs_error: Option<f64>,
    /// Errors by metric, the same four figures.
    by_metric: BTreeMap<String, ErrorSummary>,
    /// The same by case and mode.
    by_case: BTreeMap<String, ErrorSummary>,
    /// Where two modes cross at random position with one endpoint, measured and predicted.
    crossovers: Vec<rig::CellCrossover>,
    /// Cells that hang on which Services or endpoints their packets happened to meet.
    by_chance: Vec<CellResult>,
    skipped: Vec<Skipped>,
    blemished: Vec<CellResult>,
}

#[derive(Serialize)]
struct ErrorSummary {
    cells: usize,
    median_abs_error: f64,
    p90_abs_error: f64,
    p95_abs_error: f64,
    max_abs_error: f64,
}

impl Display for ErrorSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (median, p95) = (self.median_abs_error * 100.0, self.p95_abs_error * 100.0);
        let (n, p90, max) = (self.cells, self.p90_abs_error * 100.0, self.max_abs_error * 100.0);
        write!(f, "{n} cells, error median {median:.2}%, p90 {p90:.2}%, p95 {p95:.2}%, max {max:.2}%")
    }
}

#[derive(Clone, Serialize)]
struct CellResult {
    case: String,
    mode: String,
    services: u32,
    endpoints: u32,
    position: String,
    metric: String,
    unit: String,
    measured: f64,
    predicted: f64,
    /// (predicted - measured) / measured.
    error: f64,
    /// Standard error of the measured median that comes from its 200 random packets, as a share.
    sampling_error: f64,
    /// Why the cell is not held against the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    blemish: Option<&'static str>,
    #[serde(skip)]
    work: String,
}

#[derive(Serialize)]
struct Skipped {
    case: String,
    mode: String,
    services: u32,
    endpoints: u32,
    position: String,
    metric: String,
    reason: String,
}

/// A predicted cell.
struct Found {
    value: f64,
    /// Of a packet's cost: standard error that the choice of Services and endpoints causes.
    sampling_error: f64,
    by_chance: Option<rig::Prediction>,
    /// The work, spelt out.
    work: String,
}

impl Found {
    fn is_by_chance(&self, measured: f64) -> bool {
        self.by_chance.as_ref().is_some_and(|prediction| prediction.is_by_chance(measured))
    }
}

impl From<rig::Prediction> for Found {
    fn from(prediction: rig::Prediction) -> Self {
        let work: Vec<String> =
            prediction.work.iter().map(|(unit, n)| format!("{}={n}", unit.name())).collect();
        let at = &prediction.locality;
        let work = format!(
            "{};table_lines={} lines_per_service={} lines_per_endpoint={}",
            work.join(" "),
            at.table_lines,
            at.lines_per_service,
            at.lines_per_endpoint
        );
        let (value, sampling_error) = (prediction.value, prediction.sampling_error);
        Found { value, sampling_error, by_chance: Some(prediction), work }
    }
}

/// Predicts every cell of the file.
pub fn validate(args: &ValidateArgs) -> Result<Exit, Failure> {
    let profile = profile(&args.profile)?;
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|e| Failure::Input(format!("error: cannot read {name}: {e}\n")))?;
    if args.file.extension().is_some_and(|e| e == "jsonl") {
        return packets::validate(args, &profile, &text);
    }
    let measurements = rig::parse_csv(&text).map_err(|errors| {
        Failure::Input(errors.iter().map(|e| format!("error: {name}:{e}\n")).collect::<String>())
    })?;
    let chosen: Vec<&Measurement> = measurements
        .iter()
        .filter(|m| args.metric.is_empty() || args.metric.contains(&m.cell.metric))
        .collect();
    if let Some(unknown) =
        args.metric.iter().find(|name| !measurements.iter().any(|m| m.cell.metric == **name))
    {
        let mut names: Vec<&str> = measurements.iter().map(|m| m.cell.metric.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        return Err(Failure::Input(format!("error: {name} has no metric {unknown}; it has {names}\n")));
    }
    let validation = compare(&profile, &chosen);
    let text = match args.output {
        Format::Json => {
            serde_json::to_string_pretty(&validation).expect("numbers are finite and keys are text") + "\n"
        }
        Format::Csv => csv(&validation),
        Format::Table | Format::Md => table(&validation, args.output == Format::Md),
    };
    terminal::print(&text)?;
    Ok(gate(args, validation.max_abs_error))
}

/// Whether the greatest error passes `--max-error`.
fn gate(args: &ValidateArgs, worst: Option<f64>) -> Exit {
    match (args.max_error, worst) {
        (Some(limit), Some(worst)) if worst > limit => {
            eprintln!("max error {:.1}% exceeds {:.1}%", worst * 100.0, limit * 100.0);
            Exit::GateFailed
        }
        (Some(_), None) => {
            eprintln!("nothing of this file could be predicted");
            Exit::GateFailed
        }
        _ => Exit::Fine,
    }
}

fn profile(name: &str) -> Result<CostProfile, Failure> {
    CostProfile::named(name).ok_or_else(|| {
        let names: Vec<&str> = sim_models::kernel::cost::PROFILES.iter().map(|(n, _)| *n).collect();
        let near = scenarios::diagnostic::did_you_mean(name, names.iter().copied());
        let near = near.map_or(String::new(), |n| format!("; did you mean {n}?"));
        Failure::Input(format!("error: no profile {name}: there are {}{near}\n", names.join(", ")))
    })
}

fn compare(profile: &CostProfile, measurements: &[&Measurement]) -> Validation {
    // One rig for all cells of a ruleset.
    let mut groups: BTreeMap<Cell, Vec<usize>> = BTreeMap::new();
    for (i, m) in measurements.iter().enumerate() {
        groups.entry(m.cell.ruleset()).or_default().push(i);
    }
    let groups: Vec<(Cell, Vec<usize>)> = groups.into_iter().collect();
    let mut outcomes: Vec<(usize, Result<Found, rig::Unpredicted>)> = groups
        .par_iter()
        .flat_map_iter(|(ruleset, members)| {
            let wanted = members.iter().any(|&i| rig::is_predicted(&measurements[i].cell.metric));
            let built = if wanted { Some(Rig::new(ruleset)) } else { None };
            members
                .iter()
                .map(|&i| {
                    let cell = &measurements[i].cell;
                    let outcome = match &built {
                        _ if rig::is_control(&cell.metric) => control::predict(measurements[i], profile),
                        Some(Ok(rig)) => rig.predict(measurements[i], profile).map(Found::from),
                        Some(Err(e)) => Err(e.clone()),
                        None => Err(rig::Unpredicted::metric(&cell.metric)),
                    };
                    (i, outcome)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    outcomes.sort_by_key(|(i, _)| *i);
    let mut validation = Validation {
        profile: profile.name.clone(),
        cells: Vec::new(),
        median_abs_error: None,
        p90_abs_error: None,
        p95_abs_error: None,
        max_abs_error: None,
        by_metric: BTreeMap::new(),
        by_case: BTreeMap::new(),
        crossovers: Vec::new(),
        by_chance: Vec::new(),
        skipped: Vec::new(),
        blemished: Vec::new(),
    };
    let mut pairs = Vec::new();
    for (i, outcome) in outcomes {
        let m = measurements[i];
        let cell = &m.cell;
        match outcome {
            Err(reason) => validation.skipped.push(Skipped {
                case: cell.case.clone(),
                mode: cell.mode.clone(),
                services: cell.services,
                endpoints: cell.endpoints,
                position: cell.position.clone(),
                metric: cell.metric.clone(),
                reason: reason.to_string(),
            }),
            Ok(found) => {
                pairs.push((m.clone(), found.value));
                let by_chance = found.is_by_chance(m.value);
                let blemish = rig::blemish(cell);
                let result = CellResult {
                    case: cell.case.clone(),
                    mode: cell.mode.clone(),
                    services: cell.services,
                    endpoints: cell.endpoints,
                    position: cell.position.clone(),
                    metric: cell.metric.clone(),
                    unit: m.unit.clone(),
                    measured: m.value,
                    predicted: found.value,
                    error: (found.value - m.value) / m.value,
                    sampling_error: found.sampling_error,
                    blemish,
                    work: found.work,
                };
                let list = match blemish {
                    Some(_) => &mut validation.blemished,
                    None if by_chance => &mut validation.by_chance,
                    None => &mut validation.cells,
                };
                list.push(result);
            }
        }
    }
    validation.crossovers = rig::crossovers(&pairs);
    summarise(&mut validation);
    validation
}

fn summarise(validation: &mut Validation) {
    let group = |key: &dyn Fn(&CellResult) -> String| {
        let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for cell in &validation.cells {
            groups.entry(key(cell)).or_default().push(cell.error.abs());
        }
        groups.into_iter().filter_map(|(name, errors)| Some((name, summary(errors)?))).collect()
    };
    let by_metric = group(&|cell| cell.metric.clone());
    let by_case = group(&|cell| format!("{} {}", cell.case, cell.mode));
    (validation.by_metric, validation.by_case) = (by_metric, by_case);
    let all: Vec<f64> = validation.cells.iter().map(|c| c.error.abs()).collect();
    if let Some(s) = summary(all) {
        validation.median_abs_error = Some(s.median_abs_error);
        validation.p90_abs_error = Some(s.p90_abs_error);
        validation.p95_abs_error = Some(s.p95_abs_error);
        validation.max_abs_error = Some(s.max_abs_error);
    }
}

/// Median, 90th and 95th percentile (the smallest error that so many cells do not exceed) and maximum.
fn summary(mut errors: Vec<f64>) -> Option<ErrorSummary> {
    errors.sort_by(f64::total_cmp);
    let n = errors.len();
    let max_abs_error = *errors.last()?;
    let median_abs_error = (errors[(n - 1) / 2] + errors[n / 2]) / 2.0;
    let percentile = |share: usize| errors[(n * share).div_ceil(100) - 1];
    let (p90_abs_error, p95_abs_error) = (percentile(90), percentile(95));
    Some(ErrorSummary { cells: n, median_abs_error, p90_abs_error, p95_abs_error, max_abs_error })
}

const HEADINGS: [&str; 8] = ["case", "mode", "size", "at", "metric", "measured", "predicted", "error"];

fn row(cell: &CellResult) -> [String; 8] {
    // Five digits say enough; more would not fit a line of 100.
    let figure = |v: f64| if v < 10_000.0 { format!("{v:.1}") } else { format!("{v:.0}") };
    [
        cell.case.clone(),
        cell.mode.clone(),
        format!("{}x{}", cell.services, cell.endpoints),
        cell.position.clone(),
        cell.metric.clone(),
        figure(cell.measured),
        figure(cell.predicted),
        format!("{:+.2}%", cell.error * 100.0),
    ]
}

fn table(validation: &Validation, markdown: bool) -> String {
    let mut out = String::new();
    let rows: Vec<[String; 8]> = validation.cells.iter().map(row).collect();
    lines(&mut out, &rows, markdown);
    if !validation.blemished.is_empty() {
        out.push_str("\nBlemished cells, not held against the profile:\n");
        for cell in &validation.blemished {
            let _ = writeln!(out, "  {}: {}", row(cell).join(" "), cell.blemish.unwrap_or_default());
        }
    }
    if !validation.by_chance.is_empty() {
        out.push_str("\nDecided by the Services or endpoints that 200 packets happened to meet, not held against it:\n");
        for cell in &validation.by_chance {
            let _ = writeln!(
                out,
                "  {}: its sample's standard error is {:.1}%",
                row(cell).join(" "),
                cell.sampling_error * 100.0
            );
        }
    }
    if !validation.skipped.is_empty() {
        out.push_str("\nSkipped:\n");
        let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for s in &validation.skipped {
            *reasons.entry((s.metric.as_str(), s.reason.as_str())).or_default() += 1;
        }
        for ((metric, reason), n) in reasons {
            let _ = writeln!(out, "  {n:4} x {metric}: {reason}");
        }
    }
    out.push('\n');
    for (name, s) in validation.by_case.iter().chain(&validation.by_metric) {
        let _ = writeln!(out, "{name}: {s}");
    }
    if let Some(all) = summary(validation.cells.iter().map(|c| c.error.abs()).collect()) {
        let _ = writeln!(out, "all: {all}");
    }
    for c in &validation.crossovers {
        let at = |x: Option<f64>| x.map_or("nowhere".to_owned(), |v| format!("{v:.0}"));
        let (measured, predicted) = (at(c.measured), at(c.predicted));
        let _ = writeln!(
            out,
            "{} beats {} from: {measured} Services measured, {predicted} predicted",
            c.better, c.worse
        );
    }
    out
}

fn lines(out: &mut String, rows: &[[String; 8]], markdown: bool) {
    let mut width = HEADINGS.map(str::len);
    for row in rows {
        for (w, text) in width.iter_mut().zip(row) {
            *w = (*w).max(text.len());
        }
    }
    let mut line = |cells: [&str; 8]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(i, c)| {
                if i >= 5 || i == 2 {
                    format!("{c:>w$}", w = width[i])
                } else {
                    format!("{c:<w$}", w = width[i])
                }
            })
            .collect();
        let text = if markdown { format!("| {} |", padded.join(" | ")) } else { padded.join("  ") };
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(HEADINGS);
    if markdown {
        line(["---"; 8]);
    }
    for row in rows {
        line(std::array::from_fn(|i| row[i].as_str()));
    }
}

fn csv(validation: &Validation) -> String {
    let mut out = String::from(
        "case,mode,services,endpoints,position,metric,unit,measured,predicted,error,sampling_error,work\n",
    );
    for c in validation.cells.iter().chain(&validation.by_chance).chain(&validation.blemished) {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{:.3},{:.6},{:.6},{}",
            c.case,
            c.mode,
            c.services,
            c.endpoints,
            c.position,
            c.metric,
            c.unit,
            c.measured,
            c.predicted,
            c.error,
            c.sampling_error,
            c.work
        );
    }
    out
}
