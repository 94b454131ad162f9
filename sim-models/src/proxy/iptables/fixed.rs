//! What kube-proxy writes whatever the Services are: the jumps from the built-in chains, the chains that are
//! always there, and the canaries.
//!
//! Source: `pkg/proxy/iptables/proxier.go:iptablesJumpChains`, `iptablesKubeletJumpChains`, `syncProxyRules`, and
//! `pkg/util/iptables/monitor` for KUBE-PROXY-CANARY. Every jump is prepended, so that they stand in the
//! reverse of the order of that table.

use super::{SyncContext, chain, commented, is, is_not, rule, table};
use crate::kernel::hook::Hook;
use crate::kernel::xtables::{Chain, ChainId, CtStates, Match, Policy, Rule, Table, TableName, Target};
use crate::proxy::node_ports::NodePortIps;
use ipnet::IpNet;
use sim_core::classify::Family;
use smallvec::smallvec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Chains of table filter, in the order of [`filter_table`].
#[derive(Clone, Copy)]
pub(super) enum FilterChain {
    Input,
    Forward,
    Output,
    Services,
    ExternalServices,
    KubeForward,
    NodePorts,
    ProxyFirewall,
    Firewall,
    Canary,
}

impl FilterChain {
    const ALL: [(FilterChain, &str); 10] = [
        (FilterChain::Input, "INPUT"),
        (FilterChain::Forward, "FORWARD"),
        (FilterChain::Output, "OUTPUT"),
        (FilterChain::Services, "KUBE-SERVICES"),
        (FilterChain::ExternalServices, "KUBE-EXTERNAL-SERVICES"),
        (FilterChain::KubeForward, "KUBE-FORWARD"),
        (FilterChain::NodePorts, "KUBE-NODEPORTS"),
        (FilterChain::ProxyFirewall, "KUBE-PROXY-FIREWALL"),
        (FilterChain::Firewall, "KUBE-FIREWALL"),
        (FilterChain::Canary, "KUBE-PROXY-CANARY"),
    ];
    /// Index of this chain.
    pub(super) fn id(self) -> ChainId {
        ChainId(self as u32)
    }
    /// The rules of this chain in the filter table.
    pub(super) fn of(self, table: &mut Table) -> &mut Vec<Rule> {
        &mut table.chains[self as usize].rules
    }
}

/// Chains of table nat, in the order of [`nat_table`].
#[derive(Clone, Copy)]
pub(super) enum NatChain {
    Prerouting,
    Input,
    Output,
    Postrouting,
    Services,
    NodePorts,
    KubePostrouting,
    MarkMasq,
    Canary,
}

impl NatChain {
    const ALL: [(NatChain, &str); 9] = [
        (NatChain::Prerouting, "PREROUTING"),
        (NatChain::Input, "INPUT"),
        (NatChain::Output, "OUTPUT"),
        (NatChain::Postrouting, "POSTROUTING"),
        (NatChain::Services, "KUBE-SERVICES"),
        (NatChain::NodePorts, "KUBE-NODEPORTS"),
        (NatChain::KubePostrouting, "KUBE-POSTROUTING"),
        (NatChain::MarkMasq, "KUBE-MARK-MASQ"),
        (NatChain::Canary, "KUBE-PROXY-CANARY"),
    ];
    /// Index of this chain.
    pub(super) fn id(self) -> ChainId {
        ChainId(self as u32)
    }
    /// Name of the chain with that index.
    pub(super) fn name(id: ChainId) -> &'static str {
        Self::ALL[id.0 as usize].1
    }
    /// The rules of this chain in the nat table.
    pub(super) fn of(self, table: &mut Table) -> &mut Vec<Rule> {
        &mut table.chains[self as usize].rules
    }
}

const NEW: CtStates = states([false, true, false, false, false]);
const INVALID: CtStates = states([true, false, false, false, false]);
const RELATED_ESTABLISHED: CtStates = states([false, false, true, true, false]);
const RELATED_ESTABLISHED_DNAT: CtStates = states([false, false, true, true, true]);

const fn states([invalid, new, related, established, dnat]: [bool; 5]) -> CtStates {
    CtStates { invalid, new, related, established, untracked: false, snat: false, dnat }
}

fn base(hook: Hook) -> Chain {
    Chain { name: hook.chain_name().into(), base: Some((hook, Policy::Accept)), rules: Vec::new() }
}

fn conntrack(states: CtStates) -> Match {
    Match::Conntrack { states, invert: false }
}

/// A jump that only the first packets of connections take.
fn jump_new(comment: &str, to: FilterChain) -> Rule {
    Rule { matches: smallvec![conntrack(NEW), Match::Comment(comment.into())], ..rule(Target::Jump(to.id())) }
}

pub(super) fn loopback_v4() -> IpNet {
    IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8)
}

fn loopback_v6() -> IpNet {
    IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128)
}

/// Table filter without the Services' rules.
pub(super) fn filter_table(cx: &SyncContext) -> Table {
    use FilterChain as C;
    let chains = C::ALL.iter().map(|&(at, name)| match at {
        C::Input => base(Hook::Input),
        C::Forward => base(Hook::Forward),
        C::Output => base(Hook::Output),
        _ => chain(name, Vec::new()),
    });
    let mut filter = table(TableName::Filter, cx.family, chains.collect());
    let firewall = || jump_new("kubernetes load balancer firewall", C::ProxyFirewall);
    let services = || jump_new("kubernetes service portals", C::Services);
    let external = || jump_new("kubernetes externally-visible service portals", C::ExternalServices);
    C::Input.of(&mut filter).extend([
        rule(Target::Jump(C::Firewall.id())),
        firewall(),
        commented("kubernetes health check service ports", Target::Jump(C::NodePorts.id())),
        external(),
    ]);
    C::Forward.of(&mut filter).extend([
        firewall(),
        commented("kubernetes forwarding rules", Target::Jump(C::KubeForward.id())),
        services(),
        external(),
    ]);
    C::Output.of(&mut filter).extend([rule(Target::Jump(C::Firewall.id())), firewall(), services()]);
    if cx.localhost_node_ports {
        C::Firewall.of(&mut filter).push(Rule {
            src: is_not(loopback_v4()),
            dst: is(loopback_v4()),
            matches: smallvec![
                Match::Comment("block incoming localnet connections".into()),
                Match::Conntrack { states: RELATED_ESTABLISHED_DNAT, invert: true },
            ],
            ..rule(Target::Drop)
        });
    }
    let mark = cx.masquerade_mark;
    if cx.drop_invalid {
        C::KubeForward.of(&mut filter).push(Rule {
            matches: smallvec![conntrack(INVALID), Match::Nfacct("ct_state_invalid_dropped_pkts".into())],
            ..rule(Target::Drop)
        });
    }
    C::KubeForward.of(&mut filter).extend([
        Rule {
            matches: smallvec![
                Match::Comment("kubernetes forwarding rules".into()),
                Match::Mark { value: mark, mask: mark, invert: false },
            ],
            ..rule(Target::Accept)
        },
        Rule {
            matches: smallvec![
                Match::Comment("kubernetes forwarding conntrack rule".into()),
                conntrack(RELATED_ESTABLISHED),
            ],
            ..rule(Target::Accept)
        },
    ]);
    filter
}

/// Table nat without the Services' rules and chains.
pub(super) fn nat_table(cx: &SyncContext) -> Table {
    use NatChain as C;
    let chains = C::ALL.iter().map(|&(at, name)| match at {
        C::Prerouting => base(Hook::Prerouting),
        C::Input => base(Hook::Input),
        C::Output => base(Hook::Output),
        C::Postrouting => base(Hook::Postrouting),
        _ => chain(name, Vec::new()),
    });
    let mut nat = table(TableName::Nat, cx.family, chains.collect());
    for from in [C::Prerouting, C::Output] {
        from.of(&mut nat).push(commented("kubernetes service portals", Target::Jump(C::Services.id())));
    }
    C::Postrouting
        .of(&mut nat)
        .push(commented("kubernetes postrouting rules", Target::Jump(C::KubePostrouting.id())));
    let mark = cx.masquerade_mark;
    C::KubePostrouting.of(&mut nat).extend([
        Rule {
            matches: smallvec![Match::Mark { value: mark, mask: mark, invert: true }],
            ..rule(Target::Return)
        },
        // xor clears the mark, so that the packet is not masqueraded again by an outer node.
        rule(Target::Mark { value: mark, mask: 0 }),
        commented("kubernetes service traffic requiring SNAT", Target::Masquerade { random_fully: true }),
    ]);
    C::MarkMasq.of(&mut nat).push(rule(Target::Mark { value: mark, mask: mark }));
    nat
}

/// Table mangle: only the canary, by which kube-proxy notices that somebody has flushed the tables.
pub(super) fn mangle_table(cx: &SyncContext) -> Table {
    let mut chains: Vec<Chain> = Hook::ALL.into_iter().map(base).collect();
    chains.push(chain("KUBE-PROXY-CANARY", Vec::new()));
    table(TableName::Mangle, cx.family, chains)
}

/// The last rules of nat KUBE-SERVICES: whatever is for this node itself may be for a NodePort. Nobody answers on
/// loopback where that does not work: in IPv6 never, in IPv4 not without `route_localnet`.
pub(super) fn last_services_rules(cx: &SyncContext) -> Vec<Rule> {
    let entry = || {
        let comment = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
        commented(comment, Target::Jump(NatChain::NodePorts.id()))
    };
    let NodePortIps::Only(ips) = &cx.node_port_ips else {
        let mut any = entry();
        any.matches.push(Match::AddrtypeLocal { src: false, invert: false });
        any.dst = match cx.family {
            Family::Ipv6 => is_not(loopback_v6()),
            Family::Ipv4 if !cx.localhost_node_ports => is_not(loopback_v4()),
            Family::Ipv4 => None,
        };
        return vec![any];
    };
    let answers = |ip: &&IpAddr| cx.localhost_node_ports || !ip.is_loopback();
    ips.iter().filter(answers).map(|&ip| Rule { dst: is(ip.into()), ..entry() }).collect()
}
