//! Estimators over floats: running mean and variance, batch means, the end of the warm-up, the median.

/// Mean and variance of a stream of numbers (Welford's recurrence).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    count: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

impl Summary {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `value`.
    pub fn record(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean; nothing if empty.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Unbiased sample variance; nothing below two values.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }

    /// Standard deviation; nothing below two values.
    pub fn deviation(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }
}

impl FromIterator<f64> for Summary {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut summary = Summary::new();
        values.into_iter().for_each(|value| summary.record(value));
        summary
    }
}

/// Means of `batches` equal stretches of a series, in order; a remainder at the front is left out, since the front
/// is where a warm-up would still show.
///
/// # Panics
/// If `batches` is zero or there are fewer values than batches.
pub fn batch_means(series: &[f64], batches: usize) -> Vec<f64> {
    assert!(batches > 0 && series.len() >= batches, "{} values in {batches} batches", series.len());
    let size = series.len() / batches;
    let settled = &series[series.len() - size * batches..];
    settled.chunks_exact(size).map(|batch| batch.iter().sum::<f64>() / size as f64).collect()
}

/// How many values at the front of a series to leave out as warm-up: the MSER-5 rule (White 1997). The series is
/// taken in groups of five; the cut is where the mean of what remains is most precise. Nothing if the best cut is
/// in the second half: the series is too short to tell.
pub fn warm_up(series: &[f64]) -> Option<usize> {
    const GROUP: usize = 5;
    let groups: Vec<f64> =
        series.chunks_exact(GROUP).map(|group| group.iter().sum::<f64>() / GROUP as f64).collect();
    // From the back, so that one pass gives the variance of every remainder.
    let mut rest = Summary::new();
    let mut best: Option<(f64, usize)> = None;
    for (cut, &mean) in groups.iter().enumerate().rev() {
        rest.record(mean);
        // The last few groups agree by chance.
        if rest.count() < 5 {
            continue;
        }
        let error = rest.squares / (rest.count() as f64 * rest.count() as f64);
        if best.is_none_or(|(least, _)| error <= least) {
            best = Some((error, cut));
        }
    }
    best.filter(|&(_, cut)| cut <= groups.len() / 2).map(|(_, cut)| cut * GROUP)
}

/// The median, the mean of the middle two for an even number; nothing if empty.
///
/// # Panics
/// If a value is not a number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    assert!(sorted.iter().all(|v| !v.is_nan()), "no order among {values:?}");
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn mean_and_variance_equal_the_textbook_formulas_far_from_zero() {
        let summary: Summary = [4.0, 7.0, 13.0, 16.0].map(|v| v + 1e9).into_iter().collect();
        assert_eq!((summary.mean(), summary.variance()), (Some(1e9 + 10.0), Some(30.0)));
        assert_eq!(Summary::from_iter([1.0]).variance(), None);
        assert_eq!(Summary::new().mean(), None);
    }

    #[test]
    fn batches_leave_a_remainder_out_at_the_front() {
        assert_eq!(batch_means(&[9.0, 1.0, 3.0, 5.0, 7.0], 2), [2.0, 6.0]);
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_warm_up_ends_where_a_decaying_start_meets_the_noise() {
        let mut stream = Stream::new(1, "t", "noise");
        let series: Vec<f64> = (0..2_000)
            .map(|i| if i < 200 { 20.0 - 0.1 * i as f64 } else { 0.0 } + stream.unit_f64())
            .collect();
        let cut = warm_up(&series).unwrap();
        assert!((150..=260).contains(&cut), "{cut}");
        let trend: Vec<f64> = (0..2_000).map(|i| i as f64).collect();
        assert_eq!(warm_up(&trend), None);
    }
}
