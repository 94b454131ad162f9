//! Packets as bytes: made from header values with a number in them, and read back.
//!
//! The number is the packet's own through every translation: a TCP SYN has it as its sequence number, UDP in its
//! payload, an SCTP INIT as its tag; answers repeat it. An ICMP error holds the packet that it is about, and so its
//! number.

use sim_core::classify::{Packet, Proto, TcpFlags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MAGIC: &[u8; 4] = b"lab:";
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A packet that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its headers, or those of the ICMP error.
    pub packet: Packet,
    /// Its number, or that of the packet which the error is about.
    pub id: u32,
    /// Type and code, if it is an error.
    pub error: Option<(u8, u8)>,
}

/// The bytes from the IP header on.
pub fn compose(packet: &Packet, id: u32) -> Vec<u8> {
    let mut l4 = Vec::new();
    let mut put = |part: &[u8]| l4.extend_from_slice(part);
    put(&packet.sport.to_be_bytes());
    put(&packet.dport.to_be_bytes());
    let checksum_at = match packet.proto {
        Proto::Tcp => {
            let f = packet.flags;
            let (seq, ack) = match (f.syn, f.ack) {
                (true, true) => (7, id.wrapping_add(1)),
                (true, false) => (id, 0),
                _ => (id.wrapping_add(1), 8),
            };
            put(&seq.to_be_bytes());
            put(&ack.to_be_bytes());
            let bits = [(f.fin, FIN), (f.syn, SYN), (f.rst, RST), (f.ack, ACK)];
            put(&[5 << 4, bits.iter().map(|&(on, bit)| if on { bit } else { 0 }).sum()]);
            put(&64_240u16.to_be_bytes());
            put(&[0; 4]);
            Some(16)
        }
        Proto::Udp => {
            put(&16u16.to_be_bytes());
            put(&[0; 2]);
            put(MAGIC);
            put(&id.to_be_bytes());
            Some(6)
        }
        Proto::Sctp => {
            // No tag yet; then the INIT chunk: 20 bytes, its tag, window, streams, first number.
            put(&[0; 8]);
            put(&[1, 0, 0, 20]);
            put(&id.to_be_bytes());
            put(&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            None
        }
        Proto::Icmp | Proto::Icmpv6 | Proto::Other(_) => panic!("no {} is sent", packet.proto),
    };
    let length = u16::try_from(l4.len()).expect("short");
    let mut pseudo = Vec::new();
    let mut whole = match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            pseudo.extend([src.octets(), dst.octets()].concat());
            let mut ip = vec![0x45, 0];
            ip.extend((20 + length).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, 64, packet.proto.number(), 0, 0]);
            ip.extend(&pseudo);
            let sum = checksum(&ip).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            ip
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            pseudo.extend([src.octets(), dst.octets()].concat());
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend(length.to_be_bytes());
            ip.extend([packet.proto.number(), 64]);
            ip.extend(&pseudo);
            ip
        }
        (src, dst) => panic!("{src} and {dst} are of two families"),
    };
    if let Some(at) = checksum_at {
        pseudo.extend([0, packet.proto.number()]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&l4);
        let sum = checksum(&pseudo).to_be_bytes();
        l4[at..at + 2].copy_from_slice(&sum);
    } else {
        let sum = crc32c(&l4).to_le_bytes();
        l4[8..12].copy_from_slice(&sum);
    }
    whole.extend(l4);
    whole
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// SCTP's checksum (RFC 3309).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// What these bytes are, if they are one of the lab's packets or about one.
pub fn read(bytes: &[u8]) -> Option<Seen> {
    let (src, dst, proto, l4): (IpAddr, IpAddr, u8, &[u8]) = match bytes.first()? >> 4 {
        4 => {
            let addr = |at: usize| u32_at(bytes, at).map(Ipv4Addr::from);
            let header = usize::from(bytes[0] & 15) * 4;
            (addr(12)?.into(), addr(16)?.into(), *bytes.get(9)?, bytes.get(header..)?)
        }
        6 => {
            let addr = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
            (addr(8)?.into(), addr(24)?.into(), *bytes.get(6)?, bytes.get(40..)?)
        }
        _ => return None,
    };
    let mut flags = TcpFlags::default();
    let (proto, id) = match proto {
        1 | 58 => {
            let error = match (proto, l4.first()?) {
                (1, 3 | 11) | (58, 1..=4) => Some((l4[0], l4[1])),
                _ => return None,
            };
            let about = read(l4.get(8..)?)?;
            let packet = Packet::new(Proto::Icmp, src, 0, dst, 0);
            return Some(Seen { packet, id: about.id, error });
        }
        6 => {
            let bits = *l4.get(13)?;
            flags = TcpFlags {
                syn: bits & SYN != 0,
                ack: bits & ACK != 0,
                fin: bits & FIN != 0,
                rst: bits & RST != 0,
                ..TcpFlags::NONE
            };
            let (seq, ack) = (u32_at(l4, 4)?, u32_at(l4, 8)?);
            let id = match (flags.syn || flags.rst, flags.ack) {
                (true, true) => ack.wrapping_sub(1),
                (true, false) => seq,
                (false, _) => seq.wrapping_sub(1),
            };
            (Proto::Tcp, id)
        }
        17 if l4.get(8..12)? == MAGIC => (Proto::Udp, u32_at(l4, 12)?),
        132 if *l4.get(12)? == 1 => (Proto::Sctp, u32_at(l4, 16)?),
        _ => return None,
    };
    let packet = Packet { flags, ..Packet::new(proto, src, u16_at(l4, 0)?, dst, u16_at(l4, 2)?) };
    Some(Seen { packet, id, error: None })
}

/// Where it goes.
pub fn destination(packet: &Packet) -> SocketAddr {
    SocketAddr::new(packet.dst, packet.dport)
}

/// Bytes as hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex as bytes.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

#[test]
fn packets_are_read_as_they_were_made() {
    for addrs in [["10.0.0.1", "10.96.0.1"], ["fd00::1", "fd00::2"]] {
        let [src, dst]: [IpAddr; 2] = addrs.map(|addr| addr.parse().unwrap());
        let syn = Packet::tcp_syn(src, 40_000, dst, 80);
        for packet in [
            syn,
            syn.with_flags(TcpFlags::SYN_ACK),
            syn.with_flags(TcpFlags::ACK),
            Packet { proto: Proto::Udp, flags: TcpFlags::default(), ..syn },
            Packet { proto: Proto::Sctp, flags: TcpFlags::default(), ..syn },
        ] {
            let bytes = compose(&packet, 0xdead_beef);
            assert_eq!(read(&unhex(&hex(&bytes))), Some(Seen { packet, id: 0xdead_beef, error: None }));
        }
    }
    // RFC 3720, B.4: 32 bytes of zeros.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
}
