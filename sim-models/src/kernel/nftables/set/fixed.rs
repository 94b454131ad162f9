//! The hash table of a fixed size (`net/netfilter/nft_set_hash.c:nft_hash_lookup`, and for keys of four bytes
//! `nft_hash_lookup_fast`): what anonymous sets and maps without ranges get. jhash over the key's bytes and
//! `reciprocal_scale` choose among roundup_pow_of_two(4N/3) buckets, newest element first.
//!
//! Departure: the kernel draws the seed at random; here it follows from the engine's.

use super::items::Items;
use super::{Description, Found, Layout, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use crate::kernel::nftables::expr::Regs;
use crate::kernel::nftables::value::words;
use sim_core::classify::hash::{jhash, reciprocal_scale};
use sim_core::classify::{Unit, Work};

const NONE: u32 = u32::MAX;

/// A hash table that never changes.
#[derive(Clone, Debug)]
pub struct Fixed {
    seed: u32,
    key_bytes: usize,
    layout: Layout,
    heads: Vec<u32>,
    next: Vec<u32>,
    keys: Vec<u32>,
    verdicts: Vec<Option<Verdict>>,
}

impl Fixed {
    /// The table of these elements, inserted in their order.
    pub fn new(items: &Items, d: &Description, seed: u32) -> Self {
        let key_bytes = usize::try_from(d.key_bytes).expect("small");
        let buckets = (items.list.len() * 4 / 3).next_power_of_two();
        let mut table = Fixed {
            seed,
            key_bytes,
            layout: Layout::hash(d.key_bytes, if d.map { 16 } else { 0 }),
            heads: vec![NONE; buckets],
            next: Vec::new(),
            keys: Vec::new(),
            verdicts: Vec::new(),
        };
        for (e, entry) in (0u32..).zip(&items.list) {
            let key: Vec<u32> = entry.from.iter().flat_map(|field| words(field)).collect();
            let bucket = table.bucket(&key);
            table.keys.extend(key);
            table.next.push(table.heads[bucket]);
            table.verdicts.push(entry.verdict);
            table.heads[bucket] = e;
        }
        table
    }

    fn key_words(&self) -> usize {
        self.key_bytes.div_ceil(4)
    }

    fn bucket(&self, key: &[u32]) -> usize {
        let mut bytes = [0u8; 64];
        for (to, word) in bytes.chunks_exact_mut(4).zip(key) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let buckets = u32::try_from(self.heads.len()).expect("fewer than 2^32 buckets");
        reciprocal_scale(jhash(&bytes[..self.key_bytes], self.seed), buckets) as usize
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        self.next.len()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Looks the key at `sreg` up: the set's line, that of seed and bucket count, the bucket's if that is another, and
    /// the elements.
    pub fn lookup(&self, regs: &Regs, sreg: u8, work: &mut Work) -> Option<Found<'_>> {
        let words = self.key_words();
        let key = &regs.0[usize::from(sreg)..][..words];
        work[Unit::Jhash] += 1;
        work[Unit::JhashBytes] += u32::try_from(self.key_bytes).expect("a key");
        let bucket = self.bucket(key);
        let mut lines = if 8 + 8 * bucket < 64 { 2 } else { 3 };
        let mut steps = 0;
        let mut e = self.heads[bucket];
        let mut found = None;
        while e != NONE {
            steps += 1;
            let at = e as usize;
            let hit = &self.keys[at * words..][..words] == key;
            lines += self.layout.lines(at, if hit { self.layout.data_end } else { self.layout.key_end });
            if hit {
                found = Some(self.verdicts[at].map_or(Found::Member, Found::Verdict));
                break;
            }
            e = self.next[at];
        }
        work[Unit::HashSteps] += steps;
        work[Unit::LinesChase] += lines;
        found
    }

    /// Set, inline table and elements.
    pub fn memory_bytes(&self) -> u64 {
        let head = slab_class(SET_BYTES + 8 + 8 * u32::try_from(self.heads.len()).expect("small"));
        u64::from(head) + self.len() as u64 * u64::from(self.layout.class)
    }
}
