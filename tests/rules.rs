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

/// Folder and objects of every recorded run of kube-proxy.
fn recorded() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-models/tests/kube-proxy");
    let mut cases = Vec::new();
    for entry in fs::read_dir(root).expect("the recorded cases") {
        let folder = entry.expect("readable").path();
        if !folder.join("nft.txt").exists() {
            continue;
        }
        let own = folder.join("input.json");
        let input = if own.exists() { own } else { "scenarios/clusters/rand-100.json".into() };
        cases.push((folder, input.display().to_string()));
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
fn rules_are_those_that_kube_proxy_wrote_for_the_same_objects_and_configuration() {
    for (folder, input) in recorded() {
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a recorded file");
        let config = |file: &str| folder.join(file).display().to_string();
        let (iptables, nftables) = (config("kube-proxy.yaml"), config("kube-proxy.nftables.yaml"));
        let nft = read("nft.txt");
        let ours = printed(&["rules", "--from", &input, "--proxy-config", &nftables, "--family", "both"]);
        for (family, file, table) in [
            ("ipv4", "iptables-save.legacy.txt", "table ip kube-proxy {"),
            ("ipv6", "ip6tables-save.legacy.txt", "table ip6 kube-proxy {"),
        ] {
            let what = format!("{} {family}", folder.display());
            same(&what, &sorted(nft_table(&ours, table)), &sorted(nft_table(&nft, table)));
            let ours = printed(&["rules", "--from", &input, "--proxy-config", &iptables, "--family", family]);
            same(&what, &sorted(iptables_tables(&ours)), &sorted(iptables_tables(&read(file))));
        }
    }
}

/// A file of this test's own.
fn written(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("writable");
    path.display().to_string()
}

const CONFIG: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[test]
fn the_configuration_of_kube_proxy_gives_mode_node_and_settings_and_flags_win_over_it() {
    let file = written(
        "all.yaml",
        &format!(
            "{CONFIG}mode: ipvs\nhostnameOverride: worker-1\nclusterCIDR: 10.244.0.0/16\nipvs: {{scheduler: wlc}}\n\
             iptables: {{masqueradeBit: 15}}\nnftables: {{masqueradeBit: 3}}\n"
        ),
    );
    let of = |rest: &[&str]| {
        printed(&[&["rules", "--from", SEED_CLUSTER, "--proxy-config", &file][..], rest].concat())
    };
    let ipvs = of(&[]);
    has_lines(&ipvs, &["# kube-proxy 1.36 in ipvs mode on worker-1, IPv4, by windtunnel"]);
    has_lines(&ipvs, &["-A -t 10.0.1.175:80 -s wlc", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x8000/0x8000"]);
    has_lines(&of(&["--scheduler", "sh"]), &["-A -t 10.0.1.175:80 -s sh"]);
    let iptables = of(&["--mode", "iptables", "--cluster-cidr", "10.9.0.0/16"]);
    assert!(iptables.contains("! -s 10.9.0.0/16 -d 10.0.1.175/32") && iptables.contains("0x8000/0x8000"));
    assert!(of(&["--mode", "nftables"]).contains("0x00000008"), "nftables has a section of its own");
    let piped = windtunnel_with(
        &["rules", "--from", SEED_CLUSTER, "--proxy-config", "-"],
        &format!("kind: ConfigMap\ndata:\n  config.conf: |\n    {}", CONFIG.replace('\n', "\n    ")),
    );
    let piped = String::from_utf8(piped.stdout).expect("rules are UTF-8");
    has_lines(&piped, &["# kube-proxy 1.36 in iptables mode on worker-1, IPv4, by windtunnel"]);
}

#[test]
fn what_a_feature_gate_turns_off_is_not_in_the_rules() {
    let from = "sim-models/tests/kube-proxy/05-externalips/input.json";
    let text = fs::read_to_string(from).expect("a recorded cluster");
    let external: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let items = external["items"].as_array().expect("items");
    let ips: Vec<&str> = items
        .iter()
        .filter_map(|item| item["spec"]["externalIPs"].as_array())
        .flat_map(|ips| ips.iter().filter_map(|ip| ip.as_str()))
        .filter(|ip| ip.contains('.'))
        .collect();
    assert!(!ips.is_empty());
    let file =
        |gate: &str| written(&format!("{gate}.yaml"), &format!("{CONFIG}featureGates: {{{gate}: false}}\n"));
    let of = |gate: &str, rest: &[&str]| {
        let file = file(gate);
        let output =
            windtunnel_with(&[&["rules", "--from", from, "--proxy-config", &file][..], rest].concat(), "");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    };
    for mode in ["iptables", "nftables", "ipvs", "userspace"] {
        let (with, _) = of("Other", &["--mode", mode]);
        let (without, _) = of("AllowServiceExternalIPs", &["--mode", mode]);
        for ip in &ips {
            assert!(with.contains(ip) && !without.contains(ip), "{mode} {ip}");
        }
    }
    assert!(of("Other", &["--mode", "nftables"]).0.contains("10.96.0.0/12"));
    let (without, told) = of("MultiCIDRServiceAllocator", &["--mode", "nftables"]);
    assert!(!without.contains("10.96.0.0/12"));
    assert!(
        told.contains("1.36 would not start with the gate MultiCIDRServiceAllocator turned off"),
        "{told}"
    );
    let change = ["--mode", "nftables", "--sync-from", "sim-models/tests/kube-proxy/23-empty/input.json"];
    assert!(of("Other", &change).0.contains(ips[0]));
    assert!(!of("AllowServiceExternalIPs", &change).0.contains(ips[0]));
}

#[test]
fn mistakes_of_a_configuration_are_told_with_their_place() {
    let file = written("wrong.yaml", &format!("{CONFIG}mode: ipsv\niptables:\n  masqueradebit: 3\n"));
    refused(
        &["rules", "--from", SEED_CLUSTER, "--proxy-config", &file],
        &["wrong.yaml:3:7", "did you mean `ipvs`?", "wrong.yaml:5:3", "masqueradeBit", "2 errors"],
    );
    let file = written("other-node.yaml", &format!("{CONFIG}hostnameOverride: worker-9\n"));
    refused(
        &["rules", "--from", SEED_CLUSTER, "--proxy-config", &file],
        &["no node `worker-9`", "hostnameOverride", "--node says otherwise"],
    );
    printed(&["rules", "--from", SEED_CLUSTER, "--proxy-config", &file, "--node", "worker-1"]);
    refused(&["rules", "--from", SEED_CLUSTER, "--proxy-config", "no.yaml"], &["there is no such file"]);
    refused(&["rules", "--from", "-", "--proxy-config", "-"], &["only one of the files can be `-`"]);
    refused(
        &["rules", "--scenario", "scenarios/4k-services.toml", "--proxy-config", &file],
        &["--proxy-config", "cannot be used with"],
    );
}

#[test]
fn without_a_mode_it_is_iptables_as_for_kube_proxy() {
    let rules = |rest: &[&str]| printed(&[&["rules", "--from", SEED_CLUSTER][..], rest].concat());
    assert_eq!(rules(&[]), rules(&["--mode", "iptables"]));
    let scenario = ["rules", "--scenario", "scenarios/4k-services.toml", "--set", "cluster.services=3"];
    let modes = [&scenario[..], &["--set", "proxy.modes=[\"ipvs\"]", "--set", "gates=[]"]].concat();
    assert!(printed(&modes).contains("in ipvs mode"));
}

#[test]
fn both_families_come_one_after_the_other_each_with_its_loader() {
    let rules = |rest: &[&str]| printed(&[&["rules", "--from", SEED_CLUSTER][..], rest].concat());
    for mode in ["iptables", "ipvs", "nftables"] {
        let [v4, v6, both] =
            ["ipv4", "ipv6", "both"].map(|family| rules(&["--mode", mode, "--family", family]));
        assert_eq!(both, v4 + &v6, "{mode}");
    }
    let loaders = |backend| {
        let text = rules(&["--family", "both", "--backend", backend]);
        let heads: Vec<String> =
            text.lines().filter(|line| line.starts_with("# load with")).map(str::to_owned).collect();
        heads
    };
    assert_eq!(loaders("legacy"), ["# load with: iptables-restore", "# load with: ip6tables-restore"]);
    assert_eq!(loaders("nft"), ["# load with: iptables-nft-restore", "# load with: ip6tables-nft-restore"]);
}

#[test]
fn what_a_mode_cannot_do_is_refused_with_what_it_can() {
    let args = |rest: &[&'static str]| [&["rules", "--from", SEED_CLUSTER][..], rest].concat();
    refused(
        &args(&["--mode", "ipvs", "--format", "json"]),
        &["ipvs mode has no format json", "allowed: load"],
    );
    refused(&args(&["--mode", "iptables", "--format", "listing"]), &["iptables mode has no format listing"]);
    refused(&args(&["--mode", "nftables", "--backend", "nft"]), &["--backend is of the iptables command"]);
    refused(&args(&["--family", "ipv5"]), &["invalid value 'ipv5'", "ipv4, ipv6, both"]);
    refused(&args(&["--diff", "-", "--family", "both"]), &["a dump of iptables mode has one family"]);
    // Before any file is read: there is none.
    let modes = "  = allowed: --mode iptables, ipvs, nftables, userspace\n";
    let none = ["rules", "--from", "no.json", "--mode", "ebpf", "--diff", "no.txt"];
    refused(&none, &["error: --diff: ebpf mode has no dump that can be read\n", modes]);
    let none = ["rules", "--read", "no.txt", "--mode", "ebpf"];
    refused(&none, &["error: --read: ebpf mode has no dump that can be read\n", modes]);
    refused(&args(&["--diff", "-", "--format", "json"]), &["cannot be used with"]);
    refused(&args(&["--sync-from", "a.json", "--format", "load"]), &["cannot be used with"]);
    refused(&args(&["--all"]), &["--diff"]);
    refused(&args(&["--read", "-"]), &["cannot be used with"]);
    refused(&args(&["--node-address", "10.0.0.300"]), &["invalid value '10.0.0.300'"]);
    refused(&["rules", "--read", "-"], &["--mode"]);
    refused(&["rules", "--read", "-", "--mode", "iptables", "--format", "stdin"], &["--format load"]);
    // A dump is what it is: nothing that shapes rules has a say in it.
    for flag in [
        "--node=a",
        "--node-address=10.0.0.1",
        "--cluster-cidr=10.0.0.0/8",
        "--kubernetes=1.30",
        "--backend=nft",
        "--scheduler=lc",
        "--apart=3s",
        "--proxy-config=x",
        "--keep-going",
        "--set=seed=1",
        "--sync-from=x",
        "--diff=x",
    ] {
        let arguments = ["rules", "--read", "-", "--mode", "ipvs", flag];
        refused(&arguments, &["cannot be used with"]);
    }
    for flag in ["--keep-going", "--proxy-config=x", "--sync-from=x"] {
        refused(&["rules", flag, "--scenario", "scenarios/4k-services.toml"], &["cannot be used with"]);
    }
    refused(&args(&["--set", "seed=1"]), &["cannot be used with"]);
}

#[test]
fn a_dash_reads_stdin() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SEED_CLUSTER)).expect("the fixture");
    for mode in ["iptables", "ipvs", "nftables", "userspace", "ebpf"] {
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
            "# ---- sysctls; load with: sysctl -p -",
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
    refused(&of("iptables", "1.0"), &["Kubernetes 1.0 has no iptables mode", "alpha in 1.1", "1.1 to 1.36"]);
    refused(&of("userspace", "1.26"), &["no userspace mode", "removed in 1.26", "1.0 to 1.25"]);
    refused(&of("iptables", "1.37"), &["Kubernetes 1.37 is not modelled"]);
    refused(&of("iptables", "thirty"), &["`thirty` is not a version"]);
    let scenario = "scenarios/4k-services.toml";
    refused(
        &["rules", "--scenario", scenario, "--mode", "iptables", "--set", "proxy.kubernetes=\"1.20\""],
        &["Kubernetes 1.20 has no nftables mode"],
    );
}

#[test]
fn userspace_mode_brings_the_seed_services_to_kube_proxys_own_ports() {
    let of = |more: &[&str]| {
        printed(&[&["rules", "--from", SEED_CLUSTER, "--mode", "userspace"][..], more].concat())
    };
    let text = of(&[]);
    assert_eq!(text, of(&["--kubernetes", "1.25"]), "as it was last");
    assert_eq!(
        text.lines().next(),
        Some("# kube-proxy 1.25 in userspace mode on worker-1, IPv4, by windtunnel")
    );
    let portal = "-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https\" \
                  -m tcp --dport 443 -j REDIRECT --to-ports ";
    let to = text.lines().find_map(|line| line.strip_prefix(portal)).expect("a portal");
    let host = portal.replace("CONTAINER", "HOST").replace("REDIRECT --to-ports ", "DNAT --to-destination ");
    has_lines(&text, &[&format!("{host}192.168.1.71:{to}")]);
    // In 1.18 the name of an unnamed port still ended in a colon.
    assert!(of(&["--kubernetes", "1.18"]).contains("--comment \"default/hostnames:\""));
}

#[test]
fn ebpf_mode_prints_the_seed_services_as_tables() {
    let text = printed(&["rules", "--from", SEED_CLUSTER, "--mode", "ebpf"]);
    let expected = "\
# an eBPF service map in place of kube-proxy on worker-1, IPv4, by windtunnel
# cilium_lb4_services_v2: 7 entries
FRONTEND           SCOPE  REVNAT  COUNT  FLAGS                   BACKENDS BY SLOT
10.96.0.1:443/TCP  ext    1       2      ClusterIP,non-routable  1 2
10.0.1.175:80/TCP  ext    2       3      ClusterIP,non-routable  3 4 5

# cilium_lb4_backends_v3: 5 entries
ID  BACKEND
1   10.106.175.128:6443/TCP
2   192.168.1.161:6443/TCP
3   10.244.1.7:9376/TCP
4   10.244.2.3:9376/TCP
5   10.244.3.6:9376/TCP
";
    assert!(text.starts_with(expected), "{text}");
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
    let nameless =
        written("nameless.json", r#"{"kind": "Service", "metadata": {"namespace": "shop"}, "spec": {}}"#);
    refused(&["rules", "--from", &nameless], &["Service, item 0: metadata.name is missing"]);
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
