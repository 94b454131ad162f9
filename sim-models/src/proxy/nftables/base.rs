//! The part of the table that does not depend on Services (`pkg/proxy/nftables/proxier.go:setupNFTables`).

use super::{Sets, Shape};
use crate::kernel::hook::{ChainKind, Hook};
use crate::kernel::nftables::{
    Base, ChainId, Field, KeyType, KeyValue, Rule, Set, SetId, Statement, Table, Verdict,
};
use crate::proxy::local::LocalDetector;
use crate::proxy::node_ports::NodePortIps;
use ipnet::IpNet;
use sim_core::classify::Family;
use smallvec::{SmallVec, smallvec};

const BASE_CHAINS: [(&str, ChainKind, Hook, i32); 8] = [
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

fn add_set(table: &mut Table, name: &str, key: &[KeyType], is_map: bool, comment: &str) -> SetId {
    table.add_set(Set {
        name: name.into(),
        key: key.into(),
        is_map,
        comment: Some(comment.into()),
        timeout_seconds: None,
        elements: Vec::new(),
    })
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

pub(super) fn write(table: &mut Table, shape: &Shape, service_cidrs: &[IpNet]) -> Sets {
    for (name, kind, hook, priority) in BASE_CHAINS {
        let id = table.add_chain(name);
        table.chains[id.0 as usize].base = Some(Base { kind, hook, priority });
    }
    for (name, from, only_new) in JUMPS {
        let to = table.add_chain(name);
        let from = table.add_chain(from);
        let jump = Statement::Verdict(Verdict::Jump(to));
        table.add_rule(
            from,
            if only_new { Rule::new([Statement::CtStateNew, jump]) } else { Rule::new([jump]) },
        );
    }
    masquerading(table, shape);
    let cluster_ips = cluster_ips_check(table, service_cidrs);
    let nodeport = nodeport_match(table, shape);
    let service_key = [KeyType::Addr, KeyType::Proto, KeyType::Service];
    let nodeport_key = [KeyType::Proto, KeyType::Service];

    let no_endpoint_services = add_set(
        table,
        "no-endpoint-services",
        &service_key,
        true,
        "vmap to drop or reject packets to services with no endpoints",
    );
    let no_endpoint_nodeports = add_set(
        table,
        "no-endpoint-nodeports",
        &nodeport_key,
        true,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    );
    let reject = table.add_chain("reject-chain");
    table.chains[reject.0 as usize].comment =
        Some("helper for @no-endpoint-services / @no-endpoint-nodeports".into());
    table.add_rule(reject, Rule::new([Statement::Reject]));

    let vmap = |map| Statement::Vmap { fields: service_fields(), map };
    rule(table, "service-endpoints-check", [vmap(no_endpoint_services)]);
    let mut check = nodeport.checked.clone();
    check.push(Statement::Vmap { fields: nodeport_fields(), map: no_endpoint_nodeports });
    rule(table, "nodeport-endpoints-check", check);
    let text = "destinations that are subject to LoadBalancerSourceRanges";
    let firewall_ips = add_set(table, "firewall-ips", &service_key, true, text);
    rule(table, "firewall-check", [vmap(firewall_ips)]);
    let text = "ClusterIP, ExternalIP and LoadBalancer IP traffic";
    let service_ips = add_set(table, "service-ips", &service_key, true, text);
    let service_nodeports = add_set(table, "service-nodeports", &nodeport_key, true, "NodePort traffic");

    let services = table.add_chain("services");
    if !shape.endpoint_chains {
        masquerade_cluster_ips(table, shape, services, cluster_ips);
    }
    rule(table, "services", [vmap(service_ips)]);
    let mut to_nodeports = nodeport.translated;
    to_nodeports.push(Statement::Vmap { fields: nodeport_fields(), map: service_nodeports });
    rule(table, "services", to_nodeports);

    Sets::of(table)
}

fn rule(table: &mut Table, chain: &str, statements: impl IntoIterator<Item = Statement>) {
    let id = table.add_chain(chain);
    table.add_rule(id, Rule::new(statements));
}

/// Masquerading by mark, and of hairpin connections: by set, or in the endpoint chains of the older layout.
fn masquerading(table: &mut Table, shape: &Shape) {
    let mark = shape.mark;
    let masquerade = Statement::Masquerade { fully_random: true };
    if shape.endpoint_chains {
        rule(table, "mark-for-masquerade", [Statement::MarkOr(mark)]);
        let unmarked = Statement::MarkTest { mask: mark, set: false };
        rule(table, "masquerading", [unmarked, Statement::Verdict(Verdict::Return)]);
        rule(table, "masquerading", [Statement::MarkXor(mark)]);
        rule(table, "masquerading", [masquerade]);
        return;
    }
    let key = [KeyType::Addr, KeyType::Addr, KeyType::Proto, KeyType::Service];
    let set = add_set(table, "hairpin-connections", &key, false, "service hairpin connections");
    let marked = Statement::MarkTest { mask: mark, set: true };
    rule(table, "masquerading", [marked, Statement::MarkXor(mark), masquerade.clone()]);
    let fields = smallvec![Field::SrcAddr, Field::DstAddr, Field::L4Proto, Field::DstPort];
    rule(table, "masquerading", [Statement::CtStatusDnat, Statement::InSet { fields, set }, masquerade]);
}

fn cluster_ips_check(table: &mut Table, service_cidrs: &[IpNet]) -> SetId {
    let set = add_set(table, "cluster-ips", &[KeyType::Addr], false, "Active ClusterIPs");
    let chain = table.add_chain("cluster-ips-check");
    let known = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    let reject = Rule::new([known, Statement::Reject]);
    table.add_rule(chain, reject.comment("Reject traffic to invalid ports of ClusterIPs"));
    if !service_cidrs.is_empty() {
        let range = addr_in(Field::DstAddr, service_cidrs, false);
        let drop = Rule::new([range, Statement::Verdict(Verdict::Drop)]);
        table.add_rule(chain, drop.comment("Drop traffic to unallocated ClusterIPs"));
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

fn nodeport_match(table: &mut Table, shape: &Shape) -> NodeportMatch {
    let NodePortIps::Only(ips) = &shape.node_port_ips else {
        let loopback = if shape.family == Family::Ipv4 { "127.0.0.0/8" } else { "::1/128" };
        let net = loopback.parse().expect("a network");
        let not_loopback = Statement::Addr { field: Field::DstAddr, net, negate: true };
        let local = Statement::FibLocal { field: Field::DstAddr };
        return NodeportMatch {
            translated: smallvec![local, not_loopback.clone()],
            checked: smallvec![not_loopback],
        };
    };
    let text = "IPs that accept NodePort traffic";
    let set = add_set(table, "nodeport-ips", &[KeyType::Addr], false, text);
    for &ip in ips {
        table.push_element(set, smallvec![KeyValue::Addr(ip)], None, None);
    }
    let to_node = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    NodeportMatch { translated: smallvec![to_node.clone()], checked: smallvec![to_node] }
}

/// Marks traffic to cluster IPs from outside the cluster, or all of it.
fn masquerade_cluster_ips(table: &mut Table, shape: &Shape, services: ChainId, set: SetId) {
    let to_cluster_ip = Statement::InSet { fields: smallvec![Field::DstAddr], set };
    let mark = Statement::MarkOr(shape.mark);
    if shape.masquerade_all {
        table.add_rule(services, Rule::new([to_cluster_ip, mark]));
    } else if let Some(LocalDetector::Cidr(net)) = shape.local {
        let outside = Statement::Addr { field: Field::SrcAddr, net, negate: true };
        let text = "masquerade clusterIP traffic from outside cluster";
        table.add_rule(services, Rule::new([to_cluster_ip, outside, mark]).comment(text));
    }
}
