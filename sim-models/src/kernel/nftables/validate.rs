//! Whether a table can be evaluated: it must be one that the kernel loads, of parts that are understood.
//!
//! Modelled of the kernel's own checks: from every base chain no path of jumps and gotos may be longer than the jump
//! stack, and a loop is such a path (`net/netfilter/nf_tables_api.c:nft_chain_validate`); what a rule looks up in a
//! set must have the type of its key, which nft sees to (`src/evaluate.c`). A dump can hold what kube-proxy does
//! not write ([`Opaque`](super::Opaque)); passing over it would give wrong answers, so it is refused by name.

use super::linearize::linearize;
use super::print::RuleText;
use super::tally::RULE_EXPRS_MAX;
use super::{ChainId, Field, KeyType, SetId, Statement, Table, Verdict};

/// Depth of the jump stack (`NFT_JUMP_STACK_SIZE`).
pub(super) const JUMP_STACK: usize = 16;

impl Table {
    /// Checks that the table can be evaluated.
    ///
    /// # Errors
    /// The first part that cannot be: something opaque, a lookup of the wrong type, or the chain from which a path of
    /// jumps is longer than the kernel allows, as its EMLINK says it without the name.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(unknown) = self.unknown.first() {
            return Err(format!("{}: kube-proxy writes no such thing", unknown.what));
        }
        self.validate_rules()?;
        jumps(
            self.chains.len(),
            |i| self.chains[i].base.is_some(),
            |i| &self.chains[i].name,
            |i| self.targets(i).map(|to| to.0 as usize).collect(),
        )
    }

    /// Checks that every statement is understood and looks up what its set holds.
    fn validate_rules(&self) -> Result<(), String> {
        for chain in &self.chains {
            if let Some(base) = &chain.unknown_base {
                return Err(format!("chain {}: kube-proxy attaches none like this: {base}", chain.name));
            }
            for rule in &chain.rules {
                let wrong = rule.statements.iter().find_map(|s| match s {
                    Statement::Opaque(_) => Some("kube-proxy writes no such statement"),
                    Statement::InSet { fields, set } if !self.holds(*set, false, fields) => {
                        Some("wrong type")
                    }
                    Statement::Vmap { fields, map } if !self.holds(*map, true, fields) => Some("wrong type"),
                    Statement::Update { set, field }
                        if !self.holds(*set, false, &[*field])
                            || self.sets[set.0 as usize].timeout_seconds.is_none() =>
                    {
                        Some("not a set that rules update")
                    }
                    _ => None,
                });
                let too_long = || {
                    let exprs = linearize(rule, self.family, 0).exprs.len();
                    (exprs > RULE_EXPRS_MAX).then_some("more expressions than a rule may have")
                };
                if let Some(wrong) = wrong.or_else(too_long) {
                    return Err(format!("chain {}: {wrong}: {}", chain.name, RuleText(self, rule)));
                }
            }
        }
        Ok(())
    }

    /// Whether this is a map, or a set, of these fields.
    fn holds(&self, set: SetId, is_map: bool, fields: &[Field]) -> bool {
        let set = &self.sets[set.0 as usize];
        let types = fields.iter().map(|field| match field {
            Field::SrcAddr | Field::DstAddr => KeyType::Addr,
            Field::L4Proto => KeyType::Proto,
            Field::DstPort => KeyType::Service,
        });
        set.is_map == is_map && types.eq(set.key.iter().copied())
    }

    fn targets(&self, i: usize) -> impl Iterator<Item = ChainId> + '_ {
        let verdicts = self.chains[i].rules.iter().flat_map(|r| &r.statements).flat_map(|s| {
            let items: &[super::test::Item] = match s {
                Statement::VerdictMap(map) => &map.items,
                _ => &[],
            };
            let (one, many, map): (Option<Verdict>, &[Verdict], _) = match s {
                Statement::Verdict(v) => (Some(*v), &[], None),
                Statement::NumgenVmap(v) => (None, v, None),
                Statement::Vmap { map, .. } => (None, &[], Some(*map)),
                _ => (None, &[], None),
            };
            let of_items = items.iter().filter_map(|item| item.verdict);
            let mapped = map.into_iter().flat_map(|m| &self.sets[m.0 as usize].elements);
            let many = many.iter().copied().chain(of_items);
            one.into_iter().chain(many).chain(mapped.filter_map(|e| e.verdict))
        });
        verdicts.filter_map(|v| match v {
            Verdict::Jump(c) | Verdict::Goto(c) => Some(c),
            _ => None,
        })
    }
}

/// Checks the paths of jumps among `chains` chains: none from a base chain is longer than the jump stack, and none leads
/// in a circle. `targets` gives where a chain's rules lead.
///
/// # Errors
/// The chain of the first that does.
pub(super) fn jumps<'a>(
    chains: usize,
    is_base: impl Fn(usize) -> bool,
    name: impl Fn(usize) -> &'a str,
    targets: impl Fn(usize) -> Vec<usize>,
) -> Result<(), String> {
    let mut paths = Paths { known: vec![None; chains], on_path: vec![false; chains], name, targets };
    for i in (0..chains).filter(|i| is_base(*i)) {
        if paths.longest(i, 0)? > JUMP_STACK {
            return Err(format!("chain {}: jumps nest deeper than {JUMP_STACK}", (paths.name)(i)));
        }
    }
    Ok(())
}

struct Paths<N, T> {
    known: Vec<Option<usize>>,
    on_path: Vec<bool>,
    name: N,
    targets: T,
}

impl<'a, N: Fn(usize) -> &'a str, T: Fn(usize) -> Vec<usize>> Paths<N, T> {
    /// Longest path of jumps from chain `i`, which is `level` jumps away from a base chain.
    fn longest(&mut self, i: usize, level: usize) -> Result<usize, String> {
        if let Some(known) = self.known[i] {
            return Ok(known);
        }
        if self.on_path[i] || level > JUMP_STACK {
            return Err(format!("chain {}: too many links, or a loop of jumps", (self.name)(i)));
        }
        self.on_path[i] = true;
        let mut longest = 0;
        for to in (self.targets)(i) {
            longest = longest.max(self.longest(to, level + 1)? + 1);
        }
        self.on_path[i] = false;
        self.known[i] = Some(longest);
        Ok(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Base, Rule};
    use super::*;
    use crate::kernel::hook::{ChainKind, Hook};
    use sim_core::classify::Family;

    /// A base chain and `n` more, each jumping to the next.
    fn ladder(n: usize) -> Table {
        let mut table = Table::new(Family::Ipv4, "t", None);
        let mut from = table.add_chain("base");
        table.chains[0].base =
            Some(Base { kind: ChainKind::Filter, hook: Hook::Input, priority: 0, drops: false });
        for i in 0..n {
            let to = table.add_chain(&format!("c{i}"));
            table.add_rule(from, Rule::new([Statement::Verdict(Verdict::Jump(to))]));
            from = to;
        }
        table
    }

    #[test]
    fn jumps_nest_sixteen_deep_and_loops_are_refused() {
        assert_eq!(ladder(16).validate(), Ok(()));
        assert!(ladder(17).validate().is_err());
        let mut looping = ladder(3);
        looping.add_rule(ChainId(3), Rule::new([Statement::Verdict(Verdict::Goto(ChainId(1)))]));
        assert!(looping.validate().unwrap_err().contains("loop"));
    }
}
