//! The metrics as kube-proxy serves them: Prometheus' text format, names, helps and buckets of
//! `pkg/proxy/metrics/metrics.go`, compared with what a real one served.
//!
//! Of one node, or of all summed: counters and histograms add up, gauges that are counts too, timestamps are the latest.
//! Left out: `proxy_healthz_total` and `proxy_livez_total`, which count requests that nobody makes here, counters of
//! packets, and everything that is not kube-proxy's own (Go, process, REST client). Only one family is there.

use super::engine::Fleet;
use super::health::Whereabouts;
use super::metrics::{Buckets, Metrics, programming_bound_ms};
use super::node::Node;
use super::plan::SyncOf;
use crate::control::log::{ChangeLog, What};
use crate::proxy::sync::SyncKind;
use sim_core::classify::Family;
use sim_core::units::SimTime;
use std::fmt::Write as _;

/// Whose metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One node's.
    Node(u32),
    /// The sum of all.
    All,
}

/// What is printed, summed over nodes.
#[derive(Default)]
struct Sum {
    metrics: Metrics,
    endpoint_pending: u64,
    service_pending: u64,
    endpoint_total: u64,
    service_total: u64,
    /// (filter, nat) of iptables: all rules, and those of the last sync.
    rules: [(u64, u64); 2],
    /// (external, internal).
    no_local: (u64, u64),
}

impl Fleet {
    /// The text of `/metrics`. Simulated time zero is the epoch.
    pub fn exposition(&self, scope: Scope, at: Whereabouts<'_>, now: SimTime) -> String {
        let mut sum = Sum::default();
        let nodes = match scope {
            Scope::Node(node) => node..node + 1,
            Scope::All => 0..self.len(),
        };
        for index in nodes {
            self.add(&mut sum, &self.nodes[index as usize], at.log, now);
            let (external, internal) = self.without_local_endpoints(index, at);
            sum.no_local.0 += external;
            sum.no_local.1 += internal;
        }
        let mode = match scope {
            Scope::Node(node) => self.nodes[node as usize].mode,
            Scope::All => self.wanted,
        };
        let family = match self.config.family {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        };
        print(&sum, &self.modes[mode as usize].config.mode, family)
    }

    fn add(&self, sum: &mut Sum, node: &Node, log: &ChangeLog, now: SimTime) {
        let (all, own) = (&mut sum.metrics, &node.metrics);
        all.syncs.add(&own.syncs);
        all.full.add(&own.full);
        all.partial.add(&own.partial);
        all.programming.add(&own.programming);
        all.reconciler.add(&own.reconciler);
        all.deleted_entries += own.deleted_entries;
        all.last_queued = all.last_queued.max(own.last_queued);
        all.last_synced = all.last_synced.max(own.last_synced);
        all.restore_failures += own.restore_failures;
        all.partial_failures += own.partial_failures;
        all.nftables_failures += own.nftables_failures;
        if !node.is_running() {
            return;
        }
        // What has arrived and is not taken by a sync; the change trackers count Services, not changes.
        let ledger = &self.modes[node.mode as usize].ledger;
        let known = node.known + u64::from(node.next_arrival <= now);
        let taken = node.run.map_or(node.taken, |run| run.to);
        let mut endpoint_services = Vec::new();
        let mut services = Vec::new();
        for version in taken + 1..=known {
            let of = ledger.service_of(version);
            match log.of(version).what {
                What::Endpoints { .. } => endpoint_services.push(of),
                What::ServiceAdded { .. } | What::ServiceRemoved { .. } => services.push(of),
            }
        }
        let distinct = |mut all: Vec<_>| {
            all.sort_unstable();
            all.dedup();
            all.len() as u64
        };
        sum.endpoint_pending += distinct(endpoint_services);
        sum.service_pending += distinct(services);
        let seen = log.between(node.listed_at_version, known);
        let of_endpoints = seen.iter().filter(|c| matches!(c.what, What::Endpoints { .. })).count() as u64;
        sum.endpoint_total += node.metrics.endpoint_changes + of_endpoints;
        sum.service_total += node.metrics.service_changes + seen.len() as u64 - of_endpoints;

        if let Some((from, to, kind)) = node.last_sync {
            let table = ledger.table(to);
            let (filter, nat) = iptables_fixed(
                self.config.family,
                self.modes[node.mode as usize].config.localhost_node_ports,
            );
            let rules = table.size.common_rules + table.size.own_rules;
            let total_nat = nat + rules - table.filter_rules;
            let written = match (kind, from) {
                (SyncKind::Partial, Some(from)) => {
                    let sync = SyncOf { from: Some(from), to, kind, look_for_stale: false };
                    let shape = self.modes[node.mode as usize].shape(&sync);
                    nat + table.size.common_rules - table.filter_rules + shape.written.own_rules
                }
                _ => total_nat,
            };
            sum.rules[0].0 += filter + table.filter_rules;
            sum.rules[0].1 += total_nat;
            sum.rules[1].0 += filter + table.filter_rules;
            sum.rules[1].1 += written;
        }
    }
}

/// Rules of iptables mode that are there without any Service: filter, nat.
fn iptables_fixed(family: Family, localhost_node_ports: bool) -> (u64, u64) {
    (3 + u64::from(family == Family::Ipv4 && localhost_node_ports), 5)
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = write!(self.0, "# HELP kubeproxy_{name} [ALPHA] {help}\n# TYPE kubeproxy_{name} {kind}\n");
    }
    fn line(&mut self, name: &str, labels: &str, value: &str) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "kubeproxy_{name}{labels} {value}");
    }
    fn one(&mut self, name: &str, help: &str, kind: &str, labels: &str, value: &str) {
        self.head(name, help, kind);
        self.line(name, labels, value);
    }
    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: &str,
        buckets: &Buckets<N>,
        bound: impl Fn(usize) -> u64,
    ) {
        if buckets.count() == 0 {
            return; // A vector without a child prints nothing.
        }
        self.head(name, help, "histogram");
        let mut below = 0;
        for (i, &n) in buckets.counts.iter().enumerate() {
            below += u64::from(n);
            let le = if i + 1 == N { "+Inf".to_owned() } else { decimal(bound(i) * 1_000_000) };
            self.line(&format!("{name}_bucket"), &format!("{labels},le=\"{le}\""), &below.to_string());
        }
        self.line(&format!("{name}_sum"), labels, &decimal(buckets.sum_ns));
        self.line(&format!("{name}_count"), labels, &below.to_string());
    }
}

/// Nanoseconds as seconds, without trailing zeros.
fn decimal(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn print(sum: &Sum, mode: &str, family: &str) -> String {
    let mut out = Text(String::new());
    let ip = format!("ip_family=\"{family}\"");
    let m = &sum.metrics;
    let (ms, is_iptables, is_ipvs) = (|i: usize| 1 << i, mode == "iptables", mode == "ipvs");
    let number = |n: u64| n.to_string();
    if !is_ipvs {
        out.one(
            "conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            "counter",
            &ip,
            &number(m.deleted_entries),
        );
        out.histogram(
            "conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
            &ip,
            &m.reconciler,
            ms,
        );
    }
    let help = "In Cluster Network Programming Latency in seconds";
    out.histogram("network_programming_duration_seconds", help, &ip, &m.programming, programming_bound_ms);
    let help = "SyncProxyRules latency in seconds for full resyncs";
    out.histogram("sync_full_proxy_rules_duration_seconds", help, &ip, &m.full, ms);
    let help = "SyncProxyRules latency in seconds for partial resyncs";
    out.histogram("sync_partial_proxy_rules_duration_seconds", help, &ip, &m.partial, ms);
    let help = "SyncProxyRules latency in seconds";
    out.histogram("sync_proxy_rules_duration_seconds", help, &ip, &m.syncs, ms);
    for (name, help, kind, value) in [
        ("endpoint_changes_pending", "Pending proxy rules Endpoint changes", "gauge", sum.endpoint_pending),
        ("endpoint_changes_total", "Cumulative proxy rules Endpoint changes", "counter", sum.endpoint_total),
    ] {
        out.one(&format!("sync_proxy_rules_{name}"), help, kind, "", &number(value));
    }
    if is_iptables {
        let rules = [
            ("last", "Number of iptables rules written by kube-proxy in last sync", sum.rules[1]),
            ("total", "Total number of iptables rules owned by kube-proxy", sum.rules[0]),
        ];
        let failures = [
            ("partial_restore", "Cumulative proxy iptables partial restore failures", m.partial_failures),
            ("restore", "Cumulative proxy iptables restore failures", m.restore_failures),
        ];
        let gauge = |out: &mut Text, (name, help, (filter, nat)): (&str, &str, (u64, u64))| {
            let name = format!("sync_proxy_rules_iptables_{name}");
            out.head(&name, help, "gauge");
            out.line(&name, &format!("{ip},table=\"filter\""), &number(filter));
            out.line(&name, &format!("{ip},table=\"nat\""), &number(nat));
        };
        gauge(&mut out, rules[0]);
        for (name, help, value) in failures {
            if value > 0 {
                let name = format!("sync_proxy_rules_iptables_{name}_failures_total");
                out.one(&name, help, "counter", &ip, &value.to_string());
            }
        }
        gauge(&mut out, rules[1]);
    }
    for (name, help, value) in [
        ("last_queued", "The last time a sync of proxy rules was queued", m.last_queued),
        ("last", "The last time proxy rules were successfully synced", m.last_synced),
    ] {
        if let Some(at) = value {
            let name = format!("sync_proxy_rules_{name}_timestamp_seconds");
            out.one(&name, help, "gauge", &ip, &decimal(at.as_ns()));
        }
    }
    if mode == "nftables" && m.nftables_failures > 0 {
        let help = "Cumulative proxy nftables sync failures";
        let name = "sync_proxy_rules_nftables_sync_failures_total";
        out.one(name, help, "counter", &ip, &m.nftables_failures.to_string());
    }
    let name = "sync_proxy_rules_no_local_endpoints_total";
    out.head(name, "Number of services with a Local traffic policy and no endpoints", "gauge");
    out.line(name, &format!("{ip},traffic_policy=\"external\""), &number(sum.no_local.0));
    out.line(name, &format!("{ip},traffic_policy=\"internal\""), &number(sum.no_local.1));
    for (name, help, kind, value) in [
        ("service_changes_pending", "Pending proxy rules Service changes", "gauge", sum.service_pending),
        ("service_changes_total", "Cumulative proxy rules Service changes", "counter", sum.service_total),
    ] {
        out.one(&format!("sync_proxy_rules_{name}"), help, kind, "", &number(value));
    }
    out.0
}
