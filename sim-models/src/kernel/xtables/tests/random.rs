//! Random rules of the extensions: what is printed is read back as it was, and is a fixed point.

use super::*;
use crate::kernel::hook::{NatRange, NatTo};
use crate::kernel::xtables::extra::connmark::{Connmark, SetConnmark};
use crate::kernel::xtables::extra::conntrack::Conntrack;
use crate::kernel::xtables::extra::header::{Compare, For, Length, Pkttype, Ttl};
use crate::kernel::xtables::extra::icmp::Icmp;
use crate::kernel::xtables::extra::iprange::Iprange;
use crate::kernel::xtables::extra::limit::Limit;
use crate::kernel::xtables::extra::log::{Log, Nflog, Trace};
use crate::kernel::xtables::extra::mangle::{Checksum, SetTtl, Tcpmss};
use crate::kernel::xtables::extra::multiport::{Multiport, Side};
use crate::kernel::xtables::extra::nat::{Kind, Nat};
use crate::kernel::xtables::extra::nth::Statistic;
use crate::kernel::xtables::extra::physdev::Physdev;
use crate::kernel::xtables::extra::recent::Recent;
use crate::kernel::xtables::extra::reject::RejectWith;
use crate::kernel::xtables::extra::rpfilter::Rpfilter;
use crate::kernel::xtables::extra::set::SetFlags;
use crate::kernel::xtables::extra::state::NotState;
use crate::kernel::xtables::extra::tcp::Tcp;
use crate::kernel::xtables::extra::track::Notrack;
use crate::kernel::xtables::recent::{Action, Ask};
use crate::kernel::xtables::{
    Chain, CtStates, ExtraMatch, ExtraTarget, Match, Rule, TableName, Target, Test, print,
};
use ipnet::IpNet;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

fn test<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Test<T>> {
    (any::<bool>(), value).prop_map(|(invert, value)| Test { invert, value })
}

fn ports() -> impl Strategy<Value = (u16, u16)> {
    (any::<u16>(), any::<u16>()).prop_map(|(a, b)| if a % 3 == 0 { (a, a) } else { (a.min(b), a.max(b)) })
}

fn addr(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Ipv4 => any::<Ipv4Addr>().prop_map(IpAddr::V4).boxed(),
        Family::Ipv6 => any::<Ipv6Addr>().prop_map(IpAddr::V6).boxed(),
    }
}

fn addrs(family: Family) -> impl Strategy<Value = (IpAddr, IpAddr)> {
    (addr(family), addr(family), any::<bool>())
        .prop_map(|(a, b, one)| if one { (a, a) } else { (a.min(b), a.max(b)) })
}

fn net(family: Family) -> impl Strategy<Value = IpNet> {
    (addr(family), any::<u8>()).prop_map(|(addr, prefix)| {
        let most = if addr.is_ipv4() { 32 } else { 128 };
        IpNet::new(addr, prefix % (most + 1)).unwrap().trunc()
    })
}

fn name(most: usize) -> impl Strategy<Value = Arc<str>> {
    proptest::string::string_regex(&format!("[a-zA-Z0-9_.]{{1,{most}}}")).unwrap().prop_map(Arc::from)
}

/// Any text without line ends.
fn prefix(most: usize) -> impl Strategy<Value = Arc<str>> {
    proptest::string::string_regex(&format!("[ -~]{{0,{most}}}")).unwrap().prop_map(Arc::from)
}

fn states() -> impl Strategy<Value = CtStates> {
    any::<[bool; 7]>().prop_filter("none", |all| all.contains(&true)).prop_map(
        |[invalid, new, related, established, untracked, snat, dnat]| CtStates {
            invalid,
            new,
            related,
            established,
            untracked,
            snat,
            dnat,
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let action = prop::sample::select(vec![Action::Check, Action::Update, Action::Set, Action::Remove]);
    (action, of(1u32..), any::<bool>(), of(1u32..65_535), any::<bool>(), any::<bool>()).prop_map(
        |(action, seconds, reap, hitcount, ttl, invert)| Ask {
            action,
            seconds,
            reap: reap && seconds.is_some(),
            hitcount,
            ttl,
            invert,
        },
    )
}

fn conntrack(family: Family) -> impl Strategy<Value = Conntrack> {
    let end = move || of(test(net(family)));
    let port = || of(test(ports()));
    (
        of(test(states())),
        of(test(any::<u8>())),
        [end(), end(), end(), end()],
        [port(), port(), port(), port()],
        of(test(0u8..16)),
        of(test((any::<u32>(), any::<u32>()).prop_map(|(a, b)| (a.min(b), a.max(b))))),
        of(any::<bool>()),
    )
        .prop_map(|(states, proto, addrs, ports, status, expire, reply)| Conntrack {
            states,
            proto,
            addrs,
            ports,
            status,
            expire,
            reply,
        })
}

/// A match in the one form that it has.
fn any_match(family: Family) -> BoxedStrategy<Match> {
    let extra = |of: ExtraMatch| Match::Extra(Box::new(of));
    let side = prop::sample::select(vec![Side::Source, Side::Destination, Side::Either]);
    let compare =
        prop::sample::select(vec![Compare::Equal, Compare::NotEqual, Compare::Less, Compare::Greater]);
    let to = prop::sample::select(vec![For::Unicast, For::Broadcast, For::Multicast]);
    let port = || of(test(name(15)));
    let flag = || of(any::<bool>());
    let units = prop::sample::select(vec![10_000u32, 600_000, 36_000_000, 864_000_000]);
    let icmp = (any::<u8>(), of(any::<u8>()), any::<bool>()).prop_map(move |(kind, code, invert)| {
        let code = if kind == 255 && family == Family::Ipv4 { None } else { code };
        ExtraMatch::Icmp(Icmp { kind, code, invert })
    });
    prop_oneof![
        (side, prop::collection::vec(ports(), 1..8), any::<bool>()).prop_map(move |(side, ports, invert)| {
            extra(ExtraMatch::Multiport(Multiport { side, ports: ports.into(), invert }))
        }),
        (units, 1u32..100, 0u32..=10_000)
            .prop_map(move |(unit, n, burst)| extra(ExtraMatch::Limit(Limit { avg: unit / n, burst }))),
        (of(test(addrs(family))), of(test(addrs(family))))
            .prop_filter("none", |(src, dst)| src.is_some() || dst.is_some())
            .prop_map(move |(src, dst)| extra(ExtraMatch::Iprange(Iprange { src, dst }))),
        (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(move |(value, mask, invert)| extra(
            ExtraMatch::Connmark(Connmark { value, mask, invert })
        )),
        conntrack(family)
            .prop_filter("something is asked", |c| *c != Conntrack::default())
            .prop_map(move |c| c.narrow().unwrap_or_else(|| extra(ExtraMatch::Conntrack(c)))),
        icmp.prop_map(extra),
        (ports(), any::<bool>())
            .prop_map(move |(range, invert)| extra(ExtraMatch::Length(Length { range, invert }))),
        (compare, any::<u8>())
            .prop_map(move |(compare, value)| extra(ExtraMatch::Ttl(Ttl { compare, value }))),
        (to, any::<bool>()).prop_map(move |(to, invert)| extra(ExtraMatch::Pkttype(Pkttype { to, invert }))),
        (1u32.., any::<u32>(), any::<bool>()).prop_map(move |(every, packet, invert)| extra(
            ExtraMatch::Statistic(Statistic::Nth { every, packet: packet % every, invert })
        )),
        (0u32..=1 << 31).prop_map(move |p| extra(ExtraMatch::Statistic(Statistic::NotRandom { p }))),
        (port(), flag(), port(), flag(), flag())
            .prop_map(|(input, is_in, output, is_out, is_bridged)| Physdev {
                input,
                is_in,
                output,
                is_out,
                is_bridged
            })
            .prop_filter("none", |p| *p != Physdev::default())
            .prop_map(move |p| p.narrow().unwrap_or_else(|| extra(ExtraMatch::Physdev(p)))),
        (name(199), ask(), addr(family), any::<bool>()).prop_map(move |(name, ask, mask, dst)| {
            let recent = Recent { name, ask, mask, dst };
            recent.narrow(family).unwrap_or_else(|| extra(ExtraMatch::Recent(recent)))
        }),
        (name(31), prop::collection::vec(any::<bool>(), 1..4), any::<[bool; 4]>()).prop_map(
            move |(name, from_src, [invert, return_nomatch, keep_counters, keep_subcounters])| {
                let from_src = from_src.into();
                let set =
                    SetFlags { name, from_src, invert, return_nomatch, keep_counters, keep_subcounters };
                set.narrow().unwrap_or_else(|| extra(ExtraMatch::Set(set)))
            }
        ),
        any::<[bool; 4]>().prop_map(move |[loose, valid_mark, accept_local, invert]| extra(
            ExtraMatch::Rpfilter(Rpfilter { loose, valid_mark, accept_local, invert })
        )),
        states().prop_map(move |states| extra(ExtraMatch::NotState(NotState(states)))),
        (of(test(ports())), of(test(ports())), of(test(1u8..)), of(test((0u8..64, 0u8..64)))).prop_map(
            move |(sport, dport, option, flags)| {
                let tcp = Tcp { sport, dport, option, flags };
                tcp.narrow().unwrap_or_else(|| extra(ExtraMatch::Tcp(tcp)))
            }
        ),
    ]
    .boxed()
}

fn nat(family: Family) -> impl Strategy<Value = Target> {
    let kind = prop::sample::select(vec![Kind::Snat, Kind::Dnat, Kind::Masquerade, Kind::Redirect]);
    (kind, of(addrs(family)), of(ports()), of(any::<u16>()), any::<[bool; 3]>()).prop_map(
        |(kind, addrs, ports, base, [random, random_fully, persistent])| {
            let has_addrs = matches!(kind, Kind::Snat | Kind::Dnat);
            let to = match (kind, addrs) {
                (Kind::Masquerade, _) => NatTo::OutDevice,
                (Kind::Redirect, _) => NatTo::Here,
                (_, None) => NatTo::Same,
                (_, Some((first, last))) => NatTo::Addrs(first, last),
            };
            // Something must be said.
            let ports = if to == NatTo::Same { ports.or(Some((80, 80))) } else { ports };
            let range = NatRange {
                to,
                ports,
                port_base: base.filter(|_| kind == Kind::Dnat && ports.is_some()),
                random,
                random_fully: random_fully && kind != Kind::Redirect,
                persistent: persistent && has_addrs,
            };
            Nat { kind, range }.narrow()
        },
    )
}

fn any_target(family: Family) -> BoxedStrategy<Target> {
    let extra = |of: ExtraTarget| Target::Extra(Box::new(of));
    let answers = match family {
        Family::Ipv4 => {
            vec!["icmp-net-unreachable", "icmp-host-prohibited", "tcp-reset", "icmp-port-unreachable"]
        }
        Family::Ipv6 => vec!["icmp6-no-route", "icmp6-adm-prohibited", "tcp-reset", "icmp6-port-unreachable"],
    };
    prop_oneof![
        nat(family),
        (any::<u32>(), any::<u32>(), 0u8..3).prop_map(move |(a, b, which)| extra(ExtraTarget::Connmark(
            match which {
                0 => SetConnmark::Set { value: a, mask: b },
                1 => SetConnmark::Save { nf_mask: a, ct_mask: b },
                _ => SetConnmark::Restore { nf_mask: a, ct_mask: b },
            }
        ))),
        (0u8..8, prefix(29), any::<u8>()).prop_map(move |(level, prefix, flags)| extra(ExtraTarget::Log(
            Log { level, prefix, flags: flags & 0x2f }
        ))),
        (any::<u16>(), prefix(63), any::<u16>()).prop_map(move |(group, prefix, threshold)| extra(
            ExtraTarget::Nflog(Nflog { group, prefix, threshold })
        )),
        (any::<u8>(), 0u8..3).prop_map(move |(value, which)| extra(ExtraTarget::Ttl(match which {
            0 => SetTtl::To(value),
            1 => SetTtl::More(value),
            _ => SetTtl::Less(value),
        }))),
        of(any::<u16>())
            .prop_map(move |mss| extra(ExtraTarget::Tcpmss(mss.map_or(Tcpmss::ClampToPmtu, Tcpmss::Set)))),
        any::<bool>().prop_map(move |as_ct| extra(ExtraTarget::Track(Notrack { as_ct }))),
        prop::sample::select(answers).prop_map(move |answer| {
            let with = RejectWith::named(answer, family).expect("it is an answer");
            with.map_or(Target::Reject, |with| extra(ExtraTarget::Reject(with)))
        }),
        Just(extra(ExtraTarget::Checksum(Checksum))),
        Just(extra(ExtraTarget::Trace(Trace))),
        Just(Target::Goto(super::super::ChainId(1))),
        Just(Target::Jump(super::super::ChainId(1))),
    ]
    .boxed()
}

fn rule(family: Family) -> impl Strategy<Value = Rule> {
    let fragment = of(any::<bool>()).prop_map(move |f| f.filter(|_| family == Family::Ipv4));
    let proto = of(test((1u8..).prop_map(Proto::from_number)));
    let matches = prop::collection::vec(any_match(family), 0..4).prop_map(Into::into);
    (of(test(net(family))), of(test(net(family))), proto, fragment, matches, of(any_target(family))).prop_map(
        |(src, dst, proto, fragment, matches, target)| Rule {
            src,
            dst,
            proto,
            fragment,
            matches,
            target,
            ..Rule::default()
        },
    )
}

fn printed(rules: &[Rule], family: Family) -> (Table, String) {
    let chain = |name: &str, rules: &[Rule]| Chain { name: name.into(), base: None, rules: rules.to_vec() };
    let chains = vec![chain("FROM", rules), chain("TO", &[])];
    let table = Table { name: TableName::Mangle, family, chains };
    let mut text = String::new();
    print::write_table(&table, &mut text).unwrap();
    (table, text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_of_an_extension_is_read_as_it_was(
        v4 in prop::collection::vec(rule(Family::Ipv4), 1..4),
        v6 in prop::collection::vec(rule(Family::Ipv6), 1..4),
    ) {
        for (rules, family) in [(v4, Family::Ipv4), (v6, Family::Ipv6)] {
            let (table, text) = printed(&rules, family);
            let read = tables(&text, family);
            for (found, wanted) in read[0].chains[0].rules.iter().zip(&table.chains[0].rules) {
                prop_assert_eq!(found, wanted, "{}", text);
            }
            prop_assert_eq!(printed(&read[0].chains[0].rules, family).1, text);
            // Whatever it is, compiling gives rules or says why not.
            let _ = Compiled::new(&read, &sets());
        }
    }
}
