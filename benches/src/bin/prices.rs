//! Prices of a profile from measured cells: `prices --profile NAME --estimates TOML FILE.csv...` prints `[price.*]`
//! tables.
//!
//! Every cell of a packet's cost is rebuilt on the measuring rig, which gives the work of its median packet. Prices are
//! the non-negative numbers that make work times prices come nearest to the measured costs: least squares of relative
//! errors, in which the cells of one case, mode and metric together count as the square root of their number, those of
//! components twice. Each price is held to its estimate by one part in a thousand of what a cell holds it to, so that
//! what the cells leave open stays plausible. Cells that their random sample moves by more than 0.4 % are left out.
//! The error of a price is its standard error at the residuals' spread.

use serde::Deserialize;
use sim_core::classify::Unit;
use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{Cell, Measurement, Rig, is_predicted, parse_csv};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Estimates {
    fixed: BTreeMap<String, f64>,
    estimate: BTreeMap<String, f64>,
}

/// A cell as an equation: its work, its cost, and how much it counts.
struct Equation {
    work: Vec<f64>,
    cost: f64,
    weight: f64,
}

/// Relative error of a cell that counts once.
const CELL: f64 = 0.001;
/// Relative error that an estimate is given.
const ESTIMATE: f64 = 0.5;
/// Samples that move a median by more say nothing of prices.
const SAMPLE: f64 = 0.004;
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
        equations.extend(of_file(&cells, &profile));
    }
    print(&equations, &estimates);
}

fn of_file(cells: &[Measurement], profile: &CostProfile) -> Vec<Equation> {
    let mut rigs: BTreeMap<Cell, Option<Rig>> = BTreeMap::new();
    let mut groups: BTreeMap<(String, String, String), Vec<Equation>> = BTreeMap::new();
    for m in cells.iter().filter(|m| is_predicted(&m.cell.metric) && !m.cell.metric.starts_with("blob_")) {
        let rig = rigs.entry(m.cell.ruleset()).or_insert_with(|| Rig::new(&m.cell).ok());
        let Some(Ok(found)) = rig.as_ref().map(|rig| rig.predict(m, profile)) else { continue };
        if found.sampling_error > SAMPLE {
            continue;
        }
        let work = Unit::ALL.iter().map(|&unit| f64::from(found.work[unit])).collect();
        let component = if m.cell.kernel.ends_with("micro") { 2.0 } else { 1.0 };
        let group = (m.cell.case.clone(), m.cell.mode.clone(), m.cell.metric.clone());
        let equation = Equation { work, cost: m.value, weight: component / (CELL * m.value) };
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

fn print(equations: &[Equation], estimates: &Estimates) {
    let fixed = |unit: &Unit| estimates.fixed.get(unit.name()).copied();
    let cost_of_fixed = |e: &Equation| -> f64 {
        Unit::ALL.iter().map(|unit| fixed(unit).unwrap_or(0.0) * e.work[*unit as usize]).sum()
    };
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
        let rest = e.cost - cost_of_fixed(e);
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
        let weight = (ESTIMATE * estimate.max(5.0)).powi(-2);
        matrix[i][i] += weight;
        right[i] += weight * estimate;
    }
    let start: Vec<f64> = free.iter().map(|unit| estimates.estimate[unit.name()]).collect();
    let prices = solve(&matrix, &right, start);
    let all = |unit: Unit| match free.iter().position(|u| *u == unit) {
        Some(at) => prices[at],
        None => fixed(&unit).unwrap_or(0.0),
    };
    let mut errors: Vec<f64> = Vec::new();
    let mut squares = 0.0;
    for e in equations {
        let cost: f64 = Unit::ALL.iter().map(|&unit| all(unit) * e.work[unit as usize]).sum();
        errors.push((cost / e.cost - 1.0).abs());
        squares += ((cost - e.cost) * e.weight).powi(2);
    }
    errors.sort_by(f64::total_cmp);
    let spread = squares / (equations.len().saturating_sub(n).max(1)) as f64;
    println!(
        "# {} cells, error median {:.3}%, 95th percentile {:.2}%, max {:.2}%",
        errors.len(),
        errors[errors.len() / 2] * 100.0,
        errors[errors.len() * 95 / 100] * 100.0,
        errors[errors.len() - 1] * 100.0
    );
    let variance = inverse_diagonal(&matrix);
    for unit in Unit::ALL {
        let (value, error) = match (free.iter().position(|u| u == unit), fixed(unit)) {
            (Some(at), _) => (prices[at], (variance[at] * spread.max(1.0)).sqrt()),
            (None, Some(value)) => (value, 0.0),
            (None, None) => continue,
        };
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
