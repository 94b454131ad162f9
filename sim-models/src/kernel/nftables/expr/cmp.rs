//! `cmp`: compares registers with a constant and breaks if they do not fit
//! (`net/netfilter/nf_tables_core.c:nft_cmp_fast_eval`, `nft_cmp16_fast_eval`, and `net/netfilter/nft_cmp.c:nft_cmp_eval`
//! for less and greater, which compares bytes in their order as memcmp does).

use super::{Flow, Regs, Words};
use crate::kernel::hook::PacketCx;
use sim_core::classify::Unit;
use std::cmp::Ordering;

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `<`.
    Lt,
    /// `<=`.
    Lte,
    /// `>`.
    Gt,
    /// `>=`.
    Gte,
}

impl Order {
    /// Its name in nft's netlink dump.
    pub fn name(self) -> &'static str {
        match self {
            Order::Lt => "lt",
            Order::Lte => "lte",
            Order::Gt => "gt",
            Order::Gte => "gte",
        }
    }
    /// Whether it holds for what lies so to the constant.
    pub fn holds(self, at: Ordering) -> bool {
        match self {
            Order::Lt => at.is_lt(),
            Order::Lte => at.is_le(),
            Order::Gt => at.is_gt(),
            Order::Gte => at.is_ge(),
        }
    }
}

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
    /// The order of up to sixteen bytes.
    Order {
        /// First register.
        sreg: u8,
        /// Constant, zero behind its `len` bytes.
        words: Box<Words>,
        /// Bytes compared, 1 to 16.
        len: u8,
        /// How.
        order: Order,
    },
}

impl Cmp {
    /// Runs it.
    #[inline]
    pub fn eval(&self, regs: &Regs, cx: &mut PacketCx<'_>) -> Flow {
        if !matches!(self, Cmp::Word { .. } | Cmp::Start { len: ..=4, .. } | Cmp::Order { len: ..=4, .. }) {
            cx.work[Unit::NftLong] += 1;
        }
        let holds = match self {
            Cmp::Word { sreg, value, neq } => (regs.get(*sreg) == *value) != *neq,
            Cmp::Wide { sreg, words, neq } => (regs.wide(*sreg) == **words) != *neq,
            Cmp::Start { sreg, words, len, neq } => {
                let mask = start_mask(*len);
                (0..words_of(*len)).all(|i| (regs.get(sreg + i as u8) ^ words[i]) & mask[i] == 0) != *neq
            }
            Cmp::Order { sreg, words, len, order } => order.holds(compare(regs, *sreg, words, *len)),
        };
        if holds { Flow::Continue } else { Flow::Break }
    }
    /// Bytes in a rule: `nft_cmp_fast_expr`, `nft_cmp16_fast_expr` or `nft_cmp_expr`.
    pub fn size(&self) -> u32 {
        match self {
            Cmp::Word { .. } | Cmp::Start { len: ..=4, .. } => 24,
            Cmp::Wide { .. } | Cmp::Start { .. } => 48,
            Cmp::Order { .. } => 32,
        }
    }
}

/// Registers that hold so many bytes.
fn words_of(len: u8) -> usize {
    usize::from(len.div_ceil(4)).min(4)
}

/// How the first `len` bytes from `sreg` on lie to those of `words`.
pub(super) fn compare(regs: &Regs, sreg: u8, words: &Words, len: u8) -> Ordering {
    for (i, word) in words.iter().enumerate().take(words_of(len)) {
        let mask = start_mask(len)[i];
        let have = (regs.get(sreg + i as u8) & mask).swap_bytes();
        match have.cmp(&(word & mask).swap_bytes()) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    Ordering::Equal
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

    #[test]
    fn ports_are_ordered_as_numbers_and_addresses_from_their_first_byte() {
        use crate::kernel::nftables::linearize::{addr_words, port_word};
        let mut regs = Regs::default();
        regs.set(0, port_word(256));
        assert_eq!(compare(&regs, 0, &[port_word(255), 0, 0, 0], 2), Ordering::Greater);
        regs.set_wide(0, addr_words("fd00::2:1".parse().unwrap()));
        assert_eq!(compare(&regs, 0, &addr_words("fd00::3:0".parse().unwrap()), 16), Ordering::Less);
    }
}
