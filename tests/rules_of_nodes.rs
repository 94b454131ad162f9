//! `windtunnel rules` over time and against real nodes: what kube-proxy writes for a change, and how a node's dump
//! differs from what its objects call for.

mod support;

use std::fs;
use std::path::Path;
use support::{printed, windtunnel_with};

const CASES: &str = "sim-models/tests/kube-proxy";
const SEED_CLUSTER: &str = "tests/data/seed-cluster.json";

/// Exit code, stdout and stderr.
fn run(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = windtunnel_with(args, input);
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of the project")
}

/// (folder, objects) of every recorded run of kube-proxy.
fn recorded() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(CASES);
    let mut cases = Vec::new();
    for entry in fs::read_dir(root).expect("the recorded cases") {
        let name = entry.expect("readable").file_name().into_string().expect("plain names");
        let folder = format!("{CASES}/{name}");
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder).join("nft.txt").exists() {
            let own = format!("{folder}/input.json");
            let large = name == "rand-100";
            cases.push((folder, if large { "scenarios/clusters/rand-100.json".into() } else { own }));
        }
    }
    assert!(cases.len() >= 13, "{cases:?}");
    cases
}

#[test]
fn recorded_nodes_have_the_rules_that_their_objects_and_configuration_call_for() {
    for (folder, from) in recorded() {
        for (config, family, dump) in [
            ("kube-proxy.yaml", "ipv4", "iptables-save.legacy.txt"),
            ("kube-proxy.yaml", "ipv6", "ip6tables-save.legacy.txt"),
            ("kube-proxy.nftables.yaml", "both", "nft.txt"),
            ("kube-proxy.nftables.yaml", "ipv6", "nft.txt"),
        ] {
            let (config, dump) = (format!("{folder}/{config}"), format!("{folder}/{dump}"));
            let args =
                ["rules", "--from", &from, "--proxy-config", &config, "--family", family, "--diff", &dump];
            let (code, out, _) = run(&args, "");
            assert_eq!(code, Some(0), "{dump}:\n{out}");
            assert!(out.starts_with("no difference: "), "{out}");
        }
    }
}

#[test]
fn a_node_that_differs_is_told_rule_by_rule_with_counts_and_exit_3() {
    let folder = format!("{CASES}/01-clusterip-basic");
    let (from, config) = (format!("{folder}/input.json"), format!("{folder}/kube-proxy.yaml"));
    let dump = file(&format!("{folder}/iptables-save.legacy.txt"));
    let rule = dump.lines().find(|line| line.starts_with("-A KUBE-SEP-")).expect("a rule");
    let dump = dump.replacen(&format!("{rule}\n"), "", 1);
    let dump = dump.replace("--dport 53 ", "--dport 54 ");
    let args = ["rules", "--from", &from, "--proxy-config", &config, "--diff", "-"];
    let (code, out, _) = run(&args, &dump);
    assert_eq!(code, Some(3), "{out}");
    assert!(out.contains(&format!("  - {rule}")), "{rule} is not in:\n{out}");
    let last = out.lines().last().expect("the counts");
    assert!(last.contains("differences (iptables mode, IPv4): ") && last.contains("missing"), "{last}");
    let kinds: Vec<&str> = out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(kinds.iter().any(|line| line.starts_with("missing: nat KUBE-SEP-")), "{kinds:?}");
}

#[test]
fn differences_in_a_chain_are_told_in_the_order_of_its_rules() {
    let folder = format!("{CASES}/01-clusterip-basic");
    let (from, config) = (format!("{folder}/input.json"), format!("{folder}/kube-proxy.yaml"));
    let dump = file(&format!("{folder}/iptables-save.legacy.txt"));
    let (gone, left): (Vec<&str>, Vec<&str>) =
        dump.split_inclusive('\n').partition(|line| line.starts_with("-A KUBE-POSTROUTING "));
    assert!(gone.len() > 1 && !gone.is_sorted(), "{gone:?}");
    let args = ["rules", "--from", &from, "--proxy-config", &config, "--diff", "-"];
    let (code, out, _) = run(&args, &left.concat());
    assert_eq!(code, Some(3), "{out}");
    let told: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("  - ")).collect();
    assert_eq!(told, gone.iter().map(|line| line.trim_end()).collect::<Vec<_>>());
}

#[test]
fn what_a_dump_has_beside_the_rules_is_told_once() {
    let dump = file(&format!("{CASES}/14-dualstack/nft.txt"));
    let opaque = "\tchain filter-input {\n";
    assert!(dump.contains(opaque));
    let dump = dump.replacen(opaque, "\tcounter hits {\n\t}\n\n\tchain filter-input {\n", 1);
    let dump = format!("table inet cni {{\n}}\n{dump}");
    let from = format!("{CASES}/14-dualstack/input.json");
    for rest in [&["--read", "-"][..], &["--from", &from, "--diff", "-"]] {
        let args = [&["rules", "--mode", "nftables", "--family", "both"], rest].concat();
        let (_, _, told) = run(&args, &dump);
        let with = |part: &str| {
            told.lines().filter(|line| line.starts_with("note: ") && line.contains(part)).count()
        };
        assert_eq!(with("passed over: 1 other table: inet cni (line 1)"), 1, "{told}");
        assert_eq!(with("1 part that kube-proxy does not write is kept as it stands"), 1, "{told}");
    }
    let (_, _, told) = run(&["rules", "--mode", "nftables", "--read", "-"], "table inet cni {\n}\n");
    assert!(told.contains("note: the dump has no table ip kube-proxy\n"), "{told}");
}

#[test]
fn of_many_differences_fifty_are_shown_unless_all_are_asked_for() {
    let from = "scenarios/clusters/rand-100.json";
    let empty = printed(&["rules", "--from", &format!("{CASES}/23-empty/input.json"), "--mode", "nftables"]);
    let args = ["rules", "--from", from, "--mode", "nftables", "--diff", "-"];
    let (code, out, _) = run(&args, &empty);
    assert_eq!(code, Some(3));
    let told = |out: &str| out.lines().filter(|line| line.starts_with("missing: ")).count();
    assert_eq!(told(&out), 50);
    assert!(out.contains("more; --all shows them\n"), "{out}");
    let (_, all, _) = run(&[&args[..], &["--all"]].concat(), &empty);
    assert!(told(&all) > 50 && !all.contains("--all"));
}

#[test]
fn a_dump_that_is_none_is_told_with_its_place() {
    for mode in ["iptables", "nftables"] {
        let args = ["rules", "--from", SEED_CLUSTER, "--mode", mode, "--diff", "-"];
        let (code, out, told) = run(&args, "\n\nthis is no dump\n");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{mode}");
        assert!(told.contains("--> stdin:3:1"), "{mode}: {told}");
    }
    let (code, _, told) = run(&["rules", "--read", "no.txt", "--mode", "iptables"], "");
    assert!(code == Some(2) && told.contains("there is no such file"), "{told}");
}

#[test]
fn a_dump_is_printed_again_in_any_form_of_its_mode() {
    let dump = file(&format!("{CASES}/14-dualstack/nft.txt"));
    let read = |format: &str, input: &str| {
        let (code, out, told) = run(
            &["rules", "--read", "-", "--mode", "nftables", "--family", "both", "--format", format],
            input,
        );
        assert_eq!(code, Some(0), "{told}");
        out
    };
    assert_eq!(read("load", &dump).trim_end(), dump.trim_end());
    let json = read("json", &dump);
    let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let objects = parsed["nftables"].as_array().expect("a list");
    assert_eq!(objects.iter().filter(|object| object.get("metainfo").is_some()).count(), 1);
    let tables: Vec<_> = objects.iter().filter_map(|o| o.get("table")?.get("family")?.as_str()).collect();
    assert_eq!(tables, ["ip", "ip6"]);
    assert_eq!(read("json", &json), json);
    for (family, note) in
        [("ipv4", "the table of IPv6 is left out"), ("ipv6", "of IPv4 is left out"), ("both", "")]
    {
        let args = ["rules", "--read", "-", "--mode", "nftables", "--family", family];
        let (_, _, told) = run(&args, &dump);
        assert_eq!(told.contains("is left out"), family != "both", "{told}");
        assert!(told.contains(note), "{told}");
    }
    let save = file(&format!("{CASES}/14-dualstack/iptables-save.legacy.txt"));
    let (code, again, _) = run(&["rules", "--read", "-", "--mode", "iptables"], &save);
    assert_eq!(code, Some(0));
    let lines = |text: &str| -> Vec<String> {
        let plain = text.lines().filter(|line| !line.starts_with('#'));
        plain.map(|line| line.split(" [").next().expect("the line").to_owned()).collect()
    };
    assert_eq!(lines(&again), lines(&save));
}

/// What the recorded kube-proxy wrote, as sorted lines: it visits Services at random.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn every_step_of_the_recorded_sequence_comes_out_of_its_states() {
    let root = format!("{CASES}/seq-01");
    let mut steps: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&root))
        .expect("the sequence")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain names"))
        .filter(|name| name.starts_with('0'))
        .collect();
    steps.sort();
    assert_eq!(steps.len(), 9);
    let state = |step: &String| format!("{root}/{step}/state.json");
    for mode in ["iptables", "nftables"] {
        for n in 1..steps.len() {
            let history: Vec<String> =
                steps[..n].iter().flat_map(|step| ["--sync-from".to_owned(), state(step)]).collect();
            let new = state(&steps[n]);
            let mut args = vec!["rules", "--mode", mode, "--node", "node-a", "--from", &new];
            args.extend(["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/56", "--family", "both"]);
            args.extend(history.iter().map(String::as_str));
            let (code, out, told) = run(&args, "");
            assert_eq!(code, Some(0), "{told}");
            let recorded = file(&format!("{root}/{}/stdin.{mode}.txt", steps[n]));
            assert_eq!(sorted(&out), sorted(&recorded), "{mode} {}", steps[n]);
            let commands =
                |text: &str, mark: &str| text.lines().filter(|line| line.starts_with(mark)).count();
            assert_eq!(commands(&out, "# "), commands(&recorded, "#####"), "{mode} {}", steps[n]);
        }
    }
}

#[test]
fn a_change_that_changes_nothing_writes_nothing_and_says_so() {
    let args = ["rules", "--from", SEED_CLUSTER, "--sync-from", SEED_CLUSTER, "--mode", "nftables"];
    let (code, out, told) = run(&args, "");
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(told.contains("note: nothing changes for nftables mode in IPv4"), "{told}");
}

#[test]
fn a_change_of_the_nodes_pod_cidrs_makes_kube_proxy_exit_if_it_tells_local_traffic_by_them() {
    let moved = file(SEED_CLUSTER).replace("10.244.1.0/24", "10.244.7.0/24");
    for (mode, said) in [("NodeCIDR", true), ("ClusterCIDR", false)] {
        let config = format!("{}/{mode}.yaml", env!("CARGO_TARGET_TMPDIR"));
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        fs::write(&config, format!("{head}detectLocalMode: {mode}\n")).expect("writable");
        let args = ["rules", "--proxy-config", &config, "--sync-from", SEED_CLUSTER, "--from"];
        let told = |from: &str| {
            let (code, _, told) = run(&[&args[..], &[from]].concat(), &moved);
            assert_eq!(code, Some(0), "{told}");
            told.contains("note: podCIDRs of worker-1 change: ")
        };
        assert_eq!((told("-"), told(SEED_CLUSTER)), (said, false), "{mode}");
    }
}

#[test]
fn the_first_sync_is_a_format() {
    for (mode, command) in
        [("iptables", "# iptables-restore -w 5 --noflush --counters"), ("nftables", "# nft -f -")]
    {
        let text = printed(&["rules", "--from", SEED_CLUSTER, "--mode", mode, "--format", "stdin"]);
        assert_eq!(text.lines().next(), Some(command));
    }
}

#[test]
fn broken_objects_are_told_and_left_out_with_keep_going() {
    let args = ["rules", "--from", "tests/data/broken-cluster.json", "--mode", "iptables", "--keep-going"];
    let (code, out, told) = run(&args, "");
    assert_eq!(code, Some(0));
    assert!(out.contains("COMMIT\n"));
    for part in ["Service shop/web: ", "broken-cluster.json:9:22", "note: 2 broken objects were left out of"]
    {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}

#[test]
fn node_ports_answer_on_addresses_that_only_flags_know() {
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-ports.yaml");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nnodePortAddresses: [10.77.0.0/16]\n";
    fs::write(&config, text).expect("writable");
    let config = config.display().to_string();
    let from = format!("{CASES}/03-nodeport/input.json");
    let rules = |rest: &[&str]| {
        let args = ["rules", "--from", &from, "--proxy-config", &config];
        printed(&[&args[..], rest].concat())
    };
    let jump = |text: &str| text.lines().filter(|line| line.contains("-d 10.77.1.2/32 ")).count();
    assert_eq!(jump(&rules(&[])), 0);
    assert_eq!(jump(&rules(&["--node-address", "10.77.1.2"])), 1);
}
