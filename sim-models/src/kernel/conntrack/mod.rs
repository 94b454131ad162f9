//! Connection tracking: the hash table, its two nodes a connection, and what a packet does to its entry
//! (`net/netfilter/nf_conntrack_core.c` and the protocols' `nf_conntrack_proto_*.c`).
//!
//! Every connection is in the table twice, by the tuple of its first direction and by that of the reply. A
//! bucket is picked by SipHash-2-4 of the tuple and `reciprocal_scale`. Expired entries are taken out by the
//! lookups that meet them, and by a sweep when the table is full ([`evict`]). A connection is begun by its first
//! packet and enters the table when that packet leaves ([`confirm`]); between the two another packet of the same flow
//! can be under way.
//!
//! UDP is assured once it has been answered and has lasted two seconds; ICMP and other protocols never are. SCTP's
//! chunks are not in a [`Packet`](sim_core::classify::Packet): its packets are taken to come in the order of its
//! handshake.
//!
//! Departures: the bytes hashed are ours, so chains have the kernel's lengths in law, not one by one. Left out:
//! zones, helpers, and expectations but for ICMP errors, which the path knows by the packet that they quote.

pub mod config;
pub mod confirm;
pub mod evict;
pub mod source;
pub mod tcp;
pub mod tuple;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use config::ConntrackConfig;
pub use confirm::{Confirmed, New, Refused};
pub use tuple::{Direction, Tuple};

use sim_core::classify::hash::reciprocal_scale;
use sim_core::classify::{TcpFlags, Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use siphasher::sip::SipHasher24;
use tcp::Tracker;

/// Handle of a connection, valid until it is removed.
pub type ConnId = u32;

/// Bytes of one entry in the kernel: a 256-byte `nf_conn` and about 128 bytes of extensions.
pub const ENTRY_BYTES: u64 = 256 + 128;
/// Entries in one page of the slab: every so many allocations take a page.
const ENTRIES_PER_PAGE: u64 = 16;
const NIL: u32 = u32::MAX;

/// IANA numbers of the protocols that are tracked each in its own way.
mod number {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;
}

/// Which headers NAT rewrites (`IPS_DST_NAT`, `IPS_SRC_NAT`). IPVS changes a reply tuple without setting either:
/// it rewrites its packets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStatus {
    /// The destination was translated.
    pub dst: bool,
    /// The source was translated.
    pub src: bool,
}

/// What a protocol keeps in an entry.
#[derive(Clone, Copy, Debug)]
enum Track {
    Tcp(Tracker),
    /// When the flow counts as a stream.
    Udp(SimTime),
    /// How many steps of the handshake were seen.
    Sctp(u8),
    Plain,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Tuple of the first packet.
    pub original: Tuple,
    /// Tuple of an answer, after NAT.
    pub reply: Tuple,
    /// What NAT rewrites.
    pub nat: NatStatus,
    /// The connection's mark.
    pub mark: u32,
    /// Whether NAT has looked at it, be it to leave it alone (`IPS_NAT_DONE_MASK`).
    pub nat_done: bool,
    track: Track,
    answered: bool,
    assured: bool,
    /// Entered after losing to another with the same first tuple: found by its reply only, and soon gone.
    reply_only: bool,
    expires: SimTime,
    /// Next node in the bucket, by direction: entry index times two plus direction.
    next: [u32; 2],
    buckets: [u32; 2],
    next_by_source: u32,
    live: bool,
}

impl Conn {
    /// Whether a packet of the other direction was seen (`IPS_SEEN_REPLY`).
    pub fn is_answered(&self) -> bool {
        self.answered
    }
    /// Whether a full table keeps it (`IPS_ASSURED`).
    pub fn is_assured(&self) -> bool {
        self.assured
    }
    /// When it goes if no packet comes.
    pub fn expires(&self) -> SimTime {
        self.expires
    }
    /// Whole seconds until it expires.
    pub fn seconds_left(&self, now: SimTime) -> u32 {
        let left = self.expires.as_ns().saturating_sub(now.as_ns()) / 1_000_000_000;
        u32::try_from(left).unwrap_or(u32::MAX)
    }
    /// Its TCP state.
    pub fn tcp_state(&self) -> Option<tcp::TcpState> {
        match &self.track {
            Track::Tcp(t) => Some(t.state()),
            _ => None,
        }
    }
}

/// What a packet of a known connection is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// One of its packets.
    Accepted,
    /// None of its packets after all.
    Invalid,
    /// The connection is gone with this packet.
    Ended,
    /// The connection is gone and the packet begins another.
    Reopened,
}

/// The table of one node.
#[derive(Clone, Debug)]
pub struct Conntrack {
    config: ConntrackConfig,
    key: (u64, u64),
    heads: Vec<u32>,
    conns: Vec<Conn>,
    free: Vec<u32>,
    /// Entries in the table.
    live: u32,
    /// Entries begun and not yet in it.
    pending: u32,
    allocations: u64,
    by_source: source::BySource,
    sweep: evict::Sweep,
}

/// No place for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl Conntrack {
    /// The same table, still without a connection, with other settings: kube-proxy makes them when it starts.
    ///
    /// # Panics
    /// If there are connections.
    pub fn configured(self, config: ConntrackConfig) -> Self {
        assert_eq!(self.live + self.pending, 0, "conntrack is configured before there are connections");
        Conntrack::new(config, self.key)
    }

    /// An empty table; `key` stands for the kernel's per-boot SipHash key.
    pub fn new(config: ConntrackConfig, key: (u64, u64)) -> Self {
        assert!(config.buckets > 0 && config.max > 0, "conntrack without room: {config:?}");
        Conntrack {
            config,
            key,
            heads: Vec::new(),
            conns: Vec::new(),
            free: Vec::new(),
            live: 0,
            pending: 0,
            allocations: 0,
            by_source: source::BySource::default(),
            sweep: evict::Sweep::default(),
        }
    }
    /// Connections in the table, expired ones included until a lookup or a sweep meets them.
    pub fn len(&self) -> u32 {
        self.live
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }
    /// Its settings.
    pub fn config(&self) -> &ConntrackConfig {
        &self.config
    }
    /// A connection.
    pub fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id as usize]
    }
    /// Every connection in the table.
    pub fn conns(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(|c| c.live)
    }
    /// Sets the mark of a connection (CONNMARK, `ct mark set`).
    pub fn set_mark(&mut self, id: ConnId, mark: u32) {
        self.conns[id as usize].mark = mark;
    }
    /// Kernel memory: buckets and entries.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.config.buckets) * 8 + u64::from(self.live + self.pending) * ENTRY_BYTES
    }

    fn bucket(&self, tuple: &Tuple) -> u32 {
        let mut bytes = [0u8; 37];
        let mut len = 0;
        for addr in [tuple.src, tuple.dst] {
            match addr.ip() {
                std::net::IpAddr::V4(a) => {
                    bytes[len..len + 4].copy_from_slice(&u32::from(a).to_le_bytes());
                    len += 4;
                }
                std::net::IpAddr::V6(a) => {
                    bytes[len..len + 16].copy_from_slice(&u128::from(a).to_le_bytes());
                    len += 16;
                }
            }
            bytes[len..len + 2].copy_from_slice(&addr.port().to_le_bytes());
            len += 2;
        }
        bytes[len] = tuple.proto.number();
        let hash = SipHasher24::new_with_keys(self.key.0, self.key.1).hash(&bytes[..=len]);
        reciprocal_scale((hash >> 32) as u32, self.config.buckets)
    }

    /// `nf_conntrack_find_get`: the connection that `tuple` belongs to and in which direction.
    pub fn lookup(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> Option<(ConnId, Direction)> {
        self.lookup_hashed(tuple, now, work).0
    }

    /// The same, with the bucket that was looked at: a connection begun for want of one is put there.
    pub fn lookup_hashed(
        &mut self,
        tuple: &Tuple,
        now: SimTime,
        work: &mut Work,
    ) -> (Option<(ConnId, Direction)>, u32) {
        work[Unit::CtLookup] += 1;
        work[Unit::Siphash] += 1;
        let bucket = self.bucket(tuple);
        let (found, steps) = self.search(bucket, tuple, now);
        work[Unit::CtChainSteps] += steps;
        (found, bucket)
    }

    /// Walks a bucket, taking out what has expired; also how many entries it looked at.
    fn search(&mut self, bucket: u32, tuple: &Tuple, now: SimTime) -> (Option<(ConnId, Direction)>, u32) {
        let mut steps = 0;
        if self.heads.is_empty() {
            return (None, 0);
        }
        let mut node = self.heads[bucket as usize];
        while node != NIL {
            steps += 1;
            let (id, dir) = (node >> 1, node & 1);
            let conn = &self.conns[id as usize];
            let following = conn.next[dir as usize];
            if conn.expires <= now {
                self.remove(id);
                // The chain may have lost more than this node: start over, as the kernel does.
                node = self.heads[bucket as usize];
                continue;
            }
            let (mine, direction) = match dir {
                0 => (&conn.original, Direction::Original),
                _ => (&conn.reply, Direction::Reply),
            };
            if mine == tuple {
                return (Some((id, direction)), steps);
            }
            node = following;
        }
        (None, steps)
    }

    /// Whether `tuple` is already some connection's: `nf_nat_used_tuple`.
    pub fn is_used(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> bool {
        self.probe(tuple, now, work).is_some()
    }

    fn probe(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> Option<(ConnId, Direction)> {
        work[Unit::NatTupleProbes] += 1;
        work[Unit::Siphash] += 1;
        let (found, steps) = self.search(self.bucket(tuple), tuple, now);
        work[Unit::CtChainSteps] += steps;
        found
    }

    /// The same late in a port search (`nf_nat_used_tuple_harder`): a closed TCP connection whose source was
    /// translated gives way. (The kernel also wants the new connection's sequence numbers ahead of the old one's.)
    pub fn is_used_harder(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> bool {
        let Some((id, direction)) = self.probe(tuple, now, work) else { return false };
        let conn = &self.conns[id as usize];
        let closed = conn.tcp_state().is_some_and(|s| s >= tcp::TcpState::TimeWait);
        if direction == Direction::Reply && closed && conn.nat.src && !conn.reply_only {
            self.remove(id);
            return false;
        }
        true
    }

    /// Changes the reply tuple of a connection, as IPVS does once it has chosen a destination
    /// (`ip_vs_nfct.c:ip_vs_update_conntrack`).
    pub fn alter_reply(&mut self, id: ConnId, reply: Tuple) {
        let old = self.conns[id as usize].buckets[1];
        self.unlink(old, id << 1 | 1);
        let bucket = self.bucket(&reply);
        self.conns[id as usize].reply = reply;
        self.link(id, 1, bucket);
    }

    /// A packet of the connection passed: moves the state on and the timeout with it. Whether it was answered before
    /// is what rules see; the answer counts from the next packet on.
    pub fn packet(&mut self, id: ConnId, direction: Direction, flags: TcpFlags, now: SimTime) -> Passage {
        let config = &self.config;
        let conn = &mut self.conns[id as usize];
        let (answered, assured) = (conn.answered, conn.assured);
        let lifetime = match &mut conn.track {
            Track::Tcp(tracker) => match tracker.packet(direction, flags, (answered, assured), config) {
                tcp::Effect::Live(lifetime, assured) => {
                    conn.assured = assured;
                    Some(lifetime)
                }
                tcp::Effect::Ignored => None,
                tcp::Effect::Invalid => return Passage::Invalid,
                tcp::Effect::Ended => {
                    self.remove(id);
                    return Passage::Ended;
                }
                tcp::Effect::Reopened => {
                    self.remove(id);
                    return Passage::Reopened;
                }
            },
            Track::Udp(stream_from) => Some(if answered && now > *stream_from {
                conn.assured |= !conn.reply_only;
                config.udp_stream
            } else {
                config.udp
            }),
            Track::Sctp(steps) => {
                let due = if *steps % 2 == 0 { Direction::Reply } else { Direction::Original };
                if *steps < 3 && direction == due {
                    *steps += 1;
                }
                conn.assured |= *steps == 3;
                Some(SimSpan::from_secs(if *steps == 3 { 210 } else { 3 }))
            }
            Track::Plain => Some(plain_lifetime(conn.original.proto.number())),
        };
        if let Some(lifetime) = lifetime
            && !conn.reply_only
        {
            conn.expires = now + lifetime;
        }
        conn.answered |= direction == Direction::Reply;
        Passage::Accepted
    }

    /// [`packet`](Self::packet) where nobody asks what it was.
    pub fn advance(&mut self, id: ConnId, direction: Direction, flags: TcpFlags, now: SimTime) {
        self.packet(id, direction, flags, now);
    }

    fn link(&mut self, id: ConnId, dir: usize, bucket: u32) {
        let conn = &mut self.conns[id as usize];
        conn.buckets[dir] = bucket;
        conn.next[dir] = self.heads[bucket as usize];
        self.heads[bucket as usize] = id << 1 | dir as u32;
    }

    fn remove(&mut self, id: ConnId) {
        let conn = &self.conns[id as usize];
        assert!(conn.live, "conntrack entry {id} removed twice");
        let (buckets, reply_only) = (conn.buckets, conn.reply_only);
        if !reply_only {
            self.unlink(buckets[0], id << 1);
        }
        self.unlink(buckets[1], id << 1 | 1);
        self.forget_source(id);
        self.conns[id as usize].live = false;
        self.free.push(id);
        self.live -= 1;
    }

    fn unlink(&mut self, bucket: u32, node: u32) {
        let bucket = bucket as usize;
        let after = |conns: &[Conn], n: u32| conns[(n >> 1) as usize].next[(n & 1) as usize];
        if self.heads[bucket] == node {
            self.heads[bucket] = after(&self.conns, node);
            return;
        }
        let mut at = self.heads[bucket];
        loop {
            assert_ne!(at, NIL, "conntrack node {node} is not in bucket {bucket}");
            let next = after(&self.conns, at);
            if next == node {
                self.conns[(at >> 1) as usize].next[(at & 1) as usize] = after(&self.conns, node);
                return;
            }
            at = next;
        }
    }
}

/// Timeout of a protocol without states.
fn plain_lifetime(proto: u8) -> SimSpan {
    SimSpan::from_secs(match proto {
        number::ICMP | number::ICMPV6 => 30,
        _ => 600,
    })
}
