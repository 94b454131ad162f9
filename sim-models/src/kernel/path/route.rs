//! [`Routes`] of a node as far as packets tell them apart: which device leads where, where masquerading takes its address
//! from, what a lookup costs, and whether the device has a queue.
//!
//! Left out: next hops, and the kernel's trie itself (`net/ipv4/fib_trie.c`); a route says how deep it lies there.

use super::NodeState;
use ipnet::IpNet;
use std::net::IpAddr;

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// Whether it has a queue.
    pub queue: bool,
}

/// A route by a device of its own, called `veth0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub network: IpNet,
    /// The node's address on the device that packets leave by.
    pub own_addr: IpAddr,
    /// Nodes of the routing trie (`net/ipv4/fib_trie.c`) on the way to it beyond the shortest way.
    pub depth: u32,
    /// Whether the device has a queue.
    pub queue: bool,
}

/// Which device leads where. Without any, packets for pods and for other nodes go by `veth0`.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    devices: Vec<Device>,
    /// Longest prefixes first.
    table: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    network: IpNet,
    device: usize,
    depth: u32,
}

impl Routes {
    /// Adds a device and the networks behind it.
    pub fn add(&mut self, device: Device, networks: &[IpNet]) {
        self.add_at(device, networks, 0);
    }

    fn add_at(&mut self, device: Device, networks: &[IpNet], depth: u32) {
        let device_id = self.devices.len();
        self.table.extend(networks.iter().map(|&network| Entry { network, device: device_id, depth }));
        self.table.sort_by_key(|entry| std::cmp::Reverse(entry.network.prefix_len()));
        self.devices.push(device);
    }

    fn entry(&self, to: IpAddr) -> Option<&Entry> {
        self.table.iter().find(|entry| entry.network.contains(&to))
    }

    /// The device that `to` is behind.
    pub(super) fn towards(&self, to: IpAddr) -> Option<usize> {
        self.entry(to).map(|entry| entry.device)
    }

    /// Whether `ip` alone is behind a device: a pod of this node.
    pub(super) fn is_pod(&self, ip: IpAddr) -> bool {
        self.entry(ip).is_some_and(|entry| entry.network.prefix_len() == entry.network.max_prefix_len())
    }

    /// The device of that name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|d| d.name == name)
    }

    pub(super) fn name(&self, device: usize) -> &str {
        &self.devices[device].name
    }

    pub(super) fn addresses(&self, device: usize) -> &[IpAddr] {
        &self.devices[device].addresses
    }

    /// Whether packets to `dst` go through a device's queue.
    pub(super) fn is_queued(&self, dst: IpAddr) -> bool {
        self.towards(dst).is_some_and(|device| self.devices[device].queue)
    }
}

impl NodeState {
    /// Adds a route; of several that contain an address the longest counts.
    pub fn add_route(&mut self, route: Route) {
        let Route { network, own_addr, depth, queue } = route;
        let device = Device { name: "veth0".to_owned(), addresses: vec![own_addr], queue };
        self.routes.add_at(device, &[network], depth);
    }

    /// What looking up the route to `dst` visits beyond the shortest lookup.
    pub(in crate::kernel) fn fib_nodes(&self, dst: IpAddr) -> u32 {
        self.routes.entry(dst).map_or(0, |entry| entry.depth)
    }
}
