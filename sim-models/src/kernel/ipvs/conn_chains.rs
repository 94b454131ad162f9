//! Where connections are chained: the fixed table's buckets, or the resizable table of Linux 7.1.
//!
//! Source: `net/netfilter/ipvs/ip_vs_conn.c` (`ip_vs_conn_hashkey`, `ip_vs_conn_hash`), Linux 6.12, and commits
//! 2fa7cc9c7025 and f20c73b0460d. The fixed table hashes the client's address, port and protocol alone, so that both
//! directions walk the same chain. The resizable one hashes both ends with SipHash and has two nodes for each
//! translated connection, one for a direction; templates have one.
//!
//! A bucket of the fixed table is an array here, oldest first, with a tag of each connection's two keys: a walk
//! counts every entry that the kernel would compare and looks at the connection only where the tag is equal.

use super::key_index::mix;
use super::rht::ResizableTable;
use sim_core::classify::Proto;
use sim_core::classify::hash::{jhash, jhash_3words};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

/// Buckets that a resizable table begins with (`IP_VS_CONN_TAB_MIN_BITS`).
const RESIZABLE_MIN_BITS: u32 = 8;

/// What a packet is looked up by: the client's side, the other side and the direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The virtual server for requests, the real server for replies.
    pub other: SocketAddr,
    /// Protocol number.
    pub proto: u8,
    /// Of a reply.
    pub reply: bool,
}

impl Ends {
    #[inline]
    fn tag(&self) -> u32 {
        let fold = |at: &SocketAddr| {
            let ip = match at.ip() {
                IpAddr::V4(v4) => u64::from(v4.to_bits()),
                IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
            };
            ip.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ u64::from(at.port())
        };
        mix(fold(&self.client).rotate_left(21) ^ fold(&self.other) ^ u64::from(self.proto) << 56)
    }

    /// Bucket of the fixed table, before the mask.
    #[inline]
    fn client_hash(&self, rnd: u32) -> u32 {
        let folded = match self.client.ip() {
            IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
            IpAddr::V6(v6) => jhash(&v6.octets(), rnd),
        };
        // The kernel hashes the port as it stands in the header, on a little-endian machine.
        jhash_3words(folded, u32::from(self.client.port().swap_bytes()), u32::from(self.proto), rnd)
    }

    /// Hash of the resizable table: the same of a request and of a template, another of a reply.
    fn keyed_hash(&self, key: (u64, u64)) -> u32 {
        let mut sip = SipHasher24::new_with_keys(key.0, key.1);
        let port = |at: &SocketAddr| u64::from(at.port().swap_bytes());
        let a = u64::from(self.proto) << 16 | port(&self.client);
        match (self.client.ip(), self.other.ip()) {
            (IpAddr::V4(client), IpAddr::V4(other)) => {
                let word = |ip: std::net::Ipv4Addr| u64::from(u32::from_le_bytes(ip.octets())) << 32;
                sip.write_u64(a | word(client));
                sip.write_u64(word(other) | port(&self.other));
            }
            (client, other) => {
                let words = |ip: IpAddr| {
                    let octets = match ip {
                        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                        IpAddr::V6(v6) => v6.octets(),
                    };
                    let word = |n: usize| {
                        let bytes: [u8; 4] = octets[4 * n..4 * n + 4].try_into().expect("four bytes");
                        u64::from(u32::from_le_bytes(bytes))
                    };
                    [word(0), word(1), word(2), word(3)]
                };
                let (client, other) = (words(client), words(other));
                sip.write_u64(a | (other[2] << 32 ^ port(&self.other)));
                sip.write_u64(client[0] << 32 | client[1]);
                sip.write_u64((client[2] << 32 | client[3]) ^ other[1]);
                sip.write_u64(other[0] << 32 | other[3]);
            }
        }
        sip.finish() as u32
    }
}

/// The two keys of a connection, or the one of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    /// Of requests.
    pub request: Ends,
    /// Of replies.
    pub reply: Option<Ends>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    request: u32,
    reply: u32,
    id: u32,
}

/// Chains of connections, which are numbers here.
#[derive(Clone, Debug)]
pub(super) enum Chains {
    /// See [`Chains::fixed`].
    Fixed(Fixed),
    /// See [`Chains::resizable`]. Nodes are twice a connection's number, plus one for replies.
    Resizable(ResizableTable),
}

/// The fixed table.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    buckets: Vec<Vec<Member>>,
    rnd: u32,
}

/// Node of a connection's requests or replies.
fn node(id: u32, reply: bool) -> u32 {
    2 * id + u32::from(reply)
}

impl Chains {
    /// 2^`bits` buckets; `rnd` is the boot's hash seed (`ip_vs_conn_rnd`).
    pub fn fixed(bits: u32, rnd: u32) -> Self {
        Chains::Fixed(Fixed { buckets: vec![Vec::new(); 1 << bits], rnd })
    }

    /// From 2^8 up to 2^`bits` buckets.
    pub fn resizable(load_factor: i8, bits: u32, seed: u32) -> Self {
        Chains::Resizable(ResizableTable::new(load_factor, RESIZABLE_MIN_BITS, bits, seed))
    }

    /// Buckets.
    pub fn buckets(&self) -> usize {
        match self {
            Chains::Fixed(table) => table.buckets.len(),
            Chains::Resizable(table) => table.size(),
        }
    }

    /// Memory that this model itself takes, in bytes.
    pub fn model_bytes(&self) -> usize {
        match self {
            Chains::Fixed(table) => {
                let members: usize = table.buckets.iter().map(Vec::capacity).sum();
                table.buckets.capacity() * size_of::<Vec<Member>>() + members * size_of::<Member>()
            }
            Chains::Resizable(table) => table.model_bytes(),
        }
    }

    /// The connection that `is_it` recognises among those with these ends, newest first, and the entries compared.
    #[inline]
    pub fn find(&self, ends: &Ends, mut is_it: impl FnMut(u32) -> bool) -> (Option<u32>, u32) {
        match self {
            Chains::Fixed(table) => {
                let members = &table.buckets[table.bucket(ends.client_hash(table.rnd))];
                let mut steps = 0;
                if !members.is_empty() {
                    let tag = ends.tag();
                    for member in members.iter().rev() {
                        steps += 1;
                        let there = if ends.reply { member.reply } else { member.request };
                        if there == tag && is_it(member.id) {
                            return (Some(member.id), steps);
                        }
                    }
                }
                (None, steps)
            }
            Chains::Resizable(table) => {
                let wanted = u32::from(ends.reply);
                let (found, steps) =
                    table.find(ends.keyed_hash(table.key()), |n| n & 1 == wanted && is_it(n >> 1));
                (found.map(|n| n >> 1), steps)
            }
        }
    }

    /// What [`Chains::insert`] and [`Chains::remove`] want to be told of a connection with these ends.
    #[inline]
    pub fn chain(&self, request: &Ends) -> u32 {
        match self {
            Chains::Fixed(table) => request.client_hash(table.rnd),
            Chains::Resizable(_) => 0,
        }
    }

    /// Adds a connection at the head of its bucket.
    #[inline]
    pub fn insert(&mut self, id: u32, keys: &Keys, chain: u32) {
        match self {
            Chains::Fixed(table) => {
                let bucket = table.bucket(chain);
                let reply = keys.reply.map_or(0, |ends| ends.tag());
                table.buckets[bucket].push(Member { request: keys.request.tag(), reply, id });
            }
            Chains::Resizable(table) => {
                table.insert(node(id, false), keys.request.keyed_hash(table.key()));
                if let Some(reply) = keys.reply {
                    table.insert(node(id, true), reply.keyed_hash(table.key()));
                }
            }
        }
    }

    /// Takes a connection out, which replies find too (`both`) or do not.
    #[inline]
    pub fn remove(&mut self, id: u32, chain: u32, both: bool) {
        match self {
            Chains::Fixed(table) => {
                let bucket = table.bucket(chain);
                let members = &mut table.buckets[bucket];
                let at = members.iter().position(|m| m.id == id).expect("in its bucket");
                members.remove(at);
            }
            Chains::Resizable(table) => {
                table.remove(node(id, false));
                if both {
                    table.remove(node(id, true));
                }
            }
        }
    }

    /// Lets a resizable table grow after the number of connections rose to `len`.
    pub fn grow(&mut self, len: usize, keys: impl Fn(u32) -> Keys) {
        if let Chains::Resizable(table) = self {
            table.grow(len, |n, key| hash_of(n, &keys(n >> 1), key));
        }
    }

    /// Brings a resizable table to the size that `len` connections ask for (`conn_resize_work_handler`).
    pub fn check_size(&mut self, len: usize, keys: impl Fn(u32) -> Keys) {
        if let Chains::Resizable(table) = self {
            table.resize(len, |n, key| hash_of(n, &keys(n >> 1), key));
        }
    }

    /// Invalidates a template: in the fixed table it is hashed again to the head of its bucket, in the resizable one
    /// it stays where it is (`ip_vs_check_template`).
    pub fn invalidate(&mut self, id: u32, keys: &Keys, chain: u32) {
        if let Chains::Fixed(_) = self {
            self.remove(id, chain, keys.reply.is_some());
            self.insert(id, keys, chain);
        }
    }
}

fn hash_of(node: u32, keys: &Keys, key: (u64, u64)) -> u32 {
    let ends = if node & 1 == 0 { &keys.request } else { keys.reply.as_ref().expect("has a node") };
    ends.keyed_hash(key)
}

impl Fixed {
    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }
}

/// The fixed table's bucket of a client, for what checks it.
pub(super) fn fixed_bucket(client: SocketAddr, proto: Proto, rnd: u32, buckets: usize) -> usize {
    let ends = Ends { client, other: client, proto: proto.number(), reply: false };
    ends.client_hash(rnd) as usize & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ends(client: u16, other: u16, reply: bool) -> Ends {
        let at = |net: u8, port: u16| SocketAddr::from(([10, net, 0, 1], port));
        Ends { client: at(1, client), other: at(2, other), proto: 6, reply }
    }

    proptest! {
        /// The oracle: every node in a list, newest first; those of the same bucket are walked.
        #[test]
        fn both_directions_walk_the_newer_nodes_of_their_bucket(
            ports in prop::collection::btree_set((1u16..40, 1u16..4), 1..80),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            template in any::<bool>(),
        ) {
            let mut chains = Chains::resizable(-1, 10, 77);
            let keys: BTreeMap<u32, Keys> = (0..).zip(&ports).map(|(id, &(client, other))| {
                let reply = (!template || id % 3 > 0).then(|| ends(client, other + 10, true));
                (id, Keys { request: ends(client, other, false), reply })
            }).collect();
            let mut alive: Vec<u32> = Vec::new();
            for (&id, keys) in &keys {
                chains.insert(id, keys, 0);
                alive.push(id);
            }
            for pick in gone {
                if alive.len() > 1 {
                    let id = alive.remove(pick.index(alive.len()));
                    chains.remove(id, 0, keys[&id].reply.is_some());
                }
            }
            let Chains::Resizable(table) = &chains else { unreachable!("made above") };
            let (key, mask) = (table.key(), table.size() as u32 - 1);
            for (id, own) in &keys {
                for wanted in [Some(own.request), own.reply].into_iter().flatten() {
                    let (mut steps, mut found) = (0, None);
                    'walk: for &there in alive.iter().rev() {
                        // Of one connection the node of replies was added last.
                        for node in [keys[&there].reply, Some(keys[&there].request)].into_iter().flatten() {
                            if (node.keyed_hash(key) ^ wanted.keyed_hash(key)) & mask == 0 {
                                steps += 1;
                                if there == *id && node.reply == wanted.reply {
                                    found = Some(there);
                                    break 'walk;
                                }
                            }
                        }
                    }
                    prop_assert_eq!(chains.find(&wanted, |n| n == *id), (found, steps));
                }
            }
        }
    }

    #[test]
    fn a_resizable_table_keeps_connections_findable_while_it_grows_and_shrinks() {
        let mut chains = Chains::resizable(-4, 12, 5);
        let keys = |id: u32| Keys {
            request: ends(id as u16 + 1, 80, false),
            reply: Some(ends(id as u16 + 1, 8080, true)),
        };
        let mut sizes = vec![chains.buckets()];
        for id in 0..1_000 {
            chains.insert(id, &keys(id), 0);
            chains.grow(id as usize + 1, keys);
            if sizes.last() != Some(&chains.buckets()) {
                sizes.push(chains.buckets());
            }
        }
        assert_eq!(
            sizes,
            [256, 512, 1024, 2048, 4096],
            "sixteen buckets a connection until there are no more"
        );
        for id in 0..1_000 {
            for wanted in [keys(id).request, keys(id).reply.unwrap()] {
                assert_eq!(chains.find(&wanted, |n| n == id).0, Some(id));
            }
        }
        for id in 10..1_000 {
            chains.remove(id, 0, true);
        }
        chains.check_size(10, keys);
        assert_eq!(chains.buckets(), 512);
        assert_eq!(chains.find(&keys(3).request, |n| n == 3).0, Some(3));
    }

    #[test]
    fn the_fixed_table_hashes_the_client_alone_and_the_resizable_one_both_ends() {
        let (fixed, resizable) = (Chains::fixed(12, 5), Chains::resizable(-4, 12, 5));
        let Chains::Fixed(table) = &fixed else { unreachable!("made above") };
        let Chains::Resizable(other) = &resizable else { unreachable!("made above") };
        let hash = |ends: Ends| (ends.client_hash(table.rnd), ends.keyed_hash(other.key()));
        let (one, two, reply) = (hash(ends(5, 80, false)), hash(ends(5, 81, false)), hash(ends(5, 80, true)));
        assert_eq!(one.0, two.0);
        assert_eq!(one.0, reply.0);
        assert_ne!(one.1, two.1);
    }
}
