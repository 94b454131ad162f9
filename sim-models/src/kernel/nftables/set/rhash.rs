//! The resizable hash table (`net/netfilter/nft_set_hash.c:nft_rhash_lookup`, `lib/rhashtable.c`).
//!
//! jhash over the key, bucket = hash & (size - 1), newest element first. Starts at 4 buckets (3 elements are
//! hinted) and doubles when more than three quarters full, with a new hash seed each time and each old bucket
//! emptied from its tail (`rhashtable_rehash_one`). Shrinks to half below 30 %, never under 4.
//!
//! Departures: the kernel draws its hash seed at random; here it follows from the engine's seed. The kernel
//! resizes in a deferred worker; here the resize happens at the insertion that asks for it.

use super::{Found, Layout, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use sim_core::classify::hash::jhash2;
use sim_core::classify::{Unit, Work};

const NONE: u32 = u32::MAX;
const MIN_BUCKETS: u32 = 4;

/// A resizable hash table.
#[derive(Clone, Debug)]
pub struct Rhash {
    seed: u32,
    bucket_seed: u32,
    key_words: u32,
    layout: Layout,
    heads: Vec<u32>,
    next: Vec<u32>,
    keys: Vec<u32>,
    verdicts: Vec<Option<Verdict>>,
    free: Vec<u32>,
    len: u32,
}

impl Rhash {
    /// An empty table of keys of `key_bytes` bytes.
    pub fn new(key_bytes: u32, layout: Layout, seed: u32) -> Self {
        let mut table = Rhash {
            seed,
            bucket_seed: 0,
            key_words: key_bytes.div_ceil(4),
            layout,
            heads: vec![NONE; MIN_BUCKETS as usize],
            next: Vec::new(),
            keys: Vec::new(),
            verdicts: Vec::new(),
            free: Vec::new(),
            len: 0,
        };
        table.reseed();
        table
    }

    fn reseed(&mut self) {
        self.bucket_seed = super::derive_seed(u64::from(self.seed), self.heads.len() as u64);
    }

    /// Register words of a key.
    #[inline]
    pub fn key_words(&self) -> usize {
        self.key_words as usize
    }
    /// Elements held.
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Buckets.
    pub fn buckets(&self) -> usize {
        self.heads.len()
    }

    #[inline]
    fn bucket(&self, key: &[u32]) -> usize {
        jhash2(key, self.bucket_seed) as usize & (self.heads.len() - 1)
    }
    #[inline]
    fn key(&self, e: u32) -> &[u32] {
        let at = e as usize * self.key_words as usize;
        &self.keys[at..at + self.key_words as usize]
    }

    /// The element with this key, without counting anything.
    pub fn find(&self, key: &[u32]) -> Option<u32> {
        let mut e = self.heads[self.bucket(key)];
        while e != NONE && self.key(e) != key {
            e = self.next[e as usize];
        }
        (e != NONE).then_some(e)
    }

    /// Adds an element, or replaces the verdict of the one with this key. Gives its number.
    pub fn insert(&mut self, key: &[u32], verdict: Option<Verdict>) -> u32 {
        assert_eq!(key.len(), self.key_words as usize, "a key of another set");
        if let Some(e) = self.find(key) {
            self.verdicts[e as usize] = verdict;
            return e;
        }
        let e = match self.free.pop() {
            Some(e) => {
                let at = e as usize * self.key_words as usize;
                self.keys[at..at + key.len()].copy_from_slice(key);
                self.verdicts[e as usize] = verdict;
                e
            }
            None => {
                self.keys.extend_from_slice(key);
                self.verdicts.push(verdict);
                self.next.push(NONE);
                u32::try_from(self.next.len() - 1).expect("fewer than 2^32 elements")
            }
        };
        self.link(e);
        self.len += 1;
        if self.len as usize > self.heads.len() / 4 * 3 {
            self.resize(self.heads.len() * 2);
        }
        e
    }

    fn link(&mut self, e: u32) {
        let b = self.bucket(self.key(e));
        self.next[e as usize] = self.heads[b];
        self.heads[b] = e;
    }

    /// Removes the element with this key. False if there is none.
    pub fn remove(&mut self, key: &[u32]) -> bool {
        let b = self.bucket(key);
        let mut before = NONE;
        let mut e = self.heads[b];
        while e != NONE && self.key(e) != key {
            before = e;
            e = self.next[e as usize];
        }
        if e == NONE {
            return false;
        }
        let after = self.next[e as usize];
        if before == NONE {
            self.heads[b] = after;
        } else {
            self.next[before as usize] = after;
        }
        self.free.push(e);
        self.len -= 1;
        let buckets = self.heads.len();
        if buckets > MIN_BUCKETS as usize && self.len as usize * 10 < buckets * 3 {
            self.resize(buckets / 2);
        }
        true
    }

    fn resize(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.heads, vec![NONE; buckets]);
        self.reseed();
        let mut chain = Vec::new();
        for head in old {
            chain.clear();
            let mut e = head;
            while e != NONE {
                chain.push(e);
                e = self.next[e as usize];
            }
            for &e in chain.iter().rev() {
                self.link(e);
            }
        }
    }

    /// The element with this key, counting one hash, the elements compared, and the lines of the set, its
    /// table head, the bucket and the elements.
    #[inline]
    pub fn walk(&self, key: &[u32], work: &mut Work) -> Option<u32> {
        work[Unit::Jhash] += 1;
        work[Unit::JhashBytes] += 4 * self.key_words;
        // Set, rhashtable head, bucket table head, bucket.
        let mut lines = 4;
        let mut steps = 0;
        let mut e = self.heads[self.bucket(key)];
        while e != NONE {
            steps += 1;
            // A loop over a few words; a call of memcmp costs more than it compares.
            let hit = self.key(e).iter().zip(key).all(|(a, b)| a == b);
            let end = if hit { self.layout.data_end } else { self.layout.key_end };
            lines += self.layout.lines(e as usize, end);
            if hit {
                break;
            }
            e = self.next[e as usize];
        }
        work[Unit::HashSteps] += steps;
        work[Unit::LinesChase] += lines;
        (e != NONE).then_some(e)
    }

    /// Looks a key up.
    #[inline]
    pub fn lookup(&self, key: &[u32], work: &mut Work) -> Option<Found<'_>> {
        let e = self.walk(key, work)?;
        Some(self.verdicts[e as usize].map_or(Found::Member, Found::Verdict))
    }

    /// Set and rhashtable (232 bytes), bucket table (64 and 8 a bucket), elements.
    pub fn memory_bytes(&self) -> u64 {
        let table = slab_class(64 + 8 * u32::try_from(self.heads.len()).expect("small"));
        u64::from(slab_class(SET_BYTES + 232))
            + u64::from(table)
            + u64::from(self.len) * u64::from(self.layout.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(n: u32) -> Rhash {
        let mut table = Rhash::new(4, Layout::rhash(4, false, false), 5);
        for key in 0..n {
            table.insert(&[key], None);
        }
        table
    }

    #[test]
    fn tables_grow_above_three_quarters_and_shrink_below_thirty_percent() {
        for (n, buckets) in [(0, 4), (3, 4), (4, 8), (6, 8), (7, 16), (768, 1024), (769, 2048)] {
            assert_eq!(filled(n).buckets(), buckets, "{n} elements");
        }
        let mut table = filled(769);
        for key in 0..155 {
            assert!(table.remove(&[key]));
        }
        assert_eq!((table.len(), table.buckets()), (614, 1024));
        assert!((0..155).all(|key| table.find(&[key]).is_none()));
        assert!((155..769).all(|key| table.find(&[key]).is_some()));
    }

    #[test]
    fn chains_are_as_long_as_the_load_says() {
        let (n, table) = (100_000, filled(100_000));
        let load = f64::from(n) / table.buckets() as f64;
        let mut work = Work::new();
        assert!((0..n).all(|key| table.lookup(&[key], &mut work).is_some()));
        let hit = f64::from(work[Unit::HashSteps]) / f64::from(n);
        assert!((hit - (1.0 + load / 2.0)).abs() < 0.01, "{hit} at load {load}");
        let mut work = Work::new();
        assert!((n..2 * n).all(|key| table.lookup(&[key], &mut work).is_none()));
        let miss = f64::from(work[Unit::HashSteps]) / f64::from(n);
        assert!((miss - load).abs() < 0.01, "{miss} at load {load}");
    }
}
