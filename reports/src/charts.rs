//! The charts of a record: those that the scenario names, and those that every report should have.
//!
//! A chart of a metric over a swept key has a line per mode and points out where lines cross; figures that others have
//! published stand beside the lines as crosses. Distributions and figures over time are in [`curves`].

use crate::grid::{Slice, modes, slices};
use crate::palette::looks;
use crate::svg::{Axis, Labels, Line, Plot, render};
use crate::{crossover, curves, human, metrics};
use sim_core::record::{Basis, ChartRecord, Crossover, PointRecord, RunRecord};

/// Charts of one key stop at this many combinations of the other swept keys.
const SLICES_MAX: usize = 8;

/// A finished chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// File name without extension: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// SVG document.
    pub svg: String,
}

/// All charts of a record, the crossover chart first.
pub fn all(record: &RunRecord) -> Vec<Chart> {
    let crossovers = crossover::of(record);
    let mut charts: Vec<Chart> = Vec::new();
    for wanted in plan(record) {
        let plots = match wanted.x.as_str() {
            "distribution" => curves::distribution(record, &wanted).into_iter().collect(),
            "cumulative" => curves::cumulative(record, &wanted).into_iter().collect(),
            "time" => curves::over_time(record, &wanted).into_iter().collect(),
            _ => lines(record, &wanted, &crossovers),
        };
        for plot in plots {
            let base = slug(&format!("{}-by-{}", wanted.y, wanted.x));
            let taken = |name: &String| charts.iter().any(|chart| chart.name == *name);
            let mut names = std::iter::once(base.clone()).chain((2..).map(|i| format!("{base}-{i}")));
            let name = names.find(|name| !taken(name)).expect("numbers do not run out");
            charts.push(Chart { name, title: plot.title.clone(), svg: render(&plot) });
        }
    }
    charts
}

/// The charts to draw: the scenario's, or a usual set; in either case the crossover chart, a distribution, and what a
/// run has over time.
pub fn plan(record: &RunRecord) -> Vec<ChartRecord> {
    let mut axes: Vec<&String> = record.points.iter().flat_map(|point| point.axes.keys()).collect();
    axes.sort_unstable();
    axes.dedup();
    let chart = |x: &str, y: &str, log_x: bool, log_y: bool| ChartRecord {
        x: x.into(),
        y: y.into(),
        by: "mode".into(),
        title: String::new(),
        log_x,
        log_y,
    };
    let has = |name: &str| record.points.iter().any(|point| point.metric(name).is_some());
    let mut charts = record.charts.clone();
    if charts.is_empty() {
        let usual = ["rules_evaluated_mean", "endpoint_change_sync", "first_full_sync", "kernel_memory"];
        for y in usual.into_iter().filter(|y| has(y)) {
            charts.extend(axes.iter().map(|x| chart(x, y, wide(record, x), wide_metric(record, y))));
        }
    }
    if has(crossover::METRIC) && !charts.iter().any(|c| c.y == crossover::METRIC && c.x != "distribution") {
        let y = crossover::METRIC;
        let first = axes.iter().map(|x| chart(x, y, wide(record, x), wide_metric(record, y)));
        charts.splice(0..0, first);
    }
    if !charts.iter().any(|c| c.x == "distribution") {
        let at = charts.iter().take_while(|c| c.y == crossover::METRIC).count();
        charts.insert(at, chart("distribution", "first_packet", true, true));
    }
    let changes = |point: &PointRecord| curves::distribution_of(point, curves::CHANGES).is_some();
    if record.points.iter().any(changes) && !charts.iter().any(|c| c.x == "cumulative") {
        charts.push(chart("cumulative", curves::CHANGES, false, false));
    }
    for series in metrics::SERIES.iter().filter(|series| curves::is_worth_a_chart(record, series.name)) {
        if !charts.iter().any(|c| c.x == "time" && c.y == series.name) {
            charts.push(chart("time", series.name, false, false));
        }
    }
    charts
}

/// Whether the values of a swept key ask for a logarithmic axis.
fn wide(record: &RunRecord, key: &str) -> bool {
    span(record.points.iter().filter_map(|point| point.axes.get(key)).map(|x| x.get()), 16.0)
}

/// Whether the values of a metric do.
fn wide_metric(record: &RunRecord, name: &str) -> bool {
    span(record.points.iter().filter_map(|point| point.metric(name)).map(|m| m.value.get()), 20.0)
}

fn span(values: impl Iterator<Item = f64> + Clone, factor: f64) -> bool {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    low > 0.0 && low.is_finite() && high / low >= factor
}

/// A metric over a swept key: a plot per combination of the other keys.
fn lines(record: &RunRecord, wanted: &ChartRecord, crossovers: &[Crossover]) -> Vec<Plot> {
    let slices = slices(&record.points, &wanted.x);
    slices.iter().take(SLICES_MAX).filter_map(|slice| line_plot(record, wanted, slice, crossovers)).collect()
}

fn line_plot(
    record: &RunRecord,
    wanted: &ChartRecord,
    slice: &Slice,
    crossovers: &[Crossover],
) -> Option<Plot> {
    let modes = modes(&slice.points);
    let looks = looks(&modes);
    let at = |point: &PointRecord| point.axes[&wanted.x].get();
    let published: Vec<_> = record
        .published
        .iter()
        .filter_map(|p| {
            let point = slice.points.iter().find(|point| p.is_of(point, &wanted.y))?;
            let look = modes.iter().position(|mode| *mode == point.line())?;
            Some((at(point), p.value.get(), looks[look]))
        })
        .collect();
    let with: Vec<&&PointRecord> =
        slice.points.iter().filter(|point| point.metric(&wanted.y).is_some()).collect();
    let unit = with.first()?.metric(&wanted.y)?.unit.as_str();
    let lines: Vec<Line> = modes
        .iter()
        .zip(looks.iter().copied())
        .map(|(mode, look)| {
            let here = with.iter().filter(|point| point.line() == *mode);
            let mut points: Vec<_> = here
                .filter_map(|point| {
                    let metric = point.metric(&wanted.y)?;
                    Some((
                        point.axes[&wanted.x].get(),
                        metric.value.get(),
                        metric.basis == Basis::Extrapolated,
                    ))
                })
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable
            let end = points.last().map_or_else(String::new, |(_, y, _)| human::value(*y, unit));
            Line { label: short(&format!("{mode} {end}")), look, points }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let places: Vec<(f64, f64, bool)> = lines.iter().flat_map(|line| &line.points).copied().collect();
    let xs = range(places.iter().map(|p| p.0));
    let ys = range(places.iter().map(|p| p.1).chain(published.iter().map(|p| p.1)));
    let (log_x, log_y) = (wanted.log_x && xs.0 > 0.0, wanted.log_y && ys.0 > 0.0);
    let noun = metrics::axis_label(&wanted.x);
    let swept_unit = slice.points.first().map_or("count", |point| point.axis_unit(&wanted.x));
    let (factor, unit_name) = human::axis_unit(xs.1, swept_unit);
    let name = if unit_name.is_empty() || log_x { noun.to_owned() } else { format!("{noun} ({unit_name})") };
    let tick = |at: f64| if swept_unit == "count" { human::count(at) } else { human::tick(at, swept_unit) };
    let mut x = Axis::new(name, log_x, xs, factor, tick);
    let mut swept: Vec<f64> = places.iter().map(|p| p.0).collect();
    swept.sort_by(f64::total_cmp);
    swept.dedup();
    if log_x && xs.0 < xs.1 {
        // Swept values are where the data is: they are the ticks, and the axis is as wide as they.
        x.range = xs;
        x.ticks = swept.iter().map(|at| (*at, tick(*at))).collect();
    } else if !log_x && xs.1 > 0.0 {
        x.range.1 = xs.1;
        x.ticks.retain(|(at, _)| *at <= xs.1);
    }
    if log_x {
        x.title.push_str(" (log scale)");
    }
    let label = metrics::capital(metrics::label(&wanted.y));
    let y = value_axis(&label, log_y, ys, unit);
    let at = if slice.fixed.is_empty() { String::new() } else { format!(", {}", slice.fixed) };
    let title = match wanted.title.is_empty() {
        true => format!("{label} by {noun}{at}"),
        false => format!("{}{at}", wanted.title),
    };
    Some(Plot {
        title: short(&title),
        subtitle: subtitle(record, places.iter().any(|p| p.2), &with, &wanted.y, !published.is_empty()),
        marks: marks(wanted, slice, crossovers, &lines, &modes, (log_x, log_y)),
        x,
        y,
        lines,
        labels: Labels::Margin,
        key: Vec::new(),
        moments: Vec::new(),
        published,
    })
}

/// Crossings to point out in a chart, at the height of the lines there.
fn marks(
    wanted: &ChartRecord,
    slice: &Slice,
    crossovers: &[Crossover],
    lines: &[Line],
    modes: &[String],
    logs: (bool, bool),
) -> Vec<(f64, f64, String)> {
    let axis =
        if slice.fixed.is_empty() { wanted.x.clone() } else { format!("{} at {}", wanted.x, slice.fixed) };
    let few = |c: &&Crossover| {
        crossovers.iter().filter(|other| crossover::same_pair(c, other)).count() < crossover::MANY
    };
    let here = crossovers.iter().filter(|c| c.axis == axis && c.metric == wanted.y).filter(few);
    here.filter_map(|c| {
        let at = c.at?.get();
        let line = modes.iter().position(|mode| *mode == c.better).and_then(|i| lines.get(i))?;
        let after = line.points.iter().position(|p| p.0 >= at)?;
        let (to, from) = (line.points[after], line.points[after.saturating_sub(1)]);
        // As drawn, the line is straight between its points in the scales of the axes.
        let warp = |v: f64, log: bool| if log { libm::log10(v) } else { v };
        let share = match warp(to.0, logs.0) - warp(from.0, logs.0) {
            0.0 => 0.0,
            wide => (warp(at, logs.0) - warp(from.0, logs.0)) / wide,
        };
        let height = match logs.1 {
            true => from.1 * libm::pow(to.1 / from.1, share),
            false => from.1 + (to.1 - from.1) * share,
        };
        let number = if at >= 10.0 { at.round() } else { at };
        Some((at, height, short(&format!("{} beats {} from {}", c.better, c.worse, human::count(number)))))
    })
    .collect()
}

/// An axis for values in `unit`.
pub(crate) fn value_axis(label: &str, log: bool, (low, high): (f64, f64), unit: &str) -> Axis {
    let (factor, name) = human::axis_unit(high, unit);
    let title = match (log, name.is_empty()) {
        (true, _) if unit == "instr" => format!("{label}, instructions (log scale)"),
        (true, _) => format!("{label} (log scale)"),
        (false, true) => label.to_owned(),
        (false, false) => format!("{label} ({name})"),
    };
    let high = if log { high } else { high * 1.04 }; // room for the marker
    Axis::new(title, log, (low, high), factor, |at| human::tick(at, unit))
}

fn subtitle(
    record: &RunRecord,
    extrapolated: bool,
    with: &[&&PointRecord],
    metric: &str,
    published: bool,
) -> String {
    let mut kinds: Vec<Basis> =
        with.iter().filter_map(|point| point.metric(metric)).map(|m| m.basis).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| *kind != Basis::Extrapolated);
    let mut kinds: Vec<_> = kinds.into_iter().map(Basis::name).collect();
    if extrapolated {
        kinds.push("hollow markers: extrapolated beyond the calibrated range");
    }
    if published {
        kinds.push("crosses: published");
    }
    format!("Profile {}; {}", short(&record.profile.name), kinds.join("; "))
}

pub(crate) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), v| (low.min(v), high.max(v)))
}

/// Text without control characters and of a length that a chart has room for.
pub(crate) fn short(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    if let Some((at, _)) = text.char_indices().nth(90) {
        text.truncate(at);
        text.push_str("...");
    }
    text
}

/// A file name.
fn slug(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .take(80)
        .collect();
    let text = text.trim_matches('-').to_owned();
    if text.is_empty() { "chart".into() } else { text }
}
