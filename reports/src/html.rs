//! The report as one page: no script, no outside resource, readable on screen and on paper.

use crate::grid::axis_value;
use crate::sheet::{Block, Cell, Sheet, headline_title, run_line};
use crate::{charts, crossover, human, metrics, published};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sim_core::record::{Fixed, PointRecord, RunRecord};

const STYLE: &str = "
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:62rem;color:#1a1a1a;background:#fff;
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:2.6rem 0 .8rem;padding-top:.8rem;border-top:1px solid #ccc}
h3{font-size:1.05rem;margin:2rem 0 .3rem}
p{margin:.5rem 0}
.run,.quiet{color:#555;font-size:.9rem;overflow-wrap:anywhere}
.headline{font-size:1.08rem;padding-left:1.2rem}
.headline li{margin:.45rem 0}
figure{margin:1.4rem 0;break-inside:avoid}
figure svg{display:block;width:100%;height:auto}
figure svg text{font-family:inherit}
table.even{table-layout:fixed}
table.even th:first-child{width:9rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums;break-inside:avoid}
th,td{padding:.28rem .5rem;text-align:right;border-bottom:1px solid #e2e2e2;white-space:nowrap}
th{font-weight:600}
thead th{border-bottom:1px solid #888}
th:first-child,td.text,td.block{text-align:left}
td.block{white-space:normal;padding-top:.8rem}
tbody th{font-weight:400;padding-left:1.2rem}
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
                (published(record))
                (figures(record))
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

/// One sentence on modes and sizes, and one on what else is swept.
fn what_was_run(record: &RunRecord) -> String {
    let points: Vec<&PointRecord> = record.points.iter().collect();
    if points.is_empty() {
        return "No points.".into();
    }
    let between = |values: &[f64]| {
        let low = human::count(values.iter().copied().fold(f64::INFINITY, f64::min));
        let high = human::count(values.iter().copied().fold(0.0, f64::max));
        if low == high { low } else { format!("{low} to {high}") }
    };
    let all = |value: fn(&PointRecord) -> f64| {
        between(&points.iter().map(|point| value(point)).collect::<Vec<_>>())
    };
    let mut text = format!(
        "Modes: {}. {} Services with {} endpoints per Service, in {} points.",
        crate::grid::modes(&points).join(", "),
        all(|point| point.services as f64),
        all(|point| point.endpoints.get()),
        points.len()
    );
    let mut keys: Vec<&String> = points.iter().flat_map(|point| point.axes.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in
        keys.into_iter().filter(|key| !matches!(key.as_str(), "cluster.services" | "cluster.endpoints"))
    {
        let mut values: Vec<_> = points.iter().filter_map(|p| Some((*p.axes.get(key)?, *p))).collect();
        values.sort_by_key(|(value, _)| *value); // stable
        let told =
            |at: Option<&(Fixed, &PointRecord)>| at.map(|(v, p)| axis_value(p, key, *v)).unwrap_or_default();
        let (low, high) = (told(values.first()), told(values.last()));
        let range = if low == high { low } else { format!("{low} to {high}") };
        text.push_str(&format!(" Swept: {range} {}.", metrics::axis_label(key)));
    }
    text
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

/// Published figures beside simulated ones; a missed one is as loud as a failed gate.
fn published(record: &RunRecord) -> Markup {
    let rows = published::rows(record);
    html! {
        @if !rows.is_empty() {
            h2 { "Published and simulated" }
            p { (published::summary(record)) }
            div.scroll { table {
                thead { tr { @for head in published::HEADS { th scope="col" { (head) } } } }
                tbody {
                    @for row in &rows {
                        tr {
                            th scope="row" { (row.cells[0]) }
                            @for cell in &row.cells[1..3] { td.text { (cell) } }
                            @for cell in &row.cells[3..6] { td { (cell) } }
                            @if row.missed { td.text.failed { (row.cells[6]) } } @else { td.text { (row.cells[6]) } }
                        }
                    }
                }
            } }
            ul.quiet { @for source in published::sources(record) { li { (source) } } }
        }
    }
}

/// The charts, SVG inlined as it is: the writer of SVG has escaped its texts.
fn figures(record: &RunRecord) -> Markup {
    let charts = charts::all(record);
    html! {
        @if !charts.is_empty() {
            h2 { "Charts" }
            @for chart in charts { figure { (PreEscaped(chart.svg)) } }
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
        @for blocks in sheet.blocks.chunk_by(|a, b| a.group == b.group) { (table(sheet, blocks)) }
        @if !sheet.zero.is_empty() { p.quiet { "Zero everywhere: " (sheet.zero.join("; ")) "." } }
        @if !sheet.same.is_empty() { p.quiet { "The same everywhere: " (sheet.same.join("; ")) "." } }
    }
}

/// One table per group; each block has its title, meaning and basis above its rows.
fn table(sheet: &Sheet, blocks: &[Block]) -> Markup {
    let columns = sheet.heads.len() + 1;
    html! {
        h3 { (blocks[0].group.title()) }
        // Equal widths align the columns of all groups; more than nine need the width that they need.
        div.scroll { table.even[columns <= 9] {
            thead {
                @for (i, corner) in sheet.corner.iter().enumerate() {
                    tr { th scope="col" { (corner) } @for head in &sheet.heads { th scope="col" { (head[i]) } } }
                }
            }
            @for block in blocks {
                tbody {
                    tr { td.block colspan=(columns) {
                        @if block.title != block.group.title() { b { (block.title) } " " }
                        span.quiet { (meaning(block)) (block.basis) }
                    } }
                    @for row in &block.rows {
                        tr { th scope="row" { (row.label) } @for cell in &row.cells { (self::cell(cell.as_ref())) } }
                    }
                }
            }
        } }
    }
}

/// What the metric of a block says, where the block has one metric.
fn meaning(block: &Block) -> String {
    let known = metrics::KNOWN.iter().find(|known| metrics::capital(known.label) == block.title);
    known.map_or_else(String::new, |known| format!("{} Basis: ", known.description))
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
