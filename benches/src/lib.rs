//! Shared set-up of the benches: the work that they measure, without a clock.

pub mod engine;
#[cfg(feature = "peers")]
pub mod peers;
