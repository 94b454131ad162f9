//! How much the rules of a Service port are, and what a sync of iptables mode does with them.
//!
//! Source: `pkg/proxy/iptables/proxier.go:syncProxyRules`. A full sync runs iptables for every jump from a built-in
//! chain, twice where it is there (`-N` of its chain, `-C`), three times where it is not; before 1.27 every sync did and every
//! sync was full (KEP-3453; pull request 114181 counted 24 runs). Then iptables-save looks for stale chains, and one
//! iptables-restore writes what there is to write.
//!
//! Assumed of the node: one address, inside no source range; with `nodePortAddresses` one of its addresses
//! answers. Left out: the clean-up of conntrack, comments that stay from before the cluster was large, and chains
//! that wait for their deletion.

use super::mode::Iptables;
use super::{LARGE_CLUSTER_ENDPOINTS, SyncContext, service_rules};
use crate::config::{ProxyConfig, XtablesBackend};
use crate::kernel::xtables::{Chain, ChainId, Match, Rule, Target};
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::Simulated;
use crate::proxy::sync::xtables::Rules;
use crate::proxy::sync::{Size, SyncKind, SyncShape, SyncWork, xtables, xtables_nft};
use sim_core::classify::Family;

/// First Kubernetes minor version that writes only what changed, and leaves the jumps alone between full syncs.
pub const FIRST_MINOR_WITH_PARTIAL_SYNC: u32 = 27;

/// Index that the chains of a port are given while they are counted: behind all fixed ones.
const FIRST_CHAIN: ChainId = ChainId(64);

impl Simulated for Iptables {
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size {
        let objects = ProxyObjects {
            node_ips: vec![crate::proxy::sync::unspecified(family)],
            ..ProxyObjects::default()
        };
        let cx = SyncContext::new(&objects, config, family);
        let rules = service_rules(port, FIRST_CHAIN, &cx);
        let shared: Vec<Rule> = rules.filter.into_iter().chain(rules.nat).map(|(_, rule)| rule).collect();
        let common = Rules::of_chain(&Chain { name: "".into(), base: None, rules: shared });
        let own = rules.nat_chains.iter().map(Rules::of_chain).fold(Rules::default(), std::ops::Add::add);
        Size {
            ports: 1,
            v6_ports: u64::from(family == Family::Ipv6),
            reachable: port.endpoints.reachable.len() as u64,
            endpoints: u64::from(port.endpoints.total),
            common_rules: common.rules,
            common_matches: common.matches,
            common_jumps: common.jumps,
            common_port_names: common.port_names,
            own_rules: own.rules,
            own_matches: own.matches,
            own_comments: comments_of_endpoints(&rules.nat_chains),
            own_statistics: own.statistics,
            own_recents: own.recents,
            own_jumps: own.jumps,
            own_port_names: own.port_names,
            chains: own.chains,
            ..Size::default()
        }
    }

    fn sync(&self, shape: &SyncShape, config: &ProxyConfig) -> SyncWork {
        let large = shape.table.endpoints > LARGE_CLUSTER_ENDPOINTS;
        let fixed = fixed(shape, config);
        let all = |size: &Size| common(size) + own(size, large) + fixed;
        let always_full = config.kubernetes_minor < FIRST_MINOR_WITH_PARTIAL_SYNC;
        let whole = always_full || shape.kind != SyncKind::Partial;
        let written = if whole { shape.table } else { shape.written };
        let text = common(&shape.table) + fixed + own(&written, large);
        let (before, after) = match shape.kind {
            // A clean node has kube-proxy's fixed chains by then, empty.
            SyncKind::First if shape.before == Size::default() => (Rules::default(), all(&shape.table)),
            _ => (all(&shape.before), all(&shape.table)),
        };
        let nft = config.backend == XtablesBackend::Nft;
        let (check, save) = match nft {
            false => (xtables::check as fn(Rules) -> SyncWork, xtables::save as fn(Rules) -> SyncWork),
            true => (xtables_nft::check as fn(Rules) -> SyncWork, xtables_nft::save as fn(Rules) -> SyncWork),
        };
        let mut work = match nft {
            false => xtables::restore(text, before, after),
            true => xtables_nft::restore(text, before, after, shape.table.common_rules),
        };
        let jumps: u64 = if config.kubernetes_minor < FIRST_MINOR_WITH_PARTIAL_SYNC { 12 } else { 14 };
        // On a node without rules each jump is made: one run more.
        let runs = if before == Rules::default() { 3 } else { 2 };
        if whole {
            for jump in 0..jumps * runs {
                work += check(if jump < NAT_JUMPS * runs { before } else { Rules::default() });
            }
        }
        if shape.look_for_stale || shape.kind == SyncKind::First {
            work += save(before);
            work.parsed_chains = before.chains;
        }
        // Chains that are written are flushed first.
        if !nft && before != Rules::default() {
            let replaced = if whole { shape.before } else { shape.replaced };
            work.flushed_rules = shape.before.common_rules + replaced.own_rules + fixed.rules;
        }
        work.syncs = 1;
        work.service_ports = shape.table.ports;
        work.composed_rules = text.rules;
        work
    }
}

/// Jumps of table nat: two to KUBE-SERVICES, one to KUBE-POSTROUTING.
const NAT_JUMPS: u64 = 3;

/// Comments that large-cluster mode leaves out: those of endpoints' chains and of the rules that lead there.
fn comments_of_endpoints(chains: &[Chain]) -> u64 {
    let is_endpoints = |chain: &Chain| chain.name.starts_with("KUBE-SEP-");
    let leads_there = |rule: &Rule| match rule.target {
        Some(Target::Jump(id) | Target::Goto(id)) => id
            .0
            .checked_sub(FIRST_CHAIN.0)
            .and_then(|at| chains.get(at as usize))
            .is_some_and(is_endpoints),
        _ => false,
    };
    let mut sum = 0;
    for chain in chains {
        let rules = chain.rules.iter().filter(|rule| is_endpoints(chain) || leads_there(rule));
        let comments = rules.flat_map(|rule| &rule.matches).filter(|m| matches!(m, Match::Comment(_)));
        sum += comments.count() as u64;
    }
    sum
}

fn common(size: &Size) -> Rules {
    Rules {
        rules: size.common_rules,
        matches: size.common_matches,
        jumps: size.common_jumps,
        port_names: size.common_port_names,
        ..Rules::default()
    }
}

fn own(size: &Size, large: bool) -> Rules {
    Rules {
        rules: size.own_rules,
        chains: size.chains,
        matches: size.own_matches - if large { size.own_comments } else { 0 },
        statistics: size.own_statistics,
        recents: size.own_recents,
        port_names: size.own_port_names,
        jumps: size.own_jumps,
        extensions: u32::from(size.own_statistics > 0),
    }
}

/// What every sync writes whatever the Services are: KUBE-FORWARD, KUBE-POSTROUTING, KUBE-MARK-MASQ, the last rule of
/// KUBE-SERVICES, and for IPv4 KUBE-FIREWALL.
fn fixed(shape: &SyncShape, config: &ProxyConfig) -> Rules {
    let v4 = shape.table.v6_ports + shape.before.v6_ports == 0;
    let node_port_ips = config.node_port_addresses == crate::config::NodePortAddresses::Unset;
    let firewall = u64::from(v4 && config.localhost_node_ports && node_port_ips);
    let invalid = u64::from(!config.conntrack.tcp_be_liberal);
    Rules {
        rules: 7 + firewall + invalid,
        matches: 8 + 2 * firewall + 2 * invalid,
        chains: 11,
        jumps: 1,
        extensions: xtables::USUAL,
        ..Rules::default()
    }
}
