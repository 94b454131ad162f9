//! A table while it is read: chains are named before they are defined, by elements of maps and by jumps.

use super::{Wrong, excerpt};
use crate::kernel::nftables::{ChainId, Element, Key, Set, Statement, Table, Verdict};
use sim_core::classify::Family;

/// A table whose chains are numbered in the order in which they are first named.
pub(super) struct Draft {
    pub(super) table: Table,
    /// By chain: where it is first named, and its number among the definitions.
    chains: Vec<(usize, Option<ChainId>)>,
    defined: u32,
}

impl Draft {
    pub(super) fn new(family: Family, name: &str) -> Self {
        Draft { table: Table::new(family, name, None), chains: Vec::new(), defined: 0 }
    }

    /// The chain of that name, which may be defined later.
    pub(super) fn named(&mut self, name: &str, at: usize) -> ChainId {
        let id = self.table.add_chain(name);
        if id.0 as usize == self.chains.len() {
            self.chains.push((at, None));
        }
        id
    }

    /// Defines a chain.
    pub(super) fn define(&mut self, name: &str, at: usize) -> Result<ChainId, Wrong> {
        let id = self.named(name, at);
        let number = &mut self.chains[id.0 as usize].1;
        if number.is_some() {
            return Err(Wrong::new(at, format!("chain {} is there twice", excerpt(name))));
        }
        *number = Some(ChainId(self.defined));
        self.defined += 1;
        Ok(id)
    }

    /// The chain of that name, if it is defined.
    pub(super) fn defined(&self, name: &str) -> Option<ChainId> {
        self.table.find_chain(name).filter(|id| self.chains[id.0 as usize].1.is_some())
    }

    /// Adds a set that stands at `at`. The kernel holds every key once.
    pub(super) fn add_set(&mut self, set: Set, at: usize) -> Result<(), Wrong> {
        let mut keys: Vec<&Key> = set.elements.iter().map(|e| &e.key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let element = Element { key: pair[0].clone(), verdict: None, comment: None };
            let mut text = String::new();
            self.table.element(&element, None, &mut text).expect("a string takes any text");
            return Err(Wrong::new(at, format!("set {} has the element {text} twice", excerpt(&set.name))));
        }
        self.table.add_set(set);
        Ok(())
    }

    /// The table with its chains in the order of their definitions.
    pub(super) fn finish(mut self) -> Result<Table, Wrong> {
        let mut numbers = Vec::with_capacity(self.chains.len());
        for (i, (at, number)) in self.chains.iter().enumerate() {
            let undefined = || format!("chain {} is nowhere defined", excerpt(&self.table.chains[i].name));
            numbers.push(number.ok_or_else(|| Wrong::new(*at, undefined()))?);
        }
        let table = &mut self.table;
        let renumber = |verdict: &mut Verdict| {
            if let Verdict::Jump(to) | Verdict::Goto(to) = verdict {
                *to = numbers[to.0 as usize];
            }
        };
        for element in table.sets.iter_mut().flat_map(|s| &mut s.elements) {
            element.verdict.iter_mut().for_each(renumber);
        }
        let rules = table.chains.iter_mut().flat_map(|c| &mut c.rules);
        for statement in rules.flat_map(|r| &mut r.statements) {
            match statement {
                Statement::Verdict(verdict) => renumber(verdict),
                Statement::NumgenVmap(verdicts) => verdicts.iter_mut().for_each(renumber),
                Statement::VerdictMap(map) => {
                    map.items.iter_mut().filter_map(|item| item.verdict.as_mut()).for_each(renumber);
                }
                _ => {}
            }
        }
        table.index.values_mut().for_each(|id| *id = numbers[id.0 as usize]);
        let mut chains: Vec<_> = numbers.iter().zip(std::mem::take(&mut table.chains)).collect();
        chains.sort_by_key(|(number, _)| **number);
        table.chains = chains.into_iter().map(|(_, chain)| chain).collect();
        Ok(self.table)
    }
}
