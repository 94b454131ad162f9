//! Cancellable timers: a table beside the queue, with a generation in each handle.
//!
//! Every timer in the table has exactly one key in the queue. Cancelling takes the event out and leaves the key,
//! which is dropped when it comes up or when the queue is swept; the queue sweeps as soon as most of its keys
//! are such leftovers. Re-arming to a later instant, what a protocol does with every packet, only notes the
//! new instant: when the key comes up early it goes back into the queue under the noted one. Re-arming to an
//! earlier instant cancels and starts anew. In all cases the timer ties with other events as if it had been
//! scheduled when it was last re-armed.

use super::key::{Key, SLOTS, sequence_of, slot_of, timer_key};
use super::slab::reserve_a_quarter;
use crate::units::SimTime;

const NONE: u32 = u32::MAX;

/// Names one scheduled timer. Once that has fired or was cancelled the name is stale for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Debug)]
struct Entry<E> {
    /// When the timer is due; on the free list, unused.
    at: SimTime,
    /// Sequence of the last re-arming; on the free list, the next free slot.
    sequence: u64,
    generation: u32,
    /// Nothing if cancelled or free.
    event: Option<E>,
}

/// What became of a timer whose key came up.
pub(crate) enum Expiry<E> {
    /// It fires.
    Fires(E),
    /// It was re-armed meanwhile; its new key.
    Later(Key),
    /// It was cancelled.
    Cancelled,
}

/// All timers.
#[derive(Clone, Debug)]
pub(crate) struct Timers<E> {
    entries: Vec<Entry<E>>,
    free: u32,
    /// Cancelled timers whose key is still in the queue.
    cancelled: usize,
}

impl<E> Timers<E> {
    pub(crate) fn new() -> Self {
        Timers { entries: Vec::new(), free: NONE, cancelled: 0 }
    }

    /// Cancelled timers whose key is still in the queue.
    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled
    }

    /// A new timer and its key.
    ///
    /// # Panics
    /// If every slot is taken.
    pub(crate) fn insert(&mut self, at: SimTime, sequence: u64, event: E) -> (TimerId, Key) {
        let slot = self.free;
        if slot == NONE {
            let slot = self.entries.len();
            assert!(
                slot < SLOTS as usize,
                "{slot} timers are pending, the most the queue can hold: the model starts more than expire"
            );
            reserve_a_quarter(&mut self.entries);
            self.entries.push(Entry { at, sequence, generation: 0, event: Some(event) });
            let slot = slot as u32;
            return (TimerId { slot, generation: 0 }, timer_key(at, sequence, slot));
        }
        let entry = &mut self.entries[slot as usize];
        self.free = entry.sequence as u32;
        entry.at = at;
        entry.sequence = sequence;
        entry.event = Some(event);
        (TimerId { slot, generation: entry.generation }, timer_key(at, sequence, slot))
    }

    fn pending(&mut self, id: TimerId) -> Option<&mut Entry<E>> {
        self.entries.get_mut(id.slot as usize).filter(|e| e.generation == id.generation && e.event.is_some())
    }

    /// When the timer is due, unless it has fired or was cancelled.
    pub(crate) fn due(&self, id: TimerId) -> Option<SimTime> {
        let entry = self.entries.get(id.slot as usize)?;
        (entry.generation == id.generation && entry.event.is_some()).then_some(entry.at)
    }

    /// Takes the event of a pending timer; its key stays behind.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<E> {
        let event = self.pending(id)?.event.take();
        self.cancelled += 1;
        event
    }

    /// Moves a pending timer to an instant no earlier than its own. Whether that could be done.
    pub(crate) fn postpone(&mut self, id: TimerId, at: SimTime, sequence: u64) -> bool {
        match self.pending(id) {
            Some(entry) if at >= entry.at => {
                entry.at = at;
                entry.sequence = sequence;
                true
            }
            _ => false,
        }
    }

    /// Settles a timer whose key has left the queue.
    pub(crate) fn expire(&mut self, key: Key) -> Expiry<E> {
        let slot = slot_of(key);
        let entry = &mut self.entries[slot as usize];
        if entry.event.is_some() && entry.sequence != sequence_of(key) {
            return Expiry::Later(timer_key(entry.at, entry.sequence, slot));
        }
        let event = entry.event.take();
        // A slot whose generations are used up is retired, so that no stale name can ever match again.
        if entry.generation < u32::MAX {
            entry.generation += 1;
            entry.sequence = u64::from(self.free);
            self.free = slot;
        }
        match event {
            Some(event) => Expiry::Fires(event),
            None => {
                self.cancelled -= 1;
                Expiry::Cancelled
            }
        }
    }

    /// Whether the timer with this key fires at the key's instant.
    pub(crate) fn is_due(&self, key: Key) -> bool {
        let entry = &self.entries[slot_of(key) as usize];
        entry.event.is_some() && entry.sequence == sequence_of(key)
    }

    /// Whether the timer with this key, which is in the queue, was cancelled.
    pub(crate) fn is_cancelled(&self, key: Key) -> bool {
        self.entries[slot_of(key) as usize].event.is_none()
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<E>>()
    }
}
