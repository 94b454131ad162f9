//! The fixed-size hash table for 4-byte keys (`net/netfilter/nft_set_hash.c:nft_hash_lookup_fast`): what the
//! anonymous map of a `numgen` gets. `jhash_1word` and `reciprocal_scale` choose among
//! roundup_pow_of_two(4N/3) buckets, newest element first.
//!
//! Departure: the kernel draws the hash seed at random; here it follows from the engine's seed. Keys are
//! always 0..N, so an element's number is its key.

use super::rhash::{pack, unpack};
use super::{Found, Layout, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use sim_core::classify::hash::{jhash_1word, reciprocal_scale};
use sim_core::classify::{Unit, Work};

const NONE: u32 = u32::MAX;

/// Keys 0..N with a verdict or data each. The table never changes, so that what a lookup of each key visits is
/// worked out once.
#[derive(Clone, Debug)]
pub struct HashFast {
    layout: Layout,
    buckets: u32,
    /// Whether it maps to data instead of verdicts.
    is_data: bool,
    /// Words of data, or of a verdict.
    stride: u8,
    /// By key what its lookup visits, then its data.
    cells: Box<[u32]>,
}

/// What the lookup of one key visits.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    steps: u32,
    lines: u32,
}

/// Words of a cell that say what is visited.
const VISIT: usize = 2;

impl HashFast {
    /// A map to verdicts.
    pub fn verdicts(verdicts: &[Verdict], seed: u32) -> Self {
        let words = verdicts.iter().flat_map(|v| pack(Some(*v))).collect();
        HashFast::build(words, 2, false, 16, seed)
    }

    /// A map to `stride` words of data each.
    pub fn data(words: Vec<u32>, stride: usize, seed: u32) -> Self {
        let bytes = u32::try_from(stride * 4).expect("small").next_multiple_of(8);
        HashFast::build(words, stride, true, bytes, seed)
    }

    fn build(words: Vec<u32>, stride: usize, is_data: bool, data_bytes: u32, seed: u32) -> Self {
        let n = words.len() / stride;
        let buckets = (n * 4 / 3).next_power_of_two();
        let mut heads = vec![NONE; buckets];
        let mut next = vec![NONE; n];
        for key in 0..u32::try_from(n).expect("fewer than 2^32 endpoints") {
            let b = bucket(key, seed, buckets);
            next[key as usize] = heads[b];
            heads[b] = key;
        }
        let layout = Layout::hash(4, data_bytes);
        let mut cells = Vec::with_capacity(n * (VISIT + stride));
        for (key, data) in (0u32..).zip(words.chunks_exact(stride)) {
            let Visit { steps, lines } = visit(key, seed, &layout, &heads, &next);
            cells.extend([steps, lines]);
            cells.extend_from_slice(data);
        }
        let buckets = u32::try_from(buckets).expect("fewer than 2^32 buckets");
        let stride = u8::try_from(stride).expect("an address and a port");
        HashFast { layout, buckets, is_data, stride, cells: cells.into() }
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        self.cells.len() / (VISIT + usize::from(self.stride))
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Looks a number below N up; `numgen` makes no other.
    ///
    /// # Panics
    /// If `key` is not below N.
    #[inline]
    pub fn lookup(&self, key: u32, work: &mut Work) -> Option<Found<'_>> {
        let stride = usize::from(self.stride);
        let cell = &self.cells[key as usize * (VISIT + stride)..][..VISIT + stride];
        work[Unit::Jhash] += 1;
        work[Unit::HashSteps] += cell[0];
        work[Unit::LinesChase] += cell[1];
        let data = &cell[VISIT..];
        if self.is_data {
            return Some(Found::Data(data));
        }
        unpack([data[0], data[1]]).map(Found::Verdict)
    }

    /// Set, inline table and elements.
    pub fn memory_bytes(&self) -> u64 {
        let head = slab_class(SET_BYTES + 8 + 8 * self.buckets);
        u64::from(head) + self.len() as u64 * u64::from(self.layout.class)
    }
}

/// Walks the bucket of `key`: the set's line, the line of seed and bucket count, the bucket's if that is
/// another, and the elements.
fn visit(key: u32, seed: u32, layout: &Layout, heads: &[u32], next: &[u32]) -> Visit {
    let b = bucket(key, seed, heads.len());
    let mut out = Visit { steps: 0, lines: if 8 + 8 * b < 64 { 2 } else { 3 } };
    let mut e = heads[b];
    loop {
        out.steps += 1;
        let end = if e == key { layout.data_end } else { layout.key_end };
        out.lines += layout.lines(e as usize, end);
        if e == key {
            return out;
        }
        e = next[e as usize];
    }
}

fn bucket(key: u32, seed: u32, buckets: usize) -> usize {
    reciprocal_scale(jhash_1word(key, seed), buckets as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_and_chains_are_as_long_as_the_load_says() {
        for n in [1usize, 2, 3, 10, 1000] {
            let table = HashFast::data((0..n as u32).collect(), 1, 99);
            let mut work = Work::new();
            for key in 0..n as u32 {
                assert_eq!(table.lookup(key, &mut work), Some(Found::Data(&[key])));
            }
            let steps = f64::from(work[Unit::HashSteps]) / n as f64;
            let load = n as f64 / (n * 4 / 3).next_power_of_two() as f64;
            assert!((steps - (1.0 + load / 2.0)).abs() < if n == 1000 { 0.05 } else { 0.9 }, "{n}: {steps}");
        }
    }
}
