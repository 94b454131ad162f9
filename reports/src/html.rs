//! The report as one page: no script, no outside resource, readable on screen and on paper.

use crate::sheet::{Block, Cell, Sheet, headline_title, run_line};
use crate::{charts, crossover, human, metrics};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sim_core::record::{PointRecord, RunRecord};

const STYLE: &str = "
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:62rem;color:#1a1a1a;background:#fff;
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:2.6rem 0 .8rem;padding-top:.8rem;border-top:1px solid #ccc}
h3{font-size:1rem;margin:1.6rem 0 .3rem}
p{margin:.5rem 0}
.run,.quiet{color:#555;font-size:.9rem;overflow-wrap:anywhere}
.headline{font-size:1.08rem;padding-left:1.2rem}
.headline li{margin:.45rem 0}
figure{margin:1.4rem 0;break-inside:avoid}
figure svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums;break-inside:avoid}
th,td{padding:.28rem .5rem;text-align:right;border-bottom:1px solid #e2e2e2;white-space:nowrap}
th{font-weight:600}
thead th{border-bottom:1px solid #888}
th:first-child,td.text{text-align:left}
td.text{white-space:normal;overflow-wrap:anywhere}
td.best{font-weight:700;background:#eaf4ee}
td.guess{font-style:italic;color:#555}
.passed{color:#00694c;font-weight:600}
.failed{color:#b03a00;font-weight:700}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;font-size:.9rem}
dt{color:#555}
dd{margin:0;overflow-wrap:anywhere}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
@media print{body{max-width:none;padding:0;font-size:11pt}h2{break-after:avoid}h3{break-after:avoid}}
";

/// The page.
pub fn render(record: &RunRecord) -> String {
    let sheet = Sheet::new(record, true);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (record.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (record.title) }
                p.run { (run_line(record)) }
                p { (what_was_run(record)) }
                (headline(record))
                (failed_gates(record))
                h2 { "Charts" }
                @for chart in charts::all(record) {
                    figure { (PreEscaped(chart.svg)) }
                }
                (tables(&sheet))
                (gates(record))
                (notes(record))
                (provenance(record))
                (run(record))
            }
        }
    };
    page.into_string()
}

/// One sentence on modes and swept values.
fn what_was_run(record: &RunRecord) -> String {
    let points: Vec<&PointRecord> = record.points.iter().collect();
    let modes = crate::grid::modes(&points);
    let mut keys: Vec<&String> = record.points.iter().flat_map(|point| point.axes.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let swept: Vec<String> = keys
        .iter()
        .map(|key| {
            let mut xs: Vec<_> =
                record.points.iter().filter_map(|point| point.axes.get(*key).copied()).collect();
            xs.sort_unstable();
            xs.dedup();
            let number = |at: usize| human::count(xs[at].get());
            format!("{} to {} {}", number(0), number(xs.len() - 1), metrics::axis_label(key))
        })
        .collect();
    let size = |pick: fn(&PointRecord) -> f64| {
        let all = points.iter().map(|point| pick(point));
        let (low, high) =
            all.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| (low.min(v), high.max(v)));
        if low == high {
            human::count(low)
        } else {
            format!("{} to {}", human::count(low), human::count(high))
        }
    };
    if points.is_empty() {
        return "No points.".into();
    }
    let services = size(|point| point.services as f64);
    let endpoints = size(|point| point.endpoints.get());
    let swept =
        if swept.is_empty() { "Nothing is swept".into() } else { format!("Swept: {}", swept.join("; ")) };
    format!(
        "{} in {} points: {services} Services with {endpoints} endpoints each. {swept}.",
        metrics::capital(&modes.join(", ")),
        points.len()
    )
}

fn headline(record: &RunRecord) -> Markup {
    let sentences = crossover::headline(record);
    html! {
        @if !sentences.is_empty() {
            h2 { (headline_title(record)) }
            ul.headline { @for sentence in &sentences { li { (sentence) } } }
        }
    }
}

/// A failed gate is told before anything else that one may stop reading at.
fn failed_gates(record: &RunRecord) -> Markup {
    let failed = record.gates.iter().filter(|gate| !gate.passed).count();
    html! {
        @if failed > 0 { p.failed { (failed) " of " (record.gates.len()) " gates failed; see below." } }
    }
}

fn tables(sheet: &Sheet) -> Markup {
    let (best, extrapolated) = sheet.marks();
    html! {
        h2 { "Figures" }
        @if best || extrapolated {
            p.quiet {
                @if best { "Bold on green: lowest of the modes. " }
                @if extrapolated { "Italic with ~: extrapolated beyond the calibrated range. " }
            }
        }
        @for block in &sheet.blocks { (table(sheet, block)) }
        @if !sheet.zero.is_empty() { p.quiet { "Zero everywhere: " (sheet.zero.join("; ")) "." } }
    }
}

fn table(sheet: &Sheet, block: &Block) -> Markup {
    let description = metrics::KNOWN.iter().find(|known| metrics::capital(known.label) == block.title);
    html! {
        h3 { (block.title) }
        p.quiet {
            @if let Some(known) = description { (known.description) " " }
            @if !block.basis.is_empty() { "Basis: " (block.basis) "." }
        }
        div.scroll { table {
            thead {
                @for (i, corner) in sheet.corner.iter().enumerate() {
                    tr { th scope="col" { (corner) } @for head in &sheet.heads { th scope="col" { (head[i]) } } }
                }
            }
            tbody {
                @for row in &block.rows {
                    tr { th scope="row" { (row.label) } @for cell in &row.cells { (self::cell(cell.as_ref())) } }
                }
            }
        } }
    }
}

fn cell(cell: Option<&Cell>) -> Markup {
    html! {
        @match cell {
            None => { td { "-" } }
            Some(cell) => {
                td.best[cell.best].guess[cell.extrapolated] { @if cell.extrapolated { "~" } (cell.text) }
            }
        }
    }
}

fn gates(record: &RunRecord) -> Markup {
    html! {
        @if !record.gates.is_empty() {
            h2 { "Gates" }
            table {
                thead { tr { th { "outcome" } th { "gate" } th { "observed" } } }
                tbody {
                    @for gate in &record.gates {
                        tr {
                            @if gate.passed { td.text.passed { "passed" } } @else { td.text.failed { "failed" } }
                            td.text { code { (gate.expect) } }
                            td.text { (gate.observed) }
                        }
                    }
                }
            }
        }
    }
}

fn notes(record: &RunRecord) -> Markup {
    html! {
        h2 { "Validity" }
        p.quiet {
            "Counted figures come from real lookups over real rules and are exact; calibrated ones are counted work times a "
            "measured price; simulated ones add queueing; extrapolated ones use a price outside the range it was measured in."
        }
        @if record.notes.is_empty() { p { "No remarks." } }
        @else { ul { @for note in &record.notes { li { (note) } } } }
    }
}

fn provenance(record: &RunRecord) -> Markup {
    let profile = &record.profile;
    html! {
        h2 { "Where every constant comes from" }
        p { "Profile " code { (profile.name) } ", prices in " (profile.unit) ". " (profile.description) }
        div.scroll { table {
            thead { tr { th { "constant" } th { "value" } th { "error" } th { "source" } } }
            tbody {
                @for constant in &profile.constants {
                    tr {
                        td.text { code { (constant.name) } }
                        td { (human::value(constant.value.get(), &constant.unit)) }
                        td { (human::value(constant.error.get(), &constant.unit)) }
                        td.text { (constant.source) }
                    }
                }
            }
        } }
    }
}

fn run(record: &RunRecord) -> Markup {
    let events: u64 = record.points.iter().map(|point| point.events).sum();
    html! {
        h2 { "The run" }
        dl {
            dt { "Tool" } dd { (record.tool) }
            dt { "Scenario" } dd { (record.name) }
            dt { "Scenario hash" } dd { code { (record.scenario_hash) } }
            dt { "Seed" } dd { (record.seed) }
            dt { "Fingerprint" } dd { code { (record.fingerprint) } }
            dt { "Points" } dd { (record.points.len()) }
            dt { "Events" } dd { (human::thousands(events as f64)) }
            dt { "Record layout" } dd { (record.schema) }
        }
    }
}
