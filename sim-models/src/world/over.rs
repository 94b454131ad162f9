//! The figures of changes and of what is shown over time, and the checks that nothing was lost.

use super::World;
use sim_core::des::Context;
use sim_core::record::{Basis, Fixed, Series};
use sim_core::stats::Histogram;
use sim_core::units::{SimSpan, SimTime};

/// Points of a figure over time.
const SAMPLES: u64 = 200;

impl World {
    /// Time between two samples.
    fn sampling(&self) -> SimSpan {
        SimSpan::from_ns((self.config.duration.as_ns() / SAMPLES).max(1))
    }

    /// Takes down what is shown over time.
    pub(super) fn sample(&mut self, now: SimTime, cx: &mut Context<super::Event>) {
        let log = self.plane.log();
        let (mut nodes, mut current, mut behind) = (0u32, 0u32, SimSpan::ZERO);
        for node in (0..self.hosts.len() as u32).filter(|&node| !self.hosts.is_down(node)) {
            nodes += 1;
            let Some(rules) = self.hosts.rules(node) else { continue };
            if rules.version == log.version() {
                current += 1;
            } else {
                behind = behind.max(now.since(log.of(rules.version + 1).committed));
            }
        }
        self.measures.sample(now, f64::from(current) / f64::from(nodes.max(1)), behind);
        if !self.ended {
            cx.schedule_after(self.sampling(), super::Event::Sample);
        }
    }

    /// From changes to the rules of the last node.
    pub(super) fn convergence(&self) -> Histogram {
        self.fleet.latencies().convergence(self.fleet.everywhere(self.plane.log()))
    }

    /// Figures of changes and syncs.
    pub(super) fn add_changes(&self, add: &mut impl FnMut(&str, Option<f64>, &str, Basis)) {
        let m = &self.measures;
        let nodes = self.hosts.len() as f64;
        let seconds = self.config.duration.as_secs_f64();
        // Without prices of syncs there is no time that a change takes.
        if self.profile.has_sync() {
            let (convergence, latencies) = (self.convergence(), self.fleet.latencies());
            for (name, histogram, quantiles) in [
                ("network_programming", &latencies.programmed, &[0.5, 0.9, 0.99][..]),
                ("rules_live", &latencies.live, &[0.5, 0.9, 0.99]),
                ("convergence", &convergence, &[0.5, 0.9, 0.99]),
                ("sync_duration", &latencies.syncs, &[0.5, 0.99]),
                ("lock_wait", &latencies.lock_waits, &[0.99]),
            ] {
                for q in quantiles {
                    let value = histogram.quantile(*q).map(|v| v as f64);
                    add(&format!("{name}_p{}", (q * 100.0).round()), value, "ns", Basis::Simulated);
                }
            }
            let busy = (m.totals().own_cpu + m.totals().tools_cpu).as_secs_f64();
            add("kube_proxy_cpu", Some(1_000.0 * busy / (nodes * seconds)), "mcores", Basis::Simulated);
        }
        if let Some((one, all)) = self.fleet.by_tool() {
            add("tool_add_one", Some(one.as_ns() as f64), "ns", self.sync_basis());
            add("tool_add_all", Some(all.as_ns() as f64), "ns", self.sync_basis());
        }
        let memory = self.fleet.largest_memory_kib().map(|kib| kib * 1024.0);
        add("kube_proxy_memory", memory, "bytes", Basis::Simulated);
        let totals = m.totals();
        let full = totals.first + totals.full;
        let count = |n: u64| Some(n as f64);
        add("full_syncs", count(full), "count", Basis::Simulated);
        add("partial_syncs", count(totals.syncs - full.min(totals.syncs)), "count", Basis::Simulated);
        add("restore_failures", count(totals.failed), "count", Basis::Simulated);
        add("changes", count(m.changes()), "count", Basis::Simulated);
        add("changes_superseded", count(totals.superseded), "count", Basis::Simulated);
        add("conntrack_deleted", count(m.deleted()), "count", Basis::Simulated);
        add("first_service_after", m.unusable().map(|t| t.as_ns() as f64), "ns", Basis::Simulated);
        let (before, sent) = m.sent();
        add("watch_events", count(sent.events - before.events), "count", Basis::Simulated);
        add("watch_bytes", count(sent.bytes - before.bytes), "bytes", Basis::Simulated);
        let cpu = (sent.cpu - before.cpu).as_secs_f64() / seconds;
        add("api_server_cpu", Some(1_000.0 * cpu), "mcores", Basis::Simulated);
    }

    /// Figures over time.
    pub(super) fn series(&self) -> Vec<Series> {
        let m = &self.measures;
        let mut all = Vec::new();
        let seconds = self.config.duration.as_ns() / 1_000_000_000;
        if !self.clients.is_empty() {
            let by_second = m.failures_by_second();
            let sum = |second: u64| by_second.get(second as usize).map_or(0, |f| f.iter().sum::<u64>());
            let points = (0..=seconds).map(|s| (s * 1_000_000_000, Fixed::new(sum(s) as f64)));
            all.push(Series { name: "failures".into(), unit: "per_s".into(), points: points.collect() });
            let opened = m.opened_by_second();
            let opened = |second: u64| opened.get(second as usize).copied().unwrap_or(0) as f64;
            let points = (0..=seconds).map(|s| (s * 1_000_000_000, Fixed::new(opened(s))));
            all.push(Series { name: "connections".into(), unit: "per_s".into(), points: points.collect() });
        }
        all.push(Series { name: "up_to_date".into(), unit: "ratio".into(), points: m.up_to_date().to_vec() });
        all.push(Series { name: "behind".into(), unit: "ns".into(), points: m.behind().to_vec() });
        all
    }

    /// Asserts that nothing was lost.
    pub(super) fn check(&self, now: SimTime) {
        let log = self.plane.log();
        self.fleet.check(log, now, self.plane.api_answers(now));
        if now < self.give_up {
            self.fleet.check_settled(log);
        }
        for node in 0..self.hosts.len() as u32 {
            let (fleets, kernels) = (self.fleet.kernel(node), self.hosts.rules(node));
            assert_eq!(fleets, kernels, "rules of node {node}: the fleet's word and the host's");
        }
        let live = self.connections.len() - self.free.len();
        let (opened, closed, failed) = self.measures.balance();
        assert!(
            opened == closed + failed || live > 0,
            "{opened} connections were opened, {closed} closed and {failed} failed"
        );
        let counts = self.plane.counts();
        let phases =
            [counts.pending, counts.starting, counts.running, counts.ready, counts.terminating, counts.gone];
        assert_eq!(phases.iter().sum::<u64>(), counts.pods, "every pod is in one phase: {counts:?}");
        assert!(counts.handled <= counts.scheduled, "more events handled than scheduled: {counts:?}");
    }
}
