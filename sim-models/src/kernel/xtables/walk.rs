//! The walk of `ip_tables.c:ipt_do_table` over a compiled table, counting its work.
//!
//! Per rule: addresses, devices, protocol; then matches in order until one fails; then the counter and the
//! target. A user chain ends in a RETURN entry and a built-in chain in its policy entry: both are rules that
//! are evaluated, match and count. A jump costs a place on the jump stack, whose depth is bounded by the number
//! of user chains; beyond it the packet is dropped.
//!
//! Left out: the TEE stack, GOTO, and fragments (a packet here always has its transport header).

use super::compile::{Compiled, CompiledMatch, CompiledRule, CompiledTable};
use super::{ChainId, Policy, Target, Test};
use crate::kernel::hook::{CtState, Hook, HookVerdict, PacketCx};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::Unit;
use smallvec::SmallVec;
use std::net::SocketAddr;

impl Compiled {
    /// Runs the function `id` that [`Compiled::hooks`] registered.
    pub fn run(&self, id: usize, cx: &mut PacketCx<'_>) -> HookVerdict {
        self.run_observed(id, cx, &mut ())
    }

    /// The same, telling `observer` each step.
    pub fn run_observed(
        &self,
        id: usize,
        cx: &mut PacketCx<'_>,
        observer: &mut impl Observer,
    ) -> HookVerdict {
        let table = id / 8;
        observer.step(Step::XtTable(table), &cx.packet, cx.work);
        self.tables[table].walk(Hook::ALL[id % 8], table, cx, observer)
    }
}

impl CompiledTable {
    /// `table` is its own place, for what `observer` is told.
    fn walk(
        &self,
        hook: Hook,
        table: usize,
        cx: &mut PacketCx<'_>,
        observer: &mut impl Observer,
    ) -> HookVerdict {
        let base = self.chains.iter().position(|c| c.base.is_some_and(|(h, _)| h == hook));
        let base = base.unwrap_or_else(|| panic!("{:?} has no {hook:?} chain", self.name));
        let policy = self.chains[base].base.map(|(_, p)| p).expect("found by its base");
        cx.work[Unit::TableWalks] += 1;
        let mut stack: SmallVec<[(usize, usize); 16]> = SmallVec::new();
        let (mut chain, mut at) = (base, self.chains[base].first as usize);
        // Since a rule for one address led away at this depth, lines are those of one Service.
        let mut own: Option<(usize, u32)> = None;
        // And since the last jump from there, those of one endpoint.
        let mut endpoint: Option<u32> = None;
        let lines = |cx: &PacketCx<'_>| cx.work[Unit::LinesStream] + cx.work[Unit::LinesChase];
        let verdict = loop {
            let (first, end) = (self.chains[chain].first as usize, self.chains[chain].end as usize);
            let id = ChainId(chain as u32);
            let from = (at - first) as u32;
            let hit = self.next_hit(at, end, cx);
            let rule = (hit.unwrap_or(end) - first) as u32;
            if rule > from {
                observer.step(Step::XtMissed { table, chain: id, from, to: rule }, &cx.packet, cx.work);
            }
            observer.step(Step::XtMatched { table, chain: id, rule }, &cx.packet, cx.work);
            let Some(hit) = hit else {
                // The chain's closing entry: RETURN, or the policy.
                cx.work[Unit::RuleEvals] += 1;
                cx.work[Unit::RuleIpHits] += 1;
                cx.work[Unit::RuleHits] += 1;
                match stack.pop() {
                    Some(back) => {
                        cx.work[Unit::Returns] += 1;
                        (chain, at) = back;
                        if let Some((depth, since)) = own
                            && stack.len() <= depth
                        {
                            cx.work[Unit::LinesOwn] += lines(cx) - since;
                            (own, endpoint) = (None, None);
                        }
                        continue;
                    }
                    None => break policy_verdict(policy),
                }
            };
            at = hit + 1;
            match &self.rules[hit].target {
                None => {}
                Some(Target::Jump(to)) => {
                    cx.work[Unit::Jumps] += 1;
                    if stack.len() >= self.chains.len() {
                        break HookVerdict::Drop;
                    }
                    match own {
                        None if self.rules[hit].one_dst => own = Some((stack.len(), lines(cx))),
                        None => {}
                        Some(_) => endpoint = Some(lines(cx)),
                    }
                    stack.push((chain, at));
                    chain = to.0 as usize;
                    at = self.chains[chain].first as usize;
                }
                Some(Target::Return) => match stack.pop() {
                    Some(back) => {
                        cx.work[Unit::Returns] += 1;
                        (chain, at) = back;
                    }
                    None => {
                        // RETURN from a built-in chain goes to its policy entry, which is evaluated.
                        cx.work[Unit::RuleEvals] += 1;
                        cx.work[Unit::RuleIpHits] += 1;
                        cx.work[Unit::RuleHits] += 1;
                        let rule = (end - first) as u32;
                        observer.step(Step::XtMatched { table, chain: id, rule }, &cx.packet, cx.work);
                        break policy_verdict(policy);
                    }
                },
                Some(Target::Accept) => break HookVerdict::Accept,
                Some(Target::Drop) => break HookVerdict::Drop,
                Some(Target::Reject) => {
                    cx.work[Unit::TargetCalls] += 1;
                    break HookVerdict::Reject;
                }
                Some(Target::Mark { value, mask }) => {
                    cx.work[Unit::TargetCalls] += 1;
                    cx.packet.mark = (cx.packet.mark & !*mask) ^ *value;
                }
                Some(Target::Dnat(to)) => {
                    cx.work[Unit::TargetCalls] += 1;
                    cx.nat.dnat = Some(*to);
                    break HookVerdict::Accept;
                }
                Some(Target::Redirect { .. }) => unreachable!("refused when the table was compiled"),
                Some(Target::Masquerade { random_fully }) => {
                    cx.work[Unit::TargetCalls] += 1;
                    cx.nat.masquerade = Some(*random_fully);
                    break HookVerdict::Accept;
                }
                Some(Target::Opaque(text)) => unreachable!("compiled although opaque: {text}"),
            }
        };
        if let Some((_, since)) = own {
            cx.work[Unit::LinesOwn] += lines(cx) - since;
            cx.work[Unit::LinesEndpoint] += endpoint.map_or(0, |since| lines(cx) - since);
        }
        verdict
    }

    /// The first rule of `at..end` that matches whole; counts every rule evaluated on the way.
    fn next_hit(&self, mut at: usize, end: usize, cx: &mut PacketCx<'_>) -> Option<usize> {
        loop {
            let fit = self.addrs.next_fit(at, end, &cx.packet);
            let stop = fit.map_or(end, |i| i + 1);
            cx.work[Unit::RuleEvals] += (stop - at) as u32;
            cx.work[Unit::LinesStream] += self.lines_before[stop] - self.lines_before[at];
            let fit = fit?;
            if rule_matches(&self.rules[fit], cx) {
                cx.work[Unit::RuleHits] += 1;
                return Some(fit);
            }
            at = fit + 1;
        }
    }
}

fn policy_verdict(policy: Policy) -> HookVerdict {
    match policy {
        Policy::Accept => HookVerdict::Accept,
        Policy::Drop => HookVerdict::Drop,
    }
}

/// Devices, protocol, then matches in order; the addresses fit already, save for negated ones.
fn rule_matches(rule: &CompiledRule, cx: &mut PacketCx<'_>) -> bool {
    if let Some(negated) = &rule.negated
        && (negated.src.is_some_and(|net| net.contains(&cx.packet.src))
            || negated.dst.is_some_and(|net| net.contains(&cx.packet.dst)))
    {
        return false;
    }
    if let Some(ifaces) = &rule.ifaces
        && !(iface_fits(ifaces.input.as_ref(), cx.in_iface)
            && iface_fits(ifaces.output.as_ref(), cx.out_iface))
    {
        return false;
    }
    if rule.proto.is_some_and(|p| (p.value == cx.packet.proto) == p.invert) {
        return false;
    }
    cx.work[Unit::RuleIpHits] += 1;
    cx.work[Unit::LinesChase] += u32::from(rule.body_lines);
    rule.matches.iter().all(|m| match_one(m, cx))
}

fn iface_fits(test: Option<&Test<std::sync::Arc<str>>>, iface: &str) -> bool {
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
        CompiledMatch::Ports { sport, dport } => {
            cx.work[Unit::MatchPorts] += 1;
            let fits = |test: &Option<Test<(u16, u16)>>, port: u16| {
                test.is_none_or(|t| (t.value.0 <= port && port <= t.value.1) != t.invert)
            };
            fits(sport, cx.packet.sport) && fits(dport, cx.packet.dport)
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
            let by_state = match cx.ct.state {
                CtState::New => states.new,
                CtState::Established => states.established,
                CtState::Invalid => states.invalid,
                CtState::Untracked => false,
            };
            (by_state || (states.dnat && cx.ct.dnat)) != invert
        }
        &CompiledMatch::AddrtypeLocal { src, invert } => {
            cx.work[Unit::MatchAddrtype] += 1;
            let addr = if src { cx.packet.src } else { cx.packet.dst };
            cx.is_local(addr) != invert
        }
        &CompiledMatch::Recent { table, set, seconds } => {
            cx.work[Unit::MatchRecent] += 1;
            let (addr, now) = (cx.packet.src, cx.now);
            if set {
                cx.recent.set(table, addr, now, cx.work)
            } else {
                cx.recent.check(table, addr, seconds, now, cx.work)
            }
        }
        CompiledMatch::Set { index, from_src, invert } => {
            cx.work[Unit::MatchSet] += 1;
            cx.sets.test_packet(*index, &cx.packet, from_src, cx.work) != *invert
        }
        // Without br_netfilter no packet has come in through a bridge port.
        &CompiledMatch::PhysdevIsIn { invert } => {
            cx.work[Unit::MatchOther] += 1;
            invert
        }
        &CompiledMatch::IpvsVirtual { addr, port, proto } => {
            cx.work[Unit::MatchOther] += 1;
            cx.packet.proto == proto && cx.ipvs_virtual == Some(SocketAddr::new(addr, port))
        }
        CompiledMatch::Nfacct => {
            cx.work[Unit::MatchNfacct] += 1;
            true
        }
    }
}
