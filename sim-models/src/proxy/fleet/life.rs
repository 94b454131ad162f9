//! Lives of kube-proxies: starts, restarts, dead and new nodes, outages, and going over to another mode.
//!
//! A process starts, lists, and does its first sync; the kernel's rules stay as they are meanwhile. At its start, kube-proxy in
//! nftables mode removes what iptables and ipvs mode left and the other way round, but not what iptables mode left for ipvs mode
//! (`cmd/kube-proxy/app/server_linux.go:platformCleanup`): that stays under the new rules until somebody flushes it.
//!
//! Left out: that kube-proxy exits when its configuration file is rewritten, as the ConfigMap's volume does after a while:
//! processes are restarted by whoever edits the ConfigMap, or by chance.

use super::engine::{Env, Fleet, ProxyEvent, Rollout};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::node::{Account, Phase};
use super::plan::Mode;
use super::runner::Runner;
use super::{Loaded, RulesId};
use crate::config::{ModeSwitch, ProxyConfig};
use crate::proxy::mode as mode_named;
use sim_core::des::Schedule;
use sim_core::units::{SimSpan, SimTime};

impl Fleet {
    /// Breaks off what a node's process does: its events are of the past, its sync, if any, will never end.
    fn stop_process(&mut self, index: u32, now: SimTime, env: &mut Env<'_>) {
        let node = &mut self.nodes[index as usize];
        node.ticket += 1;
        if node.phase == Phase::Syncing {
            env.cores.end(index, now);
            node.account.broken += 1;
        }
        node.run = None;
        node.asked = None;
        node.at_once = false;
        node.queued = None;
        node.next_arrival = SimTime::MAX;
        env.watch.closed(index);
    }

    /// kube-proxy of a node stops and is started again by its kubelet.
    pub(super) fn restart_node(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        if self.nodes[index as usize].phase == Phase::Down {
            return;
        }
        self.stop_process(index, now, env);
        self.boot(index, now + self.config.start_up, cx);
    }

    fn boot(&mut self, index: u32, at: SimTime, cx: &mut impl Schedule<ProxyEvent>) {
        let node = &mut self.nodes[index as usize];
        node.phase = Phase::Starting;
        node.is_new = true;
        cx.at(at, ProxyEvent::Started { node: index, ticket: node.ticket });
    }

    /// The process runs: it reads its configuration, cleans up after other modes, and lists.
    pub(super) fn process_started(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        let wanted = self.wanted;
        let intervals = self.modes[wanted as usize].habits.intervals;
        let is_nftables = |mode: u8| self.modes[mode as usize].habits.is_nftables;
        let node = &mut self.nodes[index as usize];
        if node.phase != Phase::NoApi {
            self.totals.starts += 1;
            node.mode = wanted;
            node.started = now;
            node.beat = now;
            node.need_full = false;
            node.last_stale = None;
            node.last_sync = None;
            node.metrics = Metrics::default();
            node.runner = Runner::new(&intervals, now);
            if node.kernel.is_some_and(|rules| is_nftables(rules.mode) != is_nftables(wanted)) {
                node.kernel = None;
                loaded.push(Loaded { node: index, rules: None, udp_cleanup: false });
            }
            // Without a wait, a rollout goes on as soon as the container runs: kube-proxy has no readiness probe.
            if node.rolling && !self.rollout.wait {
                self.rolled(index, now, cx, env, loaded);
            }
        }
        let node = &mut self.nodes[index as usize];
        if env.watch.is_up() {
            node.phase = Phase::Listing;
            let listed = env.watch.opened(index, now, self.config.list_bytes);
            cx.at(listed, ProxyEvent::Listed { node: index, ticket: node.ticket });
        } else {
            node.phase = Phase::NoApi;
        }
    }

    /// The process has everything that was written by now: it does its first sync.
    pub(super) fn listed(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        let mut version = env.log.version();
        while version > 0 && env.log.of(version).committed > now {
            version -= 1;
        }
        let listed = self.modes[self.wanted as usize].ledger.objects();
        let node = &mut self.nodes[index as usize];
        if !env.watch.is_up() {
            // The list broke with everything else.
            node.phase = Phase::NoApi;
            env.watch.closed(index);
            return;
        }
        node.known = version;
        node.taken = version;
        node.listed_at_version = version;
        // Every object of the list is an addition for the trackers.
        (node.metrics.service_changes, node.metrics.endpoint_changes) = listed;
        node.phase = Phase::Idle;
        self.begin_sync(index, now, cx, env);
    }

    /// A sync ended well.
    pub(super) fn first_sync_done(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        let node = &mut self.nodes[index as usize];
        node.drained = false;
        if node.rolling {
            self.rolled(index, now, cx, env, loaded);
        }
    }

    /// Starts kube-proxy of `nodes` again, all at once; without any named, of all nodes, one after the other.
    pub fn restart(
        &mut self,
        nodes: &[u32],
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        for &index in nodes {
            self.restart_node(index, now, cx, env);
        }
        if nodes.is_empty() {
            self.roll(
                Rollout { left: (0..self.len()).collect(), ..Rollout::default() },
                1,
                now,
                cx,
                env,
                loaded,
            );
        }
    }

    fn roll(
        &mut self,
        rollout: Rollout,
        parallel: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        for node in &mut self.nodes {
            node.rolling = false;
            node.drained = false;
        }
        self.rollout = rollout;
        for _ in 0..parallel.max(1) {
            self.roll_next(now, cx, env, loaded);
        }
    }

    /// Restarts the next node of the rollout that is alive.
    fn roll_next(
        &mut self,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        while let Some(index) = self.rollout.left.pop_front() {
            if self.nodes[index as usize].phase == Phase::Down {
                continue;
            }
            if self.rollout.flush {
                self.flush_node(index, loaded);
            }
            self.restart_node(index, now, cx, env);
            let node = &mut self.nodes[index as usize];
            node.rolling = true;
            node.drained = self.rollout.wait;
            return;
        }
    }

    fn rolled(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        self.nodes[index as usize].rolling = false;
        self.roll_next(now, cx, env, loaded);
    }

    /// Writes another mode into the ConfigMap and does the rest of the procedure. `config` is that of the new mode.
    ///
    /// # Panics
    /// If no clusters can be simulated under the mode.
    pub fn switch_mode(
        &mut self,
        switch: &ModeSwitch,
        config: ProxyConfig,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        let found = self.modes.iter().position(|m| m.config == config);
        let place = found.unwrap_or_else(|| {
            let mode = mode_named(&config.mode).and_then(|mode| mode.simulated());
            let mode = mode.unwrap_or_else(|| panic!("no clusters are simulated under mode {}", config.mode));
            let family = self.config.family;
            let mut ledger = Ledger::new(mode, &config, family, env.services, &self.beginning);
            ledger.follow(env.log, env.services);
            self.modes.push(Mode::new(mode, config, family, ledger));
            self.modes.len() - 1
        });
        self.wanted = u8::try_from(place).expect("fewer than 256 modes");
        if switch.restart {
            let rollout = Rollout { left: (0..self.len()).collect(), flush: switch.flush, wait: switch.wait };
            self.roll(rollout, switch.parallel, now, cx, env, loaded);
        }
    }

    /// Whether a node's clients are elsewhere until its first sync under the new mode has ended.
    pub fn is_drained(&self, node: u32) -> bool {
        self.nodes[node as usize].drained
    }

    /// A node is dead, its kernel with it.
    pub fn node_down(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
        loaded: &mut Vec<Loaded>,
    ) {
        if self.nodes[index as usize].phase == Phase::Down {
            return;
        }
        self.stop_process(index, now, env);
        self.flush_node(index, loaded);
        let node = &mut self.nodes[index as usize];
        node.phase = Phase::Down;
        if node.rolling {
            self.rolled(index, now, cx, env, loaded);
        }
    }

    /// A dead node is back, with an empty kernel.
    pub fn node_up(&mut self, index: u32, now: SimTime, cx: &mut impl Schedule<ProxyEvent>) {
        if self.nodes[index as usize].phase == Phase::Down {
            self.boot(index, now + self.config.start_up, cx);
        }
    }

    /// A new node joined, with the next index and an empty kernel.
    pub fn node_added(&mut self, now: SimTime, cx: &mut impl Schedule<ProxyEvent>, env: &mut Env<'_>) -> u32 {
        let index = self.push_node();
        env.watch.joined();
        self.start_faults(index, now, cx);
        self.boot(index, now + self.config.start_up, cx);
        index
    }

    /// No API server answers from now on.
    pub fn api_down(&mut self, now: SimTime, env: &mut Env<'_>) {
        env.watch.down(now);
    }

    /// They answer again: processes that waited list, in their turn; the others go on where they were.
    pub fn api_up(&mut self, now: SimTime, cx: &mut impl Schedule<ProxyEvent>, env: &mut Env<'_>) {
        env.watch.up(now, self.config.list_bytes);
        for index in 0..self.len() {
            let node = &mut self.nodes[index as usize];
            if node.phase == Phase::NoApi {
                // Its ticket is still good: it waited for nothing else.
                cx.at(now, ProxyEvent::Started { node: index, ticket: node.ticket });
            }
        }
        self.changed(now, cx, env);
    }

    /// The watches of a node break until `until`.
    pub fn drop_watches(&mut self, node: u32, now: SimTime, until: SimTime, env: &mut Env<'_>) {
        if self.nodes[node as usize].is_running() {
            env.watch.broken(node, now, until);
        }
    }

    /// Every restore and transaction of a node fails until `until`.
    pub fn fail_restores(&mut self, node: u32, until: SimTime) {
        let node = &mut self.nodes[node as usize];
        node.fail_until = node.fail_until.max(until);
    }

    /// Somebody flushes all rules of a node. iptables mode's canary is looked for every sync-period; in the other modes
    /// nobody looks.
    pub fn flush(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        loaded: &mut Vec<Loaded>,
    ) {
        self.flush_node(index, loaded);
        let node = &self.nodes[index as usize];
        let config = &self.modes[node.mode as usize].config;
        if config.mode == "iptables" && node.is_running() {
            let period = config.sync_period.as_ns().max(1);
            let since = (now.as_ns() + period - node.beat.as_ns() % period) % period;
            cx.at(now + SimSpan::from_ns(period - since), ProxyEvent::Canary { node: index });
        }
    }

    fn flush_node(&mut self, index: u32, loaded: &mut Vec<Loaded>) {
        let node = &mut self.nodes[index as usize];
        if node.kernel.take().is_some() {
            loaded.push(Loaded { node: index, rules: None, udp_cleanup: false });
        }
        node.account = Account { base: 0, covered: 0, ..node.account };
    }

    /// A node gets another zone label: everything is written anew (`OnTopologyChange`).
    pub fn relabel(
        &mut self,
        index: u32,
        now: SimTime,
        cx: &mut impl Schedule<ProxyEvent>,
        env: &mut Env<'_>,
    ) {
        let node = &mut self.nodes[index as usize];
        if !node.is_running() {
            return;
        }
        node.need_full = true;
        node.asked = Some(now);
        if node.phase == Phase::Idle {
            self.plan(index, now, cx, env);
        }
    }

    /// A node's kube-proxy cleaned up conntrack, which took it `span`; the world knows how much it found.
    pub fn reconciled(&mut self, node: u32, span: SimSpan, deleted: u64) {
        let metrics = &mut self.nodes[node as usize].metrics;
        metrics.reconciler.observe(span);
        metrics.deleted_entries += deleted;
    }

    /// What a node's kernel has.
    pub fn kernel(&self, node: u32) -> Option<RulesId> {
        self.nodes[node as usize].kernel
    }
}
