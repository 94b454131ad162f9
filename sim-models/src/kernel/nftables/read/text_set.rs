//! A set or map in nft's text, and its elements, which run over several lines.

use super::text::{Line, Lines, Reader, comment};
use super::values::{self, FIELDS_MAX, NAME};
use super::{Wrong, excerpt};
use crate::kernel::dump::decimal;
use crate::kernel::nftables::set::dynamic;
use crate::kernel::nftables::{Element, Key, KeyType, Lifetime, Set, SetId, Verdict};
use sim_core::classify::Family;
use smallvec::SmallVec;

impl<'a> Reader<'a> {
    pub(super) fn set(&mut self, head: Line<'a>, name: &str, is_map: bool) -> Result<(), Wrong> {
        if !values::is_name(name) {
            return Err(Wrong::new(head.at, format!("{} is no name: {NAME}", excerpt(name))));
        }
        if self.draft.table.find_set(name).is_some() {
            return Err(Wrong::new(head.at, format!("set {} is there twice", excerpt(name))));
        }
        let body = self.block(head)?;
        let id = SetId(u32::try_from(self.draft.table.sets.len()).expect("fewer than 2^32 sets"));
        match self.set_of(name, is_map, body, id)? {
            Some(set) => self.draft.add_set(set, head.at)?,
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
            && size.is_none_or(|size| is_dynamic && decimal(size) == Some(dynamic::DEFAULT_SIZE))
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
}

fn bad_key(at: usize, word: &str, kind: KeyType, family: Family) -> Wrong {
    let allowed = values::key_value_name(kind, family);
    Wrong::new(at, format!("expected {allowed}, found {}", excerpt(word)))
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
