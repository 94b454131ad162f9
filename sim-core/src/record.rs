//! [`RunRecord`]: everything a report needs and the only thing it reads.
//!
//! A record is versioned JSON of integers and fixed decimals, so that two runs of the same inputs give the same
//! bytes. Modes, metrics and units are text: this module does not know what they mean.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the record's layout; raised when a field changes meaning.
pub const SCHEMA: u32 = 1;

/// A decimal number with three places, kept as an integer so that it is exact and compares exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed(i64);

impl Fixed {
    /// The number nearest to `value` with three decimals.
    ///
    /// # Panics
    /// If `value` is not finite or exceeds 9e15.
    pub fn new(value: f64) -> Self {
        assert!(value.is_finite() && value.abs() < 9e15, "not a recordable number: {value}");
        Fixed((value * 1000.0).round() as i64)
    }
    /// The number as a float, for plotting and arithmetic.
    pub fn get(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Serialize for Fixed {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 { s.serialize_i64(self.0 / 1000) } else { s.serialize_f64(self.get()) }
    }
}
impl<'de> Deserialize<'de> for Fixed {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(d)?;
        if !value.is_finite() || value.abs() >= 9e15 {
            return Err(serde::de::Error::custom(format!("{value} is not a recordable number")));
        }
        Ok(Fixed::new(value))
    }
}

/// What a figure rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Counted by real lookups over real rules; exact.
    Counted,
    /// Observed in the simulation, from counted work, calibrated prices and queueing.
    Simulated,
    /// Work times a calibrated price, inside the calibrated range.
    Calibrated,
    /// Work times a calibrated price, outside the range that the price was measured in.
    Extrapolated,
}

impl Basis {
    /// Lower-case name, as in CSV.
    pub fn name(self) -> &'static str {
        match self {
            Basis::Counted => "counted",
            Basis::Simulated => "simulated",
            Basis::Calibrated => "calibrated",
            Basis::Extrapolated => "extrapolated",
        }
    }
}

/// One run of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`SCHEMA`] at the time of writing.
    pub schema: u32,
    /// Name and version of the tool.
    pub tool: String,
    /// Stem of the scenario's file name.
    pub name: String,
    /// Title from the scenario.
    pub title: String,
    /// SHA-256 of the resolved scenario, hex.
    pub scenario_hash: String,
    /// Root of all random streams.
    pub seed: u64,
    /// Prices used.
    pub profile: ProfileRecord,
    /// One entry per sweep point and mode, in plan order.
    pub points: Vec<PointRecord>,
    /// Charts the scenario asks for.
    pub charts: Vec<ChartRecord>,
    /// Where modes cross.
    pub crossovers: Vec<Crossover>,
    /// Gates and whether they held.
    pub gates: Vec<GateRecord>,
    /// Figures that others have published, beside what was simulated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedRecord>,
    /// Remarks on validity: saturation, extrapolation, short runs. Empty means none.
    pub notes: Vec<String>,
    /// Combined fingerprint of every point's event stream, 16 hex digits.
    pub fingerprint: String,
}

/// The cost profile as used, with where each price comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// Profile name, for example `linux-6.18`.
    pub name: String,
    /// Unit of its prices: `ns` or `instr`.
    pub unit: String,
    /// One line on the machine and kernel it was measured on.
    pub description: String,
    /// Its constants.
    pub constants: Vec<ConstantRecord>,
}

/// One constant of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConstantRecord {
    /// What it prices.
    pub name: String,
    /// Value in `unit`.
    pub value: Fixed,
    /// Standard error or spread, in `unit`.
    pub error: Fixed,
    /// Unit of value and error.
    pub unit: String,
    /// Where it comes from.
    pub source: String,
}

/// One sweep point under one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointRecord {
    /// Position in the plan.
    pub index: u32,
    /// Proxy mode.
    pub mode: String,
    /// Name of the variant of the scenario; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Swept keys and their values at this point, for example `cluster.services` = `4000`.
    pub axes: BTreeMap<String, Fixed>,
    /// Units of those that are no counts: `ns`, `per_s`, `ratio`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axis_units: BTreeMap<String, String>,
    /// Services in the cluster.
    pub services: u64,
    /// Endpoints in the cluster divided by Services.
    pub endpoints: Fixed,
    /// Figures of this point, in the order in which tables show them.
    pub metrics: Vec<Metric>,
    /// Distributions of this point.
    pub distributions: Vec<Distribution>,
    /// Figures over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
    /// What was planned to happen when, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Moment>,
    /// Total work by unit name.
    pub work: BTreeMap<String, u64>,
    /// Events handled.
    pub events: u64,
    /// Fingerprint of the event stream, 16 hex digits.
    pub fingerprint: String,
}

/// One named figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Name, for example `first_packet_p99`.
    pub name: String,
    /// The figure.
    pub value: Fixed,
    /// Its unit: `ns`, `instr`, `count`, `bytes`, `per_s`, `ratio`, `mcores` (thousandths of a core).
    pub unit: String,
    /// What it rests on.
    pub basis: Basis,
}

/// A histogram of whole numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Name, for example `first_packet`.
    pub name: String,
    /// Unit of the bucket bounds.
    pub unit: String,
    /// (inclusive upper bound, count), bounds rising, only buckets that hold something.
    pub buckets: Vec<(u64, u64)>,
}

/// A figure over simulated time, from the end of the warm-up on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Name, for example `failures`.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// (nanoseconds since measuring began, value), times rising. A value holds from its time to the next.
    pub points: Vec<(u64, Fixed)>,
}

/// Something that was planned to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When, in nanoseconds since measuring began.
    pub at_ns: u64,
    /// What, in a few words.
    pub what: String,
}

/// A published figure beside the simulated one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRecord {
    /// What it says, in a few words; may be empty.
    pub what: String,
    /// Metric that it is held against.
    pub metric: String,
    /// Mode that it is of.
    pub mode: String,
    /// Variant that it is of; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Swept keys and their values there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, Fixed>,
    /// What is taken off first, in words, where the figure is a difference; empty if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub less: String,
    /// The published figure.
    pub value: Fixed,
    /// Unit of both figures.
    pub unit: String,
    /// The simulated figure; none if it was not simulated.
    pub simulated: Option<Fixed>,
    /// Simulated over published, less one; none if either is missing or the published one is zero.
    pub error: Option<Fixed>,
    /// How far off it may be, as written: `15%`, `factor 2`, `exact`; empty if nothing is claimed.
    pub tolerance: String,
    /// Whether it is no farther off than that.
    pub within: Option<bool>,
    /// True if the profile was fitted on this figure, so that it proves nothing.
    pub fit: bool,
    /// How the figure was come by: `V` read in the source, `D` read off a chart, `C` calculated from such.
    pub tag: String,
    /// Link to the source.
    pub source: String,
}

/// A chart that the scenario asks for: `y` over `x`, one line per `by`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartRecord {
    /// Swept key on the horizontal axis; or `time`, `distribution` (share above a value), `cumulative` (share up to it).
    pub x: String,
    /// Metric on the vertical axis; a series' name over `time`, a distribution's over the other two.
    pub y: String,
    /// What lines differ by; today always `mode`.
    pub by: String,
    /// Heading; empty means one is made from x and y.
    pub title: String,
    /// Logarithmic horizontal axis.
    pub log_x: bool,
    /// Logarithmic vertical axis.
    pub log_y: bool,
}

/// Where the lines of two modes cross in one metric along one swept key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossover {
    /// Swept key.
    pub axis: String,
    /// Metric compared.
    pub metric: String,
    /// Mode that is lower beyond the crossing.
    pub better: String,
    /// Mode that is lower before it.
    pub worse: String,
    /// Interpolated place of the crossing; absent if one mode is lower everywhere.
    pub at: Option<Fixed>,
    /// Swept values on both sides of the crossing, where there is one.
    pub between: Option<(Fixed, Fixed)>,
    /// `better` and `worse` at the largest swept value.
    pub at_end: (Fixed, Fixed),
}

/// A gate and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRecord {
    /// The expression as written.
    pub expect: String,
    /// Whether it held at every point.
    pub passed: bool,
    /// The worst observed value and where.
    pub observed: String,
}

impl PublishedRecord {
    /// Whether it is a figure of this point as it is, and no difference of two.
    pub fn is_of(&self, point: &PointRecord, metric: &str) -> bool {
        let on = |(key, value): (&String, &Fixed)| point.axes.get(key).is_none_or(|there| there == value);
        let same = self.metric == metric && self.mode == point.mode && self.variant == point.variant;
        same && self.less.is_empty() && self.axes.iter().all(on)
    }
}

impl PointRecord {
    /// Unit of a swept key.
    pub fn axis_unit(&self, key: &str) -> &str {
        self.axis_units.get(key).map_or("count", String::as_str)
    }

    /// What tells this point's line or row from others at the same place: the mode, with its variant.
    pub fn line(&self) -> String {
        if self.variant.is_empty() { self.mode.clone() } else { format!("{} {}", self.mode, self.variant) }
    }

    /// The metric of that name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|m| m.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_decimals_keep_three_places_through_json() {
        for (value, text) in [(1.0, "1"), (0.0005, "0.001"), (1234.5678, "1234.568"), (-2.25, "-2.25")] {
            let fixed = Fixed::new(value);
            assert_eq!(serde_json::to_string(&fixed).unwrap(), text);
            assert_eq!(serde_json::from_str::<Fixed>(text).unwrap(), fixed);
        }
    }
}
