//! Single settings: which words of which rules they change.

use crate::cases::inputs;
use sim_core::classify::{Family, Proto};
use sim_models::config::{DetectLocal, ProxyConfig, XtablesBackend};
use sim_models::kernel::xtables::TableName;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::iptables;
use std::net::IpAddr;

/// Three Services with two endpoints each, named and numbered like those of the recorded older layout.
fn objects() -> ProxyObjects {
    let ports = (0..3u8).map(|i| {
        let endpoints = (0..2u8).map(|k| {
            let ip = IpAddr::from([10, 80, 1, 2 * i + k]);
            Endpoint { addr: (ip, 8080).into(), is_local: true }
        });
        let ip = IpAddr::from([172, 20, 0, 1 + i]);
        let lists = EndpointLists::ready(endpoints.collect());
        ServicePort::http(&format!("ns-{i}"), &format!("svc-{i:05}"), ip, lists)
    });
    ProxyObjects {
        ports: ports.collect(),
        node_pod_cidrs: vec!["10.80.1.0/24".parse().unwrap()],
        ..ProxyObjects::default()
    }
}

fn config() -> ProxyConfig {
    ProxyConfig { cluster_cidrs: vec!["10.64.0.0/10".parse().unwrap()], ..ProxyConfig::default() }
}

fn stdin(objects: &ProxyObjects, config: &ProxyConfig) -> String {
    inputs(std::slice::from_ref(objects), config, Family::Ipv4)[0][0].stdin.clone()
}

#[test]
fn each_detector_is_written_after_the_port_and_in_the_short_cut_of_pods() {
    let mut objects = objects();
    objects.ports.truncate(1);
    let port = &mut objects.ports[0];
    (port.node_port, port.external_local) = (30_000, true);
    port.endpoints.local = port.endpoints.cluster.clone();
    let rows = [
        (DetectLocal::ClusterCidr, "! -s 10.64.0.0/10", "-s 10.64.0.0/10"),
        (DetectLocal::NodeCidr, "! -s 10.80.1.0/24", "-s 10.80.1.0/24"),
        (DetectLocal::BridgeInterface("br0".into()), "! -i br0", "-i br0"),
        (DetectLocal::InterfaceNamePrefix("veth".into()), "! -i veth+", "-i veth+"),
    ];
    for (detect_local, outside, inside) in rows {
        let text = stdin(&objects, &ProxyConfig { detect_local: detect_local.clone(), ..config() });
        let masquerade = format!("-d 172.20.0.1 --dport 80 {outside} -j KUBE-MARK-MASQ\n");
        let short_cut =
            format!("\"pod traffic for ns-0/svc-00000:http external destinations\" {inside} -j KUBE-SVC-");
        assert!(text.contains(&masquerade) && text.contains(&short_cut), "{detect_local:?}\n{text}");
    }
}

#[test]
fn the_mark_has_eight_digits_whatever_its_bit() {
    for (masquerade_bit, mark) in [(0, "0x00000001"), (14, "0x00004000"), (31, "0x80000000")] {
        let text = stdin(&objects(), &ProxyConfig { masquerade_bit, ..config() });
        for rule in [
            format!("-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN\n"),
            format!("-A KUBE-POSTROUTING -j MARK --xor-mark {mark}\n"),
            format!("-A KUBE-MARK-MASQ -j MARK --or-mark {mark}\n"),
            format!("--comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT\n"),
        ] {
            assert!(text.contains(&rule), "{rule}\n{text}");
        }
    }
}

/// `TestComputeProbability`.
#[test]
fn chances_have_ten_decimals() {
    let mut objects = objects();
    let endpoint =
        |i: u16| Endpoint { addr: ([10, 80, (i >> 8) as u8, i as u8], 8080).into(), is_local: false };
    objects.ports = vec![ServicePort {
        endpoints: EndpointLists::ready((0..300).map(endpoint).collect()),
        ..objects.ports[0].clone()
    }];
    let text = stdin(&objects, &config());
    let chances: Vec<&str> =
        text.split("--probability ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
    let expected: Vec<String> = (2..=300u16).rev().map(|n| format!("{:.10}", 1.0 / f64::from(n))).collect();
    assert_eq!(chances, expected);
    assert_eq!(chances[297], "0.3333333333");
}

#[test]
fn backends_list_their_tables_in_different_orders() {
    let tables = |backend| -> Vec<TableName> {
        let rules = iptables::build(&objects(), &ProxyConfig { backend, ..config() }, Family::Ipv4);
        rules.xtables.iter().map(|table| table.name).collect()
    };
    let (filter, mangle, nat) = (TableName::Filter, TableName::Mangle, TableName::Nat);
    assert_eq!(tables(XtablesBackend::Legacy), [filter, mangle, nat]);
    assert_eq!(tables(XtablesBackend::Nft), [mangle, filter, nat]);
}

/// The rules of a text as sets of words, with chains numbered as they appear: the layout was recorded with its words
/// in another order and with other hashes.
fn words(text: &str, table: &str, chains: &str) -> Vec<Vec<String>> {
    let mut hashes: Vec<&str> = Vec::new();
    for word in text.split_whitespace().map(|word| word.trim_start_matches(':')) {
        if let Some(hash) = ["KUBE-SVC-", "KUBE-SEP-"].iter().find_map(|kind| word.strip_prefix(kind))
            && !hashes.contains(&hash)
        {
            hashes.push(hash);
        }
    }
    let numbered = |word: &str| match hashes.iter().position(|hash| word.ends_with(hash)) {
        Some(i) => format!("{}{i}", &word[..9]),
        None => word.to_owned(),
    };
    let text = text.split(&format!("*{table}\n")).nth(1).unwrap().split("COMMIT").next().unwrap();
    let rules = text.lines().filter(|line| line.starts_with(&format!("-A {chains}")));
    let words = rules.map(|rule| {
        let mut words: Vec<String> = rule.split(' ').map(numbered).collect();
        words.sort();
        words
    });
    words.collect()
}

/// Held against rules that were loaded to measure the layout of before 1.21: the masquerade rule of a cluster IP
/// stands before its jump, in the one chain that every connection walks.
#[test]
fn before_1_21_kube_services_has_two_rules_a_service() {
    let recorded = include_str!("../data/iptables/before-1.21.txt");
    let text = stdin(&objects(), &ProxyConfig { kubernetes_minor: 20, ..config() });
    for chains in ["KUBE-SERVICES", "KUBE-SVC-", "KUBE-SEP-"] {
        assert_eq!(words(&text, "nat", chains), words(recorded, "nat", chains), "{chains}");
    }
    assert_eq!(words(&text, "nat", "KUBE-SERVICES").len(), 2 * 3 + 1);
}

#[test]
fn a_health_check_is_tcp_whatever_the_service() {
    let mut objects = objects();
    objects.ports.truncate(1);
    objects.ports[0].proto = Proto::Udp;
    objects.ports[0].health_check_node_port = 32_000;
    let rule = "-A KUBE-NODEPORTS -m comment --comment \"ns-0/svc-00000:http health check node port\" \
                -m tcp -p tcp --dport 32000 -j ACCEPT\n";
    let text = stdin(&objects, &config());
    assert!(text.contains(rule), "{text}");
}
