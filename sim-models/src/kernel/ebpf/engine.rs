//! Lookups in the service maps, as a socket's connect and as a packet at a device make them.
//!
//! Source: Cilium's `bpf/bpf_sock.c:__sock4_xlate_fwd` (socket-level balancing: a connection is translated once, when
//! it is made, and its packets are not touched), `bpf/lib/nodeport.h:nodeport_lb4` and `bpf/lib/lb.h:lb4_local` (packets
//! from outside), `lb4_lookup_service` (the external scope first, the internal one where the two differ),
//! `sock4_wildcard_lookup` (node ports on any address of the node: the address is looked up among the cluster's, then
//! the wildcard frontend), `lb4_select_backend_id_random`, `lb4_select_backend_id_maglev`.
//!
//! Every helper call on a map is counted as an `ebpf_lookup` or `ebpf_update`. The backend of a TCP connection is drawn;
//! that of UDP follows the socket, so that a socket without connect keeps its backend (`sock_select_slot`). The
//! numbers are BPF's own (`bpf_get_prandom_u32`) and not those that rules draw.
//!
//! Departures: Maglev's permutations are made with our hash, not murmur3, so its tables are alike in law only; node
//! addresses are known without the lookup in the trie of addresses, which is counted all the same. Left out: what is
//! left out of the maps ([`super`]), services for hosts of other clusters, fragments, DSR, XDP.

use super::htab::Htab;
use super::{BackendId, FrontendKind, Scope, ServiceMap};
use sim_core::classify::hash::{jhash, jhash_3words};
use sim_core::classify::{Packet, Proto, Unit, Work};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// `bpf-lb-map-max`: entries of the map of services, and of that of backends.
const MAX_ENTRIES: usize = 65_536;
/// Node ports that wildcard frontends are looked up for.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// How a frontend's backends are chosen among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// At random, or by the socket: the default.
    #[default]
    Random,
    /// By a table of that many places; a prime.
    Maglev(u32),
}

/// The maps of one family as programs look into them.
#[derive(Clone, Debug)]
pub struct Engine {
    services: Htab<6>,
    backends: Htab<1>,
    affinity: BTreeSet<(u32, BackendId)>,
    map: ServiceMap,
    maglev: Vec<Vec<BackendId>>,
    algorithm: Algorithm,
}

/// Where a frontend was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its place among the frontends.
    pub(crate) frontend: usize,
}

/// What the programs say of a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// No Service: it goes its way.
    NoService,
    /// The sender is not among those that the frontend lets in.
    Refused,
    /// A Service without a backend.
    NoBackend,
    /// A backend, by its number.
    Backend(BackendId),
}

impl Engine {
    /// The maps with these entries.
    pub fn new(map: &ServiceMap, algorithm: Algorithm, seed: u32) -> Self {
        let slots: usize = map.frontends.iter().map(|f| 1 + f.slots.len()).sum();
        let mut services = Htab::new(slots.max(MAX_ENTRIES), seed);
        for (n, f) in map.frontends.iter().enumerate() {
            let at = u32::try_from(n).expect("fewer than 2^32 frontends");
            services.insert(service_key(f.addr, f.proto, f.scope, 0), at);
            for (slot, backend) in f.slots.iter().enumerate() {
                services.insert(service_key(f.addr, f.proto, f.scope, slot as u32 + 1), backend.0);
            }
        }
        let mut backends = Htab::new(map.backends.len().max(MAX_ENTRIES), seed ^ 1);
        for b in &map.backends {
            backends.insert([b.id.0], b.id.0 - 1);
        }
        let maglev = match algorithm {
            Algorithm::Random => Vec::new(),
            Algorithm::Maglev(size) => {
                map.frontends.iter().map(|f| maglev_table(map, &f.slots, size)).collect()
            }
        };
        let affinity = map.affinity.iter().map(|a| (a.frontend.0, a.backend)).collect();
        Engine { services, backends, affinity, map: map.clone(), maglev, algorithm }
    }

    /// Kernel memory: elements of BPF hash maps are all there from the beginning.
    pub fn memory_bytes(&self) -> u64 {
        self.services.memory_bytes(12) + self.backends.memory_bytes(12)
    }

    pub(crate) fn map(&self) -> &ServiceMap {
        &self.map
    }

    /// `lb4_lookup_service`, and for node ports the wildcard after it.
    pub(crate) fn frontend(
        &self,
        to: SocketAddr,
        proto: Proto,
        internal: bool,
        is_node: impl Fn(IpAddr) -> bool,
        work: &mut Work,
    ) -> Option<Found> {
        let exact = |addr: SocketAddr, work: &mut Work| {
            let at = self.services.lookup(&service_key(addr, proto, Scope::External, 0), work)?;
            if internal && self.map.frontends[at as usize].two_scopes {
                return self.services.lookup(&service_key(addr, proto, Scope::Internal, 0), work);
            }
            Some(at)
        };
        let found = exact(to, work).or_else(|| {
            if !internal || !NODE_PORTS.contains(&to.port()) {
                return None;
            }
            // Whose address it is: a trie of the cluster's addresses.
            work[Unit::EbpfLookup] += 1;
            if !to.ip().is_loopback() && !is_node(to.ip()) {
                return None;
            }
            let any: IpAddr = match to.ip() {
                IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            exact(SocketAddr::new(any, to.port()), work)
        });
        found.map(|at| Found { frontend: at as usize })
    }

    /// Whether `from` may use the frontend. It is asked for packets from outside only.
    pub(crate) fn lets_in(&self, found: Found, from: IpAddr, work: &mut Work) -> bool {
        let f = &self.map.frontends[found.frontend];
        if !f.checks_source {
            return true;
        }
        work[Unit::EbpfLookup] += 1;
        self.map.source_ranges.iter().any(|r| r.frontend == f.reverse_nat && r.net.contains(&from))
    }

    /// A backend by slot or by Maglev's table; `draw` is the random or the socket's number.
    pub(crate) fn choose(&self, found: Found, packet: &Packet, draw: u32, work: &mut Work) -> Choice {
        let f = &self.map.frontends[found.frontend];
        let Ok(count) = u32::try_from(f.slots.len()) else { return Choice::NoBackend };
        if count == 0 {
            return Choice::NoBackend;
        }
        let id = match self.algorithm {
            Algorithm::Maglev(size) => {
                // The table of tables, and the one of the frontend.
                work[Unit::EbpfLookup] += 2;
                work[Unit::LinesChase] += 3;
                self.maglev[found.frontend][(flow_hash(packet) % size) as usize]
            }
            Algorithm::Random => {
                let key = service_key(f.addr, f.proto, f.scope, draw % count + 1);
                BackendId(self.services.lookup(&key, work).expect("every slot is in the map"))
            }
        };
        self.backend(id, work).map_or(Choice::NoBackend, |_| Choice::Backend(id))
    }

    /// `__lb4_lookup_backend`.
    pub(crate) fn backend(&self, id: BackendId, work: &mut Work) -> Option<SocketAddr> {
        let at = self.backends.lookup(&[id.0], work)?;
        let lines = HEAD_AND_ELEMENT;
        work[Unit::LinesEndpoint] += lines;
        Some(self.map.backends[at as usize].addr)
    }

    /// Whether a remembered backend is still one of the frontend (`cilium_lb_affinity_match`).
    pub(crate) fn may_remember(&self, found: Found, id: BackendId, work: &mut Work) -> bool {
        work[Unit::EbpfLookup] += 1;
        self.affinity.contains(&(self.map.frontends[found.frontend].reverse_nat.0, id))
    }

    /// Whether packets from outside may be for the frontend.
    pub(crate) fn is_routable(&self, found: Found) -> bool {
        let f = &self.map.frontends[found.frontend];
        f.routable && f.kind != FrontendKind::ClusterIp
    }
}

/// Lines that finding a backend reads.
const HEAD_AND_ELEMENT: u32 = 2;

/// `struct lb4_key` and `lb6_key` as words: address, port and slot, protocol and scope.
fn service_key(addr: SocketAddr, proto: Proto, scope: Scope, slot: u32) -> [u32; 6] {
    let scope = u32::from(scope == Scope::Internal);
    let mut key = [0; 6];
    match addr.ip() {
        IpAddr::V4(a) => key[0] = u32::from(a).swap_bytes(),
        IpAddr::V6(a) => {
            for (word, bytes) in key.iter_mut().zip(a.octets().chunks_exact(4)) {
                *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
        }
    }
    key[4] = u32::from(addr.port().swap_bytes()) | slot << 16;
    key[5] = u32::from(proto.number()) | scope << 8;
    key
}

/// `__hash_from_tuple_v4`: a flow's hash for Maglev.
fn flow_hash(p: &Packet) -> u32 {
    let word = |ip: IpAddr| match ip {
        IpAddr::V4(a) => u32::from(a).swap_bytes(),
        IpAddr::V6(a) => jhash(&a.octets(), 0),
    };
    let ports = u32::from(p.dport) << 16 | u32::from(p.sport);
    jhash_3words(word(p.src), word(p.dst), ports, u32::from(p.proto.number()))
}

/// Maglev's table (Eisenbud et al. 2016, 3.4): each backend in turn takes the next free place of its permutation.
fn maglev_table(map: &ServiceMap, slots: &[BackendId], size: u32) -> Vec<BackendId> {
    if slots.is_empty() {
        return Vec::new();
    }
    let steps: Vec<(u32, u32)> = slots
        .iter()
        .map(|&id| {
            let name = map.backend(id).expect("slots name backends").addr.to_string();
            (jhash(name.as_bytes(), 1) % size, jhash(name.as_bytes(), 2) % (size - 1) + 1)
        })
        .collect();
    let mut table = vec![None; size as usize];
    let mut next = vec![0u32; slots.len()];
    let mut left = size;
    'fill: loop {
        for (n, &(offset, skip)) in steps.iter().enumerate() {
            loop {
                let at = (u64::from(offset) + u64::from(next[n]) * u64::from(skip)) % u64::from(size);
                next[n] += 1;
                if table[at as usize].is_none() {
                    table[at as usize] = Some(slots[n]);
                    break;
                }
            }
            left -= 1;
            if left == 0 {
                break 'fill;
            }
        }
    }
    table.into_iter().map(|id| id.expect("every place is taken")).collect()
}
