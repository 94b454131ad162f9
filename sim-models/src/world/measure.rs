//! What a world measures, and the figures it leaves.

use super::World;
use crate::control::watch::Sent;
use crate::host::Served;
use crate::kernel::path::Crossing;
use crate::proxy::fleet::Totals;
use crate::workload::patience::Failure;
use sim_core::classify::{Unit, Work};
use sim_core::des::Fingerprint;
use sim_core::record::{Basis, Distribution, Fixed, Metric, PointRecord};
use sim_core::stats::Histogram;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;

/// Figures of one sweep point under one mode; the caller adds its place in the plan.
pub type PointResult = PointRecord;

/// Histograms and counters of a run.
pub(super) struct Measures {
    /// Cost of first packets on the client's node, in the profile's unit.
    first: Histogram,
    /// Cost of later packets on any node.
    established: Histogram,
    /// Cost of first packets on the server's node.
    server_first: Histogram,
    /// Waiting and cost of first packets on the client's node, in nanoseconds.
    first_latency: Histogram,
    /// Whole connections, in nanoseconds.
    connection: Histogram,
    rules_evaluated: u64,
    hash_probes: u64,
    work: [u64; Unit::COUNT],
    packets: u64,
    connections: u64,
    failed: u64,
    /// Tries that failed, by how.
    failures: [u64; Failure::ALL.len()],
    /// The same for each second of the measured time and after it, until the last connection has ended.
    failures_by_second: Vec<[u64; Failure::ALL.len()]>,
    /// Calls begun in each of these seconds.
    opened_by_second: Vec<u64>,
    /// Tries that were followed by another.
    retried: u64,
    /// Calls that failed at first and succeeded in the end.
    recovered: u64,
    /// Entries of connection tracking that kube-proxy deleted.
    cleaned: u64,
    began: SimTime,
    busy_before: SimSpan,
    busy_at_end: SimSpan,
    /// What the fleet counted while measuring.
    totals: Totals,
    sent_before: Sent,
    sent_at_end: Sent,
    /// Versions of the log when measuring began and when it ended.
    versions: (u64, u64),
    up_to_date: Vec<(u64, Fixed)>,
    behind: Vec<(u64, Fixed)>,
    /// Nodes that joined and have no rules yet, since when.
    joined: BTreeMap<u32, SimTime>,
    /// Longest time of that.
    unusable: Option<SimSpan>,
}

impl Measures {
    pub(super) fn new() -> Self {
        Measures {
            first: Histogram::new(),
            established: Histogram::new(),
            server_first: Histogram::new(),
            first_latency: Histogram::new(),
            connection: Histogram::new(),
            rules_evaluated: 0,
            hash_probes: 0,
            work: [0; Unit::COUNT],
            packets: 0,
            connections: 0,
            failed: 0,
            failures: [0; Failure::ALL.len()],
            failures_by_second: Vec::new(),
            opened_by_second: Vec::new(),
            retried: 0,
            recovered: 0,
            cleaned: 0,
            began: SimTime::ZERO,
            busy_before: SimSpan::ZERO,
            busy_at_end: SimSpan::ZERO,
            totals: Totals::default(),
            sent_before: Sent::default(),
            sent_at_end: Sent::default(),
            versions: (0, 0),
            up_to_date: Vec::new(),
            behind: Vec::new(),
            joined: BTreeMap::new(),
            unusable: None,
        }
    }

    pub(super) fn begin(&mut self, now: SimTime, busy: SimSpan, sent: Sent, version: u64) {
        (self.began, self.busy_before, self.sent_before) = (now, busy, sent);
        self.versions = (version, version);
    }

    /// Takes down the share of nodes that have everything that was written, and the age of the oldest write that one lacks.
    pub(super) fn sample(&mut self, now: SimTime, up_to_date: f64, behind: SimSpan) {
        let at = now.since(self.began).as_ns();
        self.up_to_date.push((at, Fixed::new(up_to_date)));
        self.behind.push((at, Fixed::new(behind.as_ns() as f64)));
    }

    /// A client calls.
    pub(super) fn opened(&mut self, now: SimTime, measuring: bool) {
        if measuring {
            self.connections += 1;
            let second = self.second(now);
            *at(&mut self.opened_by_second, second) += 1;
        }
    }

    /// Whole seconds since measuring began.
    fn second(&self, now: SimTime) -> usize {
        (now.since(self.began).as_ns() / 1_000_000_000) as usize
    }

    /// One try has failed; it was the last one if `given_up`.
    pub(super) fn failed(&mut self, why: Failure, now: SimTime, given_up: bool, measured: bool) {
        if !measured {
            return;
        }
        self.failed += u64::from(given_up);
        self.retried += u64::from(!given_up);
        self.failures[why as usize] += 1;
        let second = self.second(now);
        at(&mut self.failures_by_second, second)[why as usize] += 1;
    }

    pub(super) fn closed(&mut self, lasted: SimSpan, is_retry: bool, measured: bool) {
        if measured {
            self.connection.record(lasted.as_ns());
            self.recovered += u64::from(is_retry);
        }
    }

    /// kube-proxy has deleted entries of connection tracking.
    pub(super) fn cleaned(&mut self, entries: u32) {
        self.cleaned += u64::from(entries);
    }

    /// Tries that failed in one way.
    pub(super) fn failures(&self, why: Failure) -> u64 {
        self.failures[why as usize]
    }

    /// Tries that failed in each second from the beginning of measuring on, by [`Failure`].
    pub(super) fn failures_by_second(&self) -> &[[u64; Failure::ALL.len()]] {
        &self.failures_by_second
    }

    /// Calls that failed at first and succeeded in the end.
    #[cfg(test)]
    pub(super) fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Calls begun in each second.
    pub(super) fn opened_by_second(&self) -> &[u64] {
        &self.opened_by_second
    }

    /// A node joins, without rules.
    pub(super) fn node_joined(&mut self, node: u32, now: SimTime) {
        self.joined.insert(node, now);
    }

    /// A node's kernel has rules.
    pub(super) fn node_serves(&mut self, node: u32, now: SimTime) {
        if !self.joined.is_empty()
            && let Some(at) = self.joined.remove(&node)
        {
            self.unusable = self.unusable.max(Some(now.since(at)));
        }
    }

    pub(super) fn end(&mut self, busy: SimSpan, totals: Totals, sent: Sent, version: u64) {
        self.busy_at_end = busy;
        (self.totals, self.sent_at_end, self.versions.1) = (totals, sent, version);
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
    /// Writes while measuring.
    pub(super) fn changes(&self) -> u64 {
        self.versions.1 - self.versions.0
    }
    /// Entries of connection tracking that kube-proxies deleted.
    pub(super) fn deleted(&self) -> u64 {
        self.cleaned
    }
    /// Longest time that a new node was without rules.
    pub(super) fn unusable(&self) -> Option<SimSpan> {
        self.unusable
    }
    /// What API servers had sent when measuring began and when it ended.
    pub(super) fn sent(&self) -> (Sent, Sent) {
        (self.sent_before, self.sent_at_end)
    }
    /// Share of nodes that have everything, over time.
    pub(super) fn up_to_date(&self) -> &[(u64, Fixed)] {
        &self.up_to_date
    }
    /// Age of the oldest write that some live node lacks, over time.
    pub(super) fn behind(&self) -> &[(u64, Fixed)] {
        &self.behind
    }

    /// Connections opened, closed and failed while measuring.
    pub(super) fn balance(&self) -> (u64, u64, u64) {
        (self.connections, self.connection.count(), self.failed)
    }

    /// One packet on one node.
    pub(super) fn crossing(
        &mut self,
        crossing: &Crossing,
        cost: f64,
        served: &Served,
        now: SimTime,
        at_client: bool,
        measured: bool,
    ) {
        if !measured {
            return;
        }
        self.packets += 1;
        for (unit, n) in crossing.work.iter() {
            self.work[unit as usize] += u64::from(n);
        }
        let cost = cost.round() as u64;
        match (crossing.first, at_client) {
            (true, true) => {
                self.first.record(cost);
                self.first_latency.record(served.done.since(now).as_ns());
                self.rules_evaluated += rules_evaluated(&crossing.work);
                self.hash_probes += hash_probes(&crossing.work);
            }
            (true, false) => self.server_first.record(cost),
            (false, _) => self.established.record(cost),
        }
    }
}

/// A second's place in a list that grows.
fn at<T: Clone + Default>(list: &mut Vec<T>, second: usize) -> &mut T {
    if list.len() <= second {
        list.resize(second + 1, T::default());
    }
    &mut list[second]
}

/// Rules that a packet was held against, in tables of either kind.
fn rules_evaluated(work: &Work) -> u64 {
    u64::from(work[Unit::RuleEvals]) + u64::from(work[Unit::NftRules])
}

/// Buckets looked into and entries compared there: sets, maps, services and connections.
fn hash_probes(work: &Work) -> u64 {
    const PROBES: [Unit; 9] = [
        Unit::NftLookup,
        Unit::HashSteps,
        Unit::SetTests,
        Unit::IpvsSvcLookup,
        Unit::IpvsSvcSteps,
        Unit::IpvsConnLookup,
        Unit::IpvsConnSteps,
        Unit::CtLookup,
        Unit::CtChainSteps,
    ];
    PROBES.iter().map(|&u| u64::from(work[u])).sum()
}

/// The buckets of a histogram, joined until each is about half a percent wide: what a chart can show.
fn coarse(histogram: &Histogram) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    let mut from = 0u64;
    for (bound, count) in histogram.buckets() {
        match joined.last_mut() {
            Some(last) if bound <= from + from / 200 => *last = (bound, last.1 + count),
            _ => {
                from = bound;
                joined.push((bound, count));
            }
        }
    }
    joined
}

impl World {
    /// The figures of a run that has ended.
    ///
    /// # Panics
    /// If something was lost on the way: a change, a sync, a connection.
    pub(super) fn finish(self, now: SimTime, events: u64, fingerprint: Fingerprint) -> PointResult {
        self.check(now);
        let m = &self.measures;
        let unit = self.profile.unit.clone();
        let basis = self.basis();
        let mut metrics = Vec::new();
        let mut add = |name: &str, value: Option<f64>, unit: &str, basis: Basis| {
            if let Some(value) = value {
                let (name, unit) = (name.to_owned(), unit.to_owned());
                metrics.push(Metric { name, value: Fixed::new(value), unit, basis });
            }
        };
        let quantile = |h: &Histogram, q: f64| h.quantile(q).map(|v| v as f64);
        for (name, h) in [("first_packet", &m.first), ("established_packet", &m.established)] {
            add(&format!("{name}_mean"), h.mean(), &unit, basis);
            add(&format!("{name}_p50"), quantile(h, 0.5), &unit, basis);
            add(&format!("{name}_p99"), quantile(h, 0.99), &unit, basis);
        }
        add("server_node_first_packet_mean", m.server_first.mean(), &unit, basis);
        let per_first = |total: u64| (m.first.count() > 0).then(|| total as f64 / m.first.count() as f64);
        add("rules_evaluated_mean", per_first(m.rules_evaluated), "count", Basis::Counted);
        add("hash_probes_mean", per_first(m.hash_probes), "count", Basis::Counted);
        add("first_packet_latency_p50", quantile(&m.first_latency, 0.5), "ns", Basis::Simulated);
        add("first_packet_latency_p99", quantile(&m.first_latency, 0.99), "ns", Basis::Simulated);
        add("connection_p50", quantile(&m.connection, 0.5), "ns", Basis::Simulated);
        add("connection_p99", quantile(&m.connection, 0.99), "ns", Basis::Simulated);
        let sync_basis = self.sync_basis();
        add("first_full_sync", self.start.first_sync.map(|s| s.as_ns() as f64), "ns", sync_basis);
        add("endpoint_change_sync", self.start.change_sync.map(|s| s.as_ns() as f64), "ns", sync_basis);
        self.add_changes(&mut add);
        add("services", Some(self.start.services as f64), "count", Basis::Counted);
        add("endpoints", Some(self.start.endpoints as f64), "count", Basis::Counted);
        add("rules", Some(self.start.rules as f64), "count", Basis::Counted);
        add("kernel_memory", Some(self.start.memory as f64), "bytes", Basis::Counted);
        add("connections", Some(m.connections as f64), "count", Basis::Simulated);
        add("packets", Some(m.packets as f64), "count", Basis::Simulated);
        add("services_without_endpoints", Some(self.start.empty as f64), "count", Basis::Counted);
        add("failed_connections", Some(m.failed as f64), "count", Basis::Simulated);
        for why in Failure::ALL {
            let name = format!("failed_{}", why.name());
            add(&name, Some(m.failures(why) as f64), "count", Basis::Simulated);
        }
        add("retried_connections", Some(m.retried as f64), "count", Basis::Simulated);
        add("recovered_connections", Some(m.recovered as f64), "count", Basis::Simulated);
        add("cpu_utilisation", Some(self.utilisation()), "ratio", Basis::Simulated);
        let convergence = self.convergence();
        let distribution = |name: &str, h: &Histogram, unit: &str| Distribution {
            name: name.to_owned(),
            unit: unit.to_owned(),
            buckets: coarse(h),
        };
        PointRecord {
            index: 0,
            mode: self.config.proxy.mode.clone(),
            variant: String::new(),
            axes: BTreeMap::new(),
            axis_units: Default::default(),
            services: self.start.services,
            endpoints: Fixed::new(self.start.endpoints as f64 / (self.start.services.max(1) as f64)),
            metrics,
            distributions: vec![
                distribution("first_packet", &m.first, &unit),
                distribution("established_packet", &m.established, &unit),
                distribution("first_packet_latency", &m.first_latency, "ns"),
                distribution("connection", &m.connection, "ns"),
                distribution("convergence", &convergence, "ns"),
                distribution("network_programming", &self.fleet.latencies().programmed, "ns"),
                distribution("rules_live", &self.fleet.latencies().live, "ns"),
            ],
            series: self.series(),
            // The plan's: it has the words.
            timeline: Vec::new(),
            work: Unit::ALL
                .iter()
                .filter(|&&u| m.work[u as usize] > 0)
                .map(|&u| (u.name().to_owned(), m.work[u as usize]))
                .collect(),
            events,
            fingerprint: fingerprint.to_string(),
        }
    }

    /// Whether the sizes of this world lie in the profile's calibrated ranges.
    fn basis(&self) -> Basis {
        let services = self.start.services as f64;
        let each = self.start.endpoints as f64 / services.max(1.0);
        let inside = |name: &str, value: f64| {
            self.profile.calibrated.get(name).is_none_or(|&(low, high)| low <= value && value <= high)
        };
        if inside("services", services) && inside("endpoints", each) {
            Basis::Calibrated
        } else {
            Basis::Extrapolated
        }
    }

    /// The same for syncs, which were measured on other sizes, and for each mode by itself.
    pub(super) fn sync_basis(&self) -> Basis {
        let range = self.profile.calibrated.get(&format!("sync_{}", self.config.proxy.mode));
        let inside = range.is_some_and(|&(low, high)| {
            let services = self.start.services as f64;
            low <= services && services <= high
        });
        if inside { Basis::Calibrated } else { Basis::Extrapolated }
    }

    /// Share of all cores' time that packet work took while measuring.
    fn utilisation(&self) -> f64 {
        let busy = self.measures.busy_at_end;
        let cores = self.hosts.len() as f64 * f64::from(self.config.kernel.cores);
        (busy - self.measures.busy_before).as_ns() as f64 / (self.config.duration.as_ns() as f64 * cores)
    }
}
