//! Addresses of pods that come later.

use crate::kube::generate::PodAddresses;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where addresses of new pods come from.
#[derive(Clone, Debug)]
pub enum Addresses {
    /// The pod networks of a generated cluster.
    Generated(PodAddresses),
    /// An imported cluster, whose pod networks nobody told: next to an address of the node's that is known.
    Imported {
        /// Addresses that somebody has.
        taken: BTreeSet<IpAddr>,
        /// By node, one of its pods' addresses.
        near: Vec<Option<IpAddr>>,
        /// Where to look for a node without one.
        anywhere: IpAddr,
    },
}

impl Addresses {
    /// Addresses of an imported cluster: all that somebody has, and those of pods with their nodes.
    pub fn imported(
        taken: BTreeSet<IpAddr>,
        pods: impl Iterator<Item = (IpAddr, Option<u32>)>,
        nodes: usize,
    ) -> Self {
        let mut near = vec![None; nodes];
        let mut anywhere = None;
        for (address, node) in pods {
            anywhere.get_or_insert(address);
            if let Some(slot) = node.and_then(|n| near.get_mut(n as usize)) {
                slot.get_or_insert(address);
            }
        }
        let anywhere = anywhere.unwrap_or(IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2)));
        Addresses::Imported { taken, near, anywhere }
    }

    /// A free address for a pod on `node`, next to `instead_of` where nothing better is known; none if none is free.
    pub fn allocate(&mut self, node: u32, instead_of: Option<IpAddr>) -> Option<IpAddr> {
        match self {
            Addresses::Generated(pool) => pool.allocate(node as usize),
            Addresses::Imported { taken, near, anywhere } => {
                let near = near.get(node as usize).copied().flatten();
                let from = instead_of.or(near).unwrap_or(*anywhere);
                let free = (1..65_536).filter_map(|i| plus(from, i)).find(|a| !taken.contains(a))?;
                taken.insert(free);
                Some(free)
            }
        }
    }

    /// Takes an address back.
    pub fn release(&mut self, address: IpAddr) {
        match self {
            Addresses::Generated(pool) => pool.release(address),
            Addresses::Imported { taken, .. } => {
                taken.remove(&address);
            }
        }
    }

    /// A node joins, with the next index.
    pub fn add_node(&mut self) {
        match self {
            Addresses::Generated(pool) => pool.add_node(),
            Addresses::Imported { near, .. } => near.push(None),
        }
    }
}

fn plus(address: IpAddr, n: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(n).map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        IpAddr::V6(v6) => u128::from(v6).checked_add(u128::from(n)).map(|a| IpAddr::V6(Ipv6Addr::from(a))),
    }
}
