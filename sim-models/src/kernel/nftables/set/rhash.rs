//! The resizable hash table (`net/netfilter/nft_set_hash.c:nft_rhash_lookup`, `lib/rhashtable.c`).
//!
//! jhash over the key, bucket = hash & (size - 1), newest element first. Starts at 4 buckets (3 elements are
//! hinted) and doubles when more than three quarters full, with a new hash seed each time and each old bucket
//! emptied from its tail (`rhashtable_rehash_one`). Shrinks to half below 30 %, never under 4.
//!
//! Departures: the kernel draws its hash seed at random; here it follows from the engine's seed. The kernel
//! resizes in a deferred worker; here the resize happens at the insertion that asks for it.

use super::{Found, Layout, SET_BYTES, slab_class};
use crate::kernel::nftables::{ChainId, Verdict};
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
    /// Elements one after another: the next one of the bucket, the verdict in two words, the key.
    elements: Vec<u32>,
    free: Vec<u32>,
    len: u32,
}

/// Words of an element before its key.
const HEAD: usize = 3;

/// A verdict as two words.
#[inline]
pub(super) fn pack(verdict: Option<Verdict>) -> [u32; 2] {
    match verdict {
        None => [0, 0],
        Some(Verdict::Jump(to)) => [1, to.0],
        Some(Verdict::Goto(to)) => [2, to.0],
        Some(Verdict::Return) => [3, 0],
        Some(Verdict::Accept) => [4, 0],
        Some(Verdict::Drop) => [5, 0],
    }
}

/// And back.
#[inline]
pub(super) fn unpack([kind, to]: [u32; 2]) -> Option<Verdict> {
    Some(match kind {
        0 => return None,
        1 => Verdict::Jump(ChainId(to)),
        2 => Verdict::Goto(ChainId(to)),
        3 => Verdict::Return,
        4 => Verdict::Accept,
        _ => Verdict::Drop,
    })
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
            elements: Vec::new(),
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
    fn at(&self, e: u32) -> usize {
        e as usize * (HEAD + self.key_words as usize)
    }
    #[inline]
    fn key(&self, e: u32) -> &[u32] {
        &self.elements[self.at(e) + HEAD..][..self.key_words as usize]
    }
    #[inline]
    fn next(&self, e: u32) -> u32 {
        self.elements[self.at(e)]
    }
    fn set_next(&mut self, e: u32, next: u32) {
        let at = self.at(e);
        self.elements[at] = next;
    }
    fn set_verdict(&mut self, e: u32, verdict: Option<Verdict>) {
        let at = self.at(e);
        self.elements[at + 1..at + HEAD].copy_from_slice(&pack(verdict));
    }

    /// The element with this key, without counting anything.
    pub fn find(&self, key: &[u32]) -> Option<u32> {
        let mut e = self.heads[self.bucket(key)];
        while e != NONE && self.key(e) != key {
            e = self.next(e);
        }
        (e != NONE).then_some(e)
    }

    /// Adds an element, or replaces the verdict of the one with this key. Gives its number.
    pub fn insert(&mut self, key: &[u32], verdict: Option<Verdict>) -> u32 {
        assert_eq!(key.len(), self.key_words as usize, "a key of another set");
        if let Some(e) = self.find(key) {
            self.set_verdict(e, verdict);
            return e;
        }
        let e = self.free.pop().unwrap_or_else(|| {
            let e = self.elements.len() / (HEAD + key.len());
            self.elements.resize(self.elements.len() + HEAD + key.len(), 0);
            u32::try_from(e).expect("fewer than 2^32 elements")
        });
        let at = self.at(e) + HEAD;
        self.elements[at..at + key.len()].copy_from_slice(key);
        self.set_verdict(e, verdict);
        self.link(e);
        self.len += 1;
        if self.len as usize > self.heads.len() / 4 * 3 {
            self.resize(self.heads.len() * 2);
        }
        e
    }

    fn link(&mut self, e: u32) {
        let b = self.bucket(self.key(e));
        self.set_next(e, self.heads[b]);
        self.heads[b] = e;
    }

    /// Removes the element with this key. False if there is none.
    pub fn remove(&mut self, key: &[u32]) -> bool {
        let b = self.bucket(key);
        let mut before = NONE;
        let mut e = self.heads[b];
        while e != NONE && self.key(e) != key {
            before = e;
            e = self.next(e);
        }
        if e == NONE {
            return false;
        }
        let after = self.next(e);
        if before == NONE {
            self.heads[b] = after;
        } else {
            self.set_next(before, after);
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
                e = self.next(e);
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
        work[Unit::JhashBytes] += 4 * key.len() as u32;
        match key.len() {
            1 => self.walk_words::<1>(key, work),
            2 => self.walk_words::<2>(key, work),
            3 => self.walk_words::<3>(key, work),
            4 => self.walk_words::<4>(key, work),
            _ => self.walk_any(key, self.bucket(key), work, |a, b| a == b),
        }
    }

    /// The same for keys of so many words, which the compiler then compares without a loop.
    #[inline]
    fn walk_words<const N: usize>(&self, key: &[u32], work: &mut Work) -> Option<u32> {
        let key: &[u32; N] = key.try_into().expect("as many words");
        let bucket = jhash2(key, self.bucket_seed) as usize & (self.heads.len() - 1);
        self.walk_any(key, bucket, work, |a, b| a.first_chunk::<N>() == b.first_chunk::<N>())
    }

    #[inline(always)]
    fn walk_any(
        &self,
        key: &[u32],
        bucket: usize,
        work: &mut Work,
        equal: impl Fn(&[u32], &[u32]) -> bool,
    ) -> Option<u32> {
        // Set, rhashtable head, bucket table head, bucket.
        let mut lines = 4;
        let mut steps = 0;
        let mut e = self.heads[bucket];
        let stride = HEAD + key.len();
        while e != NONE {
            steps += 1;
            let element = &self.elements[e as usize * stride..][..stride];
            let hit = equal(&element[HEAD..], key);
            let end = if hit { self.layout.data_end } else { self.layout.key_end };
            lines += self.layout.lines(e as usize, end);
            if hit {
                break;
            }
            e = element[0];
        }
        work[Unit::HashSteps] += steps;
        work[Unit::LinesChase] += lines;
        (e != NONE).then_some(e)
    }

    /// Looks a key up.
    #[inline]
    pub fn lookup(&self, key: &[u32], work: &mut Work) -> Option<Found<'_>> {
        let e = self.walk(key, work)?;
        let at = self.at(e);
        let verdict = unpack([self.elements[at + 1], self.elements[at + 2]]);
        Some(verdict.map_or(Found::Member, Found::Verdict))
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
