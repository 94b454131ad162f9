//! A small index from a hash to a number: open addressing, linear probing, deletion by shifting back.
//!
//! No table of the kernel's: it finds in one or two memory accesses what the modelled tables reach by walking a
//! chain, and the walk's length is then read off where the entry stands. What is compared is the caller's.

/// Free place.
const FREE: u32 = u32::MAX;
/// Places that an index with entries begins with.
const FIRST_SIZE: usize = 16;

/// Numbers by hash.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyIndex {
    /// Hash and number; as many as a power of two, never more than half of them taken.
    places: Vec<(u32, u32)>,
    len: usize,
}

/// A hash of 64 bits of key, for [`KeyIndex`] and for tags. Not one of the kernel's.
pub(super) fn mix(bits: u64) -> u32 {
    let folded = (bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded >> 32) as u32
}

impl KeyIndex {
    fn mask(&self) -> usize {
        self.places.len() - 1
    }

    /// The number under `hash` that `is_it` recognises.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = hash as usize & self.mask();
        loop {
            let (there, number) = self.places[at];
            if number == FREE {
                return None;
            }
            if there == hash && is_it(number) {
                return Some(number);
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Adds a number. The caller sees to it that no equal key is there.
    pub fn insert(&mut self, hash: u32, number: u32) {
        assert_ne!(number, FREE, "one number is not to be had");
        if self.places.len() < 2 * (self.len + 1) {
            let old = std::mem::take(&mut self.places);
            self.places = vec![(0, FREE); (old.len() * 2).max(FIRST_SIZE)];
            old.into_iter().filter(|place| place.1 != FREE).for_each(|place| self.put(place));
        }
        self.put((hash, number));
        self.len += 1;
    }

    fn put(&mut self, place: (u32, u32)) {
        let mut at = place.0 as usize & self.mask();
        while self.places[at].1 != FREE {
            at = (at + 1) & self.mask();
        }
        self.places[at] = place;
    }

    /// Takes a number out.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, hash: u32, number: u32) {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        while self.places[at] != (hash, number) {
            assert_ne!(self.places[at].1, FREE, "{number} is not in the index");
            at = (at + 1) & mask;
        }
        // Whoever stands behind it and would rather stand here moves up.
        let mut next = (at + 1) & mask;
        while self.places[next].1 != FREE {
            let home = self.places[next].0 as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.places[at] = self.places[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.places[at] = (0, FREE);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Hashes of five bits, so that runs of places touch and wrap around.
        #[test]
        fn it_finds_what_a_map_finds(
            steps in prop::collection::vec((any::<bool>(), 0u32..200), 1..600),
        ) {
            let hash = |key: u32| (key * 7) & 31;
            let (mut index, mut map) = (KeyIndex::default(), BTreeMap::new());
            for (add, key) in steps {
                if add && !map.contains_key(&key) {
                    map.insert(key, key + 1);
                    index.insert(hash(key), key + 1);
                } else if !add && let Some(number) = map.remove(&key) {
                    index.remove(hash(key), number);
                }
                prop_assert_eq!(index.len, map.len());
            }
            for key in 0..200 {
                let found = index.find(hash(key), |number| number == key + 1);
                prop_assert_eq!(found, map.get(&key).copied());
            }
        }
    }
}
