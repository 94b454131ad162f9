//! The key of a pending entry: one `u128` that orders by time, then by sequence, and names where the payload is.
//!
//! ```text
//! 127           64 63        25  24  23        0
//! [ time in ns   ][ sequence  ][ T ][ slot      ]      T = 1: the slot is in the timer table
//! ```
//! Sequences are never given twice, so keys are unique and ties in time leave in the order they came.

use crate::units::SimTime;

/// A key; see the module's head for its layout.
pub(crate) type Key = u128;

/// Bits of the slot number.
pub(crate) const SLOT_BITS: u32 = 24;
/// Slots in each table.
pub(crate) const SLOTS: u32 = 1 << SLOT_BITS;
/// Bits of the sequence number.
pub(crate) const SEQUENCE_BITS: u32 = 39;
/// The slot's bits, all ones.
pub(crate) const SLOT_MASK: Key = (1 << SLOT_BITS) - 1;

const TIMER_BIT: Key = 1 << SLOT_BITS;
const SEQUENCE_SHIFT: u32 = SLOT_BITS + 1;

/// The key of an event that waits in `slot` of the event table.
pub(crate) fn event_key(at: SimTime, sequence: u64, slot: u32) -> Key {
    debug_assert!(sequence < 1 << SEQUENCE_BITS && slot < SLOTS);
    (Key::from(at.as_ns()) << 64) | Key::from((sequence << SEQUENCE_SHIFT) | u64::from(slot))
}

/// The key of a timer that waits in `slot` of the timer table.
pub(crate) fn timer_key(at: SimTime, sequence: u64, slot: u32) -> Key {
    event_key(at, sequence, slot) | TIMER_BIT
}

/// The instant in a key.
pub(crate) fn time_of(key: Key) -> SimTime {
    SimTime::from_ns((key >> 64) as u64)
}

/// The slot in a key.
pub(crate) fn slot_of(key: Key) -> u32 {
    (key & SLOT_MASK) as u32
}

/// Whether the slot is one of the timer table.
pub(crate) fn is_timer(key: Key) -> bool {
    key & TIMER_BIT != 0
}

/// The sequence in a key.
pub(crate) fn sequence_of(key: Key) -> u64 {
    (key as u64) >> SEQUENCE_SHIFT
}
