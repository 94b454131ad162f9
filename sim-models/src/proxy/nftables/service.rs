//! The chains, sets and elements of one service port (`pkg/proxy/nftables/proxier.go:syncProxyRules`).

use super::base::{addr_in, mark_statement};
use super::{Sets, Shape};
use crate::kernel::nftables::{
    ChainId, Element, Field, Key, KeyType, KeyValue, Rule, Set, SetId, Statement, Table, Verdict,
};
use crate::kube::{Endpoint, ServicePort};
use crate::proxy::local::LocalDetector;
use crate::proxy::names::{nft_endpoint_base as endpoint_base, nft_service_base as service_base};
use ipnet::IpNet;
use smallvec::smallvec;
use std::net::IpAddr;
use std::sync::Arc;

/// What a service port needs, from its policies and endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Traffic to the cluster IP finds an endpoint.
    pub internal: bool,
    /// Traffic from outside finds an endpoint.
    pub external: bool,
    /// A `service-` chain.
    pub cluster_chain: bool,
    /// A `local-` chain.
    pub local_chain: bool,
    /// An `external-` chain.
    pub external_chain: bool,
    /// A `firewall-` chain.
    pub firewall_chain: bool,
}

impl Needs {
    pub(super) fn of(port: &ServicePort) -> Self {
        let e = &port.endpoints;
        Needs {
            internal: port.has_internal_endpoints(),
            external: port.has_external_endpoints(),
            cluster_chain: port.uses_cluster_endpoints() && !e.cluster.is_empty(),
            local_chain: port.uses_local_endpoints() && !e.local.is_empty(),
            external_chain: e.has_any && port.externally_accessible(),
            firewall_chain: !port.load_balancer_vips.is_empty() && !port.source_ranges.is_empty(),
        }
    }
}

/// Writes one service port: chains, affinity sets, elements, rules.
pub(super) fn write(table: &mut Table, shape: &Shape, sets: &Sets, port: &ServicePort) {
    let needs = Needs::of(port);
    add_chains(table, shape, port, &needs);
    for (set, element) in elements(table, sets, port, &needs) {
        table.sets[set.0 as usize].elements.push(element);
    }
    if port.affinity_seconds.is_some() {
        add_affinity_sets(table, port);
    }
    for (chain, rules) in rules(table, shape, port, &needs) {
        table.chains[chain.0 as usize].rules = rules;
    }
}

fn has_endpoint_chains(shape: &Shape, port: &ServicePort) -> bool {
    shape.endpoint_chains || port.affinity_seconds.is_some()
}

/// Adds the chains of a service port, in kube-proxy's order.
pub(super) fn add_chains(table: &mut Table, shape: &Shape, port: &ServicePort, needs: &Needs) {
    let base = service_base(port);
    if has_endpoint_chains(shape, port) && !shape.endpoint_chains {
        add_endpoint_chains(table, port);
    }
    let wanted = [
        ("service-", needs.cluster_chain),
        ("local-", needs.local_chain),
        ("external-", needs.external_chain),
        ("firewall-", needs.firewall_chain),
    ];
    for (prefix, _) in wanted.into_iter().filter(|(_, w)| *w) {
        table.add_chain(&format!("{prefix}{base}"));
    }
    if shape.endpoint_chains {
        add_endpoint_chains(table, port);
    }
}

fn add_endpoint_chains(table: &mut Table, port: &ServicePort) {
    for e in &port.endpoints.reachable {
        table.add_chain(&format!("endpoint-{}", endpoint_base(port, e.addr)));
    }
}

/// Adds a set for every reachable endpoint that has none.
pub(super) fn add_affinity_sets(table: &mut Table, port: &ServicePort) {
    for e in &port.endpoints.reachable {
        let name = format!("affinity-{}", endpoint_base(port, e.addr));
        if table.find_set(&name).is_none() {
            table.add_set(Set {
                name: name.into(),
                key: smallvec![KeyType::Addr],
                is_map: false,
                comment: None,
                timeout_seconds: port.affinity_seconds,
                elements: Vec::new(),
            });
        }
    }
}

/// The elements that a service port puts into the table's sets and maps.
pub(super) fn elements(
    table: &mut Table,
    sets: &Sets,
    port: &ServicePort,
    needs: &Needs,
) -> Vec<(SetId, Element)> {
    let base = service_base(port);
    let mut out = Vec::new();
    let mut add = |set: SetId, key: Key, verdict: Option<Verdict>, comment: Option<Arc<str>>| {
        out.push((set, Element { key, verdict, comment }));
    };
    if let Some(hairpin) = sets.hairpin {
        for e in port.endpoints.reachable.iter().filter(|e| e.is_local) {
            let ip = KeyValue::Addr(e.addr.ip());
            let key = smallvec![ip, ip, KeyValue::Proto(port.proto), KeyValue::Service(e.addr.port())];
            add(hairpin, key, None, None);
        }
    }
    let reject = table.add_chain("reject-chain");
    let nothing = if port.endpoints.has_any { Verdict::Drop } else { Verdict::Goto(reject) };
    let comment: Option<Arc<str>> = (!needs.internal || !needs.external).then(|| port.full_name().into());
    let at = |ip: IpAddr| -> Key {
        smallvec![KeyValue::Addr(ip), KeyValue::Proto(port.proto), KeyValue::Service(port.port)]
    };
    let goto = |table: &Table, prefix: &str| {
        let name = format!("{prefix}{base}");
        Verdict::Goto(table.find_chain(&name).unwrap_or_else(|| panic!("chain {name} is not there")))
    };

    add(sets.cluster_ips, smallvec![KeyValue::Addr(port.cluster_ip)], None, None);
    if needs.internal {
        let prefix = if port.internal_local { "local-" } else { "service-" };
        add(sets.service_ips, at(port.cluster_ip), Some(goto(table, prefix)), None);
    } else {
        add(sets.no_endpoint_services, at(port.cluster_ip), Some(nothing), comment.clone());
    }
    for &ip in port.external_ips.iter().chain(&port.load_balancer_vips) {
        if needs.external_chain {
            add(sets.service_ips, at(ip), Some(goto(table, "external-")), None);
        }
        if needs.firewall_chain && port.load_balancer_vips.contains(&ip) {
            add(sets.firewall_ips, at(ip), Some(goto(table, "firewall-")), None);
        }
        if !needs.external {
            add(sets.no_endpoint_services, at(ip), Some(nothing), comment.clone());
        }
    }
    if port.node_port != 0 {
        let key: Key = smallvec![KeyValue::Proto(port.proto), KeyValue::Service(port.node_port)];
        if needs.external_chain {
            add(sets.service_nodeports, key.clone(), Some(goto(table, "external-")), None);
        }
        if !needs.external {
            add(sets.no_endpoint_nodeports, key, Some(nothing), comment);
        }
    }
    out
}

/// The rules of every chain of a service port.
pub(super) fn rules(
    table: &mut Table,
    shape: &Shape,
    port: &ServicePort,
    needs: &Needs,
) -> Vec<(ChainId, Vec<Rule>)> {
    let base = service_base(port);
    let mut out = Vec::new();
    let cluster = table.find_chain(&format!("service-{base}"));
    let local = table.find_chain(&format!("local-{base}"));
    if needs.external_chain {
        let chain = table.add_chain(&format!("external-{base}"));
        out.push((chain, external_rules(table, shape, port, needs, cluster, local)));
    }
    if needs.firewall_chain {
        let chain = table.add_chain(&format!("firewall-{base}"));
        out.push((chain, vec![firewall_rule(shape, port)]));
    }
    for (chain, list, is_local, wanted) in [
        (cluster, &port.endpoints.cluster, false, needs.cluster_chain),
        (local, &port.endpoints.local, true, needs.local_chain),
    ] {
        if wanted {
            let chain = chain.expect("the chain was added before its rules");
            let internal = needs.internal && port.internal_local == is_local;
            out.push((chain, policy_rules(table, shape, port, list, internal)));
        }
    }
    if has_endpoint_chains(shape, port) {
        for e in &port.endpoints.reachable {
            let chain = table.add_chain(&format!("endpoint-{}", endpoint_base(port, e.addr)));
            out.push((chain, endpoint_rules(table, shape, port, e)));
        }
    }
    out
}

fn external_rules(
    table: &mut Table,
    shape: &Shape,
    port: &ServicePort,
    needs: &Needs,
    cluster: Option<ChainId>,
    local: Option<ChainId>,
) -> Vec<Rule> {
    let goto = |chain: Option<ChainId>| Statement::Verdict(Verdict::Goto(chain.expect("an added chain")));
    let mark = mark_statement(table, shape);
    let mut rules = Vec::new();
    if !port.external_local {
        rules.push(Rule::new([mark]).comment("masquerade"));
    } else if needs.cluster_chain {
        if let Some(LocalDetector::Cidr(net)) = shape.local {
            let pod = Statement::Addr { field: Field::SrcAddr, net, negate: false };
            rules.push(Rule::new([pod, goto(cluster)]).comment("short-circuit pod traffic"));
        }
        let node = Statement::FibLocal { field: Field::SrcAddr };
        rules.push(Rule::new([node.clone(), mark]).comment("masquerade local traffic"));
        rules.push(Rule::new([node, goto(cluster)]).comment("short-circuit local traffic"));
    }
    if needs.external {
        rules.push(Rule::new([goto(if port.external_local { local } else { cluster })]));
    }
    rules
}

/// Drops what comes from outside the ranges; the node itself may reach the VIPs if it is inside one.
fn firewall_rule(shape: &Shape, port: &ServicePort) -> Rule {
    let mut nets = port.source_ranges.clone();
    if shape.node_ip.is_some_and(|ip| nets.iter().any(|n| n.contains(&ip))) {
        nets.extend(port.load_balancer_vips.iter().map(|ip| IpNet::from(*ip)));
    }
    Rule::new([addr_in(Field::SrcAddr, &nets, true), Statement::Verdict(Verdict::Drop)])
}

/// The rules that pick one of `list`.
fn policy_rules(
    table: &mut Table,
    shape: &Shape,
    port: &ServicePort,
    list: &[Endpoint],
    internal: bool,
) -> Vec<Rule> {
    if !has_endpoint_chains(shape, port) {
        let backends = list.iter().map(|e| e.addr).collect();
        return vec![Rule::new([Statement::L4Proto(port.proto), Statement::DnatNumgen(backends)])];
    }
    let mut rules = Vec::new();
    if shape.endpoint_chains && internal {
        rules.extend(masquerade_rule(table, shape, port));
    }
    let mut targets = Vec::with_capacity(list.len());
    for e in list {
        let base = endpoint_base(port, e.addr);
        let goto = Verdict::Goto(table.add_chain(&format!("endpoint-{base}")));
        if port.affinity_seconds.is_some() {
            let set = table.find_set(&format!("affinity-{base}")).expect("added before the rules");
            let known = Statement::InSet { fields: smallvec![Field::SrcAddr], set };
            rules.push(Rule::new([known, Statement::Verdict(goto)]));
        }
        targets.push(goto);
    }
    rules.push(Rule::new([Statement::NumgenVmap(targets)]));
    rules
}

/// The older layout's masquerade rule in the chain of the cluster IP.
fn masquerade_rule(table: &mut Table, shape: &Shape, port: &ServicePort) -> Option<Rule> {
    let to_service = [
        Statement::Addr { field: Field::DstAddr, net: port.cluster_ip.into(), negate: false },
        Statement::DstPort(port.proto, port.port),
    ];
    let mark = mark_statement(table, shape);
    if shape.masquerade_all {
        return Some(Rule::new(to_service.into_iter().chain([mark])));
    }
    let Some(LocalDetector::Cidr(net)) = shape.local else { return None };
    let outside = Statement::Addr { field: Field::SrcAddr, net, negate: true };
    Some(Rule::new(to_service.into_iter().chain([outside, mark])))
}

fn endpoint_rules(table: &mut Table, shape: &Shape, port: &ServicePort, e: &Endpoint) -> Vec<Rule> {
    let mut rules = Vec::new();
    if shape.endpoint_chains {
        let hairpin = Statement::Addr { field: Field::SrcAddr, net: e.addr.ip().into(), negate: false };
        rules.push(Rule::new([hairpin, mark_statement(table, shape)]));
    }
    if port.affinity_seconds.is_some() {
        let name = format!("affinity-{}", endpoint_base(port, e.addr));
        let set = table.find_set(&name).expect("added before the rules");
        rules.push(Rule::new([Statement::Update { set, field: Field::SrcAddr }]));
    }
    rules.push(Rule::new([Statement::L4Proto(port.proto), Statement::Dnat(e.addr)]));
    rules
}
