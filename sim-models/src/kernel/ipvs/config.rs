//! Settings of IPVS on a node, and what differs between kernels.
//!
//! Source: `Documentation/networking/ipvs-sysctl.rst`; what kube-proxy sets: `pkg/proxy/ipvs/proxier.go:NewProxier`.

use super::conn_table;
use super::scheduler::Overhead;

/// Which hash tables services and connections are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// 256 buckets of services, 2^`conn_tab_bits` of connections, chosen by an exclusive or and by the client's
    /// side (Linux up to 7.0).
    #[default]
    Fixed,
    /// Tables that follow the number of entries, with keyed hashes of all addresses and ports (Linux 7.1 and later,
    /// commits b655388111cf, 840aac3d900d, 2fa7cc9c7025, f20c73b0460d).
    Resizable(LoadFactors),
}

impl Tables {
    /// Resizable tables with the kernel's load factors.
    pub const RESIZABLE: Tables = Tables::Resizable(LoadFactors { services: -3, connections: -4 });
}

/// Binary logarithms of the entries for each bucket above which a resizable table grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFactors {
    /// `svc_lfactor`.
    pub services: i8,
    /// `conn_lfactor`. A translated connection has two nodes and counts once.
    pub connections: i8,
}

/// Settings of IPVS on a node. Which tables it has follows from its [`super::Services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpvsConfig {
    /// Binary logarithm of the connection table's buckets; of the most that a resizable one gets.
    pub conn_tab_bits: u32,
    /// How schedulers weigh connections in this kernel.
    pub overhead: Overhead,
    /// `conn_reuse_mode`: 0 keeps a connection whatever its state, bit 0 schedules a SYN on a closed one anew, bit 1
    /// (alone or with it) also one after FIN whose replies bypass this node.
    pub conn_reuse_mode: u8,
    /// Linux before 5.9. A SYN that would be scheduled anew was dropped whenever conntrack knew it, now only where it
    /// belongs to a confirmed conntrack entry (commit f0a5e4d7a594). Connections of a deleted destination ended at their
    /// next packet, now they end together with it under `expire_nodest_conn` (commit 04231e52d355). And
    /// `conn_reuse_mode` 0 kept connections of destinations of weight 0 too.
    pub before_linux_5_9: bool,
    /// `expire_nodest_conn`: a packet that finds its destination gone ends the connection.
    pub expire_nodest_conn: bool,
    /// `expire_quiescent_template`: a destination of weight 0 loses its persistent clients.
    pub expire_quiescent_template: bool,
    /// `conntrack`: connections are tracked by netfilter too.
    pub conntrack: bool,
    /// `sloppy_tcp`: any TCP packet but a reset may open a connection.
    pub sloppy_tcp: bool,
}

/// What kube-proxy sets, on a kernel's defaults.
impl Default for IpvsConfig {
    fn default() -> Self {
        IpvsConfig {
            conn_tab_bits: conn_table::DEFAULT_BITS,
            overhead: Overhead::default(),
            conn_reuse_mode: 1,
            before_linux_5_9: false,
            expire_nodest_conn: true,
            expire_quiescent_template: true,
            conntrack: true,
            sloppy_tcp: false,
        }
    }
}
