//! A BPF hash map as the kernel lays it out (`kernel/bpf/hashtab.c`): buckets a power of two of `max_entries`, keys of
//! whole words hashed by `jhash2`, chains searched by hash first and key then.

use sim_core::classify::hash::jhash2;
use sim_core::classify::{Unit, Work};

/// Lines that a lookup reads: the bucket's head, and each element it compares.
const HEAD_LINES: u32 = 1;
const NIL: u32 = u32::MAX;

/// A map from keys of `N` words.
#[derive(Clone, Debug)]
pub(super) struct Htab<const N: usize> {
    heads: Vec<u32>,
    elements: Vec<(u32, [u32; N], u32, u32)>,
    seed: u32,
}

impl<const N: usize> Htab<N> {
    /// A map for `max_entries` elements.
    pub(super) fn new(max_entries: usize, seed: u32) -> Self {
        Htab { heads: vec![NIL; max_entries.next_power_of_two()], elements: Vec::new(), seed }
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    /// Adds an element unless its key is there.
    pub(super) fn insert(&mut self, key: [u32; N], value: u32) {
        if self.find(&key).0.is_some() {
            return;
        }
        let hash = jhash2(&key, self.seed);
        let bucket = self.bucket(hash);
        let at = u32::try_from(self.elements.len()).expect("fewer than 2^32 elements");
        self.elements.push((hash, key, value, self.heads[bucket]));
        self.heads[bucket] = at;
    }

    /// The value of `key`, and how many elements were looked at.
    fn find(&self, key: &[u32; N]) -> (Option<u32>, u32) {
        let hash = jhash2(key, self.seed);
        let (mut at, mut steps) = (self.heads[self.bucket(hash)], 0);
        while at != NIL {
            steps += 1;
            let (other, there, value, next) = &self.elements[at as usize];
            if *other == hash && there == key {
                return (Some(*value), steps);
            }
            at = *next;
        }
        (None, steps)
    }

    /// The value of `key`. What was found is one Service's own.
    pub(super) fn lookup(&self, key: &[u32; N], work: &mut Work) -> Option<u32> {
        let (found, steps) = self.find(key);
        work[Unit::EbpfLookup] += 1;
        work[Unit::LinesChase] += HEAD_LINES + steps;
        if found.is_some() {
            work[Unit::HashSteps] += steps - 1;
            work[Unit::LinesOwn] += HEAD_LINES + 1;
        } else {
            work[Unit::HashSteps] += steps;
        }
        found
    }

    /// Bytes of buckets (a head and a lock each) and of all elements, which are allocated beforehand.
    pub(super) fn memory_bytes(&self, value: u64) -> u64 {
        let buckets = self.heads.len() as u64;
        // struct htab_elem is 48 bytes; key and value follow, each rounded up to eight.
        let element = 48 + (N as u64 * 4).next_multiple_of(8) + value.next_multiple_of(8);
        buckets * 16 + buckets * element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_bucket_and_counted() {
        let mut map = Htab::<2>::new(3, 7);
        assert_eq!(map.heads.len(), 4);
        for i in 0..40 {
            map.insert([i, i + 1], i * 10);
            map.insert([i, i + 1], 999);
        }
        let mut work = Work::new();
        for i in 0..40 {
            assert_eq!(map.lookup(&[i, i + 1], &mut work), Some(i * 10));
        }
        assert_eq!(map.lookup(&[1, 1], &mut work), None);
        assert_eq!(work[Unit::EbpfLookup], 41);
        // Four chains of about ten: half of one is walked to find an element.
        assert!((100..400).contains(&work[Unit::HashSteps]), "{work:?}");
    }
}
