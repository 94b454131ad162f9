//! Expressions: the instructions of the register machine, one file each.
//!
//! Registers are 4-byte words holding bytes in the order a little-endian machine loads them from a packet, so
//! that hashes over them equal the kernel's. Only the data registers are modelled; the verdict register is the
//! [`Flow`] that an expression returns.

pub mod bitwise;
pub mod cmp;
pub mod ct;
pub mod dynset;
pub mod fib;
pub mod immediate;
pub mod lookup;
pub mod masq;
pub mod meta;
pub mod nat;
pub mod numgen;
pub mod payload;
pub mod reject;

pub use bitwise::Bitwise;
pub use cmp::Cmp;
pub use ct::{Ct, CtKey};
pub use dynset::Dynset;
pub use fib::Fib;
pub use immediate::Immediate;
pub use lookup::{Lookup, SetRef};
pub use masq::Masq;
pub use meta::Meta;
pub use nat::Nat;
pub use numgen::Numgen;
pub use payload::{Load, Payload};
pub use reject::Reject;

use super::Verdict;

/// An address as four register words; IPv4 uses the first.
pub type Words = [u32; 4];

/// The data registers: sixteen words (`struct nft_regs`, without the verdict).
#[derive(Clone, Copy, Debug, Default)]
pub struct Regs(pub [u32; 16]);

impl Regs {
    /// Four words from `reg` on.
    #[inline]
    pub fn wide(&self, reg: u8) -> Words {
        let at = usize::from(reg);
        [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]
    }
    /// Stores four words from `reg` on.
    #[inline]
    pub fn set_wide(&mut self, reg: u8, words: Words) {
        self.0[usize::from(reg)..usize::from(reg) + 4].copy_from_slice(&words);
    }
}

/// What happens after an expression: the verdict register of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Next expression (`NFT_CONTINUE`).
    Continue,
    /// Next rule (`NFT_BREAK`).
    Break,
    /// This rule decides.
    Verdict(Verdict),
    /// Discard; an error has gone to the sender.
    Reject,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Load a header field.
    Payload(Payload),
    /// Load or set a meta field.
    Meta(Meta),
    /// Load a conntrack field.
    Ct(Ct),
    /// Compare with a constant.
    Cmp(Cmp),
    /// Mask and xor.
    Bitwise(Bitwise),
    /// Load a constant or a verdict.
    Immediate(Immediate),
    /// Look up in a set or map.
    Lookup(Lookup),
    /// Generate a number.
    Numgen(Numgen),
    /// Ask the routing table for an address's type.
    Fib(Fib),
    /// Update a dynamic set.
    Dynset(Dynset),
    /// Set up a destination binding.
    Nat(Nat),
    /// Set up a masquerading source binding.
    Masq(Masq),
    /// Send an error and drop.
    Reject(Reject),
}

impl Expr {
    /// Bytes in a rule blob: the ops pointer and the private data, in units of 8 (`nft_rule` layout; sizes
    /// from the 6.18 kernel's type information).
    pub fn size(&self) -> u32 {
        match self {
            Expr::Payload(_) | Expr::Meta(_) | Expr::Ct(_) => 16,
            Expr::Cmp(c) => c.size(),
            Expr::Bitwise(b) => b.size(),
            Expr::Immediate(_) => 32,
            Expr::Lookup(_) => 56,
            Expr::Numgen(_) | Expr::Fib(_) => 24,
            Expr::Dynset(_) => 96,
            Expr::Nat(_) | Expr::Masq(_) | Expr::Reject(_) => 16,
        }
    }
}
