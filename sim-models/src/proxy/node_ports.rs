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

    /// Whether 127.0.0.0/8 may be among them: one of the listed networks lies in it or holds its first address.
    pub fn allow_ipv4_loopback(&self, config: &ProxyConfig) -> bool {
        let first = IpAddr::from([127, 0, 0, 0]);
        match (self, &config.node_port_addresses) {
            (NodePortIps::All, _) => true,
            (_, NodePortAddresses::Cidrs(cidrs)) => {
                cidrs.iter().any(|cidr| cidr.contains(&first) || is_v4_loopback(cidr.network()))
            }
            _ => false,
        }
    }
}

fn is_v4_loopback(ip: IpAddr) -> bool {
    ip.is_ipv4() && ip.is_loopback()
}
