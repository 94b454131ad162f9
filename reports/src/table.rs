//! The terminal table: aligned text that fits the width given.
//!
//! Columns that do not fit wrap into further parts below. Marks are text first (`*` best, `~` extrapolated), so that
//! the table reads the same in a file; colour only repeats them. Control characters in names are replaced, so that a
//! record cannot drive the terminal.

use crate::sheet::{Block, Sheet, headline_title, run_line};
use crate::{crossover, metrics, published};
use sim_core::record::RunRecord;
use std::fmt::Write as _;

/// Cells never get narrower than this, so that parts of a wrapped table align alike.
const CELL_MIN: usize = 7;

/// The table of a record, at most `width` columns wide where names allow it.
pub fn render(record: &RunRecord, width: usize, colour: bool) -> String {
    let sheet = Sheet::new(record, false);
    let paint = Paint(colour);
    let mut out = String::new();
    line(&mut out, &paint.bold(&clean(&record.title)));
    for text in wrap(&clean(&run_line(record)), width, 0) {
        line(&mut out, &paint.dim(&text));
    }
    if record.points.is_empty() {
        line(&mut out, "");
        line(&mut out, "No points.");
    }
    columns(&mut out, &sheet, width, paint);
    footnotes(&mut out, &sheet, width);
    published(&mut out, record, width, paint);
    let headline = crossover::headline(record);
    section(&mut out, headline_title(record), &headline, width, paint);
    if !record.gates.is_empty() {
        line(&mut out, "");
        line(&mut out, &paint.bold("Gates"));
        for gate in &record.gates {
            let text = format!("{} (observed {})", clean(&gate.expect), clean(&gate.observed));
            let verdict = if gate.passed { paint.code("32", "passed") } else { paint.code("31", "FAILED") };
            for (i, text) in wrap(&text, width.saturating_sub(10), 0).into_iter().enumerate() {
                let head = if i == 0 { verdict.clone() } else { " ".repeat(6) };
                line(&mut out, &format!("  {head}  {text}"));
            }
        }
    }
    section(&mut out, "Notes", &record.notes, width, paint);
    out
}

/// All parts of the table, each with as many columns as fit.
fn columns(out: &mut String, sheet: &Sheet, width: usize, paint: Paint) {
    let rows = || sheet.blocks.iter().flat_map(|block| &block.rows);
    let labels = rows().map(|row| chars(&row.label) + 2).chain(sheet.corner.iter().map(|text| chars(text)));
    let label = labels.max().unwrap_or(0) + 1;
    let cells = rows().flat_map(|row| row.cells.iter().flatten()).map(|cell| chars(&shown(cell)));
    let heads = sheet.heads.iter().flatten().map(|head| chars(head) + 1);
    let cell = cells.chain(heads).max().unwrap_or(0).max(CELL_MIN);
    let fit = (width.saturating_sub(label) / (cell + 1)).max(1);
    // Spread the columns a little where there is room.
    let columns = sheet.heads.len().clamp(1, fit);
    let cell = cell + (width.saturating_sub(label) / columns).saturating_sub(cell + 1).min(2);
    let mut from = 0;
    while from < sheet.heads.len() {
        let part = from..(from + fit).min(sheet.heads.len());
        let wide = label + part.len() * (cell + 1);
        line(out, "");
        for (i, corner) in sheet.corner.iter().enumerate() {
            let mut text = pad(&clean(corner), label);
            for head in &sheet.heads[part.clone()] {
                write!(text, " {:>cell$}", format!("{} ", clean(&head[i]))).expect("writing to a String");
            }
            line(out, &paint.bold(text.trim_end()));
        }
        line(out, &paint.dim(&"-".repeat(wide)));
        for (i, block) in sheet.blocks.iter().enumerate() {
            if i > 0 && sheet.blocks[i - 1].group != block.group {
                line(out, "");
            }
            self::block(out, block, part.clone(), (label, cell, wide), paint);
        }
        from = part.end;
    }
}

/// Heading and rows of a block; `widths` of labels, cells and the whole part.
fn block(
    out: &mut String,
    block: &Block,
    part: std::ops::Range<usize>,
    widths: (usize, usize, usize),
    paint: Paint,
) {
    let (label, cell, wide) = widths;
    let title = clean(&block.title);
    let gap = wide.saturating_sub(chars(&title) + chars(&block.basis) + 1).max(1);
    line(out, &format!("{}{}{}", paint.bold(&title), " ".repeat(gap), paint.dim(&block.basis)));
    for row in &block.rows {
        let mut text = pad(&format!("  {}", clean(&row.label)), label);
        for there in &row.cells[part.clone()] {
            let shown = there.as_ref().map_or_else(|| "- ".to_owned(), shown);
            let gap = " ".repeat((cell + 1).saturating_sub(chars(&shown)));
            let best = there.as_ref().is_some_and(|there| there.best);
            let shown = if best { paint.code("1;32", &shown) } else { shown };
            write!(text, "{gap}{shown}").expect("writing to a String");
        }
        line(out, text.trim_end());
    }
}

/// A figure with its marks; without one a space keeps numbers aligned.
fn shown(cell: &crate::sheet::Cell) -> String {
    let before = if cell.extrapolated { "~" } else { "" };
    format!("{before}{}{}", clean(&cell.text), if cell.best { "*" } else { " " })
}

fn footnotes(out: &mut String, sheet: &Sheet, width: usize) {
    let mut notes = Vec::new();
    let (best, extrapolated) = sheet.marks();
    if best {
        notes.push("* lowest of the modes".to_owned());
    }
    if extrapolated {
        notes.push("~ extrapolated beyond the calibrated range".to_owned());
    }
    if !sheet.zero.is_empty() {
        let labels: Vec<_> = sheet.zero.iter().map(|text| clean(text)).collect();
        notes.push(format!("zero everywhere: {}", labels.join("; ")));
    }
    if !sheet.same.is_empty() {
        let figures: Vec<_> = sheet.same.iter().map(|text| clean(text)).collect();
        notes.push(format!("the same everywhere: {}", figures.join("; ")));
    }
    if !notes.is_empty() {
        line(out, "");
        for text in wrap(&notes.join("   "), width, 0) {
            line(out, &text);
        }
    }
}

/// Published figures beside simulated ones, a line each; the figure's name stands above its lines.
fn published(out: &mut String, record: &RunRecord, width: usize, paint: Paint) {
    let rows = published::rows(record);
    if rows.is_empty() {
        return;
    }
    line(out, "");
    line(out, &paint.bold("Published and simulated"));
    let cells = |row: &published::Row| row.cells.each_ref().map(|text| clean(text));
    let heads = published::HEADS.map(str::to_owned);
    let wide: Vec<usize> = (1..7)
        .map(|i| rows.iter().map(|row| chars(&cells(row)[i])).chain([chars(&heads[i])]).max().unwrap_or(0))
        .collect();
    let shown = |cells: &[String; 7]| {
        let mut text = String::from("   ");
        for (i, wide) in wide.iter().enumerate() {
            let cell = &cells[i + 1];
            let gap = " ".repeat(wide.saturating_sub(chars(cell)));
            let right = (2..5).contains(&i);
            write!(text, " {}{cell}{} ", if right { &gap } else { "" }, if right { "" } else { &gap })
                .expect("writing to a String");
        }
        text.trim_end().to_owned()
    };
    line(out, &paint.dim(&shown(&heads)));
    for (i, row) in rows.iter().enumerate() {
        let cells = cells(row);
        if i == 0 || rows[i - 1].cells[0] != row.cells[0] {
            wrap(&cells[0], width.saturating_sub(2), 0)
                .iter()
                .for_each(|text| line(out, &format!("  {text}")));
        }
        let text = shown(&cells);
        line(out, &if row.missed { paint.code("31", &text) } else { text });
    }
    for text in wrap(&clean(&published::summary(record)), width.saturating_sub(2), 0) {
        line(out, &format!("  {text}"));
    }
}

fn section(out: &mut String, title: &str, items: &[String], width: usize, paint: Paint) {
    if items.is_empty() {
        return;
    }
    line(out, "");
    line(out, &paint.bold(title));
    for item in items {
        for (i, text) in wrap(&clean(item), width.saturating_sub(4), 0).into_iter().enumerate() {
            line(out, &format!("  {} {text}", if i == 0 { "-" } else { " " }));
        }
    }
}

/// Text in lines of at most `width` characters, broken at spaces; further lines are indented.
pub fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        if !last.trim().is_empty() && chars(last) + 1 + chars(word) > width {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// Text without control characters.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The table of known metrics, for `windtunnel list metrics`.
pub fn list_metrics(width: usize) -> String {
    let name = metrics::KNOWN.iter().map(|known| known.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for known in metrics::KNOWN {
        let unit = if known.unit == "cost" { "ns|instr" } else { known.unit };
        for (i, text) in
            wrap(known.description, width.saturating_sub(name + 12).max(20), 0).into_iter().enumerate()
        {
            let (name_text, unit) = if i == 0 { (known.name, unit) } else { ("", "") };
            line(&mut out, &format!("{name_text:name$}  {unit:8}  {text}"));
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(chars(text))))
}

/// Escape codes, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn code(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.code("1", text)
    }
    fn dim(self, text: &str) -> String {
        self.code("2", text)
    }
}
