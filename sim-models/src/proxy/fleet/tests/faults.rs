//! Nothing is lost, whatever goes wrong: random faults on small clusters, checked in the middle and in the end.
//!
//! 200 seeds in every run of the tests; 10,000 with `WINDTUNNEL_LONG=1` in the environment.

use super::rig::{Event, Rig, Setup, ms, proxy, simulation};
use crate::config::{FaultConfig, ModeSwitch, NodeConfig};
use crate::proxy::fleet::{Beginning, Ledger, Phase, Totals};
use crate::proxy::mode;
use sim_core::classify::Family;
use sim_core::des::{Fingerprint, Schedule as _, Simulation};
use sim_core::rng::Stream;
use sim_core::units::SimSpan;

/// Seconds in which things happen.
const TROUBLE: u64 = 60;

/// A cluster with changes and everything that can go wrong, by seed.
fn troubled(seed: u64) -> Simulation<Rig> {
    let mut dice = Stream::new(seed, "faults", "plan");
    let modes = ["iptables", "nftables", "ipvs"];
    let name = modes[dice.below(3) as usize];
    let minor = [25, 30, 33, 36]
        [dice.below(if name == "nftables" { 3 } else { 4 }) as usize + usize::from(name == "nftables")];
    let mut rare = |per: f64| if dice.below(2) == 0 { 0.0 } else { per * dice.unit_f64() };
    let faults = FaultConfig {
        watch_drops_per_hour: rare(300.0),
        proxy_restarts_per_hour: rare(300.0),
        failed_restores: rare(0.5),
    };
    let lock_users = rare(20.0);
    let stolen = rare(0.6);
    let nodes = 2 + dice.below(6) as u32;
    let mut sim = simulation(Setup {
        seed,
        nodes,
        services: 12,
        endpoints: 1 + dice.below(3) as u32,
        rate: [0.3, 2.0, 10.0][dice.below(3) as usize],
        churn_for: SimSpan::from_secs(TROUBLE),
        proxy: proxy(name, minor),
        node: NodeConfig {
            boot: SimSpan::from_secs(1),
            lock_users_per_second: lock_users,
            lock_held: SimSpan::from_ms(50),
            ..NodeConfig::default()
        },
        faults,
        stolen,
        ..Setup::default()
    });
    let cx = sim.context();
    for _ in 0..dice.below(12) {
        let at = ms(dice.below(TROUBLE * 1_000));
        let node = dice.below(u64::from(nodes)) as u32;
        let later = at + SimSpan::from_ms(1 + dice.below(20_000));
        match dice.below(9) {
            0 => {
                cx.at(at, Event::Down(node));
                cx.at(later, Event::Up(node));
            }
            1 => {
                cx.at(at, Event::ApiDown);
                cx.at(later, Event::ApiUp);
            }
            2 => cx.at(at, Event::Join),
            3 => cx.at(at, Event::Relabel(node)),
            4 => cx.at(at, Event::Flush(node)),
            5 => cx.at(at, Event::Restart(node)),
            6 => cx.at(at, Event::FailRestores(node, later.since(at))),
            7 => cx.at(at, Event::DropWatches(node, later.since(at))),
            _ => {
                let switch = ModeSwitch {
                    to: modes[dice.below(3) as usize].to_owned(),
                    restart: dice.below(3) > 0,
                    flush: dice.below(2) == 0,
                    wait: dice.below(2) == 0,
                    parallel: 1 + dice.below(3) as u32,
                };
                cx.at(at, Event::Switch(switch));
            }
        }
    }
    sim
}

/// Runs one seed to its end.
fn survive(seed: u64) -> Outcome {
    let mut sim = troubled(seed);
    // In the middle of things.
    for second in [7, 20, 41, TROUBLE] {
        sim.run_until(ms(second * 1_000));
        sim.model().check(ms(second * 1_000));
    }
    // No more faults; a last change, so that a flushed node in nftables mode, where nobody looks, finds out.
    let end = ms((TROUBLE + 21) * 1_000);
    sim.run_until(end);
    sim.model_mut().fleet.end_faults();
    sim.context().at(end, Event::ApiUp);
    sim.context().at(end, Event::Touch(0));
    let limit = ms((TROUBLE + 200) * 1_000);
    sim.run_until(limit);
    let rig = sim.model();
    rig.check(limit);
    rig.fleet.check_settled(&rig.log);
    same_as_loaded(rig);
    sizes_add_up(rig);
    Outcome { totals: rig.fleet.totals(), versions: rig.log.version(), fingerprint: sim.fingerprint() }
}

/// What became of a seed.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    totals: Totals,
    versions: u64,
    fingerprint: Fingerprint,
}

/// What a world that only hears of loads believes is what the fleet says.
fn same_as_loaded(rig: &Rig) {
    for (node, kernel) in (0..).zip(&rig.kernels) {
        let alive = rig.fleet.node(node).phase != Phase::Down;
        assert!(alive, "node {node} was brought back");
        let own = rig.fleet.kernel(node);
        assert_eq!(*kernel, own, "node {node}");
        assert_eq!(own.map(|rules| rules.version), Some(rig.log.version()), "node {node}");
    }
}

/// The sizes at the last version are those of a ledger made of the objects as they are in the end.
fn sizes_add_up(rig: &Rig) {
    let mut state = rig.first.clone();
    state.go_to(rig.log.version(), &rig.log, |_| {});
    let fresh = Beginning::of_state(&rig.services, &state);
    for known in rig.fleet.modes() {
        let mode = mode(&known.config.mode).unwrap().simulated().unwrap();
        let ledger = Ledger::new(mode, &known.config, Family::Ipv4, &rig.services, &fresh);
        assert_eq!(known.ledger.table(rig.log.version()), ledger.table(0), "{}", known.config.mode);
    }
}

#[test]
fn every_change_reaches_every_live_node_whatever_goes_wrong() {
    let long = std::env::var("WINDTUNNEL_LONG").is_ok_and(|value| value == "1");
    let (mut failed, mut starts, mut versions, mut waited) = (0, 0, 0, SimSpan::ZERO);
    for seed in 0..if long { 10_000 } else { 200 } {
        let outcome = survive(seed);
        failed += outcome.totals.failed;
        starts += outcome.totals.starts;
        versions += outcome.versions;
        waited += outcome.totals.lock_wait;
    }
    // There was trouble indeed.
    assert!(failed > 1_000 && starts > 1_000 && versions > 10_000, "{failed} {starts} {versions}");
    assert!(waited > SimSpan::from_secs(10), "{waited}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        assert_eq!(survive(seed), survive(seed));
    }
    assert_ne!(survive(0), survive(1));
}
