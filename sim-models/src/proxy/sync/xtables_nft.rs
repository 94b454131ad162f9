//! What a run of iptables-nft does: the same commands, on nf_tables.
//!
//! Source: iptables 1.8.9, `iptables/nft.c`, `nft-cache.c`; Linux `net/netfilter/nft_compat.c`. Rules are added and
//! removed one by one, so that no whole table is replaced, but chains are cached, and each that is declared finds its place
//! in a list sorted by name, past half of those declared before. A table's transaction waits until the rules removed by the last one are destroyed.
//!
//! Left out: what else uses nf_tables on the node.

use super::xtables::Rules;
use super::{SyncWork, far_steps_of_growing};

/// Bytes of list that a step reads: the node, its chain and the name.
const STEP_BYTES: f64 = 256.0;

/// `iptables-nft-restore --noflush` of `text` into a table that was `before` and is `after`; `shared` rules of it are in
/// one chain that is written anew.
pub fn restore(text: Rules, before: Rules, after: Rules, shared: u64) -> SyncWork {
    let sort = text.chains * after.chains / 4;
    // Flushing chains removes rules: filter's before nat's are added, nat's at the end.
    let removes = u64::from(before.rules > 0);
    let rewritten = if removes > 0 { shared } else { 0 };
    SyncWork {
        execs: 1,
        xn_rules: text.rules,
        xn_matches: text.matches,
        xn_cached_chains: before.chains,
        xn_sort_steps: sort,
        xn_far_sort_steps: far_steps_of_growing(sort, after.chains as f64 * STEP_BYTES),
        xn_rule_pairs: super::pairs(rewritten),
        grace_periods: removes,
        grace_periods_after: removes,
        ..SyncWork::default()
    }
}

/// `iptables -C`, or an `iptables -N` of a chain that is there.
pub fn check(_table: Rules) -> SyncWork {
    SyncWork { execs: 1, ..SyncWork::default() }
}

/// `iptables-nft-save -t`.
pub fn save(table: Rules) -> SyncWork {
    SyncWork { save_execs: 1, xn_saved_rules: table.rules, ..SyncWork::default() }
}
