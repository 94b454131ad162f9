//! The kernel's packet path: hooks, tables, connection tracking, NAT, IPVS, and the price of their work.

mod align;
pub mod answer;
pub mod conntrack;
pub mod cost;
pub mod draw;
pub mod dump;
pub mod ebpf;
pub mod explore;
pub mod hook;
pub mod ipset;
pub mod ipvs;
pub mod narrative;
pub mod nat;
pub mod nftables;
pub mod options;
pub mod path;
pub mod portal;
pub mod rules;
pub mod trace;
pub mod xtables;
