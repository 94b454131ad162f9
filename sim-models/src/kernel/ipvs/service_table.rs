//! The virtual-service table: 256 chained buckets, newest first in each.
//!
//! Source: `net/netfilter/ipvs/ip_vs_ctl.c`, `ip_vs_svc_hashkey`, `ip_vs_service_find`, Linux 6.12. The hash
//! sees only the protocol, the low bits of the address and both port bytes, so Services on one port that
//! share a last octet share a bucket; a lookup costs on average 1 + (S-1)/512 entries when it hits and S/256
//! when it misses. The address of the network namespace, which only permutes the buckets, is taken as 0.
//!
//! Left out: services named by a firewall mark (the probe of their empty table is counted), the other
//! network namespaces' services in the same table, the resizable tables of Linux 7.1.

use super::ServiceKey;
use sim_core::classify::{Packet, Proto, Unit, Work};
use std::net::IpAddr;

/// Buckets of the table (`IP_VS_SVC_TAB_SIZE`).
pub const BUCKETS: usize = 256;
const FTP_PORT: u16 = 21;
const FTP_DATA_PORT: u16 = 20;
/// First port that needs no privilege (`PROT_SOCK`).
const FIRST_FREE_PORT: u16 = 1024;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: ServiceKey,
    next: u32,
}

/// The table: from key to the index that the caller gave the service.
#[derive(Clone, Debug)]
pub struct ServiceTable {
    heads: Vec<u32>,
    /// By the caller's index; absent where it gave none.
    entries: Vec<Option<Entry>>,
    ftp_services: u32,
    null_services: u32,
}

impl Default for ServiceTable {
    fn default() -> Self {
        ServiceTable { heads: vec![NONE; BUCKETS], entries: Vec::new(), ftp_services: 0, null_services: 0 }
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

/// The bucket of a key.
pub fn bucket(key: &ServiceKey) -> usize {
    let port = u32::from(key.port);
    ((u32::from(key.proto.number()) ^ fold(key.addr) ^ (port >> 8) ^ port) & 0xff) as usize
}

impl ServiceTable {
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
        let head = &mut self.heads[bucket(&key)];
        self.entries[at] = Some(Entry { key, next: *head });
        *head = index;
        self.ftp_services += u32::from(key.port == FTP_PORT);
        self.null_services += u32::from(key.port == 0);
    }

    /// Takes the service `index` out.
    ///
    /// # Panics
    /// If it is not in the table.
    pub fn remove(&mut self, index: u32) {
        let entry = self.entries[index as usize].take().expect("no such service index");
        let at = bucket(&entry.key);
        if self.heads[at] == index {
            self.heads[at] = entry.next;
        } else {
            let mut walk = self.heads[at];
            while self.entry(walk).next != index {
                walk = self.entry(walk).next;
            }
            self.entries[walk as usize].as_mut().expect("chained").next = entry.next;
        }
        self.ftp_services -= u32::from(entry.key.port == FTP_PORT);
        self.null_services -= u32::from(entry.key.port == 0);
    }

    fn entry(&self, index: u32) -> &Entry {
        self.entries[index as usize].as_ref().expect("chained entries exist")
    }

    /// One walk of one bucket, uncounted: the index, and how many entries were compared.
    pub fn find(&self, key: &ServiceKey) -> (Option<u32>, u32) {
        let mut steps = 0;
        let mut at = self.heads[bucket(key)];
        while at != NONE {
            steps += 1;
            let entry = self.entry(at);
            if entry.key == *key {
                return (Some(at), steps);
            }
            at = entry.next;
        }
        (None, steps)
    }

    fn probe(&self, key: &ServiceKey, work: &mut Work) -> Option<u32> {
        let (found, steps) = self.find(key);
        work[Unit::IpvsSvcLookup] += 1;
        work[Unit::IpvsSvcSteps] += steps;
        work[Unit::LinesChase] += 1 + steps;
        if found.is_some() {
            work[Unit::LinesOwn] += 1 + steps;
        }
        found
    }

    /// The service of a packet, with every probe that the kernel makes for it: the firewall-mark table when
    /// the packet carries a mark, the key itself, FTP's control port for a TCP miss while an FTP service
    /// exists, port 0 while a service for all ports exists.
    pub fn lookup(&self, packet: &Packet, work: &mut Work) -> Option<u32> {
        if packet.mark != 0 {
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
