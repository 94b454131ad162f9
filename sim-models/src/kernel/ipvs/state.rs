//! [`IpvsState`]: what one node's packets leave behind in IPVS, and the way of a packet through it.
//!
//! Source: `net/netfilter/ipvs/ip_vs_core.c` (`ip_vs_in_hook`, `ip_vs_out_hook`, `ip_vs_schedule`,
//! `ip_vs_sched_persist`), `ip_vs_conn.c` (`ip_vs_bind_dest`, `ip_vs_conn_expire`, `ip_vs_check_template`),
//! `ip_vs_ctl.c` (the trash of deleted destinations), `ip_vs_xmit.c` (`__ip_vs_get_out_rt`), Linux 6.12.
//!
//! A destination has a slot here from its service's first connection until it is deleted and its last
//! connection has ended. A service costs a node nothing before its first connection there.
//!
//! Departures: a template whose destination is gone is removed at once instead of being left to expire
//! under another key; a SYN that reopens a connection is taken to have an unconfirmed conntrack entry.

use super::conn_table::{ConnId, ConnKey, ConnTable};
use super::scheduler::{Dest, DestChange, Overhead, ScheduleCx, Scheduler};
use super::tcp_state::{ConnState, Direction, NEW_TIMEOUT, TEMPLATE_RECHECK};
use super::{RealServer, Service, ServiceKey, Services, conn_table};
use crate::kernel::hook::KernelRandom;
use sim_core::classify::{Packet, Proto, Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Settings of IPVS on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpvsConfig {
    /// Binary logarithm of the connection table's buckets.
    pub conn_tab_bits: u32,
    /// How schedulers weigh connections in this kernel.
    pub overhead: Overhead,
    /// `conn_reuse_mode`: a SYN on a closed connection is scheduled anew.
    pub conn_reuse: bool,
    /// `expire_nodest_conn`: a packet that finds its destination gone ends the connection.
    pub expire_nodest_conn: bool,
    /// `expire_quiescent_template`: a destination of weight 0 loses its persistent clients.
    pub expire_quiescent_template: bool,
    /// `conntrack`: connections are tracked by netfilter too.
    pub conntrack: bool,
}

/// What kube-proxy sets, on a kernel's defaults.
impl Default for IpvsConfig {
    fn default() -> Self {
        IpvsConfig {
            conn_tab_bits: conn_table::DEFAULT_BITS,
            overhead: Overhead::default(),
            conn_reuse: true,
            expire_nodest_conn: true,
            expire_quiescent_template: true,
            conntrack: true,
        }
    }
}

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
    /// Discarded: its destination is gone.
    Drop,
}

/// Cache lines of a service that scheduling reads and writes: its scheduler's state, lock and statistics.
const SERVICE_LINES: u32 = 3;
/// Lines of a destination that a scheduler looks at: its list node, weight and connection counters lie together.
const DEST_LINES: u32 = 1;
/// Further lines of the chosen destination: address, cached route, statistics.
const DEST_BIND_LINES: u32 = 3;
const GONE: u32 = u32::MAX;

/// A destination's identity and what belongs to it alone.
#[derive(Clone, Debug)]
struct Slot {
    key: ServiceKey,
    addr: SocketAddr,
    /// Position in its service's list, [`GONE`] once deleted.
    service: u32,
    position: u32,
    /// Connections and templates that point here.
    conns: u32,
    /// Counters while deleted; a destination that returns gets them back.
    parked: (u32, u32),
    route_cached: bool,
    vip: u32,
}

/// A service that this node has used.
#[derive(Debug)]
struct ServiceState {
    real: Arc<Vec<RealServer>>,
    scheduler: Box<dyn Scheduler>,
    /// In the kernel's list order: newest first.
    dests: Vec<Dest>,
}

/// IPVS on one node.
#[derive(Debug)]
pub struct IpvsState {
    config: IpvsConfig,
    conns: ConnTable,
    services: BTreeMap<u32, ServiceState>,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    /// Deleted destinations that still have connections (`dest_trash`).
    trash: Vec<u32>,
    /// Route cached, by service address in order of first use.
    vips: BTreeMap<IpAddr, u32>,
    vip_cached: Vec<bool>,
    /// Template of each connection that has one, and connections of each template.
    controlled_by: BTreeMap<ConnId, ConnId>,
    controls: BTreeMap<ConnId, u32>,
    stamp: Option<Arc<()>>,
}

impl IpvsState {
    /// A node without connections; `rnd` is its boot's hash seed.
    pub fn new(config: IpvsConfig, rnd: u32) -> Self {
        IpvsState {
            config,
            conns: ConnTable::new(config.conn_tab_bits, rnd),
            services: BTreeMap::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            trash: Vec::new(),
            vips: BTreeMap::new(),
            vip_cached: Vec::new(),
            controlled_by: BTreeMap::new(),
            controls: BTreeMap::new(),
            stamp: None,
        }
    }

    /// A packet delivered to this node (LOCAL_IN) or made on it (LOCAL_OUT) and not yet translated.
    pub fn request(
        &mut self,
        services: &Services,
        packet: &Packet,
        now: SimTime,
        random: &mut KernelRandom,
        work: &mut Work,
    ) -> IpvsVerdict {
        if packet.proto == Proto::Icmp {
            return IpvsVerdict::NotAService;
        }
        // The hook for replies runs first and sees every packet.
        if let Some(from) = self.reply(services, packet, now, work) {
            return IpvsVerdict::Reply { from };
        }
        let key = conn_key(packet);
        let opens = packet.proto == Proto::Tcp && packet.flags.syn && !packet.flags.ack;
        if let Some(id) = self.conns.lookup_in(&key, work) {
            match self.existing(id, opens) {
                Existing::Use => {
                    work[Unit::IpvsTcp] += u32::from(packet.proto == Proto::Tcp);
                    self.packet_seen(id, packet, Direction::Request, now);
                    return IpvsVerdict::Translate { to: self.transmit(id, work), new: false };
                }
                Existing::Drop => return IpvsVerdict::Drop,
                Existing::Reschedule => {}
            }
        }
        if packet.proto == Proto::Tcp && !opens {
            return IpvsVerdict::NotAService;
        }
        let Some(index) = services.table().lookup(packet, work) else {
            return IpvsVerdict::NotAService;
        };
        let service = services.get(index).expect("the table knows only services that exist");
        self.use_service(index, service);
        let template = match service.persistence_seconds {
            None => None,
            Some(seconds) => match self.template(index, service, packet, seconds, now, random, work) {
                None => return IpvsVerdict::NoDestination,
                template => template,
            },
        };
        let slot = match template {
            Some(template) => self.conns.dest(template),
            None => match self.schedule(index, service, packet, now, random, work) {
                None => return IpvsVerdict::NoDestination,
                Some(slot) => slot,
            },
        };
        let id = self.connect(&key, slot, ConnState::None, now + NEW_TIMEOUT, work);
        if let Some(template) = template {
            self.controlled_by.insert(id, template);
            *self.controls.entry(template).or_default() += 1;
        }
        work[Unit::IpvsTcp] += u32::from(packet.proto == Proto::Tcp);
        self.packet_seen(id, packet, Direction::Request, now);
        IpvsVerdict::Translate { to: self.transmit(id, work), new: true }
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
        let server = SocketAddr::new(packet.src, packet.sport);
        let slots = &self.slots;
        let is_server = |slot: u32| slots[slot as usize].addr == server;
        let id = self.conns.lookup_out(packet.dst, packet.dport, packet.proto, work, is_server)?;
        self.packet_seen(id, packet, Direction::Reply, now);
        work[Unit::IpvsXmit] += 1;
        let (addr, port) = self.conns.virt(id);
        Some(SocketAddr::new(addr, port))
    }

    /// Brings the state up to `now` and to `services`: ends what has expired, applies what has changed.
    /// [`IpvsState::request`] and [`IpvsState::reply`] do it themselves.
    pub fn advance(&mut self, services: &Services, now: SimTime) {
        while let Some(id) = self.conns.next_expired(now) {
            if self.controls.contains_key(&id) {
                self.conns.rearm(id, now + TEMPLATE_RECHECK);
            } else {
                self.end(id);
            }
        }
        if self.stamp.as_ref().is_some_and(|stamp| Arc::ptr_eq(stamp, services.stamp())) {
            return;
        }
        self.stamp = Some(services.stamp().clone());
        let used: Vec<u32> = self.services.keys().copied().collect();
        for index in used {
            match services.get(index) {
                Some(service) => self.apply(index, service),
                None => self.drop_service(index),
            }
        }
    }

    /// Active and other connections of one real server, as `ipvsadm -L` lists them.
    pub fn connections(&self, key: &ServiceKey, addr: SocketAddr) -> (u32, u32) {
        let slot = self.slots.iter().find(|s| s.addr == addr && s.key == *key && s.conns > 0);
        slot.map_or((0, 0), |slot| match slot.position {
            GONE => slot.parked,
            at => {
                let dest = &self.services[&slot.service].dests[at as usize];
                (dest.active, dest.inactive)
            }
        })
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
        self.slots.iter_mut().for_each(|slot| slot.route_cached = false);
        self.vip_cached.fill(false);
    }

    /// Kernel memory of the connection table, in bytes: 8 a bucket, 288 an entry (hand-summed, with its timer).
    pub fn memory_bytes(&self) -> u64 {
        self.conns.buckets() as u64 * 8 + self.conns.len() as u64 * 288
    }

    fn existing(&mut self, id: ConnId, opens: bool) -> Existing {
        let slot = &self.slots[self.conns.dest(id) as usize];
        let gone = slot.position == GONE;
        if opens && self.config.conn_reuse {
            let weight = if gone { 0 } else { self.dest_of(slot).weight };
            let closed = matches!(self.conns.state(id), ConnState::TimeWait | ConnState::Close);
            if closed || (self.config.expire_nodest_conn && weight == 0) {
                self.end(id);
                return Existing::Reschedule;
            }
        }
        if !gone {
            return Existing::Use;
        }
        if !self.config.expire_nodest_conn {
            return Existing::Drop;
        }
        self.end(id);
        // In the middle of a connection conntrack knows the old address, so the packet cannot go elsewhere.
        if self.config.conntrack && !opens { Existing::Drop } else { Existing::Reschedule }
    }

    fn dest_of(&self, slot: &Slot) -> &Dest {
        &self.services[&slot.service].dests[slot.position as usize]
    }

    fn schedule(
        &mut self,
        index: u32,
        service: &Service,
        packet: &Packet,
        now: SimTime,
        random: &mut KernelRandom,
        work: &mut Work,
    ) -> Option<u32> {
        work[Unit::IpvsSchedule] += 1;
        let state = self.services.get_mut(&index).expect("in use");
        let overhead = self.config.overhead;
        let mut cx = ScheduleCx { packet, flags: service.flags, overhead, now, random, work };
        let looked_at = cx.work[Unit::IpvsDestSteps];
        let at = state.scheduler.schedule(&mut cx, &state.dests)?;
        let looked_at = cx.work[Unit::IpvsDestSteps] - looked_at;
        let lines = SERVICE_LINES + DEST_LINES * looked_at + DEST_BIND_LINES;
        cx.work[Unit::LinesChase] += lines;
        cx.work[Unit::LinesOwn] += lines;
        cx.work[Unit::LinesEndpoint] += DEST_LINES + DEST_BIND_LINES;
        assert!(state.dests[at].weight > 0, "{} chose a destination of weight 0", service.scheduler);
        Some(state.dests[at].slot)
    }

    /// The template that binds this client to a destination, made if there is none that can be used.
    #[allow(clippy::too_many_arguments, reason = "the parts of one packet's context, passed on")]
    fn template(
        &mut self,
        index: u32,
        service: &Service,
        packet: &Packet,
        seconds: u32,
        now: SimTime,
        random: &mut KernelRandom,
        work: &mut Work,
    ) -> Option<ConnId> {
        let key = ConnKey { client_port: 0, ..conn_key(packet) };
        let expires = now + SimSpan::from_secs(u64::from(seconds));
        if let Some(id) = self.conns.lookup_in(&key, work) {
            let slot = &self.slots[self.conns.dest(id) as usize];
            let gone = slot.position == GONE;
            let lost = gone || (self.config.expire_quiescent_template && self.dest_of(slot).weight == 0);
            if !lost {
                self.conns.rearm(id, expires);
                return Some(id);
            }
            self.end(id);
        }
        let slot = self.schedule(index, service, packet, now, random, work)?;
        Some(self.connect(&key, slot, ConnState::Template, expires, work))
    }

    fn connect(
        &mut self,
        key: &ConnKey,
        slot: u32,
        state: ConnState,
        expires: SimTime,
        work: &mut Work,
    ) -> ConnId {
        work[Unit::IpvsConnNew] += 1;
        self.slots[slot as usize].conns += 1;
        if state != ConnState::Template {
            self.count(slot, 0, 1);
        }
        self.conns.insert(key, slot, state, expires)
    }

    /// Sets state and end of a connection after one of its packets.
    fn packet_seen(&mut self, id: ConnId, packet: &Packet, direction: Direction, now: SimTime) {
        let state = self.conns.state(id).after(packet, direction);
        let inactive = !state.is_active();
        if inactive != self.conns.is_inactive(id) {
            let delta = if inactive { (-1, 1) } else { (1, -1) };
            self.count(self.conns.dest(id), delta.0, delta.1);
        }
        self.conns.set_state(id, state, inactive);
        self.conns.rearm(id, now + state.timeout());
    }

    fn count(&mut self, slot: u32, active: i32, inactive: i32) {
        let slot = &mut self.slots[slot as usize];
        let (a, i) = if slot.position == GONE {
            (&mut slot.parked.0, &mut slot.parked.1)
        } else {
            let state = self.services.get_mut(&slot.service).expect("in use");
            let dest = &mut state.dests[slot.position as usize];
            (&mut dest.active, &mut dest.inactive)
        };
        *a = a.checked_add_signed(active).expect("active connections below zero");
        *i = i.checked_add_signed(inactive).expect("inactive connections below zero");
    }

    fn transmit(&mut self, id: ConnId, work: &mut Work) -> SocketAddr {
        work[Unit::IpvsXmit] += 1;
        let slot = &mut self.slots[self.conns.dest(id) as usize];
        if !slot.route_cached {
            slot.route_cached = true;
            work[Unit::RouteMiss] += 1;
        }
        let vip_cached = &mut self.vip_cached[slot.vip as usize];
        if !*vip_cached {
            *vip_cached = true;
            work[Unit::RouteLocalMiss] += 1;
        }
        slot.addr
    }

    fn end(&mut self, id: ConnId) {
        let slot = self.conns.dest(id);
        if self.conns.state(id) != ConnState::Template {
            let delta = if self.conns.is_inactive(id) { (0, -1) } else { (-1, 0) };
            self.count(slot, delta.0, delta.1);
        }
        self.conns.remove(id);
        if let Some(template) = self.controlled_by.remove(&id)
            && let Some(children) = self.controls.get_mut(&template)
        {
            *children -= 1;
            if *children == 0 {
                self.controls.remove(&template);
            }
        }
        // A template that ends before its connections (its destination went) lets go of them.
        if self.controls.remove(&id).is_some() {
            self.controlled_by.retain(|_, template| *template != id);
        }
        let conns = &mut self.slots[slot as usize].conns;
        *conns -= 1;
        if *conns == 0 && self.slots[slot as usize].position == GONE {
            self.trash.retain(|&s| s != slot);
            self.free_slots.push(slot);
        }
    }

    fn use_service(&mut self, index: u32, service: &Service) {
        if self.services.contains_key(&index) {
            return;
        }
        let empty = ServiceState { real: Arc::default(), scheduler: (service.make)(), dests: Vec::new() };
        self.services.insert(index, empty);
        self.apply(index, service);
    }

    /// Makes the list of a used service what `service` says, change by change as the kernel is told.
    fn apply(&mut self, index: u32, service: &Service) {
        let mut state = self.services.remove(&index).expect("in use");
        if Arc::ptr_eq(&state.real, &service.real) {
            self.services.insert(index, state);
            return;
        }
        let gone = |d: &Dest| !service.real.iter().any(|real| real.addr == d.addr);
        while let Some(at) = state.dests.iter().position(gone) {
            let dest = state.dests.remove(at);
            state.scheduler.changed(&state.dests, DestChange::Removed(at));
            self.park(&dest);
        }
        for real in service.real.iter() {
            if let Some(dest) = state.dests.iter_mut().find(|d| d.addr == real.addr) {
                if dest.weight != real.weight {
                    dest.weight = real.weight;
                    state.scheduler.changed(&state.dests, DestChange::Updated);
                }
                continue;
            }
            let (slot, (active, inactive)) = self.take_slot(index, service.key, real.addr);
            state.dests.insert(0, Dest { addr: real.addr, weight: real.weight, active, inactive, slot });
            state.scheduler.changed(&state.dests, DestChange::Added);
        }
        for (position, dest) in state.dests.iter().enumerate() {
            self.slots[dest.slot as usize].position = position as u32;
        }
        state.real = service.real.clone();
        self.services.insert(index, state);
    }

    fn drop_service(&mut self, index: u32) {
        let state = self.services.remove(&index).expect("in use");
        state.dests.iter().for_each(|dest| self.park(dest));
    }

    /// A deleted destination: to the trash while it has connections.
    fn park(&mut self, dest: &Dest) {
        let slot = &mut self.slots[dest.slot as usize];
        slot.position = GONE;
        slot.route_cached = false;
        slot.parked = (dest.active, dest.inactive);
        if slot.conns > 0 { &mut self.trash } else { &mut self.free_slots }.push(dest.slot);
    }

    fn take_slot(&mut self, service: u32, key: ServiceKey, addr: SocketAddr) -> (u32, (u32, u32)) {
        let slots = &self.slots;
        let same = |&slot: &u32| slots[slot as usize].addr == addr && slots[slot as usize].key == key;
        if let Some(at) = self.trash.iter().position(same) {
            let slot = self.trash.remove(at);
            self.slots[slot as usize].service = service;
            return (slot, self.slots[slot as usize].parked);
        }
        let next_vip = self.vip_cached.len() as u32;
        let vip = *self.vips.entry(key.addr).or_insert(next_vip);
        if vip == next_vip {
            self.vip_cached.push(false);
        }
        let fresh =
            Slot { key, addr, service, position: 0, conns: 0, parked: (0, 0), route_cached: false, vip };
        match self.free_slots.pop() {
            Some(slot) => {
                self.slots[slot as usize] = fresh;
                (slot, (0, 0))
            }
            None => {
                self.slots.push(fresh);
                (self.slots.len() as u32 - 1, (0, 0))
            }
        }
    }
}

/// What to do with a packet of a connection that exists.
enum Existing {
    Use,
    Drop,
    Reschedule,
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
