//! The virtual-service table: 256 chained buckets, newest first in each, or the resizable table of Linux 7.1.
//!
//! Source: `net/netfilter/ipvs/ip_vs_ctl.c`, `ip_vs_svc_hashkey`, `ip_vs_service_find`, Linux 6.12;
//! `ip_vs_svc_hashval` and `ip_vs_svc_desired_size` of commit 840aac3d900d. The fixed table's hash sees only the
//! protocol, the low bits of the address and both port bytes, so Services on one port that share a last octet share
//! a bucket; a lookup costs on average 1 + (S-1)/512 entries when it hits and S/256 when it misses. The address of
//! the network namespace, which only permutes the buckets, is taken as 0. The resizable table hashes address, port
//! and protocol with a key, has at least eight buckets for each service and compares one entry.
//!
//! Entries compared are counted, not walked: a bucket of the fixed table is a list in order of creation, and an entry
//! knows its place. A test holds this against the walk.
//!
//! Left out: services named by a firewall mark (the probe of the table for them is counted, where a kernel makes it
//! without knowing of one), the other network namespaces' services in the same fixed table.

use super::ServiceKey;
use super::config::Tables;
use super::key_index::{KeyIndex, mix};
use super::rht::ResizableTable;
use sim_core::classify::hash::jhash_3words;
use sim_core::classify::{Packet, Proto, Unit, Work};
use std::net::IpAddr;

/// Buckets of the fixed table (`IP_VS_SVC_TAB_SIZE`).
pub const BUCKETS: usize = 256;
/// Binary logarithms of the resizable table's least and most buckets (`IP_VS_SVC_TAB_MIN_BITS`, `_MAX_BITS`).
const RESIZABLE_BITS: (u32, u32) = (4, 20);
/// FTP's control port: a service there also takes what opens data connections.
pub(super) const FTP_PORT: u16 = 21;
/// FTP's data port.
pub(super) const FTP_DATA_PORT: u16 = 20;
/// First port that needs no privilege (`PROT_SOCK`).
const FIRST_FREE_PORT: u16 = 1024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: ServiceKey,
    /// Place in its bucket's list, of the fixed table.
    place: u32,
}

#[derive(Clone, Debug)]
enum Chains {
    Fixed {
        /// Indices in order of creation, by bucket; the kernel's chain is the list backwards.
        buckets: Vec<Vec<u32>>,
        index: KeyIndex,
    },
    Resizable(ResizableTable),
}

/// The table: from key to the index that the caller gave the service.
#[derive(Clone, Debug)]
pub struct ServiceTable {
    chains: Chains,
    /// By the caller's index; absent where it gave none.
    entries: Vec<Option<Entry>>,
    len: usize,
    ftp_services: u32,
    null_services: u32,
}

impl Default for ServiceTable {
    fn default() -> Self {
        ServiceTable::new(Tables::Fixed, 0)
    }
}

/// The address folded to 32 bits in host order: IPv6 is the exclusive or of its four words.
pub(super) fn fold(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (0..4).fold(0, |folded, word| folded ^ (bits >> (32 * word)) as u32)
        }
    }
}

/// The fixed table's bucket of a key.
pub fn bucket(key: &ServiceKey) -> usize {
    let port = u32::from(key.port);
    ((u32::from(key.proto.number()) ^ fold(key.addr) ^ (port >> 8) ^ port) & 0xff) as usize
}

/// `ip_vs_rht_hash_linfo` on a little-endian machine: of IPv6 addresses `ipv6_addr_hash`.
fn keyed_hash(key: &ServiceKey, table_key: (u64, u64)) -> u32 {
    let addr = match key.addr {
        IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
        IpAddr::V6(v6) => fold(IpAddr::V6(v6)).swap_bytes(),
    };
    jhash_3words(u32::from(key.port), u32::from(key.proto.number()), addr, table_key.0 as u32)
}

fn index_hash(key: &ServiceKey) -> u32 {
    let addr = match key.addr {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(29)
        }
    };
    mix(addr << 24 ^ addr >> 40 ^ u64::from(key.port) << 8 ^ u64::from(key.proto.number()))
}

impl ServiceTable {
    /// An empty table of that kind; `seed` gives a resizable one its keys.
    pub fn new(tables: Tables, seed: u32) -> Self {
        let chains = match tables {
            Tables::Fixed => Chains::Fixed { buckets: vec![Vec::new(); BUCKETS], index: KeyIndex::default() },
            Tables::Resizable(factors) => {
                let (min, max) = RESIZABLE_BITS;
                Chains::Resizable(ResizableTable::new(factors.services, min, max, seed))
            }
        };
        ServiceTable { chains, entries: Vec::new(), len: 0, ftp_services: 0, null_services: 0 }
    }

    /// Buckets.
    pub fn buckets(&self) -> usize {
        match &self.chains {
            Chains::Fixed { buckets, .. } => buckets.len(),
            Chains::Resizable(table) => table.size(),
        }
    }

    /// Adds the service `index` at the head of its bucket.
    ///
    /// # Panics
    /// If `index` is taken.
    pub fn insert(&mut self, index: u32, key: ServiceKey) {
        let at = index as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
        }
        assert!(self.entries[at].is_none(), "service index {index} is taken");
        self.len += 1;
        let mut place = 0;
        match &mut self.chains {
            Chains::Fixed { buckets, index: by_key } => {
                let list = &mut buckets[bucket(&key)];
                place = u32::try_from(list.len()).expect("fewer than 2^32 services");
                list.push(index);
                by_key.insert(index_hash(&key), index);
            }
            Chains::Resizable(table) => table.insert(index, keyed_hash(&key, table.key())),
        }
        self.entries[at] = Some(Entry { key, place });
        self.ftp_services += u32::from(key.port == FTP_PORT);
        self.null_services += u32::from(key.port == 0);
        if let Chains::Resizable(table) = &mut self.chains {
            let entries = &self.entries;
            table.grow(self.len, |n, key| keyed_hash(&entry(entries, n).key, key));
        }
    }

    /// Takes the service `index` out.
    ///
    /// # Panics
    /// If it is not in the table.
    pub fn remove(&mut self, index: u32) {
        let Entry { key, place } = self.entries[index as usize].take().expect("no such service index");
        self.len -= 1;
        match &mut self.chains {
            Chains::Fixed { buckets, index: by_key } => {
                let list = &mut buckets[bucket(&key)];
                list.remove(place as usize);
                for &newer in &list[place as usize..] {
                    self.entries[newer as usize].as_mut().expect("in the list").place -= 1;
                }
                by_key.remove(index_hash(&key), index);
            }
            Chains::Resizable(table) => {
                table.remove(index);
                let entries = &self.entries;
                table.shrink(self.len, |n, key| keyed_hash(&entry(entries, n).key, key));
            }
        }
        self.ftp_services -= u32::from(key.port == FTP_PORT);
        self.null_services -= u32::from(key.port == 0);
    }

    /// One walk of one bucket, uncounted: the index, and how many entries were compared.
    #[inline]
    pub fn find(&self, key: &ServiceKey) -> (Option<u32>, u32) {
        match &self.chains {
            Chains::Fixed { buckets, index } => {
                let mut place = 0;
                let found = index.find(index_hash(key), |n| {
                    let entry = entry(&self.entries, n);
                    place = entry.place;
                    entry.key == *key
                });
                let newer = buckets[bucket(key)].len() as u32;
                (found, if found.is_some() { newer - place } else { newer })
            }
            Chains::Resizable(table) => {
                table.find(keyed_hash(key, table.key()), |n| entry(&self.entries, n).key == *key)
            }
        }
    }

    fn probe(&self, key: &ServiceKey, work: &mut Work) -> Option<u32> {
        let (found, steps) = self.find(key);
        work[Unit::IpvsSvcLookup] += 1;
        work[Unit::IpvsSvcSteps] += steps;
        work[Unit::LinesChase] += 1 + steps;
        if found.is_some() {
            work[Unit::LinesOwn] += 1 + steps;
        }
        if matches!(self.chains, Chains::Resizable(_)) {
            work[Unit::Jhash] += 1;
        }
        found
    }

    /// The service of a packet, with every probe that the kernel makes for it: the firewall-mark table when
    /// the packet carries a mark, the key itself, FTP's control port for a TCP miss while an FTP service
    /// exists, port 0 while a service for all ports exists. Linux 7.1 counts the services by firewall mark, and
    /// does not look for one where there is none.
    pub fn lookup(&self, packet: &Packet, work: &mut Work) -> Option<u32> {
        if packet.mark != 0 && matches!(self.chains, Chains::Fixed { .. }) {
            work[Unit::IpvsSvcLookup] += 1;
            work[Unit::LinesChase] += 1;
        }
        let key = ServiceKey { addr: packet.dst, port: packet.dport, proto: packet.proto };
        if let Some(found) = self.probe(&key, work) {
            return Some(found);
        }
        let may_be_ftp_data = packet.dport == FTP_DATA_PORT || packet.dport >= FIRST_FREE_PORT;
        if packet.proto == Proto::Tcp && self.ftp_services > 0 && may_be_ftp_data {
            let found = self.probe(&ServiceKey { port: FTP_PORT, ..key }, work);
            if found.is_some() {
                return found;
            }
        }
        if self.null_services > 0 { self.probe(&ServiceKey { port: 0, ..key }, work) } else { None }
    }
}

fn entry(entries: &[Option<Entry>], index: u32) -> &Entry {
    entries[index as usize].as_ref().expect("chained entries exist")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(addr: u32, port: u16, udp: bool) -> ServiceKey {
        let proto = if udp { Proto::Udp } else { Proto::Tcp };
        ServiceKey { addr: IpAddr::from(addr.to_be_bytes()), port, proto }
    }

    proptest! {
        /// The oracle keeps the services in creation order and compares the newest first.
        #[test]
        fn a_walk_compares_exactly_the_newer_services_of_its_bucket(
            picks in prop::collection::btree_set((0u32..600, 0u16..6, any::<bool>()), 1..400),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut alive: Vec<(u32, ServiceKey)> = Vec::new();
            let mut table = ServiceTable::default();
            for (index, &(addr, port, udp)) in picks.iter().enumerate() {
                let key = key(0x0a60_0000 + addr, 80 + port * 7, udp);
                table.insert(index as u32, key);
                alive.push((index as u32, key));
            }
            for pick in removed {
                if alive.len() > 1 {
                    let (index, _) = alive.remove(pick.index(alive.len()));
                    table.remove(index);
                }
            }
            for &(addr, port, udp) in &picks {
                let wanted = key(0x0a60_0000 + addr, 80 + port * 7, udp);
                let mut steps = 0;
                let mut found = None;
                for (index, key) in alive.iter().rev().filter(|(_, k)| bucket(k) == bucket(&wanted)) {
                    steps += 1;
                    if *key == wanted {
                        found = Some(*index);
                        break;
                    }
                }
                prop_assert_eq!(table.find(&wanted), (found, steps));
            }
        }
    }

    #[test]
    fn thirty_thousand_services_in_a_resizable_table_have_eight_buckets_each_and_compare_one() {
        let mut table = ServiceTable::new(Tables::RESIZABLE, 9);
        assert_eq!(table.buckets(), 16);
        let mut sizes = Vec::new();
        for i in 0..30_000u32 {
            table.insert(i, key(0x0a60_0000 + i, 80, false));
            if sizes.last() != Some(&table.buckets()) {
                sizes.push(table.buckets());
            }
        }
        // Grows when more than one bucket in eight would be taken, to eight for each of the rounded-up number.
        assert_eq!(sizes, (4..=18).map(|bits| 1usize << bits).collect::<Vec<_>>());
        let steps: u32 = (0..30_000).map(|i| table.find(&key(0x0a60_0000 + i, 80, false)).1).sum();
        let beyond = f64::from(steps - 30_000) / 30_000.0;
        // A hit visits one and half of the others of its bucket: 30,000 / 262,144 / 2.
        assert!((0.05..0.065).contains(&beyond), "{beyond}");
        for i in 0..29_990u32 {
            table.remove(i);
        }
        assert_eq!(table.buckets(), 512, "sixteen times smaller at each step, and twice what is needed");
        assert_eq!(table.find(&key(0x0a60_0000 + 29_995, 80, false)).0, Some(29_995));
    }

    #[test]
    fn a_lookup_in_a_resizable_table_is_one_hash_and_has_no_probe_for_marks() {
        let mut table = ServiceTable::new(Tables::RESIZABLE, 9);
        table.insert(0, key(0x0a60_0001, 80, false));
        let client = "10.0.0.1".parse().unwrap();
        let packet = Packet::tcp_syn(client, 4000, "10.96.0.1".parse().unwrap(), 80);
        let mut work = Work::new();
        assert_eq!(table.lookup(&Packet { mark: 0x4000, ..packet }, &mut work), Some(0));
        let units = [Unit::IpvsSvcLookup, Unit::IpvsSvcSteps, Unit::Jhash, Unit::LinesChase];
        assert_eq!(units.map(|unit| work[unit]), [1, 1, 1, 2]);
    }

    #[test]
    fn a_miss_compares_one_256th_of_the_services_on_average() {
        let mut table = ServiceTable::default();
        for i in 0..4096u32 {
            // Random addresses: consecutive ones on one port would be spread perfectly.
            table.insert(i, key(0x0a60_0000 | (i.wrapping_mul(0x9e37_79b9) >> 12), 80, false));
        }
        let steps: u32 = (0..256).map(|i| table.find(&key(0x0b00_0000 + i, 80, false)).1).sum();
        assert_eq!(steps, 4096, "256 keys, one in each bucket, walk every chain once");
    }

    #[test]
    fn services_that_share_port_and_last_octet_share_a_bucket() {
        assert_eq!(bucket(&key(0x0a60_0105, 80, false)), bucket(&key(0x0a6f_ff05, 80, false)));
        assert_ne!(bucket(&key(0x0a60_0105, 80, false)), bucket(&key(0x0a60_0106, 80, false)));
    }

    #[test]
    fn an_ipv6_address_is_folded_by_exclusive_or() {
        let addr: IpAddr = "fd00:1:2:3:4:5:6:7".parse().unwrap();
        assert_eq!(fold(addr), 0xfd00_0001 ^ 0x0002_0003 ^ 0x0004_0005 ^ 0x0006_0007);
    }

    #[test]
    fn a_marked_packet_probes_the_mark_table_first() {
        let mut table = ServiceTable::default();
        table.insert(0, key(0x0a60_0001, 80, false));
        let client = "10.0.0.1".parse().unwrap();
        let mut packet = Packet::tcp_syn(client, 4000, "10.96.0.1".parse().unwrap(), 80);
        let mut plain = Work::new();
        assert_eq!(table.lookup(&packet, &mut plain), Some(0));
        packet.mark = 0x4000;
        let mut marked = Work::new();
        table.lookup(&packet, &mut marked);
        assert_eq!((plain[Unit::IpvsSvcLookup], marked[Unit::IpvsSvcLookup]), (1, 2));
    }

    #[test]
    fn a_service_for_all_ports_is_found_last_and_costs_every_miss_a_lookup() {
        let mut table = ServiceTable::default();
        table.insert(0, key(0x0a60_0001, 0, false));
        table.insert(1, key(0x0a60_0001, 80, false));
        let to =
            |port| Packet::tcp_syn("10.0.0.1".parse().unwrap(), 4000, "10.96.0.1".parse().unwrap(), port);
        for (port, found, lookups) in [(80, Some(1), 1), (81, Some(0), 2)] {
            let mut work = Work::new();
            assert_eq!((table.lookup(&to(port), &mut work), work[Unit::IpvsSvcLookup]), (found, lookups));
        }
        let other = Packet { dst: "10.96.0.2".parse().unwrap(), ..to(81) };
        let mut work = Work::new();
        assert_eq!((table.lookup(&other, &mut work), work[Unit::IpvsSvcLookup]), (None, 2));
    }

    #[test]
    fn one_ftp_service_makes_every_other_miss_look_twice() {
        let mut table = ServiceTable::default();
        let client = "10.0.0.1".parse().unwrap();
        let packet = Packet::tcp_syn(client, 4000, "10.96.0.9".parse().unwrap(), 8080);
        let mut without = Work::new();
        table.lookup(&packet, &mut without);
        table.insert(0, key(0x0a60_0001, 21, false));
        let mut with = Work::new();
        table.lookup(&packet, &mut with);
        assert_eq!((without[Unit::IpvsSvcLookup], with[Unit::IpvsSvcLookup]), (1, 2));
    }
}
