//! Time of writing the rules of 30,000 Services with two endpoints each, with criterion:
//! `cargo bench -p windtunnel-benches --bench rules`.
//!
//! `print` builds the whole ruleset and prints it as the mode's tool lists it, which must take no longer than half a
//! second; `sync` is what iptables mode gives to `iptables-restore`, at the first sync and after one endpoint changed.
#![allow(missing_docs, reason = "criterion's macros define public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sim_models::proxy::Form;
use std::time::Duration;
use windtunnel_benches::classify::{Syncs, build, mode, objects};

const SERVICES: u32 = 30_000;

fn print(c: &mut Criterion) {
    let objects = objects(SERVICES, 2);
    let mut group = c.benchmark_group("print");
    group.throughput(Throughput::Elements(u64::from(SERVICES)));
    for name in ["iptables", "nftables"] {
        let mode = mode(name);
        group.bench_function(format!("{name}/{SERVICES}"), |b| {
            b.iter(|| mode.print(&build(mode, &objects), Form::Load).len());
        });
    }
}

fn sync(c: &mut Criterion) {
    let syncs = Syncs::new("iptables", SERVICES, 2);
    let mut group = c.benchmark_group("sync");
    group.throughput(Throughput::Elements(u64::from(SERVICES)));
    group.bench_function(format!("first/{SERVICES}"), |b| b.iter(|| syncs.first()));
    group.bench_function(format!("first_and_partial/{SERVICES}"), |b| b.iter(|| syncs.both()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    targets = print, sync
}
criterion_main!(benches);
