//! A record with plausible figures, made without running anything.

use sim_core::record::{
    Basis, ChartRecord, ConstantRecord, Distribution, Fixed, GateRecord, Metric, PointRecord, ProfileRecord,
    RunRecord, SCHEMA,
};
use std::collections::BTreeMap;

/// Swept Services of the usual record.
pub const SERVICES: [u64; 7] = [250, 500, 1000, 2000, 4000, 8000, 16000];

/// Three modes at seven sizes: iptables linear in Services, the others flat and close to each other.
pub fn sweep() -> RunRecord {
    let mut record = empty();
    for services in SERVICES {
        for mode in ["iptables", "ipvs", "nftables"] {
            let index = record.points.len() as u32;
            let mut point = point(mode, services, index);
            point.axes.insert("cluster.services".into(), Fixed::new(services as f64));
            record.points.push(point);
        }
    }
    record
}

/// The same modes at 4,000 Services, nothing swept.
pub fn single() -> RunRecord {
    let mut record = empty();
    record.points =
        ["iptables", "ipvs", "nftables"].iter().zip(0..).map(|(mode, i)| point(mode, 4000, i)).collect();
    record
}

/// A record with everything but points.
pub fn empty() -> RunRecord {
    let constant = |name: &str, value: f64, error: f64, source: &str| ConstantRecord {
        name: name.into(),
        value: Fixed::new(value),
        error: Fixed::new(error),
        unit: "ns".into(),
        source: source.into(),
    };
    RunRecord {
        schema: SCHEMA,
        tool: "windtunnel 0.1.0".into(),
        name: "4k-services".into(),
        title: "4,000 Services: iptables against IPVS and nftables".into(),
        scenario_hash: "9f2c".repeat(16),
        seed: 42,
        profile: ProfileRecord {
            name: "linux-6.18".into(),
            unit: "ns".into(),
            description: "Linux 6.18, one virtual machine, 2 cores, 2 MB of L2.".into(),
            constants: vec![
                constant("rule_l2", 3.8, 0.1, "measured: slope over 100 to 2,000 rules"),
                constant("rule_beyond_l2", 19.0, 1.2, "measured: slope over 20,000 to 200,000 rules"),
                constant("hash_probe", 41.0, 2.0, "measured: IPVS lookups at 1,000 virtual servers"),
            ],
        },
        points: Vec::new(),
        charts: Vec::new(),
        crossovers: Vec::new(),
        gates: vec![
            GateRecord {
                expect: "ipvs.first_packet_p99 < 50us".into(),
                passed: true,
                observed: "4.91 us at 16,000 Services".into(),
            },
            GateRecord {
                expect: "iptables.first_packet_p99 < 50us".into(),
                passed: false,
                observed: "157 us at 16,000 Services".into(),
            },
        ],
        published: Vec::new(),
        notes: vec!["iptables at 16,000 Services: prices are extrapolated beyond 8,000 Services.".into()],
        fingerprint: "0123456789abcdef".into(),
    }
}

/// One point with the usual metrics and a distribution of 2,000 first packets.
pub fn point(mode: &str, services: u64, index: u32) -> PointRecord {
    let n = services as f64;
    let (base, slope, rules, full, change, memory, probes) = match mode {
        "iptables" => (1_350.0, 6.5, 11.0 * n + 5.0, 22_000.0 * n, 4_000.0 * n, 390.0 * n, 0.0),
        "ipvs" => (3_310.0, 0.011, 4.0 * n + 9.0, 61_000.0 * n, 900_000.0, 210.0 * n, 4.0),
        _ => (3_340.0, 0.013, 8.0 * n + 40.0, 9_000.0 * n, 1_100_000.0, 310.0 * n, 5.0),
    };
    let mean = base + slope * n;
    let basis = if mode == "iptables" && services > 8000 { Basis::Extrapolated } else { Basis::Simulated };
    let evaluated = if mode == "iptables" { n / 2.0 + 9.5 } else { 14.0 };
    let metric = |name: &str, value: f64, unit: &str, basis: Basis| Metric {
        name: name.into(),
        value: Fixed::new(value),
        unit: unit.into(),
        basis,
    };
    let metrics = vec![
        metric("first_packet_mean", mean, "ns", basis),
        metric("first_packet_p50", mean * 0.98, "ns", basis),
        metric("first_packet_p99", mean * 1.5, "ns", basis),
        metric("established_packet_mean", base / 3.0, "ns", Basis::Simulated),
        metric("established_packet_p50", base / 3.1, "ns", Basis::Simulated),
        metric("established_packet_p99", base / 2.0, "ns", Basis::Simulated),
        metric("rules_evaluated_mean", evaluated, "count", Basis::Counted),
        metric("hash_probes_mean", probes, "count", Basis::Counted),
        metric("first_full_sync", full, "ns", Basis::Calibrated),
        metric("endpoint_change_sync", change, "ns", Basis::Calibrated),
        metric("rules", rules, "count", Basis::Counted),
        metric("kernel_memory", memory, "bytes", Basis::Counted),
        metric("failed_connections", 0.0, "count", Basis::Simulated),
        metric("packets", 20_000.0, "count", Basis::Counted),
    ];
    // A lognormal-like hump around the mean, from whole arithmetic.
    let buckets = (0..40u64)
        .map(|i| {
            (
                (mean * (0.6 + 0.03 * i as f64)) as u64,
                400u64.saturating_sub((i as i64 - 13).unsigned_abs().pow(2)) / (1 + i / 20),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    PointRecord {
        index,
        mode: mode.into(),
        variant: String::new(),
        axes: BTreeMap::new(),
        axis_units: Default::default(),
        services,
        endpoints: Fixed::new(3.0),
        metrics,
        distributions: vec![Distribution { name: "first_packet".into(), unit: "ns".into(), buckets }],
        series: Vec::new(),
        timeline: Vec::new(),
        work: BTreeMap::from([("rules".into(), 1000 * services)]),
        events: 40_000 + services,
        fingerprint: format!("{index:016x}"),
    }
}

/// Points of two modes along a key with the values given.
pub fn two(key: &str, rows: &[(f64, f64, f64)]) -> Vec<PointRecord> {
    let point = |mode: &str, x: f64, y: f64| {
        let mut point = point(mode, 1, 0);
        point.axes.insert(key.into(), Fixed::new(x));
        point.metrics.retain(|metric| metric.name == "first_packet_mean");
        point.metrics[0].value = Fixed::new(y);
        point
    };
    rows.iter().flat_map(|(x, a, b)| [point("iptables", *x, *a), point("nftables", *x, *b)]).collect()
}

/// A chart request.
pub fn chart(x: &str, y: &str, log_x: bool, log_y: bool) -> ChartRecord {
    ChartRecord { x: x.into(), y: y.into(), by: "mode".into(), title: String::new(), log_x, log_y }
}
