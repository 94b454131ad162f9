//! The event engine beside other Rust engines on the same work, in one process, their repetitions interleaved:
//! `cargo bench -p windtunnel-benches --bench engine_peers --features peers`. Without the feature, this engine alone.
//!
//! Prints the median processor time per event (per packet for the timer churn) and the ratio to each peer. `-- --quick` repeats less often.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::des::{Model, Simulation};
use sim_core::stats::median;
use std::time::Instant;
use windtunnel_benches::engine::{self, Move};

const REPETITIONS: usize = 9;
/// With `--quick`: enough to see that nothing is badly off.
const QUICK_REPETITIONS: usize = 3;

/// Runs about so many events and returns how many there were.
type Advance = Box<dyn FnMut(u64) -> u64>;

struct Row {
    name: String,
    events: u64,
    engines: Vec<(&'static str, Advance)>,
}

/// Processor time of this thread in nanoseconds, where the system tells; otherwise time since `start`.
fn processor_ns(start: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| start.elapsed().as_nanos() as f64)
}

fn own<M: Model + 'static>(mut simulation: Simulation<M>, gap_ns: f64) -> Advance {
    Box::new(move |events| engine::advance(&mut simulation, events, gap_ns))
}

#[cfg(feature = "peers")]
fn peer(mut peer: impl windtunnel_benches::peers::Peer + 'static) -> Advance {
    Box::new(move |events| peer.advance(events))
}

fn rows() -> Vec<fn() -> Row> {
    vec![|| hold(1_000), || hold(100_000), || hold(1_000_000), mm1, || churn(10_000), || churn(100_000)]
}

fn hold(n: u32) -> Row {
    let engines = vec![
        ("windtunnel", own(engine::hold(n), engine::hold_gap_ns(n))),
        #[cfg(feature = "peers")]
        ("simulacra", peer(windtunnel_benches::peers::hold_on_simulacra(n))),
        #[cfg(feature = "peers")]
        ("nexosim", peer(windtunnel_benches::peers::hold_on_nexosim(n))),
    ];
    Row { name: format!("hold, {n} pending"), events: 1_000_000, engines }
}

fn mm1() -> Row {
    let engines = vec![
        ("windtunnel", own(engine::mm1(), engine::mm1_gap_ns())),
        #[cfg(feature = "peers")]
        ("simulacra", peer(windtunnel_benches::peers::mm1_on_simulacra())),
        #[cfg(feature = "peers")]
        ("nexosim", peer(windtunnel_benches::peers::mm1_on_nexosim())),
    ];
    Row { name: "M/M/1, load 0.8".into(), events: 2_000_000, engines }
}

fn churn(n: u32) -> Row {
    let gap = engine::churn_gap_ns(n);
    let engines = vec![
        ("windtunnel", own(engine::churn(n, Move::Rearm), gap)),
        ("windtunnel, cancel + start", own(engine::churn(n, Move::Restart), gap)),
        #[cfg(feature = "peers")]
        ("nexosim", peer(windtunnel_benches::peers::churn_on_nexosim(n))),
    ];
    Row { name: format!("timer churn, {n} flows"), events: 1_000_000, engines }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let repetitions = if quick { QUICK_REPETITIONS } else { REPETITIONS };
    println!("{:<28} {:<28} {:>10} {:>10} {:>8}", "work", "engine", "ns/event", "spread", "ratio");
    for row in rows() {
        let mut row = row();
        let start = Instant::now();
        let mut samples = vec![Vec::new(); row.engines.len()];
        // The first repetition warms up and is not counted.
        for repetition in 0..=repetitions {
            for ((_, advance), samples) in row.engines.iter_mut().zip(&mut samples) {
                let before = processor_ns(start);
                let events = advance(row.events);
                let taken = processor_ns(start) - before;
                if repetition > 0 {
                    samples.push(taken / events as f64);
                }
            }
        }
        let own = median(&samples[0]).expect("repetitions were made");
        for ((engine, _), samples) in row.engines.iter().zip(&samples) {
            let middle = median(samples).expect("repetitions were made");
            let spread = samples.iter().copied().fold(0.0, f64::max)
                - samples.iter().copied().fold(f64::MAX, f64::min);
            println!("{:<28} {engine:<28} {middle:>10.1} {spread:>10.1} {:>8.2}", row.name, middle / own);
        }
    }
}
