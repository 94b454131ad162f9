//! Packets through kube-proxy's rules of either backend: the same fate, other work.

use crate::support::{objects, syn};
use sim_core::classify::{Family, Unit, Verdict, Work};
use sim_core::units::SimTime;
use sim_models::config::{ProxyConfig, XtablesBackend};
use sim_models::kernel::hook::Hook;
use sim_models::kernel::nftables::Engine;
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::xtables::{Chain, ChainId, Match, Policy, Rule, Table, TableName, Target, Test};
use sim_models::proxy::iptables::build;
use smallvec::smallvec;

const NODE: &str = "192.168.0.2";

fn rules(services: u32, backend: XtablesBackend) -> NodeRules {
    let config = ProxyConfig { backend, ..ProxyConfig::default() };
    let mut rules = build(&objects(services, 2, NODE), &config, Family::Ipv4);
    rules.strip_own_additions();
    rules
}

fn state() -> NodeState {
    NodeState::new(1, "node/0", 2, &[NODE.parse().unwrap()])
}

/// Work of the first packet from a pod to a Service, and where it went.
fn first(services: u32, backend: XtablesBackend, to: &str) -> (Verdict, Work) {
    let stack = Stack::new(&rules(services, backend), 1).unwrap();
    let out = cross(&stack, &mut state(), syn("10.80.9.9", to, 80), Origin::Pod, SimTime::ZERO);
    (out.verdict, out.work)
}

#[test]
fn both_backends_give_every_packet_the_same_fate() {
    let stacks = [XtablesBackend::Legacy, XtablesBackend::Nft].map(|b| Stack::new(&rules(20, b), 1).unwrap());
    let mut states = [state(), state()];
    let mut translated = 0;
    for i in 0..400u32 {
        let dst = ["172.20.0.", "10.80.1.", "203.0.113."][i as usize % 3];
        let dst = format!("{dst}{}", 1 + i / 3 % 30);
        let mut packet = syn(&format!("10.80.9.{}", i % 200), &dst, if i % 7 == 0 { 81 } else { 80 });
        packet.sport += i as u16;
        let origin = [Origin::Pod, Origin::Wire, Origin::Host][i as usize / 3 % 3];
        let [a, b] = [0, 1].map(|n| cross(&stacks[n], &mut states[n], packet, origin, SimTime::ZERO));
        assert_eq!((a.verdict, a.packet), (b.verdict, b.packet), "{packet} from {origin:?}");
        assert_eq!(a.work[Unit::RngU32], b.work[Unit::RngU32], "{packet}");
        translated += u32::from(matches!(a.verdict, Verdict::Dnat { .. }));
    }
    assert!(translated > 60, "{translated}");
}

/// Counted by hand from the rules that the recorded dumps show.
#[test]
fn a_service_that_is_passed_over_costs_four_expressions_and_one_of_another_protocol_two() {
    let (_, ten) = first(10, XtablesBackend::Nft, "172.20.0.1");
    let (verdict, last) = first(10, XtablesBackend::Nft, "172.20.0.10");
    assert!(matches!(verdict, Verdict::Dnat { .. }));
    let more = |unit| last[unit] - ten[unit];
    // Nine rules more: protocol loaded and compared, address loaded and compared.
    assert_eq!([Unit::NftRules, Unit::NftMeta, Unit::NftPayload, Unit::NftCmp].map(more), [9, 9, 9, 18]);
    assert_eq!([Unit::NftCompat, Unit::NftCounter, Unit::MatchComment].map(more), [0, 0, 0]);
    assert_eq!(last[Unit::RuleEvals] + last[Unit::TableWalks], 0);
    // Every match that is no expression of nf_tables, and every target that is none, is called as xtables would.
    use Unit::*;
    // The match of the rule with the destination names no port.
    let matches = [MatchComment, MatchStatistic, MatchConntrack, MatchAddrtype, MatchPorts];
    let called: u32 = matches.iter().map(|&unit| last[unit]).sum();
    assert_eq!(last[Unit::NftCompat], called + last[Unit::TargetCalls]);
    let mut udp = syn("10.80.9.9", "172.20.0.10", 80);
    udp.proto = sim_core::classify::Proto::Udp;
    let stack = Stack::new(&rules(10, XtablesBackend::Nft), 1).unwrap();
    let udp = cross(&stack, &mut state(), udp, Origin::Pod, SimTime::ZERO).work;
    assert_eq!(udp[Unit::NftPayload], 0, "no rule of another protocol looks at the address: {udp:?}");
}

fn table(chains: Vec<Chain>) -> Table {
    Table { name: TableName::Filter, family: Family::Ipv4, chains }
}

fn chain(name: &str, base: Option<(Hook, Policy)>, targets: &[Target]) -> Chain {
    let rule = |t: &Target| Rule { target: Some(t.clone()), ..Rule::default() };
    Chain { name: name.into(), base, rules: targets.iter().map(rule).collect() }
}

#[test]
fn a_policy_of_drop_is_the_end_of_a_packet_that_no_rule_accepts() {
    let accept_dns = Rule {
        proto: Some(Test { invert: false, value: sim_core::classify::Proto::Tcp }),
        matches: smallvec![Match::Ports {
            proto: sim_core::classify::Proto::Tcp,
            sport: None,
            dport: Some(Test { invert: false, value: (50, 60) }),
        }],
        target: Some(Target::Accept),
        ..Rule::default()
    };
    let mut forward = chain("FORWARD", Some((Hook::Forward, Policy::Drop)), &[]);
    forward.rules.push(accept_dns);
    let xtables = vec![table(vec![forward])];
    for backend in [XtablesBackend::Legacy, XtablesBackend::Nft] {
        let rules =
            NodeRules { xtables: xtables.clone(), xtables_backend: backend, ..NodeRules::default() };
        let stack = Stack::new(&rules, 1).unwrap();
        for (port, verdict) in [(49, Verdict::Drop), (50, Verdict::Accept), (60, Verdict::Accept), (61, Verdict::Drop)]
        {
            let packet = syn("10.80.9.9", "10.80.1.1", port);
            let out = cross(&stack, &mut state(), packet, Origin::Pod, SimTime::ZERO);
            assert_eq!(out.verdict, verdict, "{backend:?}, port {port}");
        }
    }
}

#[test]
fn jumps_to_nowhere_in_circles_and_too_deep_are_refused_with_the_chain() {
    let base = |to: u32| chain("INPUT", Some((Hook::Input, Policy::Accept)), &[Target::Jump(ChainId(to))]);
    let refused = |chains| {
        Engine::from_xtables(&[table(chains)], &Default::default(), 1).unwrap_err().to_string()
    };
    assert_eq!(refused(vec![base(7)]), "table filter: chain INPUT: a jump to a chain that does not exist");
    let circle = vec![base(1), chain("A", None, &[Target::Jump(ChainId(1))])];
    assert_eq!(refused(circle), "table filter: chain A: too many links, or a loop of jumps");
    let ladder = (1..20).map(|i| chain(&format!("C{i}"), None, &[Target::Jump(ChainId(i % 19 + 1))]));
    assert!(refused(std::iter::once(base(1)).chain(ladder).collect()).contains("too many links"));
}
