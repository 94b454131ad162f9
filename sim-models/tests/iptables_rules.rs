//! The laws of iptables rules: how many there are, and what single settings change.

use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::config::{ClusterConfig, EndpointLaw, ProxyConfig};
use sim_models::kernel::xtables::print::iptables_save;
use sim_models::kernel::xtables::{Table, TableName, Target};
use sim_models::kube::ProxyObjects;
use sim_models::kube::generate::generate;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::iptables::{RuleCounts, SyncContext, build, rule_counts, service_rules};

fn config() -> ProxyConfig {
    ProxyConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..ProxyConfig::default() }
}

fn objects(services: u32, endpoints: u32) -> ProxyObjects {
    let config = ClusterConfig {
        nodes: 2,
        services,
        endpoints: EndpointLaw::Fixed(endpoints),
        service_cidr: "172.30.0.0/16".parse().unwrap(),
        cluster_cidr: "10.128.0.0/9".parse().unwrap(),
        objects: None,
    };
    resolve(&generate(&config, 1).unwrap().objects, Family::Ipv4, "node-0")
}

fn counts(objects: &ProxyObjects) -> (usize, usize) {
    let RuleCounts { filter, nat } = rule_counts(&build(objects, &config(), Family::Ipv4));
    (filter, nat)
}

/// The table of `pkg/proxy/iptables/number_generated_rules_test.go`.
#[test]
fn rules_are_as_many_as_in_kube_proxys_own_test() {
    for (services, endpoints, filter, nat) in [
        (0, 0, 4, 5),
        (1, 0, 5, 5),
        (1, 1, 4, 10),
        (1, 2, 4, 13),
        (1, 10, 4, 37),
        (10, 0, 14, 5),
        (10, 1, 4, 55),
        (10, 2, 4, 85),
        (10, 10, 4, 325),
    ] {
        assert_eq!(counts(&objects(services, endpoints)), (filter, nat), "{services} x {endpoints}");
    }
    for (endpoints, filter, nat) in [(2, 14, 165), (10, 14, 405)] {
        let mut objects = objects(10, endpoints);
        for (port, node_port) in objects.ports.iter_mut().zip(30_000..) {
            port.node_port = node_port;
            port.external_ips.push("1.2.3.4".parse().unwrap());
            port.load_balancer_vips.push("5.6.7.8".parse().unwrap());
            port.source_ranges.push("203.0.113.0/24".parse().unwrap());
        }
        assert_eq!(counts(&objects), (filter, nat), "10 load balancers x {endpoints}");
    }
}

/// Every chain that is written for a Service is jumped to, and no name is too long for the kernel.
fn check_chains(table: &Table) {
    let mut reached = vec![false; table.chains.len()];
    for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
        if let Some(Target::Jump(id)) = rule.target {
            reached[id.0 as usize] = true;
        }
    }
    for (chain, reached) in table.chains.iter().zip(reached) {
        // KUBE-MARK-MASQ is always there, with or without Services.
        let free = chain.base.is_some() || ["KUBE-PROXY-CANARY", "KUBE-MARK-MASQ"].contains(&&*chain.name);
        assert!(reached || free, "nothing leads to {:?} {}", table.name, chain.name);
        assert!(chain.name.len() <= 28, "{}", chain.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cluster_ip_takes_two_rules_and_three_for_every_endpoint(
        services in 0u32..20, endpoints in 0u32..30, empty in 0usize..20, affinity: bool,
    ) {
        let mut objects = objects(services, endpoints);
        let mut filled = objects.ports.len();
        for port in objects.ports.iter_mut().take(empty) {
            port.endpoints = Default::default();
        }
        filled = if endpoints == 0 { 0 } else { filled - empty.min(filled) };
        if affinity {
            objects.ports.iter_mut().for_each(|port| port.affinity_seconds = Some(60));
        }
        // With affinity every endpoint has one more rule, which looks for the client.
        let per_endpoint = if affinity { 4 } else { 3 };
        let nat = 5 + filled * (2 + per_endpoint * endpoints as usize);
        prop_assert_eq!(counts(&objects), (4 + services as usize - filled, nat));
        let rules = build(&objects, &config(), Family::Ipv4);
        rules.xtables.iter().for_each(check_chains);
    }

    #[test]
    fn chances_of_the_endpoints_of_a_service_are_equal(endpoints in 1u32..300) {
        let objects = objects(1, endpoints);
        let cx = SyncContext::new(&objects, &config(), Family::Ipv4);
        let rules = service_rules(&objects.ports[0], sim_models::kernel::xtables::ChainId(9), &cx);
        let mut left = 1.0;
        // The first rule of the chain masquerades.
        for rule in &rules.nat_chains[0].rules[1..] {
            let p = rule.matches.iter().find_map(|m| match m {
                sim_models::kernel::xtables::Match::Statistic { p } => Some(f64::from(*p) / f64::from(1u32 << 31)),
                _ => None,
            });
            let chance = left * p.unwrap_or(1.0);
            prop_assert!((chance * f64::from(endpoints) - 1.0).abs() < 1e-4, "{chance}");
            left -= chance;
        }
        prop_assert!(left.abs() < 1e-12);
    }
}

/// Rules of nat that contain `text`.
fn nat_rules(objects: &ProxyObjects, config: &ProxyConfig, text: &str) -> Vec<String> {
    let rules = build(objects, config, Family::Ipv4);
    let text_of_nat = iptables_save(&rules).split("*nat").nth(1).unwrap().to_owned();
    text_of_nat
        .lines()
        .filter(|line| line.starts_with("-A") && line.contains(text))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_masquerade_rule_depends_on_the_detector_and_the_version() {
    let objects = objects(1, 1);
    let all = ProxyConfig { masquerade_all: true, ..config() };
    let none = ProxyConfig { cluster_cidrs: Vec::new(), ..config() };
    let old = ProxyConfig { kubernetes_minor: 20, ..config() };
    let entry =
        "-d 172.30.0.1/32 -p tcp -m comment --comment \"ns-0/svc-00000:http cluster IP\" -m tcp --dport 80";
    let hash = "OYUOJEAXULAY7JY5";
    let jump = format!("-A KUBE-SERVICES {entry} -j KUBE-SVC-{hash}");
    let in_service = |src: &str| format!("-A KUBE-SVC-{hash} {src}{entry} -j KUBE-MARK-MASQ");
    let in_services = format!("-A KUBE-SERVICES ! -s 10.244.0.0/16 {entry} -j KUBE-MARK-MASQ");
    let rows = [
        (config(), vec![jump.clone(), in_service("! -s 10.244.0.0/16 ")]),
        (all, vec![jump.clone(), in_service("")]),
        (none, vec![jump.clone()]),
        (old, vec![in_services, jump]),
    ];
    for (config, expected) in rows {
        assert_eq!(nat_rules(&objects, &config, "cluster IP"), expected, "{config:?}");
    }
}

#[test]
fn before_1_19_the_name_of_an_unnamed_port_ends_in_a_colon() {
    let rows = [
        (18, "", "ns-0/svc-00000: cluster IP"),
        (19, "", "ns-0/svc-00000 cluster IP"),
        (18, "http", "ns-0/svc-00000:http cluster IP"),
    ];
    for (kubernetes_minor, port_name, comment) in rows {
        let mut objects = objects(1, 1);
        objects.ports[0].port_name = port_name.into();
        let old = ProxyConfig { kubernetes_minor, ..config() };
        let rules = nat_rules(&objects, &old, "-j KUBE-SVC-");
        assert!(rules.iter().all(|rule| rule.contains(&format!("\"{comment}\""))), "{rules:?}");
        assert_eq!(rules.len(), 1);
    }
}

#[test]
fn above_a_thousand_endpoints_their_comments_are_left_out() {
    let (at, above) = (objects(10, 100), objects(11, 91));
    assert_eq!(nat_rules(&at, &config(), " -> 10.").len(), 1000);
    assert_eq!(nat_rules(&above, &config(), " -> 10.").len(), 0);
    let to_endpoints = nat_rules(&above, &config(), "-j DNAT");
    assert_eq!(to_endpoints.len(), 1001);
    assert!(to_endpoints.iter().all(|rule| !rule.contains("comment")), "{}", to_endpoints[0]);
    assert_eq!(nat_rules(&above, &config(), "cluster IP").len(), 22);
}

#[test]
fn without_localhost_node_ports_loopback_is_left_alone() {
    let objects = objects(0, 0);
    let off = ProxyConfig { localhost_node_ports: false, ..config() };
    assert!(
        nat_rules(&objects, &off, "addrtype")[0].starts_with("-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment")
    );
    let filter = |config| {
        let rules = build(&objects, config, Family::Ipv4);
        let table = rules.xtables.into_iter().find(|table| table.name == TableName::Filter).unwrap();
        table.chains.into_iter().find(|chain| &*chain.name == "KUBE-FIREWALL").unwrap().rules.len()
    };
    assert_eq!((filter(&config()), filter(&off)), (1, 0));
}
