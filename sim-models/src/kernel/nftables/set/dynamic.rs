//! Sets that rules update: kube-proxy's session affinity (`flags dynamic,timeout`).
//!
//! They change while packets run, so they live outside the compiled engine, one [`DynamicSets`] a node. An
//! update refreshes the expiration of an element that is there, or inserts one while the set has room
//! (`net/netfilter/nft_set_hash.c:nft_rhash_update`; a size of 0 becomes 65,535, `nft_dynset.c:nft_dynset_init`).
//! An expired element is passed over by lookups and removed by the collector, which walks the whole table
//! (`nft_rhash_gc`). Departure: the collector's walk, every second in the kernel, happens here when a packet uses
//! the set after a second or more, and is not counted as work of the packet.

use super::rhash::Rhash;
use super::{Layout, derive_seed};
use sim_core::classify::{Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;

/// Elements of a dynamic set without a given size.
pub const DEFAULT_SIZE: u32 = 65_535;

/// Time between two walks of the collector.
const GC_INTERVAL: SimSpan = SimSpan::from_secs(1);

/// The dynamic sets of one node, by position in its table, and what else rules of the table remember from packet to
/// packet.
#[derive(Clone, Debug, Default)]
pub struct DynamicSets {
    sets: BTreeMap<u32, Dynamic>,
    buckets: BTreeMap<Slot, Bucket>,
    counts: BTreeMap<Slot, u64>,
}

/// Where an expression with a memory stands: its chain and its place there. Where chains get new rules, memories stay
/// with the places; in the kernel new rules begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub(crate) u32, pub(crate) u32);

/// Tokens of a limit.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u64,
    last: SimTime,
}

#[derive(Clone, Debug)]
struct Dynamic {
    table: Rhash,
    expires: Vec<SimTime>,
    words: BTreeMap<u32, Box<[u32]>>,
    collected: SimTime,
}

impl DynamicSets {
    /// No element in any set.
    pub fn new() -> Self {
        DynamicSets::default()
    }

    /// Elements of a set, expired ones included until they are collected.
    pub fn len(&self, set: super::super::SetId) -> usize {
        self.sets.get(&set.0).map_or(0, |d| d.table.len())
    }

    /// Whether `key` is in the set and has not expired.
    pub(crate) fn lookup(&mut self, set: u32, key: &[u32], now: SimTime, work: &mut Work) -> bool {
        match self.sets.get_mut(&set) {
            Some(d) => {
                d.collect(now);
                d.table.walk(key, work).is_some_and(|e| d.expires[e as usize] > now)
            }
            None => {
                work[Unit::JhashBytes] += 4 * key.len() as u32;
                count_empty(work);
                false
            }
        }
    }

    /// Refreshes or inserts `key`. False if the set is full.
    pub(crate) fn update(
        &mut self,
        set: u32,
        key: &[u32],
        lifetime: SimSpan,
        now: SimTime,
        work: &mut Work,
    ) -> bool {
        let d = self.sets.entry(set).or_insert_with(|| Dynamic::new(set, key.len()));
        d.collect(now);
        let expires = now + lifetime;
        if let Some(e) = d.table.walk(key, work) {
            d.expires[e as usize] = expires;
            return true;
        }
        if d.table.len() >= DEFAULT_SIZE as usize {
            return false;
        }
        work[Unit::NftDynsetNew] += 1;
        let e = d.table.insert(key, None);
        if d.expires.len() <= e as usize {
            d.expires.resize(e as usize + 1, SimTime::ZERO);
        }
        d.expires[e as usize] = expires;
        d.words.insert(e, key.into());
        true
    }

    /// Takes `cost` tokens out of a bucket that gains one a nanosecond up to `capacity`, and is full at first. False if
    /// there are not enough.
    pub(crate) fn take(&mut self, slot: Slot, cost: u64, capacity: u64, now: SimTime) -> bool {
        let bucket = self.buckets.entry(slot).or_insert(Bucket { tokens: capacity, last: now });
        let gained = now.since(bucket.last).as_ns();
        bucket.tokens = bucket.tokens.saturating_add(gained).min(capacity);
        bucket.last = now;
        match bucket.tokens.checked_sub(cost) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }

    /// What has been counted at a place, which begins at zero.
    pub(crate) fn count(&mut self, slot: Slot) -> &mut u64 {
        self.counts.entry(slot).or_default()
    }

    /// Forgets a set's elements, as deleting it does.
    pub fn clear(&mut self, set: super::super::SetId) {
        self.sets.remove(&set.0);
    }
}

/// A lookup in an empty table: hash, and the lines of set, heads and bucket.
fn count_empty(work: &mut Work) {
    work[Unit::Jhash] += 1;
    work[Unit::LinesChase] += 4;
}

impl Dynamic {
    fn new(set: u32, words: usize) -> Self {
        let bytes = u32::try_from(words * 4).expect("small");
        let layout = Layout::rhash(bytes, false, true);
        let table = Rhash::new(bytes, layout, derive_seed(0x00af_f111, u64::from(set)));
        Dynamic { table, expires: Vec::new(), words: BTreeMap::new(), collected: SimTime::ZERO }
    }

    fn collect(&mut self, now: SimTime) {
        if now.since(self.collected) < GC_INTERVAL {
            return;
        }
        self.collected = now;
        let expires = &self.expires;
        let table = &mut self.table;
        self.words.retain(|&e, key| {
            let alive = expires[e as usize] > now;
            if !alive {
                table.remove(key);
            }
            alive
        });
    }
}
