//! What the kernel refuses when a table is loaded: targets and matches in tables and chains that they are not for,
//! and jumps that would never end.
//!
//! Source: `net/netfilter/x_tables.c:xt_check_match`, `xt_check_target` and the `checkentry` of each extension;
//! `ip_tables.c:mark_source_chains`. Only chains that packets can get to are looked at for hooks and loops: a loop that
//! no built-in chain leads to is loaded, and so is a target that its hook would forbid.
//!
//! Left out: what the tools refuse before the kernel sees it, save what [`super::parse`] tells.

use super::{ChainId, Match, Rule, Table, TableName, Target, Test};
use crate::kernel::hook::Hook;
use sim_core::classify::{Family, Proto};

/// Where a rule stands: what an extension may ask about.
#[derive(Clone, Copy, Debug)]
pub struct Place<'r> {
    /// The table.
    pub table: TableName,
    /// Its family.
    pub family: Family,
    /// Hooks from which packets get to the chain; a bit each, in the order of [`Hook::ALL`].
    pub hooks: u8,
    /// The rule's protocol.
    pub proto: Option<Test<Proto>>,
    /// The whole rule.
    pub rule: &'r Rule,
}

impl Place<'_> {
    /// Whether packets get there from another hook than these.
    pub fn beyond(&self, allowed: &[Hook]) -> bool {
        let mask = allowed.iter().fold(0u8, |mask, &hook| mask | 1 << hook as u8);
        self.hooks & !mask != 0
    }

    /// Why it is refused unless it stands in `table` and its packets come from these hooks.
    pub fn only(&self, table: Option<TableName>, hooks: &[Hook]) -> Option<String> {
        if let Some(table) = table.filter(|&table| table != self.table) {
            return Some(format!("it works in table {} only", table.name()));
        }
        let names: Vec<&str> = hooks.iter().map(|hook| hook.chain_name()).collect();
        self.beyond(hooks).then(|| format!("it works in chains that only {} leads to", names.join(" or ")))
    }
}

/// A jump that leads back to a chain that it was reached from: the chain and the rule with it.
pub(super) struct Loop {
    pub(super) chain: usize,
    pub(super) rule: usize,
}

/// For each chain the hooks that packets get to it from; or a jump that closes a loop. Takes time linear in the rules
/// for each hook.
pub(super) fn reached_from(table: &Table) -> Result<Vec<u8>, Loop> {
    let mut hooks = vec![0u8; table.chains.len()];
    for (at, chain) in table.chains.iter().enumerate() {
        let Some((hook, _)) = chain.base else { continue };
        descend(table, at, 1 << hook as u8, &mut hooks)?;
    }
    Ok(hooks)
}

/// Marks everything under `base`, depth first, without recursion: chains may be nested as deep as there are chains.
fn descend(table: &Table, base: usize, hook: u8, hooks: &mut [u8]) -> Result<(), Loop> {
    // Chain and the next rule of it; those on the stack are being walked.
    let mut stack = vec![(base, 0)];
    let mut open = vec![false; table.chains.len()];
    open[base] = true;
    hooks[base] |= hook;
    while let Some((chain, rule)) = stack.last_mut() {
        let Some(next) = table.chains[*chain].rules.get(*rule) else {
            open[*chain] = false;
            stack.pop();
            continue;
        };
        let (from, at) = (*chain, *rule);
        *rule += 1;
        let Some(Target::Jump(ChainId(to)) | Target::Goto(ChainId(to))) = next.target else { continue };
        let to = to as usize;
        if open[to] {
            return Err(Loop { chain: from, rule: at });
        }
        if hooks[to] & hook == 0 {
            hooks[to] |= hook;
            open[to] = true;
            stack.push((to, 0));
        }
    }
    Ok(())
}

/// Why the kernel refuses the rule, by its match or target.
pub(super) fn refused(at: Place<'_>) -> Option<String> {
    let named = |what: String, why: String| format!("{what}: {why}");
    for m in &at.rule.matches {
        let why = match m {
            Match::Extra(extra) => extra.of().refused(at),
            // `XT_MAX_COMMENT_LEN` with the zero at the end.
            Match::Comment(text) if text.len() > 255 => {
                return Some("a comment of more than 255 characters".to_owned());
            }
            Match::Ports { proto, .. } => super::extra::only_for(&at, &[*proto]),
            _ => None,
        };
        if let Some(why) = why {
            let mut text = String::new();
            super::print::write_match(m, at.family, &mut text).expect("a String takes everything");
            return Some(named(text.trim_start().to_owned(), why));
        }
    }
    let target = at.rule.target.as_ref()?;
    let nat = Some(TableName::Nat);
    let (name, why) = match target {
        Target::Extra(extra) => (extra.of().name().to_owned(), extra.of().refused(at)),
        Target::Reject => (
            "REJECT".to_owned(),
            at.only(Some(TableName::Filter), &[Hook::Input, Hook::Forward, Hook::Output]),
        ),
        Target::Dnat(_) => ("DNAT".to_owned(), at.only(nat, &[Hook::Prerouting, Hook::Output])),
        Target::Redirect { .. } => ("REDIRECT".to_owned(), at.only(nat, &[Hook::Prerouting, Hook::Output])),
        Target::Masquerade { .. } => ("MASQUERADE".to_owned(), at.only(nat, &[Hook::Postrouting])),
        _ => return None,
    };
    why.map(|why| named(name, why))
}
