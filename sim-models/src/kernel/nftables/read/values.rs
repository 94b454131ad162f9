//! Values that text and JSON write alike: names, addresses, networks, protocols, times.

use crate::kernel::dump::decimal;
use crate::kernel::hook::{ChainKind, Hook};
use crate::kernel::nftables::{KeyType, KeyValue};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use sim_core::classify::{Family, Proto};
use sim_core::units::SimSpan;
use std::net::IpAddr;

/// Characters of a comment that are no more than that.
pub(super) fn is_comment(text: &str) -> bool {
    !text.contains(|c: char| c == '"' || c.is_control())
}

/// Whether nft takes this as the name of a table, chain or set (`src/scanner.l`).
pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
    !name.is_empty() && name.bytes().all(is_allowed)
}

/// What [`is_name`] allows, for messages.
pub(super) const NAME: &str = "a name has letters, digits, `/`, `_`, `.` and `-`";

/// `ip` or `ip6`.
pub(super) fn family(word: &str) -> Option<Family> {
    match word {
        "ip" => Some(Family::Ipv4),
        "ip6" => Some(Family::Ipv6),
        _ => None,
    }
}

/// An address of the family.
pub(super) fn addr(word: &str, family: Family) -> Option<IpAddr> {
    word.parse::<IpAddr>().ok().filter(|addr| Family::of(*addr) == family)
}

/// A network of the family, from an address and a length.
pub(super) fn prefix(word: &str, len: u8, family: Family) -> Option<IpNet> {
    let net = IpNet::new(addr(word, family)?, len).ok()?;
    (net.trunc() == net).then_some(net)
}

/// An address or a network of the family.
pub(super) fn net(word: &str, family: Family) -> Option<IpNet> {
    match word.split_once('/') {
        Some((word, len)) => prefix(word, decimal(len)?, family),
        None => addr(word, family).map(IpNet::from),
    }
}

/// The networks that are together the range, both ends included.
pub(super) fn range(from: &str, to: &str, family: Family) -> Option<Vec<IpNet>> {
    match (addr(from, family)?, addr(to, family)?) {
        (IpAddr::V4(a), IpAddr::V4(b)) if a < b => Some(Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect()),
        (IpAddr::V6(a), IpAddr::V6(b)) if a < b => Some(Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect()),
        _ => None,
    }
}

/// A protocol by name or number.
pub(super) fn proto(word: &str) -> Option<Proto> {
    [Proto::Icmp, Proto::Tcp, Proto::Udp, Proto::Sctp]
        .into_iter()
        .find(|p| p.name() == word || decimal(word) == Some(p.number()))
}

/// The type of a key's field in a table of the family.
pub(super) fn key_type(word: &str, family: Family) -> Option<KeyType> {
    match (word, family) {
        ("ipv4_addr", Family::Ipv4) | ("ipv6_addr", Family::Ipv6) => Some(KeyType::Addr),
        ("inet_proto", _) => Some(KeyType::Proto),
        ("inet_service", _) => Some(KeyType::Service),
        _ => None,
    }
}

/// Most fields of a key that fit the kernel's 64 bytes of registers in both families.
pub(super) const FIELDS_MAX: usize = 4;

/// A value of a key's field.
pub(super) fn key_value(word: &str, kind: KeyType, family: Family) -> Option<KeyValue> {
    match kind {
        KeyType::Addr => addr(word, family).map(KeyValue::Addr),
        KeyType::Proto => proto(word).map(KeyValue::Proto),
        KeyType::Service => decimal(word).map(KeyValue::Service),
    }
}

/// What [`key_value`] takes, for messages.
pub(super) fn key_value_name(kind: KeyType, family: Family) -> &'static str {
    match (kind, family) {
        (KeyType::Addr, Family::Ipv4) => "an IPv4 address",
        (KeyType::Addr, Family::Ipv6) => "an IPv6 address",
        (KeyType::Proto, _) => "a protocol: tcp, udp, sctp or icmp",
        (KeyType::Service, _) => "a port from 0 to 65535",
    }
}

/// The kind of a base chain.
pub(super) fn chain_kind(word: &str) -> Option<ChainKind> {
    match word {
        "filter" => Some(ChainKind::Filter),
        "nat" => Some(ChainKind::Nat),
        _ => None,
    }
}

/// A hook.
pub(super) fn hook(word: &str) -> Option<Hook> {
    Hook::ALL.into_iter().find(|h| h.chain_name().to_ascii_lowercase() == word)
}

/// A time as nft writes it: `2h59m58s120ms`.
pub(super) fn span(word: &str) -> Option<SimSpan> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = word;
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_alphabetic).count());
        let (_, ms) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(decimal::<u64>(number)?.checked_mul(ms)?)?;
        rest = after;
    }
    let ns = total_ms.checked_mul(1_000_000)?;
    (!word.is_empty()).then_some(SimSpan::from_ns(ns))
}

/// A set's timeout in whole seconds.
pub(super) fn timeout_seconds(word: &str) -> Option<u32> {
    let ns = span(word)?.as_ns();
    (ns % 1_000_000_000 == 0).then(|| u32::try_from(ns / 1_000_000_000).ok()).flatten()
}
