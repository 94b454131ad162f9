//! The bitmap for sets of keys of at most two bytes (`net/netfilter/nft_set_bitmap.c:nft_bitmap_lookup`): two bits
//! a key, one line read.

use super::{Found, SET_BYTES};
use sim_core::classify::{Unit, Work};
use std::collections::BTreeSet;

/// A set of 16-bit keys, as register words.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    keys: BTreeSet<u32>,
}

impl Bitmap {
    /// Adds a key.
    pub fn insert(&mut self, key: u32) {
        self.keys.insert(key);
    }
    /// Removes a key. False if it is not there.
    pub fn remove(&mut self, key: u32) -> bool {
        self.keys.remove(&key)
    }
    /// Keys held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
    /// Looks a key up: the set's line and the bitmap's.
    #[inline]
    pub fn lookup(&self, key: u32, work: &mut Work) -> Option<Found<'_>> {
        work[Unit::LinesChase] += 2;
        self.keys.contains(&key).then_some(Found::Member)
    }
    /// Set with the whole bitmap behind it, and an element each.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(SET_BYTES) + 16 + 65_536 / 4 + 64 * self.keys.len() as u64
    }
}
