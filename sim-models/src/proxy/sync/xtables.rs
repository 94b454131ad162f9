//! What a run of iptables-restore, iptables-save or iptables does, on xtables (iptables-legacy).
//!
//! Source: iptables 1.8.9, `libiptc/libiptc.c` and `iptables/iptables-restore.c`; Linux
//! `net/ipv4/netfilter/ip_tables.c:do_replace`. A table is one blob: a change of one rule fetches all of it, parses
//! it, compiles it again and has the kernel check and swap it. New chains are sorted into a list that has an index
//! entry for every 40th; it is made anew only after 355 more.
//!
//! Left out: counters, and what the names of chains do to single look-ups (they are taken as spread evenly).

use super::SyncWork;
use crate::kernel::xtables::{Chain, Match, Table, Target};
use sim_core::classify::Proto;
use std::ops::{Add, AddAssign, Sub};

/// Rules, as a tool meets them: of a table, or of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules.
    pub rules: u64,
    /// Chains that are not the kernel's own.
    pub chains: u64,
    /// Matches.
    pub matches: u64,
    /// Statistic matches among them.
    pub statistics: u64,
    /// Recent matches among them.
    pub recents: u64,
    /// Ports that go through the name service.
    pub port_names: u64,
    /// Rules that name a chain as their target.
    pub jumps: u64,
    /// Extensions that they use, a bit each.
    pub extensions: u32,
}

impl AddAssign for Rules {
    fn add_assign(&mut self, other: Rules) {
        self.rules += other.rules;
        self.chains += other.chains;
        self.matches += other.matches;
        self.statistics += other.statistics;
        self.recents += other.recents;
        self.port_names += other.port_names;
        self.jumps += other.jumps;
        self.extensions |= other.extensions;
    }
}
impl Add for Rules {
    type Output = Rules;
    fn add(mut self, other: Rules) -> Rules {
        self += other;
        self
    }
}
impl Sub for Rules {
    type Output = Rules;
    fn sub(self, other: Rules) -> Rules {
        Rules {
            rules: self.rules - other.rules,
            chains: self.chains - other.chains,
            matches: self.matches - other.matches,
            statistics: self.statistics - other.statistics,
            recents: self.recents - other.recents,
            port_names: self.port_names - other.port_names,
            jumps: self.jumps - other.jumps,
            extensions: self.extensions,
        }
    }
}

impl Rules {
    /// Those of one chain.
    pub fn of_chain(chain: &Chain) -> Rules {
        let mut sum = Rules { chains: u64::from(chain.base.is_none()), ..Rules::default() };
        for rule in &chain.rules {
            sum.rules += 1;
            sum.matches += rule.matches.len() as u64;
            sum.jumps += u64::from(matches!(rule.target, Some(Target::Jump(_) | Target::Goto(_))));
            sum.extensions |= rule.target.as_ref().map_or(0, extension_of_target);
            for m in &rule.matches {
                sum.extensions |= extension(m);
                sum.statistics += u64::from(matches!(m, Match::Statistic { .. }));
                sum.recents += u64::from(matches!(m, Match::Recent { .. }));
                // libxt_tcp has a parser of its own, which tries a number first.
                let named = matches!(m, Match::Ports { proto, sport, dport }
                    if *proto != Proto::Tcp && (sport.is_some() || dport.is_some()));
                sum.port_names += u64::from(named);
            }
        }
        sum
    }

    /// Those of a table.
    pub fn of_table(table: &Table) -> Rules {
        table.chains.iter().map(Rules::of_chain).fold(Rules::default(), Add::add)
    }

    /// Bytes of their blob, about: entries with heads and tails of chains, matches of which most are comments or
    /// ports, targets (`layout.rs` has it exactly).
    fn blob(&self) -> f64 {
        (self.rules * 152 + self.chains * 328 + self.matches * 168) as f64
    }
}

/// The bit of the statistic match's extension, which brings the mathematical library with it.
const STATISTIC: u32 = 1;
/// Extensions of what kube-proxy always writes (comment, conntrack, nfacct, mark, addrtype; MARK, MASQUERADE) and of any Service
/// (tcp; DNAT).
pub const USUAL: u32 = 0b1_1110_0111_1100;

/// A bit for each extension (`libxt_NAME.so`) that a match needs.
fn extension(m: &Match) -> u32 {
    match m {
        Match::Statistic { .. } => STATISTIC,
        Match::Comment(_) => 1 << 2,
        Match::Conntrack { .. } | Match::State(_) => 1 << 3,
        Match::Nfacct(_) => 1 << 4,
        Match::Mark { .. } => 1 << 5,
        Match::AddrtypeLocal { .. } => 1 << 6,
        Match::Ports { proto: Proto::Tcp, .. } => 1 << 12,
        Match::Ports { .. } => 1 << 13,
        Match::Recent { .. } => 1 << 14,
        Match::Set { .. } => 1 << 15,
        _ => 1 << 16,
    }
}

/// The same of a target.
fn extension_of_target(target: &Target) -> u32 {
    match target {
        Target::Mark { .. } => 1 << 10,
        Target::Masquerade { .. } => 1 << 11,
        Target::Dnat { .. } => 1 << 9,
        Target::Reject { .. } => 1 << 17,
        _ => 0,
    }
}

/// Chains between two entries of the index (`CHAIN_INDEX_BUCKET_LEN`).
const BUCKET: u64 = 40;
/// New chains beyond those that the index has room for, after which it is made anew (`CHAIN_INDEX_INSERT_MAX`).
const INSERTS: u64 = 355;

/// Names compared by a look-up, on average, in a list of `chains` of which the first `known` were there when the table
/// was read and the others were added one by one.
fn steps(chains: u64, known: u64) -> f64 {
    let mut indexed = known.max(1);
    let room = |indexed: u64| indexed.div_ceil(BUCKET) * BUCKET;
    // Each rebuild comes at the first insertion beyond what is allowed.
    while room(indexed) + INSERTS < chains {
        indexed = room(indexed) + INSERTS + 1;
    }
    chains as f64 / indexed.div_ceil(BUCKET) as f64 / 2.0
}

fn far(rules: u64, table: &Rules) -> u64 {
    super::far_things(rules, table.blob())
}

/// `iptables-restore --noflush` of `text` into a table that was `before` and is `after`.
pub fn restore(text: Rules, before: Rules, after: Rules) -> SyncWork {
    let new_chains = after.chains.saturating_sub(before.chains);
    let lookup = steps(after.chains, before.chains);
    let lookups = text.rules + text.jumps;
    let chain_steps = lookups as f64 * lookup + new_chains as f64 * lookup / 2.0;
    SyncWork {
        execs: 1,
        modules: u64::from((text.extensions & !STATISTIC).count_ones()),
        statistic_modules: u64::from(text.extensions & STATISTIC),
        restore_rules: text.rules,
        restore_matches: text.matches,
        restore_statistics: text.statistics,
        restore_recents: text.recents,
        restore_port_names: text.port_names,
        chain_steps: chain_steps.round() as u64,
        read_rules: before.rules,
        replaced_rules: after.rules,
        replaced_matches: after.matches,
        far_rules: far(before.rules, &before) + far(after.rules, &after),
        freed_rules: before.rules,
        ..SyncWork::default()
    }
}

/// `iptables -C`, or an `iptables -N` of a chain that is there: the table is read and nothing changes.
pub fn check(table: Rules) -> SyncWork {
    SyncWork {
        execs: 1,
        read_rules: table.rules,
        far_rules: far(table.rules, &table),
        ..SyncWork::default()
    }
}

/// `iptables-save -t`.
pub fn save(table: Rules) -> SyncWork {
    SyncWork {
        save_execs: 1,
        saved_rules: table.rules,
        saved_matches: table.matches,
        far_saved_rules: far(table.rules, &table),
        ..SyncWork::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_are_as_far_as_an_index_that_is_renewed_after_355_chains_makes_them() {
        // One chain after another into a table that had none, as libiptc counts.
        let mut index = 1u64;
        for chains in 1..3_000u64 {
            if chains > index * BUCKET + INSERTS {
                index = chains.div_ceil(BUCKET);
            }
            let law = steps(chains, 0);
            assert!((law - chains as f64 / index as f64 / 2.0).abs() < 1e-9, "{chains}: {law}");
        }
        // A table that was read has a whole index: half a bucket.
        assert_eq!(steps(4_000, 4_000), 20.0);
    }

    #[test]
    fn a_change_of_one_rule_reads_and_replaces_the_whole_table() {
        let table = Rules { rules: 5_000, chains: 2_000, matches: 8_000, ..Rules::default() };
        let one = Rules { rules: 1, matches: 2, ..Rules::default() };
        let work = restore(one, table, table + one);
        assert_eq!((work.read_rules, work.replaced_rules, work.restore_rules), (5_000, 5_001, 1));
    }
}
