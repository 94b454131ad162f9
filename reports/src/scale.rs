//! Scales and ticks of chart axes.
//!
//! A linear scale starts at zero, so that lengths compare. A logarithmic one spans its data from tick to tick.
//! Logarithms come from libm, so that pixels are the same on every platform.

/// Maps values to pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    log: bool,
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    /// A scale over `low..=high`, drawn from pixel `from` to pixel `to`.
    ///
    /// # Panics
    /// If the range is empty, or reaches zero on a logarithmic scale.
    pub fn new(log: bool, (low, high): (f64, f64), (from, to): (i32, i32)) -> Self {
        assert!(low < high && (!log || low > 0.0), "no scale over {low}..{high}, log {log}");
        Scale { log, low, high, from, to }
    }

    /// The pixel of a value; values outside the range are drawn at its ends.
    pub fn pixel(&self, value: f64) -> i32 {
        let value = value.clamp(self.low, self.high);
        let share = if self.log {
            libm::log10(value / self.low) / libm::log10(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (f64::from(self.to - self.from) * share).round() as i32
    }
}

/// Range and ticks of a linear axis from zero to `max`: about five round steps.
pub fn linear(max: f64) -> ((f64, f64), Vec<f64>) {
    let max = if max > 0.0 { max } else { 1.0 };
    let power = pow10(libm::floor(libm::log10(max / 5.0)) as i32);
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|s| s * power).into_iter().find(|step| max / step <= 5.5);
    let step = step.expect("ten times the power is over a fifth of max");
    let count = libm::ceil(max / step - 1e-9) as u32;
    ((0.0, f64::from(count) * step), (0..=count).map(|i| f64::from(i) * step).collect())
}

/// Range and ticks of a logarithmic axis around `min..=max`, both above zero: decades, with 2 and 5 between them
/// where there are few. The range ends at ticks of 1, 2 and 5.
pub fn logarithmic(min: f64, max: f64) -> ((f64, f64), Vec<f64>) {
    let first = libm::floor(libm::log10(min)) as i32 - 1;
    let last = libm::ceil(libm::log10(max)) as i32 + 1;
    let all: Vec<f64> = (first..=last).flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * pow10(p))).collect();
    let near = 1.0 + 1e-9;
    let mut from = all.iter().rposition(|tick| *tick <= min * near).unwrap_or(0);
    let mut to = all.iter().position(|tick| *tick * near >= max).unwrap_or(all.len() - 1);
    if from == to {
        (from, to) = (from.saturating_sub(1), (to + 1).min(all.len() - 1));
    }
    let inside = &all[from..=to];
    let decade = |i: &usize| i.is_multiple_of(3);
    let decades = (from..=to).filter(decade).count();
    let ticks =
        if decades >= 4 { (from..=to).filter(decade).map(|i| all[i]).collect() } else { inside.to_vec() };
    ((all[from], all[to]), ticks)
}

/// A power of ten, exact for what charts show.
fn pow10(power: i32) -> f64 {
    let size = (0..power.unsigned_abs()).fold(1.0, |size, _| size * 10.0);
    if power < 0 { 1.0 / size } else { size }
}

/// Moves labels apart: the places nearest to `wanted` (least squares, order kept, ties in their order) that are at
/// least `gap` apart and lie in `range` if there is room.
pub fn apart(wanted: &[i32], gap: i32, range: (i32, i32)) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|i| wanted[*i]); // stable
    // Without the gaps the places must only not fall: pool neighbours that do, at their mean.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (rank, i) in order.iter().enumerate() {
        let mut pool = (f64::from(wanted[*i]) - rank as f64 * f64::from(gap), 1);
        while let Some(&(mean, count)) = pools.last().filter(|last| last.0 > pool.0) {
            let all = pool.1 + count;
            pool = ((mean * count as f64 + pool.0 * pool.1 as f64) / all as f64, all);
            pools.pop();
        }
        pools.push(pool);
    }
    let last = f64::from(range.1) - wanted.len().saturating_sub(1) as f64 * f64::from(gap);
    let bases = pools.iter().flat_map(|(mean, count)| std::iter::repeat_n(*mean, *count));
    let mut places = vec![0; wanted.len()];
    for ((rank, i), base) in order.iter().enumerate().zip(bases) {
        let base = base.min(last).max(f64::from(range.0));
        places[*i] = (base + rank as f64 * f64::from(gap)).round() as i32;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_starts_at_zero_and_ends_at_a_round_tick() {
        assert_eq!(linear(105.0), ((0.0, 120.0), vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]));
        assert_eq!(linear(100.0).1.last(), Some(&100.0));
        assert_eq!(linear(0.0).0, (0.0, 1.0));
    }

    #[test]
    fn a_logarithmic_axis_holds_its_data_between_ticks() {
        assert_eq!(
            logarithmic(1.6, 105.0),
            ((1.0, 200.0), vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0])
        );
        assert_eq!(logarithmic(1.0, 1000.0), ((1.0, 1000.0), vec![1.0, 10.0, 100.0, 1000.0]));
        assert_eq!(logarithmic(5.0, 5.0), ((2.0, 10.0), vec![2.0, 5.0, 10.0]));
    }

    #[test]
    fn labels_that_would_overlap_move_apart_around_their_middle() {
        assert_eq!(apart(&[100, 300, 104], 16, (0, 400)), [94, 300, 110]);
        assert_eq!(apart(&[50, 50, 50], 10, (0, 400)), [40, 50, 60]);
        assert_eq!(apart(&[398, 399], 16, (0, 400)), [384, 400]);
        assert_eq!(apart(&[2, 1], 16, (0, 400)), [16, 0]);
    }
}
