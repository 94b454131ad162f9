//! The maps of an eBPF load balancer: frontends, their backends by slot, reverse NAT, affinity, source ranges.
//!
//! Source: the maps of Cilium, as its `bpf/lib/lb.h` and `pkg/maps/lbmap` define them and `cilium-dbg bpf lb list`
//! shows them: `cilium_lb4_services_v2` (address, port, protocol, scope and slot; slot 0 is the frontend itself with
//! the number of its backends, slots 1..n name one backend each), `cilium_lb4_backends_v3`, `cilium_lb4_reverse_nat`,
//! `cilium_lb_affinity_match` and `cilium_lb4_source_range`. Here they are data; [`engine`] looks into them and [`state`]
//! is what packets leave behind.
//!
//! Left out: terminating backends in slots beyond the count, weights, zones, L7 proxies, host ports, and the sizes of the maps.

pub mod engine;
mod htab;
mod print;
pub mod state;

pub use print::table;

use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use std::net::SocketAddr;

/// All maps of one family on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMap {
    /// Family of every address in it.
    pub family: Family,
    /// Frontends with their slots, in order of creation.
    pub frontends: Vec<Frontend>,
    /// Backends, each once however many frontends send to it; ids from 1 in this order.
    pub backends: Vec<Backend>,
    /// What replies are translated back to; one a frontend.
    pub reverse_nat: Vec<ReverseNat>,
    /// Which backend may be remembered for which frontend: one entry per backend of a frontend with affinity.
    pub affinity: Vec<AffinityMatch>,
    /// Who may send to a frontend that checks it; a trie by prefix, here in order of creation.
    pub source_ranges: Vec<SourceRange>,
}

/// Number of a backend, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

/// Number of a reverse translation, from 1; 16 bits wide in Cilium's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReverseNatId(pub u32);

/// Which packets a frontend is for, where two traffic policies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// From outside the cluster; and all, where there is only this one.
    External,
    /// From pods and nodes.
    Internal,
}

/// What a frontend is the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// `spec.clusterIP`.
    ClusterIp,
    /// A port of the node; its own addresses and the wildcard.
    NodePort,
    /// `spec.externalIPs`.
    ExternalIp,
    /// A load balancer's address.
    LoadBalancer,
}

impl FrontendKind {
    /// The name that `cilium-dbg bpf lb list` prints.
    pub fn name(self) -> &'static str {
        match self {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::ExternalIp => "ExternalIPs",
            FrontendKind::LoadBalancer => "LoadBalancer",
        }
    }
}

/// One address that clients use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Address and port.
    pub addr: SocketAddr,
    /// Protocol.
    pub proto: Proto,
    /// For which packets.
    pub scope: Scope,
    /// What it is.
    pub kind: FrontendKind,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// There is another frontend of the same address for the other scope.
    pub two_scopes: bool,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// Senders are looked up in [`ServiceMap::source_ranges`].
    pub checks_source: bool,
    /// Packets may come in for it from outside.
    pub routable: bool,
    /// What replies are translated back by.
    pub reverse_nat: ReverseNatId,
    /// Backends by slot: slot 1 is the first.
    pub slots: Vec<BackendId>,
}

/// Where packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its number.
    pub id: BackendId,
    /// Address and port.
    pub addr: SocketAddr,
    /// Protocol.
    pub proto: Proto,
}

/// One reverse translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseNat {
    /// Its number.
    pub id: ReverseNatId,
    /// Source that replies get.
    pub addr: SocketAddr,
}

/// A backend that clients of a frontend may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffinityMatch {
    /// The frontend, by its reverse translation.
    pub frontend: ReverseNatId,
    /// The backend.
    pub backend: BackendId,
}

/// A network that may send to a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// The frontend, by its reverse translation.
    pub frontend: ReverseNatId,
    /// The network.
    pub net: IpNet,
}

impl ServiceMap {
    /// Maps without entries.
    pub fn new(family: Family) -> Self {
        ServiceMap {
            family,
            frontends: Vec::new(),
            backends: Vec::new(),
            reverse_nat: Vec::new(),
            affinity: Vec::new(),
            source_ranges: Vec::new(),
        }
    }

    /// Entries of all maps: a frontend counts once for itself and once a slot.
    pub fn entries(&self) -> u64 {
        let others =
            [self.backends.len(), self.reverse_nat.len(), self.affinity.len(), self.source_ranges.len()];
        (self.service_entries() + others.iter().sum::<usize>()) as u64
    }

    /// Entries of the map of services: frontends and slots.
    fn service_entries(&self) -> usize {
        self.frontends.iter().map(|f| 1 + f.slots.len()).sum()
    }

    /// A backend by its number.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(id.0.checked_sub(1)? as usize)
    }
}
