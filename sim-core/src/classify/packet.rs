//! A packet as classification sees it: header values, by value.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Address family of a packet or a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of `addr`.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

/// Transport protocol, with its IANA number as discriminant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Proto {
    /// ICMP (1).
    Icmp = 1,
    /// TCP (6).
    Tcp = 6,
    /// UDP (17).
    Udp = 17,
    /// SCTP (132).
    Sctp = 132,
}

impl Proto {
    /// The name that iptables, nft and ipset print.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Icmp => "icmp",
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        }
    }
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The TCP flags that conntrack and IPVS look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// Synchronise.
    pub syn: bool,
    /// Acknowledge.
    pub ack: bool,
    /// Finish.
    pub fin: bool,
    /// Reset.
    pub rst: bool,
}

impl TcpFlags {
    /// The first packet of a connection.
    pub const SYN: TcpFlags = TcpFlags { syn: true, ack: false, fin: false, rst: false };
    /// The answer to a SYN.
    pub const SYN_ACK: TcpFlags = TcpFlags { syn: true, ack: true, fin: false, rst: false };
    /// Any packet in the middle of a connection.
    pub const ACK: TcpFlags = TcpFlags { syn: false, ack: true, fin: false, rst: false };
    /// The last packet of one direction.
    pub const FIN_ACK: TcpFlags = TcpFlags { syn: false, ack: true, fin: true, rst: false };
}

/// Header values of one packet. Ports are zero where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family as `src`.
    pub dst: IpAddr,
    /// Transport protocol.
    pub proto: Proto,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// TCP flags; all clear for other protocols.
    pub flags: TcpFlags,
    /// Firewall mark, set by rules on the way.
    pub mark: u32,
}

impl Packet {
    /// A TCP SYN.
    pub fn tcp_syn(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Self {
        Packet { src, dst, proto: Proto::Tcp, sport, dport, flags: TcpFlags::SYN, mark: 0 }
    }
    /// The same headers with other TCP flags.
    pub fn with_flags(self, flags: TcpFlags) -> Self {
        Packet { flags, ..self }
    }
    /// Family of the packet.
    pub fn family(&self) -> Family {
        Family::of(self.dst)
    }
}

/// `tcp 10.244.1.5:40000 > 10.96.0.1:443`, the notation of `windtunnel explain`; without ports for ICMP.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proto == Proto::Icmp {
            return write!(f, "{} {} > {}", self.proto, self.src, self.dst);
        }
        let at = |ip: IpAddr, port| std::net::SocketAddr::new(ip, port);
        write!(f, "{} {} > {}", self.proto, at(self.src, self.sport), at(self.dst, self.dport))
    }
}
