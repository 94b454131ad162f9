//! The check of jumps at load time (`net/netfilter/nf_tables_api.c:nft_chain_validate`): from every base chain no
//! path of jumps and gotos may be longer than the jump stack; a loop is such a path.

use super::{ChainId, Statement, Table, Verdict};

/// Depth of the jump stack (`NFT_JUMP_STACK_SIZE`).
pub(super) const JUMP_STACK: usize = 16;

impl Table {
    /// Checks that no path of jumps is longer than the kernel allows.
    ///
    /// # Errors
    /// The name of a chain from which a path is too long, as the kernel's EMLINK says it without the name.
    pub fn validate(&self) -> Result<(), String> {
        let mut depth: Vec<Option<usize>> = vec![None; self.chains.len()];
        let mut on_path = vec![false; self.chains.len()];
        for (i, chain) in self.chains.iter().enumerate() {
            if chain.base.is_some() && self.depth(i, 0, &mut depth, &mut on_path)? > JUMP_STACK {
                return Err(format!("chain {}: jumps nest deeper than {JUMP_STACK}", chain.name));
            }
        }
        Ok(())
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
