//! [`EventQueue`]: pending events by (time, sequence), ties exactly first-in first-out.
//!
//! Events are values of one type, kept in a table; what is sorted are 16-byte keys that name their slot
//! ([`key`](super::key)), in a hybrid of a short sorted vector and a radix ladder ([`bottom`](super::bottom),
//! [`ladder`](super::ladder)).

use super::bottom::KeyQueue;
use super::key::{Key, SEQUENCE_BITS, event_key, is_timer, slot_of, time_of};
use super::slab::Slab;
use super::timer::{Expiry, TimerId, Timers};
use crate::units::SimTime;

/// Below this many leftovers of cancelled timers a sweep is not worth its while.
const SWEEP_MIN: usize = 256;

/// A table of at most this many events is taken to be in the cache.
const CACHED_SLOTS: usize = 1 << 13;

/// Pending events and timers.
#[derive(Clone, Debug)]
pub struct EventQueue<E> {
    keys: KeyQueue,
    events: Slab<E>,
    timers: Timers<E>,
    next_sequence: u64,
    now: SimTime,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> EventQueue<E> {
    /// An empty queue at [`SimTime::ZERO`].
    pub fn new() -> Self {
        EventQueue {
            keys: KeyQueue::new(),
            events: Slab::new(),
            timers: Timers::new(),
            next_sequence: 0,
            now: SimTime::ZERO,
        }
    }

    /// The instant of the last event taken out, or that the queue was advanced to.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Pending events, timers included.
    pub fn len(&self) -> usize {
        self.keys.len() - self.timers.cancelled()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn sequence(&mut self, at: SimTime) -> u64 {
        assert!(at >= self.now, "scheduled at {} ns, but it is {} ns already", at.as_ns(), self.now.as_ns());
        let sequence = self.next_sequence;
        assert!(
            sequence < 1 << SEQUENCE_BITS,
            "{sequence} events were scheduled, the most one run can order"
        );
        self.next_sequence += 1;
        sequence
    }

    /// Adds an event at `at`, after all that were added for the same instant.
    ///
    /// # Panics
    /// If `at` is in the past, if 2^24 events are pending, or if 2^39 have been scheduled.
    #[inline]
    pub fn push(&mut self, at: SimTime, event: E) {
        let sequence = self.sequence(at);
        let slot = self.events.insert(event);
        self.keys.push(event_key(at, sequence, slot));
    }

    /// Adds a timer: an event that can be cancelled and re-armed.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    pub fn push_timer(&mut self, at: SimTime, event: E) -> TimerId {
        let sequence = self.sequence(at);
        let (id, key) = self.timers.insert(at, sequence, event);
        self.keys.push(key);
        id
    }

    /// When a timer is due; nothing if it has fired or was cancelled.
    pub fn timer_due(&self, id: TimerId) -> Option<SimTime> {
        self.timers.due(id)
    }

    /// Cancels a timer and hands its event back; nothing if it has fired or was cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<E> {
        let event = self.timers.cancel(id)?;
        let leftovers = self.timers.cancelled();
        if leftovers >= SWEEP_MIN && leftovers > self.keys.len() / 2 {
            self.sweep();
        }
        Some(event)
    }

    /// Moves a pending timer to `at`, as if it were cancelled and scheduled now; `id` is updated. Returns false,
    /// and does nothing, if the timer has fired or was cancelled.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    #[inline]
    pub fn rearm(&mut self, id: &mut TimerId, at: SimTime) -> bool {
        let sequence = self.sequence(at);
        if self.timers.postpone(*id, at, sequence) {
            return true;
        }
        let Some(event) = self.cancel(*id) else { return false };
        *id = self.push_timer(at, event);
        true
    }

    #[cold]
    fn sweep(&mut self) {
        let timers = &mut self.timers;
        self.keys.retain(|key| {
            let leftover = is_timer(key) && timers.is_cancelled(key);
            if leftover {
                timers.expire(key);
            }
            !leftover
        });
    }

    #[inline]
    fn head(&mut self) -> Option<Key> {
        match self.keys.head() {
            None => self.refill(),
            head => head,
        }
    }

    fn refill(&mut self) -> Option<Key> {
        let keys = self.keys.refill();
        // Looking at all the slots at once lets their cache misses overlap, which about halves the time of an event
        // when a million are pending. A small table is in the cache anyway.
        if self.events.slots() > CACHED_SLOTS {
            let vacant = keys.iter().find(|&&key| !is_timer(key) && !self.events.is_full(slot_of(key)));
            assert!(vacant.is_none(), "the key {vacant:?} names a vacant slot");
        }
        keys.last().copied()
    }

    /// Takes the next event out, unless it is later than `limit`.
    #[inline]
    pub fn pop_until(&mut self, limit: SimTime) -> Option<(SimTime, E)> {
        loop {
            let key = self.head()?;
            let at = time_of(key);
            if at > limit {
                return None;
            }
            self.keys.pop();
            if !is_timer(key) {
                self.now = at;
                return Some((at, self.events.remove(slot_of(key))));
            }
            if let Some(event) = self.expire(key) {
                self.now = at;
                return Some((at, event));
            }
        }
    }

    fn expire(&mut self, key: Key) -> Option<E> {
        match self.timers.expire(key) {
            Expiry::Fires(event) => Some(event),
            Expiry::Later(key) => {
                self.keys.push(key);
                None
            }
            Expiry::Cancelled => None,
        }
    }

    /// Takes the next event out.
    #[inline]
    pub fn pop(&mut self) -> Option<(SimTime, E)> {
        self.pop_until(SimTime::MAX)
    }

    /// The instant of the next event. Drops leftovers of timers on the way, hence `&mut`.
    pub fn peek_time(&mut self) -> Option<SimTime> {
        loop {
            let key = self.head()?;
            if !is_timer(key) || self.timers.is_due(key) {
                return Some(time_of(key));
            }
            self.keys.pop();
            let event = self.expire(key);
            debug_assert!(event.is_none());
        }
    }

    /// Moves the clock forward to `to`; events can no longer be scheduled before it.
    ///
    /// # Panics
    /// If an event is pending before `to`, or `to` is in the past.
    pub fn advance(&mut self, to: SimTime) {
        let next = self.peek_time().unwrap_or(SimTime::MAX);
        assert!(
            self.now <= to && to <= next,
            "the clock cannot go from {} to {to}: the next event is at {next}",
            self.now
        );
        self.now = to;
    }

    /// Bytes of memory held, events included.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.events.bytes() + self.timers.bytes()
    }
}
