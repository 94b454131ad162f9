//! The linear table: rules tried one after another, as a chain of a packet filter is.
//!
//! A rule's address tests are kept as columns of (value, mask) words, so that the walk over rules that do not
//! fit is a scan that the compiler turns into vector code; everything beyond addresses (interfaces, protocol,
//! matches) is asked of the caller only for a rule whose addresses fit. The walk still *is* linear, and counts
//! as one: [`LinearTable::next_fit`] says how far it came.
//!
//! `W` is the number of 32-bit words of an address: 1 for IPv4, 4 for IPv6. A negated test cannot be decided by
//! value and mask alone; store it with a zero mask, so that it always fits, and let the caller decide.

use std::ops::Range;

/// Address tests of one rule: a packet fits if `(address ^ value) & mask` is zero for both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrTest<const W: usize> {
    /// Destination value, already masked.
    pub dst: [u32; W],
    /// Destination bits that are compared.
    pub dst_mask: [u32; W],
    /// Source value, already masked.
    pub src: [u32; W],
    /// Source bits that are compared.
    pub src_mask: [u32; W],
}

/// Addresses of a packet in the form that [`LinearTable`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrPair<const W: usize> {
    /// Destination.
    pub dst: [u32; W],
    /// Source.
    pub src: [u32; W],
}

/// Columns of address tests.
#[derive(Clone, Debug, Default)]
pub struct LinearTable<const W: usize> {
    dst: Vec<[u32; W]>,
    dst_mask: Vec<[u32; W]>,
    src: Vec<[u32; W]>,
    src_mask: Vec<[u32; W]>,
}

/// Rules looked at together: one vector register's worth of IPv4 words on common machines.
const CHUNK: usize = 16;

impl<const W: usize> LinearTable<W> {
    /// An empty table.
    pub fn new() -> Self {
        LinearTable { dst: Vec::new(), dst_mask: Vec::new(), src: Vec::new(), src_mask: Vec::new() }
    }
    /// Number of rules.
    pub fn len(&self) -> usize {
        self.dst.len()
    }
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.dst.is_empty()
    }
    /// Appends a rule.
    pub fn push(&mut self, test: AddrTest<W>) {
        self.dst.push(test.dst);
        self.dst_mask.push(test.dst_mask);
        self.src.push(test.src);
        self.src_mask.push(test.src_mask);
    }
    /// The test of rule `i`.
    pub fn test(&self, i: usize) -> AddrTest<W> {
        AddrTest {
            dst: self.dst[i],
            dst_mask: self.dst_mask[i],
            src: self.src[i],
            src_mask: self.src_mask[i],
        }
    }
    /// Another test for rule `i`.
    pub fn set(&mut self, i: usize, test: AddrTest<W>) {
        self.dst[i] = test.dst;
        self.dst_mask[i] = test.dst_mask;
        self.src[i] = test.src;
        self.src_mask[i] = test.src_mask;
    }
    /// Appends `count` rules that any packet fits, to be set.
    pub fn grow(&mut self, count: usize) {
        for column in [&mut self.dst, &mut self.dst_mask, &mut self.src, &mut self.src_mask] {
            column.resize(column.len() + count, [0; W]);
        }
    }
    /// Copies rules to another place; the ranges may overlap.
    pub fn copy_within(&mut self, from: Range<usize>, to: usize) {
        for column in [&mut self.dst, &mut self.dst_mask, &mut self.src, &mut self.src_mask] {
            column.copy_within(from.clone(), to);
        }
    }
    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        [&self.dst, &self.dst_mask, &self.src, &self.src_mask]
            .into_iter()
            .map(|c| c.capacity() * size_of::<[u32; W]>())
            .sum()
    }
    /// Whether the addresses fit rule `i`.
    #[inline]
    pub fn fits(&self, i: usize, addrs: &AddrPair<W>) -> bool {
        differ(&self.dst[i], &self.dst_mask[i], &addrs.dst)
            | differ(&self.src[i], &self.src_mask[i], &addrs.src)
            == 0
    }
    /// Whether the source alone fits rule `i`.
    #[inline]
    pub fn fits_src(&self, i: usize, addrs: &AddrPair<W>) -> bool {
        differ(&self.src[i], &self.src_mask[i], &addrs.src) == 0
    }
    /// Whether the destination alone fits rule `i`.
    #[inline]
    pub fn fits_dst(&self, i: usize, addrs: &AddrPair<W>) -> bool {
        differ(&self.dst[i], &self.dst_mask[i], &addrs.dst) == 0
    }
    /// The first rule of `range` whose addresses fit, or `None` if the walk ran to the range's end.
    ///
    /// Every rule before it was evaluated and failed: the caller counts `found - range.start` of them.
    pub fn next_fit(&self, range: Range<usize>, addrs: &AddrPair<W>) -> Option<usize> {
        let (dst, dst_mask) = (&self.dst[range.clone()], &self.dst_mask[range.clone()]);
        let (src, src_mask) = (&self.src[range.clone()], &self.src_mask[range.clone()]);
        let whole = dst.len() - dst.len() % CHUNK;
        let mut base = 0;
        while base < whole {
            let mut any = 0u32;
            let rows = dst[base..base + CHUNK]
                .iter()
                .zip(&dst_mask[base..base + CHUNK])
                .zip(src[base..base + CHUNK].iter().zip(&src_mask[base..base + CHUNK]));
            for ((d, dm), (s, sm)) in rows {
                any |= u32::from(differ(d, dm, &addrs.dst) | differ(s, sm, &addrs.src) == 0);
            }
            if any != 0 {
                break;
            }
            base += CHUNK;
        }
        (range.start + base..range.end).find(|&i| self.fits(i, addrs))
    }
}

#[inline(always)]
fn differ<const W: usize>(value: &[u32; W], mask: &[u32; W], addr: &[u32; W]) -> u32 {
    let mut bits = 0;
    for word in 0..W {
        bits |= (addr[word] ^ value[word]) & mask[word];
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn test_of(dst: u32, dst_len: u32, src: u32, src_len: u32) -> AddrTest<1> {
        let mask = |len: u32| if len == 0 { 0 } else { u32::MAX << (32 - len) };
        let (dm, sm) = (mask(dst_len), mask(src_len));
        AddrTest { dst: [dst & dm], dst_mask: [dm], src: [src & sm], src_mask: [sm] }
    }

    proptest! {
        #[test]
        fn the_scan_finds_what_trying_each_rule_finds(
            rules in prop::collection::vec((0u32..8, 28u32..=32, 0u32..8, prop::sample::select(vec![0u32, 30, 32])), 0..80),
            dst in 0u32..8, src in 0u32..8, from in 0usize..80,
        ) {
            let mut table = LinearTable::<1>::new();
            for &(d, dl, s, sl) in &rules {
                table.push(test_of(d, dl, s, sl));
            }
            let addrs = AddrPair { dst: [dst], src: [src] };
            let from = from.min(rules.len());
            let oracle = (from..rules.len()).find(|&i| {
                let (d, dl, s, sl) = rules[i];
                let t = test_of(d, dl, s, sl);
                dst & t.dst_mask[0] == t.dst[0] && src & t.src_mask[0] == t.src[0]
            });
            prop_assert_eq!(table.next_fit(from..rules.len(), &addrs), oracle);
        }
    }

    #[test]
    fn six_word_pairs_compare_every_word() {
        let mut table = LinearTable::<4>::new();
        let (all, none) = ([u32::MAX; 4], [0; 4]);
        table.push(AddrTest { dst: [1, 2, 3, 4], dst_mask: all, src: none, src_mask: none });
        table.push(AddrTest { dst: [1, 2, 3, 5], dst_mask: all, src: none, src_mask: none });
        let addrs = AddrPair { dst: [1, 2, 3, 5], src: [9; 4] };
        assert_eq!(table.next_fit(0..2, &addrs), Some(1));
    }
}
