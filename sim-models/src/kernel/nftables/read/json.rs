//! `nft -j list ruleset`, in general (libnftables-json(5)): objects in any order, one document.
//!
//! Every object is found first and looked into by kind, sets before chains before rules, so that what it refers to
//! is known. Keys that say nothing about packets (handles, an index) are passed over. Depth is bounded by serde_json.

use super::draft::Draft;
use super::values::{self, FIELDS_MAX, NAME};
use super::{LineCounter, Ruleset, Skipped, Wrong, excerpt, json_rule};
use crate::kernel::nftables::set::dynamic;
use crate::kernel::nftables::{
    Base, Element, Key, KeyType, Lifetime, Opaque, Rule, Set, SetId, Statement, Unknown,
};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    nftables: Vec<&'a RawValue>,
}

/// What tells which table an object belongs to.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    family: Cow<'a, str>,
    #[serde(borrow, default)]
    table: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TableObject<'a> {
    #[serde(borrow)]
    comment: Option<Cow<'a, str>>,
    flags: Option<Value>,
}

#[derive(Deserialize)]
struct ChainObject<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    comment: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hook: Option<Cow<'a, str>>,
    prio: Option<i64>,
    #[serde(borrow)]
    policy: Option<Cow<'a, str>>,
    dev: Option<Value>,
    flags: Option<Value>,
    /// Of a document that was made from text.
    opaque: Option<Value>,
}

#[derive(Deserialize)]
struct RuleObject<'a> {
    #[serde(borrow)]
    chain: Cow<'a, str>,
    #[serde(borrow)]
    comment: Option<Cow<'a, str>>,
    #[serde(borrow)]
    expr: Vec<&'a RawValue>,
}

/// One object of the document.
struct Object<'a> {
    kind: Cow<'a, str>,
    body: &'a RawValue,
    /// With its kind.
    whole: &'a RawValue,
    name: Cow<'a, str>,
    at: usize,
}

/// Where `part` begins in `text`, of which it is a part.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize).min(text.len())
}

/// Reads a part of the text.
fn parse<'a, T: Deserialize<'a>>(text: &str, part: &'a str) -> Result<T, Wrong> {
    serde_json::from_str(part).map_err(|error| {
        let lines = part.split_inclusive('\n').take(error.line().saturating_sub(1));
        let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        let message = error.to_string();
        // The place is told apart, in the whole text.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        Wrong::new(offset(text, part) + at, message)
    })
}

/// Reads a whole document.
pub(super) fn ruleset(text: &str, name: &str) -> Result<Ruleset, Wrong> {
    let document: Document<'_> = parse(text, text)?;
    let mut skipped = Vec::new();
    // The objects come in the order of the text.
    let mut counter = LineCounter::new(text);
    let mut objects: [Vec<Object<'_>>; 2] = [Vec::new(), Vec::new()];
    let mut families = Vec::new();
    for item in document.nftables {
        let at = offset(text, item.get());
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = parse(text, item.get())?;
        let mut fields = fields.into_iter();
        let (Some((kind, body)), None) = (fields.next(), fields.next()) else {
            return Err(Wrong::new(at, "an object of a dump has one key, its kind: {\"table\": {...}}"));
        };
        if kind == "metainfo" || !body.get().starts_with('{') {
            continue;
        }
        let head: Head<'_> = parse(text, body.get())?;
        let table = if kind == "table" { &head.name } else { &head.table };
        match values::family(&head.family).filter(|_| *table == name) {
            Some(family) => {
                let of_family = usize::from(family == Family::Ipv6);
                if !families.contains(&family) {
                    families.push(family);
                }
                objects[of_family].push(Object { kind, body, whole: item, name: head.name, at });
            }
            None if kind == "table" => {
                let what = format!("table {} {table}", head.family);
                skipped.push(Skipped { line: counter.line_of(at), what });
            }
            None => {}
        }
    }
    let mut tables = Vec::new();
    for family in families {
        let objects = std::mem::take(&mut objects[usize::from(family == Family::Ipv6)]);
        let mut reader = Reader { text, draft: Draft::new(family, name) };
        reader.table(&objects)?;
        tables.push(reader.draft.finish()?);
    }
    Ok(Ruleset { tables, skipped })
}

struct Reader<'a> {
    text: &'a str,
    draft: Draft,
}

impl<'a> Reader<'a> {
    fn table(&mut self, objects: &[Object<'a>]) -> Result<(), Wrong> {
        for object in objects {
            match &*object.kind {
                "table" => {
                    let table: TableObject<'_> = parse(self.text, object.body.get())?;
                    self.draft.table.comment = self.comment(object.at, table.comment)?.map(Into::into);
                    if table.flags.is_some() {
                        self.unknown(object);
                    }
                }
                "set" | "map" => self.set(object)?,
                "chain" | "rule" => {}
                _ => self.unknown(object),
            }
        }
        for object in objects.iter().filter(|o| o.kind == "chain") {
            self.chain(object)?;
        }
        for object in objects.iter().filter(|o| o.kind == "rule") {
            self.rule(object)?;
        }
        Ok(())
    }

    fn unknown(&mut self, object: &Object<'_>) {
        let table = &mut self.draft.table;
        table.unknown.push(Unknown {
            what: format!("{} {}", object.kind, object.name).trim_end().into(),
            body: Opaque::json(object.whole.get()),
            after_sets: table.sets.len(),
        });
    }

    fn name(&self, at: usize, name: &str) -> Result<(), Wrong> {
        if values::is_name(name) {
            return Ok(());
        }
        Err(Wrong::new(at, format!("{} is no name: {NAME}", excerpt(name))))
    }

    fn comment<'c>(&self, at: usize, comment: Option<Cow<'c, str>>) -> Result<Option<Cow<'c, str>>, Wrong> {
        match comment {
            Some(text) if !values::is_comment(&text) => {
                let found = excerpt(&text);
                Err(Wrong::new(at, format!("a comment has no quotes and no control characters: {found}")))
            }
            comment => Ok(comment),
        }
    }

    fn chain(&mut self, object: &Object<'a>) -> Result<(), Wrong> {
        let chain: ChainObject<'_> = parse(self.text, object.body.get())?;
        self.name(object.at, &chain.name)?;
        let comment = self.comment(object.at, chain.comment)?;
        let id = self.draft.define(&chain.name, object.at)?;
        let into = &mut self.draft.table.chains[id.0 as usize];
        into.comment = comment.map(Into::into);
        let unusual = chain.dev.is_some() || chain.flags.is_some() || chain.opaque.is_some();
        if chain.kind.is_none() && chain.hook.is_none() && !unusual {
            return Ok(());
        }
        let base = || {
            Some(Base {
                kind: values::chain_kind(chain.kind.as_deref()?)?,
                hook: values::hook(chain.hook.as_deref()?)?,
                priority: i32::try_from(chain.prio?).ok()?,
                drops: match chain.policy.as_deref() {
                    None | Some("accept") => false,
                    Some("drop") => true,
                    Some(_) => return None,
                },
            })
        };
        into.base = base().filter(|_| !unusual);
        into.unknown_base = into.base.is_none().then(|| Opaque::json(object.whole.get()));
        Ok(())
    }

    fn rule(&mut self, object: &Object<'a>) -> Result<(), Wrong> {
        let rule: RuleObject<'_> = parse(self.text, object.body.get())?;
        let undefined = || format!("a rule of chain {}, which is nowhere defined", excerpt(&rule.chain));
        let chain = self.draft.defined(&rule.chain).ok_or_else(|| Wrong::new(object.at, undefined()))?;
        let mut out = Rule::new([]);
        out.comment = self.comment(object.at, rule.comment)?.map(Into::into);
        for part in rule.expr {
            let value: Value = parse(self.text, part.get())?;
            let at = offset(self.text, part.get());
            let statement = json_rule::statement(&mut self.draft, &value, at);
            let opaque = || Statement::Opaque(Opaque::json(part.get()));
            out.statements.push(statement.unwrap_or_else(opaque));
        }
        if out.statements.is_empty() {
            return Err(Wrong::new(object.at, "a rule without a statement"));
        }
        self.draft.table.add_rule(chain, out);
        Ok(())
    }

    fn set(&mut self, object: &Object<'a>) -> Result<(), Wrong> {
        self.name(object.at, &object.name)?;
        let is_twice = self.draft.table.find_set(&object.name).is_some();
        if is_twice {
            return Err(Wrong::new(object.at, format!("set {} is there twice", excerpt(&object.name))));
        }
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = parse(self.text, object.body.get())?;
        let id = SetId(u32::try_from(self.draft.table.sets.len()).expect("fewer than 2^32 sets"));
        match self.set_of(object, &fields, id)? {
            Some(set) => self.draft.add_set(set, object.at)?,
            None => {
                drop(self.draft.table.lifetimes.split_off(&(id, 0)));
                self.unknown(object);
            }
        }
        Ok(())
    }

    /// The set, or nothing if it has a property that sets of kube-proxy do not have.
    fn set_of(
        &mut self,
        object: &Object<'a>,
        fields: &BTreeMap<Cow<'a, str>, &'a RawValue>,
        id: SetId,
    ) -> Result<Option<Set>, Wrong> {
        let mut set = Set {
            name: (&*object.name).into(),
            key: SmallVec::new(),
            is_map: object.kind == "map",
            comment: None,
            timeout_seconds: None,
            elements: Vec::new(),
        };
        let (mut is_dynamic, mut size, mut elements, mut data) = (false, None, None, None);
        for (key, raw) in fields {
            if key == "elem" {
                elements = Some(*raw);
                continue;
            }
            let value: Value = parse(self.text, raw.get())?;
            match (&**key, &value) {
                ("family" | "table" | "name" | "handle", _) => {}
                ("type", _) => match self.key(&value) {
                    Some(key) => set.key = key,
                    None => return Ok(None),
                },
                ("map", Value::String(of)) => data = Some(of.clone()),
                ("size", _) => size = Some(value),
                ("flags", flags) => {
                    // Newer versions print a single flag without brackets.
                    let flags = flags.as_array().map_or(std::slice::from_ref(flags), Vec::as_slice);
                    is_dynamic = flags.iter().any(|f| f == "timeout");
                    if !is_dynamic || flags.iter().any(|f| f != "timeout" && f != "dynamic") {
                        return Ok(None);
                    }
                }
                ("timeout", Value::Number(n)) => {
                    match n.as_u64().and_then(|seconds| u32::try_from(seconds).ok()) {
                        Some(seconds) => set.timeout_seconds = Some(seconds),
                        None => return Ok(None),
                    }
                }
                ("comment", Value::String(text)) => {
                    set.comment = self.comment(object.at, Some(text.into()))?.map(|text| text.into());
                }
                _ => return Ok(None),
            }
        }
        let is_known = data.as_deref() == set.is_map.then_some("verdict")
            && is_dynamic == set.timeout_seconds.is_some()
            && size.is_none_or(|size| is_dynamic && size == dynamic::DEFAULT_SIZE)
            && !set.key.is_empty()
            && !(is_dynamic && set.is_map);
        if !is_known {
            return Ok(None);
        }
        let elements: Vec<&RawValue> = match elements {
            Some(raw) => parse(self.text, raw.get())?,
            None => Vec::new(),
        };
        for raw in elements {
            let value: Value = parse(self.text, raw.get())?;
            let Some((element, lifetime)) = self.element(&set, &value, offset(self.text, raw.get())) else {
                return Ok(None);
            };
            if let Some(lifetime) = lifetime {
                self.draft.table.lifetimes.insert((id, set.elements.len()), lifetime);
            }
            set.elements.push(element);
        }
        Ok(Some(set))
    }

    /// The types of a key's fields.
    fn key(&self, value: &Value) -> Option<SmallVec<[KeyType; 4]>> {
        let one = |value: &Value| values::key_type(value.as_str()?, self.draft.table.family);
        match value {
            Value::Array(fields) if (1..=FIELDS_MAX).contains(&fields.len()) => {
                fields.iter().map(one).collect()
            }
            other => Some(SmallVec::from_slice(&[one(other)?])),
        }
    }

    /// An element, and what is left of its time; nothing if it is not of the set's type.
    fn element(&mut self, set: &Set, value: &Value, at: usize) -> Option<(Element, Option<Lifetime>)> {
        let (key, verdict) = match value.as_array().map(Vec::as_slice) {
            Some([key, verdict]) if set.is_map => {
                (key, Some(json_rule::verdict(&mut self.draft, verdict, at)?))
            }
            None if !set.is_map => (value, None),
            _ => return None,
        };
        let mut element = Element { key: Key::new(), verdict, comment: None };
        let mut lifetime = None;
        let mut plain = key;
        if let Some(fields) = json_rule::only(key, "elem") {
            plain = fields.get("val")?;
            for (name, value) in fields.as_object()? {
                match &**name {
                    "val" => {}
                    "comment" => {
                        let text = value.as_str().filter(|text| values::is_comment(text))?;
                        element.comment = Some(text.into());
                    }
                    "timeout" | "expires" => {
                        let ns = value.as_u64()?.checked_mul(1_000_000_000)?;
                        let lifetime = lifetime.get_or_insert(Lifetime { timeout: None, expires: None });
                        let span = Some(SimSpan::from_ns(ns));
                        *(if name == "timeout" { &mut lifetime.timeout } else { &mut lifetime.expires }) =
                            span;
                    }
                    _ => return None,
                }
            }
        }
        let values = match json_rule::only(plain, "concat") {
            Some(fields) => fields.as_array()?.as_slice(),
            None => std::slice::from_ref(plain),
        };
        if values.len() != set.key.len() {
            return None;
        }
        for (value, kind) in values.iter().zip(&set.key) {
            let family = self.draft.table.family;
            let value = match value {
                Value::String(word) => values::key_value(word, *kind, family)?,
                Value::Number(n) => values::key_value(&n.to_string(), *kind, family)?,
                _ => return None,
            };
            element.key.push(value);
        }
        Some((element, lifetime))
    }
}
