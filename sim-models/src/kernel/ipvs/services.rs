//! [`Services`]: the virtual servers of a node with their real servers, shared by all nodes that have the same.
//!
//! Copy on write: a clone is three pointers, and a change of one service's real servers replaces that
//! service's list only. Source: `net/netfilter/ipvs/ip_vs_ctl.c` (`ip_vs_add_service`, `ip_vs_del_service`,
//! `ip_vs_add_dest`, `ip_vs_edit_dest`, `ip_vs_del_dest`).

use super::config::Tables;
use super::scheduler::{self, MakeScheduler};
use super::service_table::ServiceTable;
use super::tcp_state::Timeouts;
use super::{Forwarding, RealServer, SchedulerFlags, ServiceKey, VirtualServer};
use crate::kernel::rules::NodeRules;
use std::net::SocketAddr;
use std::sync::Arc;

/// One virtual server as the packet path uses it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Address, port and protocol.
    pub key: ServiceKey,
    /// Name of the scheduler.
    pub scheduler: Arc<str>,
    pub(super) make: MakeScheduler,
    /// What only the scheduler reads.
    pub flags: SchedulerFlags,
    /// Seconds of persistence.
    pub persistence_seconds: Option<u32>,
    /// Leading bits of a client's address that persistence looks at, if not all.
    pub persistence_prefix: Option<u8>,
    /// Real servers in creation order; the kernel walks them the other way round.
    pub real: Arc<Vec<RealServer>>,
}

impl Service {
    fn to_virtual_server(&self) -> VirtualServer {
        VirtualServer {
            addr: self.key.addr,
            port: self.key.port,
            proto: self.key.proto,
            scheduler: self.scheduler.clone(),
            flags: self.flags,
            persistence_seconds: self.persistence_seconds,
            persistence_prefix: self.persistence_prefix,
            real: self.real.as_ref().clone(),
        }
    }
}

/// Why a virtual or real server was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No such scheduler.
    #[error("no IPVS scheduler is called {0:?}")]
    UnknownScheduler(String),
    /// The key is taken.
    #[error("virtual server {} port {} ({}) exists already", .0.addr, .0.port, .0.proto)]
    Exists(ServiceKey),
    /// No such virtual server.
    #[error("no virtual server {} port {} ({})", .0.addr, .0.port, .0.proto)]
    Missing(ServiceKey),
    /// It asks for what only dumps hold.
    #[error("virtual server {} port {} ({}): {what} is not simulated", .key.addr, .key.port, .key.proto)]
    NotSimulated {
        /// The virtual server.
        key: ServiceKey,
        /// What it asks for.
        what: &'static str,
    },
    /// A lower threshold above the upper one.
    #[error("real server {0}: the lower threshold is above the upper one")]
    Thresholds(SocketAddr),
    /// The service has this real server already.
    #[error("real server {0} exists already")]
    DestExists(SocketAddr),
    /// The service has no such real server.
    #[error("no real server {0}")]
    DestMissing(SocketAddr),
}

/// The virtual servers of one node and family.
#[derive(Clone, Debug, Default)]
pub struct Services {
    tables: Tables,
    timeouts: Timeouts,
    table: Arc<ServiceTable>,
    /// By the index that the table holds; `None` where a service was deleted.
    list: Arc<Vec<Option<Arc<Service>>>>,
    /// Replaced at every change, so that a node sees with one comparison that something did change.
    stamp: Arc<()>,
}

impl Services {
    /// The services of `servers`, added in that order.
    pub fn new(servers: &[VirtualServer]) -> Result<Self, ServiceError> {
        Services::of_kernel(Tables::Fixed, Timeouts::default(), 0, servers)
    }

    /// What a node's rules ask for: servers, tables and lifetimes.
    pub fn of_rules(rules: &NodeRules, seed: u64) -> Result<Self, ServiceError> {
        let timeouts = rules.ipvs_timeouts.map_or_else(Timeouts::default, Timeouts::set);
        Services::of_kernel(rules.ipvs_tables, timeouts, seed as u32, &rules.ipvs)
    }

    /// The services of `servers` in a kernel with such tables and lifetimes; `seed` gives resizable tables their keys.
    pub fn of_kernel(
        tables: Tables,
        timeouts: Timeouts,
        seed: u32,
        servers: &[VirtualServer],
    ) -> Result<Self, ServiceError> {
        let table = Arc::new(ServiceTable::new(tables, seed));
        let mut services = Services { tables, timeouts, table, ..Services::default() };
        for server in servers {
            services.add(server)?;
        }
        Ok(services)
    }

    /// Adds a virtual server with its real servers; it becomes the first of its bucket.
    pub fn add(&mut self, server: &VirtualServer) -> Result<(), ServiceError> {
        let key = server.key();
        if self.table.find(&key).0.is_some() {
            return Err(ServiceError::Exists(key));
        }
        let make = scheduler::by_name(&server.scheduler)
            .ok_or_else(|| ServiceError::UnknownScheduler(server.scheduler.to_string()))?;
        if server.real.iter().any(|real| real.forwarding != Forwarding::Masq) {
            return Err(ServiceError::NotSimulated { key, what: "routing or tunnelling to a real server" });
        }
        check_thresholds(&server.real)?;
        for (at, real) in server.real.iter().enumerate() {
            if server.real[..at].iter().any(|other| other.addr == real.addr) {
                return Err(ServiceError::DestExists(real.addr));
            }
        }
        let service = Service {
            key,
            scheduler: server.scheduler.clone(),
            make,
            flags: server.flags,
            persistence_seconds: server.persistence_seconds,
            persistence_prefix: server.persistence_prefix,
            real: Arc::new(server.real.clone()),
        };
        let list = Arc::make_mut(&mut self.list);
        let index = u32::try_from(list.len()).expect("fewer than 2^32 services");
        list.push(Some(Arc::new(service)));
        Arc::make_mut(&mut self.table).insert(index, key);
        self.stamp = Arc::new(());
        Ok(())
    }

    /// Deletes a virtual server. Its connections stay until they expire or a packet finds them orphaned.
    pub fn remove(&mut self, key: &ServiceKey) -> Result<(), ServiceError> {
        let index = self.index(key)?;
        Arc::make_mut(&mut self.table).remove(index);
        Arc::make_mut(&mut self.list)[index as usize] = None;
        self.stamp = Arc::new(());
        Ok(())
    }

    /// Replaces a service's real servers: those not in `real` are deleted, those only there are added in its
    /// order, weights of the rest are set. Creation order of those that stay is kept.
    pub fn set_real_servers(&mut self, key: &ServiceKey, real: &[RealServer]) -> Result<(), ServiceError> {
        check_thresholds(real)?;
        for (at, one) in real.iter().enumerate() {
            if real[..at].iter().any(|other| other.addr == one.addr) {
                return Err(ServiceError::DestExists(one.addr));
            }
        }
        self.edit(key, |list| {
            list.retain(|old| real.iter().any(|new| new.addr == old.addr));
            for new in real {
                match list.iter_mut().find(|old| old.addr == new.addr) {
                    Some(old) => *old = *new,
                    None => list.push(*new),
                }
            }
            Ok(())
        })
    }

    /// Adds one real server.
    pub fn add_real_server(&mut self, key: &ServiceKey, real: RealServer) -> Result<(), ServiceError> {
        check_thresholds(&[real])?;
        self.edit(key, |list| {
            if list.iter().any(|old| old.addr == real.addr) {
                return Err(ServiceError::DestExists(real.addr));
            }
            list.push(real);
            Ok(())
        })
    }

    /// Sets one real server's weight.
    pub fn set_weight(
        &mut self,
        key: &ServiceKey,
        addr: SocketAddr,
        weight: u32,
    ) -> Result<(), ServiceError> {
        self.edit(key, |list| {
            let real = list.iter_mut().find(|r| r.addr == addr).ok_or(ServiceError::DestMissing(addr))?;
            real.weight = weight;
            Ok(())
        })
    }

    /// Deletes one real server.
    pub fn remove_real_server(&mut self, key: &ServiceKey, addr: SocketAddr) -> Result<(), ServiceError> {
        self.edit(key, |list| {
            let at = list.iter().position(|r| r.addr == addr).ok_or(ServiceError::DestMissing(addr))?;
            list.remove(at);
            Ok(())
        })
    }

    fn edit(
        &mut self,
        key: &ServiceKey,
        change: impl FnOnce(&mut Vec<RealServer>) -> Result<(), ServiceError>,
    ) -> Result<(), ServiceError> {
        let index = self.index(key)? as usize;
        let service = self.get(index as u32).expect("the table knows only services that exist");
        let mut real = service.real.as_ref().clone();
        change(&mut real)?;
        let service = Service { real: Arc::new(real), ..service.as_ref().clone() };
        Arc::make_mut(&mut self.list)[index] = Some(Arc::new(service));
        self.stamp = Arc::new(());
        Ok(())
    }

    fn index(&self, key: &ServiceKey) -> Result<u32, ServiceError> {
        self.table.find(key).0.ok_or(ServiceError::Missing(*key))
    }

    /// The service called `key`.
    pub fn find(&self, key: &ServiceKey) -> Option<&Service> {
        self.index(key).ok().and_then(|index| self.get(index)).map(Arc::as_ref)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Arc<Service>> {
        self.list.get(index as usize)?.as_ref()
    }
    pub(super) fn table(&self) -> &ServiceTable {
        &self.table
    }
    /// Kind of the kernel's tables, that of connections too.
    pub fn tables(&self) -> Tables {
        self.tables
    }
    /// Lifetimes of connections.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
    pub(super) fn stamp(&self) -> &Arc<()> {
        &self.stamp
    }

    /// All services in creation order.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.list.iter().flatten().map(Arc::as_ref)
    }

    /// The service called `key` as data again.
    pub fn virtual_server(&self, key: &ServiceKey) -> Option<VirtualServer> {
        self.find(key).map(Service::to_virtual_server)
    }

    /// The services as data again, in creation order.
    pub fn virtual_servers(&self) -> Vec<VirtualServer> {
        self.iter().map(Service::to_virtual_server).collect()
    }

    /// Kernel memory of the services and their destinations on a node with `cpus` processors, in bytes. An
    /// estimate: `struct ip_vs_service` and `struct ip_vs_dest` are summed by hand and each fills a 512-byte
    /// slab object, and each has 64 bytes of counters a processor.
    pub fn memory_bytes(&self, cpus: u64) -> u64 {
        let objects: u64 = self.iter().map(|s| 1 + s.real.len() as u64).sum();
        objects * (512 + 64 * cpus)
    }
}

/// `ip_vs_ctl.c:ip_vs_add_dest` refuses them.
fn check_thresholds(real: &[RealServer]) -> Result<(), ServiceError> {
    let bad = real.iter().find(|r| r.lower > r.upper);
    bad.map_or(Ok(()), |r| Err(ServiceError::Thresholds(r.addr)))
}
