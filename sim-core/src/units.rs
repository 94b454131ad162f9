//! Simulated time: whole nanoseconds in a `u64`, with checked arithmetic.
//!
//! [`SimTime`] is a point (nanoseconds since the run began), [`SimSpan`] a length. Neither has a float form
//! inside the simulation. A raw number that leaves a newtype carries its unit in its name (`as_ns`).
//! An overflow is a bug of the model and panics with both operands.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A point in simulated time: nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SimTime(u64);

/// A length of simulated time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SimSpan(u64);

impl SimTime {
    /// The start of the run.
    pub const ZERO: SimTime = SimTime(0);
    /// The last representable instant.
    pub const MAX: SimTime = SimTime(u64::MAX);

    /// The instant `ns` nanoseconds after the start.
    #[inline]
    pub const fn from_ns(ns: u64) -> Self {
        SimTime(ns)
    }
    /// Nanoseconds since the start.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }
    /// The length from `earlier` to `self`.
    ///
    /// # Panics
    /// If `earlier` is later than `self`.
    #[inline]
    pub fn since(self, earlier: SimTime) -> SimSpan {
        SimSpan(self.0.checked_sub(earlier.0).unwrap_or_else(|| panic!("{self} is before {earlier}")))
    }
}

impl SimSpan {
    /// No time.
    pub const ZERO: SimSpan = SimSpan(0);

    /// `ns` nanoseconds.
    #[inline]
    pub const fn from_ns(ns: u64) -> Self {
        SimSpan(ns)
    }
    /// `us` microseconds.
    #[inline]
    pub const fn from_us(us: u64) -> Self {
        SimSpan(us * 1_000)
    }
    /// `ms` milliseconds.
    #[inline]
    pub const fn from_ms(ms: u64) -> Self {
        SimSpan(ms * 1_000_000)
    }
    /// `s` seconds.
    #[inline]
    pub const fn from_secs(s: u64) -> Self {
        SimSpan(s * 1_000_000_000)
    }
    /// Length in nanoseconds.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }
    /// Length in seconds, for display and rates only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// The length rounded to the nearest nanosecond, for values a cost model or a sampler computed.
    ///
    /// # Panics
    /// If `ns` is negative, not finite or too long to hold.
    #[inline]
    pub fn from_ns_f64(ns: f64) -> Self {
        // Not a number fails here too.
        assert!((0.0..1.8e19).contains(&ns), "not a span: {ns} ns");
        // As f64::round, which is a slow call where the processor has no instruction for it.
        let whole = ns as u64;
        SimSpan(whole + u64::from(ns - whole as f64 >= 0.5))
    }
    /// The sum, or the longest span if it does not fit.
    #[inline]
    pub fn saturating_add(self, other: SimSpan) -> SimSpan {
        SimSpan(self.0.saturating_add(other.0))
    }
    /// `self` times `n`.
    ///
    /// # Panics
    /// On overflow.
    #[inline]
    pub fn times(self, n: u64) -> SimSpan {
        SimSpan(self.0.checked_mul(n).unwrap_or_else(|| panic!("{self} x {n} overflows")))
    }
}

impl Add<SimSpan> for SimTime {
    type Output = SimTime;
    #[inline]
    fn add(self, span: SimSpan) -> SimTime {
        SimTime(self.0.checked_add(span.0).unwrap_or_else(|| panic!("{self} + {span} overflows")))
    }
}
impl AddAssign<SimSpan> for SimTime {
    #[inline]
    fn add_assign(&mut self, span: SimSpan) {
        *self = *self + span;
    }
}
impl Add for SimSpan {
    type Output = SimSpan;
    #[inline]
    fn add(self, other: SimSpan) -> SimSpan {
        SimSpan(self.0.checked_add(other.0).unwrap_or_else(|| panic!("{self} + {other} overflows")))
    }
}
impl AddAssign for SimSpan {
    #[inline]
    fn add_assign(&mut self, other: SimSpan) {
        *self = *self + other;
    }
}
impl Sub for SimSpan {
    type Output = SimSpan;
    #[inline]
    fn sub(self, other: SimSpan) -> SimSpan {
        SimSpan(self.0.checked_sub(other.0).unwrap_or_else(|| panic!("{self} - {other} is negative")))
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SimSpan(self.0).fmt(f)
    }
}

/// Three significant digits in the largest unit that keeps the number at one or more: `1.60us`, `320ms`.
impl fmt::Display for SimSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        let (scale, unit) = match ns {
            0..1_000 => return write!(f, "{ns}ns"),
            1_000..1_000_000 => (1e3, "us"),
            1_000_000..1_000_000_000 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let value = ns as f64 / scale;
        let decimals = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        write!(f, "{value:.decimals$}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_with_three_significant_digits() {
        let rows = [
            (0, "0ns"),
            (999, "999ns"),
            (1_604, "1.60us"),
            (33_316, "33.3us"),
            (320_000_000, "320ms"),
            (61_000_000_000, "61.0s"),
        ];
        for (ns, text) in rows {
            assert_eq!(SimSpan::from_ns(ns).to_string(), text);
        }
    }

    #[test]
    fn computed_spans_round_half_away_from_zero_as_f64_does() {
        let mut x: f64 = 0.1;
        while x < 1.7e19 {
            for ns in [x, x.floor() + 0.5, x.floor() + 0.49999, 0.49999999999999994, 4503599627370497.5] {
                assert_eq!(SimSpan::from_ns_f64(ns).as_ns(), ns.round() as u64, "{ns}");
            }
            x *= 1.37;
        }
    }

    #[test]
    #[should_panic(expected = "not a span")]
    fn a_span_that_is_not_a_number_is_a_bug() {
        let _ = SimSpan::from_ns_f64(f64::NAN);
    }

    #[test]
    #[should_panic(expected = "is before")]
    fn a_negative_span_is_a_bug() {
        let _ = SimTime::from_ns(1).since(SimTime::from_ns(2));
    }
}
