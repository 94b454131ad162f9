//! The fixed-size hash table for 4-byte keys (`net/netfilter/nft_set_hash.c:nft_hash_lookup_fast`): what the
//! anonymous map of a `numgen` gets. `jhash_1word` and `reciprocal_scale` choose among
//! roundup_pow_of_two(4N/3) buckets, newest element first.
//!
//! Departure: the kernel draws the hash seed at random; here it follows from the engine's seed. Keys are
//! always 0..N, so an element's number is its key.

use super::{Found, Layout, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use sim_core::classify::hash::{jhash_1word, reciprocal_scale};
use sim_core::classify::{Unit, Work};

const NONE: u32 = u32::MAX;

/// Keys 0..N with a verdict or data each.
#[derive(Clone, Debug)]
pub struct HashFast {
    seed: u32,
    layout: Layout,
    heads: Box<[u32]>,
    next: Box<[u32]>,
    payload: Payload,
}

#[derive(Clone, Debug)]
enum Payload {
    Verdicts(Box<[Verdict]>),
    Words { words: Box<[u32]>, stride: usize },
}

impl HashFast {
    /// A map to verdicts.
    pub fn verdicts(verdicts: &[Verdict], seed: u32) -> Self {
        HashFast::build(Payload::Verdicts(verdicts.into()), verdicts.len(), 16, seed)
    }

    /// A map to `stride` words of data each.
    pub fn data(words: Vec<u32>, stride: usize, seed: u32) -> Self {
        let n = words.len() / stride;
        let bytes = u32::try_from(stride * 4).expect("small").next_multiple_of(8);
        HashFast::build(Payload::Words { words: words.into(), stride }, n, bytes, seed)
    }

    fn build(payload: Payload, n: usize, data_bytes: u32, seed: u32) -> Self {
        let buckets = (n * 4 / 3).next_power_of_two();
        let mut heads = vec![NONE; buckets].into_boxed_slice();
        let mut next = vec![NONE; n].into_boxed_slice();
        for key in 0..u32::try_from(n).expect("fewer than 2^32 endpoints") {
            let b = bucket(key, seed, buckets);
            next[key as usize] = heads[b];
            heads[b] = key;
        }
        HashFast { seed, layout: Layout::hash(4, data_bytes), heads, next, payload }
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        self.next.len()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Looks a number up.
    #[inline]
    pub fn lookup(&self, key: u32, work: &mut Work) -> Option<Found<'_>> {
        work[Unit::Jhash] += 1;
        let b = bucket(key, self.seed, self.heads.len());
        // The set's line, the line of seed and bucket count, and the bucket's if that is another.
        let mut lines = if 8 + 8 * b < 64 { 2 } else { 3 };
        let mut steps = 0;
        let mut e = self.heads[b];
        while e != NONE {
            steps += 1;
            let end = if e == key { self.layout.data_end } else { self.layout.key_end };
            lines += self.layout.lines(e as usize, end);
            if e == key {
                break;
            }
            e = self.next[e as usize];
        }
        work[Unit::HashSteps] += steps;
        work[Unit::LinesChase] += lines;
        if e == NONE {
            return None;
        }
        Some(match &self.payload {
            Payload::Verdicts(v) => Found::Verdict(v[e as usize]),
            Payload::Words { words, stride } => Found::Data(&words[e as usize * stride..][..*stride]),
        })
    }

    /// Set, inline table and elements.
    pub fn memory_bytes(&self) -> u64 {
        let head = slab_class(SET_BYTES + 8 + 8 * u32::try_from(self.heads.len()).expect("small"));
        u64::from(head) + self.len() as u64 * u64::from(self.layout.class)
    }
}

#[inline]
fn bucket(key: u32, seed: u32, buckets: usize) -> usize {
    reciprocal_scale(jhash_1word(key, seed), buckets as u32) as usize
}
