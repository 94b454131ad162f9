//! Nanoseconds a rule of the linear walk, in whatever profile this is built: `cargo run -p windtunnel-benches --bin walk`
//! (dev) and with `--release`. With `--at-most 1.5` a walk that takes longer fails with 1.
//!
//! `scan` is the address columns alone, `walk` the nat table's whole walk, `first packet` everything a node does for the
//! first packet of a connection (conntrack, NAT, the filter tables), divided by the rules it evaluated. A figure is the
//! best of many repetitions: what the code takes when nothing else runs.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::classify::Unit;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use windtunnel_benches::classify::{Node, Scan, Walk};

const SERVICES: [u32; 5] = [1_000, 2_000, 4_000, 10_000, 30_000];
const REPETITIONS: u32 = 30;
/// Rules evaluated in one repetition.
const RULES: u32 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let at_most = match arguments.as_slice() {
        [] => f64::INFINITY,
        [flag, limit] if flag == "--at-most" && limit.parse::<f64>().is_ok() => {
            limit.parse().expect("just parsed")
        }
        other => {
            eprintln!("error: wrong arguments {other:?}: only --at-most NS");
            return ExitCode::from(2);
        }
    };
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!("ns per rule, {profile} profile, the best of {REPETITIONS} repetitions\n");
    println!("{:>8} {:>8} {:>8} {:>13}", "Services", "scan", "walk", "first packet");
    let mut worst = 0f64;
    for services in SERVICES {
        let last = services - 1;
        let scan = Scan::new(services);
        let scan_ns = per_rule(services, || (), || scan.run(black_box(last)));
        let mut walk = Walk::new(services);
        let walk_ns = per_rule(services, || (), || walk.run(black_box(last) as usize));
        let node = std::cell::RefCell::new(Node::new("iptables", services));
        let first = || node.borrow_mut().first_packet(black_box(last) as usize)[Unit::RuleEvals];
        let first_ns = per_rule(services, || node.borrow_mut().restart(), first);
        println!("{services:>8} {scan_ns:>8.2} {walk_ns:>8.2} {first_ns:>13.2}");
        worst = worst.max(walk_ns);
    }
    if worst > at_most {
        println!("\nthe walk takes {worst:.2} ns a rule, more than {at_most}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Least nanoseconds a rule of `run`, which returns the rules it evaluated; `before` is not timed.
fn per_rule(services: u32, mut before: impl FnMut(), mut run: impl FnMut() -> u32) -> f64 {
    let rounds = (RULES / services).clamp(1, 1_000);
    let once = |_| {
        before();
        let start = Instant::now();
        let rules: u64 = (0..rounds).map(|_| u64::from(run())).sum();
        start.elapsed().as_nanos() as f64 / rules as f64
    };
    (0..REPETITIONS).map(once).fold(f64::INFINITY, f64::min)
}
