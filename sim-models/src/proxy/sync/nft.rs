//! What a run of nft does, and the kernel under its transaction.
//!
//! Source: nftables 1.0.6, `src/cache.c`; Linux `net/netfilter/nf_tables_api.c`. A transaction is a list of entries; for
//! each anonymous set that a rule binds the whole list is walked, and for each that is named all sets of the
//! table: both grow with the square of the Services. Before anything changes nft caches all chains and sets. A listing asks for
//! the elements of every anonymous set, which the kernel finds by a walk of the table's sets.
//!
//! Left out: validation of jumps (a share of the cache's price), other tables.

use super::{SyncWork, far_steps, far_steps_of_growing, pairs};
use crate::kernel::nftables::{Statement, Table};
use std::ops::{Add, AddAssign};

/// What a table or a transaction holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Chains.
    pub chains: u64,
    /// Rules.
    pub rules: u64,
    /// Named sets and maps.
    pub named: u64,
    /// Elements of named sets and maps.
    pub elements: u64,
    /// Anonymous sets and maps.
    pub sets: u64,
    /// Their elements.
    pub set_elements: u64,
}

impl AddAssign for Objects {
    fn add_assign(&mut self, other: Objects) {
        self.chains += other.chains;
        self.rules += other.rules;
        self.named += other.named;
        self.elements += other.elements;
        self.sets += other.sets;
        self.set_elements += other.set_elements;
    }
}
impl Add for Objects {
    type Output = Objects;
    fn add(mut self, other: Objects) -> Objects {
        self += other;
        self
    }
}

impl Objects {
    /// Those of a table.
    pub fn of_table(table: &Table) -> Objects {
        let mut sum = Objects {
            chains: table.chains.len() as u64,
            named: table.sets.len() as u64,
            elements: table.sets.iter().map(|set| set.elements.len() as u64).sum(),
            ..Objects::default()
        };
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            sum.rules += 1;
            for elements in rule.statements.iter().filter_map(anonymous) {
                sum.sets += 1;
                sum.set_elements += elements;
            }
        }
        sum
    }
}

/// Elements of the anonymous set or map that a statement has, if it has one.
pub fn anonymous(statement: &Statement) -> Option<u64> {
    match statement {
        Statement::AddrIn { nets, .. } => Some(nets.len() as u64),
        Statement::NumgenVmap(verdicts) => Some(verdicts.len() as u64),
        Statement::DnatNumgen(addrs) => Some(addrs.len() as u64),
        _ => None,
    }
}

/// Bytes of the commit list that one entry takes: the entry, and what a walk touches of its object.
const ENTRY_BYTES: f64 = 128.0;
/// Bytes that a walk over the table's sets reads of each: its head, its flags, its name.
const SET_BYTES: f64 = 192.0;
/// Numbers that one pass over the names of anonymous sets finds free (`nf_tables_set_alloc_name`: bits of a page).
const NAMES_A_PASS: u64 = 32_768;

/// Walks over the sets of the table that naming `new` anonymous sets takes, where there are `before`.
fn name_steps(new: u64, before: u64) -> u64 {
    // A pass that finds no free number among the first is repeated for the next ones.
    let passes = |sets: u64| 1 + sets / NAMES_A_PASS;
    if before + new <= NAMES_A_PASS {
        return new * before + pairs(new);
    }
    (before..before + new).map(|sets| sets * passes(sets)).sum()
}

/// Chains and sets of those that are beyond the caches: of each there is a copy in the kernel, in messages, in nft.
fn far_objects(chains: u64, sets: u64) -> u64 {
    super::far_things(chains + sets, ((chains + sets) * 512) as f64)
}

/// Base chains that kube-proxy's first transaction adds and deletes, so that none of an earlier version stays
/// (`setupNFTables`).
pub const BASE_CHAINS: u64 = 8;

/// `nft -f` of `sent`, which takes `removed` rules or base chains away, into a table that was `before`.
pub fn transact(sent: Objects, removed: u64, before: Objects) -> SyncWork {
    let entries = sent.chains + sent.rules + sent.elements + 2 * sent.sets + removed;
    let (names, trans) = (name_steps(sent.sets, before.sets), sent.sets * entries / 2);
    let bytes = entries as f64 * ENTRY_BYTES + (before.sets + sent.sets) as f64 * SET_BYTES;
    SyncWork {
        nft_execs: 1,
        nft_chains: sent.chains,
        nft_rules: sent.rules,
        nft_sets: sent.sets,
        nft_elements: sent.elements,
        nft_anonymous_elements: sent.set_elements,
        nft_trans_steps: trans,
        nft_trans_element_steps: sent.sets * sent.set_elements / 2,
        nft_name_steps: names,
        nft_far_steps: far_steps_of_growing(names + trans, bytes),
        nft_cached_chains: before.chains,
        nft_cached_sets: before.sets,
        nft_far_objects: far_objects(before.chains, before.sets),
        grace_periods_after: u64::from(removed > 0),
        ..SyncWork::default()
    }
}

/// Finding the sets whose elements a listing of the whole table asks for.
fn list_steps(table: Objects) -> SyncWork {
    let steps = pairs(table.sets);
    SyncWork {
        nft_execs: 1,
        nft_list_steps: steps,
        nft_far_list_steps: far_steps(steps, table.sets as f64 * SET_BYTES),
        ..SyncWork::default()
    }
}

/// `nft --json --terse list table`: without the elements of named sets.
pub fn list_terse(table: Objects) -> SyncWork {
    SyncWork {
        nft_json_rules: table.rules,
        nft_json_sets: table.sets,
        nft_json_elements: table.set_elements,
        ..list_steps(table)
    }
}

/// `nft list table`.
pub fn list(table: Objects) -> SyncWork {
    let nft_listed_elements = table.set_elements + table.elements;
    SyncWork { nft_listed_rules: table.rules, nft_listed_elements, ..list_steps(table) }
}

/// `nft list chains`.
pub fn list_chains(table: Objects) -> SyncWork {
    SyncWork { nft_execs: 1, nft_listed_chains: table.chains, nft_far_objects: far_objects(table.chains, 0), ..SyncWork::default() }
}

/// `nft --json list set` or `list map`.
pub fn list_set(elements: u64) -> SyncWork {
    SyncWork { nft_execs: 1, nft_json_elements: elements, ..SyncWork::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_and_naming_anonymous_sets_grow_with_the_square_of_the_services() {
        let of = |n| Objects { chains: n, rules: n, elements: 2 * n, sets: n, ..Objects::default() };
        let (one, ten) = (transact(of(1_000), 0, of(0)), transact(of(10_000), 0, of(0)));
        assert_eq!(one.nft_trans_steps, 1_000 * 6_000 / 2);
        assert_eq!(ten.nft_trans_steps, 100 * one.nft_trans_steps);
        assert_eq!(one.nft_name_steps, 1_000 * 999 / 2);
        // A full sync over a table that is there has all of its sets to pass, too.
        assert_eq!(transact(of(1_000), 1_000, of(1_000)).nft_name_steps, 1_000 * 1_000 + 1_000 * 999 / 2);
    }

    #[test]
    fn names_beyond_a_page_of_bits_take_another_pass() {
        assert_eq!(name_steps(2, 40_000), 2 * (40_000 + 40_001));
    }
}
