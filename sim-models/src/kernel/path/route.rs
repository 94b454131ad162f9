//! Routes of a node as far as packets tell them apart: where masquerading takes its address from, what a lookup costs,
//! and whether the device has a queue.
//!
//! Left out: next hops, and the kernel's trie itself (`net/ipv4/fib_trie.c`); a route says how deep it lies there.

use super::NodeState;
use ipnet::IpNet;
use std::net::IpAddr;

impl NodeState {
    /// Adds a route; of several that contain an address the longest counts.
    pub fn add_route(&mut self, route: Route) {
        self.routes.push(route);
    }

    pub(super) fn route(&self, dst: IpAddr) -> Option<&Route> {
        let routes = self.routes.iter().filter(|route| route.network.contains(&dst));
        routes.max_by_key(|route| route.network.prefix_len())
    }

    /// The address that masquerading gives a packet to `dst`: one of the device it leaves by.
    pub(super) fn masquerade_address(&self, dst: IpAddr) -> IpAddr {
        self.route(dst).map_or(self.node_ip, |route| route.own_addr)
    }

    /// What looking up the route to `dst` visits beyond the shortest lookup.
    pub(in crate::kernel) fn fib_nodes(&self, dst: IpAddr) -> u32 {
        self.route(dst).map_or(0, |route| route.depth)
    }
}

/// A route of a node.
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
