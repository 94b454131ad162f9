//! kube-proxy's nftables mode from outside: what it writes, and what packets do in it.

mod goldens;
mod packets;
mod properties;
mod random;
mod rulesets;
mod script;
mod support;
mod syncs;
mod traces;
