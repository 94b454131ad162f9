//! What keys of the cluster in time take: shares, pods, nodes, tables of keys.

use super::{Context, Reader, Spot};
use crate::keys::Kind;
use crate::quantity::{self, Quantity, quantity};
use crate::refusal::{Refusal, Refusals, unit_text};
use crate::tree::{At, Node, Table, Value};
use sim_models::config::Share;

/// Nodes as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeList {
    /// Every one.
    All,
    /// These.
    These(Vec<(NodeName, At)>),
}

/// One node as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeName {
    /// Its number, from 0.
    Number(u64),
    /// Its name.
    Name(String),
}

/// How far off a simulated figure may be from a published one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all.
    Exact,
    /// By this share of the published figure, up or down.
    Share(f64),
    /// By this factor, up or down.
    Factor(f64),
}

impl Tolerance {
    fn parse(text: &str) -> Option<Tolerance> {
        if text == "exact" {
            return Some(Tolerance::Exact);
        }
        if let Some(factor) = text.strip_prefix("factor") {
            let Ok(Quantity::Number(factor)) = quantity(factor) else { return None };
            return (factor >= 1.0).then_some(Tolerance::Factor(factor));
        }
        let Ok(Quantity::Ratio(share)) = quantity(text) else { return None };
        Some(Tolerance::Share(share))
    }

    /// Whether `simulated` is near enough to `published`.
    pub fn allows(self, simulated: f64, published: f64) -> bool {
        match self {
            Tolerance::Exact => simulated == published,
            Tolerance::Share(share) => (simulated - published).abs() <= share * published.abs(),
            Tolerance::Factor(factor) => {
                let (low, high) = (published / factor, published * factor);
                (low.min(high)..=low.max(high)).contains(&simulated)
            }
        }
    }
}

impl<'t> Reader<'t> {
    /// A number, whole or not, within the key's limits.
    pub fn number(&self, cx: &mut Context<'_>, name: &str) -> Spot<f64> {
        self.spot(cx, name, 1.0, |key, node, _| {
            let Kind::Number { min, max } = key.kind else { panic!("{name} is not a number") };
            let number = match node.value {
                Value::Integer(n) => n as f64,
                Value::Float(x) => x,
                _ => return Err(Refusal::kind(key, node)),
            };
            if number < 0.0 {
                return Err(Refusal::new(format!("`{name}` is negative")));
            }
            match (min..=max).contains(&number) {
                true => Ok(number),
                false => Err(Refusal::new(format!("`{name}` must be from {min} to {max}"))),
            }
        })
    }

    /// A share of one.
    pub fn ratio(&self, cx: &mut Context<'_>, name: &str) -> Spot<f64> {
        self.spot(cx, name, 0.0, |key, node, _| {
            let share = match &node.value {
                Value::Integer(n) => *n as f64,
                Value::Float(x) => *x,
                Value::Text(_) => quantity::ratio(unit_text(key, node)?).map_err(Refusal::new)?,
                _ => return Err(Refusal::kind(key, node)),
            };
            match (0.0..=1.0).contains(&share) {
                true => Ok(share),
                false => Err(Refusal::new(format!("`{name}` must be a share from 0 to 1"))
                    .help(format!("allowed: {}", key.kind.expected()))),
            }
        })
    }

    /// A number of pods or a share of them.
    pub fn pod_share(&self, cx: &mut Context<'_>, name: &str) -> Spot<Share> {
        self.spot(cx, name, Share::Pods(1), |key, node, _| {
            let refused = || Refusal::kind(key, node);
            match &node.value {
                Value::Integer(n) if *n < 0 => Err(Refusal::new(format!("`{name}` is negative"))),
                Value::Integer(n) => u32::try_from(*n).map(Share::Pods).map_err(|_| refused()),
                Value::Text(text) => {
                    let digits = text.strip_suffix('%').map(str::trim);
                    let percent = digits.and_then(|digits| digits.parse().ok());
                    match percent {
                        Some(percent) if percent <= 100 => Ok(Share::Percent(percent)),
                        _ => Err(Refusal::new(format!("`{text}` is not a share of pods"))
                            .help(format!("allowed: {}, from 0% to 100%", key.kind.expected()))),
                    }
                }
                _ => Err(refused()),
            }
        })
    }

    /// Nodes; which there are is checked later.
    pub fn nodes(&self, cx: &mut Context<'_>, name: &str) -> Spot<NodeList> {
        self.spot(cx, name, NodeList::All, |key, node, _| {
            let items = match &node.value {
                Value::Text(word) if word == "all" => return Ok(NodeList::All),
                Value::Array(items) if !items.is_empty() => items,
                Value::Array(_) => {
                    return Err(Refusals::from(
                        Refusal::new(format!("`{name}` is empty"))
                            .help(format!("allowed: {}", key.kind.expected())),
                    ));
                }
                _ => return Err(Refusal::kind(key, node).into()),
            };
            let mut nodes = Vec::new();
            let mut refusals = Vec::new();
            for item in items {
                match &item.value {
                    Value::Integer(n) => match u64::try_from(*n) {
                        Ok(n) => nodes.push((NodeName::Number(n), item.at)),
                        Err(_) => refusals.push(Refusal::new(format!("there is no node {n}")).at(item.at)),
                    },
                    Value::Text(text) => nodes.push((NodeName::Name(text.clone()), item.at)),
                    _ => refusals.push(Refusal::kind(key, item).at(item.at)),
                }
            }
            if refusals.is_empty() { Ok(NodeList::These(nodes)) } else { Err(Refusals(refusals)) }
        })
    }

    /// A number with whatever unit it has.
    pub fn quantity(&self, cx: &mut Context<'_>, name: &str) -> Spot<Quantity> {
        self.spot(cx, name, Quantity::Number(0.0), |key, node, _| match &node.value {
            Value::Integer(n) => Ok(Quantity::Number(*n as f64)),
            Value::Float(x) => Ok(Quantity::Number(*x)),
            Value::Text(_) => quantity(unit_text(key, node)?).map_err(Refusal::new),
            _ => Err(Refusal::kind(key, node)),
        })
    }

    /// How far off a figure may be.
    pub fn tolerance(&self, cx: &mut Context<'_>, name: &str) -> Spot<(Tolerance, String)> {
        self.spot(cx, name, (Tolerance::Exact, String::new()), |key, node, _| {
            let Value::Text(text) = &node.value else { return Err(Refusal::kind(key, node)) };
            let tolerance = Tolerance::parse(text.trim()).ok_or_else(|| {
                Refusal::new(format!("`{text}` is not a tolerance"))
                    .help(format!("allowed: {}", key.kind.expected()))
            })?;
            Ok((tolerance, text.trim().to_owned()))
        })
    }

    /// A table of dotted keys and values; none if it is not written.
    pub fn set(&self, cx: &mut Context<'_>, name: &str) -> Option<&'t Table> {
        let node: &'t Node = self.entry(name)?;
        match &node.value {
            Value::Table(table) => Some(table),
            _ => {
                cx.out.push(Refusal::kind(self.key(name), node).place(node.at, &self.key_path(name)));
                None
            }
        }
    }
}
