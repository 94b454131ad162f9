//! Expressions: the instructions of the register machine, one file each.
//!
//! Registers are 4-byte words holding bytes in the order a little-endian machine loads them from a packet, so
//! that hashes over them equal the kernel's. Only the data registers are modelled; the verdict register is the
//! [`Flow`] that an expression returns.

pub mod bitwise;
pub mod cmp;
pub mod counter;
pub mod ct;
pub mod dynset;
pub mod fib;
pub mod immediate;
pub mod limit;
pub mod log;
pub mod lookup;
pub mod masq;
pub mod meta;
pub mod nat;
pub mod numgen;
pub mod payload;
pub mod range;
pub mod reject;
pub mod xt_match;
pub mod xt_target;

pub use bitwise::Bitwise;
pub use cmp::{Cmp, Order};
pub use counter::Counter;
pub use ct::{Ct, CtKey, CtSetMark};
pub use dynset::Dynset;
pub use fib::Fib;
pub use immediate::Immediate;
pub use limit::{Limit, TimeUnit};
pub use log::Log;
pub use lookup::{Lookup, SetRef};
pub use masq::Masq;
pub use meta::{Meta, MetaKey};
pub use nat::Nat;
pub use numgen::Numgen;
pub use payload::{Load, Payload};
pub use range::Range;
pub use reject::Reject;
pub use xt_match::XtMatch;
pub use xt_target::XtTarget;

use super::Verdict;
use sim_core::classify::Unit;

/// An address as four register words; IPv4 uses the first.
pub type Words = [u32; 4];

/// The data registers: sixteen words (`struct nft_regs`, without the verdict).
#[derive(Clone, Copy, Debug, Default)]
pub struct Regs(pub [u32; 16]);

impl Regs {
    /// The word in a register. A rule that names one beyond the last is refused when it is compiled.
    #[inline]
    pub fn get(&self, reg: u8) -> u32 {
        self.0[usize::from(reg & 15)]
    }
    /// Stores a word.
    #[inline]
    pub fn set(&mut self, reg: u8, word: u32) {
        self.0[usize::from(reg & 15)] = word;
    }
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
    /// Set the connection's mark.
    CtSetMark(CtSetMark),
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
    /// Compare with two ends.
    Range(Range),
    /// Count.
    Counter(Counter),
    /// Bound the rate.
    Limit(Box<Limit>),
    /// Log.
    Log(Log),
    /// Call an xtables match.
    XtMatch(Box<XtMatch>),
    /// Call an xtables target.
    XtTarget(Box<XtTarget>),
}

impl Expr {
    /// The unit of work that it is counted as by whoever runs it, for the kinds that most rules are made of; the others
    /// count themselves.
    pub fn unit(&self) -> Option<Unit> {
        match self {
            Expr::Payload(_) => Some(Unit::NftPayload),
            Expr::Meta(_) => Some(Unit::NftMeta),
            Expr::Ct(_) | Expr::CtSetMark(_) => Some(Unit::NftCt),
            Expr::Cmp(_) | Expr::Range(_) => Some(Unit::NftCmp),
            Expr::Bitwise(_) => Some(Unit::NftBitwise),
            Expr::Immediate(_) => Some(Unit::NftImmediate),
            Expr::Lookup(_) => Some(Unit::NftLookup),
            Expr::Counter(_) => Some(Unit::NftCounter),
            _ => None,
        }
    }

    /// Bytes in a rule blob: the ops pointer and the private data, in units of 8 (`nft_rule` layout; sizes
    /// from the 6.18 kernel's type information).
    pub fn size(&self) -> u32 {
        match self {
            Expr::Payload(_) | Expr::Meta(_) | Expr::Ct(_) | Expr::CtSetMark(_) => 16,
            Expr::Cmp(c) => c.size(),
            Expr::Bitwise(b) => b.size(),
            Expr::Immediate(_) => 32,
            Expr::Lookup(_) => 56,
            Expr::Numgen(_) | Expr::Fib(_) => 24,
            Expr::Dynset(_) => 96,
            Expr::Nat(_) | Expr::Masq(_) | Expr::Reject(_) | Expr::Counter(_) => 16,
            Expr::Range(_) => 48,
            Expr::Limit(_) => 56,
            Expr::Log(_) => 32,
            Expr::XtMatch(e) => e.size(),
            Expr::XtTarget(e) => e.size(),
        }
    }
}
