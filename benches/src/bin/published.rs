//! Times of adding rules that others published, beside what the profiles of their machines predict:
//! `cargo run -p windtunnel-benches --bin published`.
//!
//! A profile of a published table is `linux-6.18` with a factor or two, fitted on the cells marked so and on no other.

use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::cost::CostProfile;
use sim_models::kube::{Endpoint, EndpointLists, ServicePort};
use sim_models::proxy::sync::tool::{self, Tool};
use sim_models::proxy::sync::{Size, SyncShape};
use std::net::{Ipv4Addr, SocketAddr};

fn profile(name: &str) -> CostProfile {
    CostProfile::named(name).unwrap_or_else(|| panic!("no profile {name}"))
}

fn row(what: &str, published_ms: f64, predicted_ms: f64, fit: bool) {
    let mark = if fit { "fit" } else { "" };
    println!(
        "{what:<58} {published_ms:>14.2} ms {predicted_ms:>14.2} ms  {:>+7.1}% {mark}",
        (predicted_ms / published_ms - 1.0) * 100.0
    );
}

/// Sizes of so many one-port ClusterIP Services with so many endpoints each, and of one of them.
fn sizes(config: &ProxyConfig, services: u64, endpoints: u64) -> (Size, Size) {
    let mode = sim_models::proxy::mode(&config.mode).and_then(|m| m.simulated()).expect("a simulated mode");
    let endpoint = |i: u64| Endpoint {
        addr: SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i as u32), 80)),
        is_local: false,
    };
    let lists = EndpointLists::ready((0..endpoints).map(endpoint).collect());
    let port = ServicePort::http("ns", "name", "10.96.0.1".parse().expect("a constant"), lists);
    let one = mode.size(&port, config, Family::Ipv4);
    ((0..services).fold(Size::default(), |sum, _| sum + one), one)
}

fn sync_ms(profile: &CostProfile, minor: u32, mode: &str, shape: impl Fn(&ProxyConfig) -> SyncShape) -> f64 {
    let config = ProxyConfig {
        mode: mode.to_owned(),
        kubernetes_minor: minor,
        cluster_cidrs: vec!["10.0.0.0/8".parse().expect("a constant")],
        ..ProxyConfig::default()
    };
    let simulated = sim_models::proxy::mode(mode).and_then(|m| m.simulated()).expect("a simulated mode");
    let cost = simulated.sync(&shape(&config), &config).cost(profile).expect("syncs are priced");
    cost.wall.as_ns() as f64 / 1e6
}

fn main() {
    let flftuu = profile("flftuu-2019");
    let ms = |work, profile| tool::parts(&work, profile).wall() / 1000.0;
    let sizes_of_t4 = [1, 100, 500, 1_000, 1_500, 2_000, 5_000, 10_000, 15_000, 20_000];
    let iptables = [77.0, 100.0, 491.0, 1_302.0, 2_476.0, 2_662.0, 6_547.0, 9_491.0, 15_125.0, 20_000.0];
    let ipvs = [0.8, 0.85, 0.85, 0.85, 0.9, 0.9, 0.9, 0.97, 1.0, 1.52];
    for (n, published) in sizes_of_t4.into_iter().zip(iptables) {
        let predicted = ms(tool::add_one(Tool::Iptables, n, 4), &flftuu);
        row(&format!("T4 one iptables rule more, {n} Services"), published, predicted, n == 20_000);
    }
    for (n, published) in sizes_of_t4.into_iter().zip(ipvs) {
        let predicted = ms(tool::add_one(Tool::Ipvsadm, n, 4), &flftuu);
        row(&format!("T4 one ipvs rule more, {n} Services"), published, predicted, n == 20_000);
    }
    let huawei = profile("huawei-2017");
    for (n, minutes) in [(5_000, 11.0), (20_000, 300.0)] {
        let all = ms(tool::add_all(Tool::Iptables, n, 8), &huawei);
        row(&format!("T5 all rules one by one, {n} Services"), minutes * 60e3, all, n == 5_000);
        let one = ms(tool::add_one(Tool::Iptables, n, 8), &huawei);
        row(&format!("T5 read as one rule more, {n} Services"), minutes * 60e3, one, false);
    }
    let gce = profile("gce-5000-2022");
    // 8,100 Services with 67,750 endpoints, 8.4 each; median 1.5 and 99th percentile 2 syncs, and half and all of 10 s.
    let full =
        sync_ms(&gce, 25, "iptables", |config| SyncShape::change(sizes(config, 8_100, 8).0, Size::default()));
    row("T6 before: median latency 1.5 syncs and 5 s", 27e3, 1.5 * full + 5e3, true);
    row("T6 before: 99th percentile 2 syncs and 10 s", 41.5e3, 2.0 * full + 10e3, false);
    let nft = profile("nftables-2024");
    let full = sync_ms(&nft, 31, "nftables", |config| {
        let (table, one) = sizes(config, 10_000, 2);
        SyncShape::added(table, one)
    });
    row("T7 one Service more, 10,000 are there, before 1.32", 480e3, full, true);
    let one = sync_ms(&nft, 32, "nftables", |config| {
        let (table, one) = sizes(config, 10_000, 2);
        SyncShape::added(table, one)
    });
    row("T7 the same from 1.32 on", 141.0, one, false);
    let first = sync_ms(&nft, 33, "nftables", |config| SyncShape::first(sizes(config, 5_006, 50).0));
    row("T7 first sync, 5,006 Services, 250,011 endpoints", 795.3e3, first, false);
    let first = sync_ms(&nft, 36, "nftables", |config| SyncShape::full(sizes(config, 44_125, 1).0));
    row("T7 full sync, 44,125 Services, 1.36.1", 1_003.9e3, first, false);
}
