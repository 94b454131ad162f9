//! The interval tree (`net/netfilter/nft_set_rbtree.c:__nft_rbtree_lookup`): half-open boundaries, found by a walk
//! from the root for the greatest boundary not above the key.
//!
//! nft merges overlapping and touching intervals of an anonymous set, and adds an end at zero when the first
//! interval starts higher. Departure: the kernel's red-black tree has the shape its insertions gave it; here the
//! boundaries form the balanced tree of the same size, so a walk may differ by one step.

use super::items::Items;
use super::{Found, SET_BYTES, slab_class};
use crate::kernel::nftables::Verdict;
use crate::kernel::nftables::expr::Regs;
use ipnet::IpNet;
use sim_core::classify::{Family, Unit, Work};
use std::net::IpAddr;

/// A set of intervals.
#[derive(Clone, Debug)]
pub struct Rbtree {
    key_bytes: u8,
    /// (first value, whether an interval starts or ends here), rising.
    bounds: Vec<(u128, bool)>,
    /// In a map the verdict of each start.
    verdicts: Vec<Option<Verdict>>,
}

/// An address as a number.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The union of networks as inclusive ranges of addresses, rising, touching ones merged.
pub fn merge(nets: &[IpNet]) -> Vec<(u128, u128)> {
    let mut ranges: Vec<_> = nets.iter().map(|n| (number(n.network()), number(n.broadcast()))).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

impl Rbtree {
    /// The set of all addresses in `nets`.
    pub fn new(nets: &[IpNet], family: Family) -> Self {
        let last = if family == Family::Ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        let mut bounds = Vec::new();
        for (from, to) in merge(nets) {
            if bounds.is_empty() && from > 0 {
                bounds.push((0, false));
            }
            bounds.push((from, true));
            if to < last {
                bounds.push((to + 1, false));
            }
        }
        let key_bytes = if family == Family::Ipv4 { 4 } else { 16 };
        Rbtree { key_bytes, bounds, verdicts: Vec::new() }
    }

    /// The set or map of these elements, which have one field each and no value in common. Ends and starts that fall
    /// together are one boundary, as nft sends them.
    pub fn of_items(items: &Items) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        let key_bytes = items.fields[0];
        let last = u128::MAX >> (128 - 8 * u32::from(key_bytes));
        let mut list: Vec<_> =
            items.list.iter().map(|e| (number(&e.from[0]), number(&e.to[0]), e.verdict)).collect();
        list.sort_unstable_by_key(|(from, ..)| *from);
        let (mut bounds, mut verdicts): (Vec<(u128, bool)>, Vec<Option<Verdict>>) = Default::default();
        for (from, to, verdict) in list {
            if bounds.is_empty() && from > 0 {
                bounds.push((0, false));
                verdicts.push(None);
            }
            if bounds.last().is_some_and(|(at, _)| *at == from) {
                bounds.pop();
                verdicts.pop();
            }
            bounds.push((from, true));
            verdicts.push(verdict);
            if to < last {
                bounds.push((to + 1, false));
                verdicts.push(None);
            }
        }
        Rbtree { key_bytes, bounds, verdicts }
    }

    /// Boundaries held.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Looks the address at `sreg` up.
    #[inline]
    pub fn lookup(&self, regs: &Regs, sreg: u8, work: &mut Work) -> Option<Found<'_>> {
        let at = usize::from(sreg);
        let key = match self.key_bytes {
            4 => u128::from(regs.0[at].swap_bytes()),
            2 => u128::from((regs.0[at] as u16).swap_bytes()),
            1 => u128::from(regs.0[at] as u8),
            _ => regs.wide(sreg).iter().fold(0, |n, w| n << 32 | u128::from(w.swap_bytes())),
        };
        let (mut low, mut high) = (0, self.bounds.len());
        let mut below = None;
        let mut steps = 0;
        while low < high {
            let mid = low + (high - low) / 2;
            let (bound, starts) = self.bounds[mid];
            steps += 1;
            if bound == key {
                below = starts.then_some(mid);
                break;
            }
            if bound < key {
                below = starts.then_some(mid);
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        work[Unit::RbSteps] += steps;
        work[Unit::LinesChase] += 2 + steps;
        let verdict = self.verdicts.get(below?).copied().flatten();
        Some(verdict.map_or(Found::Member, Found::Verdict))
    }

    /// Set with tree head (root, two locks, gc) and elements (24-byte node, extension, key, flags).
    pub fn memory_bytes(&self) -> u64 {
        let key = u32::from(self.key_bytes).next_multiple_of(8);
        let data = if self.verdicts.iter().any(Option::is_some) { 16 } else { 0 };
        let element = slab_class(24 + 16 + key + data + 8);
        u64::from(slab_class(SET_BYTES + 48)) + self.bounds.len() as u64 * u64::from(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_are_five_boundaries_and_neighbours_merge() {
        let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<IpNet>>();
        assert_eq!(Rbtree::new(&nets(&["10.0.0.0/8", "192.168.0.0/16"]), Family::Ipv4).len(), 5);
        assert_eq!(Rbtree::new(&nets(&["10.0.0.0/8", "10.1.0.0/16"]), Family::Ipv4).len(), 3);
        assert_eq!(Rbtree::new(&nets(&["0.0.0.0/1", "192.0.0.0/2"]), Family::Ipv4).len(), 3);
        assert_eq!(merge(&nets(&["203.0.113.6/32", "203.0.113.7/32"])).len(), 1);
    }
}
