//! `lookup`: finds the key in the registers in a set or map (`net/netfilter/nft_lookup.c:nft_lookup_eval`).
//!
//! A miss breaks (a hit, with `invert`). A hit in a map copies the data into registers, or gives the verdict.

use super::{Flow, Regs};
use crate::kernel::nftables::set::Found;

/// Which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetRef {
    /// A named set of the table, by [`SetId`](crate::kernel::nftables::SetId).
    Named(u32),
    /// An anonymous set of the same chain, by position.
    Anonymous(u32),
}

/// Look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// First register of the key.
    pub sreg: u8,
    /// Set.
    pub set: SetRef,
    /// `!=`.
    pub invert: bool,
    /// First register for a map's data; `None` for sets and verdict maps.
    pub dreg: Option<u8>,
    /// A map to verdicts.
    pub vmap: bool,
}

impl Lookup {
    /// What follows from the result of the set's lookup.
    #[inline]
    pub fn finish(&self, found: Option<Found<'_>>, regs: &mut Regs) -> Flow {
        if found.is_some() == self.invert {
            return Flow::Break;
        }
        match found {
            None | Some(Found::Member) => Flow::Continue,
            Some(Found::Verdict(v)) => Flow::Verdict(v),
            Some(Found::Data(words)) => {
                let at = usize::from(self.dreg.expect("a data map's lookup has a destination register"));
                regs.0[at..at + words.len()].copy_from_slice(words);
                Flow::Continue
            }
        }
    }
}
