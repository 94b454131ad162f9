//! The hybrid: a short sorted vector of the next keys, and the ladder for the rest.
//!
//! While few keys are pending they all stay in the vector, which is then the fastest queue there is. When it
//! grows past [`SPILL_AT`] its later half goes to the ladder, so that an insertion never moves more than that many
//! keys: without the spill, a burst at one instant would make every insertion linear.

use super::key::Key;
use super::key::SLOT_MASK;
use super::ladder::Ladder;

/// The bottom spills when it holds more keys than this.
const SPILL_AT: usize = 96;
/// Keys that stay in the bottom when it spills.
const SPILL_KEEP: usize = 32;

/// All pending keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyQueue {
    /// Every key up to `cover`, latest first, so that the next one leaves from the end.
    bottom: Vec<Key>,
    /// The last key the bottom is responsible for; the ladder holds only keys beyond it.
    cover: Key,
    ladder: Ladder,
}

impl KeyQueue {
    pub(crate) fn new() -> Self {
        KeyQueue { bottom: Vec::with_capacity(2 * SPILL_AT), cover: Key::MAX, ladder: Ladder::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.bottom.len() + self.ladder.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        if key > self.cover {
            self.ladder.file(key, self.cover);
        } else {
            let place = self.bottom.partition_point(|&other| other > key);
            self.bottom.insert(place, key);
            if self.bottom.len() > SPILL_AT {
                self.spill();
            }
        }
    }

    /// The least key, if the bottom holds it; otherwise a refill is due.
    #[inline]
    pub(crate) fn head(&self) -> Option<Key> {
        self.bottom.last().copied()
    }

    /// Removes the head.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Key> {
        self.bottom.pop()
    }

    /// Fills the empty bottom from the ladder and returns it, latest key first; empty if nothing is pending.
    pub(crate) fn refill(&mut self) -> &[Key] {
        debug_assert!(self.bottom.is_empty());
        // With nothing left, the bottom takes whatever comes until it spills.
        self.cover = self.ladder.take_next(&mut self.bottom).unwrap_or(Key::MAX);
        self.bottom.sort_unstable_by(|a, b| b.cmp(a));
        &self.bottom
    }

    #[cold]
    fn spill(&mut self) {
        let later = self.bottom.len() - SPILL_KEEP;
        let cover = self.bottom[later] | SLOT_MASK;
        self.ladder.move_cover_back(self.cover, cover);
        for key in self.bottom.drain(..later).rev() {
            self.ladder.file(key, cover);
        }
        self.cover = cover;
    }

    /// Keeps only the keys for which `keep` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Key) -> bool) {
        self.bottom.retain(|&key| keep(key));
        self.ladder.retain(keep);
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bottom.capacity() * size_of::<Key>() + self.ladder.bytes()
    }
}
