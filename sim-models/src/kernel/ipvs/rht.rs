//! IPVS's resizable hash table of Linux 7.1: services and connections of a network namespace are in one each.
//!
//! Source: `net/netfilter/ipvs/ip_vs_core.c` (`ip_vs_rht_alloc`, `ip_vs_rht_desired_size`,
//! `ip_vs_rht_set_thresholds`), commit b655388111cf; `Documentation/networking/ipvs-sysctl.rst` for the load factor.
//! Buckets are chains, newest first. Each node keeps 31 bits of its hash: a walk touches one line of every node of
//! the bucket and compares keys only where those bits are equal. The table grows when there are more entries than
//! buckets x 2^load factor, to the next power of two of the entries by the same factor, and shrinks when there are
//! sixteen times fewer. Each new table has a key of its own.
//!
//! Departures: the kernel moves entries from a worker while readers look into both tables; here a resize is done
//! between two packets. Keys follow from a seed.

use sim_core::classify::hash::jhash_3words;

/// End of a chain.
const NONE: u32 = u32::MAX;
/// The hash's bits that a node keeps; the kernel uses the last one for the table's number.
const KEPT: u32 = u32::MAX >> 1;
/// Shrinks where there are this many times fewer entries than would make it grow, as a shift.
const SHRINK_SHIFT: u32 = 4;

/// Load factors that the kernel takes.
pub const LOAD_FACTORS: std::ops::RangeInclusive<i8> = -8..=8;

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u32,
    next: u32,
}

/// The table. What its nodes are, and their hashes, are the caller's.
#[derive(Clone, Debug)]
pub(super) struct ResizableTable {
    heads: Vec<u32>,
    /// By the caller's number.
    nodes: Vec<Node>,
    key: (u64, u64),
    seed: u32,
    tables: u32,
    load_factor: i8,
    min_bits: u32,
    max_bits: u32,
}

/// Entries above which a table of `size` buckets grows, and at or under which it shrinks.
fn thresholds(size: u64, load_factor: i8, min_bits: u32, max_bits: u32) -> (u64, u64) {
    let shift = u32::from(load_factor.unsigned_abs());
    let grow = if load_factor < 0 { size >> shift.min(max_bits) } else { size << shift };
    if size >= 1 << max_bits {
        (u64::MAX, (1 << max_bits) >> SHRINK_SHIFT)
    } else if size > 1 << min_bits {
        (grow, grow >> SHRINK_SHIFT)
    } else {
        (grow, 0)
    }
}

/// Buckets that a table of `size` should have for `entries`.
fn desired(size: u64, entries: u64, load_factor: i8, min_bits: u32, max_bits: u32) -> u64 {
    let (least, most) = (1u64 << min_bits, 1u64 << max_bits);
    let entries = entries.next_power_of_two();
    let shift = u32::from(load_factor.unsigned_abs());
    let wanted = if load_factor < 0 {
        let shift = shift.min(max_bits);
        entries.min(1 << (max_bits - shift)) << shift
    } else {
        (entries >> shift).min(most)
    };
    if wanted > size {
        wanted
    } else if wanted > size >> SHRINK_SHIFT {
        size
    } else {
        // Twice what is needed, so that it does not grow again at once.
        (wanted << 1).clamp(least, most)
    }
}

impl ResizableTable {
    /// An empty table of the smallest size.
    ///
    /// # Panics
    /// If the load factor is outside [`LOAD_FACTORS`].
    pub fn new(load_factor: i8, min_bits: u32, max_bits: u32, seed: u32) -> Self {
        assert!(LOAD_FACTORS.contains(&load_factor), "load factor {load_factor} is outside {LOAD_FACTORS:?}");
        let mut table = ResizableTable {
            heads: vec![NONE; 1 << min_bits],
            nodes: Vec::new(),
            key: (0, 0),
            seed,
            tables: 0,
            load_factor,
            min_bits,
            max_bits: max_bits.max(min_bits),
        };
        table.new_key();
        table
    }

    fn new_key(&mut self) {
        let word = |n: u32| u64::from(jhash_3words(self.tables, n, 0, self.seed));
        self.key = (word(0) << 32 | word(1), word(2) << 32 | word(3));
        self.tables += 1;
    }

    /// Key that hashes are to be made with until the table is resized.
    pub fn key(&self) -> (u64, u64) {
        self.key
    }
    /// Buckets.
    pub fn size(&self) -> usize {
        self.heads.len()
    }
    /// Memory that this model itself takes, in bytes.
    pub fn model_bytes(&self) -> usize {
        self.heads.capacity() * 4 + self.nodes.capacity() * size_of::<Node>()
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    /// Adds a node at the head of its bucket.
    pub fn insert(&mut self, number: u32, hash: u32) {
        let bucket = self.bucket(hash);
        let at = number as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, Node { hash: 0, next: NONE });
        }
        self.nodes[at] = Node { hash: hash & KEPT, next: self.heads[bucket] };
        self.heads[bucket] = number;
    }

    /// Takes a node out.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, number: u32) {
        let Node { hash, next } = self.nodes[number as usize];
        let bucket = self.bucket(hash);
        let mut walk = self.heads[bucket];
        if walk == number {
            self.heads[bucket] = next;
            return;
        }
        while self.nodes[walk as usize].next != number {
            walk = self.nodes[walk as usize].next;
        }
        self.nodes[walk as usize].next = next;
    }

    /// Walks the bucket of `hash` to the node that `is_it` recognises among those whose hash is equal; it, and the
    /// nodes visited.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> (Option<u32>, u32) {
        let mut at = self.heads[self.bucket(hash)];
        let mut steps = 0;
        while at != NONE {
            steps += 1;
            let node = self.nodes[at as usize];
            if node.hash == hash & KEPT && is_it(at) {
                return (Some(at), steps);
            }
            at = node.next;
        }
        (None, steps)
    }

    fn limits(&self) -> (u64, u64) {
        thresholds(self.heads.len() as u64, self.load_factor, self.min_bits, self.max_bits)
    }

    /// Grows if `entries`, counted after one was added, are too many. `hash` gives every node's hash under a key.
    pub fn grow(&mut self, entries: usize, hash: impl Fn(u32, (u64, u64)) -> u32) {
        if entries as u64 > self.limits().0 {
            self.resize(entries, hash);
        }
    }

    /// Shrinks if `entries`, counted after one was deleted, are few.
    pub fn shrink(&mut self, entries: usize, hash: impl Fn(u32, (u64, u64)) -> u32) {
        if entries as u64 <= self.limits().1 {
            self.resize(entries, hash);
        }
    }

    /// Brings the table to the size that `entries` ask for, if it has another: nodes go bucket by bucket to the
    /// heads of their new buckets.
    pub fn resize(&mut self, entries: usize, hash: impl Fn(u32, (u64, u64)) -> u32) {
        let size = self.heads.len() as u64;
        let wanted = desired(size, entries as u64, self.load_factor, self.min_bits, self.max_bits);
        if wanted == size {
            return;
        }
        let old = std::mem::replace(&mut self.heads, vec![NONE; wanted as usize]);
        self.new_key();
        for head in old {
            let mut at = head;
            while at != NONE {
                let next = self.nodes[at as usize].next;
                self.insert(at, hash(at, self.key));
                at = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(number: u32, key: (u64, u64)) -> u32 {
        jhash_3words(number, 0, 0, key.0 as u32)
    }

    /// The rows of the documentation and of the commits: 12.5 % for services, 6 % for connections.
    #[test]
    fn a_table_grows_above_its_load_factor_and_shrinks_sixteen_times_below() {
        assert_eq!(thresholds(1 << 10, -3, 4, 20), (128, 8));
        assert_eq!(thresholds(1 << 10, -4, 8, 12), (64, 4));
        assert_eq!(thresholds(1 << 10, 2, 8, 12), (4096, 256));
        assert_eq!(thresholds(1 << 4, -3, 4, 20), (2, 0), "the smallest does not shrink");
        assert_eq!(thresholds(1 << 20, -3, 4, 20), (u64::MAX, 1 << 16), "the largest does not grow");
    }

    #[test]
    fn the_size_is_the_entries_rounded_up_by_the_load_factor() {
        assert_eq!(desired(16, 3, -3, 4, 20), 32);
        assert_eq!(desired(32_768 * 4, 16_385, -3, 4, 20), 32_768 * 8);
        assert_eq!(desired(1 << 20, 400_000, -3, 4, 20), 1 << 20);
        assert_eq!(desired(1 << 12, 40, -3, 4, 20), 1 << 12, "512 of 4096 are no reason to shrink");
        assert_eq!(desired(1 << 12, 20, -3, 4, 20), 512, "256 are, and twice as many stay");
        assert_eq!(desired(256, 5_000, -4, 8, 12), 4096, "the largest");
        assert_eq!(desired(256, 5_000, 2, 8, 12), 2048);
    }

    proptest! {
        /// The oracle keeps the buckets as lists, newest first, and follows the rules of growth.
        #[test]
        fn a_walk_visits_the_newer_nodes_of_the_bucket_through_any_resizes(
            steps in prop::collection::vec((any::<bool>(), 0u32..400), 1..500),
            load_factor in -4i8..=2,
        ) {
            let mut table = ResizableTable::new(load_factor, 2, 8, 5);
            let mut lists: Vec<Vec<u32>> = vec![Vec::new(); 4];
            let mut alive = std::collections::BTreeSet::new();
            for (add, number) in steps {
                if add == alive.contains(&number) && add {
                    continue;
                }
                if add {
                    alive.insert(number);
                    table.insert(number, hash(number, table.key()));
                    let bucket = hash(number, table.key()) as usize & (lists.len() - 1);
                    lists[bucket].insert(0, number);
                    table.grow(alive.len(), hash);
                } else if alive.remove(&number) {
                    table.remove(number);
                    lists.iter_mut().for_each(|list| list.retain(|&n| n != number));
                    table.shrink(alive.len(), hash);
                }
                if table.size() != lists.len() {
                    let old = std::mem::replace(&mut lists, vec![Vec::new(); table.size()]);
                    for n in old.into_iter().flatten() {
                        let bucket = hash(n, table.key()) as usize & (lists.len() - 1);
                        lists[bucket].insert(0, n);
                    }
                }
                let (grow, _) = table.limits();
                prop_assert!(alive.len() as u64 <= grow, "{} in {}", alive.len(), table.size());
            }
            for number in 0..400 {
                let wanted = hash(number, table.key());
                let list = &lists[wanted as usize & (lists.len() - 1)];
                let place = list.iter().position(|&n| n == number);
                let expected = (place.map(|_| number), place.map_or(list.len(), |p| p + 1) as u32);
                prop_assert_eq!(table.find(wanted, |n| n == number), expected);
            }
        }
    }
}
