//! What a reader of a dump should be told beside its table: what was passed over, and what only looks like rules of
//! kube-proxy.

use super::{Ruleset, Skipped};
use crate::kernel::nftables::{Opaque, Statement, Table, print};
use sim_core::classify::Family;

/// Tables that are told by name.
const NAMED_MAX: usize = 5;

impl Ruleset {
    /// Notes on the table `name` of a family, a line each.
    pub fn notes(&self, name: &str, family: Family) -> Vec<String> {
        let mut notes = Vec::new();
        match self.tables.iter().find(|table| table.family == family) {
            None => notes.push(format!("the dump has no table {} {name}", print::family(family))),
            Some(table) => {
                notes.extend(opaque(table));
                notes.extend(stale(table));
            }
        }
        notes.extend(passed_over(&self.skipped));
        notes
    }
}

impl Table {
    /// Everything that is kept as it stood: objects, attachments of base chains, statements.
    pub fn opaque(&self) -> impl Iterator<Item = &Opaque> {
        let objects = self.unknown.iter().map(|unknown| &unknown.body);
        let bases = self.chains.iter().filter_map(|chain| chain.unknown_base.as_ref());
        let statements = self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
        let statements = statements.filter_map(|statement| match statement {
            Statement::Opaque(opaque) => Some(opaque),
            _ => None,
        });
        objects.chain(bases).chain(statements)
    }

    /// Empty chains of Services and endpoints: kube-proxy empties such a chain when nothing calls for it any more and
    /// deletes it in a later sync (`pkg/proxy/nftables/proxier.go:syncProxyRules`). Their names are the ones with a
    /// slash (`isServiceChainName`).
    pub fn stale_chains(&self) -> impl Iterator<Item = &str> {
        let is_stale = |name: &str, rules: usize| rules == 0 && name.contains('/');
        self.chains.iter().filter(move |c| is_stale(&c.name, c.rules.len())).map(|chain| &*chain.name)
    }
}

/// `1 chain`, `2 chains`.
fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn opaque(table: &Table) -> Option<String> {
    let first = table.opaque().next()?;
    let other = match first {
        Opaque::Text(_) => "JSON",
        Opaque::Json(_) => "text",
    };
    let at = format!("table {} {}", print::family(table.family), table.name);
    let (n, verb) = match table.opaque().count() {
        1 => (count(1, "part"), "is kept as it stands"),
        n => (count(n, "part"), "are kept as they stand"),
    };
    Some(format!(
        "{at}: {n} that kube-proxy does not write {verb}; printed as {other} they are nothing that nft loads"
    ))
}

fn stale(table: &Table) -> Option<String> {
    let at = format!("table {} {}", print::family(table.family), table.name);
    match table.stale_chains().count() {
        0 => None,
        1 => Some(format!("{at}: 1 empty chain that waits to be deleted")),
        n => Some(format!("{at}: {n} empty chains that wait to be deleted")),
    }
}

fn passed_over(skipped: &[Skipped]) -> Option<String> {
    if skipped.is_empty() {
        return None;
    }
    let named = skipped.iter().take(NAMED_MAX).map(|table| {
        let name = table.what.strip_prefix("table ").unwrap_or(&table.what);
        format!("{} (line {})", super::shortened(name).escape_debug(), table.line)
    });
    let mut named = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = skipped.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        named += &format!(" and {more} more");
    }
    Some(format!("passed over: {}: {named}", count(skipped.len(), "other table")))
}
