//! Nanoseconds of a first packet's walk through the nat table: `cargo run --release -p windtunnel-benches --bin indexed`.
//!
//! Side by side, in one run, for clusters of growing size: the plain reference (one rule after another), the scan over
//! columns, the index, and a lookup in a plain hash table, which has no rules and counts nothing: the limit. "last" is the
//! Service whose rule comes last; "any" goes over all Services in an order that no cache foresees. Then microseconds of
//! changes in place and bytes of memory a rule. A figure is the best of some repetitions. `--check` looks at
//! 30,000 Services only and fails with 1 where the ratio to the reference or the bytes a rule are not what is promised: both
//! hold on a busy machine. What a walk and a change take is held by `instructions` (`indexed_walk`, `indexed_update`).
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::classify::{Unit, Work};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use windtunnel_benches::indexed::{Changes, Ways};

const SERVICES: [u32; 4] = [1_000, 4_000, 10_000, 30_000];
const REPETITIONS: u32 = 20;
/// Most bytes a rule, index included.
const BYTES_MAX: f64 = 200.0;
/// How many times the index must be quicker than the plain reference.
const GAIN_MIN: f64 = 1_000.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => {
            eprintln!("error: wrong arguments {other:?}: only --check");
            return ExitCode::from(2);
        }
    };
    println!("ns a packet through the nat table, the best of {REPETITIONS} repetitions\n");
    println!(
        "{:>8} {:>10} {:>9} {:>8} {:>8} {:>8} {:>8} {:>10} {:>7} {:>7}",
        "", "reference", "scan", "index", "index", "hash", "hash", "reference/", "scan/", "index/"
    );
    println!(
        "{:>8} {:>10} {:>9} {:>8} {:>8} {:>8} {:>8} {:>10} {:>7} {:>7}",
        "Services", "last", "last", "last", "any", "last", "any", "index", "index", "hash"
    );
    let mut kept = true;
    let sizes = if check { &SERVICES[SERVICES.len() - 1..] } else { &SERVICES };
    for &services in sizes {
        let (last, mut ways) = (services as usize - 1, Ways::new(services));
        let any = |n: usize| n * 7919 % services as usize;
        let reference = best(10, |_| u64::from(ways.reference(black_box(last))));
        let scan = best(100, |_| u64::from(ways.walk.run(black_box(last))));
        let index = best(10_000, |_| evals(ways.walk.indexed(black_box(last))));
        let index_any = best(30_000, |n| evals(ways.walk.indexed(black_box(any(n)))));
        let hash = best(10_000, |_| u64::from(ways.plain(black_box(last))) + 1);
        let hash_any = best(30_000, |n| u64::from(ways.plain(black_box(any(n)))) + 1);
        println!(
            "{services:>8} {reference:>10.0} {scan:>9.0} {index:>8.1} {index_any:>8.1} {hash:>8.1} {hash_any:>8.1} \
             {:>10.0} {:>7.1} {:>7.1}",
            reference / index,
            scan / index,
            index_any / hash_any
        );
        if services == 30_000 {
            kept &= reference / index >= GAIN_MIN;
        }
    }
    println!(
        "\n{:>8} {:>22} {:>27} {:>14}",
        "Services", "endpoint replaced, us", "Service's rule out+in, us", "bytes a rule"
    );
    for &services in sizes {
        let mut changes = Changes::new(services);
        let endpoint = best(200, |_| changes.endpoint()) / 1e3;
        let service = best(200, |_| changes.service()) / 1e3;
        let bytes = changes.bytes_per_rule();
        println!("{services:>8} {endpoint:>22.2} {service:>27.2} {bytes:>14.1}");
        if services == 30_000 {
            kept &= bytes <= BYTES_MAX;
        }
    }
    if check && !kept {
        println!(
            "\nnot kept at 30,000 Services: {GAIN_MIN} times the reference walk, {BYTES_MAX} bytes a rule"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn evals(work: Work) -> u64 {
    u64::from(work[Unit::RuleEvals])
}

/// Least nanoseconds of `run`, called `rounds` times in a row with the number of the round.
fn best(rounds: usize, mut run: impl FnMut(usize) -> u64) -> f64 {
    let mut once = || {
        let start = Instant::now();
        let sum: u64 = (0..rounds).map(&mut run).sum();
        assert!(sum > 0, "it did nothing");
        start.elapsed().as_nanos() as f64 / rounds as f64
    };
    (0..REPETITIONS).map(|_| once()).fold(f64::INFINITY, f64::min)
}
