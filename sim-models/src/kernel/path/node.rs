//! [`NodeState`]: what one node's kernel remembers from packet to packet.

use super::route::Routes;
use crate::kernel::answer::IcmpLimit;
use crate::kernel::conntrack::{Conntrack, ConntrackConfig};
use crate::kernel::hook::{KernelRandom, NodeCx};
use crate::kernel::ipvs::{IpvsConfig, IpvsState, Services};
use crate::kernel::xtables::memory::Memory;
use crate::kernel::xtables::recent::RecentTables;
use crate::kernel::{ebpf, nftables, portal};
use sim_core::classify::Family;
use sim_core::rng::Stream;
use std::net::IpAddr;

/// What a node's kernel remembers from packet to packet.
pub struct NodeState {
    /// Connections.
    pub conntrack: Conntrack,
    /// IPVS connections and schedulers.
    pub ipvs: IpvsState,
    /// Its virtual servers where they are not those of its rules: some wait for their last connection.
    pub servers: Option<Services>,
    /// Devices and where they lead.
    pub routes: Routes,
    pub(super) node: NodeCx,
    /// First address of each family.
    node_ips: [Option<IpAddr>; 2],
    pub(super) random: KernelRandom,
    pub(super) recent: RecentTables,
    pub(super) memory: Memory,
    /// Contents of nftables' dynamic sets (affinity).
    pub(super) dynamic: nftables::DynamicSets,
    /// What rules of iptables-nft remember.
    pub(super) xtables_dynamic: nftables::DynamicSets,
    /// Maps of an eBPF load balancer that packets fill.
    pub(super) maps: ebpf::state::NodeMaps,
    /// What a proxy in user space remembers.
    pub(super) pairs: portal::Pairs,
    /// How many ICMP errors the node sends.
    pub icmp: IcmpLimit,
}

impl NodeState {
    /// A node with the addresses `node_ips` that has seen no packet; masquerading uses the first address of the
    /// packet's family. `path` names the node for its random streams.
    ///
    /// # Panics
    /// If `node_ips` is empty.
    pub fn new(seed: u64, path: &str, cores: u32, node_ips: &[IpAddr]) -> Self {
        assert!(!node_ips.is_empty(), "a node without an address");
        let mut boot = Stream::new(seed, path, "boot keys");
        let key = (boot.next_u64(), boot.next_u64());
        let first = |v4: bool| node_ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
        NodeState {
            conntrack: Conntrack::new(ConntrackConfig::for_cores(cores), key),
            ipvs: IpvsState::new(IpvsConfig::default(), boot.next_u32()),
            servers: None,
            routes: Routes::default(),
            node: NodeCx { local_addrs: node_ips.iter().copied().collect() },
            node_ips: [first(true), first(false)],
            random: KernelRandom::new(Stream::new(seed, path, "get_random_u32")),
            recent: RecentTables::default(),
            memory: Memory::default(),
            dynamic: nftables::DynamicSets::new(),
            xtables_dynamic: nftables::DynamicSets::new(),
            maps: ebpf::state::NodeMaps::new(Stream::new(seed, path, "bpf_get_prandom_u32")),
            pairs: portal::Pairs::default(),
            icmp: IcmpLimit::default(),
        }
    }

    /// The CPU's random numbers, for whom a script is to dictate them.
    pub fn random(&mut self) -> &mut KernelRandom {
        &mut self.random
    }

    /// An address of device `device` or, where it has none, of the node (`inet_select_addr`).
    pub(super) fn address(&self, device: Option<usize>, family: Family) -> Option<IpAddr> {
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        let own = device.and_then(|d| self.routes.addresses(d).iter().copied().find(of_family));
        own.or(self.node_ips[usize::from(family == Family::Ipv6)])
    }
}
