//! The JSON of `nft -j list ruleset`, as nft 1.0.6 writes it (nftables `src/json.c`; libnftables-json(5)).
//!
//! After each table come its sets, its chains and then the rules of all chains. What nft leaves out is left out:
//! the comments of tables and chains, and `dynamic` among a set's flags. Handles are the kernel's numbers for its
//! objects, which a table that was built does not have: here they are consecutive in the order of printing, by
//! table from 1. What was read from nft's text and is not understood stands under the key `opaque`, which nft does
//! not know.

use super::opaque::Opaque;
use super::print::{addr_of, as_prefix, family};
use super::set::{dynamic, rbtree};
use super::{
    Base, Chain, Element, Field, KeyValue, Lifetime, Rule, Set, SetId, Statement, Table, Unknown, Verdict,
};
use crate::kernel::hook::ChainKind;
use ipnet::IpNet;
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use std::fmt::Write as _;
use std::net::SocketAddr;

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

/// Appends formatted text.
macro_rules! put {
    ($self:ident, $($arg:tt)*) => {
        write!($self.out, $($arg)*).expect("a string takes any text")
    };
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
        put!(self, r#""type": "{kind}", "hook": "{hook}", "prio": {}, "policy": "accept""#, base.priority);
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

    fn verdict(&mut self, verdict: Verdict) {
        let (word, to) = match verdict {
            Verdict::Jump(to) => ("jump", Some(to)),
            Verdict::Goto(to) => ("goto", Some(to)),
            Verdict::Return => ("return", None),
            Verdict::Accept => ("accept", None),
            Verdict::Drop => ("drop", None),
        };
        match to {
            Some(to) => {
                put!(self, r#"{{"{word}": {{"target": "#);
                self.string(&self.table.chain(to).name);
                self.out.push_str("}}");
            }
            None => put!(self, r#"{{"{word}": null}}"#),
        }
    }

    fn field(&mut self, field: Field) {
        let ip = family(self.table.family);
        match field {
            Field::SrcAddr => put!(self, r#"{{"payload": {{"protocol": "{ip}", "field": "saddr"}}}}"#),
            Field::DstAddr => put!(self, r#"{{"payload": {{"protocol": "{ip}", "field": "daddr"}}}}"#),
            Field::L4Proto => self.out.push_str(r#"{"meta": {"key": "l4proto"}}"#),
            Field::DstPort => self.out.push_str(r#"{"payload": {"protocol": "th", "field": "dport"}}"#),
        }
    }

    fn fields(&mut self, fields: &[Field]) {
        match *fields {
            [only] => self.field(only),
            _ => {
                self.out.push_str(r#"{"concat": "#);
                self.list(fields, |w, f| w.field(*f));
                self.out.push('}');
            }
        }
    }

    /// A comparison with the two sides written by `left` and `right`.
    fn compare(&mut self, op: &str, left: impl FnOnce(&mut Self), right: impl FnOnce(&mut Self)) {
        put!(self, r#"{{"match": {{"op": "{op}", "left": "#);
        left(self);
        self.out.push_str(r#", "right": "#);
        right(self);
        self.out.push_str("}}");
    }

    fn named_set(&mut self, set: SetId) {
        let name = format!("@{}", self.table.sets[set.0 as usize].name);
        self.string(&name);
    }

    fn net(&mut self, net: IpNet) {
        if net.prefix_len() == net.max_prefix_len() {
            put!(self, "\"{}\"", net.addr());
        } else {
            put!(self, r#"{{"prefix": {{"addr": "{}", "len": {}}}}}"#, net.addr(), net.prefix_len());
        }
    }

    fn numgen(&mut self, modulus: usize) {
        put!(self, r#"{{"numgen": {{"mode": "random", "mod": {modulus}, "offset": 0}}}}"#);
    }

    fn statement(&mut self, s: &Statement) {
        let is = |negate: &bool| if *negate { "!=" } else { "==" };
        match s {
            Statement::CtStateNew => {
                self.out
                    .push_str(r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}"#);
            }
            Statement::CtStatusDnat => {
                self.out.push_str(
                    r#"{"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}"#,
                );
            }
            Statement::MarkTest { mask, set } => self.compare(
                is(set),
                |w| put!(w, r#"{{"&": [{{"meta": {{"key": "mark"}}}}, {mask}]}}"#),
                |w| w.out.push('0'),
            ),
            Statement::Addr { field, net, negate } => {
                self.compare(is(negate), |w| w.field(*field), |w| w.net(*net));
            }
            Statement::AddrIn { field, nets, negate } => self.compare(
                is(negate),
                |w| w.field(*field),
                |w| {
                    w.out.push_str(r#"{"set": "#);
                    w.list(rbtree::merge(nets), TableWriter::range);
                    w.out.push('}');
                },
            ),
            Statement::InIface { name, prefix, negate } => self.compare(
                is(negate),
                |w| w.out.push_str(r#"{"meta": {"key": "iifname"}}"#),
                |w| w.string(&format!("{name}{}", if *prefix { "*" } else { "" })),
            ),
            Statement::InSet { fields, set } => {
                self.compare("==", |w| w.fields(fields), |w| w.named_set(*set));
            }
            Statement::Vmap { fields, map } => {
                self.out.push_str(r#"{"vmap": {"key": "#);
                self.fields(fields);
                self.out.push_str(r#", "data": "#);
                self.named_set(*map);
                self.out.push_str("}}");
            }
            Statement::L4Proto(p) => {
                self.compare("==", |w| w.field(Field::L4Proto), |w| put!(w, "\"{p}\""));
            }
            Statement::DstPort(p, port) => self.compare(
                "==",
                |w| put!(w, r#"{{"payload": {{"protocol": "{p}", "field": "dport"}}}}"#),
                |w| put!(w, "{port}"),
            ),
            Statement::FibLocal { field } => {
                let flag = if *field == Field::SrcAddr { "saddr" } else { "daddr" };
                self.compare(
                    "==",
                    |w| put!(w, r#"{{"fib": {{"result": "type", "flags": ["{flag}"]}}}}"#),
                    |w| w.out.push_str("\"local\""),
                );
            }
            Statement::MarkOr(bits) => self.mark('|', *bits),
            Statement::MarkXor(bits) => self.mark('^', *bits),
            Statement::NumgenVmap(verdicts) => {
                self.out.push_str(r#"{"vmap": {"key": "#);
                self.numgen(verdicts.len());
                self.out.push_str(r#", "data": {"set": "#);
                self.list(verdicts.iter().enumerate(), |w, (i, verdict)| {
                    put!(w, "[{i}, ");
                    w.verdict(*verdict);
                    w.out.push(']');
                });
                self.out.push_str("}}}");
            }
            Statement::Dnat(to) => {
                put!(self, r#"{{"dnat": {{"addr": "{}", "port": {}}}}}"#, SocketAddr::ip(to), to.port());
            }
            Statement::DnatNumgen(to) => {
                let ip = family(self.table.family);
                put!(self, r#"{{"dnat": {{"family": "{ip}", "addr": {{"map": {{"key": "#);
                self.numgen(to.len());
                self.out.push_str(r#", "data": {"set": "#);
                self.list(to.iter().enumerate(), |w, (i, to)| {
                    put!(w, r#"[{i}, {{"concat": ["{}", {}]}}]"#, SocketAddr::ip(to), to.port());
                });
                self.out.push_str("}}}}}");
            }
            Statement::Masquerade { fully_random: true } => {
                self.out.push_str(r#"{"masquerade": {"flags": "fully-random"}}"#);
            }
            Statement::Masquerade { fully_random: false } => self.out.push_str(r#"{"masquerade": null}"#),
            Statement::Update { set, field } => {
                self.out.push_str(r#"{"set": {"op": "update", "elem": "#);
                self.field(*field);
                self.out.push_str(r#", "set": "#);
                self.named_set(*set);
                self.out.push_str("}}");
            }
            Statement::Verdict(verdict) => self.verdict(*verdict),
            Statement::Reject => {
                let icmp = if self.table.family == Family::Ipv4 { "icmp" } else { "icmpv6" };
                put!(self, r#"{{"reject": {{"type": "{icmp}", "expr": "port-unreachable"}}}}"#);
            }
            Statement::Opaque(opaque) => self.opaque(opaque),
        }
    }

    fn mark(&mut self, op: char, bits: u32) {
        let mark = r#"{"meta": {"key": "mark"}}"#;
        put!(self, r#"{{"mangle": {{"key": {mark}, "value": {{"{op}": [{mark}, {bits}]}}}}}}"#);
    }

    /// One merged range: an address, a prefix if the range is one, or its two ends.
    fn range(&mut self, (from, to): (u128, u128)) {
        match as_prefix(self.table.family, from, to) {
            Some(net) => self.net(net),
            None => {
                let [from, to] = [from, to].map(|n| addr_of(self.table.family, n));
                put!(self, r#"{{"range": ["{from}", "{to}"]}}"#);
            }
        }
    }
}
