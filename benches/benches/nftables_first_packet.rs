//! Time of classifying a connection's first packet through kube-proxy's nftables table of 30,000 Services, with all its
//! work counted, beside one lookup in a plain hash table, which no classifier can beat:
//! `cargo bench -p windtunnel-benches --bench nftables_first_packet`. It must not take longer than 150 ns.
//!
//! Packets go round all Services in an order without a pattern, or to one of a few that stay in the caches.
#![allow(missing_docs, reason = "criterion's macros define public functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use hashbrown::HashTable;
use sim_core::rng::Stream;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use windtunnel_benches::nftables::Table;

const SERVICES: u32 = 30_000;
/// Packets of one measurement for the ratio.
const PACKETS: usize = 2_000_000;

/// The Services in an order without a pattern.
fn shuffled(mut services: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut stream = Stream::new(1, "bench", "order");
    for i in (1..services.len()).rev() {
        services.swap(i, stream.below(i as u64 + 1) as usize);
    }
    services
}

/// Nanoseconds a packet of `one`, the best of five rounds.
fn time(services: &[SocketAddr], mut one: impl FnMut(SocketAddr)) -> f64 {
    let round = |one: &mut dyn FnMut(SocketAddr)| {
        #[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
        let start = Instant::now();
        services.iter().cycle().take(PACKETS).for_each(|&to| one(to));
        start.elapsed().as_secs_f64() * 1e9 / PACKETS as f64
    };
    (0..5).map(|_| round(&mut one)).fold(f64::INFINITY, f64::min)
}

/// A hash of one multiplication, as plain as it gets.
fn hash(to: SocketAddr) -> u64 {
    let addr = match to.ip() {
        std::net::IpAddr::V4(a) => u64::from(u32::from(a)),
        std::net::IpAddr::V6(a) => u128::from(a) as u64,
    };
    (addr << 16 | u64::from(to.port())).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20)
}

fn first_packet(c: &mut Criterion) {
    let mut table = Table::new(SERVICES);
    let all = shuffled(table.services());
    let mut plain = HashTable::new();
    for entry in all.iter().copied().zip(0u32..) {
        plain.insert_unique(hash(entry.0), entry, |other| hash(other.0));
    }
    for (name, services) in [("all", &all[..]), ("32", &all[..32])] {
        let classified = time(services, |to| {
            black_box(table.first_packet(to));
        });
        let looked_up = time(services, |to| {
            black_box(plain.find(hash(to), |entry| entry.0 == to));
        });
        println!(
            "nftables_first_packet/{name}: {classified:.0} ns, a plain lookup {looked_up:.1} ns, ratio {:.1}",
            classified / looked_up
        );
        let mut group = c.benchmark_group(format!("nftables_first_packet/{name}"));
        let mut next = services.iter().cycle();
        group.bench_function("classify", |b| {
            b.iter(|| table.first_packet(*next.next().expect("a cycle")));
        });
        let mut next = services.iter().cycle();
        group.bench_function("hashbrown", |b| {
            b.iter(|| {
                let to = *next.next().expect("a cycle");
                plain.find(hash(to), |entry| entry.0 == to).copied()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = first_packet
}
criterion_main!(benches);
