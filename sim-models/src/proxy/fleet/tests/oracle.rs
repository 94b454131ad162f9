//! The fleet against a loop that hears of every change at once, written without its shortcuts.

use super::rig::{Rig, Setup, proxy, simulation};
use crate::config::ControlConfig;
use crate::control::watch::Watch;
use crate::proxy::fleet::SyncOf;
use crate::proxy::sync::SyncKind;
use sim_core::des::Simulation;
use sim_core::units::{SimSpan, SimTime};

/// When each sync of a node went live, and with which version, worked out change by change.
fn expected(sim: &mut Simulation<Rig>, node: u32, seed: u64, until: SimTime) -> Vec<(SimTime, u64)> {
    let (rig, _) = sim.parts();
    let nodes = rig.fleet.len();
    let mut watch = Watch::new(&ControlConfig::default(), nodes, seed);
    for version in 1..=rig.log.version() {
        watch.committed(version, rig.log.of(version));
    }
    let arrivals: Vec<SimTime> =
        (1..=rig.log.version()).map(|v| watch.arrival(node, v, rig.log.of(v))).collect();
    let mode = rig.fleet.mode_for_tests(0);
    let (min, bucket) = (mode.config.min_sync_period, mode.config.kubernetes_minor < 34);
    let always_full = mode.config.kubernetes_minor < 27;
    let mut out = Vec::new();
    let (mut taken, mut ready, mut end) = (0, SimTime::ZERO, SimTime::ZERO);
    // Starts so far: of the last two, one gives its token back each interval.
    let (mut tokens, mut counted) = (2 * min.as_ns(), SimTime::ZERO);
    while taken < arrivals.len() {
        let request = arrivals[taken].max(end);
        let mut start = request.max(ready);
        if bucket {
            let at = |t: SimTime| (tokens + t.since(counted).as_ns()).min(2 * min.as_ns());
            start = if at(request) >= min.as_ns() { request } else { start };
            while at(start) < min.as_ns() {
                start += SimSpan::from_ns(min.as_ns() - at(start));
            }
            tokens = at(start) - min.as_ns();
            counted = start;
        }
        let to = arrivals.iter().filter(|&&a| a <= start).count();
        let kind = if always_full { SyncKind::Full } else { SyncKind::Partial };
        let sync = SyncOf { from: Some(taken as u64), to: to as u64, kind, look_for_stale: true };
        let cost = mode.cost(sync, &rig.profile);
        if start + cost.live <= until {
            out.push((start + cost.live, to as u64));
        }
        end = start + cost.wall;
        ready = end + min;
        taken = to;
    }
    out
}

#[test]
fn a_lazy_node_does_what_one_that_hears_of_every_change_at_once_would_do() {
    for (name, minor) in [("iptables", 36), ("iptables", 33), ("iptables", 25), ("nftables", 36)] {
        for (seed, rate) in [(1, 0.4), (2, 3.0), (3, 40.0)] {
            let churn_for = SimSpan::from_secs(40);
            let setup =
                Setup { seed, nodes: 3, rate, churn_for, proxy: proxy(name, minor), ..Setup::default() };
            let mut sim = simulation(setup);
            // The hourly syncs of these seeds come later; the long run is for what is behind.
            let until = SimTime::ZERO + SimSpan::from_secs(60);
            sim.run_until(until);
            assert_eq!(sim.model().fleet.totals().first, 0);
            for node in 0..3 {
                let loads = sim.model().loads.iter().filter(|l| l.node == node);
                let got: Vec<_> = loads.map(|l| (l.at, l.rules.unwrap().version)).collect();
                let expected = expected(&mut sim, node, seed, until);
                assert!(got.len() > 5, "{name} {minor}, {rate}/s: {} syncs", got.len());
                assert_eq!(got, expected, "{name} 1.{minor}, {rate}/s, node {node}");
            }
        }
    }
}
