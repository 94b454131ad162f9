//! Matches compiled one rule at a time, for an engine that calls them from rules of its own: iptables-nft's.
//!
//! What the kernel checks is the same (`net/netfilter/nft_compat.c` calls `xt_check_match` and `xt_check_target`), and so
//! are the places of what matches remember. Lists of `-m recent` are made in the order in which rules are written, since
//! the tool sends them to the kernel as they come.

use super::compile::{At, CompiledMatch, Shared, Warning, check_rule, compile_match, sound};
use super::recent::ListSpec;
use super::{CompileError, CompileOptions, Rule, Table, Target};
use crate::kernel::ipset::IpSets;
use std::sync::Arc;

/// What is named and counted over all tables.
pub(in crate::kernel) struct Calls<'a> {
    sets: &'a IpSets,
    shared: Shared,
}

impl<'a> Calls<'a> {
    /// Nothing yet; `sets` are the node's ipsets.
    pub fn new(sets: &'a IpSets, options: CompileOptions) -> Self {
        Calls { sets, shared: Shared::with(options) }
    }

    /// The hooks that lead to each chain, a bit each, if every jump leads to a user chain and none in circles.
    pub fn hooks(&self, table: &Table) -> Result<Vec<u8>, CompileError> {
        sound(table)
    }

    /// The matches of `rule`, which is number `number` of `chain`, where packets from `hooks` come.
    pub fn matches(
        &mut self,
        table: &Table,
        (chain, hooks): (&str, u8),
        (number, rule): (usize, &Rule),
    ) -> Result<Vec<CompiledMatch>, CompileError> {
        let at = At { table: table.name, family: table.family, chain, rule: number, hooks };
        check_rule(rule, at)?;
        if let Some(Target::Opaque(text)) = &rule.target {
            at.opaque(text, true, &mut self.shared)?;
        }
        let one = |m| {
            self.shared.number_list(m, table.family);
            compile_match(m, at, self.sets, &mut self.shared)
        };
        rule.matches.iter().map(one).collect()
    }

    /// The lists of all rules, to be bound before one is asked, and the warnings.
    pub fn finish(self) -> (Arc<[ListSpec]>, Vec<Warning>) {
        (self.shared.lists.into(), self.shared.warnings)
    }
}
