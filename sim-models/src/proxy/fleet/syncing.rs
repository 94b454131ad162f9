//! A node's syncs: when they start, what they write, what becomes of them.
//!
//! Source: `pkg/proxy/iptables/proxier.go:syncProxyRules`, `pkg/proxy/nftables/proxier.go:syncProxyRules`,
//! `pkg/proxy/ipvs/proxier.go:syncProxyRules`, and for the canary `pkg/util/iptables/iptables.go:Monitor`.
//!
//! A sync writes everything if it is the first, if the last one failed, if the node's zone changed or its canary is gone, or an
//! hour after the last that did (iptables since 1.36 not in large-cluster mode); before 1.27 iptables mode always
//! does. ipvs mode always looks at everything and changes what differs: its later syncs are told as partial ones, the mode counts
//! the looking. A partial sync onto a kernel that somebody flushed fails: the chains and maps it refers to are gone.
//!
//! Left out: the proxier of the other family. It has nothing to do when only this family's endpoints change; its first sync
//! comes after this family's and so does not delay it, its hourly one takes the node's processor and lock for that of an
//! empty table. Services and EndpointSlices come on one watch here, in the order of their writes.

use super::engine::{Env, Fleet, ProxyEvent};
use super::node::{Phase, Run};
use super::plan::{LARGE_CLUSTER, SyncOf};
use super::runner::FULL_SYNC_PERIOD;
use super::{Loaded, RulesId};
use crate::proxy::sync::SyncKind;
use sim_core::des::Schedule;
use sim_core::units::{SimSpan, SimTime};

/// Jumps that a full sync in iptables mode ensures before the restore; the commands for each (`-N`, `-C`, and `-I` where it is
/// missing) take the lock.
const JUMPS: u64 = 14;

impl Fleet {
    /// Takes what has arrived by `now`.
    pub(super) fn advance(&mut self, index: u32, now: SimTime, env: &mut Env<'_>) {
        let node = &mut self.nodes[index as usize];
        loop {
            if node.next_arrival == SimTime::MAX {
                // Nothing arrives while no API server answers: it is asked for when one does.
                if node.known == env.log.version() || !env.watch.is_up() {
                    return;
                }
                let next = node.known + 1;
                node.next_arrival = env.watch.arrival(index, next, env.log.of(next));
            }
            if node.next_arrival > now {
                return;
            }
            node.known += 1;
            node.next_arrival = SimTime::MAX;
        }
    }

    /// Schedules the next sync of an idle node.
    pub(super) fn plan(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        self.advance(index, now, env);
        let node = &mut self.nodes[index as usize];
        debug_assert_eq!(node.phase, Phase::Idle, "node {index}");
        let intervals = self.modes[node.mode as usize].habits.intervals;
        let unasked = node.runner.unasked(&intervals);
        let request = match node.asked {
            Some(at) => at.max(now),
            None if node.known > node.taken => now,
            None => node.next_arrival,
        };
        if node.at_once && node.asked.is_some() {
            node.ticket += 1;
            cx.at(now, ProxyEvent::Run { node: index, ticket: node.ticket });
            return;
        }
        if request < SimTime::MAX {
            let start = node.runner.start(&intervals, request);
            if start <= unasked {
                node.ticket += 1;
                node.queued.get_or_insert(request);
                cx.at(start, ProxyEvent::Run { node: index, ticket: node.ticket });
            }
        } else if !node.waits_for_log {
            node.waits_for_log = true;
            self.waiting.push(index);
        }
        if unasked < node.timer_at {
            node.timer_at = unasked;
            cx.at(unasked.max(now), ProxyEvent::Timer { node: index });
        }
    }

    /// A timer fired that was armed for a run nobody asks for: it may have been put off since.
    pub(super) fn timer(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        let node = &mut self.nodes[index as usize];
        if node.timer_at != now {
            return;
        }
        node.timer_at = SimTime::MAX;
        if node.phase != Phase::Idle {
            return; // The end of the sync, or the first one, plans.
        }
        let unasked = node.runner.unasked(&self.modes[node.mode as usize].habits.intervals);
        if unasked <= now {
            node.ticket += 1;
            self.begin_sync(index, now, cx, env);
        } else {
            node.timer_at = unasked;
            cx.at(unasked, ProxyEvent::Timer { node: index });
        }
    }

    /// A sync starts.
    pub(super) fn begin_sync(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        self.advance(index, now, env);
        let node = &mut self.nodes[index as usize];
        assert_eq!(node.phase, Phase::Idle, "node {index} starts a sync at {now}");
        let mode = &mut self.modes[node.mode as usize];
        let (habits, to) = (mode.habits, node.known);
        let large = mode.ledger.table(to).size.endpoints > LARGE_CLUSTER;

        // The runner's timer fires when the hour is over, to the nanosecond here.
        let is_old = now >= node.full_due && (!large || habits.hourly_when_large);
        let kind = if node.is_new {
            SyncKind::First
        } else if !habits.is_ipvs && (node.need_full || habits.always_full || is_old) {
            SyncKind::Full
        } else {
            SyncKind::Partial
        };
        let last = node.last_stale;
        let look_for_stale = !large || last.is_none_or(|last| now.since(last) > mode.config.sync_period);
        if look_for_stale {
            node.last_stale = Some(now);
        }
        // What it believes to be there: a partial sync does not look.
        let believes = kind == SyncKind::Partial && !habits.is_ipvs;
        let from = node.own_version().or(believes.then_some(node.taken));
        let sync = SyncOf { from, to, kind, look_for_stale };
        let cost = mode.cost(sync, &self.config.profile);
        let udp = from.is_none_or(|from| mode.ledger.udp_between(from, to));

        let jumps = match kind {
            SyncKind::Partial => 0,
            SyncKind::First | SyncKind::Full if !habits.is_iptables => 0,
            SyncKind::First | SyncKind::Full => JUMPS * if node.kernel.is_none() { 3 } else { 2 },
        };
        let commands = jumps + 1;
        let (wait, gave_up) = match &mut node.lock {
            Some(lock) if habits.locks => lock.wait(commands),
            _ => (SimSpan::ZERO, false),
        };
        let unlucky = match &mut node.faults {
            Some(stream) => stream.unit_f64() < self.config.faults.failed_restores,
            None => false,
        };
        let fails = gave_up || unlucky || node.fail_until > now;

        env.cores.begin(index, cost.own_cpu + cost.tools_cpu, now);
        self.totals.own_cpu += cost.own_cpu;
        self.totals.tools_cpu += cost.tools_cpu;
        self.totals.locked += cost.locked;
        self.totals.lock_wait += wait;
        self.latencies.lock_waits.record(wait.as_ns());
        node.account.begun += 1;
        node.phase = Phase::Syncing;
        node.queued.get_or_insert(now);
        node.metrics.last_queued = node.metrics.last_queued.max(node.queued);
        node.asked = None;
        node.at_once = false;
        if !node.is_new {
            node.runner.started(&habits.intervals, now);
        }
        let rest = cost.wall - cost.live;
        node.run = Some(Run { kind, first: node.is_new, started: now, to, rest, fails, live: false, udp });
        node.is_new = false;
        node.ticket += 1;
        cx.at(now + wait + cost.live, ProxyEvent::Live { node: index, ticket: node.ticket });
    }

    /// The sync's rules would be in the kernel by now, undisturbed.
    pub(super) fn sync_live(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        let node = &mut self.nodes[index as usize];
        let later = env.cores.stolen(index, now);
        if later > SimSpan::ZERO {
            cx.at(now + later, ProxyEvent::Live { node: index, ticket: node.ticket });
            return;
        }
        let own = node.own_version();
        let run = node.run.as_mut().expect("a sync is going on");
        let is_ipvs = self.modes[node.mode as usize].habits.is_ipvs;
        run.fails |= run.kind == SyncKind::Partial && own.is_none() && !is_ipvs;
        if run.fails {
            return self.end_sync(index, now, cx, env, loaded);
        }
        run.live = true;
        let (to, rest, udp) = (run.to, run.rest, run.udp);
        match node.kernel {
            Some(RulesId { version, .. }) => {
                assert!(version <= to, "node {index} goes back from version {version} to {to}");
                self.latencies.live(version, to, now);
                self.totals.superseded += self.modes[node.mode as usize].ledger.superseded(version, to);
                node.account.covered += to - version;
            }
            None => node.account = super::node::Account { base: to, covered: 0, ..node.account },
        }
        let under = match node.kernel {
            Some(old) if old.mode != node.mode => Some((old.mode, old.version)),
            Some(old) => old.under,
            None => None,
        };
        let rules = Some(RulesId { mode: node.mode, version: to, under });
        if node.kernel != rules || udp {
            loaded.push(Loaded { node: index, rules, udp_cleanup: udp });
        }
        node.kernel = rules;
        node.last_sync = Some((own, to, run.kind));
        if rest > SimSpan::ZERO {
            cx.at(now + rest, ProxyEvent::End { node: index, ticket: node.ticket });
        } else {
            self.end_sync(index, now, cx, env, loaded);
        }
    }

    /// The sync ends, or would, undisturbed.
    pub(super) fn end_sync(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        let node = &mut self.nodes[index as usize];
        let later = env.cores.stolen(index, now);
        if later > SimSpan::ZERO {
            cx.at(now + later, ProxyEvent::End { node: index, ticket: node.ticket });
            return;
        }
        env.cores.end(index, now);
        let run = node.run.take().expect("a sync is going on");
        node.phase = Phase::Idle;
        let habits = self.modes[node.mode as usize].habits;
        let span = now.since(run.started);
        node.metrics.syncs.observe(span);
        self.latencies.syncs.record(span.as_ns());
        if !habits.is_ipvs {
            match run.kind {
                SyncKind::Partial => node.metrics.partial.observe(span),
                SyncKind::First | SyncKind::Full => node.metrics.full.observe(span),
            }
        }
        let taken = std::mem::replace(&mut node.taken, run.to);
        if run.fails {
            node.need_full = true;
            node.account.failed += 1;
            self.totals.failed += 1;
            let metrics = &mut node.metrics;
            if habits.is_nftables {
                metrics.nftables_failures += 1;
            } else {
                metrics.restore_failures += 1;
                let partial = habits.is_iptables && run.kind == SyncKind::Partial;
                metrics.partial_failures += u32::from(partial);
            }
        } else {
            node.need_full = false;
            node.queued = None;
            node.account.done += 1;
            node.metrics.last_synced = Some(now);
            if run.kind != SyncKind::Partial {
                node.full_due = now + FULL_SYNC_PERIOD;
            }
            let observed = &mut node.metrics.programming;
            self.latencies
                .programmed(taken, run.to, node.started, now, |ns| observed.observe(SimSpan::from_ns(ns)));
            self.totals.syncs += 1;
            self.totals.first += u64::from(run.kind == SyncKind::First);
            self.totals.full += u64::from(run.kind == SyncKind::Full);
        }
        if run.first {
            node.runner.first_ended(&habits.intervals, now, run.fails);
        } else {
            node.runner.ended(&habits.intervals, now, run.fails);
        }
        self.plan(index, now, cx, env);
        if !run.fails {
            self.first_sync_done(index, now, cx, env, loaded);
        }
    }

    /// The monitor looks for the canary chain: if it is gone, everything is written at once, past the runner.
    pub(super) fn canary(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        let node = &mut self.nodes[index as usize];
        if !node.is_running() || node.is_new || node.kernel.is_some() {
            return;
        }
        node.need_full = true;
        node.asked = Some(now);
        node.at_once = true;
        if node.phase == Phase::Idle {
            self.plan(index, now, cx, env);
        }
    }
}
