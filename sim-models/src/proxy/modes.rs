//! The table of modes: what each is called, since when, what it prints and what its syncs do.
//!
//! Sync work follows `pkg/proxy/{iptables,nftables,ipvs}/proxier.go:syncProxyRules`.

use super::sync::SyncWork;
use super::{ProxyMode, iptables, ipvs, nftables};
use crate::config::ProxyConfig;
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{self, TableName};
use crate::kernel::{ipset, ipvs as kernel_ipvs};
use crate::kube::ProxyObjects;
use sim_core::classify::Family;

/// Endpoints beyond which iptables mode leaves comments out and looks for stale chains less often
/// (`largeClusterEndpointsThreshold`).
const LARGE_CLUSTER: usize = 1000;

/// kube-proxy's iptables mode.
pub struct Iptables;
/// kube-proxy's nftables mode.
pub struct Nftables;
/// kube-proxy's ipvs mode.
pub struct Ipvs;

impl ProxyMode for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }
    fn describe(&self) -> &'static str {
        "a chain per Service and per endpoint; every new connection walks KUBE-SERVICES rule by rule"
    }
    fn versions(&self) -> (u32, u32) {
        (1, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.1, the default since 1.2"
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        iptables::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules) -> String {
        xtables::print::iptables_save(rules)
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let counts = iptables::rule_counts(rules);
        (counts.filter + counts.nat) as u64
    }
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork {
        let table = nat_rules(rules);
        SyncWork {
            // 14 jumps, each with -N, -C and -I; iptables-save; iptables-restore.
            execs: 14 * 3 + 2,
            restore_rules: self.rule_count(rules),
            table_rules: table,
            saved_rules: 0,
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork {
        let changed = |&p: &u32| 2 + 3 * objects.ports[p as usize].endpoints.reachable.len() as u64;
        let changed: u64 = ports.iter().map(changed).sum();
        let all: usize = objects.ports.iter().map(|p| p.endpoints.reachable.len()).sum();
        let large = all > LARGE_CLUSTER;
        let table = nat_rules(rules);
        SyncWork {
            execs: if large { 1 } else { 2 },
            // All of KUBE-SERVICES, the fixed chains, and the chains of the changed Services.
            restore_rules: objects.ports.len() as u64 + 5 + changed,
            table_rules: table,
            saved_rules: if large { 0 } else { table },
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
}

impl ProxyMode for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }
    fn describe(&self) -> &'static str {
        "one map lookup finds the Service, one numbered map the endpoint"
    }
    fn versions(&self) -> (u32, u32) {
        (29, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.29, beta in 1.31, stable in 1.33"
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        nftables::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules) -> String {
        rules.nftables.as_ref().map_or_else(String::new, ToString::to_string)
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let of_table = |t: &crate::kernel::nftables::Table| {
            let rules: usize = t.chains.iter().map(|c| c.rules.len()).sum();
            let elements: usize = t.sets.iter().map(|s| s.elements.len()).sum();
            (rules + elements) as u64
        };
        rules.nftables.as_ref().map_or(0, of_table)
    }
    fn first_sync(&self, objects: &ProxyObjects, _rules: &NodeRules) -> SyncWork {
        let services = objects.ports.len() as u64;
        SyncWork {
            // Seven lists of sets and maps, one of the table, one transaction.
            nft_execs: 9,
            nft_services: services,
            nft_set_pairs: services * services.saturating_sub(1) / 2,
            service_ports: services,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork {
        let services = objects.ports.len() as u64;
        let listed = rules.nftables.as_ref().map_or(0, |t| (t.chains.len() + t.sets.len()) as u64);
        SyncWork {
            nft_partial_execs: 2,
            nft_services: ports.len() as u64,
            nft_listed: listed,
            nft_listed_pairs: services * services.saturating_sub(1) / 2,
            service_ports: services,
            ..SyncWork::default()
        }
    }
}

impl ProxyMode for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }
    fn describe(&self) -> &'static str {
        "a virtual server per Service in the kernel's IPVS, found by hash; deprecated since 1.35"
    }
    fn versions(&self) -> (u32, u32) {
        (8, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.8, beta in 1.9, stable in 1.11, deprecated since 1.35"
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        ipvs::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules) -> String {
        // Each section is what its tool reads back, in an order in which nothing is missing: iptables rules name
        // ipsets. A heading is a comment to ipset restore, iptables-restore and ip -batch.
        let v6 = rules.xtables.iter().any(|table| table.family == Family::Ipv6);
        let mut text = section("ipset save", "ipset restore");
        text.push_str(&ipset::save(&rules.ipsets));
        let (save, restore) =
            if v6 { ("ip6tables-save", "ip6tables-restore") } else { ("iptables-save", "iptables-restore") };
        text.push_str(&section(save, restore));
        text.push_str(&xtables::print::iptables_save(rules));
        text.push_str(&section("kube-ipvs0 and its addresses", "ip -batch -"));
        text.push_str("link add kube-ipvs0 type dummy\n");
        for addr in &rules.dummy_addrs {
            let prefix = if addr.is_ipv4() { 32 } else { 128 };
            text.push_str(&format!("addr add {addr}/{prefix} dev kube-ipvs0\n"));
        }
        text.push_str(&section("ipvsadm -Sn", "ipvsadm -R"));
        text.push_str(&kernel_ipvs::print::save(&rules.ipvs));
        text
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let real: usize = rules.ipvs.iter().map(|v| 1 + v.real.len()).sum();
        let fixed: usize = rules.xtables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
        (real + fixed) as u64
    }
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork {
        let real: u64 = rules.ipvs.iter().map(|v| v.real.len() as u64).sum();
        let servers = rules.ipvs.len() as u64;
        SyncWork {
            // ipset and iptables programs; services and addresses go over netlink.
            execs: 2 * rules.ipsets.len() as u64 + 20,
            // Every service: read, added, its destinations read; every destination: added.
            netlink_requests: 3 * servers + real,
            address_adds: rules.dummy_addrs.len() as u64,
            ipset_entries: rules.ipsets.iter().map(|s| s.elements.len() as u64).sum(),
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork {
        SyncWork {
            execs: rules.ipsets.len() as u64 + 2,
            // Every service and its destinations are read again; of each changed one a destination is added and one taken away.
            netlink_requests: 2 * rules.ipvs.len() as u64 + 2 * ports.len() as u64,
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
}

/// The line above one tool's part of a mode's text: what it is, and the command that loads it.
fn section(what: &str, load: &str) -> String {
    format!("# ---- {what}; load with: {load}\n")
}

fn nat_rules(rules: &NodeRules) -> u64 {
    let nat = rules.xtables.iter().filter(|t| t.name == TableName::Nat);
    nat.flat_map(|t| &t.chains).map(|c| c.rules.len() as u64).sum()
}
