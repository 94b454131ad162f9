//! kube-proxy's nftables mode from outside: what it writes, and what packets do in it.

mod differences;
mod general;
mod goldens;
mod json;
mod kernel;
#[allow(dead_code, reason = "the tests of iptables use the rest")]
#[path = "../../../tests/support/lab.rs"]
mod lab;
mod matrix;
mod mutations;
mod packets;
mod policies;
mod properties;
mod random;
mod reading;
mod repeated;
mod rulesets;
mod script;
mod support;
mod syncs;
mod traces;
