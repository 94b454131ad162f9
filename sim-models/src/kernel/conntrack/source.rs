//! Connections by their source, which source NAT asks so that one client socket keeps its translated address and port
//! towards several servers (`nf_nat_core.c:nf_nat_bysource`, `find_appropriate_src`).
//!
//! The kernel keeps this hash of every connection that NAT has looked at. Only a source binding without a random port
//! asks it, so it is built when the first one does, and kept from then on.

use super::{ConnId, Conntrack, NIL, Tuple};
use sim_core::classify::hash::reciprocal_scale;
use sim_core::classify::{Proto, Unit, Work};
use siphasher::sip::SipHasher24;
use std::net::{IpAddr, SocketAddr};

/// Heads of the chains; empty until somebody asks.
#[derive(Clone, Debug, Default)]
pub(super) struct BySource(Vec<u32>);

impl Conntrack {
    /// The translated source of another connection from the source of `original` that `fits` the range.
    pub fn translated_source(
        &mut self,
        original: &Tuple,
        mut fits: impl FnMut(SocketAddr) -> bool,
        work: &mut Work,
    ) -> Option<SocketAddr> {
        if self.by_source.0.is_empty() {
            self.by_source.0 = vec![NIL; self.config.buckets as usize];
            for id in 0..self.conns.len() as u32 {
                if self.conns[id as usize].live {
                    self.remember_source(id);
                }
            }
        }
        work[Unit::Siphash] += 1;
        let mut id = self.by_source.0[self.source_bucket(original.src, original.proto)];
        while id != NIL {
            work[Unit::CtChainSteps] += 1;
            let conn = &self.conns[id as usize];
            if conn.original.src == original.src
                && conn.original.proto == original.proto
                && fits(conn.reply.dst)
            {
                return Some(conn.reply.dst);
            }
            id = conn.next_by_source;
        }
        None
    }

    fn source_bucket(&self, src: SocketAddr, proto: Proto) -> usize {
        let mut bytes = [0u8; 19];
        match src.ip() {
            IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
            IpAddr::V6(a) => bytes[..16].copy_from_slice(&a.octets()),
        }
        bytes[16..18].copy_from_slice(&src.port().to_le_bytes());
        bytes[18] = proto.number();
        // A key of its own, as the kernel's is.
        let hash = SipHasher24::new_with_keys(!self.key.0, !self.key.1).hash(&bytes);
        reciprocal_scale(hash as u32, self.config.buckets) as usize
    }

    pub(super) fn remember_source(&mut self, id: ConnId) {
        if self.by_source.0.is_empty() || !self.conns[id as usize].nat_done {
            return;
        }
        let conn = &self.conns[id as usize];
        let bucket = self.source_bucket(conn.original.src, conn.original.proto);
        self.conns[id as usize].next_by_source = self.by_source.0[bucket];
        self.by_source.0[bucket] = id;
    }

    pub(super) fn forget_source(&mut self, id: ConnId) {
        if self.by_source.0.is_empty() || !self.conns[id as usize].nat_done {
            return;
        }
        let conn = &self.conns[id as usize];
        let (bucket, after) =
            (self.source_bucket(conn.original.src, conn.original.proto), conn.next_by_source);
        if self.by_source.0[bucket] == id {
            self.by_source.0[bucket] = after;
            return;
        }
        let mut at = self.by_source.0[bucket];
        loop {
            assert_ne!(at, NIL, "conntrack entry {id} is not in its chain by source");
            let next = self.conns[at as usize].next_by_source;
            if next == id {
                self.conns[at as usize].next_by_source = after;
                return;
            }
            at = next;
        }
    }
}
