//! The kernel's packet path: hooks, tables, connection tracking, NAT, IPVS, and the price of their work.

pub mod hook;
pub mod ipset;
pub mod ipvs;
pub mod nftables;
pub mod rules;
pub mod xtables;
