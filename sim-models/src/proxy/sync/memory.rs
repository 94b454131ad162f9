//! How much memory kube-proxy takes at most: its resident set.
//!
//! kube-proxy keeps every Service port and endpoint, and composes the whole text of what it writes; in nftables mode it
//! also reads the whole table as JSON in each sync. Prices are in `[memory.*]` of a profile, in KiB.
//!
//! Left out: the Go collector's timing, which moves a peak by a fifth from run to run.

use super::{Size, SyncWork};
use crate::kernel::cost::CostProfile;

/// Quantities of memory by name, for a table of this size in a mode whose syncs do this work.
pub fn quantities(table: &Size, work: &SyncWork) -> Vec<(&'static str, u64)> {
    vec![
        ("base", 1),
        ("ports", table.ports),
        ("endpoints", table.endpoints),
        ("composed_rules", work.composed_rules),
        ("parsed_objects", work.parsed_objects),
    ]
}

/// Peak resident memory in KiB, or `None` if the profile prices none. `work` is that of the largest sync.
pub fn peak_kib(table: &Size, work: &SyncWork, profile: &CostProfile) -> Option<f64> {
    profile.memory_price("base")?;
    let price = |name| profile.memory_price(name).unwrap_or(0.0);
    Some(quantities(table, work).into_iter().map(|(name, n)| n as f64 * price(name)).sum())
}
