//! Rulesets of one repeated component: the small tables that single prices are read from.
//!
//! | mode | rules, of which `services` are copies of one |
//! |---|---|
//! | `none`, `ct_only` | nothing; one nftables chain whose only rule looks at the state, which makes conntrack run |
//! | `legacy_filter_empty`, `legacy_nat_empty_ct`, `nft_nat_empty_ct` | empty tables; `_ct` with that chain beside them |
//! | `legacy_dnat`, `nft_dnat`, `legacy_dnat_masq` | one rule that translates the VIP, and one that masquerades |
//! | `leg_*`, `nft_*` | copies of a rule before the one of `*_dnat`; `leg_ctstate_fail` in FORWARD of an otherwise bare filter table |
//! | `kp_ipt_S0`, `kp_nft_S0` | kube-proxy's tables without a Service: iptables, and the older nftables layout |
//!
//! Packets go from the pod to the VIP, which is routed to the backends' device where nothing translates it.

use super::case::Case;
use super::cell::{Cell, Unpredicted};
use super::ruleset::{Addresses, PORT, objects, rules};
use crate::kernel::hook::{ChainKind, Hook};
use crate::kernel::nftables::{self, Base, Field, KeyType, KeyValue, Set, Statement};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Chain, ChainId, CtStates, Match, Policy, Rule, Table, TableName, Target, Test};
use sim_core::classify::{Family, Proto};
use smallvec::smallvec;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Whether a mode is one of these rulesets.
pub(super) fn is_component(cell: &Cell) -> bool {
    matches!(cell.mode.as_str(), "none" | "ct_only")
        || ["leg_", "legacy_", "nft_", "kp_"].iter().any(|p| cell.mode.starts_with(p))
}

/// The rules of component `mode`, `n` copies.
pub(super) fn build(case: &Case, mode: &str, n: u32) -> Result<NodeRules, Unpredicted> {
    let legacy = |rule: Rule| NodeRules {
        xtables: vec![nat(std::iter::repeat_n(rule, n as usize).collect(), Vec::new())],
        ..NodeRules::default()
    };
    let nft = |rule: nftables::Rule| NodeRules {
        nftables: Some(nft_nat(std::iter::repeat_n(rule, n as usize).collect())),
        ..NodeRules::default()
    };
    Ok(match mode {
        "none" => NodeRules::default(),
        "ct_only" => NodeRules { nftables: Some(state_chain()), ..NodeRules::default() },
        "legacy_filter_empty" => NodeRules { xtables: vec![filter(Vec::new())], ..NodeRules::default() },
        "legacy_nat_empty_ct" => {
            NodeRules { nftables: Some(state_chain()), xtables: vec![bare_nat()], ..NodeRules::default() }
        }
        "nft_nat_empty_ct" => {
            let mut table = state_chain();
            nft_nat_chains(&mut table);
            NodeRules { nftables: Some(table), ..NodeRules::default() }
        }
        "legacy_dnat" => legacy_base(Vec::new()),
        "legacy_dnat_masq" => legacy_base(vec![Rule {
            target: Some(Target::Masquerade { random_fully: true }),
            ..Rule::default()
        }]),
        "leg_nomatch_d" => legacy(Rule { dst: elsewhere(), ..tcp() }),
        "leg_nomatch_d_comment" => legacy(Rule { dst: elsewhere(), matches: smallvec![comment()], ..tcp() }),
        "leg_match_tcpport_fail" => legacy(Rule { matches: smallvec![ports(81)], dst: vip(), ..tcp() }),
        "leg_match_notarget" => legacy(Rule { dst: vip(), ..Rule::default() }),
        "leg_comment_notarget" => {
            legacy(Rule { dst: vip(), matches: smallvec![comment()], ..Rule::default() })
        }
        "leg_statistic_fail" => {
            legacy(Rule { matches: smallvec![Match::Statistic { p: 0 }], ..Rule::default() })
        }
        "leg_statistic_comment_fail" => {
            legacy(Rule { matches: smallvec![comment(), Match::Statistic { p: 0 }], ..Rule::default() })
        }
        "leg_mark_fail" => {
            let mark = Match::Mark { value: 0x4000, mask: 0x4000, invert: false };
            legacy(Rule { matches: smallvec![mark], ..Rule::default() })
        }
        "leg_addrtype_fail" => {
            let local = Match::AddrtypeLocal { src: false, invert: false };
            legacy(Rule { matches: smallvec![local], ..Rule::default() })
        }
        "leg_ctstate_fail" => {
            let states = CtStates { invalid: true, ..CtStates::default() };
            let rule =
                Rule { matches: smallvec![Match::Conntrack { states, invert: false }], ..Rule::default() };
            let rules = std::iter::repeat_n(rule, n as usize).collect();
            NodeRules { xtables: vec![filter(rules)], ..NodeRules::default() }
        }
        "leg_jump_return" => jumps(n, false),
        "leg_jump_nested" => jumps(n, true),
        "nft_dnat" => NodeRules { nftables: Some(nft_nat(Vec::new())), ..NodeRules::default() },
        "nft_nomatch_d" | "nft_nomatch_d_counter" => {
            let net = IpAddr::V4(Ipv4Addr::new(172, 31, 0, 1)).into();
            nft(nftables::Rule::new([Statement::Addr { field: Field::DstAddr, net, negate: false }]))
        }
        "nft_fib_fail" => nft(nftables::Rule::new([Statement::FibLocal { field: Field::DstAddr }])),
        "nft_jump_return" => {
            let mut table = nft_nat(Vec::new());
            let empty = table.add_chain("empty");
            let jump = nftables::Rule::new([Statement::Verdict(nftables::Verdict::Jump(empty))]);
            table.chains[0].rules.splice(0..0, std::iter::repeat_n(jump, n as usize));
            NodeRules { nftables: Some(table), ..NodeRules::default() }
        }
        "nft_vmap_miss" => vmap_miss(n),
        "kp_ipt_S0" | "kp_nft_S0" => {
            let mode = if mode == "kp_ipt_S0" { "ipt" } else { "nft" };
            rules(case, mode, &objects(case, 0, 0))?
        }
        other => return Err(Unpredicted(format!("component {other}: not one that can be written down"))),
    })
}

fn address() -> IpAddr {
    Addresses::of(Family::Ipv4).vip(0)
}

fn backend() -> SocketAddr {
    SocketAddr::new(Addresses::of(Family::Ipv4).endpoint(0), 8080)
}

fn vip() -> Option<Test<ipnet::IpNet>> {
    Some(Test { invert: false, value: address().into() })
}

fn elsewhere() -> Option<Test<ipnet::IpNet>> {
    Some(Test { invert: false, value: IpAddr::V4(Ipv4Addr::new(172, 31, 0, 1)).into() })
}

fn tcp() -> Rule {
    Rule { proto: Some(Test { invert: false, value: Proto::Tcp }), ..Rule::default() }
}

fn comment() -> Match {
    Match::Comment("a comment as long as those of kube-proxy".into())
}

fn ports(port: u16) -> Match {
    Match::Ports { proto: Proto::Tcp, sport: None, dport: Some(Test { invert: false, value: (port, port) }) }
}

fn table(name: TableName, hooks: &[Hook]) -> Table {
    let base = |&hook: &Hook| Chain {
        name: hook.chain_name().into(),
        base: Some((hook, Policy::Accept)),
        rules: Vec::new(),
    };
    Table { name, family: Family::Ipv4, chains: hooks.iter().map(base).collect() }
}

fn filter(forward: Vec<Rule>) -> Table {
    let mut table = table(TableName::Filter, &[Hook::Input, Hook::Forward, Hook::Output]);
    table.chains[1].rules = forward;
    table
}

fn bare_nat() -> Table {
    table(TableName::Nat, &[Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting])
}

/// These rules, then the translation.
fn nat(mut before: Vec<Rule>, postrouting: Vec<Rule>) -> Table {
    let mut table = bare_nat();
    before.push(Rule {
        dst: vip(),
        matches: smallvec![ports(PORT)],
        target: Some(Target::Dnat(backend())),
        ..tcp()
    });
    table.chains[0].rules = before;
    table.chains[3].rules = postrouting;
    table
}

fn legacy_base(postrouting: Vec<Rule>) -> NodeRules {
    NodeRules { xtables: vec![nat(Vec::new(), postrouting)], ..NodeRules::default() }
}

/// `n` jumps into an empty chain, or one jump into a chain of `n`, each of which jumps to the next.
fn jumps(n: u32, nested: bool) -> NodeRules {
    let mut table = nat(Vec::new(), Vec::new());
    let first = table.chains.len() as u32;
    let to = |chain: u32| Rule { target: Some(Target::Jump(ChainId(chain))), ..Rule::default() };
    if nested {
        table.chains[0].rules.insert(0, to(first));
        for i in 0..n {
            let rules = if i + 1 < n { vec![to(first + i + 1)] } else { Vec::new() };
            table.chains.push(Chain { name: format!("C{i}").into(), base: None, rules });
        }
    } else {
        table.chains.push(Chain { name: "EMPTY".into(), base: None, rules: Vec::new() });
        table.chains[0].rules.splice(0..0, std::iter::repeat_n(to(first), n as usize));
    }
    NodeRules { xtables: vec![table], ..NodeRules::default() }
}

/// A table with one chain in FORWARD that looks at the connection's state.
fn state_chain() -> nftables::Table {
    let mut table = nftables::Table::new(Family::Ipv4, "state", None);
    let chain = table.add_chain("forward");
    table.chains[0].base =
        Some(Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, drops: false });
    table.add_rule(chain, nftables::Rule::new([Statement::CtStateNew]));
    table
}

fn nft_nat_chains(table: &mut nftables::Table) {
    for (name, hook, priority) in
        [("prerouting", Hook::Prerouting, -100), ("postrouting", Hook::Postrouting, 100)]
    {
        let chain = table.add_chain(name);
        table.chains[chain.0 as usize].base =
            Some(Base { kind: ChainKind::Nat, hook, priority, drops: false });
    }
}

/// These rules, then the translation.
fn nft_nat(before: Vec<nftables::Rule>) -> nftables::Table {
    let mut table = nftables::Table::new(Family::Ipv4, "nat", None);
    nft_nat_chains(&mut table);
    table.chains[0].rules = before;
    let net = address().into();
    table.chains[0].rules.push(nftables::Rule::new([
        Statement::Addr { field: Field::DstAddr, net, negate: false },
        Statement::DstPort(Proto::Tcp, PORT),
        Statement::Dnat(backend()),
    ]));
    table
}

/// `n` lookups in a map that has another Service's address.
fn vmap_miss(n: u32) -> NodeRules {
    let mut table = nft_nat(Vec::new());
    let chain = table.add_chain("empty");
    let map = table.add_set(Set {
        name: "services".into(),
        key: smallvec![KeyType::Addr, KeyType::Proto, KeyType::Service],
        is_map: true,
        comment: None,
        timeout_seconds: None,
        elements: Vec::new(),
    });
    let other = KeyValue::Addr(IpAddr::V4(Ipv4Addr::new(172, 31, 0, 1)));
    let key = smallvec![other, KeyValue::Proto(Proto::Tcp), KeyValue::Service(PORT)];
    table.push_element(map, key, Some(nftables::Verdict::Goto(chain)), None);
    let fields = smallvec![Field::DstAddr, Field::L4Proto, Field::DstPort];
    let rule = nftables::Rule::new([Statement::Vmap { fields, map }]);
    table.chains[0].rules.splice(0..0, std::iter::repeat_n(rule, n as usize));
    NodeRules { nftables: Some(table), ..NodeRules::default() }
}
