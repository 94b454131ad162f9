//! The connection table: what is known of each connection, where it is chained, and when it ends.
//!
//! Source: `net/netfilter/ipvs/ip_vs_conn.c`, `ip_vs_conn_in_get`, `ip_vs_ct_in_get`, `ip_vs_conn_out_get`,
//! `ip_vs_conn_expire`, Linux 6.12. In the fixed table both directions find a connection by the client's address and
//! port, so every connection of one client socket shares a chain and 100,000 connections in the default 4,096 buckets
//! cost 24 comparisons a lookup ([`super::conn_chains`]). An entry that expired is never met by a walk: each has a
//! timer ([`super::timers`]) that is fired exactly, before any later lookup.
//!
//! Left out: the 32 lock stripes, connections without a client port (FTP), one-packet scheduling, the other
//! network namespaces in the same fixed table.

use super::config::Tables;
use super::conn_chains::{Chains, Ends, Keys, fixed_bucket};
use super::tcp_state::ConnState;
use super::timers::Timers;
use sim_core::classify::{Proto, Unit, Work};
use sim_core::units::SimTime;
use std::net::{IpAddr, SocketAddr};

/// Default of `conn_tab_bits` (`CONFIG_IP_VS_TAB_BITS`).
pub const DEFAULT_BITS: u32 = 12;
/// Smallest and largest `conn_tab_bits` on 64-bit machines.
pub const BITS_RANGE: std::ops::RangeInclusive<u32> = 8..=27;
/// No connection.
const NONE: u32 = u32::MAX;
/// Jiffies in a second. Timers have this grain, rounded up; it keeps an entry in one cache line.
const HZ: u64 = 250;
/// Jiffies between two looks at whether a resizable table should shrink.
const SIZE_CHECK: u32 = 2 * HZ as u32;

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

impl ConnKey {
    fn ends(&self) -> Ends {
        Ends {
            client: SocketAddr::new(self.client, self.client_port),
            other: SocketAddr::new(self.virt, self.virt_port),
            proto: self.proto.number(),
            reply: false,
        }
    }
}

/// One entry. Addresses are kept as 16 bytes, IPv4 in its mapped form.
#[derive(Clone, Copy, Debug)]
struct Conn {
    client: [u8; 16],
    virt: [u8; 16],
    server: [u8; 16],
    client_port: u16,
    virt_port: u16,
    server_port: u16,
    proto: u8,
    state: ConnState,
    live: bool,
    /// Counted among its destination's inactive connections (`IP_VS_CONN_F_INACTIVE`).
    inactive: bool,
    /// Its destination; of a free entry the next free one.
    dest: u32,
    /// Jiffy at which it ends.
    expires: u32,
    /// Jiffy of the earliest timer that is its own.
    timer: u32,
    /// Where it is chained.
    chain: u32,
}

/// The table of one node.
#[derive(Clone, Debug)]
pub struct ConnTable {
    chains: Chains,
    conns: Vec<Conn>,
    free: u32,
    live: usize,
    rnd: u32,
    timers: Timers,
    /// Jiffy of the next look at a resizable table's size.
    size_check: u32,
}

fn bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn addr(bytes: [u8; 16]) -> IpAddr {
    std::net::Ipv6Addr::from(bytes).to_canonical()
}

fn jiffy(at: SimTime) -> u32 {
    let ticks = at.as_ns().div_ceil(1_000_000_000 / HZ);
    u32::try_from(ticks).unwrap_or_else(|_| panic!("{at} is beyond the timers' 198 days"))
}

impl Conn {
    fn keys(&self) -> Keys {
        let client = SocketAddr::new(addr(self.client), self.client_port);
        let ends = |ip, port, reply| Ends {
            client,
            other: SocketAddr::new(addr(ip), port),
            proto: self.proto,
            reply,
        };
        Keys {
            request: ends(self.virt, self.virt_port, false),
            reply: (!self.state.is_template()).then(|| ends(self.server, self.server_port, true)),
        }
    }
}

impl ConnTable {
    /// An empty table of 2^`bits` buckets, or one that grows to them; `rnd` is the boot's hash seed.
    ///
    /// # Panics
    /// If `bits` is outside [`BITS_RANGE`].
    pub fn new(tables: Tables, bits: u32, rnd: u32) -> Self {
        assert!(BITS_RANGE.contains(&bits), "conn_tab_bits {bits} is outside {BITS_RANGE:?}");
        let chains = match tables {
            Tables::Fixed => Chains::fixed(bits, rnd),
            Tables::Resizable(factors) => Chains::resizable(factors.connections, bits, rnd),
        };
        let (conns, timers) = (Vec::new(), Timers::default());
        ConnTable { chains, conns, free: NONE, live: 0, rnd, timers, size_check: SIZE_CHECK }
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
        self.conns.iter().filter(|c| c.live && c.state.is_template()).count()
    }
    /// Number of buckets.
    pub fn buckets(&self) -> usize {
        self.chains.buckets()
    }
    /// Memory that this model itself takes, in bytes.
    pub fn model_bytes(&self) -> usize {
        self.chains.model_bytes() + self.conns.capacity() * size_of::<Conn>() + self.timers.model_bytes()
    }

    /// Bucket of a client address, port and protocol in a fixed table of this size.
    pub fn bucket(&self, client: IpAddr, port: u16, proto: Proto) -> usize {
        fixed_bucket(SocketAddr::new(client, port), proto, self.rnd, self.chains.buckets())
    }

    #[inline]
    fn walk(&self, ends: &Ends, work: &mut Work, found: impl Fn(&Conn) -> bool) -> Option<ConnId> {
        let (id, steps) = self.chains.find(ends, |id| found(&self.conns[id as usize]));
        work[Unit::IpvsConnLookup] += 1;
        work[Unit::IpvsConnSteps] += steps;
        work[Unit::LinesChase] += 1 + steps;
        if matches!(self.chains, Chains::Resizable(_)) {
            work[Unit::Siphash] += 1;
        }
        id.map(ConnId)
    }

    /// Finds a connection by the client's tuple, as the request direction does. A client without a port finds none:
    /// port 0 stands for FTP's data connections.
    pub fn lookup_in(&self, key: &ConnKey, work: &mut Work) -> Option<ConnId> {
        let wanted = |state: ConnState| !state.is_template() && key.client_port != 0;
        self.lookup_client(key, work, wanted)
    }

    /// Finds a client's template that still holds.
    pub fn lookup_template(&self, key: &ConnKey, work: &mut Work) -> Option<ConnId> {
        self.lookup_client(key, work, |state| state == ConnState::Template)
    }

    fn lookup_client(
        &self,
        key: &ConnKey,
        work: &mut Work,
        wanted: impl Fn(ConnState) -> bool,
    ) -> Option<ConnId> {
        let (client, virt) = (bytes(key.client), bytes(key.virt));
        self.walk(&key.ends(), work, |c| {
            c.client_port == key.client_port
                && c.client == client
                && c.virt == virt
                && c.virt_port == key.virt_port
                && c.proto == key.proto.number()
                && wanted(c.state)
        })
    }

    /// Finds a connection by client and real server, as the reply direction does.
    pub fn lookup_out(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        proto: Proto,
        work: &mut Work,
    ) -> Option<ConnId> {
        let (ip, from) = (bytes(client.ip()), bytes(server.ip()));
        let ends = Ends { client, other: server, proto: proto.number(), reply: true };
        self.walk(&ends, work, |c| {
            c.client_port == client.port()
                && c.client == ip
                && c.proto == proto.number()
                && c.server_port == server.port()
                && c.server == from
                && !c.state.is_template()
        })
    }

    /// Adds a connection to `server`, whose handle is `dest`, at the head of its bucket; active if its state is.
    pub fn insert(
        &mut self,
        key: &ConnKey,
        dest: u32,
        server: SocketAddr,
        state: ConnState,
        expires: SimTime,
    ) -> ConnId {
        let expires = jiffy(expires);
        let mut conn = Conn {
            client: bytes(key.client),
            virt: bytes(key.virt),
            server: bytes(server.ip()),
            client_port: key.client_port,
            virt_port: key.virt_port,
            server_port: server.port(),
            proto: key.proto.number(),
            state,
            live: true,
            inactive: !state.is_active(),
            dest,
            expires,
            timer: expires,
            chain: 0,
        };
        let request = key.ends();
        let reply = (!state.is_template()).then_some(Ends { other: server, reply: true, ..request });
        let keys = Keys { request, reply };
        conn.chain = self.chains.chain(&keys.request);
        let chain = conn.chain;
        let id = if self.free == NONE {
            self.conns.push(conn);
            u32::try_from(self.conns.len() - 1).expect("fewer than 2^32 connections")
        } else {
            let id = self.free;
            self.free = self.conns[id as usize].dest;
            self.conns[id as usize] = conn;
            id
        };
        self.chains.insert(id, &keys, chain);
        self.live += 1;
        let conns = &self.conns;
        self.chains.grow(self.live, |n| conns[n as usize].keys());
        self.timers.arm(expires, id);
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
        (addr(conn.virt), conn.virt_port)
    }
    /// Address and port of the real server.
    pub fn server(&self, id: ConnId) -> SocketAddr {
        let conn = self.get(id);
        SocketAddr::new(addr(conn.server), conn.server_port)
    }
    /// Connections whose destination handle `wanted` names; walks the whole table.
    pub fn ids_of(&self, wanted: impl Fn(u32) -> bool) -> Vec<ConnId> {
        let all = self.conns.iter().zip(0..);
        all.filter(|(conn, _)| conn.live && wanted(conn.dest)).map(|(_, id)| ConnId(id)).collect()
    }
    /// Sets state and activity.
    pub fn set_state(&mut self, id: ConnId, state: ConnState, inactive: bool) {
        let conn = self.get_mut(id);
        conn.state = state;
        conn.inactive = inactive;
    }

    /// Makes a template one that no client finds any more. It stays in the table until it expires.
    pub fn invalidate(&mut self, id: ConnId) {
        let conn = self.get_mut(id);
        conn.state = ConnState::LostTemplate;
        let (keys, chain) = (conn.keys(), conn.chain);
        self.chains.invalidate(id.0, &keys, chain);
    }

    /// Moves its end to `expires`.
    pub fn rearm(&mut self, id: ConnId, expires: SimTime) {
        let expires = jiffy(expires);
        let conn = self.get_mut(id);
        conn.expires = expires;
        // A later end waits for the timer that is already there; an earlier one needs its own.
        if expires < conn.timer {
            conn.timer = expires;
            self.timers.arm(expires, id.0);
        }
    }

    /// Lets it expire with the next tick.
    pub fn expire_now(&mut self, id: ConnId, now: SimTime) {
        if self.get(id).expires > jiffy(now) {
            self.rearm(id, now);
        }
    }

    /// The next connection whose time has come by `now`. It is still in the table: the caller ends it with
    /// [`ConnTable::remove`] or moves its end with [`ConnTable::rearm`].
    #[inline]
    pub fn next_expired(&mut self, now: SimTime) -> Option<ConnId> {
        let tick = u32::try_from(now.as_ns() / (1_000_000_000 / HZ)).expect("within the timers' range");
        while let Some((at, id)) = self.timers.pop(tick) {
            let conn = &mut self.conns[id as usize];
            // A timer that is not the entry's own was left behind by an earlier end or an earlier entry.
            if !conn.live || conn.timer != at {
                continue;
            }
            if conn.expires > at {
                conn.timer = conn.expires;
                self.timers.arm_apart(conn.expires, id);
                continue;
            }
            conn.timer = u32::MAX;
            return Some(ConnId(id));
        }
        if tick >= self.size_check {
            self.size_check = tick + SIZE_CHECK;
            let conns = &self.conns;
            self.chains.check_size(self.live, |n| conns[n as usize].keys());
        }
        None
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnId) {
        let free = self.free;
        let gone = &mut self.conns[id.0 as usize];
        assert!(gone.live, "connection {} has ended", id.0);
        self.chains.remove(id.0, gone.chain, !gone.state.is_template());
        gone.live = false;
        gone.dest = free;
        self.free = id.0;
        self.live -= 1;
    }
}
