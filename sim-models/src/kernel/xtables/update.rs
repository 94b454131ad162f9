//! Changes of compiled tables in place: what a Service's change does to a few chains, without compiling the others anew.
//!
//! The result is the same as compiling the changed tables, save for [`ChainId`]s: a chain keeps its number, a new one
//! gets one that is free. What a change costs does not grow with the table but for the lists of blocks (of chains, and
//! of rules in a long chain).
//!
//! Not in place: rules with something numbered through all tables (lists of `recent`, credits of `limit`). An error says
//! so, and the caller compiles anew. Bodies that no rule has any more are kept.

use super::compile::{
    At, ChainRules, Compiled, CompiledChain, CompiledTable, Entry, Rules, STEP, Shared, check_rule,
};
use super::index::{Keys, LongChain, SHORT_MAX};
use super::{ChainId, CompileError, Match, Rule, Target};
use crate::kernel::ipset::IpSets;
use sim_core::classify::indexed::{Indexed, PHASES, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// One change of a table. Rules jump to chains by the numbers that [`Compiled::chain_id`] tells.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made one at a time and taken apart at once")]
pub enum TableChange {
    /// A user chain without rules behind another chain in the blob; rules come with [`TableChange::Replace`].
    Add {
        /// The chain in front of it.
        after: ChainId,
        /// Its name.
        name: Arc<str>,
    },
    /// A user chain goes. No rule may jump to it.
    Remove(ChainId),
    /// All rules of a chain.
    Replace {
        /// The chain.
        chain: ChainId,
        /// Its rules from now on.
        rules: Vec<Rule>,
    },
    /// One more rule.
    Insert {
        /// The chain.
        chain: ChainId,
        /// Rules in front of it.
        at: usize,
        /// The rule.
        rule: Rule,
    },
    /// One rule less.
    Delete {
        /// The chain.
        chain: ChainId,
        /// Rules in front of it.
        at: usize,
    },
}

/// A change that cannot be made in place; the table is as it was before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A rule that does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Lists of `recent`, credits of `limit` and the like would get other numbers: compile anew.
    #[error("a rule comes or goes with something that is numbered through all tables")]
    Numbered,
    /// The kernel would refuse it, for a loop or for where it stands; or it was reached before from where it must not.
    #[error("chain {0} is not for where it would be reached from, or leads back there")]
    Unsound(String),
    /// There is no such chain or rule, or the chain is built in.
    #[error("no such chain or rule to change")]
    Missing,
}

/// Ranges of rules that are not used any more, by length.
#[derive(Clone, Debug, Default)]
pub(super) struct Free {
    ranges: BTreeMap<usize, Vec<usize>>,
}

impl Store for Rules {
    fn allocate(&mut self, count: usize) -> usize {
        if let Some(first) = self.free.ranges.get_mut(&count).and_then(Vec::pop) {
            return first;
        }
        let first = self.entries.len();
        self.entries.resize(first + count, Entry::default());
        self.addrs.grow(count);
        first
    }

    fn shift(&mut self, from: Range<usize>, to: usize) {
        self.addrs.copy_within(from.clone(), to);
        if to < from.start {
            (0..from.len()).for_each(|i| self.entries.swap(to + i, from.start + i));
        } else {
            (0..from.len()).rev().for_each(|i| self.entries.swap(to + i, from.start + i));
        }
    }

    fn release(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.free.ranges.entry(range.len()).or_default().push(range.start);
        }
    }
}

impl Rules {
    fn set(&mut self, place: usize, rule: &Rule, entry: Entry) {
        self.addrs.set(place, rule);
        self.entries[place] = entry;
    }
}

/// Whether it has something that is numbered through all tables in their order, or is worth a warning.
fn is_numbered(rule: &Rule) -> bool {
    rule.matches.iter().any(|m| matches!(m, Match::Recent { .. } | Match::Extra(_) | Match::Opaque(_)))
}

impl Compiled {
    /// The number of the chain called `name`, for changes. `table` is its table's place.
    pub fn chain_id(&self, table: usize, name: &str) -> Option<ChainId> {
        self.tables[table].names.get(name).copied()
    }

    /// The place of a table, for changes.
    pub fn place(&self, name: super::TableName) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name)
    }

    /// Makes one change in the table at place `table`. For [`TableChange::Add`] the new chain's number is returned, for
    /// others that of the chain.
    pub fn apply(
        &mut self,
        table: usize,
        change: TableChange,
        sets: &IpSets,
    ) -> Result<ChainId, UpdateError> {
        let table = &mut self.tables[table];
        match change {
            TableChange::Add { after, name } => table.add(after, name),
            TableChange::Remove(chain) => table.remove(chain),
            TableChange::Replace { chain, rules } => table.replace(chain, &rules, sets),
            TableChange::Insert { chain, at, rule } => table.insert(chain, at, &rule, sets),
            TableChange::Delete { chain, at } => table.delete(chain, at),
        }
    }
}

impl CompiledTable {
    fn chain(&self, id: ChainId) -> Result<&CompiledChain, UpdateError> {
        self.chains.get(id.0 as usize).filter(|c| c.rules != ChainRules::Gone).ok_or(UpdateError::Missing)
    }

    fn add(&mut self, after: ChainId, name: Arc<str>) -> Result<ChainId, UpdateError> {
        self.chain(after)?;
        if self.names.contains_key(&name) {
            return Err(UpdateError::Missing);
        }
        let bytes = self.ends_bytes(false);
        let rules = ChainRules::Short { first: 0, len: 0 };
        let chain = CompiledChain { base: None, rules, bytes, name, hooks: 0 };
        self.user_chains += 1;
        let name = chain.name.clone();
        let number = match self.gone.pop() {
            Some(number) => {
                self.chains[number as usize] = chain;
                number
            }
            None => {
                self.chains.push(chain);
                self.chains.len() as u32 - 1
            }
        };
        self.names.insert(name, ChainId(number));
        self.blob.insert_after(after.0 as usize, number as usize, bytes / STEP);
        self.size.bytes += bytes;
        self.size.entries += 2;
        Ok(ChainId(number))
    }

    fn remove(&mut self, id: ChainId) -> Result<ChainId, UpdateError> {
        if self.chain(id)?.base.is_some() {
            return Err(UpdateError::Missing);
        }
        self.replace_rules(id, &[], Vec::new())?;
        let chain = &mut self.chains[id.0 as usize];
        chain.rules = ChainRules::Gone;
        self.size.bytes -= chain.bytes;
        self.size.entries -= 2;
        self.user_chains -= 1;
        self.names.remove(&chain.name);
        self.blob.remove(id.0 as usize);
        self.gone.push(id.0);
        Ok(id)
    }

    fn replace(&mut self, id: ChainId, rules: &[Rule], sets: &IpSets) -> Result<ChainId, UpdateError> {
        let name = self.chain(id)?.name.clone();
        if rules.iter().any(is_numbered) {
            return Err(UpdateError::Numbered);
        }
        let (mut bytes, mut entries) = (0, Vec::with_capacity(rules.len()));
        for (number, rule) in rules.iter().enumerate() {
            let entry = self.entry(rule, self.at(id, &name, number), sets, &mut Shared::default(), bytes)?;
            bytes += u64::from(self.bodies.get(entry.body).bytes);
            entries.push(entry);
        }
        self.lead(id, rules)?;
        self.replace_rules(id, rules, entries)
    }

    fn replace_rules(
        &mut self,
        id: ChainId,
        rules: &[Rule],
        entries: Vec<Entry>,
    ) -> Result<ChainId, UpdateError> {
        let number = id.0 as usize;
        let old = self.chains[number].rules;
        if self.slots(old).any(|slot| self.is_fixed(slot)) {
            return Err(UpdateError::Numbered);
        }
        self.size.entries = self.size.entries + rules.len() as u64 - self.slots(old).count() as u64;
        match old {
            ChainRules::Short { first, len } => {
                self.rules.release(first as usize..(first + len) as usize);
            }
            ChainRules::Long(long) => {
                let gone = self.take_long(long);
                gone.places.release(&mut self.rules);
                self.free_long.push(long);
            }
            ChainRules::Gone => unreachable!("looked up before"),
        }
        let bytes: u64 = entries.iter().map(|e| u64::from(self.bodies.get(e.body).bytes)).sum();
        let first = if rules.is_empty() { 0 } else { self.rules.allocate(rules.len()) };
        for (slot, (rule, entry)) in (first..).zip(rules.iter().zip(entries)) {
            self.rules.set(slot, rule, entry);
        }
        self.chains[number].rules = self.chain_rules(first, rules.len());
        let bytes = bytes + self.ends_bytes(self.chains[number].base.is_some());
        self.set_bytes(number, bytes);
        Ok(id)
    }

    fn at<'n>(&self, id: ChainId, name: &'n str, rule: usize) -> At<'n> {
        let hooks = self.chains[id.0 as usize].hooks;
        At { table: self.name, family: self.family, chain: name, rule, hooks }
    }

    /// Whether these rules may stand in the chain for where they lead to: nowhere in circles, and nowhere that packets of
    /// the chain's hooks must not come. The chains that they lead to are reached from those hooks from now on.
    fn lead(&mut self, from: ChainId, rules: &[Rule]) -> Result<(), UpdateError> {
        let to = |target: &Option<Target>| match target {
            Some(Target::Jump(to) | Target::Goto(to)) => Some(*to),
            _ => None,
        };
        let mut open: Vec<ChainId> = rules.iter().filter_map(|r| to(&r.target)).collect();
        let (mut seen, hooks) = (BTreeSet::new(), self.chains[from.0 as usize].hooks);
        while let Some(id) = open.pop() {
            let chain = self.chain(id)?;
            if id == from || chain.base.is_some() {
                return Err(UpdateError::Unsound(chain.name.to_string()));
            }
            if !seen.insert(id) {
                continue;
            }
            let at = At { hooks: chain.hooks | hooks, ..self.at(id, &chain.name, 0) };
            for slot in self.slots(chain.rules) {
                let entry = &self.rules.entries[slot];
                open.extend(to(&entry.target));
                if at.hooks != chain.hooks {
                    let pattern = self.bodies.pattern(entry.body);
                    let rule = Rule { target: entry.target.clone(), ..pattern.clone() };
                    if check_rule(&rule, at).is_err() {
                        return Err(UpdateError::Unsound(chain.name.to_string()));
                    }
                }
            }
        }
        for id in seen {
            self.chains[id.0 as usize].hooks |= hooks;
        }
        Ok(())
    }

    fn set_bytes(&mut self, chain: usize, bytes: u64) {
        self.size.bytes = self.size.bytes + bytes - self.chains[chain].bytes;
        self.chains[chain].bytes = bytes;
        self.blob.resize(chain, bytes / STEP);
    }

    /// Where a chain's rules are in the columns.
    fn slots(&self, rules: ChainRules) -> impl Iterator<Item = usize> + '_ {
        let (short, long) = match rules {
            ChainRules::Short { first, len } => (first as usize..(first + len) as usize, None),
            ChainRules::Long(long) => (0..0, Some(&self.long[long as usize].places)),
            ChainRules::Gone => (0..0, None),
        };
        let mut at = 0;
        let blocks = std::iter::from_fn(move || {
            let (range, place) = long?.side_by_side(at)?;
            at = place + range.len();
            Some(range)
        });
        short.chain(blocks.flatten())
    }

    fn is_fixed(&self, slot: usize) -> bool {
        is_numbered(self.bodies.pattern(self.rules.entries[slot].body))
    }

    fn insert(&mut self, id: ChainId, at: usize, rule: &Rule, sets: &IpSets) -> Result<ChainId, UpdateError> {
        let chain = self.chain(id)?;
        let (name, rules, bytes) = (chain.name.clone(), chain.rules, chain.bytes);
        if is_numbered(rule) {
            return Err(UpdateError::Numbered);
        }
        if at > self.slots(rules).count() {
            return Err(UpdateError::Missing);
        }
        let entry = self.entry(rule, self.at(id, &name, at), sets, &mut Shared::default(), 0)?;
        self.lead(id, std::slice::from_ref(rule))?;
        let body_bytes = u64::from(self.bodies.get(entry.body).bytes);
        match rules {
            ChainRules::Short { first, len } => {
                let (first, len) = (first as usize, len as usize);
                let to = self.rules.allocate(len + 1);
                self.rules.shift(first..first + at, to);
                self.rules.shift(first + at..first + len, to + at + 1);
                self.rules.release(first..first + len);
                self.rules.set(to + at, rule, entry);
                self.chains[id.0 as usize].rules = self.chain_rules(to, len + 1);
                if len < SHORT_MAX {
                    self.phases(to, len + 1);
                }
            }
            ChainRules::Long(long) => {
                let mut chain = self.take_long(long);
                // The key follows from columns: the rule stands in a place of its own while it is found.
                let aside = self.rules.allocate(1);
                self.rules.set(aside, rule, entry);
                let item = self.item(aside, &self.rules.entries[aside], &mut chain, &[]);
                let slot = chain.places.insert(at, item, &mut self.rules);
                self.rules.shift(aside..aside + 1, slot);
                self.rules.release(aside..aside + 1);
                self.long[long as usize] = chain;
            }
            ChainRules::Gone => unreachable!("looked up before"),
        }
        self.size.entries += 1;
        self.set_bytes(id.0 as usize, bytes + body_bytes);
        Ok(id)
    }

    fn delete(&mut self, id: ChainId, at: usize) -> Result<ChainId, UpdateError> {
        let chain = self.chain(id)?;
        let (rules, bytes) = (chain.rules, chain.bytes);
        let slot = match rules {
            ChainRules::Short { first, len } if at < len as usize => first as usize + at,
            ChainRules::Long(long) if at < self.long[long as usize].places.len() => {
                let places = &self.long[long as usize].places;
                places.store(places.place(at))
            }
            _ => return Err(UpdateError::Missing),
        };
        if self.is_fixed(slot) {
            return Err(UpdateError::Numbered);
        }
        let body_bytes = u64::from(self.bodies.get(self.rules.entries[slot].body).bytes);
        match rules {
            ChainRules::Short { first, len } => {
                let (first, len) = (first as usize, len as usize);
                let to = self.rules.allocate(len - 1);
                self.rules.shift(first..first + at, to);
                self.rules.shift(first + at + 1..first + len, to + at);
                self.rules.release(first..first + len);
                self.phases(to, len - 1);
                self.chains[id.0 as usize].rules =
                    ChainRules::Short { first: to as u32, len: len as u32 - 1 };
            }
            ChainRules::Long(long) => {
                let mut chain = self.take_long(long);
                chain.places.remove(at, &mut self.rules);
                self.long[long as usize] = chain;
            }
            ChainRules::Gone => unreachable!("looked up before"),
        }
        self.size.entries -= 1;
        self.set_bytes(id.0 as usize, bytes - body_bytes);
        Ok(id)
    }

    /// Phases of the rules of a short chain.
    fn phases(&mut self, first: usize, len: usize) {
        let mut steps = 0;
        for slot in first..first + len {
            let entry = &mut self.rules.entries[slot];
            entry.phase = (steps % PHASES as u64) as u8;
            steps += u64::from(self.bodies.get(entry.body).bytes) / STEP;
        }
    }

    /// Leaves an empty chain in its place.
    fn take_long(&mut self, long: u32) -> LongChain {
        let places = Indexed::new(self.cost, &[], 0);
        let empty = LongChain { places, keys: Keys::default(), has_sources: false };
        std::mem::replace(&mut self.long[long as usize], empty)
    }

    /// What this table takes of this program's memory, without what targets point to.
    pub(super) fn own_bytes(&self) -> usize {
        self.rules.addrs.memory_bytes()
            + self.rules.entries.capacity() * size_of::<Entry>()
            + self.bodies.memory_bytes()
            + self.chains.capacity() * size_of::<CompiledChain>()
            + self.long.iter().map(LongChain::memory_bytes).sum::<usize>()
            + self.blob.memory_bytes()
            // A node of a B-tree holds a key, a value and its share of links.
            + self.names.len() * 36
    }
}

impl Compiled {
    /// What these tables take of this program's memory, index included, and how many rules they have.
    pub fn own_bytes(&self) -> (usize, usize) {
        let rules = |t: &CompiledTable| t.chains.iter().map(|c| t.slots(c.rules).count()).sum::<usize>();
        (self.tables.iter().map(CompiledTable::own_bytes).sum(), self.tables.iter().map(rules).sum())
    }

    /// Chains of the table at place `table` in the order of the blob, with their names.
    pub fn chains(&self, table: usize) -> impl Iterator<Item = (ChainId, &Arc<str>)> {
        let table = &self.tables[table];
        table.blob.chains().map(|number| (ChainId(number as u32), &table.chains[number].name))
    }
}
