//! `range`: breaks if what registers hold is not between two constants, or is (`net/netfilter/nft_range.c:nft_range_eval`).

use super::cmp::compare;
use super::{Flow, Regs, Words};

/// Compare with two ends, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First register.
    pub sreg: u8,
    /// Bytes compared, 1 to 16.
    pub len: u8,
    /// The ends, zero behind their `len` bytes.
    pub ends: Box<[Words; 2]>,
    /// Outside.
    pub neq: bool,
}

impl Range {
    /// Runs it.
    pub fn eval(&self, regs: &Regs) -> Flow {
        let [from, to] = &*self.ends;
        let inside = compare(regs, self.sreg, from, self.len).is_ge()
            && compare(regs, self.sreg, to, self.len).is_le();
        if inside != self.neq { Flow::Continue } else { Flow::Break }
    }
}
