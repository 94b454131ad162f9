//! A full table: early drop and the sweep of the garbage collector (`nf_conntrack_core.c:early_drop`, `gc_worker`).
//!
//! A packet that finds the table at its limit throws out what is not assured in one of eight buckets from its own on.
//! If that frees nothing the packet is dropped, and the collector is told to be harsher: above 95 % of the limit it
//! takes what is unassured or closing too.
//!
//! Departure: the kernel's collector goes through the table every second to minute; here it does when the limit is
//! met, at most once a second, since before nobody can tell whether expired entries are still there.

use super::{Conntrack, NIL, Track, Tuple};
use sim_core::classify::{Unit, Work};
use sim_core::units::{SimSpan, SimTime};

/// Buckets that early drop looks into (`NF_CT_EVICTION_RANGE`).
const EVICTION_RANGE: usize = 8;
/// Shortest time between two sweeps (`GC_SCAN_INTERVAL_MIN`).
const SWEEP_EVERY: SimSpan = SimSpan::from_secs(1);

/// State of the collector.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    next: Option<SimTime>,
    /// A packet was dropped for want of room.
    harsh: bool,
}

impl Conntrack {
    /// Whether a connection for `tuple` has a place, if need be after others were evicted for it
    /// (`__nf_conntrack_alloc`, before any rule is looked at).
    pub fn make_room(&mut self, tuple: &Tuple, now: SimTime) -> bool {
        if self.live + self.pending < self.config.max {
            return true;
        }
        self.room_in(self.bucket(tuple), now, &mut Work::new())
    }

    pub(super) fn room_in(&mut self, bucket: u32, now: SimTime, work: &mut Work) -> bool {
        if self.live + self.pending < self.config.max {
            return true;
        }
        if self.sweep.next.is_none_or(|at| at <= now) {
            self.collect(now);
            if self.live + self.pending < self.config.max {
                return true;
            }
        }
        // The kernel counts first and looks afterwards, so that entries that expired unnoticed are of no help to
        // this packet.
        let dropped = self.early_drop(bucket as usize, now, work);
        self.sweep.harsh |= !dropped;
        dropped
    }

    /// One sweep of the collector. How many entries went.
    pub fn collect(&mut self, now: SimTime) -> u32 {
        let before = self.live;
        let many = u64::from(self.config.max) / 100 * 95;
        for id in 0..self.conns.len() as u32 {
            let conn = &self.conns[id as usize];
            if !conn.live {
                continue;
            }
            let harsh = self.sweep.harsh && u64::from(self.live) > many;
            let closing = matches!(&conn.track, Track::Tcp(t) if t.state().is_closing());
            if conn.expires <= now || (harsh && (!conn.assured || closing)) {
                self.remove(id);
            }
        }
        self.sweep = Sweep { next: Some(now + SWEEP_EVERY), harsh: false };
        before - self.live
    }

    /// Throws out what is not assured in the first of eight buckets that has any.
    fn early_drop(&mut self, bucket: usize, now: SimTime, work: &mut Work) -> bool {
        if self.heads.is_empty() {
            return false;
        }
        for step in 0..EVICTION_RANGE {
            let mut dropped = false;
            let mut node = self.heads[(bucket + step) % self.heads.len()];
            while node != NIL {
                let (id, dir) = (node >> 1, (node & 1) as usize);
                work[Unit::CtChainSteps] += 1;
                let conn = &self.conns[id as usize];
                node = conn.next[dir];
                let expired = conn.expires <= now;
                if expired || !conn.assured {
                    // Both nodes of a connection may be in this bucket.
                    if node >> 1 == id && node != NIL {
                        node = conn.next[1 - dir];
                    }
                    work[Unit::CtEvictions] += 1;
                    self.remove(id);
                    dropped |= !expired;
                }
            }
            if dropped {
                return true;
            }
        }
        false
    }

    /// Removes every connection that `gone` says yes to: what kube-proxy does to UDP flows of endpoints that went
    /// (`conntrack -D`). How many there were.
    pub fn flush(&mut self, mut gone: impl FnMut(&Tuple, &Tuple) -> bool) -> u32 {
        let before = self.live;
        for id in 0..self.conns.len() as u32 {
            let conn = &self.conns[id as usize];
            if conn.live && gone(&conn.original, &conn.reply) {
                self.remove(id);
            }
        }
        before - self.live
    }
}
