//! Tuples: what tells one direction of one connection from all others (`struct nf_conntrack_tuple`).
//!
//! Left out: zones, and what ICMP has in place of ports (type and code); a packet's two port fields stand for both.

use sim_core::classify::{Packet, Proto};
use std::net::SocketAddr;

/// Addresses, ports and protocol of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Transport protocol.
    pub proto: Proto,
}

impl Tuple {
    /// The tuple of `packet`.
    pub fn of(packet: &Packet) -> Self {
        Tuple {
            src: SocketAddr::new(packet.src, packet.sport),
            dst: SocketAddr::new(packet.dst, packet.dport),
            proto: packet.proto,
        }
    }
    /// The tuple of an answer.
    pub fn reversed(self) -> Self {
        Tuple { src: self.dst, dst: self.src, proto: self.proto }
    }
}

/// Direction of a packet within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that began.
    Original,
    /// Back.
    Reply,
}
