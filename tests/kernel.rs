//! The printed rules against the real kernel: loaded in a private network namespace, saved back, and compared.
//!
//! Needs root and the packages iptables, nftables, iproute2, ipset and, for two counters, nfacct. Without them a test
//! says `skipped: needs ...` and passes, unless `CI=true`. What the machine's kernel has no module for is left out of
//! the rules with a note on stderr, never silently.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{iptables_tables, nft_table, printed, same};

/// The recorded cluster, and one of 4,000 generated Services.
const CLUSTERS: [(&str, [&str; 4]); 2] = [
    ("rand-100", ["--from", "scenarios/clusters/rand-100.json", "--cluster-cidr", "10.244.0.0/16"]),
    ("generated-4000", ["--scenario", "scenarios/4k-services.toml", "--set", "cluster.services=4000"]),
];

/// A line on stderr that the test harness does not swallow.
fn say(line: &str) {
    writeln!(std::io::stderr(), "kernel: {line}").expect("stderr is there");
}

/// Runs a shell script; administrators' tools are often not on a user's path.
fn sh(script: &str, args: &[&Path]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("PATH=\"$PATH:/usr/sbin:/sbin\"\n{script}"), "sh"]).args(args);
    command.output().expect("sh starts")
}

/// The same in a network namespace that ends with the script.
fn in_namespace(script: &str, args: &[&Path]) -> Output {
    sh(&format!("exec unshare -n sh -e -c '{script}' sh \"$@\""), args)
}

/// What a script printed, which must not fail.
#[track_caller]
fn output_of(script: &str, args: &[&Path]) -> String {
    let output = in_namespace(script, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("the tools print UTF-8")
}

/// Whether this machine can do the test; says so if not.
fn able(test: &str, tools: &[&str]) -> bool {
    let mut missing: Vec<&str> = tools
        .iter()
        .copied()
        .filter(|tool| !sh(&format!("command -v {tool}"), &[]).status.success())
        .collect();
    if !sh("unshare -n true", &[]).status.success() {
        missing.push("the right to make a network namespace (root)");
    }
    if missing.is_empty() {
        return true;
    }
    let needs = missing.join(", ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: needs {needs}");
    say(&format!("{test}: skipped: needs {needs}"));
    false
}

/// A file for the tools to read.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("a scratch file");
    path
}

/// Matches of the rules that a kernel or a machine may lack, and how to find out.
const OPTIONAL: [(&str, &str); 3] = [
    (" -m nfacct ", "nfacct add probe && iptables-legacy -A INPUT -m nfacct --nfacct-name probe"),
    (" -m recent ", "iptables-legacy -A INPUT -m recent --name probe --rcheck --seconds 9"),
    (" -m statistic ", "iptables-legacy -A INPUT -m statistic --mode random --probability 0.5"),
];

/// The rules without those that cannot be loaded here.
fn loadable(what: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for (part, probe) in OPTIONAL {
        let count = text.lines().filter(|line| line.contains(part)).count();
        if count > 0 && !in_namespace(probe, &[]).status.success() {
            say(&format!("{what}: without its {count} rules with{part}which this machine cannot load"));
            text = text.lines().filter(|l| !l.contains(part)).map(|line| format!("{line}\n")).collect();
        }
    }
    text
}

/// A script's lines that make the counters which rules name; kube-proxy makes them before its first sync.
fn counters(text: &str) -> String {
    let named = text.split("--nfacct-name").skip(1).filter_map(|rest| rest.split_whitespace().next());
    named.collect::<BTreeSet<_>>().iter().map(|name| format!("nfacct add {name}\n")).collect()
}

fn rules(cluster: &[&str], mode: &str, family: &str) -> String {
    printed(&[&["rules", "--mode", mode, "--family", family][..], cluster].concat())
}

#[test]
fn iptables_gives_back_the_rules_that_were_printed() {
    let tools =
        ["iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save", "ip6tables-legacy-save"];
    if !able("iptables", &tools) {
        return;
    }
    for (name, cluster) in CLUSTERS {
        for (family, tool) in [("ipv4", "iptables"), ("ipv6", "ip6tables")] {
            let what = format!("{name} {family}");
            let text = loadable(&what, &rules(&cluster, "iptables", family));
            let file = file(&format!("{name}.{tool}"), &text);
            let saved = output_of(
                &format!(
                    "{}{tool}-legacy-restore --test < \"$1\"\n{tool}-legacy-restore < \"$1\"\n{tool}-legacy-save",
                    counters(&text)
                ),
                &[&file],
            );
            // The order of tables is that in which the kernel made them; all else is compared in order.
            same(&what, &iptables_tables(&text), &iptables_tables(&saved));
        }
    }
}

#[test]
fn the_nftables_variant_of_iptables_restore_takes_the_rules_too() {
    if !able("iptables-nft", &["iptables-nft-restore", "iptables-legacy"]) {
        return;
    }
    if !in_namespace("iptables-nft -A INPUT -m comment --comment probe -j ACCEPT", &[]).status.success() {
        say("iptables-nft: skipped: needs a kernel with nft_compat");
        return;
    }
    for (name, cluster) in CLUSTERS {
        let text = loadable(name, &rules(&cluster, "iptables", "ipv4"));
        let file = file(&format!("{name}.iptables-nft"), &text);
        output_of(&format!("{}iptables-nft-restore --test < \"$1\"", counters(&text)), &[&file]);
    }
}

#[test]
fn nft_gives_back_the_table_that_was_printed() {
    if !able("nftables", &["nft"]) {
        return;
    }
    for (name, cluster) in CLUSTERS {
        for (family, table) in [("ipv4", "table ip kube-proxy {"), ("ipv6", "table ip6 kube-proxy {")] {
            for kubernetes in ["1.35", "1.36"] {
                let what = format!("{name} {family} {kubernetes}");
                let cluster = [&cluster[..], &["--kubernetes", kubernetes]].concat();
                let text = rules(&cluster, "nftables", family);
                let file = file(&format!("{name}.{family}.{kubernetes}.nft"), &text);
                let listed = output_of("nft -f - < \"$1\"\nnft list ruleset", &[&file]);
                same(&what, &nft_table(&text, table), &nft_table(&listed, table));
            }
        }
    }
}

/// The sections of ipvs mode by the tool that loads them.
fn sections(text: &str) -> BTreeMap<&str, String> {
    let mut sections = BTreeMap::<&str, String>::new();
    let mut tool = "";
    for line in text.lines() {
        if let Some((_, load)) = line.split_once("; load with: ") {
            tool = load;
        }
        sections.entry(tool).or_default().push_str(&format!("{line}\n"));
    }
    sections
}

#[test]
fn ipset_and_iptables_give_back_their_sections_of_ipvs_mode() {
    let tools = ["ipset", "iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save", "ip"];
    if !able("ipvs", &tools) {
        return;
    }
    if !in_namespace("ipset create probe hash:ip", &[]).status.success() {
        say("ipvs: skipped: needs a kernel with ip_set");
        return;
    }
    let dummy = in_namespace("ip link add probe type dummy", &[]).status.success();
    if !dummy {
        say("ipvs: kube-ipvs0 is a veth here, since this kernel has no dummy devices");
    }
    for (name, cluster) in CLUSTERS {
        let text = rules(&cluster, "ipvs", "ipv4");
        let sections = sections(&text);
        let mut addresses = sections["ip -batch -"].clone();
        if !dummy {
            addresses = addresses.replace("type dummy", "type veth");
        }
        let [sets, tables, device] = [
            ("ipset", &sections["ipset restore"]),
            ("ipt", &sections["iptables-restore"]),
            ("addr", &addresses),
        ]
        .map(|(part, text)| file(&format!("{name}.ipvs.{part}"), text));
        let saved = output_of(
            "ipset restore < \"$1\"\nipset save\necho ==\niptables-legacy-restore < \"$2\"\niptables-legacy-save\n\
             echo ==\nip -batch - < \"$3\"\nip -oneline addr show kube-ipvs0",
            &[&sets, &tables, &device],
        );
        let saved: Vec<&str> = saved.split("==\n").collect();
        assert_eq!(ipset_lines(&sections["ipset restore"]), ipset_lines(saved[0]), "{name}");
        same(name, &iptables_tables(&sections["iptables-restore"]), &iptables_tables(saved[1]));
        let bound = saved[2].lines().filter(|line| line.contains(" inet ")).count();
        assert_eq!(bound, addresses.lines().filter(|line| line.starts_with("addr add ")).count(), "{name}");
    }
    say("ipvs: the section of ipvsadm was not loaded");
}

/// Lines of `ipset save` without order, and without options that newer versions add and with the size that hash tables
/// have now, which grows with the set.
fn ipset_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            for option in ["bucketsize", "initval", "hashsize"] {
                if let Some(at) = words.iter().position(|word| *word == option) {
                    words.drain(at..at + 2);
                }
            }
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines
}
