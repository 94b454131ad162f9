//! Set backends: what a lookup really visits.
//!
//! [`select`] chooses as `net/netfilter/nf_tables_api.c:nft_select_set_ops` does. Lookups count hashes, elements
//! compared, tree nodes and distinct cache lines: the set's own line (its operations), the line of its private
//! head, the bucket, and each element up to the byte that was read, with elements laid out in insertion order in
//! slab objects of their size class.

pub mod bitmap;
pub mod dynamic;
pub mod fixed;
pub mod hash_fast;
pub mod items;
pub mod pipapo;
pub mod rbtree;
pub mod rhash;

use super::expr::{Regs, Words};
use super::linearize::{addr_words, port_word};
use super::{Key, KeyType, KeyValue, Verdict};
use bitmap::Bitmap;
use fixed::Fixed;
use hash_fast::HashFast;
use ipnet::IpNet;
use items::Items;
use pipapo::Pipapo;
use rbtree::Rbtree;
use rhash::Rhash;
use sim_core::classify::{Family, Work};
use std::net::SocketAddr;

/// Bytes of `struct nft_set`, after which its private data begins.
pub const SET_BYTES: u32 = 256;

/// The sets that kube-proxy's rules contain without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnonymousSet {
    /// `{ NET, ... }`.
    Intervals(Vec<IpNet>),
    /// `vmap { 0 : VERDICT, ... }`.
    Verdicts(Vec<Verdict>),
    /// `map { 0 : ADDR . PORT, ... }`.
    Backends(Vec<SocketAddr>),
    /// Any other.
    Items(Items),
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An element of a set.
    Member,
    /// The verdict of a map's element.
    Verdict(Verdict),
    /// The data of a map's element, as register words.
    Data(&'a [u32]),
}

/// What the choice of a backend depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Bytes of the key.
    pub key_bytes: u32,
    /// Fields of the key.
    pub fields: u32,
    /// `size` given, as it is for anonymous constant sets.
    pub size: Option<u32>,
    /// Maps to something.
    pub map: bool,
    /// Holds intervals.
    pub interval: bool,
    /// Elements expire or are added by rules.
    pub dynamic: bool,
}

/// A backend's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `nft_set_hash_fast_type`: fixed size, 4-byte keys.
    HashFast,
    /// `nft_set_hash_type`: fixed size.
    Hash,
    /// `nft_set_rhash_type`: resizable.
    Rhash,
    /// `nft_set_bitmap_type`: keys of at most two bytes.
    Bitmap,
    /// `nft_set_rbtree_type`: intervals.
    Rbtree,
    /// `nft_set_pipapo_type`: concatenated intervals.
    Pipapo,
}

/// The kernel's choice for policy `performance`: the best lookup class wins, then the best space class, then the
/// first in the kernel's list.
pub fn select(d: &Description) -> Kind {
    // (kind, can hold it, lookup class, space class), in the order of `nft_set_types`.
    let fixed = d.size.is_some() && !d.interval && !d.dynamic;
    let list = [
        (Kind::HashFast, fixed && d.key_bytes == 4, 0, 2),
        (Kind::Hash, fixed, 0, 2),
        (Kind::Rhash, !d.interval, 0, 2),
        (Kind::Bitmap, !d.interval && !d.map && !d.dynamic && d.key_bytes <= 2, 0, 0),
        (Kind::Rbtree, d.interval && d.fields <= 1, 1, 2),
        (Kind::Pipapo, d.interval && d.fields >= 2, 1, 2),
    ];
    let mut best: Option<(Kind, i32, i32)> = None;
    for (kind, fits, lookup, space) in list {
        if fits && best.is_none_or(|(_, l, s)| (lookup, space) < (l, s)) {
            best = Some((kind, lookup, space));
        }
    }
    best.unwrap_or_else(|| panic!("no backend for {d:?}")).0
}

/// A set as the kernel holds it.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Resizable hash table.
    Rhash(Box<Rhash>),
    /// Fixed-size hash table for 4-byte keys.
    HashFast(HashFast),
    /// Interval tree.
    Rbtree(Box<Rbtree>),
    /// Bitmap of ports.
    Bitmap(Box<Bitmap>),
    /// Fixed-size hash table for any keys.
    Fixed(Box<Fixed>),
    /// Concatenated ranges.
    Pipapo(Box<Pipapo>),
}

impl Backend {
    /// The backend of a named set, with its elements.
    pub fn named(set: &super::Set, family: Family, seed: u32) -> Self {
        let d = Description {
            key_bytes: key_bytes(&set.key, family),
            fields: u32::try_from(set.key.len()).expect("a handful of fields"),
            size: set.timeout_seconds.map(|_| dynamic::DEFAULT_SIZE),
            map: set.is_map,
            interval: false,
            dynamic: set.timeout_seconds.is_some(),
        };
        match select(&d) {
            Kind::Bitmap => {
                let mut b = Bitmap::default();
                for e in &set.elements {
                    b.insert(key_words(&e.key)[0]);
                }
                Backend::Bitmap(Box::new(b))
            }
            Kind::Rhash => {
                let layout = Layout::rhash(d.key_bytes, set.is_map, d.dynamic);
                let mut table = Rhash::new(d.key_bytes, layout, seed);
                for e in &set.elements {
                    table.insert(&key_words(&e.key), e.verdict);
                }
                Backend::Rhash(Box::new(table))
            }
            other => panic!("a named set of kube-proxy never gets {other:?}"),
        }
    }

    /// The backend of an anonymous set.
    pub fn anonymous(set: &AnonymousSet, family: Family, seed: u32) -> Self {
        let len = match set {
            AnonymousSet::Items(items) => return items.backend(seed),
            AnonymousSet::Intervals(nets) => nets.len(),
            AnonymousSet::Verdicts(v) => v.len(),
            AnonymousSet::Backends(b) => b.len(),
        };
        let addr = if family == Family::Ipv4 { 4 } else { 16 };
        let interval = matches!(set, AnonymousSet::Intervals(_));
        let d = Description {
            key_bytes: if interval { addr } else { 4 },
            fields: 1,
            size: Some(u32::try_from(len).expect("fewer than 2^32 elements")),
            map: !interval,
            interval,
            dynamic: false,
        };
        match (select(&d), set) {
            (Kind::Rbtree, AnonymousSet::Intervals(nets)) => {
                Backend::Rbtree(Box::new(Rbtree::new(nets, family)))
            }
            (Kind::HashFast, AnonymousSet::Verdicts(v)) => Backend::HashFast(HashFast::verdicts(v, seed)),
            (Kind::HashFast, AnonymousSet::Backends(b)) => {
                let stride = usize::try_from(addr / 4 + 1).expect("small");
                let mut data = Vec::with_capacity(b.len() * stride);
                for to in b {
                    let words: Words = addr_words(to.ip());
                    data.extend_from_slice(&words[..stride - 1]);
                    data.push(port_word(to.port()));
                }
                Backend::HashFast(HashFast::data(data, stride, seed))
            }
            (kind, set) => panic!("{kind:?} cannot hold {set:?}"),
        }
    }

    /// Looks the key at `sreg` up and counts what that takes.
    #[inline]
    pub fn lookup(&self, regs: &Regs, sreg: u8, work: &mut Work) -> Option<Found<'_>> {
        let at = usize::from(sreg);
        match self {
            Backend::Rhash(t) => t.lookup(&regs.0[at..at + t.key_words()], work),
            Backend::HashFast(t) => t.lookup(regs.0[at], work),
            Backend::Rbtree(t) => t.lookup(regs, sreg, work),
            Backend::Bitmap(t) => t.lookup(regs.0[at], work),
            Backend::Fixed(t) => t.lookup(regs, sreg, work),
            Backend::Pipapo(t) => t.lookup(regs, sreg, work),
        }
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        match self {
            Backend::Rhash(t) => t.len(),
            Backend::HashFast(t) => t.len(),
            Backend::Rbtree(t) => t.len(),
            Backend::Bitmap(t) => t.len(),
            Backend::Fixed(t) => t.len(),
            Backend::Pipapo(t) => t.len(),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of kernel memory: the set, its table and its elements, by slab class.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Backend::Rhash(t) => t.memory_bytes(),
            Backend::HashFast(t) => t.memory_bytes(),
            Backend::Rbtree(t) => t.memory_bytes(),
            Backend::Bitmap(t) => t.memory_bytes(),
            Backend::Fixed(t) => t.memory_bytes(),
            Backend::Pipapo(t) => t.memory_bytes(),
        }
    }
}

/// Bytes of a key; every field takes whole 4-byte registers in a concatenation.
pub fn key_bytes(key: &[KeyType], family: Family) -> u32 {
    let bytes = |k: &KeyType, alone: bool| match k {
        KeyType::Addr if family == Family::Ipv4 => 4,
        KeyType::Addr => 16,
        KeyType::Proto if alone => 1,
        KeyType::Service if alone => 2,
        KeyType::Proto | KeyType::Service => 4,
    };
    key.iter().map(|k| bytes(k, key.len() == 1)).sum()
}

/// A key as register words.
pub fn key_words(key: &Key) -> smallvec::SmallVec<[u32; 10]> {
    let mut out = smallvec::SmallVec::new();
    for v in key {
        match v {
            KeyValue::Addr(a) => {
                let words = addr_words(*a);
                out.extend_from_slice(if a.is_ipv4() { &words[..1] } else { &words[..] });
            }
            KeyValue::Proto(p) => out.push(u32::from(p.number())),
            KeyValue::Service(p) => out.push(port_word(*p)),
        }
    }
    out
}

/// Where the parts of an element lie: sizes from the 6.18 kernel's type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Slab class in bytes.
    pub class: u32,
    /// End of the key, counted from the element's start.
    pub key_end: u32,
    /// End of the data.
    pub data_end: u32,
}

/// Bytes of `struct nft_set_ext` with its offsets.
const EXT_BYTES: u32 = 16;

impl Layout {
    fn new(header: u32, key_bytes: u32, data_bytes: u32, extra: u32) -> Self {
        let key_end = header + EXT_BYTES + key_bytes;
        let data_end = key_end.next_multiple_of(8) + data_bytes;
        Layout { class: slab_class(data_end.next_multiple_of(8) + extra), key_end, data_end }
    }
    /// `struct nft_rhash_elem`; verdict data is 16 bytes, timeout and expiration 16.
    pub fn rhash(key_bytes: u32, map: bool, timeout: bool) -> Self {
        Layout::new(24, key_bytes, if map { 16 } else { 0 }, if timeout { 16 } else { 0 })
    }
    /// `struct nft_hash_elem`.
    pub fn hash(key_bytes: u32, data_bytes: u32) -> Self {
        Layout::new(16, key_bytes, data_bytes, 0)
    }
    /// Distinct lines of element `index` up to byte `end`.
    #[inline]
    pub fn lines(&self, index: usize, end: u32) -> u32 {
        let start = (index as u32).wrapping_mul(self.class) & 63;
        (start + end).div_ceil(64)
    }
}

/// The kmalloc size class that holds `bytes`.
pub fn slab_class(bytes: u32) -> u32 {
    const CLASSES: [u32; 12] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096];
    CLASSES.into_iter().find(|&c| c >= bytes).unwrap_or_else(|| bytes.next_multiple_of(4096))
}

/// A seed for one table from the engine's seed and what the table belongs to.
pub fn derive_seed(seed: u64, what: u64) -> u32 {
    let mut z = seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_those_that_the_kernel_chooses() {
        let d = |key_bytes, fields, size, map, interval, dynamic| Description {
            key_bytes,
            fields,
            size,
            map,
            interval,
            dynamic,
        };
        let rows = [
            ("service-ips", d(12, 3, None, true, false, false), Kind::Rhash),
            ("service-nodeports", d(8, 2, None, true, false, false), Kind::Rhash),
            ("cluster-ips", d(4, 1, None, false, false, false), Kind::Rhash),
            ("numgen's map", d(4, 1, Some(3), true, false, false), Kind::HashFast),
            ("anonymous concatenation", d(8, 2, Some(3), true, false, false), Kind::Hash),
            ("source ranges", d(4, 1, Some(3), false, true, false), Kind::Rbtree),
            ("affinity", d(4, 1, Some(65_535), false, false, true), Kind::Rhash),
            ("ports", d(2, 1, None, false, false, false), Kind::Bitmap),
            ("concatenated ranges", d(8, 2, None, false, true, false), Kind::Pipapo),
        ];
        for (what, description, kind) in rows {
            assert_eq!(select(&description), kind, "{what}");
        }
    }
}
