//! The workloads whose instructions are counted: small, fixed, and the same in every run.
//!
//! [`Workload::prepare`] makes the inputs; the closure it returns is what is counted. It returns a number that depends
//! on all it did, so that nothing of it can be left out.

use crate::classify::{Node, Scan, Syncs, Walk, build, cluster, config, mode, objects};
use crate::engine::{self, Move};
use crate::indexed::Changes;
use crate::ipvs::Balancer;
use sim_core::classify::Unit;
use sim_core::units::SimSpan;
use sim_models::config::{
    CacheState, ChurnConfig, ControlConfig, FaultConfig, KernelConfig, NodeConfig, PodConfig, TrafficConfig,
    TrafficTarget, WorldConfig,
};
use sim_models::kernel::cost::CostProfile;
use sim_models::proxy::Form;
use sim_models::world;
use std::hint::black_box;
use std::sync::Arc;

/// The counted part of a workload. It is called once; the caller drops its inputs, which is not counted.
pub type Job = Box<dyn FnMut() -> u64>;

/// A named piece of work.
pub struct Workload {
    /// Its name in `instructions.toml`.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Makes its inputs.
    pub prepare: fn() -> Job,
}

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "event_queue",
        about: "100,000 events of a hold model with 10,000 pending",
        prepare: event_queue,
    },
    Workload {
        name: "timers",
        about: "100,000 packets of 10,000 flows, each re-arming an idle timer",
        prepare: timers,
    },
    Workload { name: "linear_scan", about: "100 scans of 10,000 address tests", prepare: linear_scan },
    Workload {
        name: "linear_walk",
        about: "100 walks of the nat table of 10,000 Services",
        prepare: linear_walk,
    },
    Workload {
        name: "indexed_walk",
        about: "10,000 first packets through the nat table of 10,000 Services, by its index",
        prepare: indexed_walk,
    },
    Workload {
        name: "indexed_update",
        about: "100 endpoints replaced and 100 Services' rules out and in again, nat table of 10,000 Services",
        prepare: indexed_update,
    },
    Workload {
        name: "ipvs_lookup",
        about: "1,000 first packets, IPVS with 4,000 Services",
        prepare: ipvs_lookup,
    },
    Workload {
        name: "ipvs_first_packet",
        about: "1,000 first packets through IPVS alone with 4,000 Services, each paying for the end of one",
        prepare: ipvs_first_packet,
    },
    Workload {
        name: "indexed_first_packet",
        about: "1,000 first packets by the index of the nat table of 10,000 Services",
        prepare: indexed_first_packet,
    },
    Workload {
        name: "index_update",
        about: "100 endpoints replaced and 100 Services' rules taken out and put back in the index of 4,000 Services",
        prepare: index_update,
    },
    Workload {
        name: "nftables_lookup",
        about: "1,000 first packets, nftables with 4,000 Services",
        prepare: nft_lookup,
    },
    Workload {
        name: "conntrack_lookup",
        about: "10,000 packets of 1,000 connections",
        prepare: conntrack_lookup,
    },
    Workload {
        name: "rules_iptables",
        about: "500 Services of 3 endpoints built and printed",
        prepare: || rules("iptables"),
    },
    Workload {
        name: "rules_ipvs",
        about: "500 Services of 3 endpoints built and printed",
        prepare: || rules("ipvs"),
    },
    Workload {
        name: "rules_nftables",
        about: "500 Services of 3 endpoints built and printed",
        prepare: || rules("nftables"),
    },
    Workload {
        name: "restore_iptables",
        about: "500 Services of 3 endpoints: inputs of the first sync and after one endpoint changed",
        prepare: restore,
    },
    Workload {
        name: "scenario",
        about: "3 nodes, 300 Services, a second of traffic, iptables",
        prepare: scenario,
    },
];

fn event_queue() -> Job {
    let mut simulation = engine::hold(10_000);
    Box::new(move || engine::advance(&mut simulation, 100_000, engine::hold_gap_ns(10_000)))
}

fn timers() -> Job {
    let mut simulation = engine::churn(10_000, Move::Rearm);
    engine::advance(&mut simulation, 20_000, engine::churn_gap_ns(10_000));
    Box::new(move || engine::advance(&mut simulation, 100_000, engine::churn_gap_ns(10_000)))
}

fn linear_scan() -> Job {
    let scan = Scan::new(10_000);
    Box::new(move || (0..100).map(|i| u64::from(scan.run(black_box(9_900 + i)))).sum())
}

fn linear_walk() -> Job {
    let mut walk = Walk::new(10_000);
    Box::new(move || (0..100).map(|i| u64::from(walk.run(black_box(9_900 + i)))).sum())
}

fn indexed_walk() -> Job {
    let mut walk = Walk::new(10_000);
    Box::new(move || {
        let any = (0..10_000).map(|n| n * 7919 % 10_000);
        any.map(|i| u64::from(walk.indexed(black_box(i))[Unit::RuleEvals])).sum()
    })
}

fn indexed_update() -> Job {
    let mut changes = Changes::new(10_000);
    Box::new(move || (0..100).map(|_| changes.endpoint() + changes.service()).sum())
}

fn first_packets(mode: &str) -> Job {
    let mut node = Node::new(mode, 4_000);
    Box::new(move || (0..1_000).map(|i| u64::from(node.first_packet(black_box(i * 4))[Unit::CtNew])).sum())
}

fn ipvs_lookup() -> Job {
    first_packets("ipvs")
}

fn ipvs_first_packet() -> Job {
    let mut balancer = Balancer::new(false, "rr", 4_000);
    Box::new(move || {
        let places = (0..1_000).map(|i| i * 7_919 % 4_000);
        places.map(|place| u64::from(balancer.first_packet(black_box(place))[Unit::IpvsConnNew])).sum()
    })
}

fn indexed_first_packet() -> Job {
    let mut walk = Walk::new(10_000);
    Box::new(move || {
        let places = (0..1_000).map(|i| i * 7_919 % 10_000);
        places.map(|place| u64::from(walk.indexed(black_box(place))[Unit::RuleEvals])).sum()
    })
}

fn index_update() -> Job {
    let mut changes = Changes::new(4_000);
    Box::new(move || (0..100).map(|_| changes.endpoint() + changes.service()).sum())
}

fn nft_lookup() -> Job {
    first_packets("nftables")
}

fn conntrack_lookup() -> Job {
    let mut node = Node::new("nftables", 100);
    let packets: Vec<_> = (0..1_000).map(|i| node.open(i % 100)).collect();
    Box::new(move || {
        let again = packets.iter().cycle().take(10_000);
        again.map(|&p| u64::from(node.established_packet(black_box(p))[Unit::CtLookup])).sum()
    })
}

fn rules(name: &'static str) -> Job {
    let objects = objects(500, 3);
    Box::new(move || {
        let mode = mode(name);
        mode.print(&build(mode, &objects), Form::Load).len() as u64
    })
}

fn restore() -> Job {
    let syncs = Syncs::new("iptables", 500, 3);
    Box::new(move || syncs.both())
}

fn scenario() -> Job {
    let traffic = TrafficConfig {
        name: "clients".into(),
        rate_per_node: 200.0,
        requests: 2,
        think: SimSpan::from_ms(1),
        service_time: SimSpan::from_ms(1),
        to: TrafficTarget::Uniform,
        timeout: SimSpan::from_secs(10),
        retries: 0,
    };
    let world = Arc::new(WorldConfig {
        seed: 42,
        duration: SimSpan::from_secs(1),
        warmup: SimSpan::ZERO,
        cluster: sim_models::config::ClusterConfig { nodes: 3, ..cluster(300, 3) },
        proxy: config(mode("iptables")),
        kernel: KernelConfig { profile: "linux-6.18".into(), cache: CacheState::Hot, cores: 4 },
        traffic: vec![traffic],
        churn: ChurnConfig { rate: 5.0 },
        control: ControlConfig::default(),
        pods: PodConfig::default(),
        nodes: NodeConfig::default(),
        timeline: Vec::new(),
        faults: FaultConfig::default(),
    });
    let profile = Arc::new(CostProfile::named(&world.kernel.profile).expect("an embedded profile"));
    Box::new(move || {
        let point =
            world::run(world.clone(), profile.clone(), &|_, _| true).expect("the configuration is sound");
        point.metric("packets").map_or(0, |m| m.value.get() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_does_its_work_and_the_same_each_time() {
        for workload in WORKLOADS {
            let once = (workload.prepare)()();
            assert!(once >= 100, "{}: {once}", workload.name);
            assert_eq!(once, (workload.prepare)()(), "{}", workload.name);
        }
    }
}
