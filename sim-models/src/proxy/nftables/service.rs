//! What one service port writes (`pkg/proxy/nftables/proxier.go:syncProxyRules`, `writeServiceToEndpointRules`).

use super::base::{addr_in, mark_statement};
use super::sink::Sink;
use super::{Sets, Shape};
use crate::kernel::nftables::{
    ChainId, Element, Field, Key, KeyType, KeyValue, Rule, Set, SetId, Statement, Table, Verdict,
};
use crate::kube::{Endpoint, ServicePort};
use crate::proxy::names::{nft_endpoint_base as endpoint_base, nft_service_base as service_base};
use ipnet::IpNet;
use smallvec::smallvec;
use std::net::IpAddr;
use std::sync::Arc;

/// Which chains a service port has.
struct Needs {
    internal: bool,
    external: bool,
    cluster_chain: bool,
    local_chain: bool,
    external_chain: bool,
    firewall_chain: bool,
    endpoint_chains: bool,
}

impl Needs {
    fn of(shape: &Shape, port: &ServicePort) -> Self {
        let e = &port.endpoints;
        Needs {
            internal: port.has_internal_endpoints(),
            external: port.has_external_endpoints(),
            cluster_chain: port.uses_cluster_endpoints() && !e.cluster.is_empty(),
            local_chain: port.uses_local_endpoints() && !e.local.is_empty(),
            external_chain: e.has_any && port.externally_accessible(),
            firewall_chain: !port.load_balancer_vips.is_empty() && !port.source_ranges.is_empty(),
            endpoint_chains: shape.endpoint_chains || port.affinity_seconds.is_some(),
        }
    }
}

/// The chains of a service port that are there.
#[derive(Default)]
struct Chains {
    cluster: Option<ChainId>,
    local: Option<ChainId>,
    external: Option<ChainId>,
    firewall: Option<ChainId>,
    /// One for each reachable endpoint, or none.
    endpoints: Vec<ChainId>,
}

/// Writes one service port: chains, elements, affinity sets, rules.
pub(super) fn write(to: &mut impl Sink, shape: &Shape, sets: &Sets, port: &ServicePort) {
    let needs = Needs::of(shape, port);
    let base = service_base(port);
    let bases: Vec<String> = if needs.endpoint_chains {
        port.endpoints.reachable.iter().map(|e| endpoint_base(port, e.addr)).collect()
    } else {
        Vec::new()
    };
    let mut chains = Chains::default();
    // The older layout is in the order of the script that it was measured with.
    let endpoints_last = shape.endpoint_chains;
    if !endpoints_last {
        endpoint_chains(to, sets, port, &bases, &mut chains);
    }
    let chain =
        |to: &mut _, prefix, wanted: bool| wanted.then(|| Sink::chain(to, &[prefix, base.as_str()].concat()));
    chains.cluster = chain(to, "service-", needs.cluster_chain);
    chains.local = chain(to, "local-", needs.local_chain);
    chains.external = chain(to, "external-", needs.external_chain);
    if endpoints_last {
        endpoint_chains(to, sets, port, &bases, &mut chains);
    }
    cluster_and_external_ips(to, sets, port, &needs, &chains);
    chains.firewall = chain(to, "firewall-", needs.firewall_chain);
    load_balancer_and_node_ports(to, sets, port, &needs, &chains);

    let internal = if port.internal_local { chains.local } else { chains.cluster };
    if let (true, true, Some(chain)) = (shape.endpoint_chains, needs.internal, internal) {
        masquerade_rule(to, shape, port, chain);
    }
    external_rules(to, shape, port, &needs, &chains);
    if let Some(chain) = chains.firewall {
        firewall_rule(to, shape, port, chain);
    }
    if let Some(seconds) = port.affinity_seconds {
        for base in &bases {
            to.set(affinity_set(base, seconds));
        }
    }
    for (chain, list) in [(chains.cluster, &port.endpoints.cluster), (chains.local, &port.endpoints.local)] {
        if let Some(chain) = chain {
            policy_rules(to, port, list, &bases, &chains, chain);
        }
    }
    for ((e, base), chain) in port.endpoints.reachable.iter().zip(&bases).zip(chains.endpoints) {
        endpoint_rules(to, shape, port, e, base, chain);
    }
}

/// Chains of endpoints where there are any, and what tells connections of a local endpoint to itself.
fn endpoint_chains(
    to: &mut impl Sink,
    sets: &Sets,
    port: &ServicePort,
    bases: &[String],
    chains: &mut Chains,
) {
    for (i, e) in port.endpoints.reachable.iter().enumerate() {
        if let Some(base) = bases.get(i) {
            chains.endpoints.push(to.chain(&["endpoint-", base].concat()));
        }
        if let (true, Some(set)) = (e.is_local, sets.hairpin) {
            let ip = KeyValue::Addr(e.addr.ip());
            let key = smallvec![ip, ip, KeyValue::Proto(port.proto), KeyValue::Service(e.addr.port())];
            to.element(set, Element { key, verdict: None, comment: None });
        }
    }
}

fn affinity_set(base: &str, seconds: u32) -> Set {
    Set {
        name: ["affinity-", base].concat().into(),
        key: smallvec![KeyType::Addr],
        is_map: false,
        comment: None,
        timeout_seconds: Some(seconds),
        elements: Vec::new(),
    }
}

fn goto(chain: Option<ChainId>) -> Verdict {
    Verdict::Goto(chain.expect("a chain that was added before what goes there"))
}

/// The key of an address of this port.
fn at(port: &ServicePort, ip: IpAddr) -> Key {
    smallvec![KeyValue::Addr(ip), KeyValue::Proto(port.proto), KeyValue::Service(port.port)]
}

fn mapped(key: Key, verdict: Verdict) -> Element {
    Element { key, verdict: Some(verdict), comment: None }
}

/// What becomes of traffic for which there is no endpoint: refused if there is none anywhere.
fn unserved(to: &mut impl Sink, port: &ServicePort, key: Key) -> Element {
    let reject = to.table().find_chain("reject-chain");
    let verdict = if port.endpoints.has_any { Verdict::Drop } else { goto(reject) };
    let comment: Arc<str> = port.full_name().into();
    Element { key, verdict: Some(verdict), comment: Some(comment) }
}

fn cluster_and_external_ips(
    to: &mut impl Sink,
    sets: &Sets,
    port: &ServicePort,
    needs: &Needs,
    chains: &Chains,
) {
    let key = smallvec![KeyValue::Addr(port.cluster_ip)];
    to.element(sets.cluster_ips, Element { key, verdict: None, comment: None });
    if needs.internal {
        let chain = if port.internal_local { chains.local } else { chains.cluster };
        to.element(sets.service_ips, mapped(at(port, port.cluster_ip), goto(chain)));
    } else {
        let element = unserved(to, port, at(port, port.cluster_ip));
        to.element(sets.no_endpoint_services, element);
    }
    for &ip in &port.external_ips {
        if needs.external_chain {
            to.element(sets.service_ips, mapped(at(port, ip), goto(chains.external)));
        }
        if !needs.external {
            let element = unserved(to, port, at(port, ip));
            to.element(sets.no_endpoint_services, element);
        }
    }
}

fn load_balancer_and_node_ports(
    to: &mut impl Sink,
    sets: &Sets,
    port: &ServicePort,
    needs: &Needs,
    chains: &Chains,
) {
    for &ip in &port.load_balancer_vips {
        if needs.external_chain {
            to.element(sets.service_ips, mapped(at(port, ip), goto(chains.external)));
        }
        if needs.firewall_chain {
            to.element(sets.firewall_ips, mapped(at(port, ip), goto(chains.firewall)));
        }
    }
    if !needs.external {
        for &ip in &port.load_balancer_vips {
            let element = unserved(to, port, at(port, ip));
            to.element(sets.no_endpoint_services, element);
        }
    }
    if port.node_port != 0 {
        let key: Key = smallvec![KeyValue::Proto(port.proto), KeyValue::Service(port.node_port)];
        if needs.external_chain {
            to.element(sets.service_nodeports, mapped(key.clone(), goto(chains.external)));
        }
        if !needs.external {
            let element = unserved(to, port, key);
            to.element(sets.no_endpoint_nodeports, element);
        }
    }
}

fn external_rules(to: &mut impl Sink, shape: &Shape, port: &ServicePort, needs: &Needs, chains: &Chains) {
    let Some(chain) = chains.external else { return };
    let mark = mark_statement(to.table(), shape);
    if !port.external_local {
        to.rule(chain, Rule::new([mark]).comment("masquerade"));
    } else if needs.cluster_chain {
        let go = Statement::Verdict(goto(chains.cluster));
        if let Some(local) = &shape.local {
            let pod = local.statement(true);
            to.rule(chain, Rule::new([pod, go.clone()]).comment("short-circuit pod traffic"));
        }
        let node = Statement::FibLocal { field: Field::SrcAddr };
        to.rule(chain, Rule::new([node.clone(), mark]).comment("masquerade local traffic"));
        to.rule(chain, Rule::new([node, go]).comment("short-circuit local traffic"));
    }
    if needs.external {
        let policy = if port.external_local { chains.local } else { chains.cluster };
        to.rule(chain, Rule::new([Statement::Verdict(goto(policy))]));
    }
}

/// Drops what comes from outside the ranges; the node itself may reach the VIPs if it is inside one.
fn firewall_rule(to: &mut impl Sink, shape: &Shape, port: &ServicePort, chain: ChainId) {
    let node_inside = shape.node_ip.is_some_and(|ip| port.source_ranges.iter().any(|n| n.contains(&ip)));
    let vips: &[IpAddr] = if node_inside { &port.load_balancer_vips } else { &[] };
    let mut nets = port.source_ranges.clone();
    nets.extend(vips.iter().map(|ip| IpNet::from(*ip)));
    let rule = Rule::new([addr_in(Field::SrcAddr, &nets, true), Statement::Verdict(Verdict::Drop)]);
    to.rule_with_set(chain, rule, &|| {
        let ranges = port.source_ranges.iter().map(ToString::to_string);
        ranges.chain(vips.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" , ")
    });
}

/// The rules of `chain`, which picks one of `list`.
fn policy_rules(
    to: &mut impl Sink,
    port: &ServicePort,
    list: &[Endpoint],
    bases: &[String],
    chains: &Chains,
    chain: ChainId,
) {
    if bases.is_empty() {
        let backends = list.iter().map(|e| e.addr).collect();
        to.rule(chain, Rule::new([Statement::L4Proto(port.proto), Statement::DnatNumgen(backends)]));
        return;
    }
    let mut targets = Vec::with_capacity(list.len());
    for e in list {
        let reachable = &port.endpoints.reachable;
        let i = reachable.iter().position(|r| r.addr == e.addr).expect("what is picked can be reached");
        let verdict = Verdict::Goto(chains.endpoints[i]);
        if port.affinity_seconds.is_some() {
            let set = affinity_of(to.table(), &bases[i]);
            let known = Statement::InSet { fields: smallvec![Field::SrcAddr], set };
            to.rule(chain, Rule::new([known, Statement::Verdict(verdict)]));
        }
        targets.push(verdict);
    }
    to.rule(chain, Rule::new([Statement::NumgenVmap(targets)]));
}

fn affinity_of(table: &Table, base: &str) -> SetId {
    table.find_set(&["affinity-", base].concat()).expect("a set that was added before the rules")
}

/// The older layout's masquerade rule in the chain of the cluster IP.
fn masquerade_rule(to: &mut impl Sink, shape: &Shape, port: &ServicePort, chain: ChainId) {
    let to_service = [
        Statement::Addr { field: Field::DstAddr, net: port.cluster_ip.into(), negate: false },
        Statement::DstPort(port.proto, port.port),
    ];
    let mark = mark_statement(to.table(), shape);
    if shape.masquerade_all {
        to.rule(chain, Rule::new(to_service.into_iter().chain([mark])));
    } else if let Some(local) = &shape.local {
        let outside = local.statement(false);
        to.rule(chain, Rule::new(to_service.into_iter().chain([outside, mark])));
    }
}

fn endpoint_rules(
    to: &mut impl Sink,
    shape: &Shape,
    port: &ServicePort,
    e: &Endpoint,
    base: &str,
    chain: ChainId,
) {
    if shape.endpoint_chains {
        let hairpin = Statement::Addr { field: Field::SrcAddr, net: e.addr.ip().into(), negate: false };
        let mark = mark_statement(to.table(), shape);
        to.rule(chain, Rule::new([hairpin, mark]));
    }
    if port.affinity_seconds.is_some() {
        let set = affinity_of(to.table(), base);
        to.rule(chain, Rule::new([Statement::Update { set, field: Field::SrcAddr }]));
    }
    to.rule(chain, Rule::new([Statement::L4Proto(port.proto), Statement::Dnat(e.addr)]));
}
