//! Packets through whatever rules a text holds: what compiles must take any packet, and come to an end.

use sim_core::classify::{Family, Packet, Proto, TcpFlags};
use sim_core::units::{SimSpan, SimTime};
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::proxy::mode;
use std::net::IpAddr;

/// `iptables-save`, `nft list ruleset` or the dumps of ipvs mode, compiled, and packets of every kind through them.
pub fn walk(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut taken = false;
    for name in ["iptables", "nftables", "ipvs"] {
        let dumps = mode(name).and_then(|mode| mode.dumps()).expect("a mode with dumps");
        for family in [Family::Ipv4, Family::Ipv6] {
            let Ok(rules) = dumps.read(text, family) else { continue };
            // What the kernel would refuse is no question of packets.
            if rules.nftables.as_ref().is_some_and(|table| table.validate().is_err()) {
                continue;
            }
            match Stack::new(&rules, 1) {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok(stack) => {
                    taken = true;
                    send_all(&stack, family, text);
                }
            }
        }
    }
    taken
}

/// Addresses of the text, so that rules are met, and some of the lab's.
fn addresses(text: &str, family: Family) -> Vec<IpAddr> {
    let usual = match family {
        Family::Ipv4 => ["192.168.0.2", "10.244.0.9", "127.0.0.1", "255.255.255.255"],
        Family::Ipv6 => ["fd00:10::2", "fd00:244::9", "::1", "ff02::1"],
    };
    let mut addresses: Vec<IpAddr> = usual.map(|addr| addr.parse().expect("an address")).into();
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':');
    let found =
        words.filter_map(|word| word.parse::<IpAddr>().ok()).filter(|addr| Family::of(*addr) == family);
    addresses.extend(found.take(12));
    addresses
}

/// Ports of the text, and zero.
fn ports(text: &str) -> Vec<u16> {
    let words = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u16>().ok());
    [0, 80, u16::MAX].into_iter().chain(words.filter(|port| *port > 1).take(8)).collect()
}

fn send_all(stack: &Stack, family: Family, text: &str) {
    let (addresses, ports) = (addresses(text, family), ports(text));
    let mut state = NodeState::new(1, "node", 2, &addresses[..1]);
    let mut now = SimTime::ZERO;
    let flags = [TcpFlags::SYN, TcpFlags::SYN_ACK, TcpFlags::ACK, TcpFlags::FIN_ACK, TcpFlags::default()];
    let protocols = [Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Icmp];
    for (n, &dst) in addresses.iter().enumerate() {
        for (m, &origin) in [Origin::Pod, Origin::Wire, Origin::Host].iter().enumerate() {
            for (p, &proto) in protocols.iter().enumerate() {
                let src = addresses[(n + m + 1) % addresses.len()];
                let at = |step: usize| {
                    if proto == Proto::Icmp { 0 } else { ports[(n + m + p + step) % ports.len()] }
                };
                let flags =
                    if proto == Proto::Tcp { flags[(n + m) % flags.len()] } else { TcpFlags::default() };
                let mark = u32::try_from(n).expect("few").wrapping_mul(0x4000);
                let syn = Packet::tcp_syn(src, at(1), dst, at(0));
                let packet = Packet { proto, flags, mark, ..syn };
                // Twice, so that the second belongs to a connection, and back.
                let first = cross(stack, &mut state, packet, origin, now);
                cross(stack, &mut state, packet, origin, now);
                let out = first.packet;
                let (src, dst, sport, dport) = (out.dst, out.src, out.dport, out.sport);
                let back = Packet { src, dst, sport, dport, mark: 0, ..out };
                cross(stack, &mut state, back, Origin::Wire, now);
                now += SimSpan::from_secs(7);
            }
        }
    }
}
