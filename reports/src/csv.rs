//! CSV as in RFC 4180: quotes where needed, doubled inside, lines ended by LF.

use sim_core::record::{Fixed, PointRecord, RunRecord};

/// Tidy rows `mode,services,endpoints,metric,value,unit,basis`. Swept keys that these columns do not tell are
/// appended as columns of their own, so that every row can be told apart, and after them `variant` if there are any,
/// and `published`, `error` and `source` if others have published figures.
pub fn results(record: &RunRecord) -> String {
    let axes = extra_axes(record);
    let published = !record.published.is_empty();
    let mut out = String::new();
    let head = ["mode", "services", "endpoints", "metric", "value", "unit", "basis"];
    let beside = ["published", "error", "source"].into_iter().filter(|_| published);
    row(&mut out, head.into_iter().chain(axes.iter().copied()).chain(beside));
    for point in &record.points {
        for metric in &point.metrics {
            let (services, endpoints, value) = (
                point.services.to_string(),
                point.endpoints.get().to_string(),
                metric.value.get().to_string(),
            );
            let fields =
                [&point.mode, &services, &endpoints, &metric.name, &value, &metric.unit, metric.basis.name()];
            let mut extra = axis_values(point, &axes);
            if published {
                let there = record.published.iter().find(|p| p.is_of(point, &metric.name));
                let number = |value: Option<Fixed>| value.map_or_else(String::new, |v| v.get().to_string());
                extra.push(number(there.map(|p| p.value)));
                extra.push(number(there.and_then(|p| p.error)));
                extra.push(there.map_or_else(String::new, |p| p.source.clone()));
            }
            row(&mut out, fields.into_iter().chain(extra.iter().map(String::as_str)));
        }
    }
    out
}

/// Rows `what,metric,mode,at,published,simulated,unit,error,tolerance,within,fit,tag,source`.
pub fn published(record: &RunRecord) -> String {
    let mut out = String::new();
    let head = [
        "what",
        "metric",
        "mode",
        "at",
        "published",
        "simulated",
        "unit",
        "error",
        "tolerance",
        "within",
        "fit",
        "tag",
        "source",
    ];
    row(&mut out, head.into_iter());
    for p in &record.published {
        let number = |value: Option<Fixed>| value.map_or_else(String::new, |v| v.get().to_string());
        let within = p.within.map_or_else(String::new, |within| within.to_string());
        let fields = [
            p.what.clone(),
            p.metric.clone(),
            p.mode.clone(),
            crate::published::place(record, p),
            number(Some(p.value)),
            number(p.simulated),
            p.unit.clone(),
            number(p.error),
            p.tolerance.clone(),
            within,
            p.fit.to_string(),
            p.tag.clone(),
            p.source.clone(),
        ];
        row(&mut out, fields.iter().map(String::as_str));
    }
    out
}

/// Rows `mode,services,endpoints,series,time_ns,value,unit`, with swept keys as in [`results`].
pub fn series(record: &RunRecord) -> String {
    let axes = extra_axes(record);
    let mut out = String::new();
    let head = ["mode", "services", "endpoints", "series", "time_ns", "value", "unit"];
    row(&mut out, head.into_iter().chain(axes.iter().copied()));
    for point in &record.points {
        let (services, endpoints) = (point.services.to_string(), point.endpoints.get().to_string());
        let extra = axis_values(point, &axes);
        for series in &point.series {
            for (at, value) in &series.points {
                let (at, value) = (at.to_string(), value.get().to_string());
                let fields = [&point.mode, &services, &endpoints, &series.name, &at, &value, &series.unit];
                row(&mut out, fields.into_iter().chain(&extra).map(String::as_str));
            }
        }
    }
    out
}

/// Rows `mode,services,endpoints,distribution,upper_bound,count,unit`, with swept keys as in [`results`].
pub fn distributions(record: &RunRecord) -> String {
    let axes = extra_axes(record);
    let mut out = String::new();
    let head = ["mode", "services", "endpoints", "distribution", "upper_bound", "count", "unit"];
    row(&mut out, head.into_iter().chain(axes.iter().copied()));
    for point in &record.points {
        let (services, endpoints) = (point.services.to_string(), point.endpoints.get().to_string());
        let extra = axis_values(point, &axes);
        for distribution in &point.distributions {
            for (bound, count) in &distribution.buckets {
                let (bound, count) = (bound.to_string(), count.to_string());
                let fields = [
                    &point.mode,
                    &services,
                    &endpoints,
                    &distribution.name,
                    &bound,
                    &count,
                    &distribution.unit,
                ];
                row(&mut out, fields.into_iter().chain(&extra).map(String::as_str));
            }
        }
    }
    out
}

/// Rows `profile,constant,value,error,unit,source`: where every price comes from.
pub fn constants(record: &RunRecord) -> String {
    let mut out = String::new();
    row(&mut out, ["profile", "constant", "value", "error", "unit", "source"].into_iter());
    for constant in &record.profile.constants {
        let (value, error) = (constant.value.get().to_string(), constant.error.get().to_string());
        let fields = [&record.profile.name, &constant.name, &value, &error, &constant.unit, &constant.source];
        row(&mut out, fields.into_iter().map(String::as_str));
    }
    out
}

fn extra_axes(record: &RunRecord) -> Vec<&str> {
    let mut axes: Vec<&str> =
        record.points.iter().flat_map(|point| point.axes.keys().map(String::as_str)).collect();
    axes.sort_unstable();
    axes.dedup();
    axes.retain(|axis| !matches!(*axis, "cluster.services" | "cluster.endpoints"));
    if record.points.iter().any(|point| !point.variant.is_empty()) {
        axes.push("variant");
    }
    axes
}

fn axis_values(point: &PointRecord, axes: &[&str]) -> Vec<String> {
    let value = |axis: &&str| match *axis {
        "variant" => point.variant.clone(),
        axis => point.axes.get(axis).map_or_else(String::new, |value| value.get().to_string()),
    };
    axes.iter().map(value).collect()
}

fn row<'a>(out: &mut String, fields: impl Iterator<Item = &'a str>) {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            out.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push('\n');
}
