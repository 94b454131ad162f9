//! The part of windtunnel that knows neither Linux nor Kubernetes.
//!
//! * [`des`]: the event engine (a hybrid ladder queue, enum events by value, cancellable timers).
//! * [`classify`]: packets, verdicts, exact work counters, and the lookup structures that fill them.
//! * [`stats`]: histograms, estimators and intervals.
//! * [`units`], [`rng`], [`dist`]: time in whole nanoseconds, one random stream per purpose, own samplers.
//! * [`record`]: what a run leaves behind, the only thing that reports read.
//!
//! Nothing here touches files, clocks, the environment or threads. `des` and `classify` do not import each
//! other.

pub mod classify;
pub mod des;
pub mod dist;
pub mod record;
pub mod rng;
pub mod stats;
pub mod units;
