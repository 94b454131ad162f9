//! Confidence intervals: Student's t over independent means, order statistics for quantiles.

use super::estimator::Summary;

/// How sure an interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
}

/// An estimate and how far off it may be to either side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub mean: f64,
    /// Half the width of the interval.
    pub half_width: f64,
}

impl Interval {
    /// Lower end.
    pub fn low(&self) -> f64 {
        self.mean - self.half_width
    }

    /// Upper end.
    pub fn high(&self) -> f64 {
        self.mean + self.half_width
    }

    /// Whether `value` is inside.
    pub fn contains(&self, value: f64) -> bool {
        (self.low()..=self.high()).contains(&value)
    }

    /// Half the width as a part of the mean; infinite for a mean of zero.
    pub fn relative(&self) -> f64 {
        if self.half_width == 0.0 { 0.0 } else { (self.half_width / self.mean).abs() }
    }
}

impl Confidence {
    /// Two-sided quantiles of Student's t for 1 to 30 degrees of freedom, then 40, 60, 120 and infinity.
    fn table(self) -> &'static [f64; 34] {
        match self {
            Confidence::P90 => &[
                6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771,
                1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706,
                1.703, 1.701, 1.699, 1.697, 1.684, 1.671, 1.658, 1.645,
            ],
            Confidence::P95 => &[
                12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
                2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
                2.052, 2.048, 2.045, 2.042, 2.021, 2.000, 1.980, 1.960,
            ],
            Confidence::P99 => &[
                63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012,
                2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779,
                2.771, 2.763, 2.756, 2.750, 2.704, 2.660, 2.617, 2.576,
            ],
        }
    }

    /// The two-sided quantile of Student's t. Between tabled degrees of freedom it is interpolated in their
    /// inverse, which is within 0.001 of the true value.
    ///
    /// # Panics
    /// If `freedom` is zero.
    pub fn t(self, freedom: u64) -> f64 {
        assert!(freedom > 0, "no degrees of freedom");
        let table = self.table();
        if freedom <= 30 {
            return table[freedom as usize - 1];
        }
        let knots = [
            (1.0 / 30.0, table[29]),
            (1.0 / 40.0, table[30]),
            (1.0 / 60.0, table[31]),
            (1.0 / 120.0, table[32]),
            (0.0, table[33]),
        ];
        let x = 1.0 / freedom as f64;
        let right = knots.iter().position(|knot| knot.0 <= x).expect("the last knot is zero");
        let ((x0, t0), (x1, t1)) = (knots[right - 1], knots[right]);
        t1 + (t0 - t1) * (x - x1) / (x0 - x1)
    }

    /// The two-sided quantile of the normal law.
    pub fn z(self) -> f64 {
        self.table()[33]
    }
}

/// Student's t interval for the mean of independent values: means over replications, or over batches long enough
/// to be independent. Nothing below two values.
pub fn t_interval(values: &[f64], confidence: Confidence) -> Option<Interval> {
    let summary: Summary = values.iter().copied().collect();
    let deviation = summary.deviation()?;
    let n = summary.count();
    Some(Interval { mean: summary.mean()?, half_width: confidence.t(n - 1) * deviation / (n as f64).sqrt() })
}

/// The ranks (from 1) of the order statistics that enclose quantile `q` of `n` independent values, by the normal
/// approximation of the binomial law. Nothing if the sample is too small to enclose it.
///
/// # Panics
/// If `q` is not in `(0, 1)`.
pub fn quantile_interval(n: u64, q: f64, confidence: Confidence) -> Option<(u64, u64)> {
    assert!(q > 0.0 && q < 1.0, "not an inner quantile: {q}");
    let centre = n as f64 * q;
    let reach = confidence.z() * (centre * (1.0 - q)).sqrt();
    let (low, high) = ((centre - reach).floor(), (centre + reach).ceil() + 1.0);
    (low >= 1.0 && high <= n as f64).then_some((low as u64, high as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn t_quantiles_equal_published_ones_between_the_tabled_degrees_of_freedom() {
        // From the usual tables: 35, 50, 80 and 100 degrees of freedom at 95 %.
        for (freedom, t) in [(1, 12.706), (10, 2.228), (35, 2.030), (50, 2.009), (80, 1.990), (100, 1.984)] {
            assert!(
                (Confidence::P95.t(freedom) - t).abs() < 0.0015,
                "{freedom}: {}",
                Confidence::P95.t(freedom)
            );
        }
        assert!((Confidence::P99.t(50) - 2.678).abs() < 0.0015);
        assert!((Confidence::P90.t(50) - 1.676).abs() < 0.0015);
    }

    #[test]
    fn an_interval_is_the_textbooks_for_four_values() {
        let interval = t_interval(&[4.0, 7.0, 13.0, 16.0], Confidence::P95).unwrap();
        assert_eq!(interval.mean, 10.0);
        assert!((interval.half_width - 3.182 * 30f64.sqrt() / 2.0).abs() < 1e-9);
        assert!(interval.contains(2.0) && !interval.contains(1.0));
        assert_eq!(t_interval(&[1.0], Confidence::P95), None);
    }

    #[test]
    fn intervals_hold_the_true_mean_and_the_true_quantile_as_often_as_they_say() {
        let mut stream = Stream::new(11, "t", "coverage");
        let (mut mean_held, mut p90_held) = (0, 0);
        for _ in 0..2_000 {
            let mut sample: Vec<f64> = (0..100).map(|_| stream.unit_f64()).collect();
            mean_held += u32::from(t_interval(&sample[..10], Confidence::P95).unwrap().contains(0.5));
            sample.sort_by(f64::total_cmp);
            let (low, high) = quantile_interval(100, 0.9, Confidence::P95).unwrap();
            p90_held += u32::from((sample[low as usize - 1]..=sample[high as usize - 1]).contains(&0.9));
        }
        assert!((1_860..=1_940).contains(&mean_held), "{mean_held} of 2000");
        assert!((1_860..=1_985).contains(&p90_held), "{p90_held} of 2000");
        assert_eq!(quantile_interval(100, 0.999, Confidence::P95), None);
    }
}
