//! Random tables and packets, and the three walks run side by side.

use proptest::prelude::*;
use sim_core::classify::packet::Detail;
use sim_core::classify::{Family, Packet, Proto, TcpFlags, Unit, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use sim_models::kernel::hook::{
    CtState, CtView, Hook, HookVerdict, KernelRandom, NatRequest, NodeCx, PacketCx,
};
use sim_models::kernel::ipset::{IpSet, IpSets, SetEntry, SetKind};
use sim_models::kernel::trace::Step;
use sim_models::kernel::xtables::extra::nth::Statistic;
use sim_models::kernel::xtables::memory::Memory;
use sim_models::kernel::xtables::recent::RecentTables;
use sim_models::kernel::xtables::reference::Reference;
use sim_models::kernel::xtables::{
    Chain, ChainId, Compiled, CtStates, ExtraMatch, Match, Policy, Rule, Table, TableName, Target, Test,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that rules and packets choose from.
const ADDRS: u32 = 60;
const PORTS: u16 = 12;

pub fn addr(family: Family, n: u32) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(0x0a60_0000 + n).into(),
        // The last addresses differ in their first word.
        Family::Ipv6 => {
            let high = if n % 5 == 4 { u128::from(n) << 96 } else { 0 };
            Ipv6Addr::from((0xfd00_u128 << 112) + high + u128::from(n)).into()
        }
    }
}

fn net(family: Family, n: u32, wider: u8) -> ipnet::IpNet {
    let addr = addr(family, n);
    let bits = if family == Family::Ipv4 { 32 } else { 128 };
    ipnet::IpNet::new(addr, bits - wider).expect("a prefix length").trunc()
}

fn inverted<T>(value: T, invert: bool) -> Test<T> {
    Test { invert, value }
}

fn any_match(family: Family) -> impl Strategy<Value = Match> {
    prop_oneof![
        2 => Just(Match::Comment("text".into())),
        4 => (1..PORTS, 0u16..3, prop::bool::weighted(0.2)).prop_map(|(port, more, invert)| Match::Ports {
            proto: Proto::Tcp, sport: None, dport: Some(inverted((port, port + more), invert)),
        }),
        1 => (1..PORTS).prop_map(|port| Match::Ports {
            proto: Proto::Tcp, sport: Some(inverted((port, port + 2), false)), dport: None,
        }),
        2 => (0u32..=1 << 31).prop_map(|p| Match::Statistic { p }),
        2 => (0u32..4, any::<bool>()).prop_map(|(value, invert)| Match::Mark { value, mask: 3, invert }),
        1 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(new, dnat, invert)| {
            Match::Conntrack { states: CtStates { new, dnat, ..CtStates::default() }, invert }
        }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(src, invert)| Match::AddrtypeLocal { src, invert }),
        2 => (0u8..3, any::<bool>(), prop::option::of(1u32..20)).prop_map(|(list, set, seconds)| Match::Recent {
            name: format!("LIST-{list}").into(), set, seconds: if set { None } else { seconds },
        }),
        1 => (any::<bool>(), any::<bool>()).prop_map(move |(src, invert)| match family {
            Family::Ipv4 => {
                Match::Set { name: "SET".into(), from_src: [src].into_iter().collect(), invert }
            }
            // The set is of IPv4.
            Family::Ipv6 => Match::Comment("text".into()),
        }),
        1 => Just(Match::Nfacct("object".into())),
        1 => any::<bool>().prop_map(|invert| Match::PhysdevIsIn { invert }),
        1 => (1u32..5, any::<bool>()).prop_map(|(every, invert)| {
            Match::Extra(Box::new(ExtraMatch::Statistic(Statistic::Nth { every, packet: 0, invert })))
        }),
    ]
}

/// Targets; jumps lead to chains behind `chain`, so that there are no loops.
fn any_target(family: Family, chain: u32, chains: u32) -> impl Strategy<Value = Option<Target>> {
    let jump = if (chain + 1).max(2) < chains {
        // Built-in chains are led to by nothing.
        ((chain + 1).max(2)..chains, prop::bool::weighted(0.2))
            .prop_map(|(to, goto)| {
                Some(if goto { Target::Goto(ChainId(to)) } else { Target::Jump(ChainId(to)) })
            })
            .boxed()
    } else {
        Just(Some(Target::Return)).boxed()
    };
    prop_oneof![
        6 => jump,
        4 => Just(None),
        4 => (0u32..4, 0u32..4).prop_map(|(value, mask)| Some(Target::Mark { value, mask })),
        2 => Just(Some(Target::Return)),
        1 => Just(Some(Target::Accept)),
        1 => Just(Some(Target::Drop)),
        1 => (0..ADDRS).prop_map(move |n| Some(Target::Dnat(SocketAddr::new(addr(family, n), 80)))),
        1 => (1u16..9).prop_map(|port| Some(Target::Redirect { port })),
    ]
}

/// A rule as KUBE-SERVICES has them: for one destination, with a port or more.
fn for_destination(family: Family, chain: u32, chains: u32) -> impl Strategy<Value = Rule> {
    let matches = prop::collection::vec(any_match(family), 0..3);
    (
        0..ADDRS,
        any::<bool>(),
        prop::option::weighted(0.05, 0..ADDRS),
        matches,
        any_target(family, chain, chains),
    )
        .prop_map(move |(dst, tcp, src, matches, target)| Rule {
            dst: Some(inverted(net(family, dst, 0), false)),
            src: src.map(|n| inverted(net(family, n, 2), false)),
            proto: Some(inverted(if tcp { Proto::Tcp } else { Proto::Udp }, false)),
            matches: matches.into_iter().collect(),
            target,
            ..Rule::default()
        })
}

/// A rule as KUBE-NODEPORTS has them: for one port, with the same in front of it as many others.
fn for_port(family: Family, chain: u32, chains: u32) -> impl Strategy<Value = Rule> {
    let before = prop::sample::select(vec![
        vec![],
        vec![Match::Comment("text".into())],
        vec![Match::Comment("text".into()), Match::AddrtypeLocal { src: false, invert: false }],
        vec![Match::Mark { value: 1, mask: 1, invert: false }, Match::Comment("text".into())],
    ]);
    let after = prop::option::weighted(0.2, any_match(family));
    let wide = prop::option::weighted(0.3, (prop::sample::select(vec![0u32, 16, 32]), any::<bool>()));
    (
        before,
        1..PORTS,
        after,
        wide,
        any::<bool>(),
        prop::bool::weighted(0.1),
        any_target(family, chain, chains),
    )
        .prop_map(move |(before, port, after, wide, tcp, device, target)| {
            let ports =
                Match::Ports { proto: Proto::Tcp, sport: None, dport: Some(inverted((port, port), false)) };
            Rule {
                dst: wide.map(|(n, invert)| inverted(net(family, n, 4), invert)),
                in_iface: device.then(|| inverted("veth+".into(), false)),
                proto: Some(inverted(if tcp { Proto::Tcp } else { Proto::Udp }, false)),
                matches: before.into_iter().chain([ports]).chain(after).collect(),
                target,
                ..Rule::default()
            }
        })
}

/// Any rule at all.
fn any_rule(family: Family, chain: u32, chains: u32) -> impl Strategy<Value = Rule> {
    let address = || {
        prop::option::weighted(
            0.6,
            (0..ADDRS, prop::sample::select(vec![0u8, 0, 2, 4]), prop::bool::weighted(0.2)),
        )
        .prop_map(move |a| a.map(|(n, wider, invert)| inverted(net(family, n, wider), invert)))
    };
    let device = || {
        prop::option::weighted(0.1, (prop::sample::select(vec!["veth0", "veth+", "eth0"]), any::<bool>()))
            .prop_map(|d| d.map(|(name, invert)| inverted(name.into(), invert)))
    };
    let proto = prop::option::weighted(0.5, (any::<bool>(), prop::bool::weighted(0.2)))
        .prop_map(|p| p.map(|(tcp, invert)| inverted(if tcp { Proto::Tcp } else { Proto::Udp }, invert)));
    let matches = prop::collection::vec(any_match(family), 0..4);
    (address(), address(), device(), device(), proto, matches, any_target(family, chain, chains)).prop_map(
        |(src, dst, in_iface, out_iface, proto, matches, target)| Rule {
            src,
            dst,
            in_iface,
            out_iface,
            proto,
            matches: matches.into_iter().collect(),
            target,
            ..Rule::default()
        },
    )
}

/// Matches of ports need their protocol in the rule, and the kernel refuses rules without.
fn loadable(mut rule: Rule) -> Rule {
    if rule.matches.iter().any(|m| matches!(m, Match::Ports { .. })) {
        let of = rule.proto.map_or(Proto::Tcp, |p| p.value);
        rule.proto = Some(inverted(of, false));
        for m in &mut rule.matches {
            if let Match::Ports { proto, .. } = m {
                *proto = of;
            }
        }
    }
    rule
}

/// A rule of a chain of its kind: mostly for destinations, mostly for ports, or anything.
pub fn rule(family: Family, chain: u32, chains: u32) -> impl Strategy<Value = Rule> {
    let rule = match chain % 3 {
        0 => prop_oneof![
            60 => for_destination(family, chain, chains), 1 => any_rule(family, chain, chains)
        ]
        .boxed(),
        1 => prop_oneof![60 => for_port(family, chain, chains), 1 => any_rule(family, chain, chains)].boxed(),
        _ => any_rule(family, chain, chains).boxed(),
    };
    rule.prop_map(loadable)
}

/// Names of user chains are in no order of their numbers.
pub fn chain_name(n: usize) -> String {
    format!("CHAIN-{}", (n * 7) % 101)
}

/// A table: PREROUTING and OUTPUT, and user chains, the first of each kind long.
pub fn table() -> impl Strategy<Value = Table> {
    (any::<bool>(), 3u32..9, prop::bool::weighted(0.2)).prop_flat_map(|(v6, chains, drop)| {
        let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
        let rules: Vec<_> = (0..chains)
            .map(|c| prop::collection::vec(rule(family, c, chains), if c < 2 { 0..330 } else { 0..40 }))
            .collect();
        rules.prop_map(move |rules| {
            let policy = if drop { Policy::Drop } else { Policy::Accept };
            let base = |n| match n {
                0 => Some((Hook::Prerouting, policy)),
                1 => Some((Hook::Output, Policy::Accept)),
                _ => None,
            };
            let name = |n: usize| base(n).map_or_else(|| chain_name(n), |(h, _)| h.chain_name().to_owned());
            let chains = rules.into_iter().enumerate();
            let chains =
                chains.map(|(n, rules)| Chain { name: name(n).into(), base: base(n), rules }).collect();
            Table { name: TableName::Nat, family, chains }
        })
    })
}

/// A packet as numbers: of addresses, ports, and what else rules look at.
pub type Numbers = (u32, u32, u16, u16, u8, u32, bool);

pub fn numbers() -> impl Strategy<Value = Numbers> {
    (0..ADDRS + 3, 0..ADDRS + 3, 1..PORTS + 2, 1..PORTS + 2, 0u8..8, 0u32..4, any::<bool>())
}

pub fn sets(family: Family) -> IpSets {
    let mut set = IpSet::new("SET", SetKind::HashIp, Family::Ipv4);
    if family == Family::Ipv4 {
        set.elements = (0..ADDRS).step_by(3).map(|n| SetEntry::Ip(addr(family, n))).collect();
    }
    IpSets::new(&[set], 7)
}

/// What walks leave behind, and what they see of the node.
pub struct Side {
    random: KernelRandom,
    recent: RecentTables,
    memory: Memory,
    node: NodeCx,
    none: BTreeSet<IpAddr>,
}

/// All that can be told of a walk.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub verdict: HookVerdict,
    pub mark: u32,
    pub nat: NatRequest,
    pub work: Work,
    pub steps: Vec<Step>,
    /// The next random number, and whether drawing it refilled the batch.
    pub next_random: (u32, u32),
    pub lists_and_counts: String,
}

impl Side {
    pub fn new(family: Family) -> Self {
        Side {
            random: KernelRandom::new(Stream::new(5, "index", "random")),
            recent: RecentTables::default(),
            memory: Memory::default(),
            node: NodeCx { local_addrs: (0..ADDRS).step_by(4).map(|n| addr(family, n)).collect() },
            none: BTreeSet::new(),
        }
    }

    /// `walk` over a packet.
    pub fn walk(
        &mut self,
        family: Family,
        sets: &IpSets,
        numbers: Numbers,
        now: u64,
        walk: impl FnOnce(&mut PacketCx<'_>, &mut Vec<Step>) -> HookVerdict,
    ) -> Outcome {
        let (src, dst, sport, dport, kind, mark, tcp) = numbers;
        let (mut work, mut steps) = (Work::new(), Vec::new());
        let mut cx = PacketCx {
            packet: Packet {
                src: addr(family, src),
                dst: addr(family, dst),
                proto: if tcp { Proto::Tcp } else { Proto::Udp },
                sport,
                dport,
                flags: TcpFlags::default(),
                mark,
                // Now and then one that ports cannot be read of.
                detail: match (kind, sport) {
                    (7, 1) => Detail { fragment: 1, ..Detail::ORDINARY },
                    (7, 2) => Detail { fragment: 9, ..Detail::ORDINARY },
                    (7, 3) => Detail { truncated: true, ..Detail::ORDINARY },
                    _ => Detail::ORDINARY,
                },
            },
            ct: CtView {
                state: if kind & 1 == 0 { CtState::New } else { CtState::Established },
                dnat: kind & 2 != 0,
                ..CtView::NEW
            },
            in_iface: if kind & 4 == 0 { "veth0" } else { "eth0" },
            out_iface: "",
            ipvs_virtual: None,
            nat: NatRequest::default(),
            node: &self.node,
            dummy_addrs: &self.none,
            sets,
            notrack: false,
            hotdrop: false,
            flow: None,
            bridge: None,
            recent: &mut self.recent,
            memory: &mut self.memory,
            now: SimTime::from_ns(now * 3_000_000_000),
            random: &mut self.random,
            work: &mut work,
        };
        let verdict = walk(&mut cx, &mut steps);
        let (mark, nat) = (cx.packet.mark, cx.nat);
        let mut drawn = Work::new();
        let next = self.random.clone().u32(&mut drawn);
        Outcome {
            verdict,
            mark,
            nat,
            work,
            steps,
            next_random: (next, drawn[Unit::RngRefills]),
            lists_and_counts: format!("{:?} {:?}", self.recent, self.memory),
        }
    }
}

/// Runs the packets through both built-in chains by index, by scanning, and by the plain reference, and compares all that
/// can be told. `rename` gives the reference's chain numbers for the compiled table's.
pub fn compare(
    compiled: &Compiled,
    table: &Table,
    sets: &IpSets,
    packets: &[Numbers],
    rename: impl Fn(ChainId) -> ChainId,
) -> Result<(), TestCaseError> {
    let family = table.family;
    let reference = Reference::new(std::slice::from_ref(table), sets).expect("it compiles");
    let mut sides: [Side; 3] = std::array::from_fn(|_| Side::new(family));
    for (now, (&packet, hook)) in (0u64..).zip(packets.iter().zip([0, 3].into_iter().cycle())) {
        let [a, b, c] = &mut sides;
        let mut by_index =
            a.walk(family, sets, packet, now, |cx, steps| compiled.run_observed(hook, cx, steps));
        let mut scanned = b.walk(family, sets, packet, now, |cx, steps| compiled.run_linear(hook, cx, steps));
        let plain = c.walk(family, sets, packet, now, |cx, steps| reference.run(hook, cx, steps));
        for outcome in [&mut by_index, &mut scanned] {
            for step in &mut outcome.steps {
                match step {
                    Step::XtMissed { chain, .. } | Step::XtMatched { chain, .. } => *chain = rename(*chain),
                    _ => {}
                }
            }
        }
        prop_assert_eq!(&by_index, &plain, "by index, {:?}", packet);
        prop_assert_eq!(&scanned, &plain, "scanned, {:?}", packet);
    }
    Ok(())
}
