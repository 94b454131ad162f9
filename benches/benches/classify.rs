//! Time of classifying one packet, with criterion: `cargo bench -p windtunnel-benches --bench classify`.
//!
//! In iptables mode every packet goes to the last Service of the chain KUBE-SERVICES and a figure is one whole walk;
//! "elements" are rules, so that criterion's throughput says how many a second. The walk must not take longer than
//! 1.5 ns a rule; for a short table of exactly that, in any profile, see `src/bin/walk.rs`.
#![allow(missing_docs, reason = "criterion's macros define public functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sim_core::classify::Unit;
use std::time::Duration;
use windtunnel_benches::classify::{Node, Scan, Walk};

const SERVICES: [u32; 4] = [1_000, 4_000, 10_000, 30_000];
/// Packets between restarts of a node.
const BATCH: usize = 1_000;

fn linear(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for services in SERVICES {
        let scan = Scan::new(services);
        group.throughput(Throughput::Elements(u64::from(services)));
        group.bench_function(format!("scan/{services}"), |b| b.iter(|| scan.run(services - 1)));
        let mut walk = Walk::new(services);
        group.throughput(Throughput::Elements(u64::from(walk.run(services as usize - 1))));
        group.bench_function(format!("walk/{services}"), |b| b.iter(|| walk.run(services as usize - 1)));
    }
}

fn first_packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("first_packet");
    for services in SERVICES {
        for mode in ["iptables", "ipvs", "nftables"] {
            let mut node = Node::new(mode, services);
            let last = services as usize - 1;
            let evals = u64::from(node.first_packet(last)[Unit::RuleEvals]);
            group.throughput(Throughput::Elements(if mode == "iptables" { evals } else { 1 }));
            group.bench_function(format!("{mode}/{services}"), |b| {
                b.iter_custom(|packets| {
                    let mut taken = Duration::ZERO;
                    let mut left = packets as usize;
                    while left > 0 {
                        node.restart();
                        let now = left.min(BATCH);
                        #[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
                        let start = std::time::Instant::now();
                        for _ in 0..now {
                            node.first_packet(last);
                        }
                        taken += start.elapsed();
                        left -= now;
                    }
                    taken
                });
            });
        }
    }
}

fn established_packets(c: &mut Criterion) {
    let mut node = Node::new("nftables", 1_000);
    let packet = node.open(500);
    c.bench_function("established_packet/nftables/1000", |b| {
        b.iter_batched(|| packet, |packet| node.established_packet(packet), BatchSize::SmallInput);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = linear, first_packets, established_packets
}
criterion_main!(benches);
