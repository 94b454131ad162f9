//! The text of kube-proxy's transactions: what it writes to `nft -f -`, line by line (sigs.k8s.io/knftables
//! `objects.go`, the `writeOperation` methods), with rules in the words of `pkg/proxy/nftables/proxier.go`.
//!
//! These words are not those of `nft list`: marks are written `mark set mark or`, elements of anonymous sets are
//! separated by ` , `, names of interfaces have no quotes, and a set of one network keeps its braces.

use crate::kernel::hook::ChainKind;
use crate::kernel::nftables::print::RuleText;
use crate::kernel::nftables::{
    Base, Element, Field, KeyType, KeyValue, Rule, Set, Statement, Table, Verdict,
};
use sim_core::classify::Family;
use std::fmt::{self, Display, Formatter, Write as _};
use std::net::SocketAddr;

/// A transaction that is being written.
#[derive(Debug)]
pub(super) struct Script {
    family: Family,
    text: String,
}

impl Script {
    /// An empty one for the family's table.
    pub(super) fn new(family: Family) -> Self {
        Script { family, text: String::new() }
    }

    /// What was written, if anything.
    pub(super) fn finish(self) -> Option<String> {
        (!self.text.is_empty()).then_some(self.text)
    }

    fn line(&mut self, command: &str, rest: impl Display) {
        let family = if self.family == Family::Ipv4 { "ip" } else { "ip6" };
        writeln!(self.text, "{command} {family} {rest}").expect("a String takes everything");
    }

    /// `add table`.
    pub(super) fn add_table(&mut self, table: &Table) {
        let comment = table.comment.as_deref().map(|c| format!(" {{ comment \"{c}\" ; }}"));
        self.line("add table", format_args!("{}{}", table.name, comment.unwrap_or_default()));
    }

    /// `add chain`, `flush chain` or `delete chain`.
    pub(super) fn chain(&mut self, verb: &str, table: &Table, name: &str) {
        self.line(&format!("{verb} chain"), format_args!("{} {name}", table.name));
    }

    /// `add chain` of a chain with a comment.
    pub(super) fn add_commented_chain(&mut self, table: &Table, name: &str, comment: &str) {
        self.line("add chain", format_args!("{} {name} {{ comment \"{comment}\" ; }}", table.name));
    }

    /// `add chain` of a chain at a hook.
    pub(super) fn add_base_chain(&mut self, table: &Table, name: &str, base: Base) {
        let kind = if base.kind == ChainKind::Nat { "nat" } else { "filter" };
        let (hook, priority) = (base.hook.chain_name().to_lowercase(), base.priority);
        let what = format_args!("{} {name} {{ type {kind} hook {hook} priority {priority} ; }}", table.name);
        self.line("add chain", what);
    }

    /// `add set` or `add map`.
    pub(super) fn add_set(&mut self, table: &Table, set: &Set) {
        let (v4, map) = (self.family == Family::Ipv4, set.is_map);
        let types: Vec<_> = set
            .key
            .iter()
            .map(|k| match k {
                KeyType::Addr if v4 => "ipv4_addr",
                KeyType::Addr => "ipv6_addr",
                KeyType::Proto => "inet_proto",
                KeyType::Service => "inet_service",
            })
            .collect();
        let mut what = format!("{} {} {{ type {}", table.name, set.name, types.join(" . "));
        what.push_str(if map { " : verdict ;" } else { " ;" });
        if let Some(seconds) = set.timeout_seconds {
            write!(what, " flags dynamic,timeout ; timeout {seconds}s ;").expect("a String takes everything");
        }
        if let Some(comment) = &set.comment {
            write!(what, " comment \"{comment}\" ;").expect("a String takes everything");
        }
        self.line(if map { "add map" } else { "add set" }, format_args!("{what} }}"));
    }

    /// `flush set` or `delete set`.
    pub(super) fn set(&mut self, verb: &str, table: &Table, name: &str) {
        self.line(&format!("{verb} set"), format_args!("{} {name}", table.name));
    }

    /// `add element`.
    pub(super) fn add_element(&mut self, table: &Table, set: &str, element: &Element) {
        let mut what = format!("{}", KeyText(&element.key));
        if let Some(comment) = &element.comment {
            write!(what, " comment \"{comment}\"").expect("a String takes everything");
        }
        if let Some(verdict) = element.verdict {
            write!(what, " : {}", verdict_text(table, verdict)).expect("a String takes everything");
        }
        self.line("add element", format_args!("{} {set} {{ {what} }}", table.name));
    }

    /// `delete element`.
    pub(super) fn delete_element(&mut self, table: &Table, set: &str, key: &[KeyValue]) {
        self.line("delete element", format_args!("{} {set} {{ {} }}", table.name, KeyText(key)));
    }

    /// `add rule`; `in_braces` is what to write between the braces of its anonymous set.
    pub(super) fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule, in_braces: Option<&str>) {
        let mut what = format!("{} {chain}", table.name);
        for (i, statement) in rule.statements.iter().enumerate() {
            what.push(' ');
            let next = rule.statements.get(i + 1);
            write_statement(&mut what, table, statement, next, in_braces).expect("a String takes everything");
        }
        if let Some(comment) = &rule.comment {
            write!(what, " comment \"{comment}\"").expect("a String takes everything");
        }
        self.line("add rule", what);
    }
}

struct KeyText<'a>(&'a [KeyValue]);

impl Display for KeyText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, value) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { " . " } else { "" })?;
            match value {
                KeyValue::Addr(a) => write!(f, "{a}")?,
                KeyValue::Proto(p) => write!(f, "{p}")?,
                KeyValue::Service(p) => write!(f, "{p}")?,
            }
        }
        Ok(())
    }
}

fn verdict_text(table: &Table, verdict: Verdict) -> String {
    RuleText(table, &Rule::new([Statement::Verdict(verdict)])).to_string()
}

/// Elements of an anonymous map, numbered.
fn numbered(out: &mut String, values: impl IntoIterator<Item = String>) -> fmt::Result {
    for (i, value) in values.into_iter().enumerate() {
        write!(out, "{}{i} : {value}", if i > 0 { " , " } else { "" })?;
    }
    out.push_str(" }");
    Ok(())
}

fn write_statement(
    out: &mut String,
    table: &Table,
    statement: &Statement,
    next: Option<&Statement>,
    in_braces: Option<&str>,
) -> fmt::Result {
    let ip = if table.family == Family::Ipv4 { "ip" } else { "ip6" };
    match statement {
        Statement::MarkTest { mask, set } => {
            write!(out, "mark and {mask:#010x} {} 0", if *set { "!=" } else { "==" })
        }
        Statement::MarkOr(mask) => write!(out, "mark set mark or {mask:#010x}"),
        Statement::MarkXor(mask) => write!(out, "mark set mark xor {mask:#010x}"),
        Statement::InIface { name, prefix, negate } => {
            let (not, any) = (if *negate { "!= " } else { "" }, if *prefix { "*" } else { "" });
            write!(out, "iifname {not}{name}{any}")
        }
        Statement::Addr { field, negate, .. } | Statement::AddrIn { field, negate, .. }
            if in_braces.is_some() =>
        {
            let field = if *field == Field::SrcAddr { "saddr" } else { "daddr" };
            let not = if *negate { "!= " } else { "" };
            write!(out, "{ip} {field} {not}{{ {} }}", in_braces.unwrap_or_default())
        }
        // The local detector's network is written as one even if it is a single address; endpoints are not.
        Statement::Addr { field: Field::SrcAddr, net, negate }
            if *negate || matches!(next, Some(Statement::Verdict(Verdict::Goto(_)))) =>
        {
            write!(out, "{ip} saddr {}{net}", if *negate { "!= " } else { "" })
        }
        Statement::NumgenVmap(verdicts) => {
            write!(out, "numgen random mod {} vmap {{ ", verdicts.len())?;
            numbered(out, verdicts.iter().map(|v| verdict_text(table, *v)))
        }
        Statement::DnatNumgen(to) => {
            write!(out, "dnat {ip} addr . port to numgen random mod {} map {{ ", to.len())?;
            numbered(out, to.iter().map(|to| format!("{} . {}", SocketAddr::ip(to), to.port())))
        }
        as_listed => {
            let rule = Rule::new([as_listed.clone()]);
            write!(out, "{}", RuleText(table, &rule))
        }
    }
}
