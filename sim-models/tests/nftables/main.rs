//! kube-proxy's nftables mode from outside: what it writes, and what packets do in it.

mod differences;
mod goldens;
mod json;
mod mutations;
mod packets;
mod reading;
mod rulesets;
mod script;
mod support;
mod syncs;
mod traces;
