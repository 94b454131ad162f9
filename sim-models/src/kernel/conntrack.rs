//! Connection tracking: the hash table, its two nodes a connection, and TCP's states
//! (`net/netfilter/nf_conntrack_core.c`, `nf_conntrack_proto_tcp.c`).
//!
//! Every connection is in the table twice, by the tuple of its first direction and by that of the reply. A
//! bucket is picked by SipHash-2-4 of the tuple and `reciprocal_scale`. Expired entries are taken out by the
//! lookups that meet them. A full table evicts an unassured entry from eight consecutive buckets or drops the
//! packet (`early_drop`).
//!
//! Departures: the bytes hashed are ours, so chains have the kernel's lengths in law, not one by one. Left out:
//! zones, helpers and expectations, the garbage-collection worker (lookups see the same table without it),
//! window tracking, CLOSE_WAIT (a closing connection lives as long as FIN_WAIT does).

use crate::config;
use sim_core::classify::hash::reciprocal_scale;
use sim_core::classify::{Packet, Proto, TcpFlags, Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;
use std::net::SocketAddr;

/// Addresses, ports and protocol of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Transport protocol.
    pub proto: Proto,
}

impl Tuple {
    /// The tuple of `packet`.
    pub fn of(packet: &Packet) -> Self {
        Tuple {
            src: SocketAddr::new(packet.src, packet.sport),
            dst: SocketAddr::new(packet.dst, packet.dport),
            proto: packet.proto,
        }
    }
    /// The tuple of an answer.
    pub fn reversed(self) -> Self {
        Tuple { src: self.dst, dst: self.src, proto: self.proto }
    }
}

/// Direction of a packet within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that began.
    Original,
    /// Back.
    Reply,
}

/// TCP's tracking states as far as they have timeouts of their own; UDP uses the first and `Established`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    SynRecv,
    Established,
    FinWait,
    LastAck,
    TimeWait,
    Close,
}

/// Sizes and timeouts.
#[derive(Clone, Copy, Debug)]
pub struct ConntrackConfig {
    /// Buckets.
    pub buckets: u32,
    /// Greatest number of connections.
    pub max: u32,
    /// Lifetime of idle established TCP connections: kube-proxy sets 24 h.
    pub tcp_established: SimSpan,
    /// Lifetime of UDP flows without an answer.
    pub udp: SimSpan,
    /// Lifetime of UDP flows with one.
    pub udp_stream: SimSpan,
}

impl ConntrackConfig {
    /// A node with more than 4 GiB of memory and kube-proxy's `conntrack.maxPerCore` of 32,768 and `min` of
    /// 131,072; hashsize is what `nf_conntrack_init_start` picks for that much memory.
    pub fn for_cores(cores: u32) -> Self {
        Self::new(cores, &config::ConntrackConfig::default())
    }

    /// The same node with what `conntrack` of the configuration makes of it, times cut to seconds as in
    /// [`proxy::conntrack`](crate::proxy::conntrack); where that is zero the kernel's own settings stand.
    pub fn new(cores: u32, set: &config::ConntrackConfig) -> Self {
        const BUCKETS: u32 = 262_144;
        let lifetime = |set: SimSpan, kernel| match set.as_ns() {
            0 => SimSpan::from_secs(kernel),
            ns => SimSpan::from_secs(ns / 1_000_000_000),
        };
        ConntrackConfig {
            buckets: BUCKETS,
            max: match set.max_per_core {
                // `nf_conntrack_init_start`: as many as buckets.
                0 => BUCKETS,
                each => each.saturating_mul(cores).max(set.min),
            },
            tcp_established: lifetime(set.tcp_established, 432_000),
            udp: lifetime(set.udp, 30),
            udp_stream: lifetime(set.udp_stream, 120),
        }
    }
}

/// Handle of a connection, valid until it is removed.
pub type ConnId = u32;

/// Bytes of one entry in the kernel: a 256-byte `nf_conn` and about 128 bytes of extensions.
pub const ENTRY_BYTES: u64 = 256 + 128;
/// Entries in one page of the slab: every so many allocations take a page.
const ENTRIES_PER_PAGE: u64 = 16;
const NIL: u32 = u32::MAX;

/// Which headers NAT rewrites (`IPS_DST_NAT`, `IPS_SRC_NAT`). IPVS changes a reply tuple without setting either:
/// it rewrites its packets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStatus {
    /// The destination was translated.
    pub dst: bool,
    /// The source was translated.
    pub src: bool,
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
    state: State,
    assured: bool,
    expires: SimTime,
    /// Next node in the bucket, by direction: entry index times two plus direction.
    next: [u32; 2],
    live: bool,
}

impl Conn {
    /// Whether an answer was seen (`IPS_SEEN_REPLY`).
    pub fn seen_reply(&self) -> bool {
        self.state != State::SynSent
    }
    /// Whether it would be spared when room is made (`IPS_ASSURED`).
    pub fn is_assured(&self) -> bool {
        self.assured
    }
    /// Whole seconds until it expires.
    pub fn seconds_left(&self, now: SimTime) -> u32 {
        let left = self.expires.as_ns().saturating_sub(now.as_ns()) / 1_000_000_000;
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

/// The table of one node.
#[derive(Clone, Debug)]
pub struct Conntrack {
    config: ConntrackConfig,
    key: (u64, u64),
    heads: Vec<u32>,
    conns: Vec<Conn>,
    free: Vec<u32>,
    live: u32,
    allocations: u64,
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
        assert_eq!(self.live, 0, "conntrack is configured before there are connections");
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
            allocations: 0,
        }
    }
    /// Connections in the table, expired ones included until a lookup meets them.
    pub fn len(&self) -> u32 {
        self.live
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }
    /// A connection.
    pub fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id as usize]
    }
    /// Kernel memory: buckets and entries.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.config.buckets) * 8 + u64::from(self.live) * ENTRY_BYTES
    }

    fn bucket(&self, tuple: &Tuple) -> usize {
        let mut h = SipHasher24::new_with_keys(self.key.0, self.key.1);
        for addr in [tuple.src, tuple.dst] {
            match addr.ip() {
                std::net::IpAddr::V4(a) => h.write_u32(a.into()),
                std::net::IpAddr::V6(a) => h.write_u128(a.into()),
            }
            h.write_u16(addr.port());
        }
        h.write_u8(tuple.proto.number());
        reciprocal_scale((h.finish() >> 32) as u32, self.config.buckets) as usize
    }

    /// `nf_conntrack_find_get`: the connection that `tuple` belongs to and in which direction.
    pub fn lookup(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> Option<(ConnId, Direction)> {
        work[Unit::CtLookup] += 1;
        work[Unit::Siphash] += 1;
        if self.heads.is_empty() {
            return None;
        }
        let bucket = self.bucket(tuple);
        let mut node = self.heads[bucket];
        while node != NIL {
            work[Unit::CtChainSteps] += 1;
            let (id, dir) = (node >> 1, node & 1);
            let conn = &self.conns[id as usize];
            let following = conn.next[dir as usize];
            if conn.expires <= now {
                self.remove(id);
                // The chain may have lost more than this node: start over, as the kernel does.
                node = self.heads[bucket];
                continue;
            }
            let (mine, direction) = match dir {
                0 => (&conn.original, Direction::Original),
                _ => (&conn.reply, Direction::Reply),
            };
            if mine == tuple {
                return Some((id, direction));
            }
            node = following;
        }
        None
    }

    /// Whether `tuple` is already some connection's: `nf_nat_used_tuple`.
    pub fn is_used(&mut self, tuple: &Tuple, now: SimTime, work: &mut Work) -> bool {
        work[Unit::NatTupleProbes] += 1;
        let mut lookup = Work::new();
        let found = self.lookup(tuple, now, &mut lookup).is_some();
        work[Unit::CtChainSteps] += lookup[Unit::CtChainSteps];
        work[Unit::Siphash] += 1;
        found
    }

    /// `init_conntrack` and `__nf_conntrack_confirm`: enters a connection under both tuples.
    pub fn insert(
        &mut self,
        original: Tuple,
        reply: Tuple,
        nat: NatStatus,
        now: SimTime,
        work: &mut Work,
    ) -> Result<ConnId, TableFull> {
        if self.heads.is_empty() {
            self.heads = vec![NIL; self.config.buckets as usize];
        }
        if !self.make_room(&original, now) {
            return Err(TableFull);
        }
        let (first, second) = (self.bucket(&original), self.bucket(&reply));
        work[Unit::CtNew] += 1;
        if self.allocations.is_multiple_of(ENTRIES_PER_PAGE) {
            work[Unit::CtSlabPages] += 1;
        }
        self.allocations += 1;
        let (state, timeout) = match original.proto {
            Proto::Tcp => (State::SynSent, SimSpan::from_secs(120)),
            _ => (State::SynSent, self.config.udp),
        };
        let conn = Conn {
            original,
            reply,
            nat,
            state,
            assured: false,
            expires: now + timeout,
            next: [self.heads[first], NIL],
            live: true,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.conns[id as usize] = conn;
                id
            }
            None => {
                self.conns.push(conn);
                u32::try_from(self.conns.len() - 1).expect("conntrack ids fit 31 bits")
            }
        };
        self.heads[first] = id << 1;
        self.conns[id as usize].next[1] = self.heads[second];
        self.heads[second] = id << 1 | 1;
        self.live += 1;
        Ok(id)
    }

    /// Changes the reply tuple of a connection, as IPVS does once it has chosen a destination
    /// (`ip_vs_nfct.c:ip_vs_update_conntrack`).
    pub fn alter_reply(&mut self, id: ConnId, reply: Tuple) {
        let old = self.bucket(&self.conns[id as usize].reply);
        self.unlink(old, id << 1 | 1);
        let bucket = self.bucket(&reply);
        let conn = &mut self.conns[id as usize];
        conn.reply = reply;
        conn.next[1] = self.heads[bucket];
        self.heads[bucket] = id << 1 | 1;
    }

    /// A SYN in the first direction of a closed connection: the old entry goes and the packet starts anew
    /// (`nf_conntrack_proto_tcp.c:nf_conntrack_tcp_packet`, the reopening of TIME_WAIT and CLOSE). Whether it did.
    pub fn reopen(&mut self, id: ConnId, direction: Direction, flags: TcpFlags) -> bool {
        let closed = matches!(self.conns[id as usize].state, State::TimeWait | State::Close);
        let reopens = closed && direction == Direction::Original && flags.syn && !flags.ack;
        if reopens {
            self.remove(id);
        }
        reopens
    }

    /// Whether a connection for `tuple` has a place, if need be after one was evicted for it
    /// (`__nf_conntrack_alloc`, before any rule is looked at).
    pub fn make_room(&mut self, tuple: &Tuple, now: SimTime) -> bool {
        if self.live < self.config.max {
            return true;
        }
        let bucket = self.bucket(tuple);
        self.early_drop(bucket, now)
    }

    /// A packet of the connection passed: moves the state on and the timeout with it.
    pub fn advance(&mut self, id: ConnId, direction: Direction, flags: TcpFlags, now: SimTime) {
        let established = self.config.tcp_established;
        let conn = &mut self.conns[id as usize];
        if conn.original.proto != Proto::Tcp {
            if direction == Direction::Reply {
                conn.state = State::Established;
                conn.assured = true;
            }
            conn.expires = now + if conn.assured { self.config.udp_stream } else { self.config.udp };
            return;
        }
        conn.state = match (conn.state, direction) {
            _ if flags.rst => State::Close,
            (State::SynSent, Direction::Reply) if flags.syn && flags.ack => State::SynRecv,
            (State::SynRecv, Direction::Original) if flags.fin => State::FinWait,
            (State::SynRecv, Direction::Original) if flags.ack => State::Established,
            (State::Established, _) if flags.fin => State::FinWait,
            (State::FinWait, _) if flags.fin => State::LastAck,
            (State::LastAck, _) if flags.ack => State::TimeWait,
            (state, _) => state,
        };
        conn.assured |= conn.state == State::Established;
        conn.expires = now
            + match conn.state {
                State::SynSent | State::FinWait | State::TimeWait => SimSpan::from_secs(120),
                State::SynRecv => SimSpan::from_secs(60),
                State::Established => established,
                State::LastAck => SimSpan::from_secs(30),
                State::Close => SimSpan::from_secs(10),
            };
    }

    /// Evicts one entry that is expired or was never answered from the eight buckets at `bucket`.
    fn early_drop(&mut self, bucket: usize, now: SimTime) -> bool {
        for step in 0..8 {
            let mut node = self.heads[(bucket + step) % self.heads.len()];
            while node != NIL {
                let conn = &self.conns[(node >> 1) as usize];
                if conn.expires <= now || !conn.assured {
                    self.remove(node >> 1);
                    return true;
                }
                node = conn.next[(node & 1) as usize];
            }
        }
        false
    }

    fn remove(&mut self, id: ConnId) {
        let conn = &self.conns[id as usize];
        assert!(conn.live, "conntrack entry {id} removed twice");
        let buckets = [self.bucket(&conn.original), self.bucket(&conn.reply)];
        self.unlink(buckets[0], id << 1);
        self.unlink(buckets[1], id << 1 | 1);
        self.conns[id as usize].live = false;
        self.free.push(id);
        self.live -= 1;
    }

    fn unlink(&mut self, bucket: usize, node: u32) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(sport: u16) -> Tuple {
        let at = |ip: [u8; 4], port| SocketAddr::from((ip, port));
        Tuple { src: at([10, 0, 0, 1], sport), dst: at([10, 96, 0, 1], 80), proto: Proto::Tcp }
    }

    fn table(buckets: u32, max: u32) -> Conntrack {
        let config = ConntrackConfig { buckets, max, ..ConntrackConfig::for_cores(1) };
        Conntrack::new(config, (1, 2))
    }

    #[test]
    fn lifetimes_and_the_limit_are_those_of_the_configuration_or_the_kernels() {
        let kube_proxy = ConntrackConfig::for_cores(8);
        assert_eq!((kube_proxy.max, kube_proxy.tcp_established.as_secs_f64()), (262_144, 86_400.0));
        assert_eq!(ConntrackConfig::for_cores(1).max, 131_072);
        let zero = SimSpan::ZERO;
        let left = config::ConntrackConfig {
            max_per_core: 0,
            tcp_established: zero,
            ..config::ConntrackConfig::default()
        };
        let left = ConntrackConfig::new(64, &left);
        assert_eq!((left.max, left.tcp_established.as_secs_f64()), (262_144, 432_000.0));
        let set = config::ConntrackConfig {
            max_per_core: u32::MAX,
            udp: SimSpan::from_secs(5),
            udp_stream: SimSpan::from_secs(7),
            ..config::ConntrackConfig::default()
        };
        let set = ConntrackConfig::new(64, &set);
        assert_eq!(set.max, u32::MAX);
        let mut ct = Conntrack::new(ConntrackConfig { buckets: 4, max: 100, ..set }, (1, 2));
        let udp = Tuple { proto: Proto::Udp, ..tuple(1) };
        let mut work = Work::new();
        let id = ct.insert(udp, udp.reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        assert_eq!(ct.conns[id as usize].expires, SimTime::ZERO + SimSpan::from_secs(5));
        ct.advance(id, Direction::Reply, TcpFlags::default(), SimTime::ZERO);
        assert_eq!(ct.conns[id as usize].expires, SimTime::ZERO + SimSpan::from_secs(7));
    }

    #[test]
    fn a_connection_is_found_from_both_sides() {
        let (mut ct, mut work) = (table(4, 100), Work::new());
        for sport in 1..50 {
            ct.insert(tuple(sport), tuple(sport).reversed(), NatStatus::default(), SimTime::ZERO, &mut work)
                .unwrap();
        }
        for sport in 1..50 {
            let (a, d) = ct.lookup(&tuple(sport), SimTime::ZERO, &mut work).unwrap();
            let (b, r) = ct.lookup(&tuple(sport).reversed(), SimTime::ZERO, &mut work).unwrap();
            assert_eq!((a, d, r), (b, Direction::Original, Direction::Reply));
        }
        assert_eq!(ct.lookup(&tuple(50), SimTime::ZERO, &mut work), None);
    }

    #[test]
    fn chains_grow_with_two_nodes_a_connection() {
        let (mut ct, mut work) = (table(64, 10_000), Work::new());
        for sport in 1..=6400 {
            ct.insert(tuple(sport), tuple(sport).reversed(), NatStatus::default(), SimTime::ZERO, &mut work)
                .unwrap();
        }
        let mut miss = Work::new();
        for sport in 10_000..11_000 {
            assert!(ct.lookup(&tuple(sport), SimTime::ZERO, &mut miss).is_none());
        }
        let mean = f64::from(miss[Unit::CtChainSteps]) / 1000.0;
        assert!((190.0..210.0).contains(&mean), "2 x 6400 / 64 = 200 expected, {mean} counted");
    }

    #[test]
    fn an_unanswered_syn_expires_after_two_minutes_and_its_place_is_reused() {
        let (mut ct, mut work) = (table(8, 100), Work::new());
        ct.insert(tuple(1), tuple(1).reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        let later = SimTime::ZERO + SimSpan::from_secs(121);
        assert!(ct.lookup(&tuple(1), later, &mut work).is_none());
        assert!(ct.is_empty());
        ct.insert(tuple(2), tuple(2).reversed(), NatStatus::default(), later, &mut work).unwrap();
        assert_eq!(ct.conns.len(), 1);
    }

    #[test]
    fn a_closed_connection_is_reopened_by_a_syn_as_a_new_one() {
        let (mut ct, mut work) = (table(8, 100), Work::new());
        let id =
            ct.insert(tuple(1), tuple(1).reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        ct.advance(id, Direction::Original, TcpFlags::SYN, SimTime::ZERO);
        assert!(!ct.reopen(id, Direction::Original, TcpFlags::SYN), "still opening");
        ct.advance(id, Direction::Reply, TcpFlags { rst: true, ..TcpFlags::ACK }, SimTime::ZERO);
        assert!(!ct.reopen(id, Direction::Reply, TcpFlags::SYN_ACK));
        assert!(ct.reopen(id, Direction::Original, TcpFlags::SYN));
        assert!(ct.lookup(&tuple(1), SimTime::ZERO, &mut work).is_none());
    }

    #[test]
    fn a_full_table_evicts_unassured_entries_only() {
        let (mut ct, mut work) = (table(1, 2), Work::new());
        let a =
            ct.insert(tuple(1), tuple(1).reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        ct.insert(tuple(2), tuple(2).reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        ct.advance(a, Direction::Reply, TcpFlags::SYN_ACK, SimTime::ZERO);
        ct.advance(a, Direction::Original, TcpFlags::ACK, SimTime::ZERO);
        let c =
            ct.insert(tuple(3), tuple(3).reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
        assert!(ct.lookup(&tuple(2), SimTime::ZERO, &mut work).is_none());
        ct.advance(c, Direction::Reply, TcpFlags::SYN_ACK, SimTime::ZERO);
        ct.advance(c, Direction::Original, TcpFlags::ACK, SimTime::ZERO);
        assert_eq!(
            ct.insert(tuple(4), tuple(4).reversed(), NatStatus::default(), SimTime::ZERO, &mut work),
            Err(TableFull)
        );
    }
}
