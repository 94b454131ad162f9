//! Which addresses of the node answer on NodePorts.
//!
//! Source: `pkg/proxy/util/nodeport_addresses.go` and `cmd/kube-proxy/app/server.go` (where `primary` becomes the
//! node's own addresses). The node's addresses are those of its Node object, and loopback; a real node may have
//! more, which nothing but its interfaces tells.

use crate::config::{NodePortAddresses, ProxyConfig};
use crate::kube::ProxyObjects;
use ipnet::IpNet;
use sim_core::classify::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where NodePorts of one family answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortIps {
    /// On every address of the node.
    All,
    /// On these, loopback among them where it is in one of the networks.
    Only(Vec<IpAddr>),
}

impl NodePortIps {
    /// Resolves `nodePortAddresses`; `unset` is what the mode takes where nothing is written.
    pub fn of(
        objects: &ProxyObjects,
        config: &ProxyConfig,
        family: Family,
        unset: NodePortAddresses,
    ) -> Self {
        let setting = match &config.node_port_addresses {
            NodePortAddresses::Unset => &unset,
            set => set,
        };
        let primary = objects.node_ips.first().map(|&ip| IpNet::from(ip));
        let cidrs: Vec<IpNet> = match setting {
            NodePortAddresses::Unset => Vec::new(),
            NodePortAddresses::Primary => primary.into_iter().collect(),
            NodePortAddresses::Cidrs(cidrs) => {
                cidrs.iter().copied().filter(|cidr| Family::of(cidr.addr()) == family).collect()
            }
        };
        if cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.prefix_len() == 0) {
            return NodePortIps::All;
        }
        let loopback: IpAddr = match family {
            Family::Ipv4 => Ipv4Addr::LOCALHOST.into(),
            Family::Ipv6 => Ipv6Addr::LOCALHOST.into(),
        };
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in std::iter::once(loopback).chain(objects.node_ips.iter().copied()) {
            if cidrs.iter().any(|cidr| cidr.contains(&ip)) && !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        NodePortIps::Only(ips)
    }

    /// Whether loopback answers where `config` lists networks: `127.0.0.0/8` must be inside one of them.
    pub fn contains_loopback(&self) -> bool {
        match self {
            NodePortIps::All => true,
            NodePortIps::Only(ips) => ips.iter().any(IpAddr::is_loopback),
        }
    }
}
