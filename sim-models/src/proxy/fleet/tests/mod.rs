//! Tests of the fleet.

mod faults;
mod oracle;
mod rig;
mod scenes;
mod sizes;
