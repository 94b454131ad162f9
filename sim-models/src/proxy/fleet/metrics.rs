//! What one kube-proxy counts: the metrics of `pkg/proxy/metrics/metrics.go`, as numbers.
//!
//! Printed under their names by [`exposition`](super::exposition). A process starts them anew.

use sim_core::units::{SimSpan, SimTime};

/// Upper bounds of durations: 0.001 * 2^k seconds.
pub const DURATION_BUCKETS: usize = 15;
/// Upper bounds of network programming latencies, see [`programming_bound`].
pub const PROGRAMMING_BUCKETS: usize = 81;

const NS: u64 = 1_000_000_000;

/// A Prometheus histogram: counts below each bound and, in the last place, beyond all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets<const N: usize> {
    /// Not cumulative.
    pub counts: [u32; N],
    /// Sum of what was observed.
    pub sum_ns: u64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Buckets { counts: [0; N], sum_ns: 0 }
    }
}

impl<const N: usize> Buckets<N> {
    /// Observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&n| u64::from(n)).sum()
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        for (n, more) in self.counts.iter_mut().zip(&other.counts) {
            *n += more;
        }
        self.sum_ns += other.sum_ns;
    }
}

/// Durations of syncs.
pub type Durations = Buckets<{ DURATION_BUCKETS + 1 }>;
/// Network programming latencies.
pub type Programming = Buckets<{ PROGRAMMING_BUCKETS + 1 }>;

impl Durations {
    /// Counts one.
    #[inline]
    pub fn observe(&mut self, span: SimSpan) {
        let ns = span.as_ns();
        let ms = ns.saturating_sub(1) / 1_000_000;
        let bucket = if ms == 0 { 0 } else { ms.ilog2() as usize + 1 };
        self.counts[bucket.min(DURATION_BUCKETS)] += 1;
        self.sum_ns += ns;
    }
}

impl Programming {
    /// Counts one.
    #[inline]
    pub fn observe(&mut self, span: SimSpan) {
        self.counts[programming_bucket(span.as_ns())] += 1;
        self.sum_ns += span.as_ns();
    }
}

/// Bounds: 0, 0.25, 0.5, 1 to 59 by 1, 60 to 115 by 5, 120 to 300 by 30 seconds. (The zero is there because upstream's
/// `merge` begins with one.)
#[inline]
fn programming_bucket(ns: u64) -> usize {
    if ns <= NS / 2 {
        return if ns == 0 { 0 } else { 1 + usize::from(ns > NS / 4) };
    }
    let over = |from: u64, step: u64| (ns - from * NS).div_ceil(step * NS) as usize;
    match ns.div_ceil(NS) {
        0..=59 => 2 + over(0, 1),
        60..=115 => 61 + over(55, 5),
        116..=300 => 73 + over(90, 30),
        _ => PROGRAMMING_BUCKETS,
    }
}

/// The bound of a bucket of network programming latencies, in milliseconds.
pub fn programming_bound_ms(bucket: usize) -> u64 {
    match bucket {
        0..=2 => bucket as u64 * 250,
        3..=61 => (bucket as u64 - 2) * 1_000,
        62..=73 => 60_000 + (bucket as u64 - 62) * 5_000,
        _ => 120_000 + (bucket as u64 - 74) * 30_000,
    }
}

/// The metrics of one process.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// `sync_proxy_rules_duration_seconds`.
    pub syncs: Durations,
    /// `sync_full_proxy_rules_duration_seconds`.
    pub full: Durations,
    /// `sync_partial_proxy_rules_duration_seconds`.
    pub partial: Durations,
    /// `network_programming_duration_seconds`.
    pub programming: Programming,
    /// `sync_proxy_rules_last_queued_timestamp_seconds`.
    pub last_queued: Option<SimTime>,
    /// `sync_proxy_rules_last_timestamp_seconds`.
    pub last_synced: Option<SimTime>,
    /// `sync_proxy_rules_endpoint_changes_total` of the list at the start: one for each Service with endpoints.
    pub endpoint_changes: u64,
    /// `sync_proxy_rules_service_changes_total` of it.
    pub service_changes: u64,
    /// `sync_proxy_rules_iptables_restore_failures_total`.
    pub restore_failures: u32,
    /// `sync_proxy_rules_iptables_partial_restore_failures_total`.
    pub partial_failures: u32,
    /// `sync_proxy_rules_nftables_sync_failures_total`.
    pub nftables_failures: u32,
    /// `conntrack_reconciler_sync_duration_seconds`.
    pub reconciler: Durations,
    /// `conntrack_reconciler_deleted_entries_total`.
    pub deleted_entries: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (us, bucket) in
            [(0, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (4_000, 2), (16_384_000, 14)]
        {
            let mut durations = Durations::default();
            durations.observe(SimSpan::from_us(us));
            assert_eq!(durations.counts[bucket], 1, "{us} us: {durations:?}");
        }
        let mut durations = Durations::default();
        durations.observe(SimSpan::from_secs(100));
        assert_eq!(durations.counts[DURATION_BUCKETS], 1);
    }

    #[test]
    fn a_latency_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        assert_eq!(programming_bound_ms(PROGRAMMING_BUCKETS - 1), 300_000);
        assert_eq!((0..PROGRAMMING_BUCKETS).map(programming_bound_ms).filter(|b| b % 1_000 != 0).count(), 2);
        for ms in (0..310_000).step_by(50) {
            let expected = (0..PROGRAMMING_BUCKETS)
                .find(|&b| ms <= programming_bound_ms(b))
                .unwrap_or(PROGRAMMING_BUCKETS);
            assert_eq!(programming_bucket(ms * 1_000_000), expected, "{ms} ms");
        }
    }
}
