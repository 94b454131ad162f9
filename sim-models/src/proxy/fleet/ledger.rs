//! Sizes of a mode's rules by version of the objects, without building the table of any version.
//!
//! Every Service keeps how many of its endpoints are ready, draining and there at all; a change moves these counts, and
//! the rules of a port with such counts are built once ([`Simulated::size`], remembered by what a port has beside
//! names and addresses). Sizes add up, so the table at a version is the one before it, less the changed Service as
//! it was, plus as it is.
//!
//! What a sync from version `a` to `b` writes is the Services that changed in between, each once: a change counts for
//! the window if no later one of its Service is in it (its size afterwards), or no earlier one (its size before).
//!
//! Endpoints are sorted into lists as `pkg/proxy/topology.go:CategorizeEndpoints` does: the ready ones, without any the
//! serving ones that terminate. Left out: which node looks. Endpoints count as those of other nodes, and hints are not
//! followed, so that all nodes share one ledger: a node with endpoints of a Service of policy Local has a few rules more.

use crate::config::ProxyConfig;
use crate::control::log::{Change, ChangeLog, Conditions, ServiceId, What};
use crate::control::services::{Services, State};
use crate::kube::{Endpoint, EndpointLists, ServicePort};
use crate::proxy::Simulated;
use crate::proxy::sync::Size;
use sim_core::classify::{Family, Proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{AddAssign, SubAssign};

/// Sizes of one mode's rules.
pub struct Ledger {
    mode: &'static dyn Simulated,
    config: ProxyConfig,
    family: Family,
    /// Kinds of the ports of all Services.
    ports: Vec<u32>,
    services: Vec<Service>,
    /// Kinds of ports, by what shapes their rules.
    classes: Vec<ServicePort>,
    sizes: BTreeMap<(u32, Counts), Amount>,
    steps: Vec<Step>,
    /// The whole table, by version from 0.
    tables: Vec<Amount>,
    /// Changes of UDP Services up to each version.
    udp: Vec<u32>,
}

/// How much something is, with the part of iptables' filter table told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// As modes count.
    pub size: Size,
    /// Rules in iptables' filter table, which are among [`Size::common_rules`].
    pub filter_rules: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.size += other.size;
        self.filter_rules += other.filter_rules;
    }
}
impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        self.size -= other.size;
        self.filter_rules -= other.filter_rules;
    }
}

/// Endpoints of one port by their conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Counts {
    ready: i64,
    draining: i64,
    total: i64,
}

impl Counts {
    fn of(conditions: Option<Conditions>) -> Self {
        let Some(c) = conditions else { return Counts::default() };
        Counts { ready: i64::from(c.ready), draining: i64::from(c.serving && c.terminating), total: 1 }
    }
    fn plus(self, other: Counts, sign: i64) -> Self {
        Counts {
            ready: self.ready + sign * other.ready,
            draining: self.draining + sign * other.draining,
            total: self.total + sign * other.total,
        }
    }
}

/// Every Service at version 0: whether it is there, and its endpoints.
#[derive(Clone, Debug, Default)]
pub struct Beginning(Vec<(bool, Counts)>);

impl Beginning {
    /// Of the state at version 0.
    ///
    /// # Panics
    /// If it is at another.
    pub fn of(services: &Services, state: &State) -> Self {
        assert_eq!(state.version(), 0, "not the beginning");
        Beginning::of_state(services, state)
    }

    /// Of any state, taken for a beginning.
    pub fn of_state(services: &Services, state: &State) -> Self {
        let ids = (0..services.len() as u32).map(ServiceId);
        let counts = |id| {
            let conditions = state.endpoints(id).iter().map(|(_, c)| Counts::of(Some(*c)));
            conditions.fold(Counts::default(), |sum, c| sum.plus(c, 1))
        };
        Beginning(ids.map(|id| (state.is_there(id), counts(id))).collect())
    }
}

#[derive(Clone, Debug)]
struct Service {
    ports: std::ops::Range<usize>,
    /// Endpoints of every port.
    counts: Counts,
    present: bool,
    udp: bool,
    amount: Amount,
    /// Version of its last change.
    last: u64,
}

/// One change.
#[derive(Clone, Copy, Debug)]
struct Step {
    service: u32,
    /// Versions of the changes of the same Service before and after it.
    previous: u64,
    next: u64,
    before: Amount,
    after: Amount,
}

/// What lies between two versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The Services that changed, as they are afterwards.
    pub written: Amount,
    /// As they were.
    pub replaced: Amount,
    /// How many.
    pub services: u32,
    /// Whether one of them has a UDP port.
    pub udp: bool,
}

impl Ledger {
    /// The ledger of `mode`, with version 0.
    pub fn new(
        mode: &'static dyn Simulated,
        config: &ProxyConfig,
        family: Family,
        services: &Services,
        beginning: &Beginning,
    ) -> Self {
        let mut ledger = Ledger {
            mode,
            config: config.clone(),
            family,
            ports: Vec::with_capacity(services.len()),
            services: Vec::with_capacity(services.len()),
            classes: Vec::new(),
            sizes: BTreeMap::new(),
            steps: Vec::new(),
            tables: vec![Amount::default()],
            udp: vec![0],
        };
        for (id, &(present, counts)) in (0..).map(ServiceId).zip(&beginning.0) {
            ledger.define(&services.get(id).ports, present, counts);
        }
        ledger
    }

    /// The next Service.
    fn define(&mut self, ports: &[ServicePort], present: bool, counts: Counts) {
        let first = self.ports.len();
        for port in ports {
            let class = self.class_of(port);
            self.ports.push(class);
        }
        let mut service = Service {
            ports: first..self.ports.len(),
            counts,
            present,
            udp: ports.iter().any(|p| p.proto == Proto::Udp),
            amount: Amount::default(),
            last: 0,
        };
        service.amount = self.amount_of(&service);
        let version = self.version() as usize;
        self.tables[version] += service.amount;
        self.services.push(service);
    }

    /// The kind of a port: what shapes its rules beside the number of endpoints.
    fn class_of(&mut self, port: &ServicePort) -> u32 {
        let alike = |a: &ServicePort| {
            a.proto == port.proto
                && (a.node_port != 0) == (port.node_port != 0)
                && a.external_ips.len() == port.external_ips.len()
                && a.load_balancer_vips.len() == port.load_balancer_vips.len()
                && a.source_ranges == port.source_ranges
                && a.affinity_seconds.is_some() == port.affinity_seconds.is_some()
                && a.internal_local == port.internal_local
                && a.external_local == port.external_local
                && (a.health_check_node_port != 0) == (port.health_check_node_port != 0)
        };
        let place = self.classes.iter().position(alike).unwrap_or_else(|| {
            self.classes.push(port.clone());
            self.classes.len() - 1
        });
        u32::try_from(place).expect("fewer than 2^32 kinds of ports")
    }

    fn amount_of(&mut self, service: &Service) -> Amount {
        let mut sum = Amount::default();
        if service.present {
            for port in service.ports.clone() {
                sum += self.amount(self.ports[port], service.counts);
            }
        }
        sum
    }

    /// The rules of a port of a kind with so many endpoints.
    fn amount(&mut self, class: u32, counts: Counts) -> Amount {
        if let Some(amount) = self.sizes.get(&(class, counts)) {
            return *amount;
        }
        let mut port = self.classes[class as usize].clone();
        let usable = if counts.ready > 0 { counts.ready } else { counts.draining };
        let number = |n: i64| u32::try_from(n).unwrap_or_else(|_| panic!("endpoints of a port: {counts:?}"));
        let mut lists =
            EndpointLists { has_any: usable > 0, total: number(counts.total), ..EndpointLists::default() };
        if port.uses_cluster_endpoints() {
            let some = |n| Endpoint { addr: self.address(n), is_local: false };
            lists.cluster = (0..number(usable)).map(some).collect();
            lists.reachable = lists.cluster.clone();
        }
        port.endpoints = lists;
        let size = self.mode.size(&port, &self.config, self.family);
        let amount = Amount { size, filter_rules: filter_rules(&port) };
        self.sizes.insert((class, counts), amount);
        amount
    }

    /// The address of some endpoint: sizes do not depend on which.
    fn address(&self, n: u32) -> SocketAddr {
        let ip: IpAddr = match self.family {
            Family::Ipv4 => Ipv4Addr::from(0x0a00_0000 + n).into(),
            Family::Ipv6 => Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(n)).into(),
        };
        SocketAddr::new(ip, 8080)
    }

    /// Takes what the log has beyond what is known.
    pub fn follow(&mut self, log: &ChangeLog, services: &Services) {
        while self.services.len() < services.len() {
            let id = ServiceId(self.services.len() as u32);
            self.define(&services.get(id).ports, false, Counts::default());
        }
        for change in log.between(self.version(), log.version()) {
            self.take(change);
        }
    }

    fn take(&mut self, change: &Change) {
        let id = change.what.service().0;
        let mut service = self
            .services
            .get(id as usize)
            .unwrap_or_else(|| panic!("a change of Service {id} of {}", self.services.len()))
            .clone();
        match &change.what {
            What::Endpoints { deltas, .. } => {
                for delta in deltas {
                    service.counts = service.counts.plus(Counts::of(delta.from), -1);
                    service.counts = service.counts.plus(Counts::of(delta.to), 1);
                }
            }
            What::ServiceAdded { .. } => service.present = true,
            What::ServiceRemoved { .. } => service.present = false,
        }
        let before = service.amount;
        service.amount = self.amount_of(&service);
        let version = self.version() + 1;
        if service.last != 0 {
            self.steps[service.last as usize - 1].next = version;
        }
        let step =
            Step { service: id, previous: service.last, next: u64::MAX, before, after: service.amount };
        self.steps.push(step);
        let mut table = self.tables[self.tables.len() - 1];
        table -= before;
        table += service.amount;
        self.tables.push(table);
        self.udp.push(self.udp[self.udp.len() - 1] + u32::from(service.udp));
        service.last = version;
        self.services[id as usize] = service;
    }

    /// The newest version it knows.
    pub fn version(&self) -> u64 {
        self.steps.len() as u64
    }

    /// All rules at a version, without the mode's fixed part.
    pub fn table(&self, version: u64) -> Amount {
        self.tables[version as usize]
    }

    /// What lies between two versions.
    ///
    /// # Panics
    /// If `from` is after `to`, or a version is not there.
    pub fn window(&self, from: u64, to: u64) -> Window {
        let mut window = Window { udp: self.udp_between(from, to), ..Window::default() };
        for step in &self.steps[from as usize..to as usize] {
            if step.next > to {
                window.written += step.after;
                window.services += 1;
            }
            if step.previous <= from {
                window.replaced += step.before;
            }
        }
        window
    }

    /// Changes between two versions that a later one of the same Service supersedes.
    pub fn superseded(&self, from: u64, to: u64) -> u64 {
        self.steps[from as usize..to as usize].iter().filter(|step| step.next <= to).count() as u64
    }

    /// Whether a Service with a UDP port changed between two versions.
    pub fn udp_between(&self, from: u64, to: u64) -> bool {
        self.udp[to as usize] > self.udp[from as usize]
    }

    /// Versions up to `version` that changed a Service, latest first.
    pub fn changes_of(&self, service: ServiceId, version: u64) -> impl Iterator<Item = u64> + '_ {
        let last = self.services.get(service.0 as usize).map_or(0, |s| s.last);
        let mut at = last;
        std::iter::from_fn(move || {
            let this = at;
            at = self.steps.get(this.checked_sub(1)? as usize)?.previous;
            Some(this)
        })
        .filter(move |&v| v <= version)
    }

    /// Services changed by a version.
    pub fn service_of(&self, version: u64) -> ServiceId {
        ServiceId(self.steps[version as usize - 1].service)
    }

    /// Services that are or were there.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// The kinds of a Service's ports.
    pub fn ports_of(&self, service: ServiceId) -> impl Iterator<Item = &ServicePort> + '_ {
        let ports = self.services[service.0 as usize].ports.clone();
        ports.map(|p| &self.classes[self.ports[p] as usize])
    }

    /// Services in the newest version, and those of them with endpoints.
    pub fn objects(&self) -> (u64, u64) {
        let there = || self.services.iter().filter(|s| s.present);
        (there().count() as u64, there().filter(|s| s.counts.total > 0).count() as u64)
    }

    /// Services in the newest version with usable endpoints and a port for local endpoints only.
    pub fn of_policy_local(&self) -> impl Iterator<Item = ServiceId> + '_ {
        let ids = (0..).map(ServiceId).zip(&self.services);
        let usable = ids.filter(|(_, s)| s.present && s.counts.ready + s.counts.draining > 0);
        let is_local = |p: &u32| {
            let port = &self.classes[*p as usize];
            port.external_local || port.internal_local
        };
        usable.filter(move |(_, s)| self.ports[s.ports.clone()].iter().any(is_local)).map(|(id, _)| id)
    }

    /// Whether a Service exists in the newest version.
    pub fn is_present(&self, service: ServiceId) -> bool {
        self.services[service.0 as usize].present
    }
}

/// Rules that iptables mode writes into the filter table for one port (`pkg/proxy/iptables/proxier.go:syncProxyRules`):
/// refusals of its addresses without endpoints, its firewall, its health check.
fn filter_rules(port: &ServicePort) -> u64 {
    let vips = port.load_balancer_vips.len() as u64;
    let mut rules = u64::from(!port.has_internal_endpoints());
    if !port.has_external_endpoints() {
        rules += port.external_ips.len() as u64 + vips + u64::from(port.node_port != 0);
    }
    if port.endpoints.has_any && !port.source_ranges.is_empty() {
        rules += vips;
    }
    rules + u64::from(port.health_check_node_port != 0)
}
