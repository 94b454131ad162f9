//! The store behind the ladder's buckets: one arena of small chunks of keys, recycled through a free list.
//!
//! A bucket is eight bytes (newest chunk, number of keys) and holds its keys in no particular order. Chunks keep
//! memory close to the 16 bytes of a key, whatever the buckets' sizes have been; a `Vec` in each bucket would
//! keep the capacity of its largest burst.

use super::key::Key;
use super::slab::reserve_a_quarter;

/// Keys in a chunk: four cache lines.
pub(crate) const CHUNK: usize = 16;
const NONE: u32 = u32::MAX;

/// A bag of keys; every chunk but the newest is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    newest: u32,
    count: u32,
}

impl Bucket {
    pub(crate) const EMPTY: Bucket = Bucket { newest: NONE, count: 0 };

    pub(crate) fn len(self) -> usize {
        self.count as usize
    }
}

/// The arena.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    keys: Vec<[Key; CHUNK]>,
    older: Vec<u32>,
    free: u32,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Chunks { keys: Vec::new(), older: Vec::new(), free: NONE }
    }

    /// Puts a key into a bucket.
    #[inline]
    pub(crate) fn put(&mut self, bucket: &mut Bucket, key: Key) {
        let place = bucket.count as usize % CHUNK;
        if place == 0 {
            bucket.newest = self.allocate(bucket.newest);
        }
        self.keys[bucket.newest as usize][place] = key;
        bucket.count += 1;
    }

    fn allocate(&mut self, older: u32) -> u32 {
        let chunk = self.free;
        if chunk == NONE {
            reserve_a_quarter(&mut self.keys);
            reserve_a_quarter(&mut self.older);
            self.keys.push([0; CHUNK]);
            self.older.push(older);
            return (self.keys.len() - 1) as u32;
        }
        self.free = self.older[chunk as usize];
        self.older[chunk as usize] = older;
        chunk
    }

    /// Removes and returns the newest chunk's keys and their number, or nothing if the bucket is empty.
    pub(crate) fn take_chunk(&mut self, bucket: &mut Bucket) -> Option<([Key; CHUNK], usize)> {
        if bucket.count == 0 {
            return None;
        }
        let chunk = bucket.newest as usize;
        let held = (bucket.len() - 1) % CHUNK + 1;
        bucket.count -= held as u32;
        bucket.newest = self.older[chunk];
        self.older[chunk] = self.free;
        self.free = chunk as u32;
        Some((self.keys[chunk], held))
    }

    /// Moves all keys of a bucket to the end of `out`.
    pub(crate) fn drain_into(&mut self, bucket: &mut Bucket, out: &mut Vec<Key>) {
        while bucket.count > 0 {
            let chunk = bucket.newest as usize;
            let held = (bucket.len() - 1) % CHUNK + 1;
            out.extend_from_slice(&self.keys[chunk][..held]);
            bucket.count -= held as u32;
            bucket.newest = self.older[chunk];
            self.older[chunk] = self.free;
            self.free = chunk as u32;
        }
    }

    /// A key of the bucket, and all bits in which any two of its keys differ.
    ///
    /// # Panics
    /// If the bucket is empty.
    pub(crate) fn spread(&self, bucket: Bucket) -> (Key, Key) {
        let mut chunk = bucket.newest as usize;
        let mut left = bucket.len();
        let first = self.keys[chunk][0];
        let mut differing = 0;
        while left > 0 {
            let held = (left - 1) % CHUNK + 1;
            for key in &self.keys[chunk][..held] {
                differing |= key ^ first;
            }
            left -= held;
            chunk = self.older[chunk] as usize;
        }
        (first, differing)
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<[Key; CHUNK]>() + self.older.capacity() * size_of::<u32>()
    }
}
