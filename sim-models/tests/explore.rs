//! Every way of a packet: what is enumerated against what chance does, by mode.

use sim_core::classify::Family;
use sim_core::classify::{Packet, Verdict};
use sim_models::config::ProxyConfig;
use sim_models::kernel::explore::{Exploration, MAX_BRANCHES, ONE, Shot};
use sim_models::kernel::narrative::{Event, Outcome, narrate};
use sim_models::kernel::path::{Origin, Stack};
use sim_models::kernel::rules::NodeRules;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// One Service of so many endpoints, as a mode writes it.
fn rules(mode: &str, endpoints: u32, affinity: Option<u32>) -> NodeRules {
    let endpoint = |n: u32| {
        let addr = Ipv4Addr::from_bits(Ipv4Addr::new(10, 244, 0, 1).to_bits() + n);
        Endpoint { addr: SocketAddr::new(addr.into(), 8080), is_local: false }
    };
    let lists = EndpointLists::ready((0..endpoints).map(endpoint).collect());
    let mut port = ServicePort::http("ns", "a", VIP, lists);
    port.affinity_seconds = affinity;
    let objects = ProxyObjects { ports: vec![port], node_ips: vec![NODE], ..ProxyObjects::default() };
    let config = ProxyConfig { mode: mode.to_owned(), ..ProxyConfig::default() };
    proxy::mode(mode).expect("a mode").build(&objects, &config, Family::Ipv4)
}

fn packet() -> Packet {
    Packet::tcp_syn("10.244.9.9".parse().unwrap(), 40_000, VIP, 80)
}

fn shot(stack: &Stack, seed: u64) -> Shot<'_> {
    Shot { stack, node_ips: &[NODE], seed, packet: packet(), origin: Origin::Pod, iface: None, flow: None }
}

fn by_backend(exploration: &Exploration) -> BTreeMap<SocketAddr, u128> {
    let mut out = BTreeMap::new();
    for branch in &exploration.branches {
        let Verdict::Dnat { to, .. } = branch.crossing.verdict else {
            panic!("{:?}", branch.crossing.verdict)
        };
        *out.entry(to).or_default() += branch.weight;
    }
    out
}

#[test]
fn every_endpoint_is_reached_with_its_part_of_certainty() {
    for mode in ["iptables", "nftables"] {
        for endpoints in [1, 2, 3, 7, 250] {
            let stack = Stack::new(&rules(mode, endpoints, None), 1).unwrap();
            let exploration = shot(&stack, 1).explore();
            let backends = by_backend(&exploration);
            assert_eq!(backends.len(), endpoints as usize, "{mode}");
            assert_eq!(backends.values().sum::<u128>(), ONE, "{mode} {endpoints}: nothing is lost");
            assert_eq!(exploration.unexplored, 0);
            for (to, weight) in backends {
                // Rules hold probabilities in 31 bits, of which kube-proxy's ten decimals leave some.
                let parts = ONE as f64 / weight as f64 / f64::from(endpoints);
                assert!((parts - 1.0).abs() < 1e-6, "{mode} {endpoints} {to}: {parts}");
            }
        }
    }
}

#[test]
fn chance_takes_the_ways_as_often_as_their_weights_say() {
    for mode in ["iptables", "nftables"] {
        let stack = Stack::new(&rules(mode, 3, None), 1).unwrap();
        let mut seen: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        for seed in 0..900 {
            *seen.entry(shot(&stack, seed).by_chance()).or_default() += 1;
        }
        let ways: Vec<Vec<u32>> = shot(&stack, 1).explore().branches.into_iter().map(|b| b.choices).collect();
        assert!(seen.keys().all(|way| ways.contains(way)), "{mode}: a way that was not enumerated");
        // Four standard deviations of 900 draws at 1/3.
        assert!(seen.values().all(|n| n.abs_diff(300) < 57), "{mode}: {seen:?}");
    }
}

#[test]
fn more_ways_than_can_be_followed_are_told_as_what_is_left() {
    let endpoints = u32::try_from(MAX_BRANCHES).unwrap() + 500;
    let stack = Stack::new(&rules("nftables", endpoints, None), 1).unwrap();
    let exploration = shot(&stack, 1).explore();
    assert_eq!(exploration.branches.len(), MAX_BRANCHES);
    let followed: u128 = exploration.branches.iter().map(|b| b.weight).sum();
    assert_eq!(followed + exploration.unexplored, ONE);
    let left = exploration.unexplored as f64 / ONE as f64;
    assert!((left - 500.0 / f64::from(endpoints)).abs() < 1e-6, "{left}");
}

#[test]
fn a_way_that_was_enumerated_is_gone_again() {
    for mode in ["iptables", "nftables", "ipvs"] {
        let stack = Stack::new(&rules(mode, 5, None), 1).unwrap();
        let shot = shot(&stack, 1);
        for branch in shot.explore().branches {
            let walked = shot.walk(&branch.choices);
            assert_eq!(walked.crossing, branch.crossing, "{mode}");
        }
    }
}

#[test]
fn affinity_makes_the_next_connection_certain_and_without_it_chance_decides_again() {
    for mode in ["iptables", "nftables", "ipvs"] {
        for (affinity, sticks) in [(Some(60), true), (None, mode == "ipvs")] {
            let stack = Stack::new(&rules(mode, 4, affinity), 1).unwrap();
            let shot = shot(&stack, 1);
            let last = shot.explore().branches.pop().expect("a branch");
            let walked = shot.walk(&last.choices);
            let same = walked.next.verdict == walked.crossing.verdict;
            assert_eq!(!walked.next.by_chance, sticks, "{mode} {affinity:?}");
            // Round robin goes on to the next server.
            assert_eq!(same, affinity.is_some(), "{mode} {affinity:?}");
        }
    }
}

#[test]
fn decisions_stand_beside_the_rules_that_took_them() {
    let rules = rules("iptables", 3, None);
    let stack = Stack::new(&rules, 1).unwrap();
    let shot = shot(&stack, 1);
    let ways = shot.explore().branches;
    let told = |choices: &[u32]| -> Vec<(Outcome, u64)> {
        let events = narrate(&rules, &packet(), &shot.walk(choices), false);
        let mut out = Vec::new();
        for event in &events {
            match event {
                Event::Missed { chances, .. } => out.extend(chances.iter().filter_map(|c| c.chance)),
                Event::Matched { rule, .. } => out.extend(rule.chance),
                _ => {}
            }
        }
        out.into_iter().map(|c| (c.outcome, c.numerator)).collect()
    };
    let third = 715_827_883;
    let all = 1 << 31;
    assert_eq!(told(&ways[0].choices), [(Outcome::Yes, third)]);
    assert_eq!(told(&ways[1].choices), [(Outcome::No, all - third), (Outcome::Yes, all / 2)]);
    assert_eq!(told(&ways[2].choices), [(Outcome::No, all - third), (Outcome::No, all / 2)]);
}
