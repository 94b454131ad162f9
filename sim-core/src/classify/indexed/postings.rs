//! Where the rules with a key stand: an open-addressed table from 32-bit hashes to places.
//!
//! Keys are known by their hash only. Two keys with one hash share a list, which costs a candidate that does not
//! match, never a wrong answer: a candidate is evaluated in full. One key's list is bounded by
//! [`SAME_MAX`], so that neither a lookup nor an insertion can become a walk.

/// Most rules that one hash can lead to.
pub const SAME_MAX: usize = 32;

const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    place: u32,
}

/// Lists of places by hash.
#[derive(Clone, Debug, Default)]
pub struct Postings {
    /// Linear probing from a hash's first bits on; a power of two, at most two thirds full.
    slots: Vec<Slot>,
    used: usize,
}

impl Postings {
    /// An empty table with room for `expected` places.
    pub fn with_room(expected: usize) -> Self {
        let mut table = Postings::default();
        table.resize((expected * 3 / 2 + 1).next_power_of_two().max(8));
        table
    }

    fn first(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.slots, vec![Slot { hash: 0, place: EMPTY }; size]);
        for slot in old {
            if slot.place != EMPTY {
                self.put(slot);
            }
        }
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.first(slot.hash);
        while self.slots[at].place != EMPTY {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Adds a place; false, and nothing added, if the list is full.
    pub fn insert(&mut self, hash: u32, place: u32) -> bool {
        assert_ne!(place, EMPTY, "no place has this number");
        if self.of(hash).count() >= SAME_MAX {
            return false;
        }
        if (self.used + 1) * 3 > self.slots.len() * 2 {
            self.resize((self.slots.len() * 2).max(8));
        }
        self.put(Slot { hash, place });
        self.used += 1;
        true
    }

    /// Places of a hash, in no order.
    #[inline]
    pub fn of(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = if self.slots.is_empty() { 0 } else { self.first(hash) };
        std::iter::from_fn(move || {
            loop {
                let slot = self.slots.get(at)?;
                if slot.place == EMPTY {
                    return None;
                }
                at = self.after(at);
                if slot.hash == hash {
                    return Some(slot.place);
                }
            }
        })
    }

    fn find(&self, hash: u32, place: u32) -> usize {
        let mut at = self.first(hash);
        loop {
            let slot = self.slots[at];
            assert_ne!(slot.place, EMPTY, "hash {hash:#x} does not lead to {place}");
            if slot.hash == hash && slot.place == place {
                return at;
            }
            at = self.after(at);
        }
    }

    /// A rule moved.
    pub fn replace(&mut self, hash: u32, from: u32, to: u32) {
        let at = self.find(hash, from);
        self.slots[at].place = to;
    }

    /// Takes a place out.
    pub fn remove(&mut self, hash: u32, place: u32) {
        let mut gap = self.find(hash, place);
        self.used -= 1;
        // Slots behind the gap that could stand in it move up, so that no probe ends early.
        let mut at = gap;
        loop {
            self.slots[gap].place = EMPTY;
            loop {
                at = self.after(at);
                if self.slots[at].place == EMPTY {
                    return;
                }
                let home = self.first(self.slots[at].hash);
                let (size, mask) = (self.slots.len(), self.slots.len() - 1);
                let from_home = (at + size - home) & mask;
                let from_gap = (at + size - gap) & mask;
                if from_home >= from_gap {
                    break;
                }
            }
            self.slots[gap] = self.slots[at];
            gap = at;
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn lists_hold_what_was_put_in_and_not_taken_out(
            moves in prop::collection::vec((0u8..3, 0u32..40, 0u32..500), 1..400),
        ) {
            let mut table = Postings::default();
            let mut oracle: BTreeSet<(u32, u32)> = BTreeSet::new();
            // Few distinct first bits: long probes, wrapping at the end.
            let spread = |h: u32| if h.is_multiple_of(2) { u32::MAX - h } else { h << 27 };
            for (what, key, place) in moves {
                let hash = spread(key);
                if what < 2 {
                    if !oracle.contains(&(hash, place)) && table.insert(hash, place) {
                        oracle.insert((hash, place));
                    }
                } else if let Some(&(hash, place)) = oracle.range((hash, 0)..).next() {
                    if place % 2 == 0 || oracle.contains(&(hash, place + 1)) {
                        table.remove(hash, place);
                    } else {
                        table.replace(hash, place, place + 1);
                        oracle.insert((hash, place + 1));
                    }
                    oracle.remove(&(hash, place));
                }
                for key in 0..40 {
                    let mut found: Vec<u32> = table.of(spread(key)).collect();
                    found.sort_unstable();
                    let wanted: Vec<u32> =
                        oracle.range((spread(key), 0)..=(spread(key), u32::MAX)).map(|&(_, p)| p).collect();
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }

    #[test]
    fn a_list_that_is_full_takes_no_more() {
        let mut table = Postings::with_room(4);
        assert!((0..SAME_MAX as u32).all(|place| table.insert(7, place)));
        assert!(!table.insert(7, 999));
        table.remove(7, 3);
        assert!(table.insert(7, 999));
    }
}
