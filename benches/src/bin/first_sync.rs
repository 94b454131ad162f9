//! How long the real kube-proxy 1.36.2 takes for its first full sync, beside the time in which windtunnel builds the
//! same rules and writes the same input for the tools: `cargo run --release -p windtunnel-benches --bin first_sync`.
//!
//! `data/first-sync.csv` has kube-proxy's own "SyncProxyRules complete" times (medians; IPv4, one-port ClusterIP Services
//! with ready endpoints on other nodes) on another machine. They hold the run of the tools and the kernel's commit, which
//! windtunnel does not do: the ratio says what a question costs here and there, not whose code is faster.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::classify::Family;
use sim_core::units::SimTime;
use std::hint::black_box;
use std::time::Instant;
use windtunnel_benches::classify::{config, mode, objects};

const RECORDED: &str = include_str!("../../data/first-sync.csv");
const REPETITIONS: u32 = 5;

fn main() {
    println!(
        "{:<10} {:<7} {:>8} {:>9} {:>12} {:>12} {:>7}",
        "mode", "backend", "services", "endpoints", "kube-proxy", "windtunnel", "ratio"
    );
    for row in RECORDED.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [name, backend, services, endpoints, recorded] = cells[..] else { panic!("five cells: {row}") };
        let number = |text: &str| text.parse::<u32>().expect("a number of the recorded table");
        let mode = mode(name);
        let states = [(SimTime::ZERO, objects(number(services), number(endpoints)))];
        let config = config(mode);
        let seconds = (0..REPETITIONS).map(|_| {
            let began = Instant::now();
            black_box(mode.inputs(&states, &config, Family::Ipv4));
            began.elapsed().as_secs_f64()
        });
        let best = seconds.fold(f64::INFINITY, f64::min) * 1e3;
        let recorded: f64 = recorded.parse().expect("a number of the recorded table");
        let ratio = recorded / best;
        println!(
            "{name:<10} {backend:<7} {services:>8} {endpoints:>9} {recorded:>9.1} ms {best:>9.2} ms {ratio:>7.0}"
        );
    }
}
