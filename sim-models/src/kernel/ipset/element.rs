//! What sets are made of: kinds, elements, and the words that the kernel hashes for them.

use ipnet::IpNet;
use sim_core::classify::{Family, Packet, Proto};
use smallvec::SmallVec;
use std::fmt;
use std::net::IpAddr;

/// Type of a set, with the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// `hash:ip`.
    HashIp,
    /// `hash:ip,port`.
    HashIpPort,
    /// `hash:ip,port,ip`.
    HashIpPortIp,
    /// `hash:ip,port,net`.
    HashIpPortNet,
    /// `bitmap:port` over all ports.
    BitmapPort,
}

impl SetKind {
    /// The name that `ipset create` takes.
    pub fn name(self) -> &'static str {
        match self {
            SetKind::HashIp => "hash:ip",
            SetKind::HashIpPort => "hash:ip,port",
            SetKind::HashIpPortIp => "hash:ip,port,ip",
            SetKind::HashIpPortNet => "hash:ip,port,net",
            SetKind::BitmapPort => "bitmap:port",
        }
    }

    /// The key that the set match takes from a packet, or `None` where the packet has no such key and the
    /// match is false: a packet of the other family, or ports of a protocol without them.
    pub(super) fn key_of(self, family: Family, packet: &Packet, from_src: &[bool]) -> Option<SetEntry> {
        let src = |dimension: usize| from_src.get(dimension).copied().unwrap_or(false);
        let addr = |dimension| if src(dimension) { packet.src } else { packet.dst };
        let port = |dimension| if src(dimension) { packet.sport } else { packet.dport };
        if self == SetKind::BitmapPort {
            // `ip_set_get_ip_port` knows only these two.
            let has_port = matches!(packet.proto, Proto::Tcp | Proto::Udp);
            return has_port.then(|| SetEntry::Port(port(0)));
        }
        if packet.family() != family {
            return None;
        }
        let proto = packet.proto;
        Some(match self {
            SetKind::HashIp => SetEntry::Ip(addr(0)),
            SetKind::HashIpPort => SetEntry::IpPort(addr(0), proto, port(1)),
            SetKind::HashIpPortIp => SetEntry::IpPortIp(addr(0), proto, port(1), addr(2)),
            SetKind::HashIpPortNet => SetEntry::IpPortNet(addr(0), proto, port(1), IpNet::from(addr(2))),
            SetKind::BitmapPort => unreachable!("answered above"),
        })
    }
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An element of a set, or the key of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetEntry {
    /// An address.
    Ip(IpAddr),
    /// An address with protocol and port.
    IpPort(IpAddr, Proto, u16),
    /// The same with a second address.
    IpPortIp(IpAddr, Proto, u16, IpAddr),
    /// The same with a network.
    IpPortNet(IpAddr, Proto, u16, IpNet),
    /// A port of whichever protocol.
    Port(u16),
}

/// As `ipset` writes elements: `10.96.0.1,tcp:80`.
impl fmt::Display for SetEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetEntry::Ip(addr) => write!(f, "{addr}"),
            SetEntry::IpPort(addr, proto, port) => write!(f, "{addr},{proto}:{port}"),
            SetEntry::IpPortIp(addr, proto, port, other) => write!(f, "{addr},{proto}:{port},{other}"),
            SetEntry::IpPortNet(addr, proto, port, net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{addr},{proto}:{port},{}", net.addr())
            }
            SetEntry::IpPortNet(addr, proto, port, net) => write!(f, "{addr},{proto}:{port},{net}"),
            SetEntry::Port(port) => write!(f, "{port}"),
        }
    }
}

/// The words of an element, in the layout of the kernel's element structs on a little-endian machine.
pub(super) type Words = SmallVec<[u32; 12]>;

fn push_addr(words: &mut Words, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => words.push(u32::from_le_bytes(v4.octets())),
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            words.extend(octets.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
        }
    }
}

impl SetEntry {
    /// Family of its addresses, if it has any.
    pub(super) fn family(&self) -> Option<Family> {
        match self {
            SetEntry::Ip(addr) | SetEntry::IpPort(addr, ..) => Some(Family::of(*addr)),
            SetEntry::IpPortIp(addr, _, _, other) => same_family(*addr, *other),
            SetEntry::IpPortNet(addr, _, _, net) => same_family(*addr, net.addr()),
            SetEntry::Port(_) => None,
        }
    }

    /// Kind of the sets it can be in.
    pub(super) fn kind(&self) -> SetKind {
        match self {
            SetEntry::Ip(_) => SetKind::HashIp,
            SetEntry::IpPort(..) => SetKind::HashIpPort,
            SetEntry::IpPortIp(..) => SetKind::HashIpPortIp,
            SetEntry::IpPortNet(..) => SetKind::HashIpPortNet,
            SetEntry::Port(_) => SetKind::BitmapPort,
        }
    }

    /// What is hashed and compared.
    pub(super) fn words(&self) -> Words {
        let mut words = Words::new();
        // Port in network order, then protocol; in a network set the prefix length, less one, between them.
        let tail = |port: u16, third: u8, fourth: u8| {
            let [high, low] = port.to_be_bytes();
            u32::from_le_bytes([high, low, third, fourth])
        };
        match *self {
            SetEntry::Ip(addr) => push_addr(&mut words, addr),
            SetEntry::IpPort(addr, proto, port) => {
                push_addr(&mut words, addr);
                words.push(tail(port, proto.number(), 0));
            }
            SetEntry::IpPortIp(addr, proto, port, other) => {
                push_addr(&mut words, addr);
                push_addr(&mut words, other);
                words.push(tail(port, proto.number(), 0));
            }
            SetEntry::IpPortNet(addr, proto, port, net) => {
                push_addr(&mut words, addr);
                push_addr(&mut words, net.network());
                words.push(tail(port, net.prefix_len().saturating_sub(1), proto.number()));
            }
            SetEntry::Port(port) => words.push(u32::from(port)),
        }
        words
    }
}

/// The common family of two addresses; of the first if they differ, which no set accepts.
fn same_family(a: IpAddr, b: IpAddr) -> Option<Family> {
    (a.is_ipv4() == b.is_ipv4()).then(|| Family::of(a))
}
