//! Which tables a packet crosses, hook by hook, and what becomes of it and of its answers.

use super::route::Device;
use super::*;
use crate::config::ProxyConfig;
use crate::kernel::hook::Hook;
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Chain, CtStates, Match, Policy, Rule, Table, TableName, Target};
use crate::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_core::classify::{Family, Proto, TcpFlags};
use sim_core::units::SimSpan;
use std::net::{IpAddr, SocketAddr};

const SEED: u64 = 1;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Names {
    node: &'static str,
    vip: &'static str,
    load_balancer: &'static str,
    pod: &'static str,
    other: &'static str,
    outside: &'static str,
}

fn names(family: Family) -> Names {
    match family {
        Family::Ipv4 => Names {
            node: "192.168.0.2",
            vip: "10.96.0.1",
            load_balancer: "203.0.113.9",
            pod: "10.244.0.5",
            other: "10.244.1.7",
            outside: "198.51.100.4",
        },
        Family::Ipv6 => Names {
            node: "fd00:192:168::2",
            vip: "fd00:10:96::1",
            load_balancer: "2001:db8::9",
            pod: "fd00:10:244::5",
            other: "fd00:10:244:1::7",
            outside: "2001:db8:1::4",
        },
    }
}

/// A Service with one endpoint, a load balancer's address and a node port.
fn objects(family: Family, endpoint: &str) -> ProxyObjects {
    let n = names(family);
    let endpoints = vec![Endpoint { addr: SocketAddr::new(ip(endpoint), 8080), is_local: endpoint == n.pod }];
    let mut port = ServicePort::http("ns", "a", ip(n.vip), EndpointLists::ready(endpoints));
    port.node_port = 30_080;
    port.load_balancer_vips = vec![ip(n.load_balancer)];
    ProxyObjects { ports: vec![port], node_ips: vec![ip(n.node)], ..ProxyObjects::default() }
}

fn config(mode: &str, family: Family) -> ProxyConfig {
    let cidr = if family == Family::Ipv4 { "10.244.0.0/16" } else { "fd00:10:244::/48" };
    let mut config = ProxyConfig { mode: mode.to_owned(), ..ProxyConfig::default() };
    config.cluster_cidrs = vec![cidr.parse().unwrap()];
    config
}

fn rules(mode: &str, family: Family, endpoint: &str) -> NodeRules {
    let mode = crate::proxy::mode(mode).unwrap();
    mode.build(&objects(family, endpoint), &config(mode.name(), family), family)
}

/// A table of empty chains.
fn empty(name: TableName, family: Family, hooks: &[Hook]) -> Table {
    let chain = |&hook: &Hook| Chain {
        name: hook.chain_name().into(),
        base: Some((hook, Policy::Accept)),
        rules: Vec::new(),
    };
    Table { name, family, chains: hooks.iter().map(chain).collect() }
}

/// The same rules with tables raw and security beside them, so that every table is there.
fn all_tables(mut rules: NodeRules, family: Family) -> NodeRules {
    let raw = [Hook::Prerouting, Hook::Output];
    let security = [Hook::Input, Hook::Forward, Hook::Output];
    for (name, hooks) in
        [(TableName::Raw, &raw[..]), (TableName::Security, &security), (TableName::Mangle, &Hook::ALL)]
    {
        if !rules.xtables.iter().any(|t| t.name == name) {
            rules.xtables.push(empty(name, family, hooks));
        }
    }
    rules
}

fn node(family: Family) -> NodeState {
    NodeState::new(SEED, "test", 2, &[ip(names(family).node)])
}

fn stack(rules: &NodeRules) -> Stack {
    Stack::new(rules, SEED).unwrap()
}

/// What a packet crossed, a hook a line: `PREROUTING raw conntrack mangle nat`.
fn crossed(rules: &NodeRules, steps: &[Step]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for step in steps {
        let word = match step {
            Step::Hook(hook) => {
                lines.push(hook.chain_name().to_owned());
                continue;
            }
            Step::Tracked(_) => "conntrack",
            Step::XtTable(table) => rules.xtables[*table].name.name(),
            Step::NftChain(chain) => &rules.nftables.as_ref().unwrap().chains[chain.0 as usize].name,
            Step::Ipvs(_) => "ipvs",
            _ => continue,
        };
        let line = lines.last_mut().expect("a hook comes first");
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n")
}

fn send(
    rules: &NodeRules,
    stack: &Stack,
    state: &mut NodeState,
    packet: Packet,
    origin: Origin,
) -> (Crossing, String) {
    let mut steps: Vec<Step> = Vec::new();
    let crossing = cross_observed(stack, state, packet, origin, SimTime::ZERO, &mut steps);
    (crossing, crossed(rules, &steps))
}

/// The answer to a packet as it left.
fn answer(sent: &Packet, flags: TcpFlags) -> Packet {
    Packet { src: sent.dst, sport: sent.dport, dst: sent.src, dport: sent.sport, flags, ..*sent }
}

/// One way through the node.
struct Way {
    what: &'static str,
    mode: &'static str,
    /// Sender, its origin, receiver, and where the endpoint is.
    from: (fn(&Names) -> &'static str, Origin),
    to: (fn(&Names) -> &'static str, u16),
    endpoint: fn(&Names) -> &'static str,
    /// Who sees the answer come in: the side that the endpoint is on.
    answers_from: Origin,
    first: &'static str,
    established: &'static str,
    reply: &'static str,
}

const FORWARDED: &str = "\
PREROUTING raw conntrack mangle
FORWARD mangle filter security
POSTROUTING mangle";

#[rustfmt::skip]
const WAYS: &[Way] = &[
    Way {
        what: "pod to cluster IP, endpoint elsewhere", mode: "iptables",
        from: (|n| n.pod, Origin::Pod), to: (|n| n.vip, 80), endpoint: |n| n.other, answers_from: Origin::Wire,
        first: "PREROUTING raw conntrack mangle nat\nFORWARD mangle filter security\nPOSTROUTING mangle nat",
        established: FORWARDED, reply: FORWARDED,
    },
    Way {
        what: "hairpin: pod to its own Service and back to itself", mode: "iptables",
        from: (|n| n.pod, Origin::Pod), to: (|n| n.vip, 80), endpoint: |n| n.pod, answers_from: Origin::Pod,
        first: "PREROUTING raw conntrack mangle nat\nFORWARD mangle filter security\nPOSTROUTING mangle nat",
        established: FORWARDED, reply: FORWARDED,
    },
    Way {
        what: "host to cluster IP", mode: "iptables",
        from: (|n| n.node, Origin::Host), to: (|n| n.vip, 80), endpoint: |n| n.other, answers_from: Origin::Wire,
        first: "OUTPUT raw conntrack mangle nat filter security\nPOSTROUTING mangle nat",
        established: "OUTPUT raw conntrack mangle filter security\nPOSTROUTING mangle",
        reply: "PREROUTING raw conntrack mangle\nINPUT mangle filter security",
    },
    Way {
        what: "outside to node port", mode: "iptables",
        from: (|n| n.outside, Origin::Wire), to: (|n| n.node, 30_080), endpoint: |n| n.other, answers_from: Origin::Wire,
        first: "PREROUTING raw conntrack mangle nat\nFORWARD mangle filter security\nPOSTROUTING mangle nat",
        established: FORWARDED, reply: FORWARDED,
    },
    Way {
        what: "outside to load balancer", mode: "iptables",
        from: (|n| n.outside, Origin::Wire), to: (|n| n.load_balancer, 80), endpoint: |n| n.pod, answers_from: Origin::Pod,
        first: "PREROUTING raw conntrack mangle nat\nFORWARD mangle filter security\nPOSTROUTING mangle nat",
        established: FORWARDED, reply: FORWARDED,
    },
    Way {
        what: "pod to the node itself", mode: "iptables",
        from: (|n| n.pod, Origin::Pod), to: (|n| n.node, 22), endpoint: |n| n.other, answers_from: Origin::Host,
        first: "PREROUTING raw conntrack mangle nat\nINPUT mangle filter security nat",
        established: "PREROUTING raw conntrack mangle\nINPUT mangle filter security",
        reply: "OUTPUT raw conntrack mangle filter security\nPOSTROUTING mangle",
    },
    Way {
        what: "the node to itself", mode: "iptables",
        from: (|n| n.node, Origin::Host), to: (|n| n.node, 22), endpoint: |n| n.other, answers_from: Origin::Host,
        first: "OUTPUT raw conntrack mangle nat filter security\nPOSTROUTING mangle nat\n\
            PREROUTING raw mangle\nINPUT mangle filter security",
        established: "OUTPUT raw conntrack mangle filter security\nPOSTROUTING mangle\n\
            PREROUTING raw mangle\nINPUT mangle filter security",
        reply: "OUTPUT raw conntrack mangle filter security\nPOSTROUTING mangle\n\
            PREROUTING raw mangle\nINPUT mangle filter security",
    },
    Way {
        what: "pod to cluster IP through IPVS", mode: "ipvs",
        from: (|n| n.pod, Origin::Pod), to: (|n| n.vip, 80), endpoint: |n| n.other, answers_from: Origin::Wire,
        first: "PREROUTING raw conntrack mangle nat\nINPUT mangle filter security ipvs\n\
            OUTPUT raw mangle filter security\nPOSTROUTING mangle nat",
        established: "PREROUTING raw conntrack mangle\nINPUT mangle filter security ipvs\n\
            OUTPUT raw mangle filter security\nPOSTROUTING mangle",
        reply: FORWARDED,
    },
    Way {
        what: "host to cluster IP through IPVS", mode: "ipvs",
        from: (|n| n.node, Origin::Host), to: (|n| n.vip, 80), endpoint: |n| n.other, answers_from: Origin::Wire,
        first: "OUTPUT raw conntrack mangle nat ipvs\nOUTPUT raw mangle filter security\nPOSTROUTING mangle nat",
        established: "OUTPUT raw conntrack mangle ipvs\nOUTPUT raw mangle filter security\nPOSTROUTING mangle",
        reply: "PREROUTING raw conntrack mangle\nINPUT mangle filter security",
    },
];

#[test]
fn every_way_crosses_its_tables_in_the_kernels_order() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let n = names(family);
        for way in WAYS {
            let endpoint = (way.endpoint)(&n);
            let rules = all_tables(rules(way.mode, family, endpoint), family);
            let (stack, mut state) = (stack(&rules), node(family));
            let (from, to) = (ip((way.from.0)(&n)), (ip((way.to.0)(&n)), way.to.1));
            let what = format!("{} ({family:?})", way.what);
            let syn = Packet::tcp_syn(from, 40_000, to.0, to.1);
            let (crossing, walked) = send(&rules, &stack, &mut state, syn, way.from.1);
            assert_eq!(walked, way.first, "{what}, first");
            assert!(crossing.first && state.conntrack.len() == 1, "{what}: {crossing:?}");
            assert!(
                matches!(crossing.verdict, Verdict::Accept | Verdict::Dnat { .. }),
                "{what}: {crossing:?}"
            );
            let back = answer(&crossing.packet, TcpFlags::SYN_ACK);
            let (returned, walked) = send(&rules, &stack, &mut state, back, way.answers_from);
            assert_eq!(walked, way.reply, "{what}, reply");
            let expected = answer(&syn, TcpFlags::SYN_ACK);
            let got = Packet { mark: 0, ..returned.packet };
            assert_eq!(
                (got, returned.first),
                (expected, false),
                "{what}: the answer comes from whom the client called"
            );
            let ack = syn.with_flags(TcpFlags::ACK);
            let (again, walked) = send(&rules, &stack, &mut state, ack, way.from.1);
            assert_eq!(walked, way.established, "{what}, established");
            let (a, b) = (crossing.packet, again.packet);
            assert_eq!(
                (a.src, a.sport, a.dst, a.dport),
                (b.src, b.sport, b.dst, b.dport),
                "{what}: the same translation"
            );
        }
    }
}

#[test]
fn nftables_base_chains_run_in_order_and_those_of_type_nat_for_first_packets_only() {
    let n = names(Family::Ipv4);
    let rules = rules("nftables", Family::Ipv4, n.other);
    let (stack, mut state) = (stack(&rules), node(Family::Ipv4));
    let syn = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.vip), 80);
    let (crossing, first) = send(&rules, &stack, &mut state, syn, Origin::Pod);
    assert_eq!(crossing.packet.dst, ip(n.other));
    assert_eq!(
        first,
        "PREROUTING conntrack filter-prerouting-pre-dnat nat-prerouting\n\
         FORWARD filter-forward\nPOSTROUTING nat-postrouting"
    );
    send(&rules, &stack, &mut state, answer(&crossing.packet, TcpFlags::SYN_ACK), Origin::Wire);
    let (_, later) = send(&rules, &stack, &mut state, syn.with_flags(TcpFlags::ACK), Origin::Pod);
    assert_eq!(later, "PREROUTING conntrack filter-prerouting-pre-dnat\nFORWARD filter-forward\nPOSTROUTING");
}

#[test]
fn a_connection_without_an_answer_is_new_to_rules_but_not_to_nat() {
    let n = names(Family::Ipv4);
    let rules = rules("iptables", Family::Ipv4, n.other);
    let (stack, mut state) = (stack(&rules), node(Family::Ipv4));
    let udp = Packet {
        proto: Proto::Udp,
        flags: TcpFlags::default(),
        ..Packet::tcp_syn(ip(n.pod), 40_000, ip(n.other), 53)
    };
    let mut steps: Vec<Step> = Vec::new();
    for first in [true, false] {
        steps.clear();
        let crossing = cross_observed(&stack, &mut state, udp, Origin::Pod, SimTime::ZERO, &mut steps);
        assert_eq!(crossing.first, first);
        assert!(steps.contains(&Step::Tracked(crate::kernel::hook::CtState::New)));
        assert_eq!(crossed(&rules, &steps).contains("nat"), first);
    }
}

fn listed(stack: &Stack) -> Vec<String> {
    let of = |hook: Hook| {
        let names: Vec<_> =
            stack.functions(hook).iter().map(|f| format!("{}@{}", f.name, f.priority)).collect();
        format!("{}: {}", hook.chain_name(), names.join(" "))
    };
    Hook::ALL.into_iter().map(of).collect()
}

#[test]
fn functions_are_there_only_where_rules_need_them() {
    let last = i32::MAX;
    let nothing = stack(&NodeRules::default());
    assert!(!nothing.tracks() && listed(&nothing).iter().all(|line| line.ends_with(": ")));
    // A nat table without a rule that translates is called by nobody.
    let nat_hooks = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];
    let mut tables = vec![
        empty(TableName::Nat, Family::Ipv4, &nat_hooks),
        empty(TableName::Filter, Family::Ipv4, &[Hook::Forward]),
    ];
    let bare = NodeRules { xtables: tables.clone(), ..NodeRules::default() };
    let bare_stack = stack(&bare);
    assert_eq!(listed(&bare_stack)[..3], ["PREROUTING: ", "INPUT: ", "FORWARD: iptables@0"]);
    let mut state = node(Family::Ipv4);
    let syn = Packet::tcp_syn(ip("10.244.0.5"), 1, ip("10.96.0.1"), 80);
    let (crossing, walked) = send(&bare, &bare_stack, &mut state, syn, Origin::Pod);
    assert_eq!(walked, "PREROUTING\nFORWARD filter\nPOSTROUTING");
    assert_eq!((crossing.work[Unit::CtLookup], crossing.work[Unit::NatHookNew]), (0, 0));
    assert!(state.conntrack.is_empty());
    // A match of the state brings conntrack, and with it what the nat table is called by.
    let states = CtStates { new: true, ..CtStates::default() };
    let matches = [Match::Conntrack { states, invert: false }].into_iter().collect();
    tables[1].chains[0].rules.push(Rule { matches, target: Some(Target::Accept), ..Rule::default() });
    let tracking = stack(&NodeRules { xtables: tables.clone(), ..NodeRules::default() });
    assert_eq!(
        listed(&tracking),
        [
            "PREROUTING: defrag@-400 conntrack@-200 nat@-100".to_owned(),
            format!("INPUT: nat@100 confirm@{last}"),
            "FORWARD: iptables@0".to_owned(),
            "OUTPUT: defrag@-400 conntrack@-200 nat@-100".to_owned(),
            format!("POSTROUTING: nat@100 confirm@{last}"),
        ]
    );
    let without_nat = stack(&NodeRules { xtables: tables[1..].to_vec(), ..NodeRules::default() });
    assert_eq!(listed(&without_nat)[4], format!("POSTROUTING: confirm@{last}"));
    let ipvs = rules("ipvs", Family::Ipv4, "10.244.1.7");
    let lines = listed(&stack(&ipvs));
    assert!(
        lines[1].contains("ipvs@99 nat@100")
            && lines[2].contains("ipvs@100")
            && lines[3].contains("nat@-100 ipvs@-98"),
        "{lines:?}"
    );
    // iptables with kube-proxy's rules: table mangle between conntrack and nat.
    let kube = stack(&all_tables(rules("iptables", Family::Ipv4, "10.244.1.7"), Family::Ipv4));
    assert_eq!(
        listed(&kube)[0],
        "PREROUTING: defrag@-400 iptables@-300 conntrack@-200 iptables@-150 nat@-100"
    );
}

#[test]
fn devices_follow_routes_and_masquerading_takes_the_address_of_the_one_it_leaves_by() {
    let n = names(Family::Ipv4);
    let mut rules = rules("iptables", Family::Ipv4, n.pod);
    let forward = rules.xtables.iter_mut().find(|t| t.name == TableName::Filter).unwrap();
    let chain = forward.chains.iter_mut().find(|c| &*c.name == "FORWARD").unwrap();
    let device = |name: &str| Some(crate::kernel::xtables::Test { invert: false, value: name.into() });
    let rule = Rule {
        in_iface: device("bond0"),
        out_iface: device("veth5"),
        target: Some(Target::Drop),
        ..Rule::default()
    };
    chain.rules.insert(0, rule);
    let stack = stack(&rules);
    let routed = || {
        let mut state = node(Family::Ipv4);
        let pod = Device { name: "veth5".into(), addresses: vec![ip("10.244.0.1")], queue: false };
        state.routes.add(pod, &["10.244.0.5/32".parse().unwrap()]);
        state.routes.add(
            Device { name: "bond0".into(), addresses: vec![ip(n.node)], queue: false },
            &["0.0.0.0/0".parse().unwrap()],
        );
        state
    };
    let syn = Packet::tcp_syn(ip(n.outside), 40_000, ip(n.node), 30_080);
    let by = |name| Ingress::by(Origin::Wire, name);
    assert_eq!(cross(&stack, &mut routed(), syn, by("bond0"), SimTime::ZERO).verdict, Verdict::Drop);
    let passed = cross(&stack, &mut routed(), syn, by("eth9"), SimTime::ZERO);
    assert_eq!((passed.packet.dst, passed.packet.src), (ip(n.pod), ip("10.244.0.1")));
    // Without routes the node has one address and pods are behind veth0.
    let plain = cross(&stack, &mut node(Family::Ipv4), syn, by("bond0"), SimTime::ZERO);
    assert_eq!(plain.packet.src, ip(n.node));
}

#[test]
fn a_node_without_an_address_of_the_family_cannot_masquerade() {
    let n = names(Family::Ipv6);
    let rules = rules("iptables", Family::Ipv6, n.other);
    let mut state = NodeState::new(SEED, "test", 2, &[ip("192.168.0.2")]);
    let syn = Packet::tcp_syn(ip(n.outside), 40_000, ip(n.load_balancer), 80);
    assert_eq!(cross(&stack(&rules), &mut state, syn, Origin::Wire, SimTime::ZERO).verdict, Verdict::Drop);
    assert!(state.conntrack.is_empty());
}

#[test]
fn two_first_packets_of_one_udp_socket_can_reach_two_backends() {
    let family = Family::Ipv4;
    let n = names(family);
    let mut objects = objects(family, n.other);
    let endpoint =
        |last: u8| Endpoint { addr: SocketAddr::from(([10, 244, 1, last], 8080)), is_local: false };
    objects.ports[0].proto = Proto::Udp;
    objects.ports[0].endpoints = EndpointLists::ready((1..=50).map(endpoint).collect());
    let mode = crate::proxy::mode("iptables").unwrap();
    let stack = stack(&mode.build(&objects, &config("iptables", family), family));
    let mut state = node(family);
    let mut packet = Packet {
        proto: Proto::Udp,
        flags: TcpFlags::default(),
        ..Packet::tcp_syn(ip(n.pod), 0, ip(n.vip), 80)
    };
    let (mut differ, mut flows) = (0, 0);
    for sport in 1000..1100 {
        packet.sport = sport;
        let a = begin(&stack, &mut state, packet, Origin::Pod, SimTime::ZERO);
        let b = begin(&stack, &mut state, packet, Origin::Pod, SimTime::ZERO);
        let (a, b) = (finish(&mut state, a, SimTime::ZERO), finish(&mut state, b, SimTime::ZERO));
        assert!(a.first && b.first);
        let same = a.packet.dst == b.packet.dst;
        differ += u32::from(!same);
        flows += if same { 1 } else { 2 };
        assert!(matches!(b.verdict, Verdict::Dnat { to, .. } if to.ip() == b.packet.dst));
        // The next packet goes where the first went.
        let next = cross(&stack, &mut state, packet, Origin::Pod, SimTime::ZERO);
        assert_eq!(next.packet.dst, a.packet.dst);
    }
    assert!(differ > 80, "{differ} of 100 with 50 backends");
    assert_eq!(state.conntrack.len(), flows);
    // Of TCP the second is dropped, and the client tries again a second later.
    packet = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.node), 22);
    let a = begin(&stack, &mut state, packet, Origin::Pod, SimTime::ZERO);
    let b = begin(&stack, &mut state, packet, Origin::Pod, SimTime::ZERO);
    assert_eq!(b.crossing().verdict, Verdict::Accept);
    assert_eq!(finish(&mut state, a, SimTime::ZERO).verdict, Verdict::Accept);
    assert_eq!(finish(&mut state, b, SimTime::ZERO).verdict, Verdict::Drop);
}

#[test]
fn an_icmp_error_about_a_connection_is_related_to_it_and_translated_back() {
    let n = names(Family::Ipv4);
    let rules = rules("iptables", Family::Ipv4, n.other);
    let (stack, mut state) = (stack(&rules), node(Family::Ipv4));
    let syn = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.vip), 80);
    let sent = cross(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO).packet;
    let from = Packet::tcp_syn(ip(n.other), 0, ip(n.pod), 0);
    let error = Packet { proto: Proto::Icmp, flags: TcpFlags::default(), ..from };
    let mut steps: Vec<Step> = Vec::new();
    let about = Ingress::from(Origin::Wire).about(Tuple::of(&sent));
    let back = cross_observed(&stack, &mut state, error, about, SimTime::ZERO, &mut steps);
    assert!(steps.contains(&Step::Tracked(crate::kernel::hook::CtState::Related)));
    assert_eq!((back.packet.src, back.packet.dst, back.first), (ip(n.vip), ip(n.pod), false));
    assert_eq!(state.conntrack.len(), 1);
    let unknown = Ingress::from(Origin::Wire).about(Tuple { proto: Proto::Udp, ..Tuple::of(&sent) });
    steps.clear();
    let stray = cross_observed(&stack, &mut state, error, unknown, SimTime::ZERO, &mut steps);
    assert!(steps.contains(&Step::Tracked(crate::kernel::hook::CtState::Invalid)));
    assert_eq!((stray.packet.src, state.conntrack.len()), (ip(n.other), 1));
}

#[test]
fn what_begins_no_connection_passes_untranslated_and_kube_proxy_drops_it() {
    let n = names(Family::Ipv4);
    let rules = rules("iptables", Family::Ipv4, n.other);
    let (stack, mut state) = (stack(&rules), node(Family::Ipv4));
    let stray = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.other), 80).with_flags(TcpFlags::SYN_ACK);
    let crossing = cross(&stack, &mut state, stray, Origin::Pod, SimTime::ZERO);
    assert_eq!((crossing.verdict, crossing.first), (Verdict::Drop, false), "ctstate INVALID");
    assert!(state.conntrack.is_empty());
}

#[test]
fn a_full_table_drops_new_connections_before_any_rule_and_lets_old_ones_pass() {
    let n = names(Family::Ipv4);
    let rules = rules("iptables", Family::Ipv4, n.other);
    let (stack, mut state) = (stack(&rules), node(Family::Ipv4));
    let small = crate::kernel::conntrack::ConntrackConfig { max: 1, ..*state.conntrack.config() };
    state.conntrack = state.conntrack.clone().configured(small);
    let syn = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.vip), 80);
    let sent = cross(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO).packet;
    cross(&stack, &mut state, answer(&sent, TcpFlags::SYN_ACK), Origin::Wire, SimTime::ZERO);
    let ack = syn.with_flags(TcpFlags::ACK);
    cross(&stack, &mut state, ack, Origin::Pod, SimTime::ZERO);
    let (turned_away, walked) =
        send(&rules, &stack, &mut state, Packet { sport: 40_001, ..syn }, Origin::Pod);
    assert_eq!((turned_away.verdict, walked.as_str()), (Verdict::Drop, "PREROUTING"));
    assert!(matches!(
        cross(&stack, &mut state, ack, Origin::Pod, SimTime::ZERO).verdict,
        Verdict::Dnat { .. }
    ));
}

#[test]
fn a_dropped_first_packet_leaves_no_connection_and_no_place_taken() {
    let n = names(Family::Ipv4);
    let mut objects = objects(Family::Ipv4, n.other);
    objects.ports[0].endpoints = EndpointLists::ready(Vec::new());
    let mode = crate::proxy::mode("iptables").unwrap();
    let stack = stack(&mode.build(&objects, &config("iptables", Family::Ipv4), Family::Ipv4));
    let mut state = node(Family::Ipv4);
    let empty = state.conntrack.memory_bytes();
    for sport in 1..100 {
        let syn = Packet::tcp_syn(ip(n.pod), sport, ip(n.vip), 80);
        assert_eq!(cross(&stack, &mut state, syn, Origin::Pod, SimTime::ZERO).verdict, Verdict::Reject);
    }
    assert_eq!(state.conntrack.memory_bytes(), empty);
}

#[test]
fn a_connection_closed_and_opened_again_from_the_same_port_may_reach_another_backend() {
    let n = names(Family::Ipv4);
    let mut objects = objects(Family::Ipv4, n.other);
    let endpoint =
        |last: u8| Endpoint { addr: SocketAddr::from(([10, 244, 1, last], 8080)), is_local: false };
    objects.ports[0].endpoints = EndpointLists::ready((1..=20).map(endpoint).collect());
    let mode = crate::proxy::mode("iptables").unwrap();
    let stack = stack(&mode.build(&objects, &config("iptables", Family::Ipv4), Family::Ipv4));
    let mut state = node(Family::Ipv4);
    let syn = Packet::tcp_syn(ip(n.pod), 40_000, ip(n.vip), 80);
    let mut backends = std::collections::BTreeSet::new();
    for round in 0..30u64 {
        let now = SimTime::ZERO + SimSpan::from_ms(round);
        let opened = cross(&stack, &mut state, syn, Origin::Pod, now);
        assert!(opened.first, "round {round}");
        backends.insert(opened.packet.dst);
        let fin = TcpFlags::FIN_ACK;
        for (flags, from_client) in [
            (TcpFlags::SYN_ACK, false),
            (TcpFlags::ACK, true),
            (fin, true),
            (fin, false),
            (TcpFlags::ACK, true),
        ] {
            let (packet, origin) = match from_client {
                true => (syn.with_flags(flags), Origin::Pod),
                false => (answer(&opened.packet, flags), Origin::Wire),
            };
            assert!(!cross(&stack, &mut state, packet, origin, now).first);
        }
    }
    assert!(backends.len() > 10, "{backends:?}");
    assert_eq!(state.conntrack.len(), 1);
}

#[test]
fn an_nftables_rule_of_another_form_that_looks_at_the_connection_has_it_tracked() {
    let tracks = |rule: &str| {
        let text = format!(
            "table ip kube-proxy {{\n\tchain input {{\n\t\ttype filter hook input priority 0; policy accept;\n\t\t{rule}\n\t}}\n}}\n"
        );
        let mode = crate::proxy::mode("nftables").and_then(|mode| mode.dumps()).unwrap();
        let rules = mode.read(&text, Family::Ipv4).unwrap_or_else(|e| panic!("{rule}: {e}"));
        Stack::new(&rules, SEED).unwrap_or_else(|e| panic!("{rule}: {e}")).tracks()
    };
    assert!(tracks("ct state established,related accept"));
    assert!(tracks("ct mark set meta mark"));
    assert!(!tracks("tcp dport 22 accept"));
}
