//! [`Sheet`]: a record's figures as formatted cells, ready for the terminal, Markdown or HTML.
//!
//! With a sweep there is a block per metric, a row per mode and a column per swept value. Without one there is a
//! block per group, a row per metric and a column per mode. The lowest value among modes is marked best where lower
//! is better and the modes differ as printed; extrapolated values are marked too, so that no figure looks firmer than
//! it is.

use crate::grid::{Grid, axis_value};
use crate::metrics::{self, Group};
use crate::{crossover, human};
use sim_core::record::{Basis, Fixed, Metric, RunRecord};

/// A table of blocks that share their columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// What each line of the column heads is: swept keys, or `mode`.
    pub corner: Vec<String>,
    /// Column heads, one text per line of the corner.
    pub heads: Vec<Vec<String>>,
    /// Blocks in the order of the known metrics.
    pub blocks: Vec<Block>,
    /// Labels of metrics that are zero everywhere and therefore have no block.
    pub zero: Vec<String>,
    /// Labels and figures of metrics that read the same at every swept value in every mode.
    pub same: Vec<String>,
}

/// Rows under a common heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Group of the block's metrics.
    pub group: Group,
    /// Heading.
    pub title: String,
    /// What the figures rest on.
    pub basis: String,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One row of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Mode or metric.
    pub label: String,
    /// One cell per column; `None` where there is no figure.
    pub cells: Vec<Option<Cell>>,
}

/// One formatted figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The number with its unit.
    pub text: String,
    /// The best among the modes.
    pub best: bool,
    /// Outside the calibrated range.
    pub extrapolated: bool,
}

impl Sheet {
    /// The figures of a record; with `detail` also those metrics that the terminal leaves out.
    pub fn new(record: &RunRecord, detail: bool) -> Self {
        let grid = Grid::new(&record.points);
        let names: Vec<&str> = grid.metric_names();
        let wanted = |name: &&str| detail || metrics::find(name).is_none_or(|known| !known.detail);
        let (zero, shown): (Vec<&str>, Vec<&str>) =
            names.into_iter().filter(wanted).partition(|name| is_zero(&grid, name));
        let zero = zero.into_iter().map(|name| metrics::label(name).to_owned()).collect();
        if grid.axes.is_empty() {
            Self::by_metric(&grid, &shown, zero)
        } else {
            Self::by_mode(&grid, &shown, zero)
        }
    }

    fn by_mode(grid: &Grid, names: &[&str], zero: Vec<String>) -> Self {
        let unit_of = |i: usize| {
            let columns = 0..grid.columns.len();
            let mut points = columns.flat_map(|column| (0..grid.modes.len()).map(move |mode| (mode, column)));
            points.find_map(|(mode, column)| grid.point(mode, column)).map(|point| (point, grid.axes[i]))
        };
        let text = |(i, value): (usize, &Option<Fixed>)| match (value, unit_of(i)) {
            (Some(value), Some((point, key))) => axis_value(point, key, *value),
            _ => "-".to_owned(),
        };
        let (same, differing): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| the_same(grid, name).is_some());
        let told = |name: &&str| the_same(grid, name).map(|text| format!("{} {text}", metrics::label(name)));
        let same = same.iter().filter_map(told).collect();
        let block = |name: &&str| {
            let figures: Vec<Vec<Option<&Metric>>> = (0..grid.modes.len())
                .map(|mode| (0..grid.columns.len()).map(|column| grid.metric(mode, column, name)).collect())
                .collect();
            let mut cells: Vec<Vec<_>> =
                figures.iter().map(|row| row.iter().map(|m| m.map(cell)).collect()).collect();
            if metrics::find(name).is_some_and(|known| known.lower_is_better) {
                for column in 0..grid.columns.len() {
                    let best = best(figures.iter().map(|row| row[column]));
                    mark(cells.iter_mut().map(|row| row[column].as_mut()), best);
                }
            }
            let rows =
                grid.modes.iter().cloned().zip(cells).map(|(label, cells)| Row { label, cells }).collect();
            let title = metrics::capital(metrics::label(name));
            Block {
                group: metrics::group(name),
                title,
                basis: basis(figures.iter().flatten().copied()),
                rows,
            }
        };
        Sheet {
            corner: grid.axes.iter().map(|axis| metrics::axis_label(axis).to_owned()).collect(),
            heads: grid.columns.iter().map(|column| column.iter().enumerate().map(text).collect()).collect(),
            blocks: differing.iter().map(block).collect(),
            zero,
            same,
        }
    }

    fn by_metric(grid: &Grid, names: &[&str], zero: Vec<String>) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        for name in names {
            let group = metrics::group(name);
            let figures: Vec<Option<&Metric>> =
                (0..grid.modes.len()).map(|mode| grid.metric(mode, 0, name)).collect();
            let mut cells: Vec<_> = figures.iter().map(|m| m.map(cell)).collect();
            if metrics::find(name).is_some_and(|known| known.lower_is_better) {
                mark(cells.iter_mut().map(Option::as_mut), best(figures.iter().copied()));
            }
            if blocks.last().is_none_or(|block| block.group != group) {
                let names = names.iter().filter(|other| metrics::group(other) == group);
                let all =
                    names.flat_map(|other| (0..grid.modes.len()).map(|mode| grid.metric(mode, 0, other)));
                let basis = basis(all);
                blocks.push(Block { group, title: group.title().into(), basis, rows: Vec::new() });
            }
            let row = Row { label: metrics::label(name).to_owned(), cells };
            blocks.last_mut().expect("pushed above").rows.push(row);
        }
        let heads = grid.modes.iter().map(|mode| vec![mode.clone()]).collect();
        Sheet { corner: vec![String::new()], heads, blocks, zero, same: Vec::new() }
    }

    /// Whether any cell is marked as best, or as extrapolated.
    pub fn marks(&self) -> (bool, bool) {
        let cells =
            || self.blocks.iter().flat_map(|block| &block.rows).flat_map(|row| row.cells.iter().flatten());
        (cells().any(|cell| cell.best), cells().any(|cell| cell.extrapolated))
    }
}

/// One line about a run: scenario, prices, seed and hashes.
pub fn run_line(record: &RunRecord) -> String {
    let RunRecord { name, profile, seed, fingerprint, .. } = record;
    format!(
        "{name}: profile {} (prices in {}), seed {seed}, fingerprint {fingerprint}",
        profile.name, profile.unit
    )
}

/// The heading above the headline sentences.
pub fn headline_title(record: &RunRecord) -> &'static str {
    if crossover::of(record).is_empty() { "How the modes compare" } else { "Where the modes cross" }
}

fn cell(metric: &Metric) -> Cell {
    let extrapolated = metric.basis == Basis::Extrapolated;
    Cell { text: human::value(metric.value.get(), &metric.unit), best: false, extrapolated }
}

/// A metric's figures, of all modes and columns that have it.
fn figures<'a>(grid: &'a Grid, name: &'a str) -> impl Iterator<Item = &'a Metric> {
    let places =
        (0..grid.modes.len()).flat_map(|mode| (0..grid.columns.len()).map(move |column| (mode, column)));
    places.filter_map(move |(mode, column)| grid.metric(mode, column, name))
}

fn is_zero(grid: &Grid, name: &str) -> bool {
    figures(grid, name).all(|metric| metric.value.get() == 0.0)
}

/// How all of several figures read, if they read the same and none of them is a guess.
fn the_same(grid: &Grid, name: &str) -> Option<String> {
    let mut all = figures(grid, name);
    let first = cell(all.next()?);
    let (mut more, mut alike) = (false, !first.extrapolated);
    for other in all.map(cell) {
        more = true;
        alike &= other.text == first.text && !other.extrapolated;
    }
    (more && alike).then_some(first.text)
}

/// The text of the lowest of at least two figures.
fn best<'a>(figures: impl Iterator<Item = Option<&'a Metric>>) -> Option<String> {
    let figures: Vec<_> = figures.flatten().collect();
    let lowest = figures.iter().min_by_key(|metric| metric.value)?;
    (figures.len() > 1).then(|| cell(lowest).text)
}

/// Marks every cell that reads as the best, unless all do.
fn mark<'a>(cells: impl Iterator<Item = Option<&'a mut Cell>>, best: Option<String>) {
    let (Some(best), mut cells) = (best, cells.flatten().collect::<Vec<_>>()) else { return };
    if cells.iter().any(|cell| cell.text != best) {
        cells.iter_mut().for_each(|cell| cell.best = cell.text == best);
    }
}

/// The kinds of basis in some figures, most solid first.
fn basis<'a>(figures: impl Iterator<Item = Option<&'a Metric>>) -> String {
    let mut kinds: Vec<Basis> = figures.flatten().map(|metric| metric.basis).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(Basis::name).collect::<Vec<_>>().join(", ")
}
