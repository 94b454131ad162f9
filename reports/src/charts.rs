//! The charts of a record: those that the scenario names, and those that every report should have.
//!
//! A chart of a metric over a swept key has a line per mode and points out where lines cross. A chart of a
//! distribution shows, for each mode, the share of packets above a cost, at the largest swept point: where the line
//! passes 1 % is the 99th percentile.

use crate::grid::{Slice, modes, slices};
use crate::palette::{Look, looks};
use crate::svg::{Axis, Labels, Line, Plot, render};
use crate::{crossover, human, metrics};
use sim_core::record::{Basis, ChartRecord, Crossover, Distribution, PointRecord, RunRecord};

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
            "distribution" => distribution(record, &wanted).into_iter().collect(),
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

/// The charts to draw: the scenario's, or a usual set; in either case the crossover chart and a distribution.
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
    let with: Vec<&&PointRecord> =
        slice.points.iter().filter(|point| point.metric(&wanted.y).is_some()).collect();
    let unit = with.first()?.metric(&wanted.y)?.unit.as_str();
    let lines: Vec<Line> = modes
        .iter()
        .zip(looks)
        .map(|(mode, look)| {
            let here = with.iter().filter(|point| point.mode == *mode);
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
    let ys = range(places.iter().map(|p| p.1));
    let (log_x, log_y) = (wanted.log_x && xs.0 > 0.0, wanted.log_y && ys.0 > 0.0);
    let noun = metrics::axis_label(&wanted.x);
    let mut x = Axis::new(noun.to_owned(), log_x, xs, 1.0, human::count);
    let mut swept: Vec<f64> = places.iter().map(|p| p.0).collect();
    swept.sort_by(f64::total_cmp);
    swept.dedup();
    if log_x && xs.0 < xs.1 {
        // Swept values are where the data is: they are the ticks, and the axis is as wide as they.
        x.range = xs;
        x.ticks = swept.iter().map(|at| (*at, human::count(*at))).collect();
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
        subtitle: subtitle(record, places.iter().any(|p| p.2), &with, &wanted.y),
        marks: marks(wanted, slice, crossovers, &lines, &modes, (log_x, log_y)),
        x,
        y,
        lines,
        labels: Labels::Margin,
        key: Vec::new(),
    })
}

/// Crossings to point out in a chart, at the height of the lines there.
fn marks(
    wanted: &ChartRecord,
    slice: &Slice,
    crossovers: &[Crossover],
    lines: &[Line],
    modes: &[&str],
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

/// The distribution of a cost at the largest swept point, as the share above it.
fn distribution(record: &RunRecord, wanted: &ChartRecord) -> Option<Plot> {
    let has = |point: &&PointRecord| of(point, &wanted.y).is_some();
    let largest = record.points.iter().filter(has).max_by(|a, b| {
        let key =
            |p: &PointRecord| (p.axes.values().copied().collect::<Vec<_>>(), std::cmp::Reverse(p.index));
        key(a).cmp(&key(b))
    })?;
    let points: Vec<&PointRecord> =
        record.points.iter().filter(|p| p.axes == largest.axes).filter(has).collect();
    let modes = modes(&points);
    let unit = of(largest, &wanted.y)?.unit.as_str();
    let of_modes: Vec<(&str, Look, &Distribution)> = modes
        .iter()
        .zip(looks(&modes))
        .filter_map(|(mode, look)| {
            Some((*mode, look, of(points.iter().find(|p| p.mode == *mode)?, &wanted.y)?))
        })
        .collect();
    let smallest =
        of_modes.iter().flat_map(|(.., d)| above(d)).map(|(_, share)| share).filter(|share| *share > 0.0);
    let floor = if wanted.log_y { smallest.fold(0.005, f64::min).max(1e-6) } else { 0.0 };
    let bounds = of_modes.iter().flat_map(|(.., d)| d.buckets.iter().map(|(bound, _)| *bound as f64));
    let xs = range(bounds);
    let log_x = wanted.log_x && xs.0 > 0.0;
    let line = |(mode, look, d): &(&str, Look, &Distribution)| Line {
        label: short(mode),
        look: *look,
        points: steps(&above(d), floor),
    };
    let key = |(mode, look, d): &(&str, Look, &Distribution)| {
        let quantile = |share: f64| {
            let at = above(d).into_iter().find(|(_, above)| *above <= 1.0 - share + 1e-12);
            at.map_or_else(|| "-".into(), |(bound, _)| human::value(bound, unit))
        };
        (*look, vec![short(mode), format!("p50 {}", quantile(0.5)), format!("p99 {}", quantile(0.99))])
    };
    let label = metrics::label(&wanted.y).replace('_', " ");
    let at: Vec<String> = largest
        .axes
        .iter()
        .map(|(k, v)| format!("{} {}", human::count(v.get()), metrics::axis_label(k)))
        .collect();
    let at = if at.is_empty() { String::new() } else { format!(" at {}", at.join(", ")) };
    let title = match wanted.title.is_empty() {
        true => format!("Distribution of {label}{at}"),
        false => format!("{}{at}", wanted.title),
    };
    let share = |share: f64| format!("{} %", human::trimmed(&format!("{:.4}", share * 100.0)));
    let scale = if wanted.log_y { " (log scale)" } else { "" };
    let decades = [1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001, 0.000001];
    let shares = if wanted.log_y { &decades[..] } else { &[1.0, 0.8, 0.6, 0.4, 0.2, 0.0] };
    let y = Axis {
        title: format!("Share above the value{scale}"),
        range: (floor, 1.0),
        ticks: shares.iter().filter(|s| **s >= floor).map(|s| (*s, share(*s))).collect(),
        log: wanted.log_y,
    };
    Some(Plot {
        title: short(&title),
        subtitle: format!(
            "Share of samples above each value; where a line passes 1 % is its p99. Profile {}",
            short(&record.profile.name)
        ),
        x: value_axis(&metrics::capital(&label), log_x, xs, unit),
        y,
        lines: of_modes.iter().map(line).collect(),
        labels: Labels::Ends,
        marks: Vec::new(),
        key: of_modes.iter().map(key).collect(),
    })
}

/// Bounds and the share of samples above each.
fn above(distribution: &Distribution) -> Vec<(f64, f64)> {
    let total: u64 = distribution.buckets.iter().map(|(_, count)| count).sum();
    let mut left = total;
    let mut shares = Vec::with_capacity(distribution.buckets.len());
    for (bound, count) in &distribution.buckets {
        left -= count;
        shares.push((*bound as f64, left as f64 / total.max(1) as f64));
    }
    shares
}

/// A falling staircase from all samples to `floor`.
fn steps(shares: &[(f64, f64)], floor: f64) -> Vec<(f64, f64, bool)> {
    let mut height = 1.0;
    let mut points = Vec::with_capacity(shares.len() * 2);
    for (bound, share) in shares {
        points.push((*bound, height, false));
        height = share.max(floor);
        points.push((*bound, height, false));
    }
    points
}

/// An axis for values in `unit`.
fn value_axis(label: &str, log: bool, (low, high): (f64, f64), unit: &str) -> Axis {
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

fn subtitle(record: &RunRecord, extrapolated: bool, with: &[&&PointRecord], metric: &str) -> String {
    let mut kinds: Vec<Basis> =
        with.iter().filter_map(|point| point.metric(metric)).map(|m| m.basis).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| *kind != Basis::Extrapolated);
    let mut kinds: Vec<_> = kinds.into_iter().map(Basis::name).collect();
    if extrapolated {
        kinds.push("hollow markers: extrapolated beyond the calibrated range");
    }
    format!("Profile {}; {}", short(&record.profile.name), kinds.join("; "))
}

fn of<'a>(point: &'a PointRecord, name: &str) -> Option<&'a Distribution> {
    point.distributions.iter().find(|d| d.name == name && !d.buckets.is_empty())
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), v| (low.min(v), high.max(v)))
}

/// Text without control characters and of a length that a chart has room for.
fn short(text: &str) -> String {
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
