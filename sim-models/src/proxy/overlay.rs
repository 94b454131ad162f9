//! A kernel with the rules of two proxy modes: what one left behind under what another writes.
//!
//! Going over from one mode to another, kube-proxy cleans up only between its families of modes
//! (`cmd/kube-proxy/app/server_linux.go:platformCleanup`): nftables mode removes what iptables and ipvs mode left, both of
//! these remove nftables' table. Between iptables and ipvs mode everything stays that the new mode does not write
//! itself:
//!
//! - a chain that both modes name is emptied and written by the new mode's `iptables-restore --noflush`; all others stay
//!   with their rules, those that reject connections among them;
//! - a jump from a built-in chain is added in front of it unless the same jump is there (`utiliptables.EnsureRule`);
//! - ipsets, addresses of kube-ipvs0 and virtual servers stay: nobody but ipvs mode looks at them;
//! - kernel settings stay where the new mode does not make them.
//!
//! Left out: two backends of iptables on one node, and what becomes of a leftover chain that is stale by the new mode's
//! naming (`KUBE-SVC-...` under ipvs mode, which nothing leads to any more).

use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Chain, ChainId, Rule, Table, Target};
use std::sync::Arc;

/// Whether kube-proxy in mode `to` leaves the rules of mode `from` as they are when it starts.
pub fn leaves_behind(from: &str, to: &str) -> bool {
    let runs_iptables = |name| super::mode(name).is_some_and(|mode| mode.runs_iptables());
    from != to && runs_iptables(from) == runs_iptables(to)
}

/// The rules of a kernel that had `old` when another mode wrote `new`.
///
/// # Panics
/// If the two were written by different backends of iptables.
pub fn overlay(old: &NodeRules, new: &NodeRules) -> NodeRules {
    if new.nftables.is_some() || old.nftables.is_some() {
        // One of them was cleaned up.
        return new.clone();
    }
    assert_eq!(old.xtables_backend, new.xtables_backend, "one node, one iptables");
    let mut rules = new.clone();
    rules.xtables = old.xtables.clone();
    for table in &new.xtables {
        match rules.xtables.iter_mut().find(|t| t.name == table.name) {
            Some(under) => restore(under, table),
            None => rules.xtables.push(table.clone()),
        }
    }
    let named = |name: &str| new.ipsets.iter().any(|set| *set.name == *name);
    rules.ipsets.extend(old.ipsets.iter().filter(|set| !named(&set.name)).cloned());
    let is_ipvs = |rules: &NodeRules| !rules.ipsets.is_empty();
    if !is_ipvs(new) {
        // A mode with virtual servers deletes those that it does not want; another does not know of any.
        (rules.ipvs, rules.dummy_addrs) = (old.ipvs.clone(), old.dummy_addrs.clone());
        (rules.ipvs_tables, rules.ipvs_timeouts) = (old.ipvs_tables, old.ipvs_timeouts);
    }
    let set = |name: &String| new.sysctls.iter().any(|(other, _)| other == name);
    rules.sysctls = old.sysctls.iter().filter(|(name, _)| !set(name)).cloned().collect();
    rules.sysctls.extend(new.sysctls.iter().cloned());
    rules
}

/// `iptables-restore --noflush` of the user chains of `new`, and its jumps from built-in chains in front.
fn restore(table: &mut Table, new: &Table) {
    let ids: Vec<ChainId> = new.chains.iter().map(|chain| find_or_add(table, chain)).collect();
    for (chain, id) in new.chains.iter().zip(&ids) {
        let mut rules: Vec<Rule> = chain.rules.iter().map(|rule| renumbered(rule, &ids)).collect();
        let there = &mut table.chains[id.0 as usize].rules;
        if chain.base.is_some() {
            rules.retain(|rule| !there.contains(rule));
            rules.append(there);
        }
        *there = rules;
    }
}

fn find_or_add(table: &mut Table, chain: &Chain) -> ChainId {
    table.chain_id(&chain.name).unwrap_or_else(|| {
        let added = Chain { name: Arc::clone(&chain.name), base: chain.base, rules: Vec::new() };
        // Built-in chains come first; only tables that another mode has whole lack one.
        assert!(chain.base.is_none(), "table {:?} without {}", table.name, chain.name);
        table.chains.push(added);
        ChainId(table.chains.len() as u32 - 1)
    })
}

/// The rule with the numbers that its table's chains have in another.
fn renumbered(rule: &Rule, ids: &[ChainId]) -> Rule {
    let mut rule = rule.clone();
    if let Some(Target::Jump(to) | Target::Goto(to)) = &mut rule.target {
        *to = ids[to.0 as usize];
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyConfig;
    use crate::kernel::path::{NodeState, Origin, Stack, cross};
    use crate::kernel::xtables::TableName;
    use crate::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
    use sim_core::classify::{Family, Packet, Verdict};
    use sim_core::units::SimTime;
    use std::net::IpAddr;

    const VIP: [u8; 4] = [10, 96, 0, 1];

    /// The rules of one Service with these pods, under a mode.
    fn rules(mode: &str, pods: &[u8]) -> NodeRules {
        let endpoint = |&n: &u8| Endpoint { addr: ([10, 244, 1, n], 8080).into(), is_local: false };
        let lists = EndpointLists::ready(pods.iter().map(endpoint).collect());
        let port = ServicePort::http("ns", "a", VIP.into(), lists);
        let node_ips = vec![[192, 168, 0, 2].into()];
        let objects = ProxyObjects { ports: vec![port], node_ips, ..ProxyObjects::default() };
        let config = ProxyConfig {
            mode: mode.to_owned(),
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            ..ProxyConfig::default()
        };
        crate::proxy::mode(mode).unwrap().build(&objects, &config, Family::Ipv4)
    }

    /// What becomes of a pod's packet to the Service.
    fn verdict(rules: &NodeRules) -> Verdict {
        let stack = Stack::new(rules, 1).unwrap();
        let node: IpAddr = [192, 168, 0, 2].into();
        let mut state = NodeState::new(1, "node", 1, &[node]);
        let syn = Packet::tcp_syn([10, 244, 0, 5].into(), 40_000, VIP.into(), 80);
        cross(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO).verdict
    }

    fn goes_to(verdict: Verdict) -> Option<IpAddr> {
        match verdict {
            Verdict::Dnat { to, .. } => Some(to.ip()),
            _ => None,
        }
    }

    fn table(rules: &NodeRules, name: TableName) -> &Table {
        rules.xtables.iter().find(|t| t.name == name).unwrap()
    }

    fn chain<'a>(table: &'a Table, name: &str) -> Option<&'a Chain> {
        table.chains.iter().find(|c| &*c.name == name)
    }

    #[test]
    fn only_between_iptables_and_ipvs_mode_nothing_is_cleaned_up() {
        let names = ["iptables", "ipvs", "nftables"];
        let pairs = names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to)));
        let left: Vec<_> = pairs.filter(|(from, to)| leaves_behind(from, to)).collect();
        assert_eq!(left, [("iptables", "ipvs"), ("ipvs", "iptables")]);
    }

    #[test]
    fn iptables_mode_under_ipvs_loses_its_portals_and_keeps_its_endpoints_chains_and_rejections() {
        let (old, new) = (rules("iptables", &[]), rules("ipvs", &[7]));
        let both = overlay(&old, &new);
        let (nat, filter) = (table(&both, TableName::Nat), table(&both, TableName::Filter));
        // Same name: the new mode's rules. Only the old mode's name: as it was.
        let services = chain(nat, "KUBE-SERVICES").unwrap();
        let wanted = chain(table(&new, TableName::Nat), "KUBE-SERVICES").unwrap();
        assert_eq!(services.rules.len(), wanted.rules.len());
        let refusals = chain(filter, "KUBE-SERVICES").unwrap();
        assert!(refusals.rules.iter().any(|rule| rule.target == Some(Target::Reject)));
        // The jump that both have is there once.
        assert_eq!(chain(nat, "PREROUTING").unwrap().rules.len(), 1);
        assert_eq!(both.ipvs.len(), 1);
        // The refusal stands in FORWARD and OUTPUT, and IPVS has taken the packet before.
        assert_eq!(goes_to(verdict(&both)), Some([10, 244, 1, 7].into()));
        assert!(
            overlay(&rules("iptables", &[3]), &new)
                .xtables
                .iter()
                .any(|t| { t.chains.iter().any(|c| c.name.starts_with("KUBE-SEP-") && !c.rules.is_empty()) })
        );
    }

    #[test]
    fn ipvs_mode_under_iptables_goes_on_serving_what_the_new_mode_has_no_endpoint_for() {
        let old = rules("ipvs", &[3]);
        let both = overlay(&old, &rules("iptables", &[7]));
        // NAT comes before routing, so that the virtual server is asked by nobody ...
        assert_eq!(goes_to(verdict(&both)), Some([10, 244, 1, 7].into()));
        assert_eq!((both.ipvs.len(), both.dummy_addrs.len()), (1, 1));
        // ... until the last endpoint is gone: the address is still the node's own, and its server knows a pod.
        let (alone, both) = (rules("iptables", &[]), overlay(&old, &rules("iptables", &[])));
        assert_eq!(verdict(&alone), Verdict::Reject);
        assert_eq!(goes_to(verdict(&both)), Some([10, 244, 1, 3].into()));
    }

    #[test]
    fn nftables_mode_is_over_what_iptables_left_as_if_that_had_never_been() {
        for (from, to) in [("iptables", "nftables"), ("ipvs", "nftables"), ("nftables", "ipvs")] {
            let (old, new) = (rules(from, &[3]), rules(to, &[7]));
            let both = overlay(&old, &new);
            assert_eq!(both.xtables.len(), new.xtables.len(), "{from} under {to}");
            assert_eq!((both.ipvs.len(), both.nftables.is_some()), (new.ipvs.len(), new.nftables.is_some()));
            assert_eq!(goes_to(verdict(&both)), Some([10, 244, 1, 7].into()), "{from} under {to}");
        }
    }
}
