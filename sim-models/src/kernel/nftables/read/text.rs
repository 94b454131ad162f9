//! The text of `nft list ruleset`, line by line: tables, sets with their elements, chains.
//!
//! nft writes every table, block, property and rule on lines of its own (nftables `src/rule.c`), so that what is
//! not understood ends where its line or its block ends; only elements run over several lines.

use super::draft::Draft;
use super::rule::{self, Words};
use super::values::{self, FIELDS_MAX, NAME};
use super::{Ruleset, Skipped, Wrong, excerpt, line_of};
use crate::kernel::nftables::print::PRIORITIES;
use crate::kernel::nftables::set::dynamic;
use crate::kernel::nftables::{
    Base, ChainId, Element, Key, KeyType, Lifetime, Opaque, Set, SetId, Unknown, Verdict,
};
use sim_core::classify::Family;
use smallvec::SmallVec;

/// A line: its first byte, and its text without indentation, handle and line break.
#[derive(Clone, Copy)]
struct Line<'a> {
    at: usize,
    text: &'a str,
}

/// The lines of a text, without those that are empty or comments.
struct Lines<'a> {
    text: &'a str,
    at: usize,
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
                out.skipped.push(Skipped { line: line_of(text, line.at), what });
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

struct Reader<'a> {
    text: &'a str,
    lines: Lines<'a>,
    draft: Draft,
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
    fn block(&mut self, head: Line<'a>) -> Result<Lines<'a>, Wrong> {
        let start = self.lines.at;
        loop {
            let line = self.lines.next().ok_or_else(|| not_closed(head))?;
            if line.text == "}" {
                return Ok(Lines { text: &self.text[..line.at], at: start });
            }
        }
    }

    /// The text from a line to the last one that was read.
    fn until_here(&self, from: Line<'a>) -> &'a str {
        self.text[from.at..self.lines.at.min(self.text.len())].trim_end()
    }

    fn unknown(&mut self, what: &str, body: &str) {
        let table = &mut self.draft.table;
        let body = Opaque::Text(body.into());
        table.unknown.push(Unknown { what: what.into(), body, after_sets: table.sets.len() });
    }

    fn set(&mut self, head: Line<'a>, name: &str, is_map: bool) -> Result<(), Wrong> {
        if !values::is_name(name) {
            return Err(Wrong::new(head.at, format!("{} is no name: {NAME}", excerpt(name))));
        }
        if self.draft.table.find_set(name).is_some() {
            return Err(Wrong::new(head.at, format!("set {} is there twice", excerpt(name))));
        }
        let body = self.block(head)?;
        let id = SetId(u32::try_from(self.draft.table.sets.len()).expect("fewer than 2^32 sets"));
        match self.set_of(name, is_map, body, id)? {
            Some(set) => {
                self.draft.table.add_set(set);
            }
            None => {
                drop(self.draft.table.lifetimes.split_off(&(id, 0)));
                let what = format!("{} {name}", if is_map { "map" } else { "set" });
                let body = self.until_here(head);
                self.unknown(&what, body);
            }
        }
        Ok(())
    }

    /// The set, or nothing if it has a property that sets of kube-proxy do not have.
    fn set_of(
        &mut self,
        name: &str,
        is_map: bool,
        mut body: Lines<'a>,
        id: SetId,
    ) -> Result<Option<Set>, Wrong> {
        let family = self.draft.table.family;
        let mut set = Set {
            name: name.into(),
            key: SmallVec::new(),
            is_map,
            comment: None,
            timeout_seconds: None,
            elements: Vec::new(),
        };
        let (mut is_dynamic, mut size) = (false, None);
        while let Some(line) = body.next() {
            let (word, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
            match word {
                "type" => {
                    let (key, value) = rest.split_once(" : ").map_or((rest, None), |(k, v)| (k, Some(v)));
                    let fields: Option<_> =
                        key.split(" . ").map(|word| values::key_type(word, family)).collect();
                    match fields {
                        Some(fields) if value == is_map.then_some("verdict") => set.key = fields,
                        _ => return Ok(None),
                    }
                }
                "size" => size = Some(rest),
                "flags" => match rest {
                    "dynamic,timeout" | "timeout,dynamic" | "timeout" => is_dynamic = true,
                    _ => return Ok(None),
                },
                "timeout" => match values::timeout_seconds(rest) {
                    Some(seconds) => set.timeout_seconds = Some(seconds),
                    None => return Ok(None),
                },
                "comment" => set.comment = Some(comment(line, rest)?.into()),
                "elements" if (1..=FIELDS_MAX).contains(&set.key.len()) => {
                    body.at = self.elements(line, &mut set, body.text.len(), id)?;
                }
                _ => return Ok(None),
            }
        }
        let is_known = (1..=FIELDS_MAX).contains(&set.key.len())
            && is_dynamic == set.timeout_seconds.is_some()
            && size.is_none_or(|size| is_dynamic && size.parse() == Ok(dynamic::DEFAULT_SIZE))
            && !(is_dynamic && is_map);
        Ok(is_known.then_some(set))
    }

    /// Reads `elements = { ... }` and returns where it ends.
    fn elements(&mut self, line: Line<'a>, set: &mut Set, end: usize, id: SetId) -> Result<usize, Wrong> {
        let mut tokens = Tokens { text: &self.text[..end], at: line.at };
        for expected in ["elements", "=", "{"] {
            tokens.expect(expected)?;
        }
        if tokens.peek() == "}" {
            tokens.next();
            return Ok(tokens.at);
        }
        loop {
            let (element, lifetime, last) = self.element(&mut tokens, set)?;
            if let Some(lifetime) = lifetime {
                self.draft.table.lifetimes.insert((id, set.elements.len()), lifetime);
            }
            set.elements.push(element);
            if last {
                return Ok(tokens.at);
            }
        }
    }

    /// One element, what is left of its time, and whether it is the last.
    fn element(
        &mut self,
        tokens: &mut Tokens<'a>,
        set: &Set,
    ) -> Result<(Element, Option<Lifetime>, bool), Wrong> {
        let family = self.draft.table.family;
        let mut element = Element { key: Key::new(), verdict: None, comment: None };
        let mut lifetime: Option<Lifetime> = None;
        for (i, &kind) in set.key.iter().enumerate() {
            if i > 0 {
                tokens.expect(".")?;
            }
            let (at, word) = tokens.next();
            let value =
                values::key_value(word, kind, family).ok_or_else(|| bad_key(at, word, kind, family))?;
            element.key.push(value);
        }
        let last = loop {
            let (at, word) = tokens.next();
            match word {
                "comment" if element.comment.is_none() => {
                    element.comment = Some(tokens.quoted()?.into());
                }
                "timeout" | "expires" => {
                    let (at, value) = tokens.next();
                    let allowed =
                        || Wrong::new(at, format!("{} is no time: allowed is 2h59m", excerpt(value)));
                    let span = values::span(value).ok_or_else(allowed)?;
                    let lifetime = lifetime.get_or_insert(Lifetime { timeout: None, expires: None });
                    let part = if word == "timeout" { &mut lifetime.timeout } else { &mut lifetime.expires };
                    *part = Some(span);
                }
                ":" if set.is_map && element.verdict.is_none() => {
                    element.verdict = Some(self.verdict(tokens)?);
                }
                "," => break false,
                "}" => break true,
                _ => {
                    let allowed =
                        "after an element: `,`, `}`, comment, timeout, expires, and in a map `: VERDICT`";
                    return Err(Wrong::new(at, format!("{allowed}; found {}", excerpt(word))));
                }
            }
        };
        if set.is_map && element.verdict.is_none() {
            return Err(Wrong::new(tokens.at, format!("an element of map {} has no verdict", set.name)));
        }
        Ok((element, lifetime, last))
    }

    fn verdict(&mut self, tokens: &mut Tokens<'a>) -> Result<Verdict, Wrong> {
        let (at, word) = tokens.next();
        Ok(match word {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "return" => Verdict::Return,
            "jump" | "goto" => {
                let (at, name) = tokens.next();
                if !values::is_name(name) {
                    return Err(Wrong::new(at, format!("{} is no name: {NAME}", excerpt(name))));
                }
                let to = self.draft.named(name, at);
                if word == "jump" { Verdict::Jump(to) } else { Verdict::Goto(to) }
            }
            _ => {
                let allowed = "a verdict: accept, drop, return, jump CHAIN or goto CHAIN";
                return Err(Wrong::new(at, format!("expected {allowed}, found {}", excerpt(word))));
            }
        })
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

fn bad_key(at: usize, word: &str, kind: KeyType, family: Family) -> Wrong {
    let allowed = values::key_value_name(kind, family);
    Wrong::new(at, format!("expected {allowed}, found {}", excerpt(word)))
}

/// The text between the quotes that make up `rest`.
fn comment<'a>(line: Line<'a>, rest: &'a str) -> Result<&'a str, Wrong> {
    let inner = rest.strip_prefix('"').and_then(|r| r.strip_suffix('"')).filter(|c| values::is_comment(c));
    let wrong = || Wrong::new(line.at, format!("expected `comment \"TEXT\"`, found {}", excerpt(line.text)));
    inner.ok_or_else(wrong)
}

/// `type filter hook input priority filter + 5; policy accept;`
fn base(line: &str) -> Option<Base> {
    let (head, policy) = line.strip_prefix("type ")?.split_once(';')?;
    if !["", "policy accept;"].contains(&policy.trim()) {
        return None;
    }
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
        [one] => named(one).or_else(|| one.parse().ok())?,
        [name, "+", by] => named(name)?.checked_add(by.parse::<u16>().ok()?.into())?,
        [name, "-", by] => named(name)?.checked_sub(by.parse::<u16>().ok()?.into())?,
        _ => return None,
    };
    Some(Base { kind: values::chain_kind(kind)?, hook, priority })
}

/// Tokens of elements: words, `,` and `}`, over several lines.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The next token with its place; an empty one at the end.
    fn next(&mut self) -> (usize, &'a str) {
        let rest = &self.text[self.at..];
        let token = rest.trim_start();
        let start = self.at + rest.len() - token.len();
        let len = if token.starts_with([',', '}', '{']) {
            1
        } else {
            token.find(|c: char| c.is_whitespace() || ",{}\"".contains(c)).unwrap_or(token.len())
        };
        self.at = start + len;
        (start, &token[..len])
    }

    fn peek(&self) -> &'a str {
        Tokens { ..*self }.next().1
    }

    fn expect(&mut self, expected: &str) -> Result<(), Wrong> {
        let (at, found) = self.next();
        if found == expected {
            return Ok(());
        }
        Err(Wrong::new(at, format!("expected `{expected}`, found {}", excerpt(found))))
    }

    /// A string in quotes.
    fn quoted(&mut self) -> Result<&'a str, Wrong> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let inner = rest.strip_prefix('"').and_then(|r| r.split_once('"')).map(|(inner, _)| inner);
        match inner.filter(|c| values::is_comment(c)) {
            Some(inner) => {
                self.at = start + inner.len() + 2;
                Ok(inner)
            }
            None => Err(Wrong::new(start, "expected a comment in quotes on one line")),
        }
    }
}
