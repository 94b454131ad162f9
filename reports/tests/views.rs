//! Every view of a record: goldens that read as text, escaping, and equal bytes.
#![allow(dead_code, reason = "the builder is shared between test binaries")]

mod common;
use reports::{Report, charts};
use sim_core::record::{Basis, Fixed, Metric, RunRecord};

#[test]
fn a_sweep_prints_modes_by_size_within_a_hundred_columns() {
    let table = Report::new(&common::sweep()).table(100, false);
    assert!(table.lines().all(|line| line.chars().count() <= 100));
    insta::assert_snapshot!("table_of_a_sweep", table);
}

#[test]
fn without_a_sweep_there_is_a_column_per_mode() {
    insta::assert_snapshot!("table_without_a_sweep", Report::new(&common::single()).table(100, false));
}

#[test]
fn columns_that_do_not_fit_wrap_and_none_is_lost() {
    let table = Report::new(&common::sweep()).table(60, false);
    assert!(table.lines().filter(|line| !line.contains("  ")).all(|line| line.chars().count() <= 60));
    let heads: Vec<_> = table.lines().filter(|line| line.starts_with("Services  ")).collect();
    assert!(heads.len() > 1, "{table}");
    assert_eq!(
        heads.join(" ").split_whitespace().filter(|word| *word != "Services").count(),
        common::SERVICES.len()
    );
}

#[test]
fn colour_only_repeats_what_the_text_says() {
    let record = common::sweep();
    let coloured = Report::new(&record).table(100, true);
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    for (i, part) in coloured.split("\u{1b}[").enumerate() {
        plain.push_str(if i == 0 { part } else { part.split_once('m').expect("an escape code ends in m").1 });
    }
    assert_eq!(plain, Report::new(&record).table(100, false));
}

#[test]
fn the_markdown_report_reads_as_text() {
    insta::assert_snapshot!("markdown_without_a_sweep", Report::new(&common::single()).markdown());
}

#[test]
fn csv_has_a_tidy_row_per_figure() {
    let csv = Report::new(&common::single()).csv();
    let rows: Vec<_> = csv.lines().collect();
    assert_eq!(rows.len(), 1 + 3 * 14);
    assert_eq!(
        rows[..3],
        [
            "mode,services,endpoints,metric,value,unit,basis",
            "iptables,4000,3,first_packet_mean,27350,ns,simulated",
            "iptables,4000,3,first_packet_p50,26803,ns,simulated",
        ]
    );
}

#[test]
fn csv_tells_apart_points_that_differ_in_other_swept_keys() {
    let mut record = common::single();
    record.points[0].axes.insert("cluster.nodes".into(), Fixed::new(7.0));
    let csv = Report::new(&record).csv();
    assert!(csv.starts_with("mode,services,endpoints,metric,value,unit,basis,cluster.nodes\n"), "{csv}");
    assert!(csv.contains("\niptables,4000,3,first_packet_mean,27350,ns,simulated,7\n"), "{csv}");
}

#[test]
fn json_reads_back_as_the_same_record() {
    let record = common::sweep();
    let json = Report::new(&record).json();
    assert!(json.ends_with("}\n"));
    assert_eq!(serde_json::from_str::<RunRecord>(&json).expect("our own JSON"), record);
}

#[test]
fn the_same_record_gives_the_same_bytes_and_every_promised_file() {
    let record = common::sweep();
    let files = Report::new(&record).files();
    assert_eq!(files, Report::new(&record).files());
    let names: Vec<_> = files.iter().map(|(path, _)| path.to_str().expect("our names are text")).collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    report.html
    report.md
    record.json
    csv/results.csv
    csv/distributions.csv
    csv/constants.csv
    svg/first_packet_mean-by-cluster-services.svg
    svg/first_packet-by-distribution.svg
    svg/rules_evaluated_mean-by-cluster-services.svg
    svg/endpoint_change_sync-by-cluster-services.svg
    svg/first_full_sync-by-cluster-services.svg
    svg/kernel_memory-by-cluster-services.svg
    ");
}

/// Texts of an SVG with their places: `x y anchor text`.
fn texts(svg: &str) -> Vec<(f64, f64, String)> {
    let number = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\"")).expect("text has a place").1;
        rest.split('"').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    let tags = svg.split("<text").skip(1).map(|part| part.split_once('>').expect("a tag ends"));
    tags.map(|(tag, rest)| {
        (number(tag, "x"), number(tag, "y"), rest.split("</text>").next().unwrap_or("").trim().to_owned())
    })
    .collect()
}

#[test]
fn the_crossover_chart_says_these_words() {
    let charts = charts::all(&common::sweep());
    let said: Vec<_> =
        texts(&charts[0].svg).into_iter().map(|(x, y, text)| format!("{x:>4} {y:>4}  {text}")).collect();
    insta::assert_snapshot!("texts_of_the_crossover_chart", said.join("\n"));
}

#[test]
fn labels_of_lines_that_end_together_do_not_overlap() {
    let mut record = common::sweep();
    for point in &mut record.points {
        point.metrics.iter_mut().for_each(|metric| metric.value = Fixed::new(5.0));
    }
    for chart in charts::all(&record).into_iter().filter(|chart| chart.name.contains("by-cluster")) {
        let ends: Vec<f64> = texts(&chart.svg)
            .into_iter()
            .filter(|(.., text)| ["iptables", "ipvs", "nftables"].iter().any(|mode| text.starts_with(mode)))
            .map(|(_, y, _)| y)
            .collect();
        assert!(ends.len() >= 3, "{}", chart.name);
        for (i, one) in ends.iter().enumerate() {
            assert!(
                ends[i + 1..].iter().all(|other| (one - other).abs() >= 16.0),
                "{}: {ends:?}",
                chart.name
            );
        }
    }
}

#[test]
fn a_logarithmic_axis_gives_way_to_a_linear_one_where_there_are_zeros() {
    let mut record = common::sweep();
    record.charts = vec![common::chart("cluster.services", "hash_probes_mean", true, true)];
    let charts = charts::all(&record);
    let chart = charts.iter().find(|chart| chart.name.starts_with("hash_probes")).expect("asked for");
    let said: Vec<String> = texts(&chart.svg).into_iter().map(|(.., text)| text).collect();
    assert!(said.contains(&"0".to_owned()) && said.contains(&"Hash probes".to_owned()), "{said:?}");
}

#[test]
fn a_chart_that_the_scenario_names_comes_with_the_usual_two() {
    let mut record = common::sweep();
    record.charts = vec![common::chart("cluster.services", "rules", true, true)];
    let names: Vec<_> = charts::all(&record).into_iter().map(|chart| chart.name).collect();
    assert_eq!(
        names,
        [
            "first_packet_mean-by-cluster-services",
            "first_packet-by-distribution",
            "rules-by-cluster-services"
        ]
    );
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let html = Report::new(&common::sweep()).html();
    for banned in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!html.contains(banned), "{banned}");
    }
    assert!(!html.replace("http://www.w3.org/2000/svg", "").contains("http"));
    for constant in &common::sweep().profile.constants {
        assert!(html.contains(&constant.source), "{}", constant.name);
    }
    assert_eq!(html.matches("<svg").count(), 6);
}

#[test]
fn hostile_names_stay_text_in_every_view() {
    let evil = "<script>alert(1)</script>,\"|\n\u{1b}[2J../x";
    let mut record = common::sweep();
    record.title = evil.into();
    record.notes = vec![evil.into()];
    record.profile.constants[0].source = evil.into();
    record.charts = vec![common::chart("cluster.services", evil, true, true)];
    record.charts[0].title = evil.into();
    for point in record.points.iter_mut().filter(|point| point.mode == "ipvs") {
        point.mode = evil.into();
        let metric =
            Metric { name: evil.into(), value: Fixed::new(2.0), unit: evil.into(), basis: Basis::Counted };
        point.metrics.push(metric);
    }
    let report = Report::new(&record);
    assert!(!report.html().contains("<script"));
    assert!(!report.markdown().contains("<script"));
    assert!(!report.table(100, false).contains('\u{1b}'));
    assert!(report.csv().contains("\"<script>alert(1)</script>,\"\"|\n"));
    for (path, bytes) in report.files() {
        let path = path.to_str().expect("our names are text").to_owned();
        assert!(!path.contains("..") && path.is_ascii() && !path.contains('<'), "{path}");
        let text = String::from_utf8(bytes).expect("text");
        if path.ends_with(".svg") {
            assert!(!text.contains("<script") && !text.contains('\u{1b}'), "{path}: {text}");
        }
    }
}

#[test]
fn a_record_without_points_still_has_every_view() {
    let record = common::empty();
    let report = Report::new(&record);
    assert!(report.table(100, false).contains("No points."));
    assert!(report.html().contains("No points."));
    assert_eq!(report.files().len(), 6);
}

#[test]
fn every_known_metric_is_listed_within_the_width() {
    let list = reports::table::list_metrics(100);
    assert!(reports::metrics::KNOWN.iter().all(|known| list.contains(known.name)));
    assert!(list.lines().all(|line| line.chars().count() <= 100), "{list}");
}
