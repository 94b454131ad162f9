//! Ranges with their addresses known, and which address of one a connection gets
//! (`nf_nat_core.c:find_best_ips_proto`). What a rule asks for ([`NatRange`](crate::kernel::hook::NatRange)) may leave
//! the address to a device; the path fills it in.

use super::{Manip, Tuple};
use sim_core::classify::hash::{jhash2, reciprocal_scale};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses and ports to translate into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First and last address; the connection keeps its own if there are none.
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// First and last port (`NF_NAT_RANGE_PROTO_SPECIFIED`).
    pub ports: Option<(u16, u16)>,
    /// The search begins as far into the range as the port is from this one (`NF_NAT_RANGE_PROTO_OFFSET`).
    pub port_base: Option<u16>,
    /// The port is always drawn (`--random`, `--random-fully`).
    pub random: bool,
    /// A client gets the same address whatever it talks to (`--persistent`).
    pub persistent: bool,
}

impl Bounds {
    /// One address, ports as they are.
    pub fn address(addr: IpAddr) -> Self {
        Bounds { addrs: Some((addr, addr)), ports: None, port_base: None, random: false, persistent: false }
    }

    /// Whether a source is one of the range's (`in_range`).
    pub fn holds(&self, at: SocketAddr) -> bool {
        let ip = at.ip();
        let address =
            self.addrs.is_none_or(|(low, high)| low.is_ipv4() == ip.is_ipv4() && low <= ip && ip <= high);
        address && self.ports.is_none_or(|(low, high)| (low..=high).contains(&at.port()))
    }

    /// The reply tuple with the address that the range gives the connection.
    pub(super) fn choose_address(&self, reply: Tuple, manip: Manip) -> Tuple {
        let Some((low, high)) = self.addrs else { return reply };
        let ip = if low == high { low } else { self.spread(&reply, (low, high)) };
        match manip {
            Manip::Source => Tuple { dst: SocketAddr::new(ip, reply.dst.port()), ..reply },
            Manip::Destination => Tuple { src: SocketAddr::new(ip, reply.src.port()), ..reply },
        }
    }

    /// An address by a hash of source and destination, word by word: once a word is not the last address's, the
    /// following words may be anything.
    fn spread(&self, reply: &Tuple, (low, high): (IpAddr, IpAddr)) -> IpAddr {
        let (src, dst) = (memory_words(reply.dst.ip()), memory_words(reply.src.ip()));
        let words = if low.is_ipv4() { 1 } else { 4 };
        let mut hash = jhash2(&src, if self.persistent { 0 } else { dst[words - 1] });
        let (low, high) = (host_words(low), host_words(high));
        let mut out = [0u32; 4];
        let mut anything = false;
        for i in 0..words {
            let (least, width) =
                if anything { (0, u32::MAX) } else { (low[i], high[i].wrapping_sub(low[i]).wrapping_add(1)) };
            out[i] = least.wrapping_add(reciprocal_scale(hash, width));
            anything |= out[i] != high[i];
            if !self.persistent {
                hash ^= dst[i];
            }
        }
        match words {
            1 => IpAddr::V4(Ipv4Addr::from(out[0])),
            _ => {
                let bits = out.iter().fold(0u128, |bits, &w| bits << 32 | u128::from(w));
                IpAddr::V6(Ipv6Addr::from(bits))
            }
        }
    }
}

/// Words of an address as they lie in memory on a little-endian machine; an IPv4 address is the first.
fn memory_words(ip: IpAddr) -> [u32; 4] {
    host_words(ip).map(u32::swap_bytes)
}

fn host_words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(a) => [u32::from(a), 0, 0, 0],
        IpAddr::V6(a) => {
            let bits = u128::from(a);
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}
