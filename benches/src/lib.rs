//! Shared set-up of the benches: the work that they measure, without a clock.

pub mod classify;
pub mod counted;
pub mod engine;
pub mod indexed;
pub mod ipvs;
pub mod kubectl;
pub mod nftables;
#[cfg(feature = "peers")]
pub mod peers;
