//! One set in memory: the hash types' buckets of small arrays, or a bitmap.
//!
//! Source: `net/netfilter/ipset/ip_set_hash_gen.h` (`mtype_add`, `mtype_del`, `mtype_resize`, `mtype_test`,
//! `mtype_test_cidrs`), `ip_set_bitmap_port.c`, Linux 6.12. A bucket is an array that grows by 2 elements up
//! to 12; an element that finds its bucket full doubles the number of buckets. A test hashes the element and
//! compares the array from its beginning. A set with networks makes one such test per prefix length in it.
//!
//! `maxelem` is a soft limit. Buckets are counted in regions of 1,024, and only where a region has its share of
//! `maxelem` is the whole set counted; and an element that finds a deleted one's place in its bucket takes it
//! uncounted.

use super::element::{SetEntry, SetKind, Words};
use super::print::HASHSIZE;
use ipnet::IpNet;
use sim_core::classify::hash::jhash2;
use sim_core::classify::{Family, Unit, Work};
use std::collections::BTreeMap;

/// Elements that a bucket starts with and grows by (`AHASH_INIT_SIZE`).
const BUCKET_STEP: usize = 2;
/// Most elements of a bucket (`AHASH_MAX_SIZE`).
const BUCKET_MAX: usize = 12;
/// Bytes of a bucket before its elements: an RCU head, the map of used places, two counters.
const BUCKET_HEADER: usize = 32;
const LINE: usize = 64;
/// Binary logarithm of the buckets of a region (`HTABLE_REGION_BITS`).
const REGION_BITS: u32 = 10;
const PORTS: usize = 1 << 16;

/// Why an element was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// `maxelem` elements are there already.
    Full,
    /// A network of prefix length 0.
    NoPrefix,
    /// Its kind or family is not the set's.
    WrongKind,
}

/// A bucket: places in the order in which they were taken, `None` where an element was deleted.
#[derive(Clone, Debug, Default)]
struct Bucket {
    places: Vec<Option<Words>>,
    /// Places allocated.
    size: usize,
}

/// A set.
#[derive(Clone, Debug)]
pub struct SetTable {
    kind: SetKind,
    family: Family,
    maxelem: u32,
    initval: u32,
    len: usize,
    /// Hash types: buckets, a power of two.
    buckets: Vec<Bucket>,
    /// Elements by region of buckets.
    regions: Vec<u32>,
    /// Prefix lengths of a network set, with how many elements have each.
    prefixes: BTreeMap<u8, u32>,
    /// The bitmap.
    ports: Vec<u64>,
}

impl SetTable {
    /// An empty set; `initval` seeds its hash.
    pub fn new(kind: SetKind, family: Family, maxelem: u32, initval: u32) -> Self {
        let bitmap = kind == SetKind::BitmapPort;
        SetTable {
            kind,
            family,
            maxelem,
            initval,
            len: 0,
            buckets: if bitmap { Vec::new() } else { vec![Bucket::default(); HASHSIZE as usize] },
            regions: vec![0; regions(HASHSIZE as usize)],
            prefixes: BTreeMap::new(),
            ports: if bitmap { vec![0; PORTS / 64] } else { Vec::new() },
        }
    }

    /// Its kind.
    pub fn kind(&self) -> SetKind {
        self.kind
    }
    /// Family of its addresses.
    pub fn family(&self) -> Family {
        self.family
    }
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Buckets of a hash set, 0 for a bitmap.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Bucket of an element, for what checks the buckets' shapes.
    #[cfg(test)]
    pub(super) fn bucket_of_entry(&self, entry: &SetEntry) -> usize {
        self.bucket_of(&entry.words())
    }

    fn bucket_of(&self, words: &[u32]) -> usize {
        jhash2(words, self.initval) as usize & (self.buckets.len() - 1)
    }

    /// Adds an element; `Ok(false)` if it was there.
    pub fn add(&mut self, entry: &SetEntry) -> Result<bool, AddError> {
        if entry.kind() != self.kind
            || (self.kind != SetKind::BitmapPort && entry.family() != Some(self.family))
        {
            return Err(AddError::WrongKind);
        }
        if let SetEntry::Port(port) = *entry {
            let (word, bit) = (usize::from(port) / 64, 1u64 << (port % 64));
            let fresh = self.ports[word] & bit == 0;
            self.ports[word] |= bit;
            self.len += usize::from(fresh);
            return Ok(fresh);
        }
        if matches!(entry, SetEntry::IpPortNet(.., net) if net.prefix_len() == 0) {
            return Err(AddError::NoPrefix);
        }
        let words = entry.words();
        let bucket = &self.buckets[self.bucket_of(&words)];
        if bucket.places.iter().flatten().any(|there| *there == words) {
            return Ok(false);
        }
        if self.is_full(&words) && !bucket.places.iter().any(Option::is_none) {
            return Err(AddError::Full);
        }
        self.place(words);
        self.len += 1;
        if let SetEntry::IpPortNet(.., net) = entry {
            *self.prefixes.entry(net.prefix_len()).or_default() += 1;
        }
        Ok(true)
    }

    /// Whether the region of the element has its share and the set all that it may have.
    fn is_full(&self, words: &[u32]) -> bool {
        let share = self.maxelem / self.regions.len() as u32;
        self.regions[self.bucket_of(words) >> REGION_BITS] >= share && self.len >= self.maxelem as usize
    }

    fn place(&mut self, words: Words) {
        loop {
            let at = self.bucket_of(&words);
            if self.buckets[at].put(&words) {
                self.regions[at >> REGION_BITS] += 1;
                return;
            }
            self.double();
        }
    }

    /// Twice as many buckets, all elements hashed again in the order of their old buckets; four times as
    /// many if one overflows even so.
    fn double(&mut self) {
        let mut size = self.buckets.len() * 2;
        'sizes: loop {
            let mut larger = vec![Bucket::default(); size];
            let mut counts = vec![0; regions(size)];
            for words in self.buckets.iter().flat_map(|b| b.places.iter().flatten()) {
                let at = jhash2(words, self.initval) as usize & (size - 1);
                if !larger[at].put(words) {
                    size *= 2;
                    continue 'sizes;
                }
                counts[at >> REGION_BITS] += 1;
            }
            (self.buckets, self.regions) = (larger, counts);
            return;
        }
    }

    /// Deletes an element; false if it was not there.
    pub fn remove(&mut self, entry: &SetEntry) -> bool {
        if let SetEntry::Port(port) = *entry {
            if self.kind != SetKind::BitmapPort {
                return false;
            }
            let (word, bit) = (usize::from(port) / 64, 1u64 << (port % 64));
            let there = self.ports[word] & bit != 0;
            self.ports[word] &= !bit;
            self.len -= usize::from(there);
            return there;
        }
        if entry.kind() != self.kind {
            return false;
        }
        let words = entry.words();
        let at = self.bucket_of(&words);
        if !self.buckets[at].take(&words) {
            return false;
        }
        self.len -= 1;
        self.regions[at >> REGION_BITS] -= 1;
        if let SetEntry::IpPortNet(.., net) = entry {
            let count = self.prefixes.get_mut(&net.prefix_len()).expect("counted when added");
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&net.prefix_len());
            }
        }
        true
    }

    /// Whether `key` is in the set. In a network set the key's network is an address, tried under every
    /// prefix length of the set, the longest first.
    pub fn test(&self, key: &SetEntry, work: &mut Work) -> bool {
        match *key {
            SetEntry::Port(port) => {
                work[Unit::LinesChase] += 1;
                self.kind == SetKind::BitmapPort
                    && self.ports[usize::from(port) / 64] & (1 << (port % 64)) != 0
            }
            SetEntry::IpPortNet(addr, proto, port, net) => self.prefixes.keys().rev().any(|&len| {
                let net = IpNet::new(net.addr(), len).expect("a length of this family").trunc();
                self.test_words(&SetEntry::IpPortNet(addr, proto, port, net).words(), work)
            }),
            _ => self.test_words(&key.words(), work),
        }
    }

    fn test_words(&self, words: &[u32], work: &mut Work) -> bool {
        work[Unit::Jhash] += 1;
        work[Unit::SetHashTests] += 1;
        // The bucket's pointer in the table.
        work[Unit::LinesChase] += 1;
        let bucket = &self.buckets[self.bucket_of(words)];
        if bucket.size == 0 {
            return false;
        }
        let mut compared = 0;
        let mut scanned = 0;
        let mut found = false;
        for place in &bucket.places {
            scanned += 1;
            let Some(there) = place else { continue };
            compared += 1;
            if there.as_slice() == words {
                found = true;
                break;
            }
        }
        work[Unit::HashSteps] += compared;
        work[Unit::LinesChase] += (BUCKET_HEADER + scanned * words.len() * 4).div_ceil(LINE) as u32;
        found
    }

    /// Kernel memory, in bytes: 8 a bucket pointer, each bucket's header and allocated places; 8 KiB for a
    /// bitmap.
    pub fn memory_bytes(&self) -> u64 {
        let element = match (self.kind, self.family) {
            (SetKind::BitmapPort, _) => return PORTS as u64 / 8,
            (SetKind::HashIp, Family::Ipv4) => 4,
            (SetKind::HashIp, Family::Ipv6) => 16,
            (SetKind::HashIpPort, Family::Ipv4) => 8,
            (SetKind::HashIpPort, Family::Ipv6) => 20,
            (_, Family::Ipv4) => 12,
            (_, Family::Ipv6) => 36,
        };
        let used = self.buckets.iter().filter(|b| b.size > 0);
        let arrays: u64 = used.map(|b| (BUCKET_HEADER + b.size * element) as u64).sum();
        self.buckets.len() as u64 * 8 + arrays
    }
}

/// Regions that so many buckets have (`ahash_numof_locks`).
fn regions(buckets: usize) -> usize {
    (buckets >> REGION_BITS).max(1)
}

impl Bucket {
    /// Takes the first free place; false if all 12 are taken.
    fn put(&mut self, words: &Words) -> bool {
        if let Some(free) = self.places.iter_mut().find(|place| place.is_none()) {
            *free = Some(words.clone());
            return true;
        }
        if self.places.len() == self.size {
            if self.size == BUCKET_MAX {
                return false;
            }
            self.size += BUCKET_STEP;
        }
        self.places.push(Some(words.clone()));
        true
    }

    /// Frees the element's place. The array shrinks when as many places as a step are free before its last element; it
    /// goes when no place was ever taken behind those that are free.
    fn take(&mut self, words: &Words) -> bool {
        let Some(at) = self.places.iter().position(|place| place.as_ref() == Some(words)) else {
            return false;
        };
        self.places[at] = None;
        if at + 1 == self.places.len() {
            self.places.pop();
        }
        let left = self.places.iter().flatten().count();
        if self.places.is_empty() {
            *self = Bucket::default();
        } else if self.places.len() - left >= BUCKET_STEP {
            self.places.retain(Option::is_some);
            self.size -= BUCKET_STEP;
        }
        true
    }
}
