//! Runs in time: figures over time with their timeline, cumulative curves, variants, published figures.

#[allow(dead_code, reason = "what other tests need")]
mod common;

use common::{empty, point};
use reports::{Report, charts, published};
use sim_core::record::{Distribution, Fixed, Moment, PublishedRecord, RunRecord, Series};

/// Two variants of one mode over ten minutes with an outage and a rolling update; times of changes to nodes.
fn in_time() -> RunRecord {
    let mut record = empty();
    record.gates.clear();
    for (index, variant) in ["before", "after"].into_iter().enumerate() {
        let mut point = point("iptables", 4000, index as u32);
        point.variant = variant.into();
        let slow = if index == 0 { 4 } else { 1 };
        let second = 1_000_000_000u64;
        point.timeline = vec![
            Moment { at_ns: 60 * second, what: "rolling update of 1,000 pods".into() },
            Moment { at_ns: 120 * second, what: "API server away".into() },
            Moment { at_ns: 150 * second, what: "node 3 down".into() },
            Moment { at_ns: 240 * second, what: "API server back".into() },
            Moment { at_ns: 570 * second, what: "node 3 back".into() },
        ];
        let failures = (0..600u64).map(|s| {
            let rate = if (150..150 + 30 * slow).contains(&s) { 40 * slow + (s * 7) % 11 } else { 0 };
            (s * second, Fixed::new(rate as f64))
        });
        let fresh = (0..600u64).map(|s| {
            let share =
                if (60..240 + 20 * slow).contains(&s) { 0.2 + ((s * 13) % 17) as f64 / 40.0 } else { 1.0 };
            (s * second, Fixed::new(share))
        });
        point.series = vec![
            Series { name: "failures".into(), unit: "per_s".into(), points: failures.collect() },
            Series { name: "up_to_date".into(), unit: "ratio".into(), points: fresh.collect() },
            Series { name: "steady".into(), unit: "ratio".into(), points: vec![(0, Fixed::new(1.0))] },
        ];
        let buckets = (1..200u64)
            .map(|i| (i * slow * second / 20, 1 + 5_000 / (10 + (i as i64 - 40).unsigned_abs())))
            .collect();
        point.distributions.push(Distribution { name: "rules_live".into(), unit: "ns".into(), buckets });
        record.points.push(point);
    }
    let figure = |variant: &str, value: f64, simulated: Option<f64>, tolerance: &str, fit: bool| {
        let error = simulated.map(|s| Fixed::new(s / value - 1.0));
        PublishedRecord {
            what: "Latency of network programming, median".into(),
            metric: "first_packet_p50".into(),
            mode: "iptables".into(),
            variant: variant.into(),
            axes: [].into(),
            less: String::new(),
            value: Fixed::new(value),
            unit: "ns".into(),
            simulated: simulated.map(Fixed::new),
            error,
            tolerance: tolerance.into(),
            within: (!tolerance.is_empty())
                .then(|| error.is_some_and(|e| e.get().abs() <= 0.3))
                .filter(|_| simulated.is_some()),
            fit,
            tag: "D".into(),
            source: "https://example.org/kep-3453".into(),
        }
    };
    record.published = vec![
        figure("before", 27e9, Some(26.2e9), "30%", true),
        figure("after", 13e9, Some(12.1e9), "30%", false),
        figure("after", 5e9, Some(31e9), "30%", false),
        figure("after", 5e9, None, "30%", false),
        figure("after", 5e9, Some(5.6e9), "", false),
    ];
    record.published[2].what = "The same with <1 s> | between syncs".into();
    record
}

fn svg(record: &RunRecord, name: &str) -> String {
    let charts = charts::all(record);
    let chart = charts.iter().find(|chart| chart.name == name);
    chart.unwrap_or_else(|| panic!("no chart {name}")).svg.clone()
}

#[test]
fn a_run_in_time_has_its_curves_without_being_asked_and_none_that_never_moves() {
    let names: Vec<String> = charts::all(&in_time()).into_iter().map(|chart| chart.name).collect();
    assert_eq!(
        names,
        [
            "first_packet-by-distribution",
            "rules_live-by-cumulative",
            "failures-by-time",
            "up_to_date-by-time"
        ]
    );
}

#[test]
fn figures_over_time_show_what_was_planned_once_and_name_both_variants() {
    let svg = svg(&in_time(), "failures-by-time");
    for text in [
        "rolling update of 1,000 pods",
        "API server away",
        "iptables before",
        "iptables after",
        "Time since measuring began (min)",
        "Failed tries (per second)",
    ] {
        assert_eq!(svg.matches(&format!("\n{text}\n")).count(), 1, "{text} in\n{svg}");
    }
}

#[test]
fn the_convergence_curve_rises_to_all_nodes_and_says_its_percentiles() {
    let svg = svg(&in_time(), "rules_live-by-cumulative");
    for text in
        ["Share of nodes that have a change (%)", "Time since the change (s)", "p90 27.8 s", "p99 9.60 s"]
    {
        assert!(svg.contains(&format!("\n{text}\n")), "{text} in\n{svg}");
    }
}

#[test]
fn published_figures_stand_beside_simulated_ones_in_every_view() {
    let record = in_time();
    let report = Report::new(&record);
    let all = published::rows(&record);
    let verdicts: Vec<&str> = all.iter().map(|row| row.cells[6].as_str()).collect();
    assert_eq!(verdicts, ["within 30% (fitted)", "within 30%", "MISSED 30%", "-", "no tolerance"]);
    let missed: Vec<bool> = all.iter().map(|row| row.missed).collect();
    assert_eq!(missed, [false, false, true, false, false]);
    let summary = "1 of 2 predicted figures lie within their tolerance; 1 more was fitted.";
    let (table, markdown, html) = (report.table(100, false), report.markdown(), report.html());
    for (view, text) in [
        (&table, "iptables  after      5.00 s         31.0 s  6.2 times  MISSED 30%"),
        (&table, summary),
        (&markdown, "| iptables | after | 13.0 s | 12.1 s | -6.9 % | within 30% |"),
        (&markdown, "**MISSED 30%**"),
        (&markdown, "&lt;1 s&gt; \\| between"),
        (&html, "<td class=\"text failed\">MISSED 30%</td>"),
        (&html, "&lt;1 s&gt; | between"),
        (&html, summary),
        (&html, "https://example.org/kep-3453 (read off a chart there)"),
    ] {
        assert!(view.contains(text), "{text} in\n{view}");
    }
}

#[test]
fn csv_has_variants_and_published_figures_in_columns_and_series_in_a_file() {
    let record = in_time();
    let csv = Report::new(&record).csv();
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("mode,services,endpoints,metric,value,unit,basis,variant,published,error,source")
    );
    let beside: Vec<&str> = lines.filter(|line| line.contains("first_packet_p50")).collect();
    assert_eq!(
        beside,
        [
            "iptables,4000,3,first_packet_p50,26803,ns,simulated,before,27000000000,-0.03,https://example.org/kep-3453",
            "iptables,4000,3,first_packet_p50,26803,ns,simulated,after,13000000000,-0.069,https://example.org/kep-3453",
        ]
    );
    let files = Report::new(&record).files();
    let file = |name: &str| {
        let found = files.iter().find(|(path, _)| path.to_str() == Some(name));
        String::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).1.clone()).expect("text")
    };
    assert_eq!(file("csv/published.csv").lines().count(), 6);
    assert!(file("csv/series.csv").contains("iptables,4000,3,failures,150000000000,"));
    let again: RunRecord = serde_json::from_str(&file("record.json")).expect("a record");
    assert_eq!(again, record);
}

#[test]
fn a_published_figure_stands_as_a_cross_beside_its_line() {
    let mut record = common::sweep();
    let plain = svg(&record, "first_packet_mean-by-cluster-services");
    record.published = vec![PublishedRecord {
        metric: "first_packet_mean".into(),
        variant: String::new(),
        axes: [("cluster.services".to_owned(), Fixed::new(4000.0))].into(),
        ..in_time().published[0].clone()
    }];
    let with = svg(&record, "first_packet_mean-by-cluster-services");
    assert!(with.contains("crosses: published") && !plain.contains("crosses"));
    assert_eq!(with.matches("stroke-width=\"3\"").count(), 2, "two strokes");
}
