//! Address tests of a table's rules in columns, for either family.
//!
//! A negated test is decided elsewhere: here it fits every address.

use super::{Rule, Test};
use ipnet::IpNet;
use sim_core::classify::linear::{AddrPair, AddrTest, LinearTable};
use sim_core::classify::{Family, Packet};
use std::net::IpAddr;
use std::ops::Range;

/// Address columns of either family.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    V4(LinearTable<1>),
    V6(LinearTable<4>),
}

impl Columns {
    pub(super) fn new(family: Family) -> Self {
        match family {
            Family::Ipv4 => Columns::V4(LinearTable::new()),
            Family::Ipv6 => Columns::V6(LinearTable::new()),
        }
    }

    pub(super) fn push(&mut self, rule: &Rule) {
        match self {
            Columns::V4(table) => table.push(addr_test(rule, words4)),
            Columns::V6(table) => table.push(addr_test(rule, words6)),
        }
    }

    pub(super) fn set(&mut self, place: usize, rule: &Rule) {
        match self {
            Columns::V4(table) => table.set(place, addr_test(rule, words4)),
            Columns::V6(table) => table.set(place, addr_test(rule, words6)),
        }
    }

    pub(super) fn grow(&mut self, count: usize) {
        match self {
            Columns::V4(table) => table.grow(count),
            Columns::V6(table) => table.grow(count),
        }
    }

    pub(super) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        match self {
            Columns::V4(table) => table.copy_within(from, to),
            Columns::V6(table) => table.copy_within(from, to),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Columns::V4(table) => table.memory_bytes(),
            Columns::V6(table) => table.memory_bytes(),
        }
    }

    /// The first rule in `range` whose addresses fit.
    pub(super) fn next_fit(&self, range: Range<usize>, packet: &Packet) -> Option<usize> {
        match self {
            Columns::V4(t) => {
                t.next_fit(range, &AddrPair { dst: words4(packet.dst), src: words4(packet.src) })
            }
            Columns::V6(t) => {
                t.next_fit(range, &AddrPair { dst: words6(packet.dst), src: words6(packet.src) })
            }
        }
    }
}

fn addr_test<const W: usize>(rule: &Rule, words: fn(IpAddr) -> [u32; W]) -> AddrTest<W> {
    let column = |test: &Option<Test<IpNet>>| match test {
        Some(t) if !t.invert => (words(t.value.network()), words(t.value.netmask())),
        _ => ([0; W], [0; W]),
    };
    let ((dst, dst_mask), (src, src_mask)) = (column(&rule.dst), column(&rule.src));
    AddrTest { dst, dst_mask, src, src_mask }
}

pub(super) fn words4(addr: IpAddr) -> [u32; 1] {
    match addr {
        IpAddr::V4(a) => [u32::from(a)],
        IpAddr::V6(a) => panic!("IPv6 address {a} in an IPv4 table"),
    }
}

pub(super) fn words6(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V6(a) => {
            let bits = u128::from(a);
            [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
        }
        IpAddr::V4(a) => panic!("IPv4 address {a} in an IPv6 table"),
    }
}
