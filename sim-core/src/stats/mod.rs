//! Statistics: histograms of whole numbers, estimators, and intervals.
//!
//! * [`Histogram`]: counts by value within 0.8 %, exact count, sum, minimum and maximum; merging does not depend
//!   on the order.
//! * [`Summary`]: mean and variance of a stream of floats.
//! * [`t_interval`], [`batch_means`], [`quantile_interval`], [`warm_up`]: what a mean over replications or over
//!   one long run is worth.

mod estimator;
mod histogram;
mod interval;

pub use estimator::{Summary, batch_means, median, warm_up};
pub use histogram::Histogram;
pub use interval::{Confidence, Interval, quantile_interval, t_interval};
