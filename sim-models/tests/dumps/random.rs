//! Random clusters: what a mode prints is read back to the same rules.

use super::iptables;
use ipnet::IpNet;
use proptest::prelude::*;
use sim_core::classify::{Family, Proto};
use sim_models::config::{NodePortAddresses, ProxyConfig};
use sim_models::kernel::xtables::{Chain, Match, Rule, Table, Target};
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::{Form, mode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Texts of the rules that are not wholly typed.
pub fn opaque(tables: &[Table]) -> Vec<String> {
    let rules = tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let text = |rule: &Rule| {
        let of_match = rule.matches.iter().find_map(|m| match m {
            Match::Opaque(text) => Some(text.to_string()),
            _ => None,
        });
        of_match.or_else(|| match &rule.target {
            Some(Target::Opaque(text)) => Some(text.to_string()),
            _ => None,
        })
    };
    rules.filter_map(text).collect()
}

/// An address of `family`, `n` after the first of `net` (10.`net`.0.0 or fd00:`net`::).
fn addr(family: Family, net: u8, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, net, high, low).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, n).into(),
    }
}

/// What a Service port is drawn from.
type Draw = ((u8, u16, u8, u8), (bool, bool, bool, bool), (u8, u8, u8, bool));

fn draw() -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec(
        (
            (0u8..3, 1u16.., 0u8..6, 0u8..4),
            (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
            (0u8..3, 0u8..3, 0u8..3, any::<bool>()),
        ),
        0..12,
    )
}

fn port(family: Family, i: u16, draw: &Draw) -> ServicePort {
    let (
        (proto, number, endpoints, local),
        (affinity, internal, external, node_port),
        (ips, vips, ranges, named),
    ) = *draw;
    let proto = [Proto::Tcp, Proto::Udp, Proto::Sctp][usize::from(proto)];
    let endpoint = |n: u8| Endpoint {
        addr: SocketAddr::new(addr(family, 244, i * 16 + u16::from(n) + 1), number),
        is_local: n < local,
    };
    let all: Vec<Endpoint> = (0..endpoints).map(endpoint).collect();
    ServicePort {
        proto,
        port: number,
        port_name: if named { "http".into() } else { "".into() },
        node_port: if node_port { 30_000 + i } else { 0 },
        external_ips: (0..ips).map(|n| addr(family, 9, i * 4 + u16::from(n))).collect(),
        load_balancer_vips: (0..vips).map(|n| addr(family, 8, i * 4 + u16::from(n))).collect(),
        source_ranges: (0..ranges).map(|n| IpNet::new(addr(family, n, 77), 24).unwrap()).collect(),
        affinity_seconds: affinity.then_some(u32::from(number)),
        internal_local: internal,
        external_local: external,
        health_check_node_port: if external && node_port { 31_000 + i } else { 0 },
        ..ServicePort::http("ns", &format!("svc-{i}"), addr(family, 96, i + 1), EndpointLists::ready(all))
    }
}

fn objects(family: Family, draws: &[Draw]) -> ProxyObjects {
    let ports = draws.iter().zip(0..).map(|(draw, i)| port(family, i, draw)).collect();
    ProxyObjects { ports, node_ips: vec![addr(family, 1, 2)], ..ProxyObjects::default() }
}

fn config(family: Family, detector: bool, masquerade_all: bool, kubernetes_minor: u32) -> ProxyConfig {
    let cidr = IpNet::new(addr(family, 244, 9), 16).unwrap();
    ProxyConfig {
        cluster_cidrs: if detector { vec![cidr] } else { vec![] },
        masquerade_all,
        kubernetes_minor,
        node_port_addresses: NodePortAddresses::Unset,
        ..ProxyConfig::default()
    }
}

/// The rules of a chain with names in place of indices.
fn named(table: &Table, chain: &Chain) -> Vec<(Rule, Option<String>)> {
    let one = |rule: &Rule| {
        let mut rule = rule.clone();
        for net in [&mut rule.src, &mut rule.dst].into_iter().flatten() {
            net.value = net.value.trunc();
        }
        match rule.target {
            Some(Target::Jump(to)) => {
                let to = table.chains[to.0 as usize].name.to_string();
                rule.target = None;
                (rule, Some(to))
            }
            _ => (rule, None),
        }
    };
    chain.rules.iter().map(one).collect()
}

fn check(mode_name: &str, objects: &ProxyObjects, config: &ProxyConfig, family: Family) {
    let mode = mode(mode_name).unwrap().dumps().unwrap();
    let rules = mode.build(objects, config, family);
    let text = mode.print(&rules, Form::Load);
    let read = mode.read(&text, family).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(opaque(&read.xtables), Vec::<String>::new());
    for (table, other) in rules.xtables.iter().zip(&read.xtables) {
        assert_eq!(table.name, other.name);
        assert_eq!(table.chains.len(), other.chains.len());
        for chain in &table.chains {
            let there = &other.chains[other.chain_id(&chain.name).unwrap().0 as usize];
            assert_eq!(there.base, chain.base);
            assert_eq!(named(other, there), named(table, chain), "{:?} {}", table.name, chain.name);
        }
    }
    assert_eq!((&rules.ipvs, &rules.ipsets), (&read.ipvs, &read.ipsets));
    assert_eq!(rules.dummy_addrs, read.dummy_addrs);
    assert_eq!(mode.print(&read, Form::Load), text);
    let differences = mode.diff(&rules, &read, config);
    assert!(differences.is_empty(), "{}", differences[0]);
    // And nothing is read that is not there: from no objects to these, something differs if anything is added.
    let empty = mode.build(&ProxyObjects { ports: vec![], ..objects.clone() }, config, family);
    assert_eq!(mode.diff(&empty, &read, config).is_empty(), mode.print(&empty, Form::Load) == text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_iptables_ipvs_and_userspace_mode_print_is_read_back_to_the_same_rules(
        draws in draw(), v6: bool, detector: bool, masquerade_all: bool, old: bool,
    ) {
        let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
        let objects = objects(family, &draws);
        let config = config(family, detector, masquerade_all, if old { 20 } else { 36 });
        check("iptables", &objects, &config, family);
        check("ipvs", &objects, &config, family);
        check("userspace", &objects, &config, family);
    }

    #[test]
    fn services_in_another_order_are_no_difference(draws in draw(), turn in 0usize..12) {
        let family = Family::Ipv4;
        let wanted = objects(family, &draws);
        let mut other = wanted.clone();
        let turn = turn % other.ports.len().max(1);
        other.ports.rotate_left(turn);
        let config = config(family, true, false, 36);
        for name in ["iptables", "ipvs"] {
            let mode = mode(name).unwrap().dumps().unwrap();
            let [wanted, other] = [&wanted, &other].map(|objects| mode.build(objects, &config, family));
            let found = mode.read(&mode.print(&other, Form::Load), family).unwrap();
            let differences = mode.diff(&wanted, &found, &config);
            prop_assert!(differences.is_empty(), "{}: {}", name, differences[0]);
        }
    }
}

#[test]
fn three_thousand_services_are_read_and_compared() {
    let draws: Vec<Draw> =
        (0..3000).map(|_| ((0, 80, 2, 1), (false, false, false, false), (0, 0, 0, true))).collect();
    let objects = objects(Family::Ipv4, &draws);
    let rules = iptables().build(&objects, &config(Family::Ipv4, true, false, 36), Family::Ipv4);
    let text = iptables().print(&rules, Form::Load);
    let read = iptables().read(&text, Family::Ipv4).unwrap();
    assert_eq!(iptables().diff(&rules, &read, &ProxyConfig::default()), []);
}
