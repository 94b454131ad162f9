//! `immediate`: loads a constant into registers, or the verdict
//! (`net/netfilter/nft_immediate.c:nft_immediate_eval`).

use super::{Flow, Regs};
use crate::kernel::nftables::Verdict;
use crate::kernel::nftables::linearize::addr_words;
use std::net::IpAddr;

/// A constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// An address.
    Addr {
        /// First register.
        dreg: u8,
        /// Address.
        addr: IpAddr,
    },
    /// One word.
    Word {
        /// Register.
        dreg: u8,
        /// Word.
        value: u32,
    },
    /// A verdict.
    Verdict(Verdict),
}

impl Immediate {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &mut Regs) -> Flow {
        match *self {
            Immediate::Addr { dreg, addr: IpAddr::V4(a) } => {
                regs.0[usize::from(dreg)] = u32::from_le_bytes(a.octets());
            }
            Immediate::Addr { dreg, addr } => regs.set_wide(dreg, addr_words(addr)),
            Immediate::Word { dreg, value } => regs.0[usize::from(dreg)] = value,
            Immediate::Verdict(v) => return Flow::Verdict(v),
        }
        Flow::Continue
    }
}
