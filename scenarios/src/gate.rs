//! Gates: conditions on a run's figures, such as `ipvs.first_packet_p99 < 50us`.
//!
//! ```text
//! gate    = figure op limit [ "at" key "=" value ]
//! figure  = [ mode "." ] metric            without a mode: every mode
//! op      = "<" | "<=" | ">" | ">="
//! limit   = quantity | [ factor "*" ] mode "." metric
//! ```
//! Places are separated by commas, and `variant = name` is one. A gate holds if it holds at every point it speaks of. A gate that finds no figure to judge fails.

use crate::keys::Family;
use crate::known::Known;
use crate::quantity::{Quantity, quantity};
use crate::refusal::known_name;
use sim_core::record::{GateRecord, Metric, PointRecord, RunRecord};

/// A parsed gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// As written.
    pub expect: String,
    /// Figure that is judged.
    pub figure: Figure,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub limit: Limit,
    /// Swept keys and values it is confined to.
    pub at: Vec<(String, f64)>,
    /// Variant it is confined to.
    pub variant: Option<String>,
}

/// A figure of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Mode; none means each.
    pub mode: Option<String>,
    /// Name of the metric.
    pub metric: String,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// A fixed quantity.
    Quantity(Quantity),
    /// A multiple of a figure at the same sweep point.
    Figure(f64, Figure),
}

impl Op {
    fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Op::Less => a < b,
            Op::AtMost => a <= b,
            Op::More => a > b,
            Op::AtLeast => a >= b,
        }
    }
    /// Positive if `a` is closer to failing than `b`.
    fn worse(self, a: f64, b: f64) -> bool {
        match self {
            Op::Less | Op::AtMost => a > b,
            Op::More | Op::AtLeast => a < b,
        }
    }
}

/// How gates are written, for messages.
pub const SYNTAX: &str = "[mode.]metric < limit [at key = value]; the limit is a quantity or [factor *] mode.metric; also <=, >, >=";

/// What gates may name.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Figures.
    pub known: &'a Known,
    /// Modes that run.
    pub modes: &'a [String],
    /// Swept keys.
    pub swept: &'a [&'a str],
    /// Variants that run.
    pub variants: &'a [&'a str],
}

/// Parses a gate.
///
/// # Errors
/// What is wrong, and what is allowed instead.
pub fn parse(text: &str, names: Names<'_>) -> Result<Gate, (String, String)> {
    let Names { known, modes, swept, variants } = names;
    let (condition, places) = match text.split_once(" at ") {
        Some((condition, places)) => (condition, places.split(',').map(str::trim).collect()),
        None => (text, Vec::new()),
    };
    let (mut at, mut variant) = (Vec::new(), None);
    for place in places {
        let syntax = || (format!("`{place}` is not `key = value`"), SYNTAX.to_owned());
        let (key, value) = place.split_once('=').ok_or_else(syntax)?;
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        if key == "variant" {
            if !variants.contains(&value) {
                let allowed = format!("variants: {}", variants.join(", "));
                return Err((format!("there is no variant `{value}`"), allowed));
            }
            variant = Some(value.to_owned());
            continue;
        }
        if !swept.contains(&key) {
            return Err((format!("`{key}` is not swept"), format!("swept keys: {}", swept.join(", "))));
        }
        let value = quantity(value).map_err(|e| (e, SYNTAX.to_owned()))?;
        at.push((key.to_owned(), value.value()));
    }
    let start = condition
        .find(['<', '>'])
        .ok_or_else(|| (format!("`{text}` compares nothing"), SYNTAX.to_owned()))?;
    let (left, rest) = condition.split_at(start);
    let (op, right) = match rest.as_bytes() {
        [b'<', b'=', ..] => (Op::AtMost, &rest[2..]),
        [b'>', b'=', ..] => (Op::AtLeast, &rest[2..]),
        [b'<', ..] => (Op::Less, &rest[1..]),
        _ => (Op::More, &rest[1..]),
    };
    let right = right.trim();
    let limit = if right.starts_with(|c: char| c.is_ascii_digit()) {
        match right.split_once('*') {
            Some((factor, figure)) => {
                let factor = quantity(factor.trim()).map_err(|e| (e, SYNTAX.to_owned()))?;
                Limit::Figure(factor.value(), self::figure(figure.trim(), known, modes)?)
            }
            None => Limit::Quantity(quantity(right).map_err(|e| (e, SYNTAX.to_owned()))?),
        }
    } else {
        Limit::Figure(1.0, figure(right, known, modes)?)
    };
    let figure = figure(left.trim(), known, modes)?;
    Ok(Gate { expect: text.to_owned(), figure, op, limit, at, variant })
}

fn figure(text: &str, known: &Known, modes: &[String]) -> Result<Figure, (String, String)> {
    if text.is_empty() {
        return Err(("a figure is missing".into(), SYNTAX.to_owned()));
    }
    let (mode, metric) = match text.split_once('.') {
        Some((mode, metric)) => (Some(mode), metric),
        None => (None, text),
    };
    if let Some(mode) = mode
        && !modes.iter().any(|m| m == mode)
    {
        return Err((format!("mode `{mode}` does not run"), format!("allowed: {}", modes.join(", "))));
    }
    known_name(metric, Family::Metric, known).map_err(|r| r.into_parts())?;
    Ok(Figure { mode: mode.map(str::to_owned), metric: metric.to_owned() })
}

impl Gate {
    /// Judges the gate on a finished run.
    pub fn evaluate(&self, record: &RunRecord) -> GateRecord {
        let mut judged = 0usize;
        let mut failed = Vec::new();
        let mut worst: Option<(f64, String)> = None;
        for point in record.points.iter().filter(|p| self.speaks_of(p)) {
            let Some(metric) = point.metric(&self.figure.metric) else { continue };
            let value = metric.value.get();
            let limit = match self.limit_at(point, metric, record) {
                Ok(limit) => limit,
                Err(reason) => {
                    failed.push(reason);
                    continue;
                }
            };
            judged += 1;
            let held = self.op.holds(value, limit);
            // The ratio makes points comparable where the limit itself varies from point to point.
            let closeness = if limit != 0.0 { value / limit } else { value };
            let observed =
                format!("{value} {} against {limit} ({}{})", metric.unit, point.line(), place(point));
            if worst.as_ref().is_none_or(|(w, _)| self.op.worse(closeness, *w)) {
                worst = Some((closeness, observed.clone()));
            }
            if !held {
                failed.push(observed);
            }
        }
        let observed = match (failed.first(), worst) {
            (_, Some((_, observed))) => observed,
            (Some(reason), None) => reason.clone(),
            (None, None) => "no figure to judge".to_owned(),
        };
        GateRecord { expect: self.expect.clone(), passed: failed.is_empty() && judged > 0, observed }
    }

    fn speaks_of(&self, point: &PointRecord) -> bool {
        let mode = self.figure.mode.as_ref().is_none_or(|m| *m == point.mode);
        let variant = self.variant.as_ref().is_none_or(|name| *name == point.variant);
        let on = |(key, value): &(String, f64)| point.axes.get(key).is_some_and(|v| v.get() == *value);
        mode && variant && self.at.iter().all(on)
    }

    fn limit_at(&self, point: &PointRecord, metric: &Metric, record: &RunRecord) -> Result<f64, String> {
        match &self.limit {
            Limit::Quantity(q) if q.unit() == metric.unit => Ok(q.value()),
            // A bare number is taken in the metric's own unit, whatever a profile counts in.
            Limit::Quantity(Quantity::Number(n)) => Ok(*n),
            Limit::Quantity(q) => {
                Err(format!("{} is in {}, the limit in {}", metric.name, metric.unit, q.unit()))
            }
            Limit::Figure(factor, figure) => {
                let mode = figure.mode.as_ref().unwrap_or(&point.mode);
                let same =
                    |p: &&PointRecord| p.mode == *mode && p.axes == point.axes && p.variant == point.variant;
                let other = record.points.iter().find(same);
                let other = other.and_then(|p| p.metric(&figure.metric));
                other
                    .map(|m| factor * m.value.get())
                    .ok_or_else(|| format!("no {mode}.{} to compare with", figure.metric))
            }
        }
    }
}

fn place(point: &PointRecord) -> String {
    point.axes.iter().map(|(key, value)| format!(", {key} = {}", value.get())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sim_core::record::{Basis, Fixed, ProfileRecord, SCHEMA};

    fn gate(text: &str) -> Gate {
        let modes = ["iptables".to_owned(), "ipvs".to_owned()];
        let (known, swept) = (&crate::tests::known(), &["cluster.services"][..]);
        parse(text, Names { known, modes: &modes, swept, variants: &[] })
            .unwrap_or_else(|(m, h)| panic!("{m}: {h}"))
    }

    /// A record with first_packet_p99 in ns: (mode, services, value).
    pub(crate) fn record(rows: &[(&str, f64, f64)]) -> RunRecord {
        let points = rows.iter().enumerate().map(|(i, (mode, services, value))| PointRecord {
            index: i as u32,
            mode: (*mode).to_owned(),
            variant: String::new(),
            axes: [("cluster.services".to_owned(), Fixed::new(*services))].into(),
            axis_units: Default::default(),
            services: *services as u64,
            endpoints: Fixed::new(1.0),
            metrics: vec![Metric {
                name: "first_packet_p99".into(),
                value: Fixed::new(*value),
                unit: "ns".into(),
                basis: Basis::Calibrated,
            }],
            distributions: Vec::new(),
            series: Vec::new(),
            timeline: Vec::new(),
            work: [].into(),
            events: 0,
            fingerprint: String::new(),
        });
        let profile = ProfileRecord {
            name: String::new(),
            unit: "ns".into(),
            description: String::new(),
            constants: Vec::new(),
        };
        RunRecord {
            schema: SCHEMA,
            tool: String::new(),
            name: String::new(),
            title: String::new(),
            scenario_hash: String::new(),
            seed: 1,
            profile,
            points: points.collect(),
            charts: Vec::new(),
            crossovers: Vec::new(),
            gates: Vec::new(),
            published: Vec::new(),
            notes: Vec::new(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn gates_are_judged_at_every_point_they_speak_of() {
        let record = record(&[
            ("iptables", 250.0, 9_000.0),
            ("ipvs", 250.0, 6_000.0),
            ("iptables", 4_000.0, 80_000.0),
            ("ipvs", 4_000.0, 7_000.0),
        ]);
        for (text, passed, observed) in [
            ("ipvs.first_packet_p99 < 50us", true, "7000 ns against 50000 (ipvs, cluster.services = 4000)"),
            ("first_packet_p99 < 50us", false, "80000 ns against 50000 (iptables, cluster.services = 4000)"),
            ("first_packet_p99 <= 9us at cluster.services = 250", true, "9000 ns against 9000 (iptables"),
            ("ipvs.first_packet_p99 < 0.5 * iptables.first_packet_p99", false, "6000 ns against 4500 (ipvs"),
            (
                "ipvs.first_packet_p99 < 0.5 * iptables.first_packet_p99 at cluster.services = 4000",
                true,
                "7000 ns",
            ),
            ("iptables.first_packet_p99 > ipvs.first_packet_p99", true, "9000 ns against 6000"),
            ("ipvs.first_packet_p99 < 10000", true, "7000 ns against 10000"),
            ("ipvs.first_packet_p99 < 10MB", false, "first_packet_p99 is in ns, the limit in bytes"),
            ("ipvs.first_packet_mean < 1s", false, "no figure to judge"),
        ] {
            let result = gate(text).evaluate(&record);
            assert_eq!(result.passed, passed, "{text}: {}", result.observed);
            assert!(result.observed.starts_with(observed), "{text}: {}", result.observed);
        }
    }

    #[test]
    fn one_failed_point_fails_a_gate_even_if_it_is_not_the_worst_looking() {
        let record = record(&[("ipvs", 1.0, 10.0), ("ipvs", 2.0, 90.0), ("ipvs", 3.0, 20.0)]);
        let result = gate("ipvs.first_packet_p99 < 50ns").evaluate(&record);
        assert!(!result.passed && result.observed.contains("cluster.services = 2"), "{}", result.observed);
    }
}
