//! The fixed iptables rules of kube-proxy's ipvs mode: as many for one Service as for a thousand.
//!
//! Source: Kubernetes 1.36 `pkg/proxy/ipvs/proxier.go`: `iptablesChains`, `iptablesJumpChain`,
//! `ipsetWithIptablesChain`, `writeIptablesRules`, `acceptIPVSTraffic`.

use super::Shape;
use super::sets::{Set, Sets};
use crate::config::ProxyConfig;
use crate::kernel::hook::Hook;
use crate::kernel::xtables::{Chain, ChainId, CtStates, Match, Policy, Rule, Table, TableName, Target, Test};
use crate::proxy::local::LocalDetector;
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use smallvec::{SmallVec, smallvec};
use std::net::IpAddr;

/// A load-balancer address that the node itself may not use, for the rule that stops it.
pub(super) type NoNodeAccess = (IpAddr, Proto, u16);

struct Writer(Table);

impl Writer {
    fn new(name: TableName, family: Family, hooks: &[Hook], chains: &[&str]) -> Self {
        let base = |&hook: &Hook| Chain {
            name: hook.chain_name().into(),
            base: Some((hook, Policy::Accept)),
            rules: Vec::new(),
        };
        let user = |&name: &&str| Chain { name: name.into(), base: None, rules: Vec::new() };
        Writer(Table {
            name,
            family,
            chains: hooks.iter().map(base).chain(chains.iter().map(user)).collect(),
        })
    }
    fn id(&self, name: &str) -> ChainId {
        let at = self.0.chains.iter().position(|chain| &*chain.name == name);
        ChainId(at.unwrap_or_else(|| panic!("no chain {name}")) as u32)
    }
    fn add(&mut self, chain: &str, rule: Rule) {
        let at = self.id(chain).0 as usize;
        self.0.chains[at].rules.push(rule);
    }
    fn jump(&mut self, from: &str, comment: &str, to: &str) {
        let target = Some(Target::Jump(self.id(to)));
        self.add(
            from,
            Rule { matches: smallvec![Match::Comment(comment.into())], target, ..Rule::default() },
        );
    }
    fn go(&self, chain: &str) -> Option<Target> {
        Some(Target::Jump(self.id(chain)))
    }
}

/// A rule of matches and a target.
fn rule(matches: impl IntoIterator<Item = Match>, target: Option<Target>) -> Rule {
    Rule { matches: matches.into_iter().collect(), target, ..Rule::default() }
}

fn comment(text: &str) -> Match {
    Match::Comment(text.into())
}

/// `-m set --match-set NAME dst,...`, the third dimension from the source as kube-proxy always has it.
fn dst_set(sets: &Sets, set: Set) -> Match {
    let from_src: SmallVec<[bool; 3]> = (0..set.dimensions()).map(|n| n == 2).collect();
    Match::Set { name: sets.name(set), from_src, invert: false }
}

/// Both tables.
pub(super) fn write(
    sets: &Sets,
    no_node_access: &[NoNodeAccess],
    config: &ProxyConfig,
    local: Option<&LocalDetector>,
    family: Family,
    shape: Shape,
) -> Vec<Table> {
    let filter = write_filter(sets, no_node_access, config, family, shape);
    vec![filter, write_nat(sets, config, local, family, shape)]
}

fn write_filter(
    sets: &Sets,
    no_node_access: &[NoNodeAccess],
    config: &ProxyConfig,
    family: Family,
    shape: Shape,
) -> Table {
    let mark = 1u32 << config.masquerade_bit;
    let chains = [
        "KUBE-FORWARD",
        "KUBE-NODE-PORT",
        "KUBE-PROXY-FIREWALL",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    ];
    let mut w = Writer::new(TableName::Filter, family, &[Hook::Input, Hook::Forward, Hook::Output], &chains);
    // Each is prepended to its chain, so they stand in the reverse of the order in which they are ensured.
    w.jump("INPUT", "kubernetes ipvs access filter", "KUBE-IPVS-FILTER");
    w.jump("INPUT", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
    w.jump("INPUT", "kubernetes health check rules", "KUBE-NODE-PORT");
    w.jump("FORWARD", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
    w.jump("FORWARD", "kubernetes forwarding rules", "KUBE-FORWARD");
    w.jump("OUTPUT", "kubernetes ipvs access filter", "KUBE-IPVS-OUT-FILTER");

    let by_set = [
        (Set::LoadBalancerFw, "KUBE-PROXY-FIREWALL", w.go("KUBE-SOURCE-RANGES-FIREWALL")),
        (Set::LoadBalancerSourceCidr, "KUBE-SOURCE-RANGES-FIREWALL", Some(Target::Return)),
        (Set::LoadBalancerSourceIp, "KUBE-SOURCE-RANGES-FIREWALL", Some(Target::Return)),
    ];
    for (set, chain, target) in by_set {
        if !sets.is_empty(set) {
            w.add(chain, rule([comment(set.comment()), dst_set(sets, set)], target));
        }
    }
    if shape == Shape::KubeProxy {
        w.add("KUBE-SOURCE-RANGES-FIREWALL", rule([], Some(Target::Drop)));
    }
    for &(addr, proto, port) in no_node_access {
        let virt = Match::IpvsVirtual { addr, port, proto };
        let src = Some(Test { invert: false, value: IpNet::from(addr) });
        w.add("KUBE-IPVS-OUT-FILTER", Rule { src, ..rule([virt], Some(Target::Drop)) });
    }
    let marked = Match::Mark { value: mark, mask: mark, invert: false };
    w.add("KUBE-FORWARD", rule([comment("kubernetes forwarding rules"), marked], Some(Target::Accept)));
    let known = CtStates { related: true, established: true, ..CtStates::default() };
    let known = Match::Conntrack { states: known, invert: false };
    let text = comment("kubernetes forwarding conntrack rule");
    w.add("KUBE-FORWARD", rule([text, known], Some(Target::Accept)));
    let health = [comment(Set::HealthCheckNodePort.comment()), dst_set(sets, Set::HealthCheckNodePort)];
    w.add("KUBE-NODE-PORT", rule(health, Some(Target::Accept)));
    // What is a Service may pass; other ports of its addresses would reach the node's own daemons.
    let passed =
        [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal, Set::HealthCheckNodePort];
    for set in passed {
        w.add("KUBE-IPVS-FILTER", rule([dst_set(sets, set)], Some(Target::Return)));
    }
    let new = CtStates { new: true, ..CtStates::default() };
    let rest = [Match::Conntrack { states: new, invert: false }, dst_set(sets, Set::IpvsIps)];
    w.add("KUBE-IPVS-FILTER", rule(rest, Some(Target::Reject)));
    w.0
}

fn write_nat(
    sets: &Sets,
    config: &ProxyConfig,
    local: Option<&LocalDetector>,
    family: Family,
    shape: Shape,
) -> Table {
    let mark = 1u32 << config.masquerade_bit;
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];
    let chains =
        ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ"];
    let mut w = Writer::new(TableName::Nat, family, &hooks, &chains);
    w.jump("PREROUTING", "kubernetes service portals", "KUBE-SERVICES");
    w.jump("OUTPUT", "kubernetes service portals", "KUBE-SERVICES");
    w.jump("POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING");

    let loopback = match family {
        Family::Ipv4 => "127.0.0.0/8",
        Family::Ipv6 => "::1/128",
    };
    let src = Some(Test { invert: false, value: loopback.parse().expect("a network") });
    w.add("KUBE-SERVICES", Rule { src, ..rule([], Some(Target::Return)) });

    let (masq, lb) = (w.go("KUBE-MARK-MASQ"), w.go("KUBE-LOAD-BALANCER"));
    let snat = |random_fully| Some(Target::Masquerade { random_fully });
    let back = Some(Target::Return);
    let (tcp, udp, sctp) = (Some(Proto::Tcp), Some(Proto::Udp), Some(Proto::Sctp));
    let by_set = [
        (Set::LoopBack, "KUBE-POSTROUTING", None, snat(false)),
        (Set::LoadBalancer, "KUBE-SERVICES", None, lb),
        (Set::LoadBalancerLocal, "KUBE-LOAD-BALANCER", None, back.clone()),
        (Set::NodePortLocalTcp, "KUBE-NODE-PORT", tcp, back.clone()),
        (Set::NodePortTcp, "KUBE-NODE-PORT", tcp, masq.clone()),
        (Set::NodePortLocalUdp, "KUBE-NODE-PORT", udp, back.clone()),
        (Set::NodePortUdp, "KUBE-NODE-PORT", udp, masq.clone()),
        (Set::NodePortLocalSctp, "KUBE-NODE-PORT", sctp, back.clone()),
        (Set::NodePortSctp, "KUBE-NODE-PORT", sctp, masq.clone()),
    ];
    for (set, chain, proto, target) in by_set {
        // The calibration rulesets match the hairpin set even while it is empty.
        if sets.is_empty(set) && !(shape == Shape::Measured && set == Set::LoopBack) {
            continue;
        }
        let proto = proto.map(|value| Test { invert: false, value });
        w.add(chain, Rule { proto, ..rule([comment(set.comment()), dst_set(sets, set)], target) });
    }
    cluster_ip_masquerade(&mut w, sets, config, local, &masq);
    for (set, masquerade) in [(Set::ExternalIp, true), (Set::ExternalIpLocal, false)] {
        if sets.is_empty(set) {
            continue;
        }
        let matched = || [comment(set.comment()), dst_set(sets, set)];
        if masquerade {
            w.add("KUBE-SERVICES", rule(matched(), masq.clone()));
        }
        let off_machine =
            [Match::PhysdevIsIn { invert: true }, Match::AddrtypeLocal { src: true, invert: true }];
        w.add("KUBE-SERVICES", rule(matched().into_iter().chain(off_machine), Some(Target::Accept)));
        let local = Match::AddrtypeLocal { src: false, invert: false };
        w.add("KUBE-SERVICES", rule(matched().into_iter().chain([local]), Some(Target::Accept)));
    }
    let local = Match::AddrtypeLocal { src: false, invert: false };
    let node_port = w.go("KUBE-NODE-PORT");
    w.add("KUBE-SERVICES", rule([local], node_port));
    w.add("KUBE-LOAD-BALANCER", rule([], masq));
    for set in [Set::ClusterIp, Set::LoadBalancer] {
        if !sets.is_empty(set) {
            w.add("KUBE-SERVICES", rule([dst_set(sets, set)], Some(Target::Accept)));
        }
    }
    let unmarked = Match::Mark { value: mark, mask: mark, invert: true };
    w.add("KUBE-POSTROUTING", rule([unmarked], back));
    w.add("KUBE-POSTROUTING", rule([], Some(Target::Mark { value: mark, mask: 0 })));
    w.add("KUBE-POSTROUTING", rule([comment("kubernetes service traffic requiring SNAT")], snat(true)));
    w.add("KUBE-MARK-MASQ", rule([], Some(Target::Mark { value: mark, mask: mark })));
    w.0
}

fn cluster_ip_masquerade(
    w: &mut Writer,
    sets: &Sets,
    config: &ProxyConfig,
    local: Option<&LocalDetector>,
    masq: &Option<Target>,
) {
    let set = Set::ClusterIp;
    if sets.is_empty(set) {
        return;
    }
    let mut out = rule([comment(set.comment()), dst_set(sets, set)], masq.clone());
    match local {
        _ if config.masquerade_all => {}
        Some(pods) => pods.restrict(&mut out, false),
        // Without a way to tell pods, only what the node sends from a Service address itself.
        None => {
            if let Some(Match::Set { from_src, .. }) = out.matches.last_mut() {
                *from_src = smallvec![true, false];
            }
        }
    }
    w.add("KUBE-SERVICES", out);
}
