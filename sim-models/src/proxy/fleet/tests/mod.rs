//! Tests of the fleet.

mod faults;
mod rig;
mod scenes;
