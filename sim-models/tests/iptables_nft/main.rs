//! iptables-nft: xtables rules as the expressions that the real tool sends, and packets through them.

mod expressions;
#[allow(dead_code, reason = "the tests of iptables use the rest")]
#[path = "../../../tests/support/lab.rs"]
mod lab;
mod packets;
#[allow(dead_code, reason = "the tests of nftables use the rest")]
#[path = "../nftables/support.rs"]
mod support;
