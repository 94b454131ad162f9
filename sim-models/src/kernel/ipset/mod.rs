//! ipsets: the kinds that kube-proxy makes, with the kernel's buckets.
//!
//! Source: `net/netfilter/ipset/` (`ip_set_hash_gen.h`, `ip_set_hash_ipport.c` and its siblings,
//! `ip_set_bitmap_port.c`, `ip_set_core.c:ip_set_test`), Linux 6.12. [`IpSet`] is a set as data; [`IpSets`]
//! are the sets of a running node, found by index as the set match holds them. [`parse`] reads `ipset save`,
//! [`diff`] compares.
//!
//! Left out: timeouts, counters, comments, `nomatch`, forced addition, ranges on bitmap sets, the list type.

pub mod diff;
mod element;
pub mod parse;
mod print;
mod table;

pub use element::{SetEntry, SetKind};
pub use print::save;
pub use table::{AddError, SetTable};

use sim_core::classify::hash::jhash_1word;
use sim_core::classify::{Family, Packet, Unit, Work};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One ipset as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    /// Name, at most 31 characters.
    pub name: Arc<str>,
    /// What its elements are made of.
    pub kind: SetKind,
    /// Family of its addresses; IPv4 for a bitmap, which has none.
    pub family: Family,
    /// Most elements of a hash set.
    pub maxelem: u32,
    /// Elements in order of addition.
    pub elements: Vec<SetEntry>,
}

impl IpSet {
    /// `ipset create`'s default for `maxelem`; kube-proxy uses it and offers no other.
    pub const DEFAULT_MAXELEM: u32 = 65_536;

    /// An empty set.
    pub fn new(name: &str, kind: SetKind, family: Family) -> Self {
        IpSet { name: name.into(), kind, family, maxelem: Self::DEFAULT_MAXELEM, elements: Vec::new() }
    }
}

/// The ipsets of a running node.
#[derive(Clone, Debug, Default)]
pub struct IpSets {
    sets: Vec<Arc<SetTable>>,
    names: BTreeMap<Arc<str>, usize>,
}

impl IpSets {
    /// Builds `sets` in order. `seed` stands for the random `initval` that each hash set gets at creation.
    /// Elements beyond `maxelem`, and networks of prefix length 0, are not there: `ipset add` refuses them and
    /// kube-proxy only logs it.
    ///
    /// # Panics
    /// If two sets share a name, or an element is not of its set's kind and family.
    pub fn new(sets: &[IpSet], seed: u32) -> Self {
        let mut all = IpSets::default();
        for (set, n) in sets.iter().zip(0u32..) {
            let mut table = SetTable::new(set.kind, set.family, set.maxelem, jhash_1word(n, seed));
            for element in &set.elements {
                match table.add(element) {
                    Ok(_) | Err(AddError::Full | AddError::NoPrefix) => {}
                    Err(AddError::WrongKind) => panic!("{element} cannot be in {} ({})", set.name, set.kind),
                }
            }
            let taken = all.names.insert(set.name.clone(), all.sets.len());
            assert!(taken.is_none(), "two ipsets are called {}", set.name);
            all.sets.push(Arc::new(table));
        }
        all
    }

    /// Number of sets.
    pub fn len(&self) -> usize {
        self.sets.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
    /// Index of a set, for the other functions; it holds as long as these sets do.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }
    /// A set.
    pub fn get(&self, index: usize) -> &SetTable {
        &self.sets[index]
    }
    /// A set, to change. Nodes that share it keep the old one.
    pub fn get_mut(&mut self, index: usize) -> &mut SetTable {
        Arc::make_mut(&mut self.sets[index])
    }

    /// Whether `key` is in the set. Counts the test.
    pub fn test_by_index(&self, index: usize, key: &SetEntry, work: &mut Work) -> bool {
        work[Unit::SetTests] += 1;
        self.sets[index].test(key, work)
    }

    /// Whether `key` is in the set called `name`; `None` if there is no such set.
    pub fn test(&self, name: &str, key: &SetEntry, work: &mut Work) -> Option<bool> {
        self.index_of(name).map(|index| self.test_by_index(index, key, work))
    }

    /// What `-m set --match-set` says: the key is taken from the packet, each dimension from its source
    /// where `from_src` says so (`ip_set_hash_ipport.c:hash_ipport4_kadt` and siblings). A dimension that
    /// `from_src` does not name is taken from the destination.
    pub fn test_packet(&self, index: usize, packet: &Packet, from_src: &[bool], work: &mut Work) -> bool {
        work[Unit::SetTests] += 1;
        let set = &self.sets[index];
        match set.kind().key_of(set.family(), packet, from_src) {
            Some(key) => set.test(&key, work),
            None => false,
        }
    }

    /// Kernel memory of all sets, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.sets.iter().map(|set| set.memory_bytes()).sum()
    }
}

#[cfg(test)]
mod tests;
