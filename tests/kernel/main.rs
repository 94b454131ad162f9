//! The model against the real kernel: rules that `windtunnel rules` printed, loaded in private network namespaces.
//!
//! - `loading.rs`: what the tools save is what was loaded;
//! - `lab.rs`: packets go where the model says, and hit the rules that it says; `rounds.rs` sends and compares.
//!
//! Needs root and the packages iptables, nftables, iproute2, ipset, nfacct, procps and python3. Without them a test says
//! `skipped: needs ...` and passes, unless `CI=true`.

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod clusters;
mod counters;
mod flows;
mod lab;
mod loading;
mod place;
mod predict;
mod rounds;
