//! Nodes as hosts: what each one's kernel remembers, the rules it has loaded, and its cores ([`cores`]).
//!
//! A node that no packet has met costs next to nothing: its kernel's state is made when the first one comes. Rules are
//! named when they are loaded ([`RulesId`]) and handed over compiled when a packet asks for them.
//!
//! In ipvs mode a node has virtual servers of its own making: the rules' plus real servers that wait for their last
//! connection ([`servers`]).
//!
//! Left out: applications on the same cores, backlog limits.

mod cores;
mod servers;
#[cfg(test)]
mod tests;

pub use cores::Served;

use crate::kernel::conntrack::ConntrackConfig;
use crate::kernel::path::{Crossing, NodeState, Origin, Stack, cross};
use crate::kube::ServicePort;
use crate::proxy::fleet::{self, RulesId};
use cores::Cores;
use servers::Servers;
use sim_core::classify::{Packet, Proto};
use sim_core::units::{SimSpan, SimTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Root of random streams.
    pub seed: u64,
    /// Cores.
    pub cores: u32,
    /// Settings of connection tracking.
    pub conntrack: ConntrackConfig,
}

/// A sync that is going on.
#[derive(Clone, Copy, Debug)]
struct Running {
    core: u32,
    /// Packet work that its core had done when it was last asked about it.
    seen: SimSpan,
}

/// What a node has once a packet has met it.
struct Life {
    state: NodeState,
    /// The rules, handed over since they were loaded.
    stack: Option<Arc<Stack>>,
    servers: Servers,
    cores: Cores,
}

/// One node.
struct Host {
    addresses: Box<[IpAddr]>,
    rules: Option<RulesId>,
    /// Times it was started again; it draws from other streams then.
    boots: u32,
    is_down: bool,
    sync: Option<Running>,
    life: Option<Box<Life>>,
}

impl Host {
    fn new(addresses: Vec<IpAddr>) -> Self {
        let addresses = addresses.into_boxed_slice();
        Host { addresses, rules: None, boots: 0, is_down: false, sync: None, life: None }
    }

    fn life(&mut self, node: u32, machine: &Machine) -> &mut Life {
        let (addresses, boots) = (&self.addresses, self.boots);
        self.life.get_or_insert_with(|| {
            let path = match boots {
                0 => format!("node/{node}"),
                boots => format!("node/{node}/boot/{boots}"),
            };
            let mut state = NodeState::new(machine.seed, &path, machine.cores, addresses);
            state.conntrack = state.conntrack.configured(machine.conntrack);
            let cores = Cores::new(machine.cores);
            Box::new(Life { state, stack: None, servers: Servers::default(), cores })
        })
    }
}

/// All nodes.
pub struct Hosts {
    machine: Machine,
    all: Vec<Host>,
    busy: SimSpan,
}

impl Hosts {
    /// Nodes with these addresses, each node's primary first, with nothing loaded.
    pub fn new(machine: Machine, addresses: Vec<Vec<IpAddr>>) -> Self {
        let all = addresses.into_iter().map(Host::new).collect();
        Hosts { machine, all, busy: SimSpan::ZERO }
    }

    /// One more node; its index.
    pub fn add(&mut self, addresses: Vec<IpAddr>) -> u32 {
        self.all.push(Host::new(addresses));
        self.all.len() as u32 - 1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Addresses of a node.
    pub fn addresses(&self, node: u32) -> &[IpAddr] {
        &self.host(node).addresses
    }
    /// Packet work taken on so far by all cores.
    pub fn busy(&self) -> SimSpan {
        self.busy
    }
    /// The rules that a node has loaded.
    pub fn rules(&self, node: u32) -> Option<RulesId> {
        self.host(node).rules
    }
    /// Whether a node is without power.
    pub fn is_down(&self, node: u32) -> bool {
        self.host(node).is_down
    }

    fn host(&self, node: u32) -> &Host {
        &self.all[node as usize]
    }

    /// A node's kernel has other rules from now on.
    pub fn load(&mut self, node: u32, rules: Option<RulesId>) {
        let host = &mut self.all[node as usize];
        host.rules = rules;
        if let Some(life) = &mut host.life {
            life.stack = None;
        }
    }

    /// Whether the node must be given its rules before it can take a packet.
    pub fn wants_rules(&self, node: u32) -> bool {
        self.host(node).life.as_ref().is_none_or(|life| life.stack.is_none())
    }

    /// Whether the node must be given every version it loads, packet or not: what becomes of a real server of IPVS depends
    /// on the connections that it has when it is taken away.
    pub fn follows_versions(&self, node: u32) -> bool {
        self.host(node).life.as_ref().is_some_and(|life| life.servers.are_there())
    }

    /// Hands over the rules that the node has loaded, compiled.
    pub fn give(&mut self, node: u32, stack: Arc<Stack>, now: SimTime) {
        let life = self.all[node as usize].life(node, &self.machine);
        life.servers.follow(stack.ipvs(), &mut life.state, now);
        life.stack = Some(stack);
    }

    /// Classifies a packet that reaches `node` now. Packets of one core are classified in the order in which they
    /// arrive, so doing it at arrival and charging the time afterwards gives the same verdicts.
    ///
    /// # Panics
    /// If the node was not given its rules.
    pub fn classify(&mut self, node: u32, packet: Packet, origin: Origin, now: SimTime) -> Crossing {
        let life = self.all[node as usize].life(node, &self.machine);
        life.servers.check(&mut life.state, now);
        let stack = life.stack.as_ref().unwrap_or_else(|| panic!("node {node} without its rules"));
        cross(stack, &mut life.state, packet, origin, now)
    }

    /// Whether a sync runs on the core of `packet`'s flow: then the packet finds that the sync has pushed the rules out of
    /// the core's own caches.
    pub fn is_disturbed(&self, node: u32, packet: &Packet) -> bool {
        let host = self.host(node);
        let (Some(sync), Some(life)) = (host.sync, &host.life) else { return false };
        life.cores.of(packet) == sync.core as usize
    }

    /// Charges `work` to the core of `packet`'s flow.
    pub fn serve(&mut self, node: u32, packet: &Packet, work: SimSpan, now: SimTime) -> Served {
        self.busy += work;
        self.all[node as usize].life(node, &self.machine).cores.serve(packet, work, now)
    }

    /// The node loses power: its kernel forgets everything.
    pub fn power_off(&mut self, node: u32) {
        let host = &mut self.all[node as usize];
        let boots = host.boots + 1;
        *host = Host { boots, is_down: true, ..Host::new(std::mem::take(&mut host.addresses).into_vec()) };
    }

    /// It is back, with an empty kernel.
    pub fn power_on(&mut self, node: u32) {
        self.all[node as usize].is_down = false;
    }

    /// What kube-proxy does to connection tracking when endpoints of UDP ports have changed: entries whose first
    /// destination is one of these ports and whose answers come from none of its serving endpoints are deleted; a port
    /// without serving endpoints is left alone (`pkg/proxy/conntrack/cleanup.go:CleanStaleEntries`). How many went.
    pub fn clean_udp(&mut self, node: u32, ports: &[(ServicePort, BTreeSet<SocketAddr>)]) -> u32 {
        let Some(life) = &mut self.all[node as usize].life else { return 0 };
        let (mut by_address, mut by_node_port) = (BTreeMap::new(), BTreeMap::new());
        for (port, serving) in ports.iter().filter(|(_, serving)| !serving.is_empty()) {
            let addresses = [port.cluster_ip].into_iter().chain(port.external_ips.iter().copied());
            for ip in addresses.chain(port.load_balancer_vips.iter().copied()) {
                by_address.insert(SocketAddr::new(ip, port.port), serving);
            }
            if port.node_port != 0 {
                by_node_port.insert(port.node_port, serving);
            }
        }
        life.state.conntrack.flush(|original, reply| {
            let serving = by_address.get(&original.dst).or_else(|| by_node_port.get(&original.dst.port()));
            original.proto == Proto::Udp && serving.is_some_and(|serving| !serving.contains(&reply.src))
        })
    }

    /// Connections that a node tracks.
    pub fn tracked(&self, node: u32) -> u32 {
        self.host(node).life.as_ref().map_or(0, |life| life.state.conntrack.len())
    }

    /// Real servers of IPVS that wait on a node for their last connection.
    pub fn draining(&self, node: u32) -> usize {
        self.host(node).life.as_ref().map_or(0, |life| life.servers.draining())
    }

    /// Bytes that a node without packets takes.
    pub fn idle_bytes(&self, node: u32) -> usize {
        assert!(self.host(node).life.is_none(), "node {node} has met packets");
        size_of::<Host>() + size_of_val(&*self.host(node).addresses)
    }
}

impl fleet::Cores for Hosts {
    fn begin(&mut self, node: u32, _cpu: SimSpan, now: SimTime) {
        let host = &mut self.all[node as usize];
        let (core, seen) = match &host.life {
            None => (0, SimSpan::ZERO),
            Some(life) => {
                let core = life.cores.quietest(now);
                (core as u32, life.cores.done(core, now))
            }
        };
        host.sync = Some(Running { core, seen });
    }

    fn stolen(&mut self, node: u32, now: SimTime) -> SimSpan {
        let host = &mut self.all[node as usize];
        let (Some(sync), Some(life)) = (&mut host.sync, &host.life) else { return SimSpan::ZERO };
        let done = life.cores.done(sync.core as usize, now);
        let stolen = done - sync.seen;
        sync.seen = done;
        stolen
    }

    fn end(&mut self, node: u32, _now: SimTime) {
        self.all[node as usize].sync = None;
    }
}
