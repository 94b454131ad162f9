//! The part of the table that does not depend on Services (`pkg/proxy/nftables/proxier.go:setupNFTables`).

use super::sink::Sink;
use super::{Sets, Shape};
use crate::kernel::hook::{ChainKind, Hook};
use crate::kernel::nftables::{
    Base, ChainId, Element, Field, KeyType, KeyValue, Rule, Set, SetId, Statement, Table, Verdict,
};
use crate::proxy::node_ports::NodePortIps;
use ipnet::IpNet;
use sim_core::classify::Family;
use smallvec::{SmallVec, smallvec};

/// The chains at the hooks, in order.
pub(super) const BASE_CHAINS: [(&str, ChainKind, Hook, i32); 8] = [
    ("filter-prerouting-pre-dnat", ChainKind::Filter, Hook::Prerouting, -110),
    ("filter-output-pre-dnat", ChainKind::Filter, Hook::Output, -110),
    ("filter-input", ChainKind::Filter, Hook::Input, 0),
    ("filter-forward", ChainKind::Filter, Hook::Forward, 0),
    ("filter-output", ChainKind::Filter, Hook::Output, 0),
    ("nat-prerouting", ChainKind::Nat, Hook::Prerouting, -100),
    ("nat-output", ChainKind::Nat, Hook::Output, -100),
    ("nat-postrouting", ChainKind::Nat, Hook::Postrouting, 100),
];

/// (chain, where new connections come from, whether only new ones), in the order of the jumps.
const JUMPS: [(&str, &str, bool); 11] = [
    ("nodeport-endpoints-check", "filter-input", true),
    ("service-endpoints-check", "filter-input", true),
    ("service-endpoints-check", "filter-forward", true),
    ("service-endpoints-check", "filter-output", true),
    ("firewall-check", "filter-prerouting-pre-dnat", true),
    ("firewall-check", "filter-output-pre-dnat", true),
    ("services", "nat-output", false),
    ("services", "nat-prerouting", false),
    ("masquerading", "nat-postrouting", false),
    ("cluster-ips-check", "filter-forward", true),
    ("cluster-ips-check", "filter-output", true),
];

/// `ADDR . meta l4proto . th dport`.
pub(super) fn service_fields() -> SmallVec<[Field; 4]> {
    smallvec![Field::DstAddr, Field::L4Proto, Field::DstPort]
}

fn nodeport_fields() -> SmallVec<[Field; 4]> {
    smallvec![Field::L4Proto, Field::DstPort]
}

fn named(name: &str, key: &[KeyType], is_map: bool, comment: &str) -> Set {
    Set {
        name: name.into(),
        key: key.into(),
        is_map,
        comment: Some(comment.into()),
        timeout_seconds: None,
        elements: Vec::new(),
    }
}

/// `FIELD { NETS }`, which nft turns into a plain comparison when there is one.
pub(super) fn addr_in(field: Field, nets: &[IpNet], negate: bool) -> Statement {
    match nets {
        [net] => Statement::Addr { field, net: *net, negate },
        _ => Statement::AddrIn { field, nets: nets.to_vec(), negate },
    }
}

/// Statements that set the mark that asks for masquerading, or jump to the chain that does.
pub(super) fn mark_statement(table: &mut Table, shape: &Shape) -> Statement {
    if shape.endpoint_chains {
        Statement::Verdict(Verdict::Jump(table.add_chain("mark-for-masquerade")))
    } else {
        Statement::MarkOr(shape.mark)
    }
}

/// Writes it, and tells the sets that service ports put elements into.
pub(super) fn write(to: &mut impl Sink, shape: &Shape, service_cidrs: &[IpNet]) -> Sets {
    for (name, kind, hook, priority) in BASE_CHAINS {
        to.base_chain(name, Base { kind, hook, priority, drops: false });
    }
    for (name, from, only_new) in JUMPS {
        let chain = to.chain(name);
        let jump = Statement::Verdict(Verdict::Jump(chain));
        let statements: &[_] = if only_new { &[Statement::CtStateNew, jump] } else { &[jump] };
        rule(to, from, statements.iter().cloned());
    }
    masquerading(to, shape);
    let cluster_ips = cluster_ips_check(to, service_cidrs);
    let nodeport = nodeport_match(to, shape);
    let service_key = [KeyType::Addr, KeyType::Proto, KeyType::Service];
    let nodeport_key = [KeyType::Proto, KeyType::Service];

    let text = "vmap to drop or reject packets to services with no endpoints";
    let no_endpoint_services = to.set(named("no-endpoint-services", &service_key, true, text));
    let text = "vmap to drop or reject packets to service nodeports with no endpoints";
    let no_endpoint_nodeports = to.set(named("no-endpoint-nodeports", &nodeport_key, true, text));
    let text = "helper for @no-endpoint-services / @no-endpoint-nodeports";
    let reject = to.commented_chain("reject-chain", text);
    to.rule(reject, Rule::new([Statement::Reject]));

    let vmap = |map| Statement::Vmap { fields: service_fields(), map };
    rule(to, "service-endpoints-check", [vmap(no_endpoint_services)]);
    let mut check = nodeport.checked.clone();
    check.push(Statement::Vmap { fields: nodeport_fields(), map: no_endpoint_nodeports });
    rule(to, "nodeport-endpoints-check", check);
    let text = "destinations that are subject to LoadBalancerSourceRanges";
    let firewall_ips = to.set(named("firewall-ips", &service_key, true, text));
    rule(to, "firewall-check", [vmap(firewall_ips)]);
    let text = "ClusterIP, ExternalIP and LoadBalancer IP traffic";
    let service_ips = to.set(named("service-ips", &service_key, true, text));
    let service_nodeports = to.set(named("service-nodeports", &nodeport_key, true, "NodePort traffic"));

    if !shape.endpoint_chains {
        masquerade_cluster_ips(to, shape, cluster_ips);
    }
    rule(to, "services", [vmap(service_ips)]);
    let mut to_nodeports = nodeport.translated;
    to_nodeports.push(Statement::Vmap { fields: nodeport_fields(), map: service_nodeports });
    rule(to, "services", to_nodeports);

    Sets::of(to.table())
}

/// Adds a rule to a chain that is there.
fn rule(to: &mut impl Sink, chain: &str, statements: impl IntoIterator<Item = Statement>) {
    let id = find(to, chain);
    to.rule(id, Rule::new(statements));
}

fn find(to: &mut impl Sink, chain: &str) -> ChainId {
    to.table().find_chain(chain).unwrap_or_else(|| panic!("chain {chain} is not there"))
}

/// Masquerading by mark, and of hairpin connections: by set, or in the endpoint chains of the older layout.
fn masquerading(to: &mut impl Sink, shape: &Shape) {
    let mark = shape.mark;
    let masquerade = Statement::Masquerade { fully_random: true };
    if shape.endpoint_chains {
        to.chain("mark-for-masquerade");
        rule(to, "mark-for-masquerade", [Statement::MarkOr(mark)]);
        let unmarked = Statement::MarkTest { mask: mark, set: false };
        rule(to, "masquerading", [unmarked, Statement::Verdict(Verdict::Return)]);
        rule(to, "masquerading", [Statement::MarkXor(mark)]);
        rule(to, "masquerading", [masquerade]);
        return;
    }
    let key = [KeyType::Addr, KeyType::Addr, KeyType::Proto, KeyType::Service];
    let set = to.set(named("hairpin-connections", &key, false, "service hairpin connections"));
    let marked = Statement::MarkTest { mask: mark, set: true };
    rule(to, "masquerading", [marked, Statement::MarkXor(mark), masquerade.clone()]);
    let fields = smallvec![Field::SrcAddr, Field::DstAddr, Field::L4Proto, Field::DstPort];
    rule(to, "masquerading", [Statement::CtStatusDnat, Statement::InSet { fields, set }, masquerade]);
}

fn cluster_ips_check(to: &mut impl Sink, service_cidrs: &[IpNet]) -> SetId {
    let set = to.set(named("cluster-ips", &[KeyType::Addr], false, "Active ClusterIPs"));
    let chain = find(to, "cluster-ips-check");
    let known = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    let reject = Rule::new([known, Statement::Reject]);
    to.rule(chain, reject.comment("Reject traffic to invalid ports of ClusterIPs"));
    if !service_cidrs.is_empty() {
        let range = addr_in(Field::DstAddr, service_cidrs, false);
        let drop = Rule::new([range, Statement::Verdict(Verdict::Drop)]);
        let drop = drop.comment("Drop traffic to unallocated ClusterIPs");
        to.rule_with_set(chain, drop, &|| {
            service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        });
    }
    set
}

/// How packets to a NodePort are told.
struct NodeportMatch {
    /// On the way to an endpoint.
    translated: SmallVec<[Statement; 3]>,
    /// On the way to this node.
    checked: SmallVec<[Statement; 3]>,
}

/// Loopback never answers: the rules cannot serve it, and kube-proxy logs an error where it is configured.
fn nodeport_match(to: &mut impl Sink, shape: &Shape) -> NodeportMatch {
    let set = named("nodeport-ips", &[KeyType::Addr], false, "IPs that accept NodePort traffic");
    let NodePortIps::Only(ips) = &shape.node_port_ips else {
        to.no_set(set);
        let loopback = if shape.family == Family::Ipv4 { "127.0.0.0/8" } else { "::1/128" };
        let net = loopback.parse().expect("a network");
        let not_loopback = Statement::Addr { field: Field::DstAddr, net, negate: true };
        let local = Statement::FibLocal { field: Field::DstAddr };
        return NodeportMatch {
            translated: smallvec![local, not_loopback.clone()],
            checked: smallvec![not_loopback],
        };
    };
    let elements = ips.iter().filter(|ip| !ip.is_loopback()).map(|&ip| Element {
        key: smallvec![KeyValue::Addr(ip)],
        verdict: None,
        comment: None,
    });
    let set = to.fixed_set(Set { elements: elements.collect(), ..set });
    let to_node = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    NodeportMatch { translated: smallvec![to_node.clone()], checked: smallvec![to_node] }
}

/// Marks traffic to cluster IPs from outside the cluster, or all of it.
fn masquerade_cluster_ips(to: &mut impl Sink, shape: &Shape, set: SetId) {
    let services = find(to, "services");
    let to_cluster_ip = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    let mark = Statement::MarkOr(shape.mark);
    if shape.masquerade_all {
        to.rule(services, Rule::new([to_cluster_ip, mark]));
    } else if let Some(local) = &shape.local {
        let text = "masquerade clusterIP traffic from outside cluster";
        to.rule(services, Rule::new([to_cluster_ip, local.statement(false), mark]).comment(text));
    }
}
