//! The network between nodes: racks of nodes under top-of-rack switches, switches under one spine.
//!
//! A petgraph graph of hosts and switches with link delays; a packet's delay is that of the shortest path.
//! Paths between racks are computed once.
//!
//! Left out so far: bandwidth, queues and loss of links, several spines.

use petgraph::algo::dijkstra;
use petgraph::graph::{NodeIndex, UnGraph};
use sim_core::units::SimSpan;

/// Hosts under one top-of-rack switch.
const RACK: usize = 40;
/// Delay of the link from a host to its switch, transmission of a small packet included: a few microseconds in
/// a data centre of 10 to 25 Gbit/s (an assumption, not a measurement).
const HOST_LINK: SimSpan = SimSpan::from_us(5);
/// Delay of the link from a switch to the spine (an assumption as well).
const SPINE_LINK: SimSpan = SimSpan::from_us(10);

/// What a vertex of the topology is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A node of the cluster.
    Host(u32),
    /// A top-of-rack switch.
    Rack(u32),
    /// The spine.
    Spine,
}

/// What a packet meets at the address of a pod that is gone: a matter of the network plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GonePod {
    /// Pods of a node are on a link (bridge plugins, flannel, kubenet): the node asks for the address three times, a second
    /// apart, and then says that the host is unreachable (`net/ipv4/arp.c:arp_error_report` after `mcast_solicit` tries
    /// of `retrans_time_ms`).
    #[default]
    AskedFor,
    /// Every pod has a route of its own, and the node answers at once that there is none (`ip route add unreachable`).
    Unreachable,
    /// Packets vanish: a blackhole route for the node's block of addresses (Calico), or a policy that drops.
    Silent,
}

impl GonePod {
    /// When the node says so; never, if it does not.
    pub fn answers_after(self) -> Option<SimSpan> {
        match self {
            GonePod::AskedFor => Some(SimSpan::from_secs(3)),
            GonePod::Unreachable => Some(SimSpan::ZERO),
            GonePod::Silent => None,
        }
    }
}

/// Hosts, switches and links.
pub struct Network {
    /// What packets for pods that are gone meet.
    pub gone: GonePod,
    hosts: u32,
    graph: UnGraph<Place, SimSpan>,
    /// Delay from each rack's switch to each other's.
    between_racks: Vec<Vec<SimSpan>>,
}

impl Network {
    /// The network of `hosts` nodes.
    pub fn new(hosts: u32) -> Self {
        let mut graph = UnGraph::new_undirected();
        let spine = graph.add_node(Place::Spine);
        let mut switches: Vec<NodeIndex> = Vec::new();
        for host in 0..hosts {
            if (host as usize).is_multiple_of(RACK) {
                let switch = graph.add_node(Place::Rack(switches.len() as u32));
                graph.add_edge(switch, spine, SPINE_LINK);
                switches.push(switch);
            }
            let at = graph.add_node(Place::Host(host));
            graph.add_edge(at, switches[host as usize / RACK], HOST_LINK);
        }
        let between_racks = switches
            .iter()
            .map(|&from| {
                let delays = dijkstra(&graph, from, None, |edge| edge.weight().as_ns());
                switches.iter().map(|to| SimSpan::from_ns(delays[to])).collect()
            })
            .collect();
        Network { gone: GonePod::default(), hosts, graph, between_racks }
    }

    /// One more host, in the rack of the last ones if that has room.
    pub fn add_host(&mut self) {
        *self = Network { gone: self.gone, ..Network::new(self.hosts + 1) };
    }

    /// Time from one host's device to another's; nothing within a host.
    pub fn delay(&self, from: u32, to: u32) -> SimSpan {
        if from == to {
            return SimSpan::ZERO;
        }
        HOST_LINK.times(2) + self.between_racks[from as usize / RACK][to as usize / RACK]
    }

    /// Time to a host outside the cluster, reached through the spine.
    pub fn delay_outside(&self) -> SimSpan {
        HOST_LINK.times(2) + SPINE_LINK.times(2)
    }

    /// The topology, for reports.
    pub fn graph(&self) -> &UnGraph<Place, SimSpan> {
        &self.graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_the_shortest_path() {
        let net = Network::new(100);
        let us = |a, b| net.delay(a, b).as_ns() / 1000;
        assert_eq!((us(3, 3), us(0, 39), us(0, 40), us(99, 0)), (0, 10, 30, 30));
        assert_eq!(net.graph().node_count(), 100 + 3 + 1);
        let mut grown = Network::new(80);
        (80..100).for_each(|_| grown.add_host());
        assert_eq!((grown.delay(99, 0), grown.graph().node_count()), (net.delay(99, 0), 100 + 3 + 1));
    }
}
