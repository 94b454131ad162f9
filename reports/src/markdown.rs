//! The report as GitHub-flavoured Markdown: headline, tables, gates, notes, provenance.

use crate::sheet::{Cell, Sheet, headline_title, run_line};
use crate::{crossover, human, published};
use sim_core::record::RunRecord;

/// The report of a record.
pub fn render(record: &RunRecord) -> String {
    let sheet = Sheet::new(record, true);
    let mut out = format!("# {}\n\n{}\n", escape(&record.title), escape(&run_line(record)));
    list(&mut out, headline_title(record), &crossover::headline(record));
    for block in &sheet.blocks {
        out.push_str(&format!("\n## {} ({})\n\n", escape(&block.title), block.basis));
        for (i, corner) in sheet.corner.iter().enumerate() {
            row(&mut out, corner, sheet.heads.iter().map(|head| escape(&head[i])));
            if i == 0 {
                row(&mut out, "---", sheet.heads.iter().map(|_| "---:".to_owned()));
            }
        }
        for line in &block.rows {
            row(
                &mut out,
                &line.label,
                line.cells.iter().map(|cell| cell.as_ref().map_or_else(String::new, shown)),
            );
        }
    }
    let (best, extrapolated) = sheet.marks();
    if best {
        out.push_str("\nBold: lowest of the modes.\n");
    }
    if extrapolated {
        out.push_str("\n\\~: extrapolated beyond the calibrated range.\n");
    }
    if !sheet.zero.is_empty() {
        out.push_str(&format!("\nZero everywhere: {}.\n", escape(&sheet.zero.join("; "))));
    }
    if !sheet.same.is_empty() {
        out.push_str(&format!("\nThe same everywhere: {}.\n", escape(&sheet.same.join("; "))));
    }
    published(&mut out, record);
    if !record.gates.is_empty() {
        out.push_str("\n## Gates\n\n| outcome | gate | observed |\n| --- | --- | --- |\n");
        for gate in &record.gates {
            let outcome = if gate.passed { "passed" } else { "**failed**" };
            out.push_str(&format!("| {outcome} | {} | {} |\n", escape(&gate.expect), escape(&gate.observed)));
        }
    }
    list(&mut out, "Notes", &record.notes);
    let profile = &record.profile;
    out.push_str(&format!(
        "\n## Constants of profile {}\n\n{}\n",
        escape(&profile.name),
        escape(&profile.description)
    ));
    out.push_str("\n| constant | value | error | source |\n| --- | ---: | ---: | --- |\n");
    for constant in &profile.constants {
        let number = |value: f64| escape(&human::value(value, &constant.unit));
        let (value, error) = (number(constant.value.get()), number(constant.error.get()));
        out.push_str(&format!(
            "| {} | {value} | {error} | {} |\n",
            escape(&constant.name),
            escape(&constant.source)
        ));
    }
    out.push_str(&format!("\n{}, scenario {}\n", escape(&record.tool), escape(&record.scenario_hash)));
    out
}

/// Published figures beside simulated ones.
fn published(out: &mut String, record: &RunRecord) {
    let rows = published::rows(record);
    if rows.is_empty() {
        return;
    }
    out.push_str(&format!("\n## Published and simulated\n\n{}\n\n", escape(&published::summary(record))));
    row(out, published::HEADS[0], published::HEADS[1..].iter().map(|head| (*head).to_owned()));
    row(out, "---", ["---", "---", "---:", "---:", "---:", "---"].map(str::to_owned).into_iter());
    for there in rows {
        let [figure, rest @ ..] = &there.cells;
        let bold = |text: &String| if there.missed { format!("**{}**", escape(text)) } else { escape(text) };
        row(out, figure, rest.iter().map(bold));
    }
    list_of(out, "\nSources:\n\n", &published::sources(record));
}

fn list_of(out: &mut String, head: &str, items: &[String]) {
    out.push_str(head);
    items.iter().for_each(|item| out.push_str(&format!("- {}\n", escape(item))));
}

fn list(out: &mut String, title: &str, items: &[String]) {
    if !items.is_empty() {
        out.push_str(&format!("\n## {title}\n\n"));
        items.iter().for_each(|item| out.push_str(&format!("- {}\n", escape(item))));
    }
}

fn row(out: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    out.push_str(&format!("| {} |", escape(label)));
    cells.for_each(|cell| out.push_str(&format!(" {cell} |")));
    out.push('\n');
}

fn shown(cell: &Cell) -> String {
    let text = format!("{}{}", if cell.extrapolated { "\\~" } else { "" }, escape(&cell.text));
    if cell.best { format!("**{text}**") } else { text }
}

/// Text that Markdown shows as it is: no markup, no table or line breaks.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
