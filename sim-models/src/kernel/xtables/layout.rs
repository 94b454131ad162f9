//! How big rules are in the kernel, and which cache lines a walk reads.
//!
//! Sizes are those of the x86-64 structures in `include/uapi/linux/netfilter_ipv4/ip_tables.h` and of each
//! extension's info structure, aligned to 8 bytes. A table is one blob: built-in chains end in a policy entry,
//! user chains begin with an ERROR entry and end in a RETURN, and one ERROR entry closes the table
//! (`ip_tables.c:translate_table`).
//!
//! Left out: sizes of what is kept as text; such a table cannot be compiled, unless its rules are skipped.

use super::{Match, Rule, Table, Target};
use sim_core::classify::{Family, Proto};

/// Bytes of a cache line.
pub const LINE: u64 = 64;
/// `struct ipt_standard` without matches: entry plus standard target.
const STANDARD_TARGET: u64 = 40;
/// ERROR target of chain heads and of the table's end.
const ERROR_TARGET: u64 = 64;

/// Bytes of `struct ipt_entry` or `struct ip6t_entry`.
pub fn entry_bytes(family: Family) -> u64 {
    match family {
        Family::Ipv4 => 112,
        Family::Ipv6 => 168,
    }
}

/// Bytes of one match: a 32-byte header and its data.
pub fn match_bytes(m: &Match, family: Family) -> u64 {
    match m {
        Match::Comment(_) => 288,
        // `struct xt_sctp_info` holds a map of chunk types.
        Match::Ports { proto: Proto::Sctp, .. } => 32 + 296,
        Match::Ports { .. } => 48,
        Match::Statistic { .. } => 56,
        Match::Mark { .. } => 48,
        // `state` is an alias: the kernel gets a conntrack match.
        Match::Conntrack { .. } | Match::State(_) => 200,
        Match::AddrtypeLocal { .. } => 40,
        // Revision 1 is used once a mask is given; iptables 1.8 always gives one.
        Match::Recent { .. } => 32 + 232,
        Match::Set { .. } => match family {
            Family::Ipv4 | Family::Ipv6 => 80,
        },
        Match::Nfacct(_) => 32 + 40,
        Match::PhysdevIsIn { .. } => 32 + 72,
        Match::IpvsVirtual { .. } => 32 + 48,
        Match::Extra(extra) => 32 + extra.of().bytes(),
        // Unknown. At least the header is there.
        Match::Opaque(_) => 32,
    }
}

/// Bytes of a target.
pub fn target_bytes(target: Option<&Target>, family: Family) -> u64 {
    match target {
        // `struct nf_nat_ipv4_multi_range_compat` and `struct nf_nat_range`.
        Some(Target::Redirect { .. } | Target::Masquerade { .. }) => match family {
            Family::Ipv4 => 56,
            Family::Ipv6 => 72,
        },
        None | Some(Target::Jump(_) | Target::Goto(_) | Target::Return | Target::Accept | Target::Drop) => {
            STANDARD_TARGET
        }
        Some(Target::Reject | Target::Mark { .. }) => 40,
        Some(Target::Dnat(_)) => 80,
        Some(Target::Extra(extra)) => extra.of().bytes(family),
        // Unknown. At least the header is there.
        Some(Target::Opaque(_)) => STANDARD_TARGET,
    }
}

/// Bytes of a whole rule.
pub fn rule_bytes(rule: &Rule, family: Family) -> u64 {
    entry_bytes(family)
        + rule.matches.iter().map(|m| match_bytes(m, family)).sum::<u64>()
        + target_bytes(rule.target.as_ref(), family)
}

/// Bytes of a user chain's head.
pub fn head_bytes(family: Family) -> u64 {
    entry_bytes(family) + ERROR_TARGET
}

/// Bytes of a policy entry or of a user chain's closing RETURN.
pub fn tail_bytes(family: Family) -> u64 {
    entry_bytes(family) + STANDARD_TARGET
}

/// Size of a table in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobSize {
    /// Bytes of the blob, as `IPT_SO_GET_INFO` reports them.
    pub bytes: u64,
    /// Entries in it.
    pub entries: u64,
}

impl BlobSize {
    /// Kernel memory: the blob and one 16-byte counter per entry and CPU (`xt_percpu_counter_alloc`).
    pub fn memory_bytes(self, cpus: u64) -> u64 {
        self.bytes + if cpus > 1 { self.entries * 16 * cpus } else { 0 }
    }
}

/// The blob that `iptables-restore` would load for `table`.
pub fn blob_size(table: &Table) -> BlobSize {
    let mut size = BlobSize { bytes: head_bytes(table.family), entries: 1 };
    for chain in &table.chains {
        for rule in &chain.rules {
            size.bytes += rule_bytes(rule, table.family);
            size.entries += 1;
        }
        size.bytes += tail_bytes(table.family);
        size.entries += 1;
        if chain.base.is_none() {
            size.bytes += head_bytes(table.family);
            size.entries += 1;
        }
    }
    size
}

/// Cache lines that a rule reads beyond those of its addresses once they fit: the counter, each match's header
/// and, but for a comment, its data, and the target.
pub fn lines_of_body(offset: u64, rule: &Rule, family: Family) -> u32 {
    let line = |at: u64| at / LINE;
    let entry = entry_bytes(family);
    let mut last = line(offset + entry - 21);
    let mut new = 0;
    let mut touch = |from: u64, to: u64| {
        for l in line(from)..=line(to - 1) {
            if l > last {
                new += 1;
                last = l;
            }
        }
    };
    touch(offset + entry - 16, offset + entry);
    let mut at = offset + entry;
    for m in &rule.matches {
        let bytes = match_bytes(m, family);
        let read = if matches!(m, Match::Comment(_)) { 32 } else { bytes };
        touch(at, at + read);
        at += bytes;
    }
    touch(at, at + target_bytes(rule.target.as_ref(), family));
    new
}

/// Cache lines that a rule which fails on its addresses reads: the addresses and masks at 0..16, the flags and
/// the offset of the next entry at 80..92 (IPv6: 0..64 and 130..148). `last_line` is the last line read before.
pub fn new_lines_of_failed_rule(offset: u64, family: Family, last_line: &mut u64) -> u32 {
    let ranges = match family {
        Family::Ipv4 => [(0, 16), (80, 92)],
        Family::Ipv6 => [(0, 64), (130, 148)],
    };
    let mut new = 0;
    for (from, to) in ranges {
        for line in (offset + from) / LINE..=(offset + to - 1) / LINE {
            if line > *last_line || *last_line == u64::MAX {
                new += 1;
                *last_line = line;
            }
        }
    }
    new
}
