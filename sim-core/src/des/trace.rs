//! A fingerprint of the event stream: equal streams give equal fingerprints on every machine, and two streams
//! that differ in a time, an event or an order almost surely do not.
//!
//! One multiplication per word. It is no cryptographic hash: it finds accidents, not forgeries. Its values are part
//! of the result format and must not change.

use crate::units::SimTime;
use std::fmt;

/// A running 64-bit fingerprint; prints as sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Fingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl Fingerprint {
    /// The fingerprint of an empty stream.
    pub const fn new() -> Self {
        Fingerprint(0x2545_f491_4f6c_dd1d)
    }

    /// Adds a word.
    #[inline]
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(ODD);
    }

    /// Adds an event.
    #[inline]
    pub fn event(&mut self, at: SimTime, digest: u64) {
        self.word(at.as_ns());
        self.word(digest);
    }

    /// The fingerprint so far, with its bits mixed once more so that all of them depend on every word.
    pub fn value(self) -> u64 {
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: &[(u64, u64)]) -> Fingerprint {
        let mut print = Fingerprint::new();
        for &(at, digest) in events {
            print.event(SimTime::from_ns(at), digest);
        }
        print
    }

    #[test]
    fn swapping_two_events_changes_the_fingerprint() {
        let stream = [(1, 10), (1, 11), (5, 10), (9, 0)];
        for i in 0..stream.len() {
            for j in 0..i {
                let mut swapped = stream;
                swapped.swap(i, j);
                assert_ne!(of(&stream).value(), of(&swapped).value(), "{i} and {j}");
            }
        }
    }

    #[test]
    fn every_event_counts_even_the_empty_one() {
        assert_ne!(of(&[]).value(), of(&[(0, 0)]).value());
        assert_ne!(of(&[(0, 0)]).value(), of(&[(0, 0), (0, 0)]).value());
    }

    #[test]
    fn fingerprints_are_pinned_and_print_as_sixteen_digits() {
        assert_eq!(of(&[]).to_string(), "952f14f1e8ddc491");
        assert_eq!(of(&[(1, 2), (3, 4)]).to_string(), "426e862cd2d050c5");
    }
}
