//! `-m recent`: lists of source addresses with time stamps, which kube-proxy uses for ClientIP affinity
//! (`net/netfilter/xt_recent.c`).
//!
//! Every table is found by walking one list of all tables and comparing names (`recent_table_lookup`); a new
//! address is stored with up to `ip_list_tot` = 100 addresses a table, the oldest being evicted.
//!
//! Left out: the hash inside a table (its chains are short at 100 entries) and `--hitcount`.

use sim_core::classify::{Unit, Work};
use sim_core::units::SimTime;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// `ip_list_tot`: addresses that one table remembers.
const IP_LIST_TOT: usize = 100;

/// The lists of one node, by the table's index in rule order.
#[derive(Clone, Debug, Default)]
pub struct RecentTables {
    tables: Vec<Vec<(IpAddr, SimTime)>>,
}

impl RecentTables {
    fn find(&mut self, index: usize, work: &mut Work) -> &mut Vec<(IpAddr, SimTime)> {
        work[Unit::RecentTableSteps] += index as u32 + 1;
        if self.tables.len() <= index {
            self.tables.resize(index + 1, Vec::new());
        }
        &mut self.tables[index]
    }

    /// `--rcheck --seconds --reap`: whether `addr` was stored in the last `seconds`.
    pub fn check(
        &mut self,
        index: usize,
        addr: IpAddr,
        seconds: Option<u32>,
        now: SimTime,
        work: &mut Work,
    ) -> bool {
        let table = self.find(index, work);
        let oldest = seconds.map_or(0, |s| now.as_ns().saturating_sub(u64::from(s) * 1_000_000_000));
        // Reaping drops the table's oldest entry if it is out of date.
        if table.first().is_some_and(|&(_, at)| at.as_ns() < oldest) {
            table.remove(0);
        }
        let found = table.iter().any(|&(a, at)| a == addr && at.as_ns() >= oldest);
        work[Unit::RecentFound] += u32::from(found);
        found
    }

    /// `--set`: stores or refreshes `addr`. Always true.
    pub fn set(&mut self, index: usize, addr: IpAddr, now: SimTime, work: &mut Work) -> bool {
        let table = self.find(index, work);
        if let Some(at) = table.iter().position(|&(a, _)| a == addr) {
            table.remove(at);
            work[Unit::RecentFound] += 1;
        } else {
            work[Unit::RecentNew] += 1;
            if table.len() == IP_LIST_TOT {
                table.remove(0);
                work[Unit::RecentEvict] += 1;
            }
        }
        table.push((addr, now));
        true
    }
}

/// For each table of the list, bytes that comparing names takes (`strcmp`) until it is found: with each table before
/// it as far as the names are equal and one more, and its own whole.
pub fn search_bytes(names: &[Arc<str>]) -> Vec<u32> {
    // A tree of the names so far: at each node, how many go through it, and where it goes on.
    let mut nodes: Vec<(u32, BTreeMap<u8, usize>)> = vec![Default::default()];
    let mut out = Vec::with_capacity(names.len());
    for (before, name) in names.iter().enumerate() {
        let (mut equal, mut at) = (0, 0);
        for byte in name.bytes() {
            let next = nodes.len();
            let found = *nodes[at].1.entry(byte).or_insert(next);
            if found == next {
                nodes.push(Default::default());
            }
            at = found;
            equal += nodes[at].0;
            nodes[at].0 += 1;
        }
        out.push(equal + before as u32 + name.len() as u32 + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_101st_client_evicts_the_oldest() {
        let (mut tables, mut work) = (RecentTables::default(), Work::new());
        let addr = |i: u32| IpAddr::from(Ipv4Addr::from(i));
        for i in 0..=100 {
            tables.set(0, addr(i), SimTime::from_ns(u64::from(i)), &mut work);
        }
        let now = SimTime::from_ns(200);
        assert!(!tables.check(0, addr(0), Some(10), now, &mut work));
        assert!(tables.check(0, addr(1), Some(10), now, &mut work));
    }

    #[test]
    fn names_are_compared_as_far_as_they_are_equal_and_one_byte_more() {
        let names: Vec<Arc<str>> = ["AAB", "AAC", "B", "AAC2"].into_iter().map(Into::into).collect();
        assert_eq!(search_bytes(&names), [4, 3 + 4, 1 + 1 + 2, 3 + 4 + 1 + 5]);
    }

    #[test]
    fn finding_a_table_costs_its_place_in_the_list() {
        let (mut tables, mut work) = (RecentTables::default(), Work::new());
        tables.check(41, Ipv4Addr::LOCALHOST.into(), None, SimTime::ZERO, &mut work);
        assert_eq!(work[Unit::RecentTableSteps], 42);
    }
}
