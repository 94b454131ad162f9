//! [`Report`]: every view of one record.

use crate::{charts, csv, html, json, markdown, table};
use sim_core::record::RunRecord;
use std::path::PathBuf;

/// Every view of one record; reads nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    record: &'a RunRecord,
}

impl<'a> Report<'a> {
    /// A report of `record`.
    pub fn new(record: &'a RunRecord) -> Self {
        Report { record }
    }

    /// The terminal table, at most `width` characters wide where names allow it, with escape codes if `colour`.
    pub fn table(&self, width: usize, colour: bool) -> String {
        table::render(self.record, width, colour)
    }

    /// Tidy rows `mode,services,endpoints,metric,value,unit,basis`.
    pub fn csv(&self) -> String {
        csv::results(self.record)
    }

    /// The record.
    pub fn json(&self) -> String {
        json::render(self.record)
    }

    /// The report as GitHub-flavoured Markdown.
    pub fn markdown(&self) -> String {
        markdown::render(self.record)
    }

    /// The report as one self-contained page.
    pub fn html(&self) -> String {
        html::render(self.record)
    }

    /// The files of a run's directory, by path relative to it: `report.html`, `report.md`, `record.json`,
    /// `csv/*.csv`, `svg/*.svg`.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = vec![
            (PathBuf::from("report.html"), self.html()),
            (PathBuf::from("report.md"), self.markdown()),
            (PathBuf::from("record.json"), self.json()),
            (PathBuf::from("csv/results.csv"), self.csv()),
            (PathBuf::from("csv/distributions.csv"), csv::distributions(self.record)),
            (PathBuf::from("csv/constants.csv"), csv::constants(self.record)),
        ];
        if !self.record.published.is_empty() {
            files.push((PathBuf::from("csv/published.csv"), csv::published(self.record)));
        }
        if self.record.points.iter().any(|point| !point.series.is_empty()) {
            files.push((PathBuf::from("csv/series.csv"), csv::series(self.record)));
        }
        let svg =
            |chart: charts::Chart| (PathBuf::from("svg").join(format!("{}.svg", chart.name)), chart.svg);
        files.extend(charts::all(self.record).into_iter().map(svg));
        files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect()
    }
}
