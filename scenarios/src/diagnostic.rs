//! What is wrong with a scenario: collected, placed and printed all at once.
//!
//! The output is plain text in the compilers' form: message, `file:line:column`, the line with a caret, the
//! key, and what would be allowed.

use crate::tree::{At, Sources};
use std::fmt::Write as _;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line.
    pub message: String,
    /// Dotted path of the key, empty where there is none.
    pub key: String,
    /// Where, if it is anywhere in particular.
    pub at: Option<At>,
    /// Text beside the caret, may be empty.
    pub label: String,
    /// The other side of a contradiction: its place and its key.
    pub and: Option<(At, String)>,
    /// Lines of help: what is allowed, why there is a limit.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A message about a key at a place.
    pub fn new(at: At, key: &str, message: impl Into<String>) -> Self {
        Diagnostic {
            message: message.into(),
            key: key.to_owned(),
            at: Some(at),
            label: String::new(),
            and: None,
            help: Vec::new(),
        }
    }
    /// With the other side of a contradiction.
    pub fn and(mut self, at: At, key: &str) -> Self {
        self.and = Some((at, key.to_owned()));
        self
    }
    /// With text beside the caret.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }
    /// With one more line of help.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}

/// Colours of a rendering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape codes.
    Plain,
    /// ANSI colours.
    Colour,
}

/// Everything that is wrong with one scenario, and the texts it is wrong in.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// The texts.
    pub sources: Sources,
    /// What is wrong; [`Diagnostics::push`] keeps it free of repetitions.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds a diagnostic unless the same was said of the same place, as happens when each sweep point is checked.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let said = |d: &Diagnostic| d.at == diagnostic.at && d.message == diagnostic.message;
        if !self.list.iter().any(said) {
            self.list.push(diagnostic);
        }
    }
    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All diagnostics in file order, each a block of lines, then a count.
    pub fn render(&self, style: Style) -> String {
        let mut sorted: Vec<&Diagnostic> = self.list.iter().collect();
        sorted.sort_by_key(|d| d.at);
        let mut out = String::new();
        for diagnostic in &sorted {
            self.render_one(diagnostic, style, &mut out);
            out.push('\n');
        }
        let count = sorted.len();
        let noun = if count == 1 { "error" } else { "errors" };
        let _ = writeln!(out, "{count} {noun}");
        out
    }

    fn render_one(&self, d: &Diagnostic, style: Style, out: &mut String) {
        let paint = |code: &str, text: &str| match style {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        };
        let _ = writeln!(out, "{}: {}", paint("1;31", "error"), paint("1", &d.message));
        if let Some(at) = d.at {
            let mut pad = self.render_place(at, &d.label, &d.key, &paint, out);
            if let Some((at, key)) = &d.and {
                pad = self.render_place(*at, "", key, &paint, out);
            }
            for help in &d.help {
                let _ = writeln!(out, "{pad} = {help}");
            }
        } else {
            for help in &d.help {
                let _ = writeln!(out, "  = {help}");
            }
        }
    }

    /// A line with its caret and key; returns what indents the lines that follow.
    fn render_place(
        &self,
        at: At,
        label: &str,
        key: &str,
        paint: &impl Fn(&str, &str) -> String,
        out: &mut String,
    ) -> String {
        let place = Place::find(&self.sources, at);
        let bar = paint("34", "|");
        let pad = " ".repeat(place.line.to_string().len());
        let arrow = paint("34", "-->");
        let _ =
            writeln!(out, "{pad}{arrow} {}:{}:{}", self.sources.name(at.source), place.line, place.column);
        let _ = writeln!(out, "{pad} {bar}");
        let number = paint("34", &place.line.to_string());
        let _ = writeln!(out, "{}", format!("{number} {bar} {}", place.shown).trim_end());
        let carets = paint("31", &"^".repeat(place.carets));
        let label = if label.is_empty() { String::new() } else { format!(" {}", paint("31", label)) };
        let _ = writeln!(out, "{pad} {bar} {}{carets}{label}", " ".repeat(place.indent));
        if !key.is_empty() {
            let _ = writeln!(out, "{pad} = key: {key}");
        }
        pad
    }
}

/// Where a caret goes.
struct Place {
    /// Line number from 1.
    line: usize,
    /// Column from 1, in characters.
    column: usize,
    /// The part of the line that is shown.
    shown: String,
    /// Characters before the caret within `shown`.
    indent: usize,
    /// Number of carets.
    carets: usize,
}

impl Place {
    /// Longest piece of a line that is shown: an imported JSON may be one line of megabytes.
    const WINDOW: usize = 100;

    /// Nothing here grows with the length of the line, so that a thousand faults of a line of megabytes are told as
    /// fast as those of short lines.
    fn find(sources: &Sources, at: At) -> Place {
        let text = sources.text(at.source);
        let start = text.floor_char_boundary(at.start);
        let (line, before) = sources.line_and_column(at.source, start);
        // More of the line than can be shown, whatever the width of its characters.
        let near = text.floor_char_boundary(start.saturating_add(16 * Self::WINDOW));
        let rest = text[start..near].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = text.ceil_char_boundary(at.end.clamp(start, start + rest.len()));
        let length = text[start..end].chars().count().max(1);
        let last = before + rest.chars().count();
        let from = if last <= Self::WINDOW { 0 } else { before.saturating_sub(Self::WINDOW / 2) };
        let to = last.min(from + Self::WINDOW.max(length.min(40)));
        let ahead = text[..start].char_indices().rev().take(before - from).last().map_or(start, |(i, _)| i);
        // A terminal would obey control characters; each is shown as one, so that the caret stays in place.
        let visible = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        Place {
            line,
            column: before + 1,
            shown: text[ahead..start + rest.len()].chars().take(to - from.min(to)).map(visible).collect(),
            indent: before - from,
            carets: length.min((to - from.min(to)).saturating_sub(before - from).max(1)),
        }
    }
}

/// The candidate that `word` is most likely a slip of, if any is near enough: at most a third of its letters
/// wrong, a swap of neighbours counting as one.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |s: &str| s.to_lowercase().replace('-', "_");
    let word = normal(word);
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (distance(&word, &normal(c)), c))
        .filter(|(d, c)| *d <= limit || (word.len() >= 4 && normal(c).starts_with(&word)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edits from one word to the other: insertion, deletion, substitution, swap of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substitute.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_do_not() {
        let modes = ["iptables", "ipvs", "nftables"];
        for (word, want) in [
            ("iptable", Some("iptables")),
            ("nftabels", Some("nftables")),
            ("IPVS", Some("ipvs")),
            ("cilium", None),
        ] {
            assert_eq!(did_you_mean(word, modes), want, "{word}");
        }
    }

    #[test]
    fn a_diagnostic_shows_file_line_column_and_a_caret() {
        let mut all = Diagnostics::default();
        let source = all.sources.add("s.toml", "# ü\n[cluster]\nservces = 4\n");
        let at = At { source, start: 15, end: 22 };
        all.push(Diagnostic::new(at, "cluster.servces", "unknown key").label("did you mean `services`?"));
        all.push(Diagnostic::new(at, "cluster.servces", "unknown key"));
        assert_eq!(
            all.render(Style::Plain),
            "error: unknown key\n --> s.toml:3:1\n  |\n3 | servces = 4\n  | ^^^^^^^ did you mean `services`?\n  = key: cluster.servces\n\n1 error\n"
        );
    }
}
