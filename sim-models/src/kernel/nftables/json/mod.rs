//! The JSON of `nft -j list ruleset`, as nft 1.0.6 writes it (nftables `src/json.c`; libnftables-json(5)).
//!
//! After each table come its sets, its chains and then the rules of all chains. What nft leaves out is left out:
//! the comments of tables and chains, and `dynamic` among a set's flags. Handles are the kernel's numbers for its
//! objects, which a table that was built does not have: here they are consecutive in the order of printing, by
//! table from 1. What was read from nft's text and is not understood stands under the key `opaque`, which nft does
//! not know.

/// Appends formatted text.
macro_rules! put {
    ($self:ident, $($arg:tt)*) => {
        write!($self.out, $($arg)*).expect("a string takes any text")
    };
}

mod statement;

use super::opaque::Opaque;
use super::print::family;
use super::set::dynamic;
use super::{Base, Chain, Element, KeyValue, Lifetime, Rule, Set, SetId, Table, Unknown};
use crate::kernel::hook::ChainKind;
use sim_core::units::SimSpan;
use std::fmt::Write as _;

/// The first object of every document.
const METAINFO: &str =
    r#"{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}"#;

/// One document that holds these tables, on one line that ends in a line break.
pub fn document<'a>(tables: impl IntoIterator<Item = &'a Table>) -> String {
    let mut out = format!("{{\"nftables\": [{METAINFO}");
    for (table, handle) in tables.into_iter().zip(1..) {
        TableWriter { table, handles: 0, out: &mut out }.write(handle);
    }
    out.push_str("]}\n");
    out
}

/// The statements of a rule, as the array under `expr`.
pub fn statements(table: &Table, rule: &Rule) -> String {
    let mut out = String::new();
    TableWriter { table, handles: 0, out: &mut out }.statements(rule);
    out
}

/// Writes one table.
struct TableWriter<'a> {
    table: &'a Table,
    handles: u64,
    out: &'a mut String,
}

impl TableWriter<'_> {
    fn write(&mut self, handle: u64) {
        let table = self.table;
        put!(self, r#", {{"table": {{"family": "{}", "name": "#, family(table.family));
        self.string(&table.name);
        put!(self, r#", "handle": {handle}}}}}"#);
        let mut unknown = table.unknown.iter().peekable();
        for at in 0..=table.sets.len() {
            while let Some(unknown) = unknown.next_if(|u| u.after_sets <= at || at == table.sets.len()) {
                self.unknown(unknown);
            }
            if let Some(set) = table.sets.get(at) {
                self.set(SetId(u32::try_from(at).expect("fewer than 2^32 sets")), set);
            }
        }
        for chain in &table.chains {
            self.chain(chain);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.rule(chain, rule);
            }
        }
    }

    /// A JSON string. Only quotes, backslashes and control characters are escaped.
    fn string(&mut self, text: &str) {
        self.out.push('"');
        if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
            self.out.push_str(text);
        } else {
            for c in text.chars() {
                match c {
                    '"' | '\\' => put!(self, "\\{c}"),
                    '\n' => self.out.push_str("\\n"),
                    '\t' => self.out.push_str("\\t"),
                    c if c < ' ' => put!(self, "\\u{:04X}", u32::from(c)),
                    c => self.out.push(c),
                }
            }
        }
        self.out.push('"');
    }

    fn unknown(&mut self, unknown: &Unknown) {
        self.out.push_str(", ");
        let Opaque::Text(text) = &unknown.body else { return self.opaque(&unknown.body) };
        put!(self, r#"{{"opaque": {{"family": "{}", "table": "#, family(self.table.family));
        self.string(&self.table.name);
        self.out.push_str(r#", "name": "#);
        self.string(&unknown.what);
        self.out.push_str(r#", "text": "#);
        self.string(text);
        self.out.push_str("}}");
    }

    fn opaque(&mut self, opaque: &Opaque) {
        match opaque {
            Opaque::Json(json) => self.out.push_str(json),
            Opaque::Text(text) => {
                self.out.push_str(r#"{"opaque": "#);
                self.string(text);
                self.out.push('}');
            }
        }
    }

    fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// A list of `items`, each written by `one`.
    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut one: impl FnMut(&mut Self, T)) {
        self.out.push('[');
        for (i, item) in items.into_iter().enumerate() {
            self.out.push_str(if i > 0 { ", " } else { "" });
            one(self, item);
        }
        self.out.push(']');
    }

    fn set(&mut self, id: SetId, set: &Set) {
        let kind = if set.is_map { "map" } else { "set" };
        put!(self, r#", {{"{kind}": {{"family": "{}", "name": "#, family(self.table.family));
        self.string(&set.name);
        self.out.push_str(r#", "table": "#);
        self.string(&self.table.name);
        self.out.push_str(r#", "type": "#);
        match set.key[..] {
            [only] => put!(self, "\"{}\"", self.table.key_type(only)),
            _ => self.list(&set.key, |w, k| put!(w, "\"{}\"", w.table.key_type(*k))),
        }
        let handle = self.handle();
        put!(self, r#", "handle": {handle}"#);
        if let Some(comment) = &set.comment {
            self.out.push_str(r#", "comment": "#);
            self.string(comment);
        }
        if set.is_map {
            self.out.push_str(r#", "map": "verdict""#);
        }
        if let Some(seconds) = set.timeout_seconds {
            let size = dynamic::DEFAULT_SIZE;
            put!(self, r#", "size": {size}, "flags": ["timeout"], "timeout": {seconds}"#);
        }
        if !set.elements.is_empty() {
            self.out.push_str(r#", "elem": "#);
            let table = self.table;
            self.list(set.elements.iter().enumerate(), |w, (i, element)| {
                w.element(element, table.lifetimes.get(&(id, i)));
            });
        }
        self.out.push_str("}}");
    }

    fn element(&mut self, element: &Element, lifetime: Option<&Lifetime>) {
        if element.verdict.is_some() {
            self.out.push('[');
        }
        let is_plain = element.comment.is_none() && lifetime.is_none();
        self.out.push_str(if is_plain { "" } else { r#"{"elem": {"val": "# });
        match &element.key[..] {
            [only] => self.key(only),
            fields => {
                self.out.push_str(r#"{"concat": "#);
                self.list(fields, TableWriter::key);
                self.out.push('}');
            }
        }
        if !is_plain {
            let seconds = |span: SimSpan| span.as_ns() / 1_000_000_000;
            if let Some(timeout) = lifetime.and_then(|l| l.timeout) {
                put!(self, r#", "timeout": {}"#, seconds(timeout));
            }
            if let Some(expires) = lifetime.and_then(|l| l.expires) {
                put!(self, r#", "expires": {}"#, seconds(expires));
            }
            if let Some(comment) = &element.comment {
                self.out.push_str(r#", "comment": "#);
                self.string(comment);
            }
            self.out.push_str("}}");
        }
        if let Some(verdict) = element.verdict {
            self.out.push_str(", ");
            self.verdict(verdict);
            self.out.push(']');
        }
    }

    fn key(&mut self, value: &KeyValue) {
        match value {
            KeyValue::Addr(addr) => put!(self, "\"{addr}\""),
            KeyValue::Proto(proto) => put!(self, "\"{proto}\""),
            KeyValue::Service(port) => put!(self, "{port}"),
        }
    }

    fn chain(&mut self, chain: &Chain) {
        let handle = self.handle();
        if let Some(unknown @ Opaque::Json(_)) = &chain.unknown_base {
            self.out.push_str(", ");
            return self.opaque(unknown);
        }
        put!(self, r#", {{"chain": {{"family": "{}", "table": "#, family(self.table.family));
        self.string(&self.table.name);
        self.out.push_str(r#", "name": "#);
        self.string(&chain.name);
        put!(self, r#", "handle": {handle}"#);
        if let Some(base) = chain.base {
            self.out.push_str(", ");
            self.base(base);
        }
        if let Some(Opaque::Text(text)) = &chain.unknown_base {
            self.out.push_str(r#", "opaque": "#);
            self.string(text);
        }
        self.out.push_str("}}");
    }

    fn base(&mut self, base: Base) {
        let kind = if base.kind == ChainKind::Nat { "nat" } else { "filter" };
        let hook = base.hook.chain_name().to_lowercase();
        let policy = if base.drops { "drop" } else { "accept" };
        put!(self, r#""type": "{kind}", "hook": "{hook}", "prio": {}, "policy": "{policy}""#, base.priority);
    }

    fn rule(&mut self, chain: &Chain, rule: &Rule) {
        put!(self, r#", {{"rule": {{"family": "{}", "table": "#, family(self.table.family));
        self.string(&self.table.name);
        self.out.push_str(r#", "chain": "#);
        self.string(&chain.name);
        let handle = self.handle();
        put!(self, r#", "handle": {handle}"#);
        if let Some(comment) = &rule.comment {
            self.out.push_str(r#", "comment": "#);
            self.string(comment);
        }
        self.out.push_str(r#", "expr": "#);
        self.statements(rule);
        self.out.push_str("}}");
    }

    fn statements(&mut self, rule: &Rule) {
        self.list(&rule.statements, TableWriter::statement);
    }
}
