//! Virtual and real servers as data: what `ipvsadm` lists and a proxy asks for.

use sim_core::classify::Proto;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Address, port and protocol of a virtual server: its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Address that clients use.
    pub addr: IpAddr,
    /// Port that clients use.
    pub port: u16,
    /// Transport protocol.
    pub proto: Proto,
}

/// Flags of a virtual server that only its scheduler reads (`IP_VS_SVC_F_SCHED1`, `SCHED2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: choose another server when the hashed one is not usable.
    pub fallback: bool,
    /// `sh-port`, `mh-port`: hash the client's port too.
    pub port: bool,
}

/// One virtual server with its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// Address that clients use.
    pub addr: IpAddr,
    /// Port that clients use.
    pub port: u16,
    /// Transport protocol.
    pub proto: Proto,
    /// Name of a scheduler in [`super::scheduler::SCHEDULERS`].
    pub scheduler: Arc<str>,
    /// What only the scheduler reads.
    pub flags: SchedulerFlags,
    /// Seconds for which a client keeps its server; `None` without persistence.
    pub persistence_seconds: Option<u32>,
    /// Leading bits of a client's address that persistence looks at; `None` for all of them, which is what
    /// kube-proxy asks for.
    pub persistence_prefix: Option<u8>,
    /// Real servers in creation order.
    pub real: Vec<RealServer>,
}

impl VirtualServer {
    /// What identifies it.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { addr: self.addr, port: self.port, proto: self.proto }
    }
}

/// How packets reach a real server. kube-proxy uses masquerading (NAT) only, and only that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Destination rewritten, replies pass through this node (`-m`).
    Masq,
    /// Sent on unchanged to the real server's MAC address (`-g`).
    Route,
    /// Wrapped in another packet (`-i`).
    Tunnel,
}

/// One real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RealServer {
    /// Address and port.
    pub addr: SocketAddr,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Connections from which on it gets no new ones (`-x`); 0 for no limit, as kube-proxy leaves it.
    pub upper: u32,
    /// Connections below which it gets new ones again (`-y`); 0 for three quarters of the upper threshold.
    pub lower: u32,
}

impl RealServer {
    /// A masqueraded real server of weight 1, as kube-proxy adds it.
    pub fn new(addr: SocketAddr) -> Self {
        RealServer { addr, weight: 1, forwarding: Forwarding::Masq, upper: 0, lower: 0 }
    }
}
