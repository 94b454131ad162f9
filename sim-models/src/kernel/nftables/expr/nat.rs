//! `nat`: asks for a destination binding with the address and port in registers
//! (`net/netfilter/nft_nat.c:nft_nat_eval`), which also ends the evaluation of the base chain with accept.
//!
//! The binding itself (`nf_nat_setup_info`) is the business of the path.

use super::{Flow, Regs, Words};
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::Verdict;
use sim_core::classify::{Family, Unit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Destination NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    /// First register of the address.
    pub addr_reg: u8,
    /// Register of the port.
    pub port_reg: u8,
    /// Family of the address.
    pub family: Family,
}

impl Nat {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &Regs, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftNat] += 1;
        let ip = match self.family {
            Family::Ipv4 => {
                IpAddr::V4(Ipv4Addr::from_octets(regs.0[usize::from(self.addr_reg)].to_le_bytes()))
            }
            Family::Ipv6 => IpAddr::V6(ipv6(regs.wide(self.addr_reg))),
        };
        let port = u16::from_be_bytes((regs.0[usize::from(self.port_reg)] as u16).to_le_bytes());
        cx.nat.dnat = Some(SocketAddr::new(ip, port));
        Flow::Verdict(Verdict::Accept)
    }
}

fn ipv6(words: Words) -> Ipv6Addr {
    let mut octets = [0u8; 16];
    for (o, w) in octets.chunks_exact_mut(4).zip(words) {
        o.copy_from_slice(&w.to_le_bytes());
    }
    Ipv6Addr::from_octets(octets)
}
