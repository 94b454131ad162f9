//! `[[published]]`: figures that others have measured, held against the simulated ones. A miss is shown, never hidden;
//! it fails a run only where a gate asks for that (`published within tolerance`).

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::quantity::Quantity;
use crate::reader::{Context, Reader, Spot, Tolerance};
use crate::sweep::{self, Axis};
use crate::tree::{At, Entry, Node, Value};
use crate::variants::Variant;
use sim_core::record::{Fixed, GateRecord, PointRecord, PublishedRecord, RunRecord};

/// The gate that judges all published figures.
pub const GATE: &str = "published within tolerance";

/// One figure as it is written.
pub struct Published {
    what: Spot<String>,
    metric: Spot<String>,
    mode: Option<Spot<String>>,
    at: Vec<Entry>,
    less: Option<Vec<Entry>>,
    value: Spot<Quantity>,
    tag: Spot<String>,
    source: Spot<String>,
    fit: Spot<bool>,
    tolerance: Option<Spot<(Tolerance, String)>>,
    path: String,
    place: At,
}

/// One figure whose place is known.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    metric: String,
    at: Place,
    less: Option<Place>,
    value: Quantity,
    tolerance: Option<(Tolerance, String)>,
    fit: bool,
    tag: String,
    source: String,
}

/// Where a figure is: everything that tells one point from all others.
#[derive(Clone, Debug, Default)]
struct Place {
    mode: String,
    variant: String,
    axes: Vec<(String, f64)>,
}

/// What a place can name.
pub struct Places<'a> {
    /// Modes that run in any variant.
    pub modes: &'a [String],
    /// Variants.
    pub variants: &'a [Variant],
    /// Swept keys.
    pub axes: &'a [Axis],
}

impl Published {
    /// Reads an entry.
    pub fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Published {
        let entries = |set: Option<&crate::tree::Table>| set.map(|table| table.entries.clone());
        let at = r.set(cx, "at");
        let less = r.set(cx, "less");
        Published {
            what: r.text(cx, "what"),
            metric: r.text(cx, "metric"),
            mode: r.entry("mode").map(|_| r.text(cx, "mode")),
            at: entries(at).unwrap_or_default(),
            less: entries(less),
            value: r.quantity(cx, "value"),
            tag: r.text(cx, "tag"),
            source: r.text(cx, "source"),
            fit: r.boolean(cx, "fit"),
            tolerance: r.entry("tolerance").map(|_| r.tolerance(cx, "tolerance")),
            path: r.path().to_owned(),
            place: r.at(),
        }
    }

    /// Whether a gate can judge it.
    pub fn is_claimed(&self) -> bool {
        self.tolerance.is_some() && !self.fit.value
    }

    /// Finds out where it is; tells what is wrong with that.
    pub fn resolve(&self, cx: &mut Context<'_>, places: &Places<'_>) -> Option<Figure> {
        let mut at = Place::default();
        let mut whole = true;
        match &self.mode {
            Some(spot) if !spot.ok => whole = false,
            Some(spot) => whole &= mode(cx, places, &spot.value, spot.at, &spot.key, &mut at),
            None => match places.modes {
                [only] => at.mode.clone_from(only),
                modes => {
                    let message = "several modes run: this figure must say of which it is";
                    let d = Diagnostic::new(self.place, &format!("{}.mode", self.path), message);
                    cx.out.push(d.help(format!("allowed: {}", modes.join(", "))));
                    whole = false;
                }
            },
        }
        whole &= fill(cx, places, &self.at, &format!("{}.at", self.path), &mut at);
        whole &= self.complete(cx, places, &at);
        let less = self.less.as_ref().map(|entries| {
            let mut less = at.clone();
            whole &= fill(cx, places, entries, &format!("{}.less", self.path), &mut less);
            less
        });
        whole &= self.unit_fits(cx);
        let ok = whole && self.metric.ok && self.value.ok && self.tag.ok && self.source.ok;
        ok.then(|| Figure {
            what: self.what.value.clone(),
            metric: self.metric.value.clone(),
            at,
            less,
            value: self.value.value,
            tolerance: self.tolerance.as_ref().filter(|spot| spot.ok).map(|spot| spot.value.clone()),
            fit: self.fit.value,
            tag: self.tag.value.clone(),
            source: self.source.value.clone(),
        })
    }

    /// Whether the place leaves only one point.
    fn complete(&self, cx: &mut Context<'_>, places: &Places<'_>, at: &Place) -> bool {
        let mut open: Vec<String> = Vec::new();
        for axis in places.axes {
            if axis.values.len() > 1 && !at.axes.iter().any(|(key, _)| *key == axis.key) {
                open.push(format!("`{}`", axis.key));
            }
        }
        if places.variants.len() > 1 && at.variant.is_empty() {
            open.push("`variant`".into());
        }
        if !open.is_empty() {
            let message = format!("`at` must also say {}", open.join(" and "));
            cx.out.push(Diagnostic::new(self.place, &format!("{}.at", self.path), message));
        }
        open.is_empty()
    }

    fn unit_fits(&self, cx: &mut Context<'_>) -> bool {
        let units = &cx.known.metric_units;
        let Some((_, unit)) = units.iter().find(|(name, _)| *name == self.metric.value) else { return true };
        let fits = match (self.value.value, unit.as_str()) {
            (Quantity::Number(_), unit) => unit != "ns" && unit != "bytes",
            (value, "cost") => value.unit() == "ns",
            (value, unit) => value.unit() == unit,
        };
        if self.value.ok && !fits {
            let unit = if unit == "cost" { "ns" } else { unit };
            let message =
                format!("{} is in {unit}, this value in {}", self.metric.value, self.value.value.unit());
            cx.out.push(self.value.wrong(message));
        }
        fits
    }
}

fn mode(cx: &mut Context<'_>, places: &Places<'_>, text: &str, at: At, key: &str, place: &mut Place) -> bool {
    if places.modes.iter().any(|mode| mode == text) {
        place.mode = text.to_owned();
        return true;
    }
    let d = Diagnostic::new(at, key, format!("mode `{text}` does not run"));
    cx.out.push(d.help(format!("allowed: {}", places.modes.join(", "))));
    false
}

/// Reads `{ "cluster.services" = 4000, variant = "after" }` into a place.
fn fill(cx: &mut Context<'_>, places: &Places<'_>, entries: &[Entry], path: &str, place: &mut Place) -> bool {
    let before = cx.out.list.len();
    for Entry { key, key_at, node } in entries {
        let told = format!("{path}.{key}");
        let text = match &node.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        };
        match (key.as_str(), text) {
            ("mode", Some(text)) if path.ends_with("less") => {
                mode(cx, places, text, node.at, &told, place);
            }
            ("variant", Some(text)) if places.variants.iter().any(|v| v.name == text) => {
                place.variant = text.to_owned();
            }
            ("variant", _) => {
                let names: Vec<&str> = places.variants.iter().map(|v| v.name.as_str()).collect();
                let mut d =
                    Diagnostic::new(node.at, &told, format!("there is no variant {}", node.value.to_toml()));
                if let Some(near) = did_you_mean(text.unwrap_or_default(), names.iter().copied()) {
                    d = d.label(format!("did you mean `{near}`?"));
                }
                cx.out.push(d.help(format!("allowed: {}", names.join(", "))));
            }
            _ => match places.axes.iter().find(|axis| axis.key == *key) {
                Some(axis) => swept(cx, axis, node, &told, place),
                None => {
                    let swept: Vec<&str> =
                        places.axes.iter().map(|a| a.key.as_str()).chain(["variant"]).collect();
                    let mut d = Diagnostic::new(*key_at, &told, format!("`{key}` is not swept"));
                    if let Some(near) = did_you_mean(key, swept.iter().copied()) {
                        d = d.label(format!("did you mean `{near}`?"));
                    }
                    cx.out.push(d.help(format!("allowed: {}", swept.join(", "))));
                }
            },
        }
    }
    cx.out.list.len() == before
}

fn swept(cx: &mut Context<'_>, axis: &Axis, node: &Node, told: &str, place: &mut Place) {
    let value = sweep::number(&axis.key, node);
    // A key that --set has pinned to another value leaves the figure without a simulated one.
    let there = |value: &f64| {
        let has = axis.values.iter().any(|n| sweep::number(&axis.key, n) == Some(*value));
        has || axis.values.iter().all(|n| n.at.source != 0)
    };
    match value.filter(there) {
        Some(value) => {
            place.axes.retain(|(key, _)| *key != axis.key);
            place.axes.push((axis.key.clone(), value));
        }
        None => {
            let values: Vec<String> = axis.values.iter().map(|n| n.value.to_toml()).collect();
            let message = format!("`{}` is never {}", axis.key, node.value.to_toml());
            let d = Diagnostic::new(node.at, told, message);
            cx.out.push(d.help(format!("swept values: {}", values.join(", "))));
        }
    }
}

impl Place {
    fn holds(&self, point: &PointRecord) -> bool {
        let on = |(key, value): &(String, f64)| {
            point.axes.get(key).is_none_or(|there| *there == Fixed::new(*value))
        };
        point.mode == self.mode && point.variant == self.variant && self.axes.iter().all(on)
    }

    fn told(&self) -> String {
        let axes = self.axes.iter().map(|(key, value)| format!("{key} = {value}"));
        let variant =
            Some(&self.variant).filter(|name| !name.is_empty()).map(|name| format!("variant {name}"));
        axes.chain(variant).collect::<Vec<_>>().join(", ")
    }
}

impl Figure {
    /// The figure beside what was simulated.
    pub fn evaluate(&self, record: &RunRecord) -> PublishedRecord {
        let metric = |place: &Place| {
            let point = record.points.iter().find(|point| place.holds(point))?;
            point.metric(&self.metric)
        };
        let here = metric(&self.at);
        let unit = here.map_or_else(|| self.value.unit().to_owned(), |metric| metric.unit.clone());
        let simulated = match &self.less {
            None => here.map(|metric| metric.value.get()),
            Some(less) => here.zip(metric(less)).map(|(a, b)| a.value.get() - b.value.get()),
        };
        // A profile that counts instructions has nothing to say of published times.
        let same_unit = matches!(self.value, Quantity::Number(_)) || self.value.unit() == unit;
        let simulated = simulated.filter(|_| same_unit);
        let value = self.value.value();
        let error = simulated.filter(|_| value != 0.0).map(|simulated| simulated / value - 1.0);
        let less = self.less.as_ref().map_or_else(String::new, Place::told);
        PublishedRecord {
            what: self.what.clone(),
            metric: self.metric.clone(),
            mode: self.at.mode.clone(),
            variant: self.at.variant.clone(),
            axes: self.at.axes.iter().map(|(key, value)| (key.clone(), Fixed::new(*value))).collect(),
            less,
            value: Fixed::new(value),
            unit: if same_unit { unit } else { self.value.unit().to_owned() },
            simulated: simulated.map(Fixed::new),
            error: error.map(Fixed::new),
            tolerance: self.tolerance.as_ref().map_or_else(String::new, |(_, text)| text.clone()),
            within: self
                .tolerance
                .as_ref()
                .zip(simulated)
                .map(|((tolerance, _), simulated)| tolerance.allows(simulated, value)),
            fit: self.fit,
            tag: self.tag.clone(),
            source: self.source.clone(),
        }
    }
}

/// Judges all published figures that were not fitted and that claim a tolerance.
pub fn judge(record: &RunRecord) -> GateRecord {
    let claimed = || record.published.iter().filter(|p| !p.fit && !p.tolerance.is_empty());
    let all = claimed().count();
    let missed: Vec<String> = claimed()
        .filter(|p| p.within != Some(true))
        .map(|p| {
            let axes = p.axes.iter().map(|(key, value)| format!(", {key} = {}", value.get()));
            let place: String = [p.mode.as_str(), " ", p.variant.as_str()].concat().trim_end().to_owned();
            let place: String = std::iter::once(place).chain(axes).collect();
            let simulated = p.simulated.map_or_else(|| "nothing".to_owned(), |v| v.get().to_string());
            format!("{} {simulated} against {} {} ({place})", p.metric, p.value.get(), p.unit)
        })
        .collect();
    let observed = match missed.first() {
        None => format!("{all} of {all} within"),
        Some(first) => format!("{} of {all} within; {first}", all - missed.len()),
    };
    GateRecord { expect: GATE.to_owned(), passed: missed.is_empty() && all > 0, observed }
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Style;
    use crate::gate::tests::record;
    use crate::plan::Plan;
    use crate::scenario::Scenario;
    use sim_core::record::RunRecord;

    const HEAD: &str = "[proxy]\nmodes = [\"iptables\", \"ipvs\"]\n[sweep]\n\"cluster.services\" = [100, 200]\n\
        [[gates]]\nexpect = \"published within tolerance\"\n";

    fn figure(rest: &str) -> String {
        format!(
            "[[published]]\nmetric = \"first_packet_p99\"\nmode = \"ipvs\"\ntag = \"V\"\nsource = \"https://example.org\"\n{rest}\n"
        )
    }

    fn judged(text: &str, sets: &[&str]) -> RunRecord {
        let mut scenario = Scenario::parse("test.toml", text).unwrap();
        sets.iter().for_each(|set| scenario.set(set));
        let plan = Plan::new(&scenario, &crate::tests::known())
            .unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)));
        let mut record = record(&[
            ("iptables", 100.0, 9_000.0),
            ("ipvs", 100.0, 6_000.0),
            ("iptables", 200.0, 20_000.0),
            ("ipvs", 200.0, 7_000.0),
        ]);
        record.points.retain(|p| {
            plan.points.iter().any(|planned| planned.axes[0].1 == p.axes["cluster.services"].get())
        });
        plan.judge(&mut record);
        record
    }

    #[test]
    fn a_figure_is_held_against_the_point_it_names() {
        let at = "at = { \"cluster.services\" = 200 }\n";
        for (rest, error, within) in [
            ("value = \"8us\"\ntolerance = \"15%\"", Some(-0.125), Some(true)),
            ("value = \"8us\"\ntolerance = \"10%\"", Some(-0.125), Some(false)),
            ("value = \"14us\"\ntolerance = \"factor 2\"", Some(-0.5), Some(true)),
            ("value = \"7us\"\ntolerance = \"exact\"", Some(0.0), Some(true)),
            ("value = 5_600", Some(0.25), None),
            // The difference of two modes: 7 us less 20 us.
            ("value = \"13us\"\nless = { mode = \"iptables\" }", Some(-2.0), None),
        ] {
            let record = judged(&format!("{HEAD}{}{}", figure(&format!("{at}{rest}")), claimed()), &[]);
            let got = &record.published[0];
            assert_eq!((got.error.map(|e| e.get()), got.within), (error, within), "{rest}: {got:?}");
        }
    }

    /// One that holds, so that the gate has something to judge.
    fn claimed() -> String {
        figure("at = { \"cluster.services\" = 100 }\nvalue = \"6us\"\ntolerance = \"exact\"")
    }

    #[test]
    fn a_miss_fails_a_run_only_through_the_gate_and_a_fitted_figure_never() {
        let miss = figure("at = { \"cluster.services\" = 200 }\nvalue = \"1us\"\ntolerance = \"10%\"");
        let gates = |text: &str| {
            let record = judged(text, &[]);
            record.gates.iter().map(|g| (g.passed, g.observed.clone())).collect::<Vec<_>>()
        };
        assert_eq!(gates(&format!("{HEAD}{}", claimed())), [(true, "1 of 1 within".to_owned())]);
        let missed = "1 of 2 within; first_packet_p99 7000 against 1000 ns (ipvs, cluster.services = 200)";
        assert_eq!(gates(&format!("{HEAD}{miss}{}", claimed())), [(false, missed.to_owned())]);
        let fitted = format!("{HEAD}{miss}fit = true\n{}", claimed());
        assert_eq!(gates(&fitted), [(true, "1 of 1 within".to_owned())]);
        let ungated = HEAD.replace("[[gates]]\nexpect = \"published within tolerance\"\n", "");
        assert_eq!(gates(&format!("{ungated}{miss}")), []);
    }

    #[test]
    fn a_figure_whose_place_an_override_has_pinned_away_is_shown_as_not_simulated() {
        let record = judged(&format!("{HEAD}{}", claimed()), &["cluster.services=200"]);
        let got = &record.published[0];
        assert_eq!((got.simulated, got.error, got.within), (None, None, None));
    }
}
