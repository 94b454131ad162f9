//! Time of IPVS's part of a first packet, with criterion: `cargo bench -p windtunnel-benches --bench ipvs_first_packet`.
//!
//! A packet is looked up as a reply and as a request, its service is found, scheduled and connected, and everything
//! that the kernel would do is counted. Beside it stands a plain map from address, port and protocol to a number, which
//! nothing that finds a service among 30,000 can beat. `same` is one service again and again, `any` another each time;
//! an iteration is one packet.
#![allow(missing_docs, reason = "criterion's macros define public functions")]

use criterion::{Bencher, Criterion, SamplingMode, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use windtunnel_benches::ipvs::{Balancer, Plain};

const SERVICES: u32 = 30_000;

/// Processor time of this process, so that a busy machine changes nothing; wall time where the system does not tell.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let ns = told.as_deref().and_then(|text| text.split(' ').next()).and_then(|ns| ns.parse().ok());
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let start = START.get_or_init(std::time::Instant::now);
    ns.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Times `one`, given the places of services a stride apart.
fn each(b: &mut Bencher<'_>, stride: u32, mut one: impl FnMut(u32)) {
    let mut at = 0;
    b.iter_custom(|packets| {
        let start = processor_time();
        for _ in 0..packets {
            at = (at + stride) % SERVICES;
            one(at);
        }
        processor_time().saturating_sub(start).max(Duration::from_nanos(1))
    });
}

fn first_packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("ipvs_first_packet");
    // Processor time is told in ticks of some milliseconds: few long samples.
    group.sampling_mode(SamplingMode::Flat);
    let plain = Plain::new(SERVICES);
    for (name, stride) in [("same", 0), ("any", 7_919)] {
        group.bench_function(format!("plain_map/{name}"), |b| {
            each(b, stride, |at| {
                black_box(plain.find(at));
            });
        });
        for (tables, scheduler) in [("fixed", "rr"), ("resizable", "rr"), ("fixed", "lc"), ("fixed", "sh")] {
            let mut balancer = Balancer::new(tables == "resizable", scheduler, SERVICES);
            group.bench_function(format!("{tables}_{scheduler}/{name}"), |b| {
                each(b, stride, |at| {
                    black_box(balancer.first_packet(at));
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    targets = first_packets
}
criterion_main!(benches);
