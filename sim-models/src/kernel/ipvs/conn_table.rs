//! The connection table: chained buckets keyed by the client's side only, newest first.
//!
//! Source: `net/netfilter/ipvs/ip_vs_conn.c`, `ip_vs_conn_hashkey`, `ip_vs_conn_in_get`,
//! `ip_vs_conn_out_get`, `ip_vs_conn_hash`, Linux 6.12. Both directions find a connection by the client's
//! address and port, so every connection of one client socket shares a chain and 100,000 connections in the
//! default 4,096 buckets cost 24 comparisons a lookup. An entry that expired is never met by a walk: each
//! has a timer, kept here in one heap and fired exactly, before any later lookup.
//!
//! Left out: the 32 lock stripes, connections without a client port (FTP), one-packet scheduling, the other
//! network namespaces in the same table, the resizable table of Linux 7.1.

use super::tcp_state::ConnState;
use sim_core::classify::hash::{jhash, jhash_3words};
use sim_core::classify::{Proto, Unit, Work};
use sim_core::units::SimTime;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

/// Default of `conn_tab_bits` (`CONFIG_IP_VS_TAB_BITS`).
pub const DEFAULT_BITS: u32 = 12;
/// Smallest and largest `conn_tab_bits` on 64-bit machines.
pub const BITS_RANGE: std::ops::RangeInclusive<u32> = 8..=27;
const NONE: u32 = u32::MAX;
/// Jiffies in a second. Timers have this grain, rounded up; it keeps an entry in one cache line.
const HZ: u64 = 250;

/// Handle of a connection, valid until the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(super) u32);

/// What a connection is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnKey {
    /// Client address.
    pub client: IpAddr,
    /// Client port; 0 in a persistence template.
    pub client_port: u16,
    /// Address that the client called.
    pub virt: IpAddr,
    /// Port that the client called.
    pub virt_port: u16,
    /// Transport protocol.
    pub proto: Proto,
}

/// One entry: 56 bytes. Addresses are kept as 16 bytes, IPv4 in its mapped form.
#[derive(Clone, Copy, Debug)]
struct Conn {
    client: [u8; 16],
    virt: [u8; 16],
    client_port: u16,
    virt_port: u16,
    proto: u8,
    state: ConnState,
    live: bool,
    /// Counted among its destination's inactive connections (`IP_VS_CONN_F_INACTIVE`).
    inactive: bool,
    dest: u32,
    next: u32,
    /// Jiffy at which it ends.
    expires: u32,
    /// Jiffy of the earliest timer in the heap that is its own.
    timer: u32,
}

const _: () = assert!(size_of::<Conn>() == 56);

/// The table of one node.
#[derive(Clone, Debug)]
pub struct ConnTable {
    heads: Vec<u32>,
    conns: Vec<Conn>,
    free: u32,
    live: usize,
    rnd: u32,
    timers: BinaryHeap<Reverse<(u32, u32)>>,
}

fn bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn jiffy(at: SimTime) -> u32 {
    let ticks = at.as_ns().div_ceil(1_000_000_000 / HZ);
    u32::try_from(ticks).unwrap_or_else(|_| panic!("{at} is beyond the timers' 198 days"))
}

impl ConnTable {
    /// An empty table of 2^`bits` buckets; `rnd` is the boot's hash seed (`ip_vs_conn_rnd`).
    ///
    /// # Panics
    /// If `bits` is outside [`BITS_RANGE`].
    pub fn new(bits: u32, rnd: u32) -> Self {
        assert!(BITS_RANGE.contains(&bits), "conn_tab_bits {bits} is outside {BITS_RANGE:?}");
        let heads = vec![NONE; 1 << bits];
        ConnTable { heads, conns: Vec::new(), free: NONE, live: 0, rnd, timers: BinaryHeap::new() }
    }

    /// Live entries, templates included.
    pub fn len(&self) -> usize {
        self.live
    }
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }
    /// Persistence templates; walks the whole table.
    pub fn template_count(&self) -> usize {
        self.conns.iter().filter(|c| c.live && c.state == ConnState::Template).count()
    }
    /// Number of buckets.
    pub fn buckets(&self) -> usize {
        self.heads.len()
    }
    /// Memory that this model itself takes, in bytes.
    pub fn model_bytes(&self) -> usize {
        self.heads.capacity() * 4 + self.conns.capacity() * size_of::<Conn>() + self.timers.capacity() * 8
    }

    /// Bucket of a client address, port and protocol.
    pub fn bucket(&self, client: IpAddr, port: u16, proto: Proto) -> usize {
        let folded = match client {
            IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
            IpAddr::V6(v6) => jhash(&v6.octets(), self.rnd),
        };
        // The kernel hashes the port as it stands in the header, on a little-endian machine.
        let port = u32::from(port.swap_bytes());
        jhash_3words(folded, port, u32::from(proto.number()), self.rnd) as usize & (self.heads.len() - 1)
    }

    fn walk(&self, at: usize, work: &mut Work, mut found: impl FnMut(&Conn) -> bool) -> Option<ConnId> {
        work[Unit::IpvsConnLookup] += 1;
        work[Unit::LinesChase] += 1;
        let mut next = self.heads[at];
        while next != NONE {
            work[Unit::IpvsConnSteps] += 1;
            work[Unit::LinesChase] += 1;
            let conn = &self.conns[next as usize];
            if found(conn) {
                return Some(ConnId(next));
            }
            next = conn.next;
        }
        None
    }

    /// Finds a connection by the client's tuple, as the request direction does.
    pub fn lookup_in(&self, key: &ConnKey, work: &mut Work) -> Option<ConnId> {
        let (client, virt) = (bytes(key.client), bytes(key.virt));
        self.walk(self.bucket(key.client, key.client_port, key.proto), work, |c| {
            c.client_port == key.client_port
                && c.client == client
                && c.virt == virt
                && c.virt_port == key.virt_port
                && c.proto == key.proto.number()
        })
    }

    /// Finds a connection by client and real server, as the reply direction does. `is_dest` says whether a
    /// destination handle is the server that sent the packet.
    pub fn lookup_out(
        &self,
        client: IpAddr,
        client_port: u16,
        proto: Proto,
        work: &mut Work,
        is_dest: impl Fn(u32) -> bool,
    ) -> Option<ConnId> {
        let wanted = bytes(client);
        self.walk(self.bucket(client, client_port, proto), work, |c| {
            c.client_port == client_port
                && c.client == wanted
                && c.proto == proto.number()
                // A template has no client port, so port 0 must not find it.
                && c.state != ConnState::Template
                && is_dest(c.dest)
        })
    }

    /// Adds a connection at the head of its bucket.
    pub fn insert(&mut self, key: &ConnKey, dest: u32, state: ConnState, expires: SimTime) -> ConnId {
        let at = self.bucket(key.client, key.client_port, key.proto);
        let expires = jiffy(expires);
        let conn = Conn {
            client: bytes(key.client),
            virt: bytes(key.virt),
            client_port: key.client_port,
            virt_port: key.virt_port,
            proto: key.proto.number(),
            state,
            live: true,
            inactive: true,
            dest,
            next: self.heads[at],
            expires,
            timer: expires,
        };
        let id = if self.free == NONE {
            self.conns.push(conn);
            u32::try_from(self.conns.len() - 1).expect("fewer than 2^32 connections")
        } else {
            let id = self.free;
            self.free = self.conns[id as usize].next;
            self.conns[id as usize] = conn;
            id
        };
        self.heads[at] = id;
        self.live += 1;
        self.timers.push(Reverse((expires, id)));
        ConnId(id)
    }

    fn get(&self, id: ConnId) -> &Conn {
        let conn = &self.conns[id.0 as usize];
        assert!(conn.live, "connection {} has ended", id.0);
        conn
    }
    fn get_mut(&mut self, id: ConnId) -> &mut Conn {
        let conn = &mut self.conns[id.0 as usize];
        assert!(conn.live, "connection {} has ended", id.0);
        conn
    }

    /// Its destination handle.
    pub fn dest(&self, id: ConnId) -> u32 {
        self.get(id).dest
    }
    /// Its state.
    pub fn state(&self, id: ConnId) -> ConnState {
        self.get(id).state
    }
    /// Whether it counts as inactive.
    pub fn is_inactive(&self, id: ConnId) -> bool {
        self.get(id).inactive
    }
    /// Address and port that the client called.
    pub fn virt(&self, id: ConnId) -> (IpAddr, u16) {
        let conn = self.get(id);
        (std::net::Ipv6Addr::from(conn.virt).to_canonical(), conn.virt_port)
    }
    /// Sets state and activity.
    pub fn set_state(&mut self, id: ConnId, state: ConnState, inactive: bool) {
        let conn = self.get_mut(id);
        conn.state = state;
        conn.inactive = inactive;
    }

    /// Moves its end to `expires`.
    pub fn rearm(&mut self, id: ConnId, expires: SimTime) {
        let expires = jiffy(expires);
        let conn = self.get_mut(id);
        conn.expires = expires;
        // A later end waits for the timer that is already there; an earlier one needs its own.
        if expires < conn.timer {
            conn.timer = expires;
            self.timers.push(Reverse((expires, id.0)));
        }
    }

    /// The next connection whose time has come by `now`. It is still in the table: the caller ends it with
    /// [`ConnTable::remove`] or moves its end with [`ConnTable::rearm`].
    pub fn next_expired(&mut self, now: SimTime) -> Option<ConnId> {
        let tick = u32::try_from(now.as_ns() / (1_000_000_000 / HZ)).expect("within the timers' range");
        while let Some(&Reverse((at, id))) = self.timers.peek() {
            if at > tick {
                return None;
            }
            self.timers.pop();
            let conn = &mut self.conns[id as usize];
            // A timer that is not the entry's own was left behind by an earlier end or an earlier entry.
            if !conn.live || conn.timer != at {
                continue;
            }
            if conn.expires > at {
                conn.timer = conn.expires;
                self.timers.push(Reverse((conn.expires, id)));
                continue;
            }
            conn.timer = u32::MAX;
            return Some(ConnId(id));
        }
        None
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnId) {
        let conn = *self.get(id);
        let client = std::net::Ipv6Addr::from(conn.client).to_canonical();
        let proto = [Proto::Tcp, Proto::Udp, Proto::Sctp, Proto::Icmp];
        let proto = proto.into_iter().find(|p| p.number() == conn.proto).expect("a known protocol");
        let at = self.bucket(client, conn.client_port, proto);
        if self.heads[at] == id.0 {
            self.heads[at] = conn.next;
        } else {
            let mut walk = self.heads[at];
            while self.conns[walk as usize].next != id.0 {
                walk = self.conns[walk as usize].next;
            }
            self.conns[walk as usize].next = conn.next;
        }
        let gone = &mut self.conns[id.0 as usize];
        gone.live = false;
        gone.next = self.free;
        self.free = id.0;
        self.live -= 1;
    }
}
