//! `[sweep]`: keys that vary, and every combination of their values.

use crate::diagnostic::Diagnostic;
use crate::keys::{self, Kind, POINTS_MAX, grouped};
use crate::quantity;
use crate::reader::Context;
use crate::scenario::unknown_path;
use crate::tree::{At, Node, Table, Value};

/// One swept key.
pub struct Axis {
    /// Dotted path, for example `cluster.services`.
    pub key: String,
    /// Place of the key.
    pub at: At,
    /// Its values in the order of the list.
    pub values: Vec<Node>,
}

/// Reads the sweep table; a plan without one has no axes and one point.
pub fn axes(cx: &mut Context<'_>, root: &Table) -> Vec<Axis> {
    let mut axes = Vec::new();
    let Some(entry) = root.get("sweep") else { return axes };
    match &entry.node.value {
        Value::Table(table) => collect(cx, table, "", &mut axes),
        other => cx.out.push(
            Diagnostic::new(entry.node.at, "sweep", format!("`sweep` must be {}", Kind::Sweep.expected()))
                .label(format!("this is {}", other.kind())),
        ),
    }
    axes
}

/// Quoted keys hold the whole path, nested tables (`cluster.services = [...]` without quotes) a part of it.
fn collect(cx: &mut Context<'_>, table: &Table, prefix: &str, axes: &mut Vec<Axis>) {
    for entry in &table.entries {
        let path = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        let key_path = format!("sweep.{path}");
        let values = match &entry.node.value {
            Value::Table(inner) => {
                collect(cx, inner, &path, axes);
                continue;
            }
            Value::Array(values) if !values.is_empty() => values.clone(),
            other => {
                let what = if matches!(other, Value::Array(_)) { "an empty list" } else { other.kind() };
                let message = format!("`{path}` must sweep over a list of values");
                cx.out.push(
                    Diagnostic::new(entry.node.at, &key_path, message).label(format!("this is {what}")),
                );
                continue;
            }
        };
        match keys::find(&path) {
            Err((section, part)) => cx.out.push(unknown_path(entry.key_at, &key_path, section, &part)),
            Ok(key) if !key.kind.can_sweep() || path == "seed" => {
                let d = Diagnostic::new(entry.key_at, &key_path, format!("`{path}` cannot be swept"));
                cx.out.push(d.help(
                    "allowed: keys that take a number, a time or a rate; modes are compared by listing them in proxy.modes, \
                     anything else by [[variants]]",
                ));
            }
            Ok(_) if axes.iter().any(|a| a.key == path) => {
                cx.out.push(Diagnostic::new(entry.key_at, &key_path, format!("`{path}` is swept twice")));
            }
            // Other wrong values are told where the key is read.
            Ok(key)
                if matches!(key.kind, Kind::Endpoints | Kind::PodShare)
                    && values.iter().any(|n| !matches!(n.value, Value::Integer(_))) =>
            {
                let message = format!("`{path}` stands on an axis, which takes numbers only");
                let d = Diagnostic::new(entry.node.at, &key_path, message);
                cx.out.push(d.help("[[variants]] compare anything else"));
            }
            Ok(_) => axes.push(Axis { key: path, at: entry.key_at, values }),
        }
    }
}

/// Every combination of values, as indices into the axes, the last axis running fastest. Refuses too many.
pub fn combinations(cx: &mut Context<'_>, axes: &[Axis], modes: usize) -> Vec<Vec<usize>> {
    let total = axes.iter().fold(modes.max(1) as u64, |n, a| n.saturating_mul(a.values.len() as u64));
    if total > POINTS_MAX {
        let message = format!(
            "the sweep has {} points and modes, at most {} are run",
            grouped(total),
            grouped(POINTS_MAX)
        );
        cx.out.push(
            Diagnostic::new(axes[0].at, "sweep", message)
                .help("the product of all lists and modes is run: shorten a list"),
        );
        return Vec::new();
    }
    let mut all = vec![Vec::new()];
    for axis in axes {
        all = all
            .iter()
            .flat_map(|head: &Vec<usize>| {
                (0..axis.values.len()).map(move |i| {
                    let mut next = head.clone();
                    next.push(i);
                    next
                })
            })
            .collect();
    }
    all
}

/// The place of a value on its axis: a count as it is, a time in nanoseconds, a rate per second.
pub fn number(key: &str, node: &Node) -> Option<f64> {
    match (&node.value, keys::find(key).ok()?.kind) {
        (Value::Integer(n), _) => Some(*n as f64),
        (Value::Float(x), Kind::Number { .. } | Kind::Ratio) => Some(*x),
        (Value::Text(text), Kind::Ratio) => quantity::ratio(text).ok(),
        (Value::Text(text), Kind::Span { .. }) => Some(quantity::span(text).ok()?.as_ns() as f64),
        (Value::Text(text), Kind::Rate { per_node, .. }) => quantity::rate(text, per_node).ok(),
        _ => None,
    }
}
