//! [`IpvsState`]: what one node's packets leave behind in IPVS, and the way of a packet through it.
//!
//! Source: `net/netfilter/ipvs/ip_vs_core.c` (`ip_vs_in_hook`, `ip_vs_out_hook`, `ip_vs_schedule`,
//! `ip_vs_sched_persist`, `ip_vs_leave`), `ip_vs_proto_tcp.c` and its siblings (`tcp_conn_schedule`), `ip_vs_conn.c`
//! (`ip_vs_conn_new`, `ip_vs_conn_expire`, `ip_vs_check_template`), Linux 6.12. Destinations are in
//! [`super::dests`].
//!
//! Departures: connections of a deleted destination end when the node sees the change, not a tick later; a service of
//! SCTP schedules any packet, since packets here have no chunks to tell an INIT by. That a connection's end takes
//! its conntrack entry along (`ip_vs_conn_drop_conntrack`) is the packet path's affair.

use super::config::IpvsConfig;
use super::conn_table::{ConnId, ConnKey, ConnTable};
use super::dests::{Control, Dests, flushes_orphans};
use super::scheduler::{ScheduleCx, Scheduler};
use super::service_table::{FTP_DATA_PORT, FTP_PORT};
use super::tcp_state::{ConnState, Direction, TEMPLATE_RECHECK, Timeouts};
use super::{Service, ServiceKey, Services, Tables};
use crate::kernel::hook::KernelRandom;
use ipnet::IpNet;
use sim_core::classify::{Packet, Proto, Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use std::net::SocketAddr;
use std::sync::Arc;

/// What IPVS does with a packet delivered to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvsVerdict {
    /// Sent on to a real server.
    Translate {
        /// New destination.
        to: SocketAddr,
        /// Whether this packet made the connection.
        new: bool,
    },
    /// A reply that was delivered to this node: its source becomes the service's address.
    Reply {
        /// New source.
        from: SocketAddr,
    },
    /// None of IPVS's business.
    NotAService,
    /// A service that has nobody to take it; the sender gets an ICMP error.
    NoDestination,
    /// Discarded: its destination is gone, or conntrack holds it to another.
    Drop,
}

/// How a packet comes to IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub now: SimTime,
    /// Whether it belongs to a conntrack entry that is confirmed.
    pub confirmed: bool,
    /// Whether it was made on this node (LOCAL_OUT) rather than delivered to it (LOCAL_IN).
    pub local_out: bool,
}

/// Cache lines of a service that scheduling reads and writes: its scheduler's state, lock and statistics.
const SERVICE_LINES: u32 = 3;
/// Lines of a destination that a scheduler looks at: its list node, weight and connection counters lie together.
const DEST_LINES: u32 = 1;
/// Further lines of the chosen destination: address, cached route, statistics.
const DEST_BIND_LINES: u32 = 3;

/// IPVS on one node.
#[derive(Debug)]
pub struct IpvsState {
    config: IpvsConfig,
    rnd: u32,
    /// The kind of tables that `conns` is of.
    tables: Tables,
    conns: ConnTable,
    dests: Dests,
    control: Control,
    stamp: Option<Arc<()>>,
}

/// One packet on its way, and what it may use.
struct Call<'a> {
    packet: &'a Packet,
    arrival: Arrival,
    random: &'a mut KernelRandom,
    work: &'a mut Work,
}

impl IpvsState {
    /// A node without connections; `rnd` is its boot's hash seed. Its connection table is of the kind that its
    /// services say.
    pub fn new(config: IpvsConfig, rnd: u32) -> Self {
        let tables = Tables::default();
        IpvsState {
            config,
            rnd,
            tables,
            conns: ConnTable::new(tables, config.conn_tab_bits, rnd),
            dests: Dests::default(),
            control: Control::default(),
            stamp: None,
        }
    }

    /// [`IpvsState::request_of`] for a packet delivered to this node of which only the time is known: one in the
    /// middle of a connection is taken to be conntrack's.
    pub fn request(
        &mut self,
        services: &Services,
        packet: &Packet,
        now: SimTime,
        random: &mut KernelRandom,
        work: &mut Work,
    ) -> IpvsVerdict {
        let confirmed = !is_new_conn(packet);
        self.request_of(services, packet, Arrival { now, confirmed, local_out: false }, random, work)
    }

    /// A packet delivered to this node or made on it, and not yet translated.
    pub fn request_of(
        &mut self,
        services: &Services,
        packet: &Packet,
        arrival: Arrival,
        random: &mut KernelRandom,
        work: &mut Work,
    ) -> IpvsVerdict {
        if packet.proto == Proto::Icmp {
            return IpvsVerdict::NotAService;
        }
        // The hook for replies runs first and sees every packet.
        if let Some(from) = self.reply(services, packet, arrival.now, work) {
            return IpvsVerdict::Reply { from };
        }
        let key = conn_key(packet);
        if let Some(id) = self.conns.lookup_in(&key, work) {
            match self.existing(id, packet, &arrival) {
                Existing::Use => {
                    work[Unit::IpvsTcp] += u32::from(packet.proto == Proto::Tcp);
                    self.packet_seen(id, packet, Direction::Request, arrival.now, services.timeouts());
                    return IpvsVerdict::Translate { to: self.transmit(id, work), new: false };
                }
                Existing::Drop => return IpvsVerdict::Drop,
                Existing::Reschedule => {}
            }
        }
        // `tcp_conn_schedule`.
        let opens = !packet.flags.rst && (packet.flags.syn || self.config.sloppy_tcp);
        if packet.proto == Proto::Tcp && !opens {
            return IpvsVerdict::NotAService;
        }
        let Some(index) = services.table().lookup(packet, work) else {
            return IpvsVerdict::NotAService;
        };
        self.open(services, index, &key, Call { packet, arrival, random, work })
    }

    /// `ip_vs_schedule`: the connection that a packet to a service opens.
    fn open(&mut self, services: &Services, index: u32, key: &ConnKey, mut call: Call<'_>) -> IpvsVerdict {
        let (packet, now) = (call.packet, call.arrival.now);
        if packet.sport == FTP_DATA_PORT {
            return IpvsVerdict::NotAService;
        }
        // A reply of a server on this node to a client on this node is no request.
        if call.arrival.local_out && self.conns.lookup_in(&reversed(key), call.work).is_some() {
            return IpvsVerdict::NotAService;
        }
        let place = match self.dests.place(index) {
            Some(place) => place,
            None => self.dests.first_use(index, service_at(services, index)),
        };
        let state = self.dests.service(place);
        let (port, persistent) = (state.port, state.persistent);
        let other_port = packet.dport != port;
        if other_port && !persistent {
            return leave(port, packet);
        }
        let template = if persistent {
            let Some(template) = self.template(place, service_at(services, index), &mut call) else {
                return leave(port, packet);
            };
            Some(template)
        } else {
            None
        };
        let slot = match template {
            Some(template) => self.conns.dest(template),
            None => match self.schedule(place, &mut call) {
                None => return leave(port, packet),
                Some(slot) => slot,
            },
        };
        // Other ports of a service for all ports, and FTP's data, go to the same port of the server.
        let state = ConnState::None.after(packet, Direction::Request);
        let server = self.dests.bind(slot, Some(state.is_active()));
        let server = if other_port { SocketAddr::new(server.ip(), packet.dport) } else { server };
        call.work[Unit::IpvsConnNew] += 1;
        let id = self.conns.insert(key, slot, server, state, now + state.timeout(services.timeouts()));
        call.work[Unit::IpvsTcp] += u32::from(packet.proto == Proto::Tcp);
        if let Some(template) = template {
            self.control.add(id, template);
        }
        call.work[Unit::IpvsXmit] += 1;
        self.dests.route(slot, call.work);
        IpvsVerdict::Translate { to: server, new: true }
    }

    /// A packet on its way through this node (FORWARD): the service's address that its source becomes, or
    /// `None` if it is no reply of a known connection. Every forwarded packet pays this lookup.
    pub fn reply(
        &mut self,
        services: &Services,
        packet: &Packet,
        now: SimTime,
        work: &mut Work,
    ) -> Option<SocketAddr> {
        self.advance(services, now);
        if packet.proto == Proto::Icmp {
            return None;
        }
        let client = SocketAddr::new(packet.dst, packet.dport);
        let server = SocketAddr::new(packet.src, packet.sport);
        let id = self.conns.lookup_out(client, server, packet.proto, work)?;
        self.packet_seen(id, packet, Direction::Reply, now, services.timeouts());
        work[Unit::IpvsXmit] += 1;
        let (addr, port) = self.conns.virt(id);
        Some(SocketAddr::new(addr, port))
    }

    /// Brings the state up to `now` and to `services`: ends what has expired, applies what has changed.
    /// [`IpvsState::request`] and [`IpvsState::reply`] do it themselves.
    #[inline]
    pub fn advance(&mut self, services: &Services, now: SimTime) {
        while let Some(id) = self.conns.next_expired(now) {
            match self.control.template(id) {
                Some(template) if template.children > 0 => {
                    template.timeout = TEMPLATE_RECHECK;
                    self.conns.rearm(id, now + TEMPLATE_RECHECK);
                }
                _ => self.end(id),
            }
        }
        if !self.stamp.as_ref().is_some_and(|stamp| Arc::ptr_eq(stamp, services.stamp())) {
            self.follow(services);
        }
    }

    fn follow(&mut self, services: &Services) {
        if self.tables != services.tables() {
            assert!(self.conns.is_empty(), "another kernel has no connections of the one before");
            self.tables = services.tables();
            self.conns = ConnTable::new(self.tables, self.config.conn_tab_bits, self.rnd);
        }
        self.stamp = Some(services.stamp().clone());
        for (index, place) in self.dests.in_use() {
            match services.get(index) {
                Some(service) => self.dests.apply(place, service),
                None => self.dests.drop_service(place),
            }
        }
        if flushes_orphans(&self.config) && self.dests.has_orphans() {
            self.end_orphans();
        }
    }

    /// `ip_vs_expire_nodest_conn_flush`: connections of deleted destinations end, then their templates.
    fn end_orphans(&mut self) {
        let is_orphan = |dest: u32| self.dests.is_gone(dest);
        let (templates, conns): (Vec<ConnId>, Vec<ConnId>) =
            self.conns.ids_of(is_orphan).into_iter().partition(|&id| self.conns.state(id).is_template());
        conns.into_iter().for_each(|id| self.end(id));
        for id in templates {
            if self.control.template(id).is_some_and(|template| template.children == 0) {
                self.end(id);
            }
        }
    }

    /// Active and other connections of one real server, as `ipvsadm -L` lists them.
    pub fn connections(&self, key: &ServiceKey, addr: SocketAddr) -> (u32, u32) {
        self.dests.connections(key, addr)
    }

    /// Buckets of the connection table.
    pub fn buckets(&self) -> usize {
        self.conns.buckets()
    }

    /// Entries in the connection table, templates included.
    pub fn conn_count(&self) -> usize {
        self.conns.len()
    }

    /// Persistence templates among them.
    pub fn template_count(&self) -> usize {
        self.conns.template_count()
    }

    /// Forgets every cached route, as any change of the routing table makes the kernel do.
    pub fn drop_routes(&mut self) {
        self.dests.drop_routes();
    }

    /// Kernel memory of the connection table, in bytes: 8 a bucket, 288 an entry (hand-summed, with its timer).
    pub fn memory_bytes(&self) -> u64 {
        self.conns.buckets() as u64 * 8 + self.conns.len() as u64 * 288
    }

    /// What becomes of a packet of a connection that is in the table.
    #[inline]
    fn existing(&mut self, id: ConnId, packet: &Packet, arrival: &Arrival) -> Existing {
        let slot = self.conns.dest(id);
        let gone = self.dests.is_gone(slot);
        let opens = is_new_conn(packet);
        if !gone && !opens {
            return Existing::Use;
        }
        let old = self.config.before_linux_5_9;
        let tracked = self.config.conntrack && (arrival.confirmed || old);
        if opens && (self.config.conn_reuse_mode != 0 || !old) {
            let drained = self.config.expire_nodest_conn && self.dests.dest(slot).weight == 0;
            // A connection under a template is not scheduled anew for its state.
            let over = self.config.conn_reuse_mode != 0
                && self.conns.state(id).is_over()
                && !self.control.of.contains_key(&id);
            if drained || over {
                self.conns.expire_now(id, arrival.now);
                return if tracked { Existing::Drop } else { Existing::Reschedule };
            }
        }
        if !gone {
            return Existing::Use;
        }
        if !self.config.expire_nodest_conn {
            return Existing::Drop;
        }
        self.conns.expire_now(id, arrival.now);
        if tracked { Existing::Drop } else { Existing::Reschedule }
    }

    #[inline]
    fn schedule(&mut self, place: u32, call: &mut Call<'_>) -> Option<u32> {
        call.work[Unit::IpvsSchedule] += 1;
        let state = self.dests.service(place);
        let mut cx = ScheduleCx {
            packet: call.packet,
            flags: state.flags,
            overhead: self.config.overhead,
            now: call.arrival.now,
            random: &mut *call.random,
            work: &mut *call.work,
        };
        let looked_at = cx.work[Unit::IpvsDestSteps];
        let at = state.scheduler.schedule(&mut cx, &state.dests)?;
        let looked_at = cx.work[Unit::IpvsDestSteps] - looked_at;
        let lines = SERVICE_LINES + DEST_LINES * looked_at + DEST_BIND_LINES;
        cx.work[Unit::LinesChase] += lines;
        cx.work[Unit::LinesOwn] += lines;
        cx.work[Unit::LinesEndpoint] += DEST_LINES + DEST_BIND_LINES;
        let dest = &state.dests[at];
        assert!(dest.weight > 0, "{:?} chose a destination of weight 0", state.scheduler);
        Some(dest.slot)
    }

    /// The template that binds this client to a destination, made if there is none that can be used.
    fn template(&mut self, place: u32, service: &Service, call: &mut Call<'_>) -> Option<ConnId> {
        let seconds = service.persistence_seconds.expect("a persistent service");
        let (packet, now) = (call.packet, call.arrival.now);
        // One template for all ports of FTP and of a service for all ports.
        let own_port = packet.dport == service.key.port && packet.dport != FTP_PORT;
        let client = match service.persistence_prefix {
            None => packet.src,
            Some(prefix) => IpNet::new(packet.src, prefix).map_or(packet.src, |net| net.network()),
        };
        let virt_port = if own_port { packet.dport } else { 0 };
        let key = ConnKey { client, client_port: 0, virt_port, ..conn_key(packet) };
        if let Some(id) = self.conns.lookup_template(&key, call.work) {
            let slot = self.conns.dest(id);
            let drained = self.config.expire_quiescent_template && self.dests.dest(slot).weight == 0;
            if !self.dests.is_gone(slot) && !drained {
                let timeout = self.control.template(id).expect("every template has a state").timeout;
                self.conns.rearm(id, now + timeout);
                return Some(id);
            }
            self.conns.invalidate(id);
        }
        let slot = self.schedule(place, call)?;
        let timeout = SimSpan::from_secs(u64::from(seconds));
        call.work[Unit::IpvsConnNew] += 1;
        let server = self.dests.bind(slot, None);
        let id = self.conns.insert(&key, slot, server, ConnState::Template, now + timeout);
        self.control.add_template(id, timeout);
        Some(id)
    }

    /// Sets state and end of a connection after one of its packets.
    #[inline]
    fn packet_seen(
        &mut self,
        id: ConnId,
        packet: &Packet,
        direction: Direction,
        now: SimTime,
        timeouts: &Timeouts,
    ) {
        let state = self.conns.state(id).after(packet, direction);
        let inactive = !state.is_active();
        if inactive != self.conns.is_inactive(id) {
            self.dests.shift(self.conns.dest(id), !inactive);
        }
        self.conns.set_state(id, state, inactive);
        self.conns.rearm(id, now + state.timeout(timeouts));
    }

    #[inline]
    fn transmit(&mut self, id: ConnId, work: &mut Work) -> SocketAddr {
        work[Unit::IpvsXmit] += 1;
        self.dests.route(self.conns.dest(id), work);
        self.conns.server(id)
    }

    fn end(&mut self, id: ConnId) {
        let slot = self.conns.dest(id);
        let counts = (!self.conns.state(id).is_template()).then(|| !self.conns.is_inactive(id));
        self.conns.remove(id);
        self.control.end(id);
        self.dests.unbind(slot, counts);
    }
}

/// What to do with a packet of a connection that exists.
enum Existing {
    Use,
    Drop,
    Reschedule,
}

/// Whether a packet may open a connection where one is already (`is_new_conn`). SCTP's INIT cannot be told here.
fn is_new_conn(packet: &Packet) -> bool {
    packet.proto == Proto::Tcp && packet.flags.syn
}

/// `ip_vs_leave`: nobody takes the packet of a service on `port`. On an FTP service's address other ports are left to the node.
fn leave(port: u16, packet: &Packet) -> IpvsVerdict {
    let other_than_ftp = port == FTP_PORT && packet.dport != FTP_PORT;
    if other_than_ftp { IpvsVerdict::NotAService } else { IpvsVerdict::NoDestination }
}

fn service_at(services: &Services, index: u32) -> &Service {
    services.get(index).expect("the table knows only services that exist")
}

fn conn_key(packet: &Packet) -> ConnKey {
    ConnKey {
        client: packet.src,
        client_port: packet.sport,
        virt: packet.dst,
        virt_port: packet.dport,
        proto: packet.proto,
    }
}

/// The key of a connection the other way round.
fn reversed(key: &ConnKey) -> ConnKey {
    ConnKey {
        client: key.virt,
        client_port: key.virt_port,
        virt: key.client,
        virt_port: key.client_port,
        proto: key.proto,
    }
}
