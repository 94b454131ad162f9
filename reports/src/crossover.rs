//! Where the lines of two modes cross, found and told in words.
//!
//! Along a swept key, with all other keys fixed, the difference of two modes in a metric is followed from value to
//! value. Where its sign changes the lines cross; the place is interpolated linearly in the swept value between the
//! neighbours. Touching without changing sides is no crossing. Nothing is extrapolated: a crossing outside the swept
//! range is not found, and the words then say who is lower from end to end.

use crate::grid::{Slice, axis_value, modes, slices};
use crate::{human, metrics};
use sim_core::record::{Basis, Crossover, Fixed, PointRecord, RunRecord};

/// The metric that crossovers are told about by default.
pub const METRIC: &str = "first_packet_mean";

/// Crossings of [`METRIC`] for every pair of modes along every swept key.
pub fn find(points: &[PointRecord]) -> Vec<Crossover> {
    find_in(points, METRIC)
}

/// Crossings of `metric` for every pair of modes along every swept key: one entry per crossing, or one entry without
/// a place for a pair that does not cross. Pairs that share fewer than two swept values are left out. Where other
/// keys are swept too, [`Crossover::axis`] is `key at other = value`.
pub fn find_in(points: &[PointRecord], metric: &str) -> Vec<Crossover> {
    let mut axes: Vec<&str> = points.iter().flat_map(|point| point.axes.keys().map(String::as_str)).collect();
    axes.sort_unstable();
    axes.dedup();
    let mut found = Vec::new();
    for axis in axes {
        for slice in slices(points, axis) {
            let modes = modes(&slice.points);
            for (i, first) in modes.iter().enumerate() {
                for second in &modes[i + 1..] {
                    found.extend(along(&slice, axis, metric, first, second));
                }
            }
        }
    }
    found
}

/// Both modes' values where both have one, by rising swept value.
fn pairs(slice: &Slice, axis: &str, metric: &str, first: &str, second: &str) -> Vec<(Fixed, Fixed, Fixed)> {
    let value = |mode: &str, x: Fixed| {
        let here = |point: &&&PointRecord| point.line() == mode && point.axes.get(axis) == Some(&x);
        slice.points.iter().find(here)?.metric(metric).map(|m| m.value)
    };
    let mut xs: Vec<Fixed> = slice.points.iter().filter_map(|point| point.axes.get(axis).copied()).collect();
    xs.sort_unstable();
    xs.dedup();
    xs.into_iter().filter_map(|x| Some((x, value(first, x)?, value(second, x)?))).collect()
}

fn along(slice: &Slice, axis: &str, metric: &str, first: &str, second: &str) -> Vec<Crossover> {
    let pairs = pairs(slice, axis, metric, first, second);
    if pairs.len() < 2 {
        return Vec::new();
    }
    let name = if slice.fixed.is_empty() { axis.to_owned() } else { format!("{axis} at {}", slice.fixed) };
    let end = pairs[pairs.len() - 1];
    let entry = |first_is_better: bool, at: Option<Fixed>, between: Option<(Fixed, Fixed)>| Crossover {
        axis: name.clone(),
        metric: metric.to_owned(),
        better: if first_is_better { first } else { second }.to_owned(),
        worse: if first_is_better { second } else { first }.to_owned(),
        at,
        between,
        at_end: if first_is_better { (end.1, end.2) } else { (end.2, end.1) },
    };
    // Values at which the modes differ, with the difference; equal ones between them only move the place.
    let mut found = Vec::new();
    let mut last: Option<(usize, f64)> = None;
    for (i, (x, a, b)) in pairs.iter().enumerate() {
        let difference = a.get() - b.get();
        if difference == 0.0 {
            continue;
        }
        if let Some((before, was)) = last
            && (was < 0.0) != (difference < 0.0)
        {
            let (x0, x1) = (pairs[before].0, *x);
            let at = if before + 1 < i {
                pairs[before + 1].0 // they are equal there
            } else {
                Fixed::new(x0.get() + (x1.get() - x0.get()) * was / (was - difference))
            };
            found.push(entry(difference < 0.0, Some(at), Some((x0, x1))));
        }
        last = Some((i, difference));
    }
    if found.is_empty() {
        found.push(entry(last.is_none_or(|(_, difference)| difference < 0.0), None, None));
    }
    found
}

/// The crossovers of a record: those it carries, or those in its points if it carries none.
pub fn of(record: &RunRecord) -> Vec<Crossover> {
    if record.crossovers.is_empty() { find(&record.points) } else { record.crossovers.clone() }
}

/// The headline of a record in sentences: its crossovers, or without a sweep how the modes compare.
pub fn headline(record: &RunRecord) -> Vec<String> {
    let crossovers = of(record);
    if crossovers.is_empty() {
        return compare(&record.points).into_iter().collect();
    }
    let mut sentences: Vec<String> = Vec::new();
    for (i, crossover) in crossovers.iter().enumerate() {
        let pair: Vec<&Crossover> = crossovers.iter().filter(|other| same_pair(crossover, other)).collect();
        if pair.len() < MANY {
            sentences.push(words(crossover, &record.points));
        } else if !crossovers[..i].iter().any(|earlier| same_pair(crossover, earlier)) {
            sentences.push(trade_places(&pair));
        }
    }
    sentences
}

/// From this many crossings on a pair is told in one sentence, and not pointed out in charts.
pub const MANY: usize = 3;

/// Whether two crossovers are of the same modes in the same metric along the same key.
pub fn same_pair(a: &Crossover, b: &Crossover) -> bool {
    let straight = a.better == b.better && a.worse == b.worse;
    a.axis == b.axis && a.metric == b.metric && (straight || (a.better == b.worse && a.worse == b.better))
}

/// One sentence on a pair that crosses many times, given all its crossings.
fn trade_places(pair: &[&Crossover]) -> String {
    let Crossover { better, worse, axis, at_end: (end, other), .. } = pair[pair.len() - 1];
    let number = |at: Fixed| human::count(if at.get() >= 10.0 { at.get().round() } else { at.get() });
    let places: Vec<String> = pair.iter().filter_map(|crossover| crossover.at).map(number).collect();
    let key = axis.split_once(" at ").map_or_else(
        || metrics::axis_label(axis).to_owned(),
        |(key, fixed)| format!("{} with {fixed}", metrics::axis_label(key)),
    );
    let last = match end == other {
        true => "both cost the same".to_owned(),
        false => format!("{better} costs {}", human::less(end.get(), other.get())),
    };
    format!(
        "{better} and {worse} trade places {} times, at {} {key}; at the end of the sweep {last}.",
        places.len(),
        places.join(", ")
    )
}

/// One crossover in words with numbers; `points` give the unit and the swept range.
pub fn words(crossover: &Crossover, points: &[PointRecord]) -> String {
    let (key, fixed) = match crossover.axis.split_once(" at ") {
        Some((key, fixed)) => (key, format!(" (with {fixed})")),
        None => (crossover.axis.as_str(), String::new()),
    };
    let mut xs: Vec<Fixed> = points
        .iter()
        .filter(|point| [&crossover.better, &crossover.worse].contains(&&point.line()))
        .filter_map(|point| point.axes.get(key).copied())
        .collect();
    xs.sort_unstable();
    let (Crossover { better, worse, .. }, (low, high)) = (crossover, crossover.at_end);
    let number = |x: Fixed| match points.first() {
        Some(point) => axis_value(point, key, x),
        None => human::count(x.get()),
    };
    let size = |x: Fixed| match metrics::axis_noun(key) {
        Some(noun) => format!("{} {noun}", number(x)),
        None => format!("{key} = {}", number(x)),
    };
    let beats = match (crossover.at, crossover.between, xs.first(), xs.last()) {
        (Some(at), Some((from, to)), ..) => {
            let about = Fixed::new(at.get().round());
            let about = if at.get() >= 10.0 { about } else { at };
            let (from, to) = (number(from), number(to));
            format!("{better} beats {worse} from about {} on (between {from} and {to}){fixed}", size(about))
        }
        (_, _, Some(from), Some(to)) if low == high => {
            format!("{better} and {worse} do not cross from {} to {}{fixed}", number(*from), size(*to))
        }
        (_, _, Some(from), Some(to)) => {
            format!("{better} beats {worse} everywhere from {} to {}{fixed}", number(*from), size(*to))
        }
        _ => format!("{better} beats {worse}{fixed}"),
    };
    let end = xs.last().map_or_else(|| "at the end".into(), |x| format!("at {}", size(*x)));
    let unit = unit_of(points, &crossover.metric);
    let (low_text, high_text) = (human::value(low.get(), unit), human::value(high.get(), unit));
    let subject = match crossover.metric.as_str() {
        METRIC => "its first packet costs".to_owned(),
        other => format!("its {} is", metrics::label(other)),
    };
    let amount = match low.cmp(&high) {
        std::cmp::Ordering::Greater => human::less(high.get(), low.get()).replace("less", "more"),
        _ => human::less(low.get(), high.get()),
    };
    let guess = |x: Option<&Fixed>| {
        let rests = |point: &&PointRecord| {
            [better, worse].contains(&&point.line()) && point.axes.get(key) == x && x.is_some()
        };
        let guessed = |point: &PointRecord| {
            point.metric(&crossover.metric).is_some_and(|metric| metric.basis == Basis::Extrapolated)
        };
        points.iter().filter(rests).any(guessed)
    };
    let extrapolated = if guess(xs.last()) { " (extrapolated)" } else { "" };
    format!("{beats}; {end} {subject} {low_text} against {high_text}{extrapolated}, {amount}.")
}

/// How the modes compare in [`METRIC`] where nothing is swept; `None` if fewer than two modes have it.
fn compare(points: &[PointRecord]) -> Option<String> {
    let mut values: Vec<(Fixed, String, &str)> = Vec::new();
    for point in points {
        if let Some(metric) = point.metric(METRIC) {
            values.push((metric.value, point.line(), &metric.unit));
        }
    }
    values.sort_by_key(|(value, ..)| *value); // stable: plan order among equals
    let ((low, best, unit), (high, worst, _)) = (values.first()?, values.last()?);
    if values.len() < 2 {
        return None;
    }
    let list: Vec<_> =
        values.iter().map(|(v, mode, _)| format!("{mode} {}", human::value(v.get(), unit))).collect();
    let less = human::less(low.get(), high.get());
    let verdict = if low == high { String::new() } else { format!(" {best} costs {less} than {worst}.") };
    Some(format!("First packet, mean: {}.{verdict}", list.join(", ")))
}

fn unit_of<'a>(points: &'a [PointRecord], metric: &str) -> &'a str {
    points.iter().find_map(|point| point.metric(metric)).map_or("", |metric| metric.unit.as_str())
}
