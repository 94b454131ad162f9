//! [`Histogram`]: counts of whole numbers in log-linear buckets.
//!
//! Buckets as in HdrHistogram with three significant digits: every value below 2,048 has its own, and each power
//! of two above is cut into 1,024, so that a bucket is at most 1/1024 (0.1 %) as wide as the values in it. Count, sum,
//! minimum and maximum are kept exactly beside them. All state is whole numbers, so merging in any order gives the
//! same histogram. (Own code, since the hdrhistogram crate gives 2^64 - 2 as the bound of the last bucket.)

/// Buckets in each power of two.
const WAYS: usize = 1 << WAY_BITS;
const WAY_BITS: u32 = 10;

/// Counts of `u64` values with a bounded relative error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// By bucket, as far as the largest value needs.
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value.
fn bucket_of(value: u64) -> usize {
    let shift = (value | (2 * WAYS as u64 - 1)).ilog2() - WAY_BITS;
    shift as usize * WAYS + (value >> shift) as usize
}

/// The largest value in a bucket.
fn upper_bound_of(bucket: usize) -> u64 {
    let shift = (bucket / WAYS).saturating_sub(1);
    ((bucket - shift * WAYS) as u64) << shift | ((1 << shift) - 1)
}

impl Histogram {
    /// An empty histogram. It grows with the largest value, to 450 kB for the whole range of `u64`.
    pub fn new() -> Self {
        Histogram { counts: Vec::new(), count: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Counts `value` once.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `n` times.
    #[inline]
    pub fn record_n(&mut self, value: u64, n: u64) {
        if n == 0 {
            return;
        }
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += n;
        self.count += n;
        self.sum += u128::from(value) * u128::from(n);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of values, exact.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Sum of the values, exact.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// Least value, exact; nothing if empty.
    pub fn min(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.min)
    }

    /// Greatest value, exact; nothing if empty.
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.max)
    }

    /// Mean of the values, from the exact sum; nothing if empty.
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum as f64 / self.count() as f64)
    }

    /// The upper bound of the bucket that holds the value of rank `ceil(q n)`: at most 0.8 % above that value, and
    /// never outside of minimum and maximum. Nothing if empty.
    ///
    /// # Panics
    /// If `q` is not in `[0, 1]`.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        assert!((0.0..=1.0).contains(&q), "not a quantile: {q}");
        if self.is_empty() {
            return None;
        }
        let rank = ((q * self.count() as f64).ceil() as u64).clamp(1, self.count());
        let mut seen = 0;
        let bound = self.buckets().find_map(|(bound, count)| {
            seen += count;
            (seen >= rank).then_some(bound)
        });
        bound.map(|bound| bound.clamp(self.min, self.max))
    }

    /// How many values are at most `bound`, to the bucket that `bound` is in.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        self.counts.iter().take(bucket_of(bound) + 1).sum()
    }

    /// The inclusive upper bound of the bucket that a value is in.
    pub fn upper_bound(value: u64) -> u64 {
        upper_bound_of(bucket_of(value))
    }

    /// (inclusive upper bound, count) of the buckets that hold something, bounds rising.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let held = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        held.map(|(bucket, &count)| (upper_bound_of(bucket), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|&v| histogram.record(v));
        histogram
    }

    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..300, 1_000u64..2_000_000, any::<u64>(), Just(u64::MAX), Just(0)]
    }

    proptest! {
        #[test]
        fn quantiles_are_at_most_the_bound_above_the_order_statistic(
            mut values in prop::collection::vec(value(), 1..200), q in 0.0f64..=1.0,
        ) {
            let histogram = of(&values);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let got = histogram.quantile(q).unwrap();
            prop_assert!(got >= exact && (got - exact) as f64 <= 0.008 * exact as f64, "{got} for {exact}");
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().map(|&v| u128::from(v)).sum::<u128>());
            prop_assert_eq!(histogram.min(), values.first().copied());
            prop_assert_eq!(histogram.max(), values.last().copied());
            prop_assert_eq!(histogram.quantile(1.0), values.last().copied());
        }

        #[test]
        fn merging_in_any_order_equals_counting_everything_at_once(
            a in prop::collection::vec(value(), 0..60), b in prop::collection::vec(value(), 0..60),
        ) {
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.merge(&of(&b));
            ba.merge(&of(&a));
            let whole = of(&[a, b].concat());
            prop_assert_eq!(ab.buckets().collect::<Vec<_>>(), whole.buckets().collect::<Vec<_>>());
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(&ab, &whole);
        }
    }

    #[test]
    fn buckets_rise_and_hold_every_count() {
        let histogram = of(&[0, 1, 1, 255, 256, 257, 1_000_000, 1_000_001, u64::MAX]);
        let buckets: Vec<(u64, u64)> = histogram.buckets().collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0), "{buckets:?}");
        assert_eq!(buckets.iter().map(|b| b.1).sum::<u64>(), histogram.count());
        assert_eq!(buckets[..3], [(0, 1), (1, 2), (255, 1)]);
        assert_eq!(buckets.last(), Some(&(u64::MAX, 1)));
        assert_eq!(histogram.count_up_to(1), 3);
        assert_eq!(histogram.count_up_to(u64::MAX), 9);
    }

    #[test]
    fn an_empty_histogram_has_no_figures() {
        let empty = Histogram::new();
        assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (None, None, None, None));
        assert_eq!(empty.buckets().count(), 0);
    }
}
