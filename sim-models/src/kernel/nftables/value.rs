//! Values of a type, as nft writes them and as they lie in registers (nftables `src/datatype.c`, `src/proto.c`,
//! `src/meta.c`, `src/ct.c`, `src/fib.c`).
//!
//! Numbers of headers are in network order, the kernel's own (marks, indices, states) in the order of the machine,
//! little-endian here. Left out: every type that is not listed, and names of users other than by number.

use super::expr::meta::{IFACE_NAME, iface_index};
use crate::kernel::dump::decimal;
use serde_json::Value;
use sim_core::classify::Family;
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A value's bytes.
pub type Bytes = SmallVec<[u8; 16]>;

/// The type of what a rule compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// An address of the table's family.
    Addr,
    /// `inet_service`.
    Port,
    /// `inet_proto`.
    Proto,
    /// `ifname`.
    Iface,
    /// A device by its index. Its value here is the name, as nft prints it.
    Index,
    /// `mark`.
    Mark,
    /// `ct_state`: bits.
    CtState,
    /// `ct_status`: bits.
    CtStatus,
    /// `ct_dir`.
    CtDir,
    /// `fib_addrtype`.
    FibType,
    /// `tcp_flag`: bits.
    TcpFlags,
    /// A user's number.
    Uid,
    /// A number of a generator or a hash.
    Number,
}

const PROTOS: [(u8, &str); 14] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (89, "ospf"),
    (108, "comp"),
    (112, "vrrp"),
    (132, "sctp"),
    (136, "udplite"),
];

/// Names of bits in the order in which nft lists them. Of a connection's status only what the model knows.
const CT_STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: [(u32, &str); 2] = [(1 << 4, "snat"), (1 << 5, "dnat")];
const TCP_FLAGS: [(u32, &str); 8] =
    [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];
const FIB_TYPES: [(u32, &str); 9] = [
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const CT_DIRS: [(u32, &str); 2] = [(0, "original"), (1, "reply")];

impl DataType {
    /// Bytes of a value in registers.
    pub fn len(self, family: Family) -> u8 {
        match self {
            DataType::Addr if family == Family::Ipv4 => 4,
            DataType::Addr => 16,
            DataType::Port => 2,
            DataType::Proto | DataType::CtDir | DataType::TcpFlags => 1,
            DataType::Iface => 16,
            DataType::Index
            | DataType::Mark
            | DataType::CtState
            | DataType::CtStatus
            | DataType::FibType
            | DataType::Uid
            | DataType::Number => 4,
        }
    }

    /// Whether values are in network order, so that their bytes compare as the numbers do.
    pub fn is_ordered(self) -> bool {
        matches!(self, DataType::Addr | DataType::Port | DataType::Proto)
    }

    /// Names of the values' bits, if a value is a set of bits.
    pub fn bits(self) -> Option<&'static [(u32, &'static str)]> {
        match self {
            DataType::CtState => Some(&CT_STATES),
            DataType::CtStatus => Some(&CT_STATUS),
            DataType::TcpFlags => Some(&TCP_FLAGS),
            _ => None,
        }
    }

    fn names(self) -> Option<&'static [(u32, &'static str)]> {
        match self {
            DataType::FibType => Some(&FIB_TYPES),
            DataType::CtDir => Some(&CT_DIRS),
            other => other.bits(),
        }
    }

    fn of_number(self, number: u32) -> Bytes {
        match self {
            DataType::Proto | DataType::CtDir | DataType::TcpFlags => {
                Bytes::from_slice(&number.to_le_bytes()[..1])
            }
            _ => Bytes::from_slice(&number.to_le_bytes()),
        }
    }

    /// A value as registers hold it.
    pub fn register(self, bytes: &[u8]) -> Bytes {
        match self {
            DataType::Index => self.of_number(iface_index(iface_name(bytes))),
            _ => Bytes::from_slice(bytes),
        }
    }

    /// Reads a value as nft's text has it.
    pub fn parse(self, word: &str, family: Family) -> Option<Bytes> {
        if let Some(names) = self.names() {
            return names.iter().find(|(_, name)| *name == word).map(|(n, _)| self.of_number(*n));
        }
        match self {
            DataType::Addr => match word.parse::<IpAddr>().ok()? {
                IpAddr::V4(a) if family == Family::Ipv4 => Some(Bytes::from_slice(&a.octets())),
                IpAddr::V6(a) if family == Family::Ipv6 => Some(Bytes::from_slice(&a.octets())),
                _ => None,
            },
            DataType::Port => decimal::<u16>(word).map(|p| Bytes::from_slice(&p.to_be_bytes())),
            DataType::Proto => {
                let named = PROTOS.iter().find(|(_, name)| *name == word).map(|(n, _)| *n);
                named.or_else(|| decimal(word)).map(|n| Bytes::from_slice(&[n]))
            }
            DataType::Iface | DataType::Index => {
                let name = word.strip_prefix('"').and_then(|w| w.strip_suffix('"')).unwrap_or(word);
                iface(name)
            }
            DataType::Mark => {
                let hex = u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
                Some(self.of_number(hex))
            }
            _ => decimal(word).map(|n| self.of_number(n)),
        }
    }

    /// Writes a value as nft's text has it.
    pub fn print(self, bytes: &[u8], out: &mut String) {
        match self {
            DataType::Iface | DataType::Index => write!(out, "\"{}\"", iface_name(bytes)),
            DataType::Mark => write!(out, "{:#010x}", number(bytes)),
            _ => return self.print_plain(bytes, out),
        }
        .expect("a string takes any text");
    }

    fn print_plain(self, bytes: &[u8], out: &mut String) {
        let n = number(bytes);
        if let Some((_, name)) = self.names().and_then(|names| names.iter().find(|(of, _)| *of == n)) {
            return out.push_str(name);
        }
        match self {
            DataType::Addr => write!(out, "{}", addr(bytes)),
            DataType::Port => write!(out, "{}", u16::from_be_bytes([bytes[0], bytes[1]])),
            DataType::Proto => match PROTOS.iter().find(|(of, _)| *of == bytes[0]) {
                Some((_, name)) => write!(out, "{name}"),
                None => write!(out, "{}", bytes[0]),
            },
            _ => write!(out, "{n}"),
        }
        .expect("a string takes any text");
    }

    /// Writes a value as nft's JSON has it.
    pub fn print_json(self, bytes: &[u8], out: &mut String) {
        match self {
            DataType::Port | DataType::Mark | DataType::Uid | DataType::Number => {
                let n = if self == DataType::Port {
                    u32::from(u16::from_be_bytes([bytes[0], bytes[1]]))
                } else {
                    number(bytes)
                };
                write!(out, "{n}").expect("a string takes any text");
            }
            DataType::Iface | DataType::Index => self.print(bytes, out),
            DataType::Proto if !PROTOS.iter().any(|(of, _)| *of == bytes[0]) => self.print_plain(bytes, out),
            _ => {
                out.push('"');
                self.print_plain(bytes, out);
                out.push('"');
            }
        }
    }

    /// Reads a value of nft's JSON.
    pub fn parse_json(self, value: &Value, family: Family) -> Option<Bytes> {
        match (self, value) {
            (DataType::Mark, Value::Number(n)) => Some(self.of_number(u32::try_from(n.as_u64()?).ok()?)),
            (DataType::Port | DataType::Uid | DataType::Number | DataType::Proto, Value::Number(n)) => {
                self.parse(&n.to_string(), family)
            }
            (DataType::Port | DataType::Uid | DataType::Number | DataType::Mark, _) => None,
            (DataType::Iface | DataType::Index, Value::String(name)) => iface(name),
            (_, Value::String(word)) => self.parse(word, family),
            _ => None,
        }
    }
}

/// A device's name in all its bytes; none with a wildcard, which is compared otherwise.
fn iface(name: &str) -> Option<Bytes> {
    let is_name = !name.is_empty()
        && name.len() < IFACE_NAME
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"*\\".contains(&b));
    let mut bytes = Bytes::from_slice(name.as_bytes());
    bytes.resize(IFACE_NAME.max(name.len()), 0);
    is_name.then_some(bytes)
}

fn iface_name(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).expect("read from a text")
}

/// A number in the machine's order.
pub fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().take(4).fold(0, |n, b| n << 8 | u32::from(*b))
}

fn addr(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(four) => Ipv4Addr::from(four).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("an address")).into(),
    }
}

/// The bytes as register words, the last filled up with zeros.
pub fn words(bytes: &[u8]) -> SmallVec<[u32; 4]> {
    let word = |chunk: &[u8]| {
        let mut four = [0; 4];
        four[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(four)
    };
    bytes.chunks(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_is_written_in_text_and_in_json() {
        let rows = [
            (DataType::Addr, "10.0.0.1", "\"10.0.0.1\""),
            (DataType::Port, "8080", "8080"),
            (DataType::Proto, "ipv6-icmp", "\"ipv6-icmp\""),
            (DataType::Proto, "99", "99"),
            (DataType::Iface, "\"veth0\"", "\"veth0\""),
            (DataType::Mark, "0x00004000", "16384"),
            (DataType::CtState, "established", "\"established\""),
            (DataType::CtDir, "reply", "\"reply\""),
            (DataType::FibType, "local", "\"local\""),
            (DataType::Uid, "1000", "1000"),
        ];
        for (kind, text, json) in rows {
            let bytes = kind.parse(text, Family::Ipv4).unwrap();
            assert_eq!(bytes.len(), usize::from(kind.len(Family::Ipv4)), "{text}");
            let (mut out, mut as_json) = (String::new(), String::new());
            kind.print(&bytes, &mut out);
            kind.print_json(&bytes, &mut as_json);
            assert_eq!((&*out, &*as_json), (text, json));
            let value = serde_json::from_str(json).unwrap();
            assert_eq!(kind.parse_json(&value, Family::Ipv4), Some(bytes));
        }
        assert_eq!(DataType::Iface.parse("\"veth*\"", Family::Ipv4), None);
        assert_eq!(DataType::Addr.parse("fd00::1", Family::Ipv4), None);
    }
}
