//! Concatenated ranges (`net/netfilter/nft_set_pipapo.c:nft_pipapo_lookup`): per field a table of rules, looked up group
//! of bits by group; what is left of the rules after a field selects those of the next.
//!
//! Each range of a field is a few prefixes, each prefix a rule (`pipapo_expand`). A field's groups are of eight bits, or
//! of four while its table would be larger than 2 MiB (`pipapo_lt_bits_adjust`: a table begins with four, changes to eight
//! below 64 KiB, and back above 2 MiB). Each group reads one row of as many bits as there are rules. A lookup ends at the
//! first field of which no rule is left. Whether rows are combined by vector instructions changes no count.
//!
//! Departure: lines of a row are counted whole, though rows of a few words share them.

use super::items::Items;
use super::{Found, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use crate::kernel::nftables::expr::Regs;
use crate::kernel::nftables::value::Bytes;
use sim_core::classify::{Unit, Work};

/// Bytes of a field's table above which groups of eight bits become ones of four (`NFT_PIPAPO_LT_SIZE_HIGH`).
const TABLE_BYTES_HIGH: u64 = 1 << 21;

/// A set of concatenated ranges.
#[derive(Clone, Debug)]
pub struct Pipapo {
    fields: Vec<Field>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Field {
    bytes: u8,
    groups: u32,
    /// Lines of one row.
    row_lines: u32,
    table_bytes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Of each field the first and the last value, in network order.
    ranges: Vec<(Bytes, Bytes)>,
    verdict: Option<Verdict>,
}

impl Pipapo {
    /// The set of these elements.
    pub fn new(items: &Items) -> Self {
        let entries: Vec<Entry> = items
            .list
            .iter()
            .map(|e| Entry {
                ranges: e.from.iter().cloned().zip(e.to.iter().cloned()).collect(),
                verdict: e.verdict,
            })
            .collect();
        let field = |(i, &bytes): (usize, &u8)| {
            let rules: u64 = entries.iter().map(|e| prefixes(&e.ranges[i].0, &e.ranges[i].1)).sum();
            let row_bytes = rules.div_ceil(64) * 8;
            let table = |bits: u32| (u64::from(bytes) * 8 / u64::from(bits) * row_bytes) << bits;
            let bits = if table(8) > TABLE_BYTES_HIGH { 4 } else { 8 };
            Field {
                bytes,
                groups: u32::from(bytes) * 8 / bits,
                row_lines: u32::try_from(row_bytes.div_ceil(64)).expect("few rules"),
                table_bytes: table(bits),
            }
        };
        Pipapo { fields: items.fields.iter().enumerate().map(field).collect(), entries }
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks the key at `sreg` up. Of elements that overlap the one inserted last is found.
    pub fn lookup(&self, regs: &Regs, sreg: u8, work: &mut Work) -> Option<Found<'_>> {
        let mut left: Vec<&Entry> = self.entries.iter().collect();
        let mut reg = usize::from(sreg);
        // The set's line and that of its private data.
        let mut lines = 2;
        for (i, field) in self.fields.iter().enumerate() {
            let words = usize::from(field.bytes.div_ceil(4));
            let value: Bytes = regs.0[reg..reg + words].iter().flat_map(|w| w.to_le_bytes()).collect();
            let value = &value[..usize::from(field.bytes)];
            reg += words;
            work[Unit::PipapoGroups] += field.groups;
            lines += field.groups * field.row_lines;
            left.retain(|e| &e.ranges[i].0[..] <= value && value <= &e.ranges[i].1[..]);
            if left.is_empty() {
                break;
            }
        }
        let found = left.last();
        work[Unit::LinesChase] += lines + u32::from(found.is_some());
        found.map(|e| e.verdict.map_or(Found::Member, Found::Verdict))
    }

    /// Set, tables of the fields and elements.
    pub fn memory_bytes(&self) -> u64 {
        let key: u32 = self.fields.iter().map(|f| u32::from(f.bytes).next_multiple_of(4)).sum();
        let element = slab_class(16 + 2 * key + 16);
        let tables: u64 = self.fields.iter().map(|f| f.table_bytes).sum();
        u64::from(slab_class(SET_BYTES + 64)) + tables + self.len() as u64 * u64::from(element)
    }
}

/// How many prefixes a range is.
fn prefixes(from: &[u8], to: &[u8]) -> u64 {
    let of = |bytes: &[u8]| bytes.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
    let (mut at, to) = (of(from), of(to));
    let mut count = 0;
    loop {
        count += 1;
        // The largest block that begins here and ends at the last value or before.
        let mut bits = if at == 0 { from.len() as u32 * 8 } else { at.trailing_zeros() };
        while bits > 0 && (bits >= 128 || to - at < (1u128 << bits) - 1) {
            bits -= 1;
        }
        let last = at + ((1u128 << bits) - 1);
        if last >= to {
            return count;
        }
        at = last + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nftables::set::items;
    use smallvec::smallvec;

    #[test]
    fn a_range_is_as_few_prefixes_as_can_be() {
        for (from, to, n) in
            [(0u16, 65_535u16, 1), (80, 80, 1), (80, 90, 3), (1, 65_534, 30), (1024, 65_535, 6)]
        {
            assert_eq!(prefixes(&from.to_be_bytes(), &to.to_be_bytes()), n, "{from}-{to}");
        }
    }

    #[test]
    fn fields_are_looked_up_until_no_rule_is_left() {
        let entry = |net: [u8; 4], last: [u8; 4], ports: (u16, u16)| items::Entry {
            from: smallvec![Bytes::from_slice(&net), Bytes::from_slice(&ports.0.to_be_bytes())],
            to: smallvec![Bytes::from_slice(&last), Bytes::from_slice(&ports.1.to_be_bytes())],
            verdict: None,
        };
        let set = Pipapo::new(&Items {
            fields: smallvec![4, 2],
            list: vec![
                entry([10, 0, 0, 0], [10, 255, 255, 255], (80, 90)),
                entry([192, 168, 0, 1], [192, 168, 0, 1], (443, 443)),
            ],
        });
        let look = |addr: [u8; 4], port: u16| {
            let mut regs = Regs::default();
            regs.0[0] = u32::from_le_bytes(addr);
            regs.0[1] = u32::from(port.swap_bytes());
            let mut work = Work::new();
            (set.lookup(&regs, 0, &mut work).is_some(), work[Unit::PipapoGroups])
        };
        assert_eq!(look([10, 1, 2, 3], 85), (true, 6));
        assert_eq!(look([10, 1, 2, 3], 91), (false, 6));
        assert_eq!(look([11, 1, 2, 3], 85), (false, 4));
        assert_eq!(look([192, 168, 0, 1], 443), (true, 6));
        assert_eq!(look([192, 168, 0, 1], 85), (false, 6));
    }
}
