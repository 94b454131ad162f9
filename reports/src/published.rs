//! Figures that others have published beside the simulated ones, as rows for every view. Misses are rows like the
//! others; figures that the profile was fitted on are said to be, for they prove nothing.

use crate::{grid, human, metrics};
use sim_core::record::{Fixed, PublishedRecord, RunRecord};

/// Heads of the columns of [`Row`].
pub const HEADS: [&str; 7] = ["figure", "mode", "at", "published", "simulated", "error", "verdict"];

/// One figure, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The cells, in the order of [`HEADS`].
    pub cells: [String; 7],
    /// Whether it claims a tolerance, was not fitted and lies outside.
    pub missed: bool,
    /// `V`, `D` or `C`.
    pub tag: String,
    /// Link to the source.
    pub source: String,
}

/// The rows of a record, in the order of the scenario.
pub fn rows(record: &RunRecord) -> Vec<Row> {
    record.published.iter().map(|p| row(record, p)).collect()
}

fn row(record: &RunRecord, p: &PublishedRecord) -> Row {
    let figure = if p.what.is_empty() { metrics::label(&p.metric).to_owned() } else { p.what.clone() };
    let simulated =
        p.simulated.map_or_else(|| "not simulated".to_owned(), |v| human::value(v.get(), &p.unit));
    let cells = [
        figure,
        p.mode.clone(),
        place(record, p),
        human::value(p.value.get(), &p.unit),
        simulated,
        p.error.map_or_else(|| "-".to_owned(), |error| self::error(error.get())),
        verdict(p),
    ];
    let missed = p.within == Some(false) && !p.fit;
    Row { cells, missed, tag: p.tag.clone(), source: p.source.clone() }
}

/// Where a figure is: variant, swept values, and what is taken off.
pub fn place(record: &RunRecord, p: &PublishedRecord) -> String {
    let text = |(key, value): (&String, &Fixed)| {
        let with = record.points.iter().find(|point| point.axes.contains_key(key));
        let value =
            with.map_or_else(|| human::count(value.get()), |point| grid::axis_value(point, key, *value));
        match metrics::axis_noun(key) {
            Some(noun) => format!("{value} {noun}"),
            None => format!("{key} = {value}"),
        }
    };
    let variant = Some(p.variant.clone()).filter(|name| !name.is_empty());
    let less = Some(&p.less).filter(|less| !less.is_empty()).map(|less| format!("less that of {less}"));
    let parts: Vec<String> = variant.into_iter().chain(p.axes.iter().map(text)).chain(less).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// `+12 %`, `-3.4 %`, or from three times on `5.0 times`.
fn error(error: f64) -> String {
    match error {
        error if error >= 2.0 => format!("{} times", human::trimmed(&format!("{:.1}", error + 1.0))),
        error if error.abs() < 0.0995 => format!("{:+.1} %", error * 100.0),
        error => format!("{:+.0} %", error * 100.0),
    }
}

fn verdict(p: &PublishedRecord) -> String {
    let outcome = match p.within {
        _ if p.simulated.is_none() => "-".to_owned(),
        None => "no tolerance".to_owned(),
        Some(true) if p.tolerance == "exact" => "exact".to_owned(),
        Some(true) => format!("within {}", p.tolerance),
        Some(false) => format!("MISSED {}", p.tolerance),
    };
    if p.fit { format!("{outcome} (fitted)") } else { outcome }
}

/// One sentence on how many predictions hold.
pub fn summary(record: &RunRecord) -> String {
    let predicted = || record.published.iter().filter(|p| !p.fit && p.within.is_some());
    let held = predicted().filter(|p| p.within == Some(true)).count();
    let fitted = record.published.iter().filter(|p| p.fit).count();
    let fitted = match fitted {
        0 => "none was fitted".to_owned(),
        1 => "1 more was fitted".to_owned(),
        n => format!("{n} more were fitted"),
    };
    format!("{held} of {} predicted figures lie within their tolerance; {fitted}.", predicted().count())
}

/// The sources, each once, with the tags of the figures from it.
pub fn sources(record: &RunRecord) -> Vec<String> {
    let mut sources: Vec<(&str, Vec<&str>)> = Vec::new();
    for p in &record.published {
        let tag = p.tag.as_str();
        match sources.iter_mut().find(|(source, _)| *source == p.source) {
            Some((_, tags)) if tags.contains(&tag) => {}
            Some((_, tags)) => tags.push(tag),
            None => sources.push((&p.source, vec![tag])),
        }
    }
    let told = |tag: &&str| {
        match *tag {
            "V" => "read there",
            "D" => "read off a chart there",
            "C" => "calculated from figures there",
            other => other,
        }
        .to_owned()
    };
    let line = |(source, tags): &(&str, Vec<&str>)| {
        format!("{source} ({})", tags.iter().map(told).collect::<Vec<_>>().join("; "))
    };
    sources.iter().map(line).collect()
}
