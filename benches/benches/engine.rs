//! Time per event of the event engine, with criterion: `cargo bench -p windtunnel-benches --bench engine`.
//!
//! For a table beside other engines, measured in one process, see `engine_peers.rs`.
#![allow(missing_docs, reason = "criterion's macros define public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use criterion::{Criterion, criterion_group, criterion_main};
use sim_core::des::{Model, Simulation};
use std::time::{Duration, Instant};
use windtunnel_benches::engine::{self, Move};

fn measure<M: Model>(c: &mut Criterion, name: &str, mut simulation: Simulation<M>, gap_ns: f64) {
    engine::advance(&mut simulation, 1_000_000, gap_ns);
    c.bench_function(name, |b| {
        b.iter_custom(|events| {
            let start = Instant::now();
            let done = engine::advance(&mut simulation, events, gap_ns);
            let taken = start.elapsed().as_secs_f64();
            Duration::from_secs_f64(taken * events as f64 / done.max(1) as f64)
        });
    });
}

fn events(c: &mut Criterion) {
    for n in [1_000, 100_000, 1_000_000] {
        measure(c, &format!("hold/{n}"), engine::hold(n), engine::hold_gap_ns(n));
    }
    measure(c, "mm1", engine::mm1(), engine::mm1_gap_ns());
    for n in [10_000, 100_000] {
        for how in [Move::Rearm, Move::Restart] {
            measure(c, &format!("churn/{how:?}/{n}"), engine::churn(n, how), engine::churn_gap_ns(n));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = events
}
criterion_main!(benches);
