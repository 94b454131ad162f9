//! Prices of control-plane work from measured cells: `sync_prices --profile NAME --section sync|tool|memory FILE.csv...`
//! prints the section's tables of a profile, and how near they come.
//!
//! Every cell is turned into the work that was done ([`sim_models::rig::ControlCell`]): runs of tools, or whole syncs of
//! kube-proxy, of which some cells measured a part (processor time of one side, time until traffic). Prices are the
//! non-negative numbers that make work times prices come nearest to what was measured: least squares of relative
//! errors, the cells of one mode and metric together counting as the square root of their number, cells that are far off
//! counting less by how far (Huber). Cells with a known blemish are left out. Of units that always go together one
//! takes the price. Prices of whole syncs are held, loosely, to those of the tools alone in the same profile: they
//! decide what the syncs leave open. The error of a price is its standard error at the residuals' spread.
//!
//! The profiles' sections come from, with the files of `sim-models/tests/rig/control/`:
//! `--profile linux-6.18 --section sync host618.csv`, `--section memory` and `--section tool` with the same file,
//! `--profile linux-6.12-uml --section tool uml612.csv`, `--profile linux-6.1-instructions --section tool tcg61.csv`.

use sim_models::proxy::sync::{SyncWork, memory};
use sim_models::rig::{ControlCell, Measure, Measurement, blemish, is_control, parse_csv};
use std::collections::BTreeMap;

/// A cell as an equation: how much of each unit, and the cost.
struct Equation {
    name: String,
    metric: String,
    work: Vec<f64>,
    cost: f64,
    full: f64,
    weight: f64,
}

impl Equation {
    fn predicted(&self, prices: &[f64]) -> f64 {
        self.work.iter().zip(prices).map(|(n, price)| n * price).sum()
    }
}

/// Relative error from which a cell counts less.
const OUTLIER: f64 = 0.10;
/// How firmly a price of a whole sync is held to that of the tool alone: being off by all of it counts as much as a cell that
/// is off by this.
const HOLD: f64 = 0.03;
/// Rounds of weighing.
const ROUNDS: usize = 12;
/// Steps of the solver; it stops earlier where nothing moves.
const STEPS: usize = 60_000;

fn main() {
    let (mut instructions, mut near) = (false, vec![0.0; SyncWork::NAMES.len()]);
    let (mut kernel, mut section, mut files) = (String::new(), "sync".to_owned(), Vec::new());
    let mut all = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--profile" => {
                let name = args.next().expect("--profile NAME");
                let profile = sim_models::kernel::cost::CostProfile::named(&name);
                let profile = profile.unwrap_or_else(|| panic!("no profile {name}"));
                instructions = profile.unit != "ns";
                // What the tools leave open says nothing.
                let told = |price: f64| if price < 0.001 { 0.0 } else { price };
                near = SyncWork::NAMES.iter().map(|name| told(profile.tool_price(name))).collect();
                kernel = profile.kernel;
            }
            "--section" => section = args.next().expect("--section sync|tool|memory"),
            "--all" => all = true,
            _ => files.push(arg),
        }
    }
    assert!(!files.is_empty(), "sync_prices --profile NAME [--section sync|tool|memory] [--all] FILE.csv...");
    let mut equations = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let cells = parse_csv(&text).unwrap_or_else(|e| panic!("{file}: {}", e.join("; ")));
        equations.extend(cells.iter().filter(|m| m.cell.kernel == kernel).filter_map(|m| of_cell(m, &section)));
    }
    assert!(!equations.is_empty(), "no cell of {kernel} is of section {section}");
    if section != "sync" {
        near.clear();
    }
    if instructions {
        // Caches take no instructions.
        let far = |at: usize| SyncWork::NAMES.get(at).is_some_and(|name| name.contains("far_"));
        for e in &mut equations {
            e.work.iter_mut().enumerate().filter(|(at, _)| far(*at)).for_each(|(_, n)| *n = 0.0);
        }
    }
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    equations.iter().for_each(|e| *groups.entry(e.metric.clone()).or_default() += 1);
    for e in &mut equations {
        e.full = 1.0 / e.cost / (groups[&e.metric] as f64).sqrt().sqrt();
        e.weight = e.full;
    }
    let mut prices = fit(&equations, &near).0;
    for _ in 0..ROUNDS {
        for e in &mut equations {
            let off = (e.predicted(&prices) / e.cost - 1.0).abs() / OUTLIER;
            e.weight = e.full / off.max(1.0).sqrt();
        }
        prices = fit(&equations, &near).0;
    }
    print(&equations, &near, &names(&section), &section, &files, all);
}

/// Names of what the section prices.
fn names(section: &str) -> Vec<&'static str> {
    match section {
        "memory" => {
            memory::quantities(&Default::default(), &SyncWork::default()).iter().map(|(n, _)| *n).collect()
        }
        _ => SyncWork::NAMES.to_vec(),
    }
}

fn of_cell(m: &Measurement, section: &str) -> Option<Equation> {
    if !is_control(&m.cell.metric) || blemish(&m.cell).is_some() || m.value == 0.0 {
        return None;
    }
    let cell = ControlCell::of(&m.cell).ok()?;
    let of_section = match cell.measure {
        Measure::Tool => "tool",
        Measure::Memory => "memory",
        _ => "sync",
    };
    if of_section != section {
        return None;
    }
    let work: Vec<f64> = match section {
        "memory" => memory::quantities(&cell.table, &cell.work).iter().map(|(_, n)| *n as f64).collect(),
        _ => SyncWork::NAMES
            .iter()
            .map(|unit| cell.measure.of(&cell.work.parts(|name| f64::from(u8::from(name == *unit)))))
            .collect(),
    };
    // Milliseconds and millions of instructions; prices are in thousandths of them.
    let cost = if section == "memory" { m.value } else { m.value * 1000.0 };
    let name = format!("{} {} {}x{} {}", m.cell.case, m.cell.mode, m.cell.services, m.cell.endpoints, m.cell.metric);
    let metric = format!("{} {}", m.cell.mode.split('-').next().unwrap_or_default(), m.cell.metric);
    Some(Equation { name, metric, work, cost, full: 0.0, weight: 0.0 })
}

/// Prices of all units, and the inverse's diagonal of the free ones (those with work).
fn fit(equations: &[Equation], near: &[f64]) -> (Vec<f64>, Vec<(usize, f64)>) {
    let units = equations[0].work.len();
    let free: Vec<usize> =
        (0..units).filter(|&u| equations.iter().any(|e| e.work[u] != 0.0)).collect();
    let scale: Vec<f64> = free
        .iter()
        .map(|&u| equations.iter().map(|e| (e.work[u] * e.weight).powi(2)).sum::<f64>().sqrt())
        .collect();
    let n = free.len();
    let (mut matrix, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
    for e in equations {
        let row: Vec<f64> = free.iter().zip(&scale).map(|(&u, s)| e.work[u] * e.weight / s).collect();
        for i in (0..n).filter(|&i| row[i] != 0.0) {
            right[i] += row[i] * e.cost * e.weight;
            for j in 0..n {
                matrix[i][j] += row[i] * row[j];
            }
        }
    }
    for (i, line) in matrix.iter_mut().enumerate() {
        // Columns that are the same but for their size: the earlier one takes the price.
        line[i] += 1e-9;
        let estimate = near.get(free[i]).copied().unwrap_or(0.0) * scale[i];
        if estimate > 0.0 {
            line[i] += (HOLD / estimate).powi(2);
            right[i] += HOLD.powi(2) / estimate;
        }
    }
    let scaled = solve(&matrix, &right);
    let mut prices = vec![0.0; units];
    let mut variance = Vec::new();
    for (i, &u) in free.iter().enumerate() {
        prices[u] = scaled[i] / scale[i];
        variance.push((u, 1.0 / (matrix[i][i] * scale[i] * scale[i])));
    }
    (prices, variance)
}

/// The least of a convex quadratic over non-negative numbers, coordinate by coordinate.
fn solve(matrix: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut x = vec![0.0; right.len()];
    for _ in 0..STEPS {
        let mut moved = 0.0f64;
        for i in 0..x.len() {
            let slope: f64 = matrix[i].iter().zip(&x).map(|(a, b)| a * b).sum::<f64>() - right[i];
            let next = (x[i] - slope / matrix[i][i]).max(0.0);
            moved = moved.max((next - x[i]).abs());
            x[i] = next;
        }
        if moved < 1e-9 {
            break;
        }
    }
    x
}

fn print(equations: &[Equation], near: &[f64], names: &[&str], section: &str, files: &[String], all: bool) {
    let (prices, variance) = fit(equations, near);
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut squares = 0.0;
    for e in equations {
        let error = e.predicted(&prices) / e.cost - 1.0;
        if all {
            println!("# {}: {:.1} measured, {:.1} predicted, {:+.1}%", e.name, e.cost, e.predicted(&prices), error * 100.0);
        }
        squares += ((e.predicted(&prices) - e.cost) * e.weight).powi(2);
        groups.entry(&e.metric).or_default().push(error.abs());
    }
    for (metric, errors) in &mut groups {
        errors.sort_by(f64::total_cmp);
        let at = |share: usize| errors[(errors.len() * share).div_ceil(100).max(1) - 1] * 100.0;
        println!("# {metric}: {} cells, median {:.1}%, p90 {:.1}%", errors.len(), at(50), at(90));
    }
    let spread = squares / equations.len().saturating_sub(variance.len()).max(1) as f64;
    let base = |file: &String| file.rsplit('/').next().unwrap_or_default().to_owned();
    let files: Vec<String> = files.iter().map(base).collect();
    for (u, variance) in variance {
        let (value, error) = (prices[u], (variance * spread).sqrt());
        println!("[{section}.{}]\nvalue = {value:.5}\nerror = {error:.5}", names[u]);
        println!("source = \"{}: the sync_prices bin of windtunnel-benches\"\n", files.join(", "));
    }
}
