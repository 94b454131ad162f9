//! [`Grid`]: the points of a record as modes, with their variants, by swept values.
//!
//! Modes and columns keep the order of the plan. A sweep over several keys has one column per combination; for lines
//! over one key, [`slices`] holds the other keys fixed.

use crate::{human, metrics};
use sim_core::record::{Fixed, Metric, PointRecord};
use std::collections::BTreeMap;

/// Points by mode and by column, a column being one combination of swept values.
#[derive(Clone, Debug)]
pub struct Grid<'a> {
    /// Swept keys, sorted; empty if nothing is swept.
    pub axes: Vec<&'a str>,
    /// Modes in plan order, each with its variant if there are any.
    pub modes: Vec<String>,
    /// One value per axis and column, in plan order; a point without the key has `None`.
    pub columns: Vec<Vec<Option<Fixed>>>,
    points: BTreeMap<(usize, usize), &'a PointRecord>,
}

impl<'a> Grid<'a> {
    /// Sorts points into a grid. Of several points at the same place the first counts.
    pub fn new(points: &'a [PointRecord]) -> Self {
        let mut axes: Vec<&str> = points.iter().flat_map(|p| p.axes.keys().map(String::as_str)).collect();
        axes.sort_unstable();
        axes.dedup();
        let mut grid = Grid { axes, modes: Vec::new(), columns: Vec::new(), points: BTreeMap::new() };
        for point in points {
            let column: Vec<_> = grid.axes.iter().map(|axis| point.axes.get(*axis).copied()).collect();
            let place = (place_of(&mut grid.modes, point.line()), place_of(&mut grid.columns, column));
            grid.points.entry(place).or_insert(point);
        }
        grid
    }

    /// The point of a mode (by position) in a column (by position).
    pub fn point(&self, mode: usize, column: usize) -> Option<&'a PointRecord> {
        self.points.get(&(mode, column)).copied()
    }

    /// One metric there.
    pub fn metric(&self, mode: usize, column: usize, name: &str) -> Option<&'a Metric> {
        self.point(mode, column)?.metric(name)
    }

    /// Names of all metrics: known ones in their usual order, then others as they first appear.
    pub fn metric_names(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for metric in self.points.values().flat_map(|point| &point.metrics) {
            place_of(&mut names, metric.name.as_str());
        }
        names.sort_by_key(|name| metrics::rank(name)); // stable
        names
    }
}

/// The points along one swept key with all others fixed.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// The fixed keys and their values, as `key = value, key = value`; empty if there are none.
    pub fixed: String,
    /// The points, in plan order.
    pub points: Vec<&'a PointRecord>,
}

/// Cuts the points along `key` into slices in which only `key` varies. Where the other keys change together with
/// `key`, so that no two points share them, there is one slice of all points.
pub fn slices<'a>(points: &'a [PointRecord], key: &str) -> Vec<Slice<'a>> {
    let along: Vec<&PointRecord> = points.iter().filter(|point| point.axes.contains_key(key)).collect();
    let others = |point: &PointRecord| -> Vec<(String, Fixed)> {
        point.axes.iter().filter(|(k, _)| *k != key).map(|(k, v)| (k.clone(), *v)).collect()
    };
    let mut keys = Vec::new();
    let mut slices: Vec<Slice> = Vec::new();
    for point in &along {
        let at = place_of(&mut keys, others(point));
        if at == slices.len() {
            let fixed: Vec<_> =
                keys[at].iter().map(|(k, v)| format!("{k} = {}", axis_value(point, k, *v))).collect();
            slices.push(Slice { fixed: fixed.join(", "), points: Vec::new() });
        }
        slices[at].points.push(point);
    }
    let lone = |slice: &Slice| slice.points.iter().all(|point| point.axes[key] == slice.points[0].axes[key]);
    if slices.len() > 1 && slices.iter().all(lone) {
        return vec![Slice { fixed: String::new(), points: along }];
    }
    slices
}

/// A value of a swept key as people read it.
pub fn axis_value(point: &PointRecord, key: &str, value: Fixed) -> String {
    match point.axis_unit(key) {
        "count" => human::count(value.get()),
        unit => human::tick(value.get(), unit),
    }
}

/// Modes of some points in their order, each with its variant if there are any.
pub fn modes(points: &[&PointRecord]) -> Vec<String> {
    let mut modes = Vec::new();
    for point in points {
        place_of(&mut modes, point.line());
    }
    modes
}

/// Position of `item`, which is appended if it is not there.
fn place_of<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|there| *there == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}
