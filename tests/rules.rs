//! `windtunnel rules` from outside: what it prints, from where it reads, and what it refuses.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{iptables_tables, nft_table, printed, same, windtunnel_with};

const SEED_CLUSTER: &str = "tests/data/seed-cluster.json";

/// Wrong input: exit 2, nothing on stdout, every part on stderr.
#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let output = windtunnel_with(args, "{ \"kind\": \"List\", \"items\": [{ \"kind\": 7 }] }");
    let text = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?} printed rules");
    for part in parts {
        assert!(text.contains(part), "{args:?}: {part:?} is not in:\n{text}");
    }
}

#[track_caller]
fn has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line}\nis not in:\n{text}");
    }
}

#[test]
fn the_rules_of_the_seed_documents_come_out_for_their_services() {
    let of_version =
        |version| printed(&["rules", "--from", SEED_CLUSTER, "--mode", "iptables", "--kubernetes", version]);
    let api_server = [
        "-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" \
         -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y",
        "-A KUBE-SEP-VDNPK4CXOQDGPWFC -p tcp -m comment --comment \"default/kubernetes:https\" -m tcp -j DNAT \
         --to-destination 10.106.175.128:6443",
        "-A KUBE-SEP-X6HPDLIIYVJMK7OF -p tcp -m comment --comment \"default/kubernetes:https\" -m tcp -j DNAT \
         --to-destination 192.168.1.161:6443",
    ];
    let old = "-A KUBE-SERVICES -d 10.0.1.175/32 -p tcp -m comment --comment \"default/hostnames: cluster IP\" \
               -m tcp --dport 80 -j KUBE-SVC-NWV5X2332I4OT4T3";
    let (before, after) = (of_version("1.18"), of_version("1.19"));
    has_lines(&before, &api_server);
    has_lines(&before, &[old]);
    has_lines(&after, &api_server);
    for (version, text) in [("1.19", after), ("1.36", of_version("1.36"))] {
        assert!(!text.contains("KUBE-SVC-NWV5X2332I4OT4T3"), "{version}");
        let today = "--comment \"default/hostnames cluster IP\" -m tcp --dport 80 -j KUBE-SVC-";
        assert!(text.contains(today), "{version}");
    }
}

#[test]
fn the_masquerade_rule_moves_out_of_the_services_chain_in_1_21() {
    let to = "-d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 \
              -j KUBE-MARK-MASQ";
    for (version, chain) in [("1.20", "KUBE-SERVICES"), ("1.21", "KUBE-SVC-NPX46M4PTMTKRN6Y")] {
        let text = printed(&[
            "rules",
            "--from",
            SEED_CLUSTER,
            "--mode",
            "iptables",
            "--kubernetes",
            version,
            "--cluster-cidr",
            "10.244.0.0/16",
        ]);
        has_lines(&text, &[&format!("-A {chain} ! -s 10.244.0.0/16 {to}")]);
    }
}

#[test]
fn nftables_mode_had_a_chain_an_endpoint_before_1_36() {
    let chains = |version| {
        let text = printed(&["rules", "--from", SEED_CLUSTER, "--mode", "nftables", "--kubernetes", version]);
        text.lines().filter(|line| line.contains("chain endpoint-")).count()
    };
    assert_eq!((chains("1.35"), chains("1.36")), (5, 0));
}

/// (case, its objects, its clusterCIDR) of every recorded run of kube-proxy.
fn recorded() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-models/tests/kube-proxy");
    let mut cases = Vec::new();
    for entry in fs::read_dir(root).expect("the recorded cases") {
        let folder = entry.expect("readable").path();
        if !folder.is_dir()
            || folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seq-"))
        {
            continue;
        }
        let own = folder.join("input.json");
        let input = if own.exists() { own } else { "scenarios/clusters/rand-100.json".into() };
        let config = fs::read_to_string(folder.join("kube-proxy.yaml")).expect("its configuration");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON is YAML");
        let cidr = config["clusterCIDR"].as_str().expect("a clusterCIDR").to_owned();
        cases.push((folder, input.display().to_string(), cidr));
    }
    assert!(cases.len() >= 13, "recorded cases are missing: {cases:?}");
    cases
}

/// Without order: kube-proxy visits Services at random. The models' own tests hold the order.
fn sorted(mut tables: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    tables.values_mut().for_each(|lines| lines.sort());
    tables
}

#[test]
fn rules_are_those_that_kube_proxy_wrote_for_the_same_objects() {
    for (folder, input, cidr) in recorded() {
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a recorded file");
        let nft = read("nft.txt");
        for (family, file, table) in [
            ("ipv4", "iptables-save.legacy.txt", "table ip kube-proxy {"),
            ("ipv6", "ip6tables-save.legacy.txt", "table ip6 kube-proxy {"),
        ] {
            let what = format!("{} {family}", folder.display());
            let ours = |mode| {
                printed(&[
                    "rules",
                    "--from",
                    &input,
                    "--mode",
                    mode,
                    "--family",
                    family,
                    "--cluster-cidr",
                    &cidr,
                ])
            };
            same(&what, &sorted(iptables_tables(&ours("iptables"))), &sorted(iptables_tables(&read(file))));
            same(&what, &sorted(nft_table(&ours("nftables"), table)), &sorted(nft_table(&nft, table)));
        }
    }
}

#[test]
fn a_dash_reads_stdin() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SEED_CLUSTER)).expect("the fixture");
    for mode in ["iptables", "ipvs", "nftables"] {
        let piped = windtunnel_with(&["rules", "--from", "-", "--mode", mode], &text);
        assert_eq!(piped.status.code(), Some(0));
        let piped = String::from_utf8(piped.stdout).expect("rules are UTF-8");
        assert_eq!(piped, printed(&["rules", "--from", SEED_CLUSTER, "--mode", mode]), "{mode}");
    }
    refused(&["rules", "--from", "-", "--mode", "ipvs"], &["--> stdin:1:"]);
}

#[test]
fn ipvs_mode_prints_a_section_for_each_tool_that_loads_it() {
    let text = printed(&["rules", "--from", SEED_CLUSTER, "--mode", "ipvs", "--scheduler", "lc"]);
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("# ----")).collect();
    assert_eq!(
        headings,
        [
            "# ---- ipset save; load with: ipset restore",
            "# ---- iptables-save; load with: iptables-restore",
            "# ---- kube-ipvs0 and its addresses; load with: ip -batch -",
            "# ---- ipvsadm -Sn; load with: ipvsadm -R",
        ]
    );
    has_lines(
        &text,
        &[
            "add KUBE-CLUSTER-IP 10.0.1.175,tcp:80",
            "addr add 10.0.1.175/32 dev kube-ipvs0",
            "-A -t 10.0.1.175:80 -s lc",
            "-a -t 10.0.1.175:80 -r 10.244.1.7:9376 -m -w 1",
        ],
    );
    let v6 = printed(&["rules", "--from", SEED_CLUSTER, "--mode", "ipvs", "--family", "ipv6"]);
    has_lines(&v6, &["# ---- ip6tables-save; load with: ip6tables-restore"]);
}

#[test]
fn a_scenario_gives_its_cluster_and_its_proxy_settings() {
    let scenario = "scenarios/4k-services.toml";
    let args = ["rules", "--scenario", scenario, "--mode", "ipvs", "--set", "cluster.services=40"];
    let text = printed(&[&args[..], &["--set", "proxy.scheduler=\"sh\""]].concat());
    assert_eq!(
        text.lines().filter(|line| line.starts_with("-A -t ") && line.ends_with(" -s sh")).count(),
        40
    );
    let imported = "scenarios/imported-cluster.toml";
    let of = |from: &str, file: &str| {
        iptables_tables(&printed(&[
            "rules",
            from,
            file,
            "--mode",
            "iptables",
            "--cluster-cidr",
            "10.244.0.0/16",
        ]))
    };
    same("an import", &of("--scenario", imported), &of("--from", "scenarios/clusters/rand-100.json"));
    refused(
        &["rules", "--scenario", "scenarios/bad/zero.toml", "--mode", "ipvs"],
        &["scenarios/bad/zero.toml:4:9"],
    );
}

#[test]
fn unknown_names_get_a_suggestion() {
    let args = |rest: &[&'static str]| [&["rules", "--from", SEED_CLUSTER][..], rest].concat();
    refused(
        &args(&["--mode", "iptable"]),
        &["no proxy mode `iptable`", "did you mean `iptables`?", "allowed: iptables, ipvs, nftables"],
    );
    refused(
        &args(&["--mode", "ipvs", "--scheduler", "wllc"]),
        &["no IPVS scheduler `wllc`", "did you mean `wlc`?"],
    );
    refused(&args(&["--mode", "iptables", "--scheduler", "rr"]), &["--scheduler is for ipvs mode"]);
    refused(
        &args(&["--mode", "ipvs", "--node", "worker-2"]),
        &["no node `worker-2`", "did you mean `worker-1`?"],
    );
    refused(
        &["rules", "--from", "tests/data/seed-clustr.json", "--mode", "ipvs"],
        &["there is no such file", "did you mean tests/data/seed-cluster.json?"],
    );
    refused(&["rules", "--mode", "ipvs"], &["--from <FILE>", "--scenario <SCENARIO.toml>"]);
    refused(
        &args(&["--mode", "ipvs", "--cluster-cidr", "10.244.0.0/99"]),
        &["invalid value '10.244.0.0/99'"],
    );
}

#[test]
fn a_mode_is_refused_for_versions_that_do_not_have_it() {
    let of = |mode, version| ["rules", "--from", SEED_CLUSTER, "--mode", mode, "--kubernetes", version];
    refused(
        &of("nftables", "1.28"),
        &[
            "Kubernetes 1.28 has no nftables mode",
            "alpha in 1.29, beta in 1.31, stable in 1.33",
            "1.29 to 1.36",
        ],
    );
    refused(&of("ipvs", "1.7"), &["Kubernetes 1.7 has no ipvs mode", "alpha in 1.8"]);
    refused(&of("iptables", "1.7"), &["Kubernetes 1.7 is not modelled", "1.8 to 1.36"]);
    refused(&of("iptables", "1.37"), &["Kubernetes 1.37 is not modelled"]);
    refused(&of("iptables", "thirty"), &["`thirty` is not a version"]);
    let scenario = "scenarios/4k-services.toml";
    refused(
        &["rules", "--scenario", scenario, "--mode", "iptables", "--set", "proxy.kubernetes=\"1.20\""],
        &["Kubernetes 1.20 has no nftables mode"],
    );
}

#[test]
fn every_error_of_an_import_is_told_with_its_place() {
    refused(
        &["rules", "--from", "tests/data/broken-cluster.json", "--mode", "iptables"],
        &[
            "Service shop/web: \"10.96.0.999\"",
            "--> tests/data/broken-cluster.json:9:22",
            "= key: spec.clusterIP",
            "= key: spec.ports[0].nodePort",
            "Node worker-1: ",
            "--> tests/data/broken-cluster.json:16:",
            "3 errors",
        ],
    );
}

#[test]
fn what_the_rules_rest_on_is_said_on_stderr() {
    let notes = |args: &[&str], input: &str| {
        let output = windtunnel_with(args, input);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).expect("notes are UTF-8")
    };
    let guessed = notes(&["rules", "--from", SEED_CLUSTER, "--mode", "iptables", "--kubernetes", "1.35"], "");
    assert!(guessed.contains("10.244.1.0/24"), "{guessed}");
    assert!(guessed.contains("of kube-proxy 1.35"), "{guessed}");
    let empty = notes(
        &["rules", "--from", "-", "--mode", "iptables"],
        "{\"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Secret\"}]}",
    );
    for part in ["no Services", "left out: 1 Secret", "no Nodes", "no detector of local traffic"] {
        assert!(empty.contains(part), "{part} is not in:\n{empty}");
    }
    let told =
        notes(&["rules", "--from", SEED_CLUSTER, "--mode", "ipvs", "--cluster-cidr", "10.244.0.0/16"], "");
    assert_eq!(told, "");
}
