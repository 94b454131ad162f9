//! Charts that have no swept key: distributions, and figures over time, at the largest swept point.
//!
//! A distribution is shown as the share of samples above each value (where the line passes 1 % is the 99th percentile)
//! or, cumulative, as the share up to it: that of the times after which nodes have a change is the share of nodes that
//! have it, over time. What the scenario has planned stands over figures over time as dashed lines.

use crate::charts::{range, short, value_axis};
use crate::grid::{axis_value, modes};
use crate::palette::{Look, looks};
use crate::svg::{Axis, Labels, Line, Plot};
use crate::{human, metrics};
use sim_core::record::{ChartRecord, Distribution, Moment, PointRecord, RunRecord, Series};

/// The distribution of the times that changes take to nodes.
pub const CHANGES: &str = "rules_live";

/// The points at the largest swept values, of those that `has` accepts; never empty.
fn largest(record: &RunRecord, has: impl Fn(&PointRecord) -> bool) -> Option<Vec<&PointRecord>> {
    let largest = record.points.iter().filter(|point| has(point)).max_by(|a, b| {
        let key =
            |p: &PointRecord| (p.axes.values().copied().collect::<Vec<_>>(), std::cmp::Reverse(p.index));
        key(a).cmp(&key(b))
    })?;
    Some(record.points.iter().filter(|p| p.axes == largest.axes && has(p)).collect())
}

/// ` at 4,000 Services`, or nothing where nothing is swept.
fn place(point: &PointRecord) -> String {
    let at: Vec<String> = point
        .axes
        .iter()
        .map(|(key, value)| format!("{} {}", axis_value(point, key, *value), metrics::axis_label(key)))
        .collect();
    if at.is_empty() { String::new() } else { format!(" at {}", at.join(", ")) }
}

/// The distribution of that name, if it holds anything.
pub fn distribution_of<'a>(point: &'a PointRecord, name: &str) -> Option<&'a Distribution> {
    point.distributions.iter().find(|d| d.name == name && !d.buckets.is_empty())
}

fn series_of<'a>(point: &'a PointRecord, name: &str) -> Option<&'a Series> {
    point.series.iter().find(|series| series.name == name && !series.points.is_empty())
}

/// Whether a figure over time ever changes in this record.
pub fn is_worth_a_chart(record: &RunRecord, name: &str) -> bool {
    let moves = |series: &Series| series.points.iter().any(|(_, value)| *value != series.points[0].1);
    record.points.iter().filter_map(|point| series_of(point, name)).any(moves)
}

/// The value that a share of the samples does not exceed.
fn quantile(distribution: &Distribution, share: f64) -> String {
    let at = above(distribution).into_iter().find(|(_, above)| *above <= 1.0 - share + 1e-12);
    at.map_or_else(|| "-".into(), |(bound, _)| human::value(bound, &distribution.unit))
}

/// The distribution of a cost at the largest swept point, as the share above it.
pub fn distribution(record: &RunRecord, wanted: &ChartRecord) -> Option<Plot> {
    let points = largest(record, |point| distribution_of(point, &wanted.y).is_some())?;
    let modes = modes(&points);
    let unit = distribution_of(points[0], &wanted.y)?.unit.as_str();
    let of_modes: Vec<(&String, Look, &Distribution)> = modes
        .iter()
        .zip(looks(&modes))
        .filter_map(|(mode, look)| {
            Some((mode, look, distribution_of(points.iter().find(|p| p.line() == *mode)?, &wanted.y)?))
        })
        .collect();
    let smallest =
        of_modes.iter().flat_map(|(.., d)| above(d)).map(|(_, share)| share).filter(|share| *share > 0.0);
    let floor = if wanted.log_y { smallest.fold(0.005, f64::min).max(1e-6) } else { 0.0 };
    let bounds = of_modes.iter().flat_map(|(.., d)| d.buckets.iter().map(|(bound, _)| *bound as f64));
    let xs = range(bounds);
    let log_x = wanted.log_x && xs.0 > 0.0;
    let line = |(mode, look, d): &(&String, Look, &Distribution)| Line {
        label: short(mode),
        look: *look,
        points: steps(&above(d), floor),
    };
    let key = |(mode, look, d): &(&String, Look, &Distribution)| {
        let (p50, p99) = (quantile(d, 0.5), quantile(d, 0.99));
        (*look, vec![short(mode), format!("p50 {p50}"), format!("p99 {p99}")])
    };
    let label = metrics::distribution_label(&wanted.y);
    let at = place(points[0]);
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
        moments: Vec::new(),
        published: Vec::new(),
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

/// The share of samples up to each value.
pub fn cumulative(record: &RunRecord, wanted: &ChartRecord) -> Option<Plot> {
    let points = largest(record, |point| distribution_of(point, &wanted.y).is_some())?;
    let modes = modes(&points);
    let of_modes: Vec<(&String, Look, &Distribution)> = modes
        .iter()
        .zip(looks(&modes))
        .filter_map(|(mode, look)| {
            Some((mode, look, distribution_of(points.iter().find(|p| p.line() == *mode)?, &wanted.y)?))
        })
        .collect();
    let unit = of_modes.first()?.2.unit.as_str();
    let xs = range(of_modes.iter().flat_map(|(.., d)| d.buckets.iter().map(|(bound, _)| *bound as f64)));
    let log_x = wanted.log_x && xs.0 > 0.0;
    let from = if log_x { xs.0 } else { 0.0 };
    let line = |(_, look, d): &(&String, Look, &Distribution)| {
        let mut height = 0.0;
        let mut places = vec![(from, 0.0, false)];
        for (bound, above) in above(d) {
            places.push((bound, height, false));
            height = 1.0 - above;
            places.push((bound, height, false));
        }
        // All lines end at the top, where their names would meet: those stand in the key.
        Line { label: String::new(), look: *look, points: places }
    };
    let key = |(mode, look, d): &(&String, Look, &Distribution)| {
        let of = |name: &str, share: f64| format!("{name} {}", quantile(d, share));
        (*look, vec![short(mode), of("p50", 0.5), of("p90", 0.9), of("p99", 0.99)])
    };
    let label = metrics::distribution_label(&wanted.y);
    let (share, heading, x_label) = match wanted.y.as_str() {
        CHANGES => (
            "Share of nodes that have a change",
            "How long a change takes to be true everywhere",
            "Time since the change",
        ),
        "convergence" => (
            "Share of changes that are live everywhere",
            "How long changes take to be live on every node",
            "Time since the change",
        ),
        "network_programming" => (
            "Share of nodes that have written a change",
            "Network programming latency",
            "Time since what triggered the change",
        ),
        _ => ("Share of samples up to the value", "", ""),
    };
    let heading =
        if heading.is_empty() { format!("Cumulative distribution of {label}") } else { heading.to_owned() };
    let x_label = if x_label.is_empty() { metrics::capital(&label) } else { x_label.to_owned() };
    let title = if wanted.title.is_empty() { heading } else { wanted.title.clone() };
    let counted = match wanted.y.as_str() {
        CHANGES | "network_programming" => "Every change on every node counts once. ",
        _ => "",
    };
    Some(Plot {
        title: short(&format!("{title}{}", place(points[0]))),
        subtitle: format!("{counted}Profile {}", short(&record.profile.name)),
        x: value_axis(&x_label, log_x, xs, unit),
        y: percent(share),
        lines: of_modes.iter().map(line).collect(),
        labels: Labels::Ends,
        marks: Vec::new(),
        key: of_modes.iter().map(key).collect(),
        moments: Vec::new(),
        published: Vec::new(),
    })
}

/// From nothing to all, in per cent, with some air above so that a line at the top is seen.
fn percent(label: &str) -> Axis {
    let ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|share| (share, format!("{:.0}", share * 100.0)));
    Axis { title: format!("{label} (%)"), range: (0.0, 1.04), ticks: ticks.to_vec(), log: false }
}

/// A figure over simulated time.
pub fn over_time(record: &RunRecord, wanted: &ChartRecord) -> Option<Plot> {
    let points = largest(record, |point| series_of(point, &wanted.y).is_some())?;
    let modes = modes(&points);
    let of_modes: Vec<(&String, Look, &Series)> = modes
        .iter()
        .zip(looks(&modes))
        .filter_map(|(mode, look)| {
            Some((mode, look, series_of(points.iter().find(|p| p.line() == *mode)?, &wanted.y)?))
        })
        .collect();
    let unit = of_modes.first()?.2.unit.as_str();
    let values = of_modes.iter().flat_map(|(.., s)| s.points.iter().map(|(_, value)| value.get()));
    let ys = range(values);
    let times = of_modes.iter().flat_map(|(.., s)| s.points.iter().map(|(at, _)| *at as f64));
    let end = times.chain(points[0].timeline.iter().map(|m| m.at_ns as f64)).fold(1.0, f64::max);
    let line = |(mode, look, series): &(&String, Look, &Series)| {
        let mut places: Vec<(f64, f64, bool)> = Vec::with_capacity(series.points.len() * 2);
        for (at, value) in &series.points {
            // A value holds until the next.
            if let Some((_, before, _)) =
                places.last().copied().filter(|(_, before, _)| *before != value.get())
            {
                places.push((*at as f64, before, false));
            }
            places.push((*at as f64, value.get(), false));
        }
        if let Some((_, last, _)) = places.last().copied() {
            places.push((end, last, false));
        }
        Line { label: short(mode), look: *look, points: places }
    };
    let label = metrics::capital(&metrics::series_label(&wanted.y));
    let y = match unit {
        "ratio" => percent(&label),
        unit => value_axis(&label, false, (0.0, if ys.1 > 0.0 { ys.1 } else { 1.0 }), unit),
    };
    let x = clock(end);
    let heading = format!("{label} over time");
    let title = if wanted.title.is_empty() { &heading } else { &wanted.title };
    let dashed = if points[0].timeline.is_empty() { "" } else { "; dashed: what was planned" };
    Some(Plot {
        title: short(&format!("{title}{}", place(points[0]))),
        subtitle: format!("Profile {}; simulated{dashed}", short(&record.profile.name)),
        x,
        y,
        lines: of_modes.iter().map(line).collect(),
        labels: Labels::Plain,
        marks: Vec::new(),
        key: Vec::new(),
        moments: moments(&points),
        published: Vec::new(),
    })
}

/// An axis of simulated time: steps that a clock has, at most eight of them.
fn clock(end: f64) -> Axis {
    const SECOND: f64 = 1e9;
    const STEPS: [f64; 18] = [
        0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
        7_200.0, 10_800.0, 21_600.0,
    ];
    let step = STEPS.iter().copied().find(|step| step * SECOND * 8.0 >= end).unwrap_or(21_600.0) * SECOND;
    let (unit, name) = match end / SECOND {
        seconds if seconds > 10_800.0 => (3_600.0 * SECOND, "h"),
        seconds if seconds > 180.0 => (60.0 * SECOND, "min"),
        seconds if seconds >= 1.0 => (SECOND, "s"),
        _ => (SECOND / 1e3, "ms"),
    };
    let ticks = (0..=8).map(|i| f64::from(i) * step).filter(|at| *at <= end);
    let label = |at: f64| (at, human::trimmed(&format!("{:.3}", at / unit)).to_owned());
    Axis {
        title: format!("Time since measuring began ({name})"),
        range: (0.0, end),
        ticks: ticks.map(label).collect(),
        log: false,
    }
}

/// What was planned in any of the points; what happens at once shares a line.
fn moments(points: &[&PointRecord]) -> Vec<(f64, String)> {
    let mut all: Vec<&Moment> = points.iter().flat_map(|point| &point.timeline).collect();
    all.sort_by(|a, b| (a.at_ns, &a.what).cmp(&(b.at_ns, &b.what)));
    all.dedup();
    let mut moments: Vec<(f64, String)> = Vec::new();
    for moment in all {
        match moments.last_mut().filter(|(at, _)| *at == moment.at_ns as f64) {
            Some((_, text)) => *text = short(&format!("{text}; {}", moment.what)),
            None => moments.push((moment.at_ns as f64, short(&moment.what))),
        }
    }
    moments
}
