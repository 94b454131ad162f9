//! The interval tree (`net/netfilter/nft_set_rbtree.c:__nft_rbtree_lookup`): half-open boundaries, found by a walk
//! from the root for the greatest boundary not above the key.
//!
//! nft merges overlapping and touching intervals of an anonymous set, and adds an end at zero when the first
//! interval starts higher. Departure: the kernel's red-black tree has the shape its insertions gave it; here the
//! boundaries form the balanced tree of the same size, so a walk may differ by one step.

use super::{Found, SET_BYTES, slab_class};
use crate::kernel::nftables::expr::Regs;
use ipnet::IpNet;
use sim_core::classify::{Family, Unit, Work};
use std::net::IpAddr;

/// A set of address intervals.
#[derive(Clone, Debug)]
pub struct Rbtree {
    family: Family,
    /// (first address, whether an interval starts or ends here), rising.
    bounds: Vec<(u128, bool)>,
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
        Rbtree { family, bounds }
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
        let key = match self.family {
            Family::Ipv4 => u128::from(regs.0[at].swap_bytes()),
            Family::Ipv6 => regs.wide(sreg).iter().fold(0, |n, w| n << 32 | u128::from(w.swap_bytes())),
        };
        let (mut low, mut high) = (0, self.bounds.len());
        let mut below = false;
        let mut steps = 0;
        while low < high {
            let mid = low + (high - low) / 2;
            let (bound, starts) = self.bounds[mid];
            steps += 1;
            if bound == key {
                below = starts;
                break;
            }
            if bound < key {
                below = starts;
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        work[Unit::RbSteps] += steps;
        work[Unit::LinesChase] += 2 + steps;
        below.then_some(Found::Member)
    }

    /// Set with tree head (root, two locks, gc) and elements (24-byte node, extension, key, flags).
    pub fn memory_bytes(&self) -> u64 {
        let key = if self.family == Family::Ipv4 { 8 } else { 16 };
        let element = slab_class(24 + 16 + key + 8);
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
