//! The ladder: keys beyond the sorted bottom, in 256-way radix levels over the digits of the key.
//!
//! A key is thirteen digits of eight bits above its slot number: eight of time, five of sequence. The ladder
//! files a key relative to a *cover*, the last key that the bottom is responsible for: the level is that of the
//! highest digit in which key and cover differ, the bucket is the key's digit there. So the lowest bucket of the
//! lowest level in use holds the next keys, and two bitmaps find it. There is no bucket width to choose: a
//! crowded bucket is dealt out to a lower level when its turn comes, thousands of ties by their sequence.
//!
//! Source of the idea: the ladder queue (Tang, Goh, Thng 2005) and the radix heap (Ahuja et al. 1990).

use super::chunks::{Bucket, Chunks};
use super::key::{Key, SLOT_BITS, SLOT_MASK};

const DIGIT_BITS: u32 = 8;
const WAYS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = ((Key::BITS - SLOT_BITS) / DIGIT_BITS) as usize;
/// A bucket of at most this many keys is sorted straight into the bottom.
pub(crate) const SORT_MAX: usize = 48;
/// Neighbouring buckets are sorted together up to this many keys.
const GATHER_MAX: usize = 24;

#[derive(Clone, Debug)]
struct Level {
    occupied: [u64; WAYS / 64],
    buckets: [Bucket; WAYS],
}

impl Level {
    const EMPTY: Level = Level { occupied: [0; WAYS / 64], buckets: [Bucket::EMPTY; WAYS] };

    fn is_empty(&self) -> bool {
        self.occupied == [0; WAYS / 64]
    }

    /// The lowest occupied bucket.
    fn first(&self) -> Option<usize> {
        let word = self.occupied.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }

    fn mark(&mut self, digit: usize) {
        self.occupied[digit / 64] |= 1 << (digit % 64);
    }

    fn clear(&mut self, digit: usize) {
        self.occupied[digit / 64] &= !(1 << (digit % 64));
    }
}

/// Unsorted keys beyond a cover.
#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    levels: Box<[Level]>,
    /// Bit per level that holds a key.
    in_use: u16,
    chunks: Chunks,
    len: usize,
}

/// The level at which two keys with these differing bits part.
fn level_of(differing: Key) -> usize {
    debug_assert!(differing > SLOT_MASK, "the keys differ only in their slots: {differing:#x}");
    ((Key::BITS - 1 - SLOT_BITS - differing.leading_zeros()) / DIGIT_BITS) as usize
}

fn shift_of(level: usize) -> u32 {
    SLOT_BITS + DIGIT_BITS * level as u32
}

fn digit_of(key: Key, level: usize) -> usize {
    ((key >> shift_of(level)) as usize) % WAYS
}

impl Ladder {
    pub(crate) fn new() -> Self {
        Ladder { levels: vec![Level::EMPTY; LEVELS].into(), in_use: 0, chunks: Chunks::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Files a key that is beyond `cover`.
    #[inline]
    pub(crate) fn file(&mut self, key: Key, cover: Key) {
        debug_assert!(key > cover);
        self.put(key, level_of(key ^ cover));
        self.len += 1;
    }

    #[inline]
    fn put(&mut self, key: Key, at: usize) {
        let level = &mut self.levels[at];
        let digit = digit_of(key, at);
        level.mark(digit);
        self.chunks.put(&mut level.buckets[digit], key);
        self.in_use |= 1 << at;
    }

    /// Appends the next few keys to `bottom`, unsorted, and returns their cover: every key left is beyond it.
    /// Nothing if the ladder is empty.
    pub(crate) fn take_next(&mut self, bottom: &mut Vec<Key>) -> Option<Key> {
        loop {
            if self.in_use == 0 {
                return None;
            }
            let at = self.in_use.trailing_zeros() as usize;
            let digit = self.levels[at].first().expect("a level in use holds a key");
            if self.levels[at].buckets[digit].len() > SORT_MAX {
                self.deal_out(at, digit);
                continue;
            }
            return Some(self.take_buckets(at, digit, bottom));
        }
    }

    /// Takes the bucket at `digit`, and those after it in its level while they are small.
    fn take_buckets(&mut self, at: usize, mut digit: usize, bottom: &mut Vec<Key>) -> Key {
        let before = bottom.len();
        let level = &mut self.levels[at];
        loop {
            self.chunks.drain_into(&mut level.buckets[digit], bottom);
            level.clear(digit);
            match level.first() {
                Some(next) if bottom.len() - before + level.buckets[next].len() <= GATHER_MAX => digit = next,
                Some(_) => break,
                None => {
                    self.in_use &= !(1 << at);
                    break;
                }
            }
        }
        self.len -= bottom.len() - before;
        let last = bottom.last().copied().expect("an occupied bucket holds a key");
        last | ((1 << shift_of(at)) - 1)
    }

    /// Moves the keys of a crowded bucket to the highest level at which they differ. All lower levels are empty.
    fn deal_out(&mut self, at: usize, digit: usize) {
        let level = &mut self.levels[at];
        let mut bucket = std::mem::replace(&mut level.buckets[digit], Bucket::EMPTY);
        level.clear(digit);
        if level.is_empty() {
            self.in_use &= !(1 << at);
        }
        let (_, differing) = self.chunks.spread(bucket);
        let lower = level_of(differing);
        debug_assert!(lower < at);
        while let Some((keys, held)) = self.chunks.take_chunk(&mut bucket) {
            for &key in &keys[..held] {
                self.put(key, lower);
            }
        }
    }

    /// Re-files what is needed when the cover moves back from `old` to `new`: keys filed below the level at
    /// which the two part go up to it. Only keys pushed between a look at the head and its removal need this.
    pub(crate) fn move_cover_back(&mut self, old: Key, new: Key) {
        debug_assert!(new < old);
        if (new ^ old) <= SLOT_MASK {
            return;
        }
        let parting = level_of(new ^ old);
        let below = self.in_use & ((1 << parting) - 1);
        for at in (0..parting).filter(|at| below & (1 << at) != 0) {
            while let Some(digit) = self.levels[at].first() {
                let mut bucket = std::mem::replace(&mut self.levels[at].buckets[digit], Bucket::EMPTY);
                self.levels[at].clear(digit);
                while let Some((keys, held)) = self.chunks.take_chunk(&mut bucket) {
                    for &key in &keys[..held] {
                        self.put(key, parting);
                    }
                }
            }
            self.in_use &= !(1 << at);
        }
    }

    /// Keeps only the keys for which `keep` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Key) -> bool) {
        let mut kept = Vec::new();
        for (at, level) in self.levels.iter_mut().enumerate() {
            for digit in 0..WAYS {
                let bucket = &mut level.buckets[digit];
                if bucket.len() == 0 {
                    continue;
                }
                self.len -= bucket.len();
                self.chunks.drain_into(bucket, &mut kept);
                kept.retain(|&key| keep(key));
                for &key in &kept {
                    self.chunks.put(bucket, key);
                }
                self.len += kept.len();
                if kept.is_empty() {
                    level.clear(digit);
                }
                kept.clear();
            }
            if level.is_empty() {
                self.in_use &= !(1 << at);
            }
        }
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.levels.len() * size_of::<Level>() + self.chunks.bytes()
    }
}
