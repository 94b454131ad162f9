//! Tests of the fleet.

mod rig;
mod scenes;
