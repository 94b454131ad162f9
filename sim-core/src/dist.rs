//! Own samplers on libm: the only place where transcendental functions are called.
//!
//! `f64::ln` differs between platforms and `rand_distr` between versions; libm's functions are plain Rust and
//! give the same bits everywhere.

use crate::rng::Stream;
use crate::units::SimSpan;

/// An exponential span with the given mean: the gap between arrivals of a Poisson process.
#[inline]
pub fn exponential(stream: &mut Stream, mean: SimSpan) -> SimSpan {
    // 1 - u is in (0, 1], so the logarithm is finite.
    let u = 1.0 - stream.unit_f64();
    SimSpan::from_ns_f64(-libm::log(u) * mean.as_ns() as f64)
}

/// Natural logarithm, the same bits on every platform.
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// The exponential function, the same bits on every platform.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_spans_have_the_mean_and_the_variance_of_the_law() {
        let mut s = Stream::new(7, "t", "exp");
        let n = 200_000;
        let xs: Vec<f64> = (0..n).map(|_| exponential(&mut s, SimSpan::from_us(50)).as_ns() as f64).collect();
        let mean = xs.iter().sum::<f64>() / n as f64;
        let var = xs.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        assert!((mean / 50_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((var.sqrt() / 50_000.0 - 1.0).abs() < 0.015, "deviation {}", var.sqrt());
    }
}
