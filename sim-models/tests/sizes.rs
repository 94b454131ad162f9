//! Sizes of ports add up to the table that is built, and the lines of a sync are those that are written.

use sim_core::classify::{Family, Proto};
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::ProxyConfig;
use sim_models::kernel::rules::NodeRules;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::sync::nft::Objects;
use sim_models::proxy::sync::xtables::Rules;
use sim_models::proxy::sync::{Size, SyncShape};
use sim_models::proxy::{self, Simulated};
use std::ops::Add;

fn config(mode: &str) -> ProxyConfig {
    let cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
    ProxyConfig { mode: mode.to_owned(), cluster_cidrs, ..ProxyConfig::default() }
}

fn lists(from: u8, n: u8, local: u8) -> EndpointLists {
    let endpoint = |i: u8| Endpoint { addr: ([10, 244, from, i], 8080).into(), is_local: i < local };
    EndpointLists::ready((0..n).map(endpoint).collect())
}

/// One port of every kind, and some of them with and without endpoints.
fn ports() -> Vec<ServicePort> {
    let mut all = Vec::new();
    for endpoints in [0u8, 1, 3] {
        for kind in 0..9u8 {
            let at = all.len() as u8;
            let mut port = ServicePort::http(
                "ns",
                &format!("s{at}"),
                format!("10.96.0.{}", at + 1).parse().unwrap(),
                lists(at, endpoints, 0),
            );
            match kind {
                1 => port.proto = Proto::Udp,
                2 => port.node_port = 30_000 + u16::from(at),
                3 => port.external_ips = vec![[192, 0, 2, at].into()],
                4 => port.load_balancer_vips = vec![[198, 51, 100, at].into()],
                5 => {
                    port.load_balancer_vips = vec![[198, 51, 101, at].into()];
                    port.source_ranges =
                        vec!["203.0.113.0/24".parse().unwrap(), "198.18.0.0/15".parse().unwrap()];
                }
                6 => port.affinity_seconds = Some(10_800),
                7 => {
                    port.node_port = 31_000 + u16::from(at);
                    port.external_local = true;
                    port.health_check_node_port = 32_000 + u16::from(at);
                    port.endpoints = lists(at, endpoints, 1);
                    port.endpoints.local =
                        port.endpoints.cluster.iter().filter(|e| e.is_local).cloned().collect();
                }
                8 => {
                    port.internal_local = true;
                    port.endpoints = lists(at, endpoints, 1);
                    port.endpoints.local =
                        port.endpoints.cluster.iter().filter(|e| e.is_local).cloned().collect();
                }
                _ => {}
            }
            all.push(port);
        }
    }
    all
}

fn objects(ports: Vec<ServicePort>) -> ProxyObjects {
    ProxyObjects { ports, node_ips: vec![[192, 168, 0, 2].into()], ..ProxyObjects::default() }
}

fn simulated(mode: &str) -> &'static dyn Simulated {
    proxy::mode(mode).and_then(|m| m.simulated()).unwrap()
}

fn sum(mode: &str, config: &ProxyConfig, ports: &[ServicePort]) -> Size {
    let size = |port| simulated(mode).size(port, config, Family::Ipv4);
    ports.iter().map(size).fold(Size::default(), Add::add)
}

fn build(mode: &str, config: &ProxyConfig, ports: Vec<ServicePort>) -> NodeRules {
    simulated(mode).build(&objects(ports), config, Family::Ipv4)
}

/// Rules of what ports have in the tables.
fn xtables(rules: &NodeRules) -> Rules {
    rules.xtables.iter().map(Rules::of_table).fold(Rules::default(), Add::add)
}

#[test]
fn in_iptables_mode_sizes_of_all_kinds_of_ports_add_up_to_the_tables() {
    for minor in [20, 36] {
        let config = ProxyConfig { kubernetes_minor: minor, ..config("iptables") };
        let size = sum("iptables", &config, &ports());
        let of_ports =
            xtables(&build("iptables", &config, ports())) - xtables(&build("iptables", &config, vec![]));
        assert_eq!(size.common_rules + size.own_rules, of_ports.rules);
        assert_eq!(size.common_matches + size.own_matches, of_ports.matches);
        assert_eq!(size.common_jumps + size.own_jumps, of_ports.jumps);
        assert_eq!((size.chains, size.own_statistics), (of_ports.chains, of_ports.statistics));
        assert_eq!((size.own_recents, size.ports), (of_ports.recents, 27));
    }
}

#[test]
fn a_large_cluster_leaves_out_the_comments_that_sizes_tell_apart() {
    let config = config("iptables");
    let mut crowd = ports();
    // More than 1,000 endpoints in all, which rules of the others do not show.
    let addr = |i: u16| ([10, 245, (i >> 8) as u8, i as u8], 80).into();
    let endpoints = (0..1_000).map(|i| Endpoint { addr: addr(i), is_local: false }).collect();
    crowd.push(ServicePort::http(
        "ns",
        "crowd",
        "10.96.1.1".parse().unwrap(),
        EndpointLists::ready(endpoints),
    ));
    let size = sum("iptables", &config, &crowd);
    assert!(size.endpoints > 1_000);
    let of_ports = xtables(&build("iptables", &config, crowd)) - xtables(&build("iptables", &config, vec![]));
    assert_eq!(size.common_matches + size.own_matches - size.own_comments, of_ports.matches);
}

#[test]
fn in_nftables_mode_sizes_of_all_kinds_of_ports_add_up_to_the_table() {
    for minor in [33, 36] {
        let config = ProxyConfig { kubernetes_minor: minor, ..config("nftables") };
        let size = sum("nftables", &config, &ports());
        let table = |ports| Objects::of_table(build("nftables", &config, ports).nftables.as_ref().unwrap());
        let (with, fixed) = (table(ports()), table(vec![]));
        assert_eq!((size.chains, size.own_rules), (with.chains - fixed.chains, with.rules - fixed.rules));
        assert_eq!((size.named_sets, size.anonymous), (with.named - fixed.named, with.sets - fixed.sets));
        assert_eq!(size.elements, with.elements - fixed.elements);
        assert_eq!(size.anonymous_elements, with.set_elements - fixed.set_elements);
    }
}

#[test]
fn in_ipvs_mode_sizes_of_all_kinds_of_ports_add_up_to_servers_sets_and_addresses() {
    let config = config("ipvs");
    let size = sum("ipvs", &config, &ports());
    let rules = build("ipvs", &config, ports());
    assert_eq!(size.servers, rules.ipvs.len() as u64);
    assert_eq!(size.destinations, rules.ipvs.iter().map(|v| v.real.len() as u64).sum::<u64>());
    assert_eq!(size.addresses, rules.dummy_addrs.len() as u64);
    assert_eq!(size.elements, rules.ipsets.iter().map(|s| s.elements.len() as u64).sum::<u64>());
}

#[test]
fn a_sync_of_iptables_mode_restores_as_many_rules_as_kube_proxy_writes() {
    let config = config("iptables");
    let mut changed = ports();
    changed[9].endpoints = lists(99, 2, 0);
    changed[13].endpoints = lists(100, 1, 0);
    let (before, after) = (objects(ports()), objects(changed.clone()));
    let states = [(SimTime::ZERO, before), (SimTime::ZERO + SimSpan::from_secs(5), after)];
    let inputs = simulated("iptables").inputs(&states, &config, Family::Ipv4).unwrap();
    let lines = |at: usize| {
        let text = &inputs[at][0].stdin;
        text.lines().filter(|line| line.starts_with("-A ")).count() as u64
    };
    let (old, new) = (sum("iptables", &config, &ports()), sum("iptables", &config, &changed));
    let work = |shape: SyncShape| simulated("iptables").sync(&shape, &config);
    assert_eq!(work(SyncShape::first(old)).restore_rules, lines(0));
    let written = sum("iptables", &config, &[changed[9].clone(), changed[13].clone()]);
    let replaced = sum("iptables", &config, &[ports()[9].clone(), ports()[13].clone()]);
    let shape = SyncShape { before: old, replaced, ..SyncShape::change(new, written) };
    assert_eq!(work(shape).restore_rules, lines(1));
    // Before 1.27 the same change is a full sync, with its runs of iptables.
    let older = ProxyConfig { kubernetes_minor: 26, ..config.clone() };
    let full = simulated("iptables").sync(&shape, &older);
    assert_eq!(full.restore_rules, old.common_rules.max(new.common_rules) + new.own_rules + 9);
    assert!(full.execs >= 24, "{} runs", full.execs);
}
