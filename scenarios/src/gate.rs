//! Gates: conditions on a run's figures, such as `ipvs.first_packet_p99 < 50us`.
//!
//! ```text
//! gate    = figure op limit [ "at" key "=" value ]
//! figure  = [ mode "." ] metric            without a mode: every mode
//! op      = "<" | "<=" | ">" | ">="
//! limit   = quantity | [ factor "*" ] mode "." metric
//! ```
//! A gate holds if it holds at every point it speaks of. A gate that finds no figure to judge fails.

use crate::keys::Family;
use crate::known::Known;
use crate::quantity::{Quantity, quantity};
use crate::reader::known_name;
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
    /// Swept key and value it is confined to.
    pub at: Option<(String, f64)>,
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

/// Parses a gate whose modes must be among `modes` and whose `at` must name one of the swept keys.
///
/// # Errors
/// What is wrong, and what is allowed instead.
pub fn parse(text: &str, known: &Known, modes: &[String], swept: &[&str]) -> Result<Gate, (String, String)> {
    let (condition, at) = match text.split_once(" at ") {
        None => (text, None),
        Some((condition, place)) => {
            let syntax = || (format!("`{}` is not `key = value`", place.trim()), SYNTAX.to_owned());
            let (key, value) = place.split_once('=').ok_or_else(syntax)?;
            let key = key.trim();
            if !swept.contains(&key) {
                return Err((format!("`{key}` is not swept"), format!("swept keys: {}", swept.join(", "))));
            }
            let value = quantity(value.trim()).map_err(|e| (e, SYNTAX.to_owned()))?;
            (condition, Some((key.to_owned(), value.value())))
        }
    };
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
    Ok(Gate { expect: text.to_owned(), figure, op, limit, at })
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
                format!("{value} {} against {limit} ({}{})", metric.unit, point.mode, place(point));
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
        let place = self
            .at
            .as_ref()
            .is_none_or(|(key, value)| point.axes.get(key).is_some_and(|v| v.get() == *value));
        mode && place
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
                let other = record.points.iter().find(|p| p.mode == *mode && p.axes == point.axes);
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
