//! `cmp`: compares registers with a constant and breaks if they do not fit
//! (`net/netfilter/nf_tables_core.c:nft_cmp_fast_eval`, `nft_cmp16_fast_eval`). Left out: less and greater.

use super::{Flow, Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;

/// Compare a register, or four, with a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Up to four bytes.
    Word {
        /// Register.
        sreg: u8,
        /// Constant.
        value: u32,
        /// Not equal.
        neq: bool,
    },
    /// Up to sixteen bytes.
    Wide {
        /// First register.
        sreg: u8,
        /// Constant.
        words: Box<Words>,
        /// Not equal.
        neq: bool,
    },
    /// The first bytes of what up to sixteen hold.
    Start {
        /// First register.
        sreg: u8,
        /// Constant, zero behind its `len` bytes.
        words: Box<Words>,
        /// Bytes compared, 1 to 16.
        len: u8,
        /// Not equal.
        neq: bool,
    },
}

impl Cmp {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &Regs, cx: &mut PacketCx<'_>) -> Flow {
        cx.work[Unit::NftCmp] += 1;
        cx.work[Unit::NftLong] += u32::from(!matches!(self, Cmp::Word { .. } | Cmp::Start { len: ..=4, .. }));
        let holds = match self {
            Cmp::Word { sreg, value, neq } => (regs.0[usize::from(*sreg)] == *value) != *neq,
            Cmp::Wide { sreg, words, neq } => (regs.wide(*sreg) == **words) != *neq,
            Cmp::Start { sreg, words, len, neq } => {
                let (have, mask) = (regs.wide(*sreg), start_mask(*len));
                (0..4).all(|i| (have[i] ^ words[i]) & mask[i] == 0) != *neq
            }
        };
        if holds { Flow::Continue } else { Flow::Break }
    }
    /// Bytes in a rule: `cmp_fast` or `cmp16_fast`.
    pub fn size(&self) -> u32 {
        match self {
            Cmp::Word { .. } | Cmp::Start { len: ..=4, .. } => 24,
            Cmp::Wide { .. } | Cmp::Start { .. } => 48,
        }
    }
}

/// Which bits of four words the first `len` bytes are.
fn start_mask(len: u8) -> Words {
    let mut mask = [0; 4];
    for (i, word) in mask.iter_mut().enumerate() {
        *word = match usize::from(len).saturating_sub(4 * i) {
            0 => 0,
            bytes @ 1..=3 => u32::MAX >> (32 - 8 * bytes),
            _ => u32::MAX,
        };
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::super::meta::iface_words;
    use super::*;

    #[test]
    fn the_start_of_a_name_is_compared_in_its_bytes_only() {
        assert_eq!(start_mask(4), [u32::MAX, 0, 0, 0]);
        assert_eq!(start_mask(6), [u32::MAX, 0xffff, 0, 0]);
        let fits = |name: &str, start: &str| {
            let mask = start_mask(u8::try_from(start.len()).expect("short"));
            iface_words(name).iter().zip(iface_words(start)).zip(mask).all(|((a, b), m)| (a ^ b) & m == 0)
        };
        assert!(fits("veth12", "veth") && fits("cali0123", "cali0") && fits("veth", "veth"));
        assert!(!fits("eth0", "veth") && !fits("", "veth") && !fits("vet", "veth"));
    }
}
