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

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// ICMP (1).
    Icmp,
    /// TCP (6).
    Tcp,
    /// UDP (17).
    Udp,
    /// SCTP (132).
    Sctp,
    /// ICMP for IPv6 (58).
    Icmpv6,
    /// Any other, by its number. [`Proto::from_number`] makes it, so that none of those above is one of these.
    Other(u8),
}

/// Other protocols by the names that `/etc/protocols` gives them and the tools print. A number without a line here
/// is printed as a number.
const OTHER_NAMES: [(u8, &str); 20] = [
    (2, "igmp"),
    (4, "ipencap"),
    (27, "rdp"),
    (33, "dccp"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (88, "eigrp"),
    (89, "ospf"),
    (94, "ipip"),
    (103, "pim"),
    (108, "ipcomp"),
    (112, "vrrp"),
    (136, "udplite"),
];

impl Proto {
    /// The name that iptables, nft and ipset print; `other` for one without a name, which [`Display`](fmt::Display)
    /// writes as its number.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Icmp => "icmp",
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
            Proto::Icmpv6 => "ipv6-icmp",
            Proto::Other(number) => {
                OTHER_NAMES.iter().find(|(of, _)| *of == number).map_or("other", |(_, name)| name)
            }
        }
    }
    /// The IANA protocol number.
    #[inline]
    pub fn number(self) -> u8 {
        match self {
            Proto::Icmp => 1,
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
            Proto::Icmpv6 => 58,
            Proto::Other(number) => number,
        }
    }
    /// The protocol of that number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Proto::Icmp,
            6 => Proto::Tcp,
            17 => Proto::Udp,
            58 => Proto::Icmpv6,
            132 => Proto::Sctp,
            other => Proto::Other(other),
        }
    }
    /// The protocol that the tools know under `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = [Proto::Icmp, Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Icmpv6];
        let other = || OTHER_NAMES.iter().find(|(_, of)| *of == name).map(|&(n, _)| Proto::Other(n));
        match name {
            "icmpv6" => Some(Proto::Icmpv6),
            _ => named.into_iter().find(|p| p.name() == name).or_else(other),
        }
    }
    /// Whether its packets have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Proto::Tcp | Proto::Udp | Proto::Sctp | Proto::Other(33 | 136))
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proto::Other(number) if self.name() == "other" => write!(f, "{number}"),
            _ => f.write_str(self.name()),
        }
    }
}

/// TCP flags.
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
    /// Push.
    pub psh: bool,
    /// Urgent.
    pub urg: bool,
}

impl TcpFlags {
    /// No flag at all.
    pub const NONE: TcpFlags =
        TcpFlags { syn: false, ack: false, fin: false, rst: false, psh: false, urg: false };
    /// The first packet of a connection.
    pub const SYN: TcpFlags = TcpFlags { syn: true, ..TcpFlags::NONE };
    /// The answer to a SYN.
    pub const SYN_ACK: TcpFlags = TcpFlags { syn: true, ack: true, ..TcpFlags::NONE };
    /// Any packet in the middle of a connection.
    pub const ACK: TcpFlags = TcpFlags { ack: true, ..TcpFlags::NONE };
    /// The last packet of one direction.
    pub const FIN_ACK: TcpFlags = TcpFlags { ack: true, fin: true, ..TcpFlags::NONE };

    /// The byte of the header that holds them.
    pub fn bits(self) -> u8 {
        [self.fin, self.syn, self.rst, self.psh, self.ack, self.urg]
            .into_iter()
            .zip(0..)
            .fold(0, |bits, (set, at)| bits | u8::from(set) << at)
    }
}

/// Header values that few rules look at. [`Detail::ORDINARY`] is that of a whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Detail {
    /// Offset of a fragment in units of eight bytes; 0 for a whole packet and for a first fragment.
    pub fragment: u16,
    /// The packet ends before its transport header does.
    pub truncated: bool,
    /// Type and code of an ICMP or ICMPv6 message.
    pub icmp: (u8, u8),
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bytes of the packet, its IP header included.
    pub length: u16,
}

impl Detail {
    /// A whole packet of 60 bytes, the length of Linux's SYN over IPv4, from a host next door.
    pub const ORDINARY: Detail = Detail { fragment: 0, truncated: false, icmp: (0, 0), ttl: 64, length: 60 };
}

impl Default for Detail {
    fn default() -> Self {
        Detail::ORDINARY
    }
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
    /// What few rules look at.
    pub detail: Detail,
}

impl Packet {
    /// A TCP SYN.
    pub fn tcp_syn(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Self {
        Packet { flags: TcpFlags::SYN, ..Packet::new(Proto::Tcp, src, sport, dst, dport) }
    }
    /// An ordinary packet without TCP flags or a mark.
    pub fn new(proto: Proto, src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Self {
        let (flags, detail) = (TcpFlags::NONE, Detail::ORDINARY);
        Packet { src, dst, proto, sport, dport, flags, mark: 0, detail }
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

/// `tcp 10.244.1.5:40000 > 10.96.0.1:443`, the notation of `windtunnel explain`; without ports for protocols that have none.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.proto.has_ports() {
            return write!(f, "{} {} > {}", self.proto, self.src, self.dst);
        }
        let at = |ip: IpAddr, port| std::net::SocketAddr::new(ip, port);
        write!(f, "{} {} > {}", self.proto, at(self.src, self.sport), at(self.dst, self.dport))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_has_one_spelling_and_is_found_by_its_number_and_name() {
        for number in 0..=u8::MAX {
            let proto = Proto::from_number(number);
            assert_eq!(proto.number(), number);
            let written = proto.to_string();
            assert_eq!(
                Proto::from_name(&written).or(written.parse().ok().map(Proto::from_number)),
                Some(proto)
            );
        }
        assert_eq!((Proto::from_number(47).name(), Proto::Other(99).to_string()), ("gre", "99".into()));
    }

    #[test]
    fn flags_have_the_bits_of_the_header() {
        assert_eq!((TcpFlags::SYN_ACK.bits(), TcpFlags::FIN_ACK.bits()), (0x12, 0x11));
        assert_eq!(TcpFlags { psh: true, urg: true, rst: true, ..TcpFlags::NONE }.bits(), 0x2c);
    }
}
