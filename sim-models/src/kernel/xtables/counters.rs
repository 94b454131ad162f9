//! Packets and bytes of each rule, as the kernel counts them and `iptables-save -c` prints them.
//!
//! Listens to the steps of packets: a rule counts when it matched whole, before its target runs, whatever the target
//! says (`ip_tables.c:ipt_do_table`). A built-in chain shows the counter of its policy entry; the closing RETURN of a
//! user chain counts too, but no tool prints it.
//!
//! Left out: counters of nftables.

use super::{ChainId, Table, print};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Packet, Work};
use std::fmt::{self, Write};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, by the lengths that packets say they have.
    pub bytes: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}]", self.packets, self.bytes)
    }
}

/// The counters of all entries of some tables: an [`Observer`] to send packets by.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Table, chain, entry: the rules and one for the closing entry.
    entries: Vec<Vec<Vec<Count>>>,
}

impl Counters {
    /// All at zero. `tables` are those that were compiled, in the same order.
    pub fn new(tables: &[Table]) -> Self {
        let of_table = |table: &Table| {
            table.chains.iter().map(|chain| vec![Count::default(); chain.rules.len() + 1]).collect()
        };
        Counters { entries: tables.iter().map(of_table).collect() }
    }

    /// What rule `rule` of a chain counted; the rule past the last is the closing entry.
    pub fn of(&self, table: usize, chain: ChainId, rule: usize) -> Count {
        self.entries[table][chain.0 as usize][rule]
    }

    /// Back to zero, as `iptables -Z`.
    pub fn clear(&mut self) {
        self.entries.iter_mut().flatten().flatten().for_each(|count| *count = Count::default());
    }

    /// The tables with these counters, as `iptables-save -c` prints them.
    ///
    /// # Panics
    /// If `tables` are not those that the counters were made for.
    pub fn save(&self, tables: &[Table]) -> String {
        let mut text = String::new();
        assert_eq!(tables.len(), self.entries.len(), "counters of other tables");
        for (table, counts) in tables.iter().zip(&self.entries) {
            write_counted(table, counts, &mut text).expect("a String takes everything");
        }
        text
    }
}

fn write_counted(table: &Table, counts: &[Vec<Count>], out: &mut impl Write) -> fmt::Result {
    writeln!(out, "*{}", table.name.name())?;
    let order = print::order_of_chains(table);
    for &at in &order {
        let chain = &table.chains[at];
        // Of a user chain no counter is shown: it has no policy entry.
        let count = match chain.base {
            Some(_) => counts[at][chain.rules.len()],
            None => Count::default(),
        };
        writeln!(out, ":{} {} {count}", chain.name, print::policy(chain))?;
    }
    for &at in &order {
        let chain = &table.chains[at];
        for (rule, count) in chain.rules.iter().zip(&counts[at]) {
            write!(out, "{count} ")?;
            print::write_rule(table, &chain.name, rule, out)?;
            out.write_char('\n')?;
        }
    }
    out.write_str("COMMIT\n")
}

impl Observer for Counters {
    fn step(&mut self, step: Step, packet: &Packet, _: &Work) {
        if let Step::XtMatched { table, chain, rule } = step {
            let count = &mut self.entries[table][chain.0 as usize][rule as usize];
            count.packets += 1;
            count.bytes += u64::from(packet.detail.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::path::{NodeState, Origin, Stack, cross_observed};
    use crate::kernel::rules::NodeRules;
    use crate::kernel::xtables::parse::parse;
    use sim_core::classify::Family;
    use sim_core::units::SimTime;
    use std::net::IpAddr;

    #[test]
    fn every_rule_that_matched_counts_and_a_built_in_chain_shows_its_policy() {
        let text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:B - [0:0]\n:A - [0:0]\n\
                    -A FORWARD -p tcp -j A\n-A FORWARD -p udp -j A\n-A B -j RETURN\n-A A -s 10.0.0.1/32\n-A A -j B\nCOMMIT\n";
        let tables = parse(text, Family::Ipv4).unwrap().tables;
        let mut counters = Counters::new(&tables);
        let rules = NodeRules { xtables: tables.clone(), ..NodeRules::default() };
        let stack = Stack::new(&rules, 1).unwrap();
        let node: IpAddr = "192.168.0.1".parse().unwrap();
        let mut state = NodeState::new(1, "node", 1, &[node]);
        for last in [1, 2, 1] {
            let syn = Packet::tcp_syn([10, 0, 0, last].into(), 5, [10, 1, 0, 1].into(), 80);
            cross_observed(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO, &mut counters);
        }
        assert_eq!(
            counters.save(&tables),
            "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [3:180]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n\
             [3:180] -A FORWARD -p tcp -j A\n[0:0] -A FORWARD -p udp -j A\n\
             [2:120] -A A -s 10.0.0.1/32\n[3:180] -A A -j B\n[3:180] -A B -j RETURN\nCOMMIT\n"
        );
        // The closing entry of A, where B returned to; that of B was never reached.
        assert_eq!(counters.of(0, ChainId(4), 2).packets, 3);
        assert_eq!(counters.of(0, ChainId(3), 1), Count::default());
        counters.clear();
        assert_eq!(counters.of(0, ChainId(4), 2), Count::default());
    }
}
