//! Traffic policies, source ranges, terminating endpoints and missing ones, as in `TestNoEndpointsReject`,
//! `TestInternalTrafficPolicy`, `TestTerminatingEndpointsTrafficPolicy*`, `TestLoadBalancer` and `TestNodePorts` of
//! `pkg/proxy/nftables/proxier_test.go`, by packets through the rules; and the shape of what is configured.

use crate::matrix::{BOTH, CLUSTER_IP, Fate, From, HERE, NODE, NODE_PORT, VIP, fate, service, to};
use crate::support::{V4, config};
use sim_models::config::{NodePortAddresses, ProxyConfig};
use sim_models::kernel::nftables::Table;
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::kube::{ProxyObjects, ServicePort};
use sim_models::proxy::nftables::{build, refused_by_nft};

fn sent(port: &ServicePort, from: From, dst: &str, dport: u16) -> Fate {
    let new = fate(port, &config(36, "10.0.0.0/8"), from, dst, dport);
    let old = fate(port, &config(35, "10.0.0.0/8"), from, dst, dport);
    assert_eq!(new, old, "both layouts do the same");
    new
}

#[test]
fn without_endpoints_every_way_in_is_refused() {
    let mut port = service(false, false, false, false);
    port.external_ips = vec!["192.0.2.7".parse().unwrap()];
    for from in [From::Pod, From::Node, From::External] {
        for (dst, dport) in [(CLUSTER_IP, 80), (NODE, NODE_PORT), (VIP, 80), ("192.0.2.7", 80)] {
            if (from, dst) == (From::Node, NODE) {
                // It comes in again through loopback and is refused then; these tests do not follow it.
                continue;
            }
            assert_eq!(sent(&port, from, dst, dport), Fate::Rejected, "{from:?} to {dst}:{dport}");
        }
    }
}

#[test]
fn internal_policy_local_drops_where_only_other_nodes_have_endpoints() {
    let port = service(true, false, true, false);
    assert_eq!(sent(&port, From::Pod, CLUSTER_IP, 80), Fate::Dropped);
    assert_eq!(sent(&port, From::External, VIP, 80), to(&BOTH[..1], true), "the external policy is another");
    let port = service(true, false, true, true);
    assert_eq!(sent(&port, From::Pod, CLUSTER_IP, 80), to(&HERE, false));
    let port = service(true, false, false, false);
    assert_eq!(sent(&port, From::Pod, CLUSTER_IP, 80), Fate::Rejected, "none anywhere");
}

#[test]
fn external_policy_local_without_local_endpoints_drops_strangers_but_serves_pods_and_the_node() {
    let port = service(false, true, true, false);
    for (dst, dport) in [(VIP, 80), (NODE, NODE_PORT)] {
        // A NodePort is on the node, so that what is not translated stays and is dropped on the way in.
        assert_eq!(sent(&port, From::External, dst, dport), Fate::Dropped, "{dst}");
        assert_eq!(sent(&port, From::Node, dst, dport), to(&BOTH[..1], true), "{dst}");
        assert_eq!(sent(&port, From::Pod, dst, dport), to(&BOTH[..1], false), "{dst}");
    }
    assert_eq!(sent(&port, From::Pod, CLUSTER_IP, 80), to(&BOTH[..1], false));
}

#[test]
fn source_ranges_guard_the_load_balancer_and_not_the_node_port() {
    let mut port = service(false, false, true, true);
    port.source_ranges = vec!["203.0.113.0/25".parse().unwrap()];
    assert_eq!(sent(&port, From::External, VIP, 80), to(&BOTH, true));
    assert_eq!(sent(&port, From::At("203.0.113.200", "eth0"), VIP, 80), Fate::Dropped);
    assert_eq!(sent(&port, From::At("203.0.113.200", "eth0"), NODE, NODE_PORT), to(&BOTH, true));
    assert_eq!(sent(&port, From::Node, VIP, 80), Fate::Dropped, "the node is in no range");
    assert_eq!(sent(&port, From::At(VIP, "eth0"), VIP, 80), Fate::Dropped);

    // With the node in a range, the address itself may be the source: such packets come round by a local route.
    port.source_ranges.push("192.168.0.0/24".parse().unwrap());
    assert_eq!(sent(&port, From::Node, VIP, 80), to(&BOTH, true));
    assert_eq!(sent(&port, From::At(VIP, "eth0"), VIP, 80), to(&BOTH, true));
}

#[test]
fn source_ranges_guard_a_load_balancer_without_endpoints_too() {
    let mut port = service(false, false, false, false);
    port.source_ranges = vec!["203.0.113.0/25".parse().unwrap()];
    assert_eq!(sent(&port, From::At("203.0.113.200", "eth0"), VIP, 80), Fate::Dropped);
    assert_eq!(sent(&port, From::External, VIP, 80), Fate::Rejected);
}

/// A LoadBalancer whose endpoints have these conditions: (address, node, ready, serving, terminating).
fn of_slices(local: bool, endpoints: &[(&str, &str, bool, bool, bool)]) -> ServicePort {
    let policy = if local { "Local" } else { "Cluster" };
    let endpoints: Vec<serde_json::Value> = endpoints
        .iter()
        .map(|(address, node, ready, serving, terminating)| {
            serde_json::json!({
                "addresses": [address], "nodeName": node,
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            })
        })
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc4", "namespace": "ns4"},
         "spec": {"type": "LoadBalancer", "clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP],
                  "ipFamilies": ["IPv4"], "externalTrafficPolicy": policy,
                  "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30001}]},
         "status": {"loadBalancer": {"ingress": [{"ip": VIP}]}}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "svc4-x", "namespace": "ns4", "labels": {"kubernetes.io/service-name": "svc4"}},
         "ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "endpoints": endpoints},
    ]});
    let objects = import(&list.to_string()).unwrap_or_else(|errors| panic!("{errors:?}"));
    resolve(&objects, V4, "here").ports.remove(0)
}

#[test]
fn terminating_endpoints_serve_only_while_nothing_else_does() {
    let (ready, ending, gone) = ((true, true, false), (false, true, true), (false, false, true));
    let at = |address, node, (a, b, c): (bool, bool, bool)| (address, node, a, b, c);
    let there = |c| at("10.180.0.1", "there", c);
    let here = |c| at("10.180.1.1", "here", c);
    let other = BOTH[..1].to_vec();
    for (what, local, endpoints, outside, inside) in [
        ("ready ones win", false, vec![there(ready), here(ending)], to(&other, true), to(&other, false)),
        ("all ending", false, vec![there(ending), here(ending)], to(&BOTH, true), to(&BOTH, false)),
        ("none serves", false, vec![there(gone), here(gone)], Fate::Rejected, Fate::Rejected),
        ("the local one ends", true, vec![there(ready), here(ending)], to(&HERE, false), to(&other, false)),
        ("the local one is gone", true, vec![there(ready), here(gone)], Fate::Dropped, to(&other, false)),
        ("all end, Local", true, vec![there(ending), here(ending)], to(&HERE, false), to(&BOTH, false)),
    ] {
        let port = of_slices(local, &endpoints);
        assert_eq!(sent(&port, From::External, VIP, 80), outside, "{what}");
        assert_eq!(sent(&port, From::Pod, CLUSTER_IP, 80), inside, "{what}");
    }
}

fn objects() -> ProxyObjects {
    ProxyObjects {
        ports: vec![service(false, false, true, true)],
        node_ips: vec![NODE.parse().unwrap(), "10.7.0.2".parse().unwrap()],
        ..ProxyObjects::default()
    }
}

fn table(objects: &ProxyObjects, config: &ProxyConfig) -> Table {
    build(objects, config, V4).nftables.unwrap()
}

fn last_rule(table: &Table, chain: &str) -> String {
    let text = table.to_string();
    let block = text.split_once(&format!("\tchain {chain} {{\n")).unwrap().1;
    block.split_once("\n\t}").unwrap().0.lines().last().unwrap().trim().to_owned()
}

#[test]
fn node_ports_answer_on_the_configured_addresses_and_never_on_loopback() {
    let of = |addresses: NodePortAddresses| {
        let table =
            table(&objects(), &ProxyConfig { node_port_addresses: addresses, ..config(36, "10.0.0.0/8") });
        let set = table.find_set("nodeport-ips").map(|id| {
            let elements = &table.sets[id.0 as usize].elements;
            elements.iter().map(|e| format!("{:?}", e.key[0])).collect::<Vec<_>>()
        });
        (set, last_rule(&table, "services"), last_rule(&table, "nodeport-endpoints-check"))
    };
    let cidrs = |list: &[&str]| NodePortAddresses::Cidrs(list.iter().map(|c| c.parse().unwrap()).collect());
    let to_set = |set: &[&str]| {
        let set = set.iter().map(|ip| format!("Addr({ip})")).collect();
        let vmap = "ip daddr @nodeport-ips meta l4proto . th dport vmap";
        (Some(set), format!("{vmap} @service-nodeports"), format!("{vmap} @no-endpoint-nodeports"))
    };
    assert_eq!(of(NodePortAddresses::Unset), to_set(&[NODE]), "the primary one unless told otherwise");
    assert_eq!(of(NodePortAddresses::Primary), to_set(&[NODE]));
    assert_eq!(of(cidrs(&["10.7.0.0/16"])), to_set(&["10.7.0.2"]));
    assert_eq!(of(cidrs(&["127.0.0.0/8", "192.168.0.0/16"])), to_set(&[NODE]));
    assert_eq!(of(cidrs(&["127.0.0.0/8"])), to_set(&[]));
    assert_eq!(of(cidrs(&["10.99.0.0/16"])), to_set(&[]), "no address fits, so none answers");
    let all = (
        None,
        "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports"
            .to_owned(),
        "ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports".to_owned(),
    );
    assert_eq!(of(cidrs(&["0.0.0.0/0"])), all);
    assert_eq!(of(cidrs(&["fd00::/8"])), all, "networks of the other family say nothing");
}

#[test]
fn masquerading_follows_its_bit_and_masquerade_all_needs_no_detector() {
    let base = config(36, "10.0.0.0/8");
    let text = table(&objects(), &ProxyConfig { masquerade_bit: 5, ..base.clone() }).to_string();
    assert!(text.contains("ip saddr != 10.0.0.0/8 meta mark set meta mark | 0x00000020 comment"));
    assert!(text.contains("meta mark & 0x00000020 != 0x00000000 meta mark set meta mark ^ 0x00000020 masq"));
    let all = ProxyConfig { masquerade_all: true, cluster_cidrs: Vec::new(), ..base };
    let text = table(&objects(), &all).to_string();
    assert!(text.contains("\t\tip daddr @cluster-ips meta mark set meta mark | 0x00004000\n"));
    assert!(!text.contains("from outside cluster"));
}

#[test]
fn unallocated_addresses_of_every_service_cidr_are_dropped() {
    let mut objects = objects();
    let drop =
        |objects: &ProxyObjects| last_rule(&table(objects, &config(36, "10.0.0.0/8")), "cluster-ips-check");
    let comment = "drop comment \"Drop traffic to unallocated ClusterIPs\"";
    objects.service_cidrs = vec!["172.30.0.0/16".parse().unwrap()];
    assert_eq!(drop(&objects), format!("ip daddr 172.30.0.0/16 {comment}"));
    objects.service_cidrs.push("10.96.0.0/12".parse().unwrap());
    assert_eq!(drop(&objects), format!("ip daddr {{ 10.96.0.0/12, 172.30.0.0/16 }} {comment}"));
    objects.service_cidrs.push("172.31.0.0/16".parse().unwrap());
    assert_eq!(drop(&objects), format!("ip daddr {{ 10.96.0.0/12, 172.30.0.0/15 }} {comment}"));
}

#[test]
fn source_ranges_print_merged_with_braces_if_more_than_one_was_written() {
    let mut objects = objects();
    let mut firewall = |ranges: &[&str]| {
        objects.ports[0].source_ranges = ranges.iter().map(|r| r.parse().unwrap()).collect();
        let text = table(&objects, &config(36, "10.0.0.0/8")).to_string();
        let rule =
            text.lines().find(|line| line.contains("ip saddr != ") && line.ends_with(" drop")).unwrap();
        rule.trim().strip_prefix("ip saddr != ").unwrap().strip_suffix(" drop").unwrap().to_owned()
    };
    assert_eq!(firewall(&["198.51.100.7/32"]), "198.51.100.7");
    assert_eq!(firewall(&["10.0.0.0/8", "10.1.0.0/16"]), "{ 10.0.0.0/8 }");
    assert_eq!(firewall(&["203.0.113.6/32", "203.0.113.7/32"]), "{ 203.0.113.6/31 }");
    assert_eq!(firewall(&["203.0.113.7/32", "203.0.113.8/32"]), "{ 203.0.113.7-203.0.113.8 }");
    assert_eq!(firewall(&["192.168.0.0/24"]), "{ 1.2.3.4, 192.168.0.0/24 }", "the node is inside");
}

#[test]
fn a_service_without_endpoints_and_a_very_long_name_is_one_that_nft_refuses() {
    let long = |c: char| c.to_string().repeat(63);
    let mut objects = objects();
    let port = &mut objects.ports[0];
    (port.namespace, port.name) = (long('n').into(), long('s').into());
    port.affinity_seconds = Some(60);
    for endpoints in [true, false] {
        if !endpoints {
            objects.ports[0].endpoints = service(false, false, false, false).endpoints;
        }
        let table = table(&objects, &config(36, "10.0.0.0/8"));
        let why = refused_by_nft(&table);
        assert_eq!(why.is_none(), endpoints, "{why:?}");
        assert!(table.chains.iter().all(|chain| chain.name.len() <= 255), "names are cut");
        if let Some(why) = why {
            assert!(why.contains("at most 128") && why.contains("has 132"), "{why}");
        }
    }
}
