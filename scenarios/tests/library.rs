//! Every scenario of the library plans, and its resolved form plans to the same.

use scenarios::diagnostic::Style;
use scenarios::known::{Known, Named};
use scenarios::plan::Plan;
use scenarios::scenario::{IMPORT_FILE, Scenario};
use std::fs;
use std::path::Path;

/// Those that the library names; the command knows them from the reports.
const METRICS: [&str; 18] = [
    "first_packet_mean",
    "first_packet_p50",
    "first_packet_p99",
    "rules_evaluated_mean",
    "cpu_utilisation",
    "first_full_sync",
    "endpoint_change_sync",
    "first_service_after",
    "network_programming_p50",
    "network_programming_p90",
    "network_programming_p99",
    "rules_live_p99",
    "kube_proxy_cpu",
    "tool_add_one",
    "tool_add_all",
    "watch_bytes",
    "services",
    "endpoints",
];

fn known() -> Known {
    let list = |names: &[&str]| Named::list(&names.iter().map(|n| (*n, "")).collect::<Vec<_>>());
    Known {
        modes: list(&["iptables", "ipvs", "nftables"]),
        rules_only: list(&["userspace", "ebpf"]),
        schedulers: list(&["rr"]),
        profiles: list(&["linux-6.18", "flftuu-2019", "gce-5000-2022", "huawei-2017", "nftables-2024"]),
        metrics: list(&METRICS),
        kubernetes_minors: (0, 36),
        distributions: list(&["rules_live", "network_programming", "connection"]),
        series: list(&["failures", "behind", "up_to_date"]),
        ..Known::default()
    }
}

fn plan(name: &str, text: &str) -> Plan {
    let mut scenario = Scenario::parse(name, text).unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)));
    if let Some(import) = scenario.import().map(str::to_owned) {
        // A resolved scenario has its import beside it under one name; here there is only one import.
        let import = if import == IMPORT_FILE { "clusters/rand-100.json".to_owned() } else { import };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&import);
        scenario.import_text(&import, &fs::read_to_string(file).expect("the import is there"));
    }
    Plan::new(&scenario, &known()).unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)))
}

#[test]
fn every_scenario_of_the_library_plans_to_itself() {
    let mut planned = Vec::new();
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the folder exists") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if path.extension().is_none_or(|e| e != "toml") || name == "Cargo.toml" {
            continue;
        }
        let first = plan(&name, &fs::read_to_string(&path).expect("readable"));
        let second = plan(&name, &first.resolved);
        assert_eq!(first.resolved, second.resolved, "{name}");
        assert_eq!(format!("{:?}", first.points), format!("{:?}", second.points), "{name}");
        planned.push((name, first.points.len()));
    }
    planned.sort();
    let expected = [
        ("4k-services.toml", 21),
        ("crossover.toml", 36),
        ("imported-cluster.toml", 3),
        ("kubernetes-default-service.toml", 3),
        ("rolling-update.toml", 3),
        ("node-failure.toml", 2),
        ("api-outage.toml", 2),
        ("cold-node.toml", 15),
        ("mode-switch.toml", 4),
        ("churn-5000-nodes.toml", 1),
        ("min-sync-period.toml", 10),
        ("huawei-50k.toml", 4),
        ("partial-sync-5000-nodes.toml", 3),
        ("tigera-2019.toml", 8),
        ("flftuu-2019.toml", 20),
        ("nftables-sync.toml", 4),
        ("endpointslice-bytes.toml", 3),
        ("clusterloader2.toml", 4),
    ];
    for (name, points) in expected {
        assert!(
            planned.contains(&(name.to_owned(), points)),
            "{name} with {points} points is not in {planned:?}"
        );
    }
}

#[test]
fn the_api_servers_service_has_its_three_endpoints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(folder.join("kubernetes-default-service.toml")).expect("readable");
    let plan = plan("kubernetes-default-service.toml", &text);
    let objects = plan.points[0].config.cluster.objects.as_ref().expect("written out");
    assert_eq!((objects.services.len(), objects.slices.len()), (1, 1));
    assert_eq!(objects.services[0].cluster_ips[0].to_string(), "192.168.1.129");
    let endpoints: Vec<String> = objects.slices[0].endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(endpoints, ["192.168.1.61", "192.168.1.62", "192.168.1.63"]);
    assert_eq!((objects.slices[0].ports[0].port, &*objects.slices[0].ports[0].name), (6443, "https"));
}

#[test]
fn an_imported_cluster_brings_its_own_nodes_and_services() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(folder.join("imported-cluster.toml")).expect("readable");
    let plan = plan("imported-cluster.toml", &text);
    let cluster = &plan.points[0].config.cluster;
    let objects = cluster.objects.as_ref().expect("imported");
    assert_eq!(cluster.services as usize, objects.services.len());
    assert!(cluster.services >= 100, "{}", cluster.services);
}
