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
use super::key_index::{KeyIndex, mix};
use super::scheduler::{Dest, DestChange, Scheduler};
use super::{RealServer, Service, ServiceKey};
use sim_core::classify::{Unit, Work};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Position of a destination that was deleted.
pub(super) const GONE: u32 = u32::MAX;

/// A destination's identity and what belongs to it alone.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub key: ServiceKey,
    pub addr: SocketAddr,
    /// Place of its service among those in use.
    pub service: u32,
    /// Position in its service's list, [`GONE`] once deleted.
    pub position: u32,
    /// Connections and templates that point here.
    pub conns: u32,
    thresholds: (u32, u32),
    route_cached: bool,
    vip: u32,
}

/// A service that this node has used.
#[derive(Debug)]
pub(super) struct ServiceState {
    /// Its index in the services.
    index: u32,
    real: Arc<Vec<RealServer>>,
    pub scheduler: Box<dyn Scheduler>,
    /// In the kernel's list order: newest first.
    pub dests: Vec<Dest>,
}

/// The services that a node has used, and their destinations.
#[derive(Debug, Default)]
pub(super) struct Dests {
    services: Vec<ServiceState>,
    by_index: KeyIndex,
    free_services: Vec<u32>,
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

fn index_hash(index: u32) -> u32 {
    mix(u64::from(index))
}

impl Dests {
    /// A slot.
    pub fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }
    /// A service in use.
    pub fn service(&mut self, place: u32) -> &mut ServiceState {
        &mut self.services[place as usize]
    }
    /// What belongs to a slot, deleted or not.
    #[inline]
    pub fn dest(&self, slot: u32) -> &Dest {
        let place = &self.slots[slot as usize];
        match place.position {
            GONE => &self.parked[slot as usize],
            at => &self.services[place.service as usize].dests[at as usize],
        }
    }
    #[inline]
    fn dest_mut(&mut self, slot: u32) -> &mut Dest {
        let place = &self.slots[slot as usize];
        match place.position {
            GONE => &mut self.parked[slot as usize],
            at => &mut self.services[place.service as usize].dests[at as usize],
        }
    }

    /// Active and other connections of one real server.
    pub fn connections(&self, key: &ServiceKey, addr: SocketAddr) -> (u32, u32) {
        let slot = self.slots.iter().position(|s| s.addr == addr && s.key == *key && s.conns > 0);
        slot.map_or((0, 0), |slot| {
            let dest = self.dest(slot as u32);
            (dest.active, dest.inactive)
        })
    }

    /// Whether connections of deleted destinations remain.
    pub fn has_orphans(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Forgets every cached route.
    pub fn drop_routes(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.route_cached = false);
        self.vip_cached.fill(false);
    }

    /// Counts the routes that a packet to this destination makes the kernel look up.
    #[inline]
    pub fn route(&mut self, slot: u32, work: &mut Work) {
        let slot = &mut self.slots[slot as usize];
        if !slot.route_cached {
            slot.route_cached = true;
            work[Unit::RouteMiss] += 1;
        }
        let vip_cached = &mut self.vip_cached[slot.vip as usize];
        if !*vip_cached {
            *vip_cached = true;
            work[Unit::RouteLocalMiss] += 1;
        }
    }

    /// A connection is bound to the destination, active or not, or a template.
    #[inline]
    pub fn bind(&mut self, slot: u32, counts: Option<bool>) {
        let upper = {
            let slot = &mut self.slots[slot as usize];
            slot.conns += 1;
            slot.thresholds.0
        };
        let dest = self.dest_mut(slot);
        match counts {
            Some(true) => dest.active += 1,
            Some(false) => dest.inactive += 1,
            None => {}
        }
        if upper > 0 && dest.active + dest.inactive >= upper {
            dest.overloaded = true;
        }
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
        let (upper, lower) = self.slots[slot as usize].thresholds;
        let dest = self.dest_mut(slot);
        let counter = match counts {
            Some(true) => Some(&mut dest.active),
            Some(false) => Some(&mut dest.inactive),
            None => None,
        };
        if let Some(counter) = counter {
            *counter = counter.checked_sub(1).expect("connections below zero");
        }
        let left = dest.active + dest.inactive;
        let is_over = match (lower, upper) {
            (0, 0) => false,
            (0, _) => u64::from(left) * 4 >= u64::from(upper) * 3,
            _ => left >= lower,
        };
        dest.overloaded &= is_over;
        let place = &mut self.slots[slot as usize];
        place.conns -= 1;
        if place.conns == 0 && place.position == GONE {
            self.trash.retain(|&s| s != slot);
            self.free_slots.push(slot);
        }
    }

    /// Place of the service `index`, taken into use if it is not.
    #[inline]
    pub fn use_service(&mut self, index: u32, service: &Service) -> u32 {
        let services = &self.services;
        let found = self.by_index.find(index_hash(index), |place| services[place as usize].index == index);
        found.unwrap_or_else(|| self.first_use(index, service))
    }

    fn first_use(&mut self, index: u32, service: &Service) -> u32 {
        let state =
            ServiceState { index, real: Arc::default(), scheduler: (service.make)(), dests: Vec::new() };
        let place = match self.free_services.pop() {
            Some(place) => {
                self.services[place as usize] = state;
                place
            }
            None => {
                self.services.push(state);
                self.services.len() as u32 - 1
            }
        };
        self.by_index.insert(index_hash(index), place);
        self.apply(place, service);
        place
    }

    /// Indices of the services in use, with their places.
    pub fn in_use(&self) -> Vec<(u32, u32)> {
        let free = |place: &u32| !self.free_services.contains(place);
        (0..self.services.len() as u32).filter(free).map(|p| (self.services[p as usize].index, p)).collect()
    }

    /// Makes the list of a used service what `service` says, change by change as the kernel is told. Real servers
    /// stand in creation order, so one that stands behind another that it preceded was deleted and added again.
    pub fn apply(&mut self, place: u32, service: &Service) {
        let state = &mut self.services[place as usize];
        if Arc::ptr_eq(&state.real, &service.real) {
            return;
        }
        let old = std::mem::replace(&mut state.real, service.real.clone());
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
            self.slots[dest.slot as usize].position = position as u32;
        }
    }

    /// A service was deleted.
    pub fn drop_service(&mut self, place: u32) {
        let state = &mut self.services[place as usize];
        let dests = std::mem::take(&mut state.dests);
        state.real = Arc::default();
        self.by_index.remove(index_hash(self.services[place as usize].index), place);
        self.free_services.push(place);
        dests.iter().for_each(|dest| self.park(dest));
    }

    /// A deleted destination: to the trash while it has connections.
    fn park(&mut self, dest: &Dest) {
        let slot = &mut self.slots[dest.slot as usize];
        slot.position = GONE;
        slot.route_cached = false;
        self.parked[dest.slot as usize] = *dest;
        if slot.conns > 0 { &mut self.trash } else { &mut self.free_slots }.push(dest.slot);
    }

    fn take_slot(&mut self, service: u32, key: ServiceKey, real: &RealServer) -> Dest {
        let slots = &self.slots;
        let same = |&slot: &u32| slots[slot as usize].addr == real.addr && slots[slot as usize].key == key;
        if let Some(at) = self.trash.iter().position(same) {
            let slot = self.trash.remove(at);
            let place = &mut self.slots[slot as usize];
            place.service = service;
            let parked = &mut self.parked[slot as usize];
            update(parked, &mut place.thresholds, real, true);
            return *parked;
        }
        let next_vip = self.vip_cached.len() as u32;
        let vip = *self.vips.entry(key.addr).or_insert(next_vip);
        if vip == next_vip {
            self.vip_cached.push(false);
        }
        let slot = self.free_slots.pop().unwrap_or(self.slots.len() as u32);
        let dest = Dest {
            addr: real.addr,
            weight: real.weight,
            last_weight: real.weight,
            overloaded: false,
            active: 0,
            inactive: 0,
            slot,
        };
        let thresholds = (real.upper, real.lower);
        let addr = real.addr;
        let (position, conns, route_cached) = (0, 0, false);
        let fresh = Slot { key, addr, service, position, conns, thresholds, route_cached, vip };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = fresh,
            None => {
                self.slots.push(fresh);
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
