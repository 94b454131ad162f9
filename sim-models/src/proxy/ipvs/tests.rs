//! The built rules against the recorded ones, and what each kind of Service adds.

mod options;

use super::*;
use crate::config::IpvsConfig;
use crate::kernel::ipset;
use crate::kernel::ipvs::print;
use crate::kernel::xtables::{Match, Rule, Table, Target};
use crate::kube::{Endpoint, EndpointLists};
use sim_core::units::SimSpan;
use std::fmt::Write as _;

fn config(scheduler: &str, cidr: Option<&str>) -> ProxyConfig {
    ProxyConfig {
        mode: "ipvs".into(),
        ipvs: IpvsConfig { scheduler: scheduler.into(), ..IpvsConfig::default() },
        cluster_cidrs: cidr.map(|text| text.parse().unwrap()).into_iter().collect(),
        min_sync_period: SimSpan::ZERO,
        ..ProxyConfig::default()
    }
}

/// Service `i` as in the recorded rulesets: 172.20.0.1 + i on port 80, two endpoints on port 8080.
fn service(i: u32) -> ServicePort {
    let endpoint = |n: u32| Endpoint {
        addr: (IpAddr::from((0x0a50_0100 + n).to_be_bytes()), 8080).into(),
        is_local: false,
    };
    let cluster = vec![endpoint(2 * i), endpoint(2 * i + 1)];
    ServicePort {
        namespace: "default".into(),
        name: format!("s{i}").into(),
        port_name: "".into(),
        proto: Proto::Tcp,
        cluster_ip: IpAddr::from((0xac14_0001 + i).to_be_bytes()),
        port: 80,
        node_port: 0,
        external_ips: vec![],
        load_balancer_vips: vec![],
        source_ranges: vec![],
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        health_check_node_port: 0,
        endpoints: EndpointLists::ready(cluster),
        revision: 0,
    }
}

fn objects(ports: Vec<ServicePort>) -> ProxyObjects {
    let node_ips = vec!["192.168.0.2".parse().unwrap()];
    ProxyObjects { ports, node_ips, ..ProxyObjects::default() }
}

/// A rule as the recorded input of `iptables-restore` writes it.
fn rule_text(table: &Table, chain: &str, rule: &Rule) -> String {
    let mut out = format!("-A {chain}");
    if let Some(src) = &rule.src {
        write!(out, "{} -s {}", if src.invert { " !" } else { "" }, src.value).unwrap();
    }
    if let Some(proto) = &rule.proto {
        write!(out, " -p {}", proto.value).unwrap();
    }
    for m in &rule.matches {
        let not = |invert: &bool| if *invert { "! " } else { "" };
        match m {
            Match::Comment(text) => write!(out, " -m comment --comment \"{text}\""),
            Match::Set { name, from_src, .. } => {
                let sides: Vec<_> = from_src.iter().map(|&src| if src { "src" } else { "dst" }).collect();
                write!(out, " -m set --match-set {name} {}", sides.join(","))
            }
            Match::Mark { value, mask, invert } => {
                write!(out, " -m mark {}--mark {value:#x}/{mask:#x}", not(invert))
            }
            Match::Conntrack { states, .. } if states.new => write!(out, " -m conntrack --ctstate NEW"),
            Match::Conntrack { .. } => write!(out, " -m conntrack --ctstate RELATED,ESTABLISHED"),
            Match::AddrtypeLocal { src: true, invert } => {
                write!(out, " -m addrtype {}--src-type LOCAL", not(invert))
            }
            Match::AddrtypeLocal { src: false, .. } => write!(out, " -m addrtype --dst-type LOCAL"),
            Match::PhysdevIsIn { invert } => write!(out, " -m physdev {}--physdev-is-in", not(invert)),
            Match::IpvsVirtual { addr, port, proto } => {
                write!(out, " -m ipvs --vaddr {addr} --vproto {proto} --vport {port}")
            }
            other => panic!("not a match of this mode: {other:?}"),
        }
        .unwrap();
    }
    match rule.target.as_ref().expect("every rule of this mode has a target") {
        Target::Jump(to) => write!(out, " -j {}", table.chains[to.0 as usize].name),
        Target::Return => write!(out, " -j RETURN"),
        Target::Accept => write!(out, " -j ACCEPT"),
        Target::Drop => write!(out, " -j DROP"),
        Target::Reject => write!(out, " -j REJECT"),
        Target::Mark { value, mask: 0 } => write!(out, " -j MARK --xor-mark {value:#x}"),
        Target::Mark { value, .. } => write!(out, " -j MARK --or-mark {value:#x}"),
        Target::Masquerade { random_fully: true } => write!(out, " -j MASQUERADE --random-fully"),
        Target::Masquerade { random_fully: false } => write!(out, " -j MASQUERADE"),
        other => panic!("not a target of this mode: {other:?}"),
    }
    .unwrap();
    out
}

/// The recorded files list built-in chains first and the others by name.
fn restore_text(tables: &[Table]) -> String {
    let mut out = String::new();
    for table in tables {
        writeln!(out, "*{}", format!("{:?}", table.name).to_lowercase()).unwrap();
        for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
            writeln!(out, ":{} - [0:0]", chain.name).unwrap();
        }
        let mut chains: Vec<_> = table.chains.iter().collect();
        chains.sort_by_key(|chain| if chain.base.is_some() { "" } else { &*chain.name });
        for chain in chains {
            for rule in &chain.rules {
                writeln!(out, "{}", rule_text(table, &chain.name, rule)).unwrap();
            }
        }
        out.push_str("COMMIT\n");
    }
    out
}

/// The lines without their order: elements of sets have none.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_measured_shape_is_the_recorded_one() {
    let rules = build_measured_shape(
        &objects((0..10).map(service).collect()),
        &config("rr", Some("10.64.0.0/10")),
        Family::Ipv4,
    );
    assert_eq!(print::save(&rules.ipvs), include_str!("../../../tests/data/ipvs/ipvs_10_2_rr.ipvs"));
    assert_eq!(restore_text(&rules.xtables), include_str!("../../../tests/data/ipvs/ipvs_10_2_rr.ipt"));
    let sets = ipset::save(&rules.ipsets);
    assert_eq!(sorted(&sets), sorted(include_str!("../../../tests/data/ipvs/ipvs_10_2_rr.ipset")));
    let addrs: String =
        rules.dummy_addrs.iter().map(|addr| format!("addr add {addr}/32 dev kube-ipvs0\n")).collect();
    assert_eq!(addrs, include_str!("../../../tests/data/ipvs/ipvs_10_2_rr.addr"));
}

#[test]
fn the_measured_shape_with_node_ports_is_the_recorded_one() {
    let ports = (0..3).map(|i| ServicePort { node_port: 30_000 + i as u16, ..service(i) }).collect();
    let rules = build_measured_shape(&objects(ports), &config("rr", Some("10.64.0.0/10")), Family::Ipv4);
    let recorded = include_str!("../../../tests/data/ipvs/ipvs_nodeport.S3.E2.ipvsadm");
    assert_eq!(print::save(&rules.ipvs), recorded);
    let recorded = include_str!("../../../tests/data/ipvs/ipvs_nodeport.S3.E2.ipt");
    assert_eq!(restore_text(&rules.xtables), recorded);
    let sets = ipset::save(&rules.ipsets);
    assert_eq!(sorted(&sets), sorted(include_str!("../../../tests/data/ipvs/ipvs_nodeport.S3.E2.ipset")));
}

#[test]
fn affinity_is_persistence() {
    let ports = (0..3).map(|i| ServicePort { affinity_seconds: Some(10_800), ..service(i) }).collect();
    let rules = build(&objects(ports), &config("rr", None), Family::Ipv4);
    let recorded = include_str!("../../../tests/data/ipvs/ipvs_affinity.S3.E2.ipvsadm");
    assert_eq!(print::save(&rules.ipvs), recorded);
}

#[test]
fn kube_proxy_differs_from_the_measured_shape_in_two_rules() {
    let objects = objects((0..10).map(service).collect());
    let config = config("rr", Some("10.64.0.0/10"));
    let real = restore_text(&build(&objects, &config, Family::Ipv4).xtables);
    let measured = restore_text(&build_measured_shape(&objects, &config, Family::Ipv4).xtables);
    let only = |a: &str, b: &str| -> Vec<String> {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(String::from).collect()
    };
    assert_eq!(only(&real, &measured), ["-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"]);
    let hairpin = only(&measured, &real);
    assert!(hairpin.len() == 1 && hairpin[0].contains("KUBE-LOOP-BACK"), "{hairpin:?}");
}

#[test]
fn rules_do_not_grow_with_services() {
    let count = |n: u32| -> usize {
        let rules = build(&objects((0..n).map(service).collect()), &config("rr", None), Family::Ipv4);
        rules.xtables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum()
    };
    assert_eq!(count(1), count(2_000));
}

#[test]
fn a_load_balancer_with_ranges_keeps_the_node_out_unless_a_range_has_it() {
    let vip: IpAddr = "1.2.3.4".parse().unwrap();
    let lb = |range: &str| ServicePort {
        load_balancer_vips: vec![vip],
        source_ranges: vec![range.parse().unwrap()],
        ..service(0)
    };
    let text =
        |range| restore_text(&build(&objects(vec![lb(range)]), &config("rr", None), Family::Ipv4).xtables);
    let outside = text("203.0.113.0/25");
    let drop =
        "-A KUBE-IPVS-OUT-FILTER -s 1.2.3.4/32 -m ipvs --vaddr 1.2.3.4 --vproto tcp --vport 80 -j DROP";
    assert!(outside.contains(drop), "{outside}");
    assert!(!outside.contains("--match-set KUBE-LOAD-BALANCER-SOURCE-IP"));
    let inside = text("192.168.0.0/24");
    assert!(!inside.contains("--vaddr"));
    assert!(inside.contains("--match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN"), "{inside}");
}

#[test]
fn external_addresses_are_masqueraded_under_policy_cluster_only() {
    let external = |external_local| ServicePort {
        external_ips: vec!["1.2.3.4".parse().unwrap(), "192.168.0.2".parse().unwrap()],
        external_local,
        ..service(0)
    };
    let built = |local| build(&objects(vec![external(local)]), &config("rr", None), Family::Ipv4);
    let masquerade = "--match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ";
    assert!(restore_text(&built(false).xtables).contains(masquerade));
    assert!(!restore_text(&built(true).xtables).contains("EXTERNAL-IP-LOCAL dst,dst -j KUBE-MARK-MASQ"));
    let bound: Vec<String> = built(false).dummy_addrs.iter().map(IpAddr::to_string).collect();
    assert_eq!(bound, ["172.20.0.1", "1.2.3.4"], "the node's own address stays where it is");
}

#[test]
fn local_policy_falls_back_to_the_cluster_and_local_endpoints_may_hairpin() {
    let mut svc = ServicePort { internal_local: true, ..service(0) };
    let all = build(&objects(vec![svc.clone()]), &config("rr", None), Family::Ipv4);
    assert_eq!(all.ipvs[0].real.len(), 2);
    let local = Endpoint { is_local: true, ..svc.endpoints.cluster[0].clone() };
    svc.endpoints.local = vec![local.clone()];
    svc.endpoints.reachable = vec![local];
    let one = build(&objects(vec![svc]), &config("rr", None), Family::Ipv4);
    assert_eq!(one.ipvs[0].real.len(), 1);
    assert!(ipset::save(&one.ipsets).contains("add KUBE-LOOP-BACK 10.80.1.0,tcp:8080,10.80.1.0"));
}

#[test]
fn without_a_detector_only_service_addresses_as_source_are_masqueraded() {
    let rules = build(&objects(vec![service(0)]), &config("mh", None), Family::Ipv4);
    let text = restore_text(&rules.xtables);
    assert!(text.contains("--match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ"), "{text}");
    assert!(rules.ipvs[0].flags.port, "mh hashes the port");
}
