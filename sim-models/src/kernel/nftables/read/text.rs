//! The text of `nft list ruleset`, line by line: tables and chains; sets are in [`super::text_set`].
//!
//! nft writes every table, block, property and rule on lines of its own (nftables `src/rule.c`), so that what is
//! not understood ends where its line or its block ends; only elements run over several lines.

use super::draft::Draft;
use super::rule::{self, Words};
use super::values::{self, NAME};
use super::{LineCounter, Ruleset, Skipped, Wrong, excerpt};
use crate::kernel::dump::decimal;
use crate::kernel::nftables::print::PRIORITIES;
use crate::kernel::nftables::{Base, ChainId, Opaque, Unknown};

/// A line: its first byte, and its text without indentation, handle and line break.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// The lines of a text, without those that are empty or comments.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
            let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
            let text = line.trim_start();
            let at = self.at + line.len() - text.len();
            self.at += line.len() + 1;
            let text = without_handle(text.trim_end());
            if !text.is_empty() && !text.starts_with('#') {
                return Some(Line { at, text });
            }
        }
    }
}

/// A line without the ` # handle N` of `nft -a`.
fn without_handle(line: &str) -> &str {
    let head = line.trim_end_matches(|c: char| c.is_ascii_digit());
    if head.len() == line.len() {
        return line;
    }
    head.strip_suffix("# handle ").map_or(line, str::trim_end)
}

/// Reads a whole ruleset.
pub(super) fn ruleset(text: &str, name: &str) -> Result<Ruleset, Wrong> {
    let mut out = Ruleset::default();
    let mut counter = LineCounter::new(text);
    let mut lines = Lines { text, at: 0 };
    while let Some(line) = lines.next() {
        let Some((family, table)) = head_of_table(line.text) else {
            let found = excerpt(line.text);
            return Err(Wrong::new(line.at, format!("expected `table FAMILY NAME {{`, found {found}")));
        };
        match values::family(family).filter(|_| table == name) {
            Some(family) if out.tables.iter().any(|t| t.family == family) => {
                return Err(Wrong::new(line.at, format!("{} is there twice", excerpt(line.text))));
            }
            Some(family) => {
                let mut reader = Reader { text, lines, draft: Draft::new(family, name) };
                reader.table(line)?;
                lines = reader.lines;
                out.tables.push(reader.draft.finish()?);
            }
            None => {
                let what = format!("table {family} {table}");
                out.skipped.push(Skipped { line: counter.line_of(line.at), what });
                // Inside a table every line is indented, so that its end is the next brace that is not.
                let body = text.get(lines.at - 1..).unwrap_or("");
                lines.at += body.find("\n}").ok_or_else(|| not_closed(line))?;
                lines.next();
            }
        }
    }
    Ok(out)
}

fn head_of_table(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("table ")?.strip_suffix('{')?.trim_end().split_once(' ')
}

fn not_closed(opened: Line<'_>) -> Wrong {
    Wrong::new(opened.at, format!("{} is never closed: `}}` is missing", excerpt(opened.text)))
}

/// Reads one table.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    lines: Lines<'a>,
    pub(super) draft: Draft,
}

impl<'a> Reader<'a> {
    fn table(&mut self, head: Line<'a>) -> Result<(), Wrong> {
        loop {
            let line = self.lines.next().ok_or_else(|| not_closed(head))?;
            let (word, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
            let name = rest.strip_suffix('{').map(str::trim_end);
            match (word, name) {
                ("}", _) => return Ok(()),
                ("comment", None) if self.draft.table.comment.is_none() => {
                    self.draft.table.comment = Some(comment(line, rest)?.into());
                }
                ("chain", Some(name)) => self.chain(line, name)?,
                ("set" | "map", Some(name)) => self.set(line, name, word == "map")?,
                (_, Some(_)) => {
                    self.block(line)?;
                    let what = line.text.trim_end_matches('{').trim_end();
                    let body = self.until_here(line);
                    self.unknown(what, body);
                }
                (_, None) => self.unknown(line.text, line.text),
            }
        }
    }

    /// Passes over a block that was just opened and returns its inner lines.
    pub(super) fn block(&mut self, head: Line<'a>) -> Result<Lines<'a>, Wrong> {
        let start = self.lines.at;
        loop {
            let line = self.lines.next().ok_or_else(|| not_closed(head))?;
            if line.text == "}" {
                return Ok(Lines { text: &self.text[..line.at], at: start });
            }
        }
    }

    /// The text from a line to the last one that was read.
    pub(super) fn until_here(&self, from: Line<'a>) -> &'a str {
        self.text[from.at..self.lines.at.min(self.text.len())].trim_end()
    }

    pub(super) fn unknown(&mut self, what: &str, body: &str) {
        let table = &mut self.draft.table;
        let body = Opaque::Text(body.into());
        table.unknown.push(Unknown { what: what.into(), body, after_sets: table.sets.len() });
    }

    fn chain(&mut self, head: Line<'a>, name: &str) -> Result<(), Wrong> {
        if !values::is_name(name) {
            return Err(Wrong::new(head.at, format!("{} is no name: {NAME}", excerpt(name))));
        }
        let id = self.draft.define(name, head.at)?;
        let body = self.block(head)?;
        let (mut has_base, mut has_rules) = (false, false);
        for line in body {
            if !has_rules {
                let chain = &mut self.draft.table.chains[id.0 as usize];
                if let (Some(rest), None, false) =
                    (line.text.strip_prefix("comment "), &chain.comment, has_base)
                {
                    chain.comment = Some(comment(line, rest)?.into());
                    continue;
                }
                if line.text.starts_with("type ") && !has_base {
                    has_base = true;
                    chain.base = base(line.text);
                    chain.unknown_base = chain.base.is_none().then(|| Opaque::Text(line.text.into()));
                    continue;
                }
            }
            has_rules = true;
            self.rule(id, line)?;
        }
        Ok(())
    }

    fn rule(&mut self, chain: ChainId, line: Line<'a>) -> Result<(), Wrong> {
        let rule = rule::rule(&mut self.draft, &mut Words::new(line.text, line.at));
        if rule.statements.is_empty() {
            return Err(Wrong::new(line.at, format!("a rule without a statement: {}", excerpt(line.text))));
        }
        self.draft.table.add_rule(chain, rule);
        Ok(())
    }
}

/// The text between the quotes that make up `rest`.
pub(super) fn comment<'a>(line: Line<'a>, rest: &'a str) -> Result<&'a str, Wrong> {
    let inner = rest.strip_prefix('"').and_then(|r| r.strip_suffix('"')).filter(|c| values::is_comment(c));
    let wrong = || Wrong::new(line.at, format!("expected `comment \"TEXT\"`, found {}", excerpt(line.text)));
    inner.ok_or_else(wrong)
}

/// `type filter hook input priority filter + 5; policy accept;`
fn base(line: &str) -> Option<Base> {
    let (head, policy) = line.strip_prefix("type ")?.split_once(';')?;
    let drops = match policy.trim() {
        "" | "policy accept;" => false,
        "policy drop;" => true,
        _ => return None,
    };
    let words: Vec<&str> = head.split(' ').collect();
    let [kind, "hook", hook, "priority", priority @ ..] = &words[..] else { return None };
    let hook = values::hook(hook)?;
    let named = |name: &str| {
        PRIORITIES
            .into_iter()
            .find(|(n, _, only)| *n == name && only.is_none_or(|only| only == hook))
            .map(|(_, at, _)| at)
    };
    let priority = match *priority {
        [one] => named(one).or_else(|| integer(one))?,
        [name, "+", by] => named(name)?.checked_add(decimal::<u16>(by)?.into())?,
        [name, "-", by] => named(name)?.checked_sub(decimal::<u16>(by)?.into())?,
        _ => return None,
    };
    Some(Base { kind: values::chain_kind(kind)?, hook, priority, drops })
}

/// A number that may be negative.
fn integer(word: &str) -> Option<i32> {
    let number = match word.strip_prefix('-') {
        Some(digits) => -decimal::<i64>(digits)?,
        None => decimal::<i64>(word)?,
    };
    number.try_into().ok()
}
