//! Sizes and timeouts of connection tracking: what the kernel picks for a machine and what kube-proxy makes of it.
//!
//! Source: `nf_conntrack_core.c:nf_conntrack_init_start` (buckets by memory, one entry a bucket), the timeouts at the
//! heads of `nf_conntrack_proto_{tcp,udp,icmp,sctp,generic}.c`; kube-proxy's `server_linux.go:getConntrackMax` and
//! `conntrack.go:SetMax`, which makes the table larger when the limit is more than four times its buckets.

use crate::config;
use sim_core::units::SimSpan;

/// Sizes and timeouts.
#[derive(Clone, Copy, Debug)]
pub struct ConntrackConfig {
    /// Buckets.
    pub buckets: u32,
    /// Greatest number of connections.
    pub max: u32,
    /// Lifetime of idle established TCP connections: kube-proxy sets 24 h.
    pub tcp_established: SimSpan,
    /// Lifetime of a TCP connection that one side has closed and the other has acknowledged: kube-proxy sets an hour
    /// where its configuration says so, the kernel has a minute.
    pub tcp_close_wait: SimSpan,
    /// Lifetime of UDP flows without an answer.
    pub udp: SimSpan,
    /// Lifetime of UDP flows with one, once they have lasted two seconds.
    pub udp_stream: SimSpan,
    /// Whether a connection is picked up from its middle (`nf_conntrack_tcp_loose`, on by default).
    pub tcp_loose: bool,
}

/// Memory of a node that nothing else is said of: more than 4 GiB.
const LARGE_MEMORY: u64 = 8 << 30;

impl ConntrackConfig {
    /// A node with more than 4 GiB of memory and kube-proxy's `conntrack.maxPerCore` of 32,768 and `min` of
    /// 131,072; buckets are what `nf_conntrack_init_start` picks for that much memory.
    pub fn for_cores(cores: u32) -> Self {
        Self::new(cores, &config::ConntrackConfig::default())
    }

    /// The same node with what `conntrack` of the configuration makes of it, times cut to seconds as in
    /// [`proxy::conntrack`](crate::proxy::conntrack); where that is zero the kernel's own settings stand.
    pub fn new(cores: u32, set: &config::ConntrackConfig) -> Self {
        Self::for_machine(LARGE_MEMORY, cores, set)
    }

    /// A node with `memory` bytes.
    pub fn for_machine(memory: u64, cores: u32, set: &config::ConntrackConfig) -> Self {
        let kernels = buckets_for(memory);
        let lifetime = |set: SimSpan, kernel| match set.as_ns() {
            0 => SimSpan::from_secs(kernel),
            ns => SimSpan::from_secs(ns / 1_000_000_000),
        };
        let max = match set.max_per_core {
            // As many as buckets.
            0 => kernels,
            each => each.saturating_mul(cores).max(set.min),
        };
        // kube-proxy asks for a quarter of the limit; the kernel rounds up to whole pages of bucket heads.
        let buckets = if kernels >= max / 4 { kernels } else { (max / 4).next_multiple_of(512) };
        ConntrackConfig {
            buckets,
            max,
            tcp_established: lifetime(set.tcp_established, 432_000),
            tcp_close_wait: lifetime(set.tcp_close_wait, 60),
            udp: lifetime(set.udp, 30),
            udp_stream: lifetime(set.udp_stream, 120),
            tcp_loose: true,
        }
    }
}

/// `nf_conntrack_htable_size` of a machine with `memory` bytes.
fn buckets_for(memory: u64) -> u32 {
    const GIB: u64 = 1 << 30;
    match memory {
        m if m > 4 * GIB => 262_144,
        m if m > GIB => 65_536,
        // 1/16384 of memory, in heads of eight bytes.
        m => u32::try_from(m / 16_384 / 8).expect("at most a GiB").max(1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_and_the_limit_are_those_of_the_configuration_or_the_kernels() {
        let kube_proxy = ConntrackConfig::for_cores(8);
        assert_eq!((kube_proxy.max, kube_proxy.tcp_established.as_secs_f64()), (262_144, 86_400.0));
        assert_eq!(ConntrackConfig::for_cores(1).max, 131_072);
        let zero = SimSpan::ZERO;
        let left = config::ConntrackConfig {
            max_per_core: 0,
            tcp_established: zero,
            tcp_close_wait: zero,
            ..config::ConntrackConfig::default()
        };
        let left = ConntrackConfig::new(64, &left);
        assert_eq!((left.max, left.tcp_established.as_secs_f64()), (262_144, 432_000.0));
        assert_eq!(left.tcp_close_wait.as_secs_f64(), 60.0);
    }

    #[test]
    fn the_table_follows_the_machines_memory_and_grows_with_kube_proxys_limit() {
        let set = config::ConntrackConfig::default();
        let of = |memory: u64, cores| {
            let c = ConntrackConfig::for_machine(memory, cores, &set);
            (c.buckets, c.max)
        };
        assert_eq!(of(8 << 30, 8), (262_144, 262_144));
        // 131,072 / 4 is less than the kernel's own.
        assert_eq!(of(2 << 30, 2), (65_536, 131_072));
        // Half a GiB would have 4,096 buckets; kube-proxy wants a quarter of its least limit.
        assert_eq!(of(512 << 20, 1), (32_768, 131_072));
        assert_eq!(of(256 << 30, 128), (1_048_576, 4_194_304));
        let off = config::ConntrackConfig { max_per_core: 0, ..set };
        let of = |memory: u64| ConntrackConfig::for_machine(memory, 64, &off);
        assert_eq!((of(512 << 20).buckets, of(512 << 20).max), (4096, 4096));
        assert_eq!(of(64 << 20).buckets, 1024);
    }
}
