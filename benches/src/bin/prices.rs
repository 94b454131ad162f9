//! Prices of a profile from measured cells: `prices --profile NAME --estimates TOML FILE.csv...` prints `[price.*]`
//! tables.
//!
//! Every cell of a packet's cost is rebuilt on the measuring rig, which gives the work of its median packet. Prices are
//! the non-negative numbers that make work times prices come nearest to the measured costs: least squares of relative
//! errors, in which the cells of one case, mode and metric together count as the square root of their number, those of
//! components twice. Each price is held to its estimate by one part in a thousand of what a cell holds it to, so that
//! what the cells leave open stays plausible. Cells that their random sample moves by more than 0.4 % are left out.
//! The error of a price is its standard error at the residuals' spread.
//!
//! What a profile in nanoseconds adds for cache lines and for the rig is taken off the measured cost first; those constants
//! are not fitted here. How near cells and estimates hold a price is the estimates file's to say: clocks are less exact than
//! counted instructions. Cells with a known blemish are left out.

use serde::Deserialize;
use sim_core::classify::Unit;
use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{Cell, Measurement, Rig, blemish, is_predicted, parse_csv};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Estimates {
    /// Relative error of a cell that counts once.
    #[serde(default = "cell")]
    cell: f64,
    /// Cells whose random sample moves their median by more say nothing of prices.
    #[serde(default = "sample")]
    sample: f64,
    /// Estimates smaller than this are held as loosely as this.
    #[serde(default = "floor")]
    floor: f64,
    #[serde(default)]
    fixed: BTreeMap<String, f64>,
    estimate: BTreeMap<String, f64>,
}

/// A cell as an equation: its work, its cost, and how much it counts.
struct Equation {
    work: Vec<f64>,
    /// Of the work alone, and with all that is beside it.
    cost: f64,
    measured: f64,
    weight: f64,
}

impl Equation {
    fn predicted(&self, prices: &[f64]) -> f64 {
        self.work.iter().zip(prices).map(|(n, price)| n * price).sum()
    }
}

fn cell() -> f64 {
    0.001
}
fn sample() -> f64 {
    0.004
}
fn floor() -> f64 {
    5.0
}

/// Errors of a cell from which it is an outlier.
const OUTLIER: f64 = 1.5;
/// Relative error that an estimate is given.
const ESTIMATE: f64 = 0.5;
/// Steps of the solver; it stops earlier where nothing moves.
const STEPS: usize = 200_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut profile = "linux-6.1-instructions".to_owned();
    let mut estimates = concat!(env!("CARGO_MANIFEST_DIR"), "/data/prices-6.1.toml").to_owned();
    let mut files = Vec::new();
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--profile" => profile = rest.next().expect("--profile NAME"),
            "--estimates" => estimates = rest.next().expect("--estimates FILE"),
            _ => files.push(arg),
        }
    }
    assert!(!files.is_empty(), "prices [--profile NAME] [--estimates FILE] FILE.csv...");
    let profile = CostProfile::named(&profile).unwrap_or_else(|| panic!("no profile {profile}"));
    let text = std::fs::read_to_string(&estimates).unwrap_or_else(|e| panic!("{estimates}: {e}"));
    let estimates: Estimates = toml::from_str(&text).unwrap_or_else(|e| panic!("{estimates}: {e}"));
    let mut equations = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let cells = parse_csv(&text).unwrap_or_else(|e| panic!("{file}: {}", e.join("; ")));
        equations.extend(of_file(&cells, &profile, &estimates));
    }
    if profile.unit == "ns" {
        hold_outliers(&mut equations, &estimates);
    }
    print(&equations, &estimates);
}

fn of_file(cells: &[Measurement], profile: &CostProfile, estimates: &Estimates) -> Vec<Equation> {
    let mut rigs: BTreeMap<Cell, Option<Rig>> = BTreeMap::new();
    let mut groups: BTreeMap<(String, String, String), Vec<Equation>> = BTreeMap::new();
    let sound = |m: &&Measurement| {
        is_predicted(&m.cell.metric) && !m.cell.metric.starts_with("blob_") && blemish(&m.cell).is_none()
    };
    for m in cells.iter().filter(sound) {
        let rig = rigs.entry(m.cell.ruleset()).or_insert_with(|| Rig::new(&m.cell).ok());
        let Some(Ok(found)) = rig.as_ref().map(|rig| rig.predict(m, profile)) else { continue };
        if found.sampling_error > estimates.sample {
            continue;
        }
        let work: Vec<f64> = Unit::ALL.iter().map(|&unit| f64::from(found.work[unit])).collect();
        let priced: f64 = Unit::ALL.iter().zip(&work).map(|(&unit, n)| profile.price(unit) * n).sum();
        let beside = if profile.unit == "ns" { found.value - priced } else { 0.0 };
        let component = if m.cell.kernel.ends_with("micro") { 2.0 } else { 1.0 };
        let group = (m.cell.case.clone(), m.cell.mode.clone(), m.cell.metric.clone());
        let weight = component / (estimates.cell * m.value);
        let equation = Equation { work, cost: m.value - beside, measured: m.value, weight };
        groups.entry(group).or_default().push(equation);
    }
    let mut out = Vec::new();
    for mut group in groups.into_values() {
        let share = (group.len() as f64).sqrt();
        group.iter_mut().for_each(|e| e.weight /= share);
        out.extend(group);
    }
    out
}

/// Clocks have outliers: cells that are far off count less, by how far (Huber), and the rest is fitted again.
fn hold_outliers(equations: &mut [Equation], estimates: &Estimates) {
    let full: Vec<f64> = equations.iter().map(|e| e.weight).collect();
    for _ in 0..6 {
        let prices = fit(equations, estimates).prices;
        for (e, full) in equations.iter_mut().zip(&full) {
            let off = (e.predicted(&prices) - e.cost).abs() / (OUTLIER * estimates.cell * e.measured);
            e.weight = full / off.max(1.0).sqrt();
        }
    }
}

/// Prices of all units, and what the errors of the free ones follow from.
struct Fit {
    free: Vec<Unit>,
    prices: Vec<f64>,
    matrix: Vec<Vec<f64>>,
}

fn fit(equations: &[Equation], estimates: &Estimates) -> Fit {
    let fixed = |unit: &Unit| estimates.fixed.get(unit.name()).copied();
    let mut prices: Vec<f64> = Unit::ALL.iter().map(|unit| fixed(unit).unwrap_or(0.0)).collect();
    let free: Vec<Unit> = Unit::ALL
        .iter()
        .copied()
        .filter(|unit| estimates.estimate.contains_key(unit.name()))
        .filter(|unit| equations.iter().any(|e| e.work[*unit as usize] != 0.0))
        .collect();
    let n = free.len();
    // The normal equations, with a line for each estimate.
    let (mut matrix, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
    for e in equations {
        let rest = e.cost - e.predicted(&prices);
        for (i, a) in free.iter().enumerate() {
            let weighted = e.work[*a as usize] * e.weight * e.weight;
            right[i] += weighted * rest;
            for (j, b) in free.iter().enumerate() {
                matrix[i][j] += weighted * e.work[*b as usize];
            }
        }
    }
    for (i, unit) in free.iter().enumerate() {
        let estimate = estimates.estimate[unit.name()];
        let weight = (ESTIMATE * estimate.max(estimates.floor)).powi(-2);
        matrix[i][i] += weight;
        right[i] += weight * estimate;
    }
    let start: Vec<f64> = free.iter().map(|unit| estimates.estimate[unit.name()]).collect();
    for (unit, price) in free.iter().zip(solve(&matrix, &right, start)) {
        prices[*unit as usize] = price;
    }
    Fit { free, prices, matrix }
}

fn print(equations: &[Equation], estimates: &Estimates) {
    let Fit { free, prices, matrix } = fit(equations, estimates);
    let mut errors: Vec<f64> = Vec::new();
    let mut squares = 0.0;
    for e in equations {
        let off = e.predicted(&prices) - e.cost;
        errors.push((off / e.measured).abs());
        squares += (off * e.weight).powi(2);
    }
    errors.sort_by(f64::total_cmp);
    let spread = squares / (equations.len().saturating_sub(free.len()).max(1)) as f64;
    println!(
        "# {} cells, error median {:.3}%, 95th percentile {:.2}%, max {:.2}%",
        errors.len(),
        errors[errors.len() / 2] * 100.0,
        errors[errors.len() * 95 / 100] * 100.0,
        errors[errors.len() - 1] * 100.0
    );
    let variance = inverse_diagonal(&matrix);
    for unit in Unit::ALL {
        let error = match free.iter().position(|u| u == unit) {
            Some(at) => (variance[at] * spread.max(1.0)).sqrt(),
            None if estimates.fixed.contains_key(unit.name()) => 0.0,
            None => continue,
        };
        let value = prices[*unit as usize];
        println!("[price.{}]\nvalue = {value:.2}\nerror = {error:.2}\n", unit.name());
    }
}

/// The least of a convex quadratic over non-negative numbers, coordinate by coordinate.
fn solve(matrix: &[Vec<f64>], right: &[f64], mut x: Vec<f64>) -> Vec<f64> {
    for _ in 0..STEPS {
        let mut moved = 0.0f64;
        for i in 0..x.len() {
            let slope: f64 = matrix[i].iter().zip(&x).map(|(a, b)| a * b).sum::<f64>() - right[i];
            let next = (x[i] - slope / matrix[i][i]).max(0.0);
            moved = moved.max((next - x[i]).abs());
            x[i] = next;
        }
        if moved < 1e-7 {
            break;
        }
    }
    x
}

/// The diagonal of a positive definite matrix's inverse, by Gauss and Jordan.
fn inverse_diagonal(matrix: &[Vec<f64>]) -> Vec<f64> {
    let n = matrix.len();
    let mut rows: Vec<Vec<f64>> = matrix
        .iter()
        .enumerate()
        .map(|(i, row)| row.iter().copied().chain((0..n).map(|j| f64::from(u8::from(i == j)))).collect())
        .collect();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).expect("a row");
        rows.swap(i, pivot);
        let scale = rows[i][i];
        rows[i].iter_mut().for_each(|v| *v /= scale);
        let line = rows[i].clone();
        for (k, row) in rows.iter_mut().enumerate() {
            let factor = row[i];
            if k != i && factor != 0.0 {
                row.iter_mut().zip(&line).for_each(|(v, l)| *v -= factor * l);
            }
        }
    }
    (0..n).map(|i| rows[i][n + i]).collect()
}
