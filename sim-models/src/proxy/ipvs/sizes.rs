//! How much a Service port is in ipvs mode, and what a sync does with it.
//!
//! Source: `pkg/proxy/ipvs/proxier.go:syncProxyRules`, `ipset.go:syncIPSetEntries`. Every sync does everything: each
//! virtual server and its real servers are read over netlink, each ipset is listed by a run of ipset, entries that differ
//! go by one run each, and iptables-restore writes its few rules. No such sync was measured: the prices are those of
//! the tools, which makes the same requests one by one.
//!
//! Assumed of the node: one address. Left out: graceful termination's later looks.

use super::mode::Ipvs;
use crate::config::ProxyConfig;
use crate::kernel::rules::NodeRules;
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::Simulated;
use crate::proxy::sync::xtables::Rules;
use crate::proxy::sync::{Size, SyncKind, SyncShape, SyncWork, ipvs, unspecified, xtables};
use sim_core::classify::Family;

/// ipsets of the mode (`ipset.go:ipsetInfo`).
const SETS: u64 = 16;
/// Its rules and chains of tables nat and filter with sets for everything, about (`proxier.go:writeIptablesRules`).
const RULES: Rules =
    Rules { rules: 35, chains: 11, matches: 60, statistics: 0, recents: 0, port_names: 0, jumps: 22, extensions: xtables::USUAL };
/// Runs of iptables that make sure of chains and jumps (`createAndLinkKubeChain`): of each of 11 chains `-N`, of 9 jumps `-C`.
const ENSURE: u64 = 20;

fn size_of(rules: &NodeRules) -> Size {
    Size {
        elements: rules.ipsets.iter().map(|s| s.elements.len() as u64).sum(),
        servers: rules.ipvs.len() as u64,
        destinations: rules.ipvs.iter().map(|v| v.real.len() as u64).sum(),
        addresses: rules.dummy_addrs.len() as u64,
        ..Size::default()
    }
}

impl Simulated for Ipvs {
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size {
        let node_ips = vec![unspecified(family)];
        let objects = ProxyObjects { ports: vec![port.clone()], node_ips, ..ProxyObjects::default() };
        Size {
            ports: 1,
            v6_ports: u64::from(family == Family::Ipv6),
            reachable: port.endpoints.reachable.len() as u64,
            endpoints: u64::from(port.endpoints.total),
            ..size_of(&super::build(&objects, config, family))
        }
    }

    fn sync(&self, shape: &SyncShape, config: &ProxyConfig) -> SyncWork {
        let clean = shape.before == Size::default();
        let before = if clean { Rules::default() } else { RULES };
        let mut work = xtables::restore(RULES, before, RULES);
        work.execs += ENSURE;
        // Each set is made sure of and listed; each entry that differs is a run of its own.
        let entries = shape.written.elements.abs_diff(shape.replaced.elements);
        let entries = if clean { shape.table.elements } else { entries };
        work.ipset_execs = 2 * SETS + entries;
        work.ipset_entries = entries;
        let (servers, destinations) = match clean || shape.kind == SyncKind::First {
            true => (shape.table.servers, shape.table.destinations),
            // Of each changed Service one real server comes and one goes; a new or lost Service comes or goes whole.
            false => {
                let new = shape.written.servers.abs_diff(shape.replaced.servers);
                let of_new = shape.written.destinations.abs_diff(shape.replaced.destinations);
                (new, of_new.max(2 * shape.written.servers.min(shape.replaced.servers)))
            }
        };
        work += SyncWork {
            ipvs_servers: servers,
            ipvs_destinations: destinations,
            ipvs_buckets: destinations * ipvs::scheduler_buckets(&config.ipvs.scheduler),
            ..SyncWork::default()
        };
        // Every virtual server is read, and its real servers.
        work.netlink_requests = 2 * shape.table.servers;
        let (old, new) = (shape.before.addresses, shape.table.addresses);
        if new > old {
            work += ipvs::addresses(new - old, old);
            work.ip_execs = 0;
        }
        work.syncs = 1;
        work.service_ports = shape.table.ports;
        work
    }
}
