//! CSV as in RFC 4180: quotes where needed, doubled inside, lines ended by LF.

use sim_core::record::{PointRecord, RunRecord};

/// Tidy rows `mode,services,endpoints,metric,value,unit,basis`. Swept keys that these columns do not tell are
/// appended as columns of their own, so that every row can be told apart.
pub fn results(record: &RunRecord) -> String {
    let axes = extra_axes(record);
    let mut out = String::new();
    let head = ["mode", "services", "endpoints", "metric", "value", "unit", "basis"];
    row(&mut out, head.into_iter().chain(axes.iter().copied()));
    for point in &record.points {
        for metric in &point.metrics {
            let (services, endpoints, value) = (
                point.services.to_string(),
                point.endpoints.get().to_string(),
                metric.value.get().to_string(),
            );
            let fields =
                [&point.mode, &services, &endpoints, &metric.name, &value, &metric.unit, metric.basis.name()];
            let extra = axis_values(point, &axes);
            row(&mut out, fields.into_iter().chain(extra.iter().map(String::as_str)));
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
    axes
}

fn axis_values(point: &PointRecord, axes: &[&str]) -> Vec<String> {
    axes.iter()
        .map(|axis| point.axes.get(*axis).map_or_else(String::new, |value| value.get().to_string()))
        .collect()
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
