//! Single matches of a rule, as each extension's `match` function decides (`net/netfilter/xt_*.c`), counting their calls.
//!
//! kube-proxy's own are here, those of other programs in [`super::extra`]. A match that finds the packet malformed (a
//! header that is not whole, a TCP fragment that would overwrite flags) has it dropped: `hotdrop`.

use super::compile::CompiledMatch;
use super::recent::Ask;
use super::{CtStates, Test};
use crate::kernel::hook::{CtState, CtView, PacketCx};
use sim_core::classify::{Packet, Proto, Unit};
use std::net::SocketAddr;

/// Whether a device's name fits; a trailing `+` matches any suffix.
pub(super) fn iface_fits(test: Option<&Test<std::sync::Arc<str>>>, iface: &str) -> bool {
    test.is_none_or(|t| {
        let fits = match t.value.strip_suffix('+') {
            Some(prefix) => iface.starts_with(prefix),
            None => iface == &*t.value,
        };
        fits != t.invert
    })
}

/// Calls one match.
pub(in crate::kernel) fn match_one(m: &CompiledMatch, cx: &mut PacketCx<'_>) -> bool {
    match m {
        CompiledMatch::Comment => {
            cx.work[Unit::MatchComment] += 1;
            true
        }
        CompiledMatch::Ports { proto, sport, dport } => {
            cx.work[Unit::MatchPorts] += 1;
            has_header(*proto, cx) && ports_fit(sport, dport, &cx.packet)
        }
        &CompiledMatch::Statistic { p } => {
            cx.work[Unit::MatchStatistic] += 1;
            cx.random.chance(p, cx.work)
        }
        &CompiledMatch::Mark { value, mask, invert } => {
            cx.work[Unit::MatchMark] += 1;
            (cx.packet.mark & mask == value) != invert
        }
        &CompiledMatch::Conntrack { states, invert } => {
            cx.work[Unit::MatchConntrack] += 1;
            state_fits(states, &cx.ct) != invert
        }
        &CompiledMatch::AddrtypeLocal { src, invert } => {
            cx.work[Unit::MatchAddrtype] += 1;
            let addr = if src { cx.packet.src } else { cx.packet.dst };
            cx.is_local(addr) != invert
        }
        &CompiledMatch::Recent { table, set, seconds } => {
            cx.work[Unit::MatchRecent] += 1;
            let ask = Ask::of_kube_proxy(set, seconds);
            cx.recent.run(table, &ask, cx.packet.src, cx.packet.detail.ttl, cx.now, cx.work)
        }
        CompiledMatch::Set { index, from_src, invert } => {
            cx.work[Unit::MatchSet] += 1;
            cx.sets.test_packet(*index, &cx.packet, from_src, cx.work) != *invert
        }
        &CompiledMatch::PhysdevIsIn { invert } => {
            cx.work[Unit::MatchOther] += 1;
            cx.bridge.is_some_and(|bridge| bridge.in_port.is_some()) != invert
        }
        &CompiledMatch::IpvsVirtual { addr, port, proto } => {
            cx.work[Unit::MatchOther] += 1;
            cx.packet.proto == proto && cx.ipvs_virtual == Some(SocketAddr::new(addr, port))
        }
        CompiledMatch::Nfacct => {
            cx.work[Unit::MatchNfacct] += 1;
            true
        }
        CompiledMatch::Extra { of, place } => of.of().fits(*place, cx),
        CompiledMatch::Opaque => {
            cx.work[Unit::MatchOther] += 1;
            false
        }
    }
}

/// Whether the packet has its transport header, so that ports can be looked at; drops it where it should have.
pub(super) fn has_header(proto: Proto, cx: &mut PacketCx<'_>) -> bool {
    let detail = cx.packet.detail;
    if detail.fragment != 0 {
        cx.hotdrop |= proto == Proto::Tcp && detail.fragment == 1;
        return false;
    }
    cx.hotdrop |= detail.truncated;
    !detail.truncated
}

/// Whether the packet's ports are in the ranges.
pub(super) fn ports_fit(
    sport: &Option<Test<(u16, u16)>>,
    dport: &Option<Test<(u16, u16)>>,
    packet: &Packet,
) -> bool {
    let fits = |test: &Option<Test<(u16, u16)>>, port: u16| {
        test.is_none_or(|t| (t.value.0 <= port && port <= t.value.1) != t.invert)
    };
    fits(sport, packet.sport) && fits(dport, packet.dport)
}

/// Whether the connection is in one of the states (`xt_conntrack.c:conntrack_mt`).
pub(super) fn state_fits(states: CtStates, ct: &CtView) -> bool {
    match ct.state {
        CtState::New if states.new => true,
        CtState::Established if states.established => true,
        CtState::Related if states.related => true,
        CtState::Invalid => states.invalid,
        CtState::Untracked => states.untracked,
        CtState::New | CtState::Established | CtState::Related => {
            (states.dnat && ct.dnat) || (states.snat && ct.snat)
        }
    }
}
