//! Whether a table can be evaluated: it must be one that the kernel loads, of parts that are understood.
//!
//! Modelled of the kernel's own checks: from every base chain no path of jumps and gotos may be longer than the jump
//! stack, and a loop is such a path (`net/netfilter/nf_tables_api.c:nft_chain_validate`); what a rule looks up in a
//! set must have the type of its key, which nft sees to (`src/evaluate.c`). A dump can hold what kube-proxy does
//! not write ([`Opaque`](super::Opaque)); passing over it would give wrong answers, so it is refused by name.

use super::print::RuleText;
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
        let mut depth: Vec<Option<usize>> = vec![None; self.chains.len()];
        let mut on_path = vec![false; self.chains.len()];
        for (i, chain) in self.chains.iter().enumerate() {
            if chain.base.is_some() && self.depth(i, 0, &mut depth, &mut on_path)? > JUMP_STACK {
                return Err(format!("chain {}: jumps nest deeper than {JUMP_STACK}", chain.name));
            }
        }
        Ok(())
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
                if let Some(wrong) = wrong {
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

    /// Longest path of jumps from chain `i`.
    fn depth(
        &self,
        i: usize,
        level: usize,
        known: &mut Vec<Option<usize>>,
        on_path: &mut Vec<bool>,
    ) -> Result<usize, String> {
        if let Some(d) = known[i] {
            return Ok(d);
        }
        let name = &self.chains[i].name;
        if on_path[i] || level > JUMP_STACK {
            return Err(format!("chain {name}: too many links, or a loop of jumps"));
        }
        on_path[i] = true;
        let mut longest = 0;
        for to in self.targets(i) {
            let below = self.depth(to.0 as usize, level + 1, known, on_path)?;
            longest = longest.max(below + 1);
        }
        on_path[i] = false;
        known[i] = Some(longest);
        Ok(longest)
    }

    fn targets(&self, i: usize) -> impl Iterator<Item = ChainId> + '_ {
        let verdicts = self.chains[i].rules.iter().flat_map(|r| &r.statements).flat_map(|s| {
            let (one, many, map): (Option<Verdict>, &[Verdict], _) = match s {
                Statement::Verdict(v) => (Some(*v), &[], None),
                Statement::NumgenVmap(v) => (None, v, None),
                Statement::Vmap { map, .. } => (None, &[], Some(*map)),
                _ => (None, &[], None),
            };
            let mapped = map.into_iter().flat_map(|m| &self.sets[m.0 as usize].elements);
            one.into_iter().chain(many.iter().copied()).chain(mapped.filter_map(|e| e.verdict))
        });
        verdicts.filter_map(|v| match v {
            Verdict::Jump(c) | Verdict::Goto(c) => Some(c),
            _ => None,
        })
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
        table.chains[0].base = Some(Base { kind: ChainKind::Filter, hook: Hook::Input, priority: 0 });
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
