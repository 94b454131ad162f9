//! `-m recent`: lists of source addresses with time stamps, which kube-proxy uses for ClientIP affinity
//! (`net/netfilter/xt_recent.c`).
//!
//! Every table is found by walking one list of all tables and comparing names (`recent_table_lookup`); a new
//! address is stored with up to `ip_list_tot` = 100 addresses a table, the oldest being evicted.
//!
//! Left out: the hash inside a table (its chains are short at 100 entries) and `--hitcount`.

use sim_core::classify::{Unit, Work};
use sim_core::units::SimTime;
use std::net::IpAddr;

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
        table.iter().any(|&(a, at)| a == addr && at.as_ns() >= oldest)
    }

    /// `--set`: stores or refreshes `addr`. Always true.
    pub fn set(&mut self, index: usize, addr: IpAddr, now: SimTime, work: &mut Work) -> bool {
        let table = self.find(index, work);
        if let Some(at) = table.iter().position(|&(a, _)| a == addr) {
            table.remove(at);
        } else if table.len() == IP_LIST_TOT {
            table.remove(0);
        }
        table.push((addr, now));
        true
    }
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
    fn finding_a_table_costs_its_place_in_the_list() {
        let (mut tables, mut work) = (RecentTables::default(), Work::new());
        tables.check(41, Ipv4Addr::LOCALHOST.into(), None, SimTime::ZERO, &mut work);
        assert_eq!(work[Unit::RecentTableSteps], 42);
    }
}
