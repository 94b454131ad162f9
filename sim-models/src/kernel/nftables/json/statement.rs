//! One statement as JSON: an object whose key is its kind (nftables `src/json.c`, `*_stmt_json` and `*_expr_json`).

use super::TableWriter;
use crate::kernel::nftables::print::{addr_of, as_prefix, family};
use crate::kernel::nftables::set::rbtree;
use crate::kernel::nftables::test::JsonWriter;
use crate::kernel::nftables::{Field, SetId, Statement, Verdict};
use ipnet::IpNet;
use sim_core::classify::Family;
use std::fmt::Write as _;
use std::net::SocketAddr;

impl TableWriter<'_> {
    pub(super) fn verdict(&mut self, verdict: Verdict) {
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

    pub(super) fn statement(&mut self, s: &Statement) {
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
            Statement::RejectWith(with) => match with.name(self.table.family) {
                Some(name) => {
                    let icmp = if self.table.family == Family::Ipv4 { "icmp" } else { "icmpv6" };
                    put!(self, r#"{{"reject": {{"type": "{icmp}", "expr": "{name}"}}}}"#);
                }
                None => self.out.push_str(r#"{"reject": {"type": "tcp reset"}}"#),
            },
            Statement::Test(_) | Statement::VerdictMap(_) => self.general(s),
            Statement::Counter { packets, bytes } => {
                put!(self, r#"{{"counter": {{"packets": {packets}, "bytes": {bytes}}}}}"#);
            }
            Statement::Limit { rate, unit, burst, over } => {
                let inv = if *over { r#", "inv": true"# } else { "" };
                let per = unit.name();
                put!(self, r#"{{"limit": {{"rate": {rate}, "burst": {burst}, "per": "{per}"{inv}}}}}"#);
            }
            Statement::Log { prefix, level, group } => {
                let mut parts: Vec<String> = Vec::new();
                parts.extend(prefix.iter().map(|p| format!(r#""prefix": "{p}""#)));
                parts.extend(group.iter().map(|g| format!(r#""group": {g}"#)));
                parts.extend(level.iter().map(|l| format!(r#""level": "{l}""#)));
                let body = parts.join(", ");
                let body = if parts.is_empty() { "null".to_owned() } else { format!("{{{body}}}") };
                put!(self, r#"{{"log": {body}}}"#);
            }
            Statement::MarkSet(mark) => self.mangle("meta", &mark.to_string()),
            Statement::MarkAnd(mask) => self.mark('&', *mask),
            Statement::MarkFromCt => self.mangle("meta", r#"{"ct": {"key": "mark"}}"#),
            Statement::CtMarkSet(mark) => self.mangle("ct", &mark.to_string()),
            Statement::CtMarkFromMark => self.mangle("ct", r#"{"meta": {"key": "mark"}}"#),
            Statement::Opaque(opaque) => self.opaque(opaque),
        }
    }

    fn mangle(&mut self, of: &str, value: &str) {
        put!(self, r#"{{"mangle": {{"key": {{"{of}": {{"key": "mark"}}}}, "value": {value}}}}}"#);
    }

    fn general(&mut self, s: &Statement) {
        let table = self.table;
        let verdict = |v, out: &mut String| TableWriter { table, handles: 0, out }.verdict(v);
        let writer = JsonWriter { table, verdict: &verdict };
        match s {
            Statement::Test(test) => writer.test(test, self.out),
            Statement::VerdictMap(map) => writer.verdict_map(map, self.out),
            _ => unreachable!("asked for these only"),
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
