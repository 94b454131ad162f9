//! IPVS: virtual servers in a hash table, connections in another, a scheduler between them.
//!
//! Source: `net/netfilter/ipvs/`, Linux 6.12. What is written is [`VirtualServer`]s; every node whose servers
//! are equal shares one [`Services`]; what a node's own packets make (connections, counters, scheduler
//! cursors, cached routes) is its [`IpvsState`]. A packet to a Service address is delivered to kube-ipvs0, so
//! it passes INPUT, is looked up twice here (as a reply, then as a request), translated and sent on through
//! OUTPUT's hooks; replies are translated in FORWARD.
//!
//! Which kernel it is, is a matter of data: [`Tables`] of the [`Services`], the rest in [`IpvsConfig`].
//!
//! Left out: direct routing and tunnelling, firewall-mark services, FTP's helper, synchronisation to a backup,
//! ICMP errors about connections, one-packet scheduling.

mod config;
mod conn_chains;
pub mod conn_table;
mod dests;
pub mod diff;
pub mod graceful;
mod key_index;
pub mod parse;
pub mod print;
mod rht;
pub mod scheduler;
mod server;
pub mod service_table;
mod services;
pub mod shares;
mod state;
pub mod tcp_state;
mod timers;

pub use config::{IpvsConfig, LoadFactors, Tables};
pub use graceful::{GracefulTermination, Step};
pub use rht::LOAD_FACTORS;
pub use server::{Forwarding, RealServer, SchedulerFlags, ServiceKey, VirtualServer};
pub use services::{Service, ServiceError, Services};
pub use state::{Arrival, IpvsState, IpvsVerdict};

#[cfg(test)]
mod tests;
