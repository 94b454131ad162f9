//! Packets as a person types them: `tcp 10.244.1.5:40000 > 10.96.0.1:443`, the inverse of [`Packet`]'s `Display`.
//!
//! Taken too: `->` for `>`, addresses without ports where the protocol has none, and a source without a port, which
//! then is [`ANY_SPORT`]. A TCP packet is a SYN; flags and mark have options of their own.
//!
//! A protocol is a name or a number; `icmp` between IPv6 addresses is ICMPv6.
//!
//! Left out: options, lengths, fragments, ICMP types.

use super::packet::{Family, Packet, Proto, TcpFlags};
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

/// The source port of a packet that was written without one.
pub const ANY_SPORT: u16 = 40_000;

/// Words for protocols that a packet is mostly written with.
const WORDS: &[&str] = &["tcp", "udp", "sctp", "icmp", "icmpv6"];

/// How a packet is written.
const FORM: &str = "PROTOCOL SOURCE[:PORT] > DESTINATION:PORT, as in `tcp 10.244.1.5:40000 > 10.96.0.1:443`";

/// Why a text is no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PacketError {
    /// The part of the text that is wrong, in bytes; empty at the end where something is missing.
    pub at: Range<usize>,
    /// What is wrong, in one line.
    pub message: String,
    /// What is allowed instead.
    pub allowed: String,
    /// The words that could have been meant, where there are few.
    pub words: &'static [&'static str],
}

impl PacketError {
    fn new(at: Range<usize>, message: impl Into<String>, allowed: impl Into<String>) -> Self {
        PacketError { at, message: message.into(), allowed: allowed.into(), words: &[] }
    }
}

impl FromStr for Proto {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let number = if is_number { text.parse().ok().map(Proto::from_number) } else { None };
        number.or_else(|| Proto::from_name(&text.to_ascii_lowercase())).ok_or(())
    }
}

/// An address with the port that was written beside it.
type Side = (IpAddr, Option<u16>);

impl FromStr for Packet {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self, PacketError> {
        let end = text.trim_end().len();
        let (arrow, wide) = match (text.find("->"), text.find('>')) {
            (Some(at), _) => (at, 2),
            (None, Some(at)) => (at, 1),
            (None, None) => return Err(PacketError::new(end..end, "a packet goes `>` somewhere", FORM)),
        };
        let left = trimmed(text, 0..arrow);
        let right = trimmed(text, arrow + wide..text.len());
        let word =
            left.start..left.start + text[left.clone()].find(char::is_whitespace).unwrap_or(left.len());
        let source = trimmed(text, word.end..left.end);
        let proto: Proto = text[word.clone()].parse().map_err(|()| {
            // `10.0.0.1:1 > 10.0.0.2:2` lacks its first word.
            let is_side = side(text, word.clone(), "").is_ok();
            let message = match &text[word.clone()] {
                _ if is_side => "the protocol is missing".to_owned(),
                "" => "the protocol is missing".to_owned(),
                other => format!("`{other}` is no protocol that packets have here"),
            };
            let allowed = format!("{}, or a protocol's name or number", WORDS.join(", "));
            PacketError {
                words: if is_side { &[] } else { WORDS },
                ..PacketError::new(word.clone(), message, allowed)
            }
        })?;
        let (src, sport) = side(text, source.clone(), "source")?;
        let (dst, dport) = side(text, right.clone(), "destination")?;
        if Family::of(src) != Family::of(dst) {
            let message = "source and destination are of different families";
            return Err(PacketError::new(right, message, "both IPv4, or both IPv6"));
        }
        let proto = match (proto, Family::of(dst)) {
            (Proto::Icmp, Family::Ipv6) => Proto::Icmpv6,
            (Proto::Icmpv6, Family::Ipv4) => {
                let message = "ICMPv6 goes between IPv6 addresses";
                return Err(PacketError::new(word, message, "icmp"));
            }
            (proto, _) => proto,
        };
        let has_ports = proto.has_ports();
        let (sport, dport) = match (has_ports, sport, dport) {
            (true, sport, Some(dport)) => (sport.unwrap_or(ANY_SPORT), dport),
            (true, _, None) => {
                let allowed = if dst.is_ipv6() { format!("[{dst}]:PORT") } else { format!("{dst}:PORT") };
                let message = format!("a {proto} packet needs the port it goes to");
                return Err(PacketError::new(right.end..right.end, message, allowed));
            }
            (false, None | Some(0), None | Some(0)) => (0, 0),
            (false, Some(_), _) => return Err(no_ports(proto, source)),
            (false, _, Some(_)) => return Err(no_ports(proto, right)),
        };
        let flags = if proto == Proto::Tcp { TcpFlags::SYN } else { TcpFlags::default() };
        Ok(Packet { proto, flags, ..Packet::tcp_syn(src, sport, dst, dport) })
    }
}

fn no_ports(proto: Proto, at: Range<usize>) -> PacketError {
    PacketError::new(at, format!("{proto} has no ports"), "an address alone")
}

/// `range` without blanks at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..(start + part.trim().len())
}

/// `10.0.0.1:80`, `[fd00::1]:80`, or an address alone.
fn side(text: &str, at: Range<usize>, what: &str) -> Result<Side, PacketError> {
    const ADDRESS: &str = "10.96.0.1:443 or [fd00::1]:443";
    let part = &text[at.clone()];
    if part.is_empty() {
        return Err(PacketError::new(at, format!("the {what} is missing"), FORM));
    }
    if let Ok(addr) = part.parse() {
        return Ok((addr, None));
    }
    let wrong = |from: usize, to: usize, message: String| {
        Err(PacketError::new(at.start + from..at.start + to, message, ADDRESS))
    };
    if let Some(space) = part.find(char::is_whitespace) {
        let rest = part[space..].trim_start();
        return wrong(part.len() - rest.len(), part.len(), format!("there is more than the {what} here"));
    }
    let (addr, port, port_from) = match (part.strip_prefix('['), part.rfind(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((addr, "")) => (addr, None, 0),
            Some((addr, tail)) if tail.starts_with(':') => (addr, Some(&tail[1..]), addr.len() + 3),
            _ => return wrong(0, part.len(), "`[` without `]` and a port".to_owned()),
        },
        (None, Some(colon)) => (&part[..colon], Some(&part[colon + 1..]), colon + 1),
        (None, None) => (part, None, 0),
    };
    let bracketed = part.starts_with('[');
    let parsed = match addr.parse::<IpAddr>() {
        Ok(addr) if addr.is_ipv6() == bracketed => addr,
        Ok(addr) if bracketed => {
            return wrong(0, part.len(), format!("{addr} is no IPv6 address: no brackets"));
        }
        _ if !bracketed && part.matches(':').count() > 1 => {
            return wrong(
                0,
                part.len(),
                format!("`{part}` is no IPv6 address; one with a port stands in [ ]"),
            );
        }
        _ => {
            let from = usize::from(bracketed);
            return wrong(from, from + addr.len(), format!("`{addr}` is no IP address"));
        }
    };
    let Some(port) = port else { return Ok((parsed, None)) };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if is_number => Ok((parsed, Some(port))),
        _ => {
            let at = at.start + port_from..at.end;
            Err(PacketError::new(at, format!("`{port}` is no port"), "a number from 0 to 65535"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn wrong(text: &str, marked: &str, message: &str) {
        let error = text.parse::<Packet>().expect_err(text);
        assert_eq!((&text[error.at.clone()], error.message.as_str()), (marked, message), "{text}");
        assert!(!error.allowed.is_empty(), "{text}");
    }

    #[test]
    fn what_is_wrong_with_a_packet_has_a_place() {
        wrong("", "", "a packet goes `>` somewhere");
        wrong("tpc 10.0.0.1:1 > 10.0.0.2:2", "tpc", "`tpc` is no protocol that packets have here");
        wrong("10.0.0.1:1 > 10.0.0.2:2", "10.0.0.1:1", "the protocol is missing");
        wrong(" > ", "", "the protocol is missing");
        wrong("tcp > 10.0.0.2:2", "", "the source is missing");
        wrong("tcp 10.0.0.1:1 >", "", "the destination is missing");
        wrong("tcp 10.0.0.1:1 > 10.0.0.2", "", "a tcp packet needs the port it goes to");
        wrong("tcp 10.0.0.1:1 > 10.0.0.256:2", "10.0.0.256", "`10.0.0.256` is no IP address");
        wrong("udp 10.0.0.1:1 > 10.0.0.2:65536", "65536", "`65536` is no port");
        wrong("udp 10.0.0.1:+1 > 10.0.0.2:2", "+1", "`+1` is no port");
        wrong("udp [fd00::1]:x > [fd00::2]:2", "x", "`x` is no port");
        wrong("udp [fd00::1 > [fd00::2]:2", "[fd00::1", "`[` without `]` and a port");
        wrong("udp [10.0.0.1]:5 > 10.0.0.2:2", "[10.0.0.1]:5", "10.0.0.1 is no IPv6 address: no brackets");
        wrong(
            "udp fd00:::1:53 > [fd00::2]:2",
            "fd00:::1:53",
            "`fd00:::1:53` is no IPv6 address; one with a port stands in [ ]",
        );
        wrong(
            "tcp 10.0.0.1:1 > [fd00::1]:2",
            "[fd00::1]:2",
            "source and destination are of different families",
        );
        wrong("icmpv6 10.0.0.1 > 10.0.0.2", "icmpv6", "ICMPv6 goes between IPv6 addresses");
        wrong("256 10.0.0.1 > 10.0.0.2", "256", "`256` is no protocol that packets have here");
        wrong("gre 10.0.0.1:7 > 10.0.0.2", "10.0.0.1:7", "gre has no ports");
        wrong("icmp 10.0.0.1:7 > 10.0.0.2", "10.0.0.1:7", "icmp has no ports");
        wrong("tcp 10.0.0.1:1 > 10.0.0.2:2 now", "now", "there is more than the destination here");
        wrong(
            "tcp 10.0.0.1:1 > 10.0.0.2:2 > 10.0.0.3:3",
            "> 10.0.0.3:3",
            "there is more than the destination here",
        );
    }

    #[test]
    fn what_can_be_left_out_may_be_left_out() {
        let same = |a: &str, b: &str| assert_eq!(a.parse::<Packet>(), b.parse::<Packet>(), "{a}");
        same("tcp 10.0.0.1 > 10.0.0.2:2", "tcp 10.0.0.1:40000 > 10.0.0.2:2");
        same("  TCP 10.0.0.1:1->10.0.0.2:2 ", "tcp 10.0.0.1:1 > 10.0.0.2:2");
        same("icmp 10.0.0.1 > 10.0.0.2", "icmp 10.0.0.1:0 > 10.0.0.2:0");
        same("icmp fd00::1 > fd00::2", "ipv6-icmp fd00::1 > fd00::2");
        same("47 10.0.0.1 > 10.0.0.2", "GRE 10.0.0.1 > 10.0.0.2");
        same("udp fd00::1 > [fd00::2]:53", "udp [fd00::1]:40000 > [fd00::2]:53");
    }

    proptest! {
        #[test]
        fn a_printed_packet_reads_back(
            v6: bool, a: u128, b: u128, proto: u8, sport: u16, dport: u16,
        ) {
            let addr = |bits: u128| -> IpAddr {
                if v6 { std::net::Ipv6Addr::from_bits(bits).into() }
                else { std::net::Ipv4Addr::from_bits(bits as u32).into() }
            };
            let proto = match (Proto::from_number(proto), v6) {
                (Proto::Icmp, true) => Proto::Icmpv6,
                (Proto::Icmpv6, false) => Proto::Icmp,
                (proto, _) => proto,
            };
            let (sport, dport) = if proto.has_ports() { (sport, dport) } else { (0, 0) };
            let flags = if proto == Proto::Tcp { TcpFlags::SYN } else { TcpFlags::default() };
            let packet = Packet { proto, flags, ..Packet::tcp_syn(addr(a), sport, addr(b), dport) };
            prop_assert_eq!(packet.to_string().parse::<Packet>(), Ok(packet));
        }

        #[test]
        fn no_text_breaks_the_reader_and_faults_lie_in_the_text(text in "\\PC{0,40}") {
            if let Err(error) = text.parse::<Packet>() {
                prop_assert!(text.get(error.at).is_some());
            }
        }
    }
}
