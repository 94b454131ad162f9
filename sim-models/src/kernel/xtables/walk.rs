//! The walk of `ip_tables.c:ipt_do_table` over a compiled table, counting its work.
//!
//! Per rule: addresses, devices, protocol; then matches in order until one fails; then the counter and the
//! target. A user chain ends in a RETURN entry and a built-in chain in its policy entry: both are rules that
//! are evaluated, match and count. A jump costs a place on the jump stack, whose depth is bounded by the number
//! of user chains; beyond it the packet is dropped.
//!
//! Left out: the TEE stack.

use super::columns::{Columns, words4, words6};
use super::compile::{ChainRules, Compiled, CompiledRule, CompiledTable, STEP};
use super::matching::{iface_fits, match_one};
use super::{ChainId, Policy, Target, layout};
use crate::kernel::hook::{Hook, HookVerdict, NatRange, NatTo, PacketCx};
use crate::kernel::trace::{Observer, Step};
#[cfg(debug_assertions)]
use sim_core::classify::Work;
use sim_core::classify::indexed::{PHASES, Place};
use sim_core::classify::linear::{AddrPair, LinearTable};
use sim_core::classify::{Family, Packet, Unit};
use smallvec::SmallVec;
use std::ops::Range;

impl Compiled {
    /// Runs the function `id` that [`Compiled::hooks`] registered.
    pub fn run(&self, id: usize, cx: &mut PacketCx<'_>) -> HookVerdict {
        #[cfg(debug_assertions)]
        if is_sampled(&cx.packet) {
            return self.run_compared(id, cx);
        }
        self.run_observed(id, cx, &mut ())
    }

    /// The same with and without the index, which must agree in all that a walk leaves behind.
    #[cfg(debug_assertions)]
    fn run_compared(&self, id: usize, cx: &mut PacketCx<'_>) -> HookVerdict {
        cx.recent.bind(&self.lists);
        let (mut recent, mut memory) = (cx.recent.clone(), cx.memory.clone());
        let (mut random, mut work) = (cx.random.clone(), *cx.work);
        let mut scan = PacketCx {
            recent: &mut recent,
            memory: &mut memory,
            random: &mut random,
            work: &mut work,
            ..*cx
        };
        let scanned = self.run_linear(id, &mut scan, &mut ());
        let scanned = (scanned, scan.packet, scan.nat, scan.notrack, scan.hotdrop, *scan.work);
        let verdict = self.run_observed(id, cx, &mut ());
        let indexed = (verdict, cx.packet, cx.nat, cx.notrack, cx.hotdrop, *cx.work);
        assert_eq!(indexed, scanned, "by index and scanned, hook function {id}");
        let (mut ours, mut theirs) = (Work::new(), Work::new());
        let drawn = (cx.random.clone().u32(&mut ours), random.u32(&mut theirs));
        assert!(drawn.0 == drawn.1 && ours == theirs, "random numbers after hook function {id}: {drawn:?}");
        verdict
    }

    /// The same, telling `observer` each step.
    pub fn run_observed(
        &self,
        id: usize,
        cx: &mut PacketCx<'_>,
        observer: &mut impl Observer,
    ) -> HookVerdict {
        let table = id / 8;
        cx.recent.bind(&self.lists);
        observer.step(Step::XtTable(table), &cx.packet, cx.work);
        By { table: &self.tables[table], index: true }.walk(Hook::ALL[id % 8], table, cx, observer)
    }

    /// The same without the index, rule after rule as far as addresses fit: outcome and work must be the same.
    pub fn run_linear(&self, id: usize, cx: &mut PacketCx<'_>, observer: &mut impl Observer) -> HookVerdict {
        let table = id / 8;
        cx.recent.bind(&self.lists);
        observer.step(Step::XtTable(table), &cx.packet, cx.work);
        By { table: &self.tables[table], index: false }.walk(Hook::ALL[id % 8], table, cx, observer)
    }
}

/// Chains of rules as the walk asks for them. A [`Place`] is one of a rule in its chain: zero is the first, and the one
/// after a rule's is that plus one.
pub(super) trait Chains {
    /// Jumps that may be open at once: as many as there are ERROR entries (`translate_table`).
    fn stack_size(&self) -> usize;
    /// The built-in chain of `hook` and its policy.
    fn base(&self, hook: Hook) -> Option<(usize, Policy)>;
    /// The first rule of `chain` from `from` on that matches whole; counts every rule evaluated on the way. If the
    /// packet is to be dropped (`hotdrop`), the rule that said so, which has not matched.
    fn next_hit(&self, chain: usize, from: Place, cx: &mut PacketCx<'_>) -> Option<Place>;
    /// Target of a rule, and whether it is for one destination.
    fn target(&self, chain: usize, place: Place) -> (&Option<Target>, bool);
    /// Rules before `place` in the chain; before its end, without one.
    fn rank(&self, chain: usize, place: Option<Place>) -> u32;

    /// Runs the built-in chain of `hook`. `table` is the table's own place, for what `observer` is told.
    fn walk(
        &self,
        hook: Hook,
        table: usize,
        cx: &mut PacketCx<'_>,
        observer: &mut impl Observer,
    ) -> HookVerdict {
        let (base, policy) = self.base(hook).unwrap_or_else(|| panic!("no {hook:?} chain in table {table}"));
        cx.work[Unit::TableWalks] += 1;
        let evaluated = cx.work[Unit::RuleEvals];
        let mut stack: SmallVec<[(usize, Place); 16]> = SmallVec::new();
        let (mut chain, mut at) = (base, 0);
        // Since a rule for one address led away at this depth, lines are those of one Service.
        let mut own: Option<(usize, u32)> = None;
        // And since the last jump from there, those of one endpoint.
        let mut endpoint: Option<u32> = None;
        let lines = |cx: &PacketCx<'_>| cx.work[Unit::LinesStream] + cx.work[Unit::LinesChase];
        let verdict = loop {
            let id = ChainId(chain as u32);
            let hit = self.next_hit(chain, at, cx);
            let drops = hit.is_some() && cx.hotdrop;
            if observer.listens() {
                let (from, rule) = (self.rank(chain, Some(at)), self.rank(chain, hit));
                let to = if drops { rule + 1 } else { rule };
                if to > from {
                    observer.step(Step::XtMissed { table, chain: id, from, to }, &cx.packet, cx.work);
                }
                if !drops {
                    observer.step(Step::XtMatched { table, chain: id, rule }, &cx.packet, cx.work);
                }
            }
            if drops {
                break HookVerdict::Drop;
            }
            let Some(hit) = hit else {
                // The chain's closing entry: RETURN, or the policy.
                closing_entry(cx);
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
                    // A chain that was gone to from a built-in one has nowhere to return to.
                    None if chain != base => {
                        self.policy_entry(base, table, cx, observer);
                        break policy_verdict(policy);
                    }
                    None => break policy_verdict(policy),
                }
            };
            at = hit + 1;
            let (target, one_dst) = self.target(chain, hit);
            match target {
                None => {}
                Some(Target::Jump(to)) => {
                    cx.work[Unit::Jumps] += 1;
                    if stack.len() >= self.stack_size() {
                        break HookVerdict::Drop;
                    }
                    match own {
                        None if one_dst => own = Some((stack.len(), lines(cx))),
                        None => {}
                        Some(_) => endpoint = Some(lines(cx)),
                    }
                    stack.push((chain, at));
                    chain = to.0 as usize;
                    at = 0;
                }
                Some(Target::Goto(to)) => {
                    cx.work[Unit::Jumps] += 1;
                    chain = to.0 as usize;
                    at = 0;
                }
                Some(Target::Return) => match stack.pop() {
                    Some(back) => {
                        cx.work[Unit::Returns] += 1;
                        (chain, at) = back;
                    }
                    None => {
                        self.policy_entry(base, table, cx, observer);
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
                &Some(Target::Redirect { port }) => {
                    cx.work[Unit::TargetCalls] += 1;
                    cx.nat.range = Some(NatRange {
                        to: NatTo::Here,
                        ports: Some((port, port)),
                        port_base: None,
                        random: false,
                        random_fully: false,
                        persistent: false,
                    });
                    break HookVerdict::Accept;
                }
                Some(Target::Masquerade { random_fully }) => {
                    cx.work[Unit::TargetCalls] += 1;
                    cx.nat.masquerade = Some(*random_fully);
                    break HookVerdict::Accept;
                }
                Some(Target::Extra(extra)) => {
                    cx.work[Unit::TargetCalls] += 1;
                    if let Some(verdict) = extra.of().run(cx) {
                        break verdict;
                    }
                }
                // Allowed when it was compiled: it decides nothing.
                Some(Target::Opaque(_)) => cx.work[Unit::TargetCalls] += 1,
            }
        };
        if let Some((_, since)) = own {
            cx.work[Unit::LinesOwn] += lines(cx) - since;
            cx.work[Unit::LinesEndpoint] += endpoint.map_or(0, |since| lines(cx) - since);
        }
        if cx.packet.family() == Family::Ipv6 {
            cx.work[Unit::RuleEvalsV6] += cx.work[Unit::RuleEvals] - evaluated;
        }
        verdict
    }

    /// The entry of a built-in chain's policy is evaluated, as where RETURN leads from there (`underflow`).
    fn policy_entry(&self, base: usize, table: usize, cx: &mut PacketCx<'_>, observer: &mut impl Observer) {
        closing_entry(cx);
        let rule = self.rank(base, None);
        let step = Step::XtMatched { table, chain: ChainId(base as u32), rule };
        observer.step(step, &cx.packet, cx.work);
    }
}

/// A table's chains, the long ones by their index or walked.
struct By<'a> {
    table: &'a CompiledTable,
    index: bool,
}

impl Chains for By<'_> {
    fn stack_size(&self) -> usize {
        self.table.user_chains + 1
    }
    fn base(&self, hook: Hook) -> Option<(usize, Policy)> {
        self.table.base(hook)
    }
    fn next_hit(&self, chain: usize, from: Place, cx: &mut PacketCx<'_>) -> Option<Place> {
        self.table.next_hit(chain, from, self.index, cx)
    }
    fn target(&self, chain: usize, place: Place) -> (&Option<Target>, bool) {
        self.table.target(chain, place)
    }
    fn rank(&self, chain: usize, place: Option<Place>) -> u32 {
        self.table.rank(chain, place)
    }
}

/// One walk in about a thousand, in builds with debug assertions, is made twice. Which ones follows from the packet alone,
/// so that runs stay alike.
#[cfg(debug_assertions)]
fn is_sampled(packet: &Packet) -> bool {
    let ports = u32::from(packet.sport) << 16 | u32::from(packet.dport);
    ports.wrapping_mul(0x9e37_79b9) >> 22 == 0
}

impl CompiledTable {
    fn base(&self, hook: Hook) -> Option<(usize, Policy)> {
        let of = |(n, c): (usize, &super::compile::CompiledChain)| match c.base {
            Some((h, policy)) if h == hook => Some((n, policy)),
            _ => None,
        };
        self.chains.iter().enumerate().find_map(of)
    }

    fn target(&self, chain: usize, place: Place) -> (&Option<Target>, bool) {
        let slot = match self.chains[chain].rules {
            ChainRules::Short { first, .. } => first as usize + place,
            ChainRules::Long(long) => self.long[long as usize].places.store(place),
            ChainRules::Gone => panic!("the walk is in chain {chain}, which is gone"),
        };
        let entry = &self.rules.entries[slot];
        (&entry.target, entry.one_dst)
    }

    fn rank(&self, chain: usize, place: Option<Place>) -> u32 {
        match (self.chains[chain].rules, place) {
            (ChainRules::Short { .. }, Some(place)) => place as u32,
            (ChainRules::Short { len, .. }, None) => len,
            (ChainRules::Long(long), place) => {
                let places = &self.long[long as usize].places;
                place.map_or(places.len() as u32, |place| places.rank(place))
            }
            (ChainRules::Gone, _) => 0,
        }
    }

    /// The phase of a chain's first rule.
    #[inline]
    fn begin(&self, chain: usize) -> u8 {
        let head = match self.chains[chain].base {
            Some(_) => 0,
            None => layout::head_bytes(self.family) / STEP % PHASES as u64,
        };
        (self.blob.phase(chain) + head as u8) % PHASES as u8
    }

    fn next_hit(&self, chain: usize, from: Place, by_index: bool, cx: &mut PacketCx<'_>) -> Option<Place> {
        let begin = self.begin(chain);
        match self.chains[chain].rules {
            ChainRules::Short { first, len } => {
                let (first, end) = (first as usize, (first + len) as usize);
                let hit = match &self.rules.addrs {
                    Columns::V4(t) => {
                        let pair = AddrPair { dst: words4(cx.packet.dst), src: words4(cx.packet.src) };
                        self.next_side_by_side(t, &pair, first + from..end, begin, cx)
                    }
                    Columns::V6(t) => {
                        let pair = AddrPair { dst: words6(cx.packet.dst), src: words6(cx.packet.src) };
                        self.next_side_by_side(t, &pair, first + from..end, begin, cx)
                    }
                };
                hit.map(|slot| slot - first)
            }
            ChainRules::Long(long) => {
                let long = &self.long[long as usize];
                // A fragment or a packet cut short may end the walk at any match of ports.
                let is_whole = cx.packet.detail.fragment == 0 && !cx.packet.detail.truncated;
                if by_index && is_whole && long.places.is_indexed() {
                    return self.next_indexed(long, from, begin, cx);
                }
                let mut at = from;
                while let Some((range, place)) = long.places.side_by_side(at) {
                    let fit = self.rules.addrs.next_fit(range.clone(), &cx.packet);
                    let next = place + (fit.unwrap_or(range.end) - range.start);
                    let stretch = long.places.stretch(place..next, begin);
                    cx.work[Unit::RuleEvals] += stretch.rules;
                    cx.work[Unit::RuleSrcHits] += stretch.rules;
                    if long.has_sources {
                        let slots = range.start..fit.unwrap_or(range.end);
                        cx.work[Unit::RuleSrcHits] -= self.src_misses(slots, &cx.packet);
                    }
                    cx.work[Unit::LinesStream] += stretch.lines;
                    at = next;
                    if let Some(slot) = fit {
                        let phase = (begin + long.places.phase(next)) % PHASES as u8;
                        if self.matches_at(slot, phase, cx) {
                            return Some(next);
                        }
                        at = next + 1;
                    }
                }
                None
            }
            ChainRules::Gone => panic!("the walk is in chain {chain}, which is gone"),
        }
    }

    /// One rule after another.
    #[inline]
    fn next_side_by_side<const W: usize>(
        &self,
        columns: &LinearTable<W>,
        addrs: &AddrPair<W>,
        mut range: Range<usize>,
        begin: u8,
        cx: &mut PacketCx<'_>,
    ) -> Option<usize> {
        range.find(|&slot| {
            let phase = (begin + self.rules.entries[slot].phase) % PHASES as u8;
            self.stops_at(columns, addrs, slot, phase, cx)
        })
    }

    /// Evaluates the one rule in `slot` and counts it: whether the walk ends there.
    pub(super) fn matches_at(&self, slot: usize, phase: u8, cx: &mut PacketCx<'_>) -> bool {
        match &self.rules.addrs {
            Columns::V4(t) => {
                let addrs = AddrPair { dst: words4(cx.packet.dst), src: words4(cx.packet.src) };
                self.stops_at(t, &addrs, slot, phase, cx)
            }
            Columns::V6(t) => {
                let addrs = AddrPair { dst: words6(cx.packet.dst), src: words6(cx.packet.src) };
                self.stops_at(t, &addrs, slot, phase, cx)
            }
        }
    }

    #[inline]
    fn stops_at<const W: usize>(
        &self,
        columns: &LinearTable<W>,
        addrs: &AddrPair<W>,
        slot: usize,
        phase: u8,
        cx: &mut PacketCx<'_>,
    ) -> bool {
        cx.work[Unit::RuleEvals] += 1;
        cx.work[Unit::LinesStream] += u32::from(self.cost[usize::from(phase)]);
        // The columns are memory of their own, which most rules of short chains have no need of.
        let entry = &self.rules.entries[slot];
        if entry.tests_src && !columns.fits_src(slot, addrs) {
            return false;
        }
        let body = self.bodies.get(entry.body);
        if !src_fits(body, &cx.packet) {
            return false;
        }
        cx.work[Unit::RuleSrcHits] += 1;
        if !((!entry.tests_dst || columns.fits_dst(slot, addrs)) && matches_past_source(body, phase, cx)) {
            return cx.hotdrop;
        }
        cx.work[Unit::RuleHits] += 1;
        true
    }

    /// How many rules in these slots fail at the source: the kernel compares no more of those.
    fn src_misses(&self, slots: Range<usize>, packet: &Packet) -> u32 {
        let fits = |slot: usize| {
            let columns = match &self.rules.addrs {
                Columns::V4(t) => {
                    t.fits_src(slot, &AddrPair { dst: words4(packet.dst), src: words4(packet.src) })
                }
                Columns::V6(t) => {
                    t.fits_src(slot, &AddrPair { dst: words6(packet.dst), src: words6(packet.src) })
                }
            };
            columns && src_fits(self.bodies.get(self.rules.entries[slot].body), packet)
        };
        slots.filter(|&slot| !fits(slot)).count() as u32
    }
}

/// Whether a source that is negated fits.
#[inline]
fn src_fits(rule: &CompiledRule, packet: &Packet) -> bool {
    let negated = rule.negated.as_ref().and_then(|n| n.src);
    negated.is_none_or(|net| !net.contains(&packet.src))
}

/// The entry that closes a chain: no test, a counter, a verdict.
fn closing_entry(cx: &mut PacketCx<'_>) {
    for unit in [Unit::RuleEvals, Unit::RuleSrcHits, Unit::RuleAddrHits, Unit::RuleIpHits, Unit::RuleHits] {
        cx.work[unit] += 1;
    }
}

fn policy_verdict(policy: Policy) -> HookVerdict {
    match policy {
        Policy::Accept => HookVerdict::Accept,
        Policy::Drop => HookVerdict::Drop,
    }
}

/// Devices, protocol, then matches in order; the addresses fit already, save for negated ones. `phase` is where the rule
/// begins in a cache line.
pub(super) fn rule_matches(rule: &CompiledRule, phase: u8, cx: &mut PacketCx<'_>) -> bool {
    src_fits(rule, &cx.packet) && matches_past_source(rule, phase, cx)
}

/// The same, of a rule whose source fits, a negated one too.
#[inline]
fn matches_past_source(rule: &CompiledRule, phase: u8, cx: &mut PacketCx<'_>) -> bool {
    if let Some(negated) = &rule.negated
        && negated.dst.is_some_and(|net| net.contains(&cx.packet.dst))
    {
        return false;
    }
    cx.work[Unit::RuleAddrHits] += 1;
    if let Some(ifaces) = &rule.ifaces
        && !(iface_fits(ifaces.input.as_ref(), cx.in_iface)
            && iface_fits(ifaces.output.as_ref(), cx.out_iface))
    {
        return false;
    }
    if let Some(proto) = rule.proto {
        if cx.packet.family() == Family::Ipv6 {
            cx.work[Unit::RuleProtosV6] += 1;
        }
        if (proto.value == cx.packet.proto) == proto.invert {
            return false;
        }
    }
    if rule.fragment.is_some_and(|later| later != (cx.packet.detail.fragment != 0)) {
        return false;
    }
    cx.work[Unit::RuleIpHits] += 1;
    cx.work[Unit::LinesChase] += u32::from(rule.body_lines[usize::from(phase)]);
    rule.matches.iter().all(|m| match_one(m, cx))
}
