//! Destinations on one node: what the packets to them leave behind, and how changes of the services reach them.
//!
//! Source: `net/netfilter/ipvs/ip_vs_ctl.c` (`__ip_vs_update_dest`, `__ip_vs_del_dest`, the trash of deleted
//! destinations), `ip_vs_conn.c` (`ip_vs_bind_dest`, `ip_vs_unbind_dest`, `ip_vs_expire_nodest_conn_flush`),
//! `ip_vs_xmit.c` (`__ip_vs_get_out_rt`), Linux 6.12.
//!
//! A destination has a slot here from its service's first connection until it is deleted and its last
//! connection has ended. A service costs a node nothing before its first connection there.
//!
//! Here too: which connections stand under which persistence template ([`Control`]).

use super::config::IpvsConfig;
use super::conn_table::ConnId;
use super::scheduler::{AnyScheduler, Dest, DestChange, Scheduler};
use super::{RealServer, SchedulerFlags, Service, ServiceKey};
use sim_core::classify::{Unit, Work};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Position of a destination that was deleted.
const GONE: u32 = u32::MAX;
/// Place of a service that is not in use.
const UNUSED: u32 = u32::MAX;

/// Where a slot's destination is.
#[derive(Clone, Copy, Debug)]
struct Whereabouts {
    /// Place of its service among those in use.
    service: u32,
    /// Position in its service's list, [`GONE`] once deleted.
    position: u32,
}

/// What a slot's destination is, which no packet asks for.
#[derive(Clone, Debug)]
struct Slot {
    key: ServiceKey,
    addr: SocketAddr,
    /// Upper and lower.
    thresholds: (u32, u32),
}

/// A service that this node has used: what its packets need of it, in one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct ServiceState {
    pub scheduler: AnyScheduler,
    /// In the kernel's list order: newest first.
    pub dests: Vec<Dest>,
    /// Port that clients use.
    pub port: u16,
    /// Flags for the scheduler.
    pub flags: SchedulerFlags,
    /// Whether clients stay with their servers.
    pub persistent: bool,
}

const _: () = assert!(size_of::<ServiceState>() == 64, "a service is a line");

/// What a used service was when its list was made.
#[derive(Debug)]
struct Origin {
    /// Its index in the services.
    index: u32,
    real: Arc<Vec<RealServer>>,
}

/// The services that a node has used, and their destinations.
#[derive(Debug, Default)]
pub(super) struct Dests {
    services: Vec<ServiceState>,
    /// By place, as `services`.
    origins: Vec<Origin>,
    /// Places by the services' index; [`UNUSED`] where there is none.
    by_index: Vec<u32>,
    free_services: Vec<u32>,
    places: Vec<Whereabouts>,
    /// By slot, as `places`.
    slots: Vec<Slot>,
    /// What each slot's destination was when it was deleted: one that returns gets its counters back.
    parked: Vec<Dest>,
    free_slots: Vec<u32>,
    /// Deleted destinations that still have connections (`dest_trash`).
    trash: Vec<u32>,
    /// Route cached, by service address in order of first use.
    vips: BTreeMap<IpAddr, u32>,
    vip_cached: Vec<bool>,
}

impl Dests {
    /// Whether a slot's destination was deleted.
    pub fn is_gone(&self, slot: u32) -> bool {
        self.places[slot as usize].position == GONE
    }
    /// A service in use.
    #[inline]
    pub fn service(&mut self, place: u32) -> &mut ServiceState {
        &mut self.services[place as usize]
    }
    /// What belongs to a slot, deleted or not.
    #[inline]
    pub fn dest(&self, slot: u32) -> &Dest {
        let place = self.places[slot as usize];
        match place.position {
            GONE => &self.parked[slot as usize],
            at => &self.services[place.service as usize].dests[at as usize],
        }
    }
    #[inline]
    fn dest_mut(&mut self, slot: u32) -> &mut Dest {
        let place = self.places[slot as usize];
        match place.position {
            GONE => &mut self.parked[slot as usize],
            at => &mut self.services[place.service as usize].dests[at as usize],
        }
    }

    /// Active and other connections of one real server.
    pub fn connections(&self, key: &ServiceKey, addr: SocketAddr) -> (u32, u32) {
        let mut slots = self.slots.iter().zip(0u32..);
        let used = |slot: u32| self.dest(slot).conns > 0;
        let found = slots.find(|&(s, slot)| s.addr == addr && s.key == *key && used(slot));
        found.map_or((0, 0), |(_, slot)| {
            let dest = self.dest(slot);
            (dest.active, dest.inactive)
        })
    }

    /// Whether connections of deleted destinations remain.
    pub fn has_orphans(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Forgets every cached route.
    pub fn drop_routes(&mut self) {
        let listed = self.services.iter_mut().flat_map(|service| &mut service.dests);
        listed.chain(&mut self.parked).for_each(|dest| dest.route_cached = false);
        self.vip_cached.fill(false);
    }

    /// Counts the routes that a packet to this destination makes the kernel look up.
    #[inline]
    pub fn route(&mut self, slot: u32, work: &mut Work) {
        let dest = self.dest_mut(slot);
        let vip = dest.vip as usize;
        if !dest.route_cached {
            dest.route_cached = true;
            work[Unit::RouteMiss] += 1;
        }
        let vip_cached = &mut self.vip_cached[vip];
        if !*vip_cached {
            *vip_cached = true;
            work[Unit::RouteLocalMiss] += 1;
        }
    }

    /// A connection is bound to the destination, active or not, or a template. Returns the destination's address.
    #[inline]
    pub fn bind(&mut self, slot: u32, counts: Option<bool>) -> SocketAddr {
        let dest = self.dest_mut(slot);
        dest.conns += 1;
        match counts {
            Some(true) => dest.active += 1,
            Some(false) => dest.inactive += 1,
            None => {}
        }
        let (addr, now) = (dest.addr, dest.active + dest.inactive);
        if dest.limited {
            let upper = self.slots[slot as usize].thresholds.0;
            self.dest_mut(slot).overloaded |= upper > 0 && now >= upper;
        }
        addr
    }

    /// A connection becomes active or inactive.
    #[inline]
    pub fn shift(&mut self, slot: u32, to_active: bool) {
        let dest = self.dest_mut(slot);
        let (from, to) = match to_active {
            true => (&mut dest.inactive, &mut dest.active),
            false => (&mut dest.active, &mut dest.inactive),
        };
        *from = from.checked_sub(1).expect("connections below zero");
        *to += 1;
    }

    /// A connection or template of the destination ends.
    pub fn unbind(&mut self, slot: u32, counts: Option<bool>) {
        let dest = self.dest_mut(slot);
        let counter = match counts {
            Some(true) => Some(&mut dest.active),
            Some(false) => Some(&mut dest.inactive),
            None => None,
        };
        if let Some(counter) = counter {
            *counter = counter.checked_sub(1).expect("connections below zero");
        }
        dest.conns -= 1;
        let (conns, left) = (dest.conns, dest.active + dest.inactive);
        if dest.limited {
            let (upper, lower) = self.slots[slot as usize].thresholds;
            let is_over = match lower {
                0 => u64::from(left) * 4 >= u64::from(upper) * 3,
                _ => left >= lower,
            };
            self.dest_mut(slot).overloaded &= is_over;
        }
        if conns == 0 && self.is_gone(slot) {
            self.trash.retain(|&s| s != slot);
            self.free_slots.push(slot);
        }
    }

    /// Place of the service `index`, if it is in use.
    #[inline]
    pub fn place(&self, index: u32) -> Option<u32> {
        self.by_index.get(index as usize).copied().filter(|&place| place != UNUSED)
    }

    /// Takes the service `index` into use.
    pub fn first_use(&mut self, index: u32, service: &Service) -> u32 {
        let state = ServiceState {
            scheduler: (service.make)(),
            dests: Vec::new(),
            port: 0,
            flags: SchedulerFlags::default(),
            persistent: false,
        };
        let origin = Origin { index, real: Arc::default() };
        let place = match self.free_services.pop() {
            Some(place) => {
                self.services[place as usize] = state;
                self.origins[place as usize] = origin;
                place
            }
            None => {
                self.services.push(state);
                self.origins.push(origin);
                self.services.len() as u32 - 1
            }
        };
        if self.by_index.len() <= index as usize {
            self.by_index.resize(index as usize + 1, UNUSED);
        }
        self.by_index[index as usize] = place;
        self.apply(place, service);
        place
    }

    /// Indices of the services in use, with their places.
    pub fn in_use(&self) -> Vec<(u32, u32)> {
        let free = |place: &u32| !self.free_services.contains(place);
        (0..self.services.len() as u32).filter(free).map(|p| (self.origins[p as usize].index, p)).collect()
    }

    /// Makes the list of a used service what `service` says, change by change as the kernel is told. Real servers
    /// stand in creation order, so one that stands behind another that it preceded was deleted and added again.
    pub fn apply(&mut self, place: u32, service: &Service) {
        let state = &mut self.services[place as usize];
        state.port = service.key.port;
        state.flags = service.flags;
        state.persistent = service.persistence_seconds.is_some();
        let origin = &mut self.origins[place as usize];
        if Arc::ptr_eq(&origin.real, &service.real) {
            return;
        }
        let old = std::mem::replace(&mut origin.real, service.real.clone());
        let (mut kept, mut last) = (0, None);
        for real in service.real.iter() {
            let before = old.iter().position(|r| r.addr == real.addr);
            if before.is_none() || before <= last {
                break;
            }
            (kept, last) = (kept + 1, before);
        }
        let (stay, added) = service.real.split_at(kept);
        let goes = |dest: &Dest| !stay.iter().any(|real| real.addr == dest.addr);
        while let Some(at) = self.services[place as usize].dests.iter().position(goes) {
            let state = &mut self.services[place as usize];
            let dest = state.dests.remove(at);
            state.scheduler.changed(&state.dests, DestChange::Removed(at));
            self.park(&dest);
        }
        for real in stay {
            let state = &mut self.services[place as usize];
            let dest = state.dests.iter_mut().find(|d| d.addr == real.addr).expect("it stays");
            let thresholds = &mut self.slots[dest.slot as usize].thresholds;
            if dest.weight != real.weight || *thresholds != (real.upper, real.lower) {
                update(dest, thresholds, real, false);
                state.scheduler.changed(&state.dests, DestChange::Updated);
            }
        }
        for real in added {
            let dest = self.take_slot(place, service.key, real);
            let state = &mut self.services[place as usize];
            state.dests.insert(0, dest);
            state.scheduler.changed(&state.dests, DestChange::Added);
        }
        for (position, dest) in self.services[place as usize].dests.iter().enumerate() {
            self.places[dest.slot as usize].position = position as u32;
        }
    }

    /// A service was deleted.
    pub fn drop_service(&mut self, place: u32) {
        let state = &mut self.services[place as usize];
        let dests = std::mem::take(&mut state.dests);
        let origin = &mut self.origins[place as usize];
        origin.real = Arc::default();
        self.by_index[origin.index as usize] = UNUSED;
        self.free_services.push(place);
        dests.iter().for_each(|dest| self.park(dest));
    }

    /// A deleted destination: to the trash while it has connections.
    fn park(&mut self, dest: &Dest) {
        self.places[dest.slot as usize].position = GONE;
        self.parked[dest.slot as usize] = Dest { route_cached: false, ..*dest };
        if dest.conns > 0 { &mut self.trash } else { &mut self.free_slots }.push(dest.slot);
    }

    fn take_slot(&mut self, service: u32, key: ServiceKey, real: &RealServer) -> Dest {
        let slots = &self.slots;
        let same = |&slot: &u32| slots[slot as usize].addr == real.addr && slots[slot as usize].key == key;
        if let Some(at) = self.trash.iter().position(same) {
            let slot = self.trash.remove(at);
            self.places[slot as usize].service = service;
            let parked = &mut self.parked[slot as usize];
            update(parked, &mut self.slots[slot as usize].thresholds, real, true);
            return *parked;
        }
        let next_vip = self.vip_cached.len() as u32;
        let vip = *self.vips.entry(key.addr).or_insert(next_vip);
        if vip == next_vip {
            self.vip_cached.push(false);
        }
        let slot = self.free_slots.pop().unwrap_or(self.slots.len() as u32);
        let thresholds = (real.upper, real.lower);
        let limited = is_limited(thresholds);
        let dest = Dest { vip, limited, ..Dest::new(real.addr, real.weight, slot) };
        let fresh = Slot { key, addr: real.addr, thresholds };
        let place = Whereabouts { service, position: 0 };
        match self.slots.get_mut(slot as usize) {
            Some(old) => {
                *old = fresh;
                self.places[slot as usize] = place;
            }
            None => {
                self.slots.push(fresh);
                self.places.push(place);
                self.parked.push(dest);
            }
        }
        dest
    }
}

/// Weight and thresholds of a destination that is added again (`again`) or edited.
fn update(dest: &mut Dest, thresholds: &mut (u32, u32), real: &RealServer, again: bool) {
    dest.weight = real.weight;
    if again || real.weight > 0 {
        dest.last_weight = real.weight;
    }
    if real.upper == 0 || real.upper > thresholds.0 {
        dest.overloaded = false;
    }
    *thresholds = (real.upper, real.lower);
    dest.limited = is_limited(*thresholds);
}

/// Whether connections are counted against these thresholds.
fn is_limited(thresholds: (u32, u32)) -> bool {
    thresholds != (0, 0)
}

/// Templates of connections, and what each template holds.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Template of each connection that has one.
    pub of: BTreeMap<ConnId, ConnId>,
    templates: BTreeMap<ConnId, TemplateState>,
}

/// What a template is beyond its entry in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TemplateState {
    /// Connections under it (`n_control`).
    pub children: u32,
    /// How long it lasts after its last new connection: as long as its service said when it was made, and a minute
    /// once it had to wait for connections.
    pub timeout: sim_core::units::SimSpan,
}

impl Control {
    /// A template is made.
    pub fn add_template(&mut self, template: ConnId, timeout: sim_core::units::SimSpan) {
        self.templates.insert(template, TemplateState { children: 0, timeout });
    }
    /// A template's state; `None` for what is no template.
    pub fn template(&mut self, template: ConnId) -> Option<&mut TemplateState> {
        self.templates.get_mut(&template)
    }
    /// A connection comes under a template.
    pub fn add(&mut self, child: ConnId, template: ConnId) {
        self.of.insert(child, template);
        self.templates.get_mut(&template).expect("a template that lives").children += 1;
    }
    /// A connection or template ends.
    pub fn end(&mut self, id: ConnId) {
        if self.templates.is_empty() {
            return;
        }
        if let Some(template) = self.of.remove(&id) {
            self.templates.get_mut(&template).expect("it waits for its connections").children -= 1;
        }
        if let Some(state) = self.templates.remove(&id) {
            assert_eq!(state.children, 0, "a template ended before its connections");
        }
    }
}

/// Whether the settings make a node end all connections of deleted destinations at once.
pub(super) fn flushes_orphans(config: &IpvsConfig) -> bool {
    config.expire_nodest_conn && !config.before_linux_5_9
}
