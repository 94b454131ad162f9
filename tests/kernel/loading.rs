//! The printed rules against the real kernel: loaded in a private network namespace, saved back, and compared.
//!
//! What the machine's kernel has no module for is left out of the rules with a note on stderr, never silently.

use crate::support::lab::{able, counters, file, in_namespace, ipvs_parts, loadable, output_of, say};
use crate::support::{iptables_tables, nft_table, printed, same};
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::nftables::{Table, read};
use sim_models::proxy;
use std::collections::BTreeMap;

/// The recorded cluster, and one of 4,000 generated Services.
const CLUSTERS: [(&str, [&str; 4]); 2] = [
    ("rand-100", ["--from", "scenarios/clusters/rand-100.json", "--cluster-cidr", "10.244.0.0/16"]),
    ("generated-4000", ["--scenario", "scenarios/4k-services.toml", "--set", "cluster.services=4000"]),
];

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
fn iptables_gives_back_the_rules_of_userspace_mode() {
    let tools =
        ["iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save", "ip6tables-legacy-save"];
    if !able("userspace", &tools) {
        return;
    }
    for (name, cluster) in CLUSTERS {
        for (family, tool) in [("ipv4", "iptables"), ("ipv6", "ip6tables")] {
            let what = format!("{name} {family}");
            let text = loadable(&what, &rules(&cluster, "userspace", family));
            let file = file(&format!("{name}.userspace.{tool}"), &text);
            let script = format!("{tool}-legacy-restore < \"$1\"\n{tool}-legacy-save");
            same(&what, &iptables_tables(&text), &iptables_tables(&output_of(&script, &[&file])));
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

/// The tables of a dump, which nothing else is in, without what nft's JSON does not carry.
fn read_back(dump: &str) -> Vec<Table> {
    let read = read::ruleset(dump, "kube-proxy").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read.skipped, []);
    let mut tables = read.tables;
    for table in &mut tables {
        table.comment = None;
        table.chains.iter_mut().for_each(|chain| chain.comment = None);
    }
    tables
}

#[test]
fn what_nft_lists_is_read_back_as_the_table_that_was_loaded() {
    if !able("nftables", &["nft"]) {
        return;
    }
    let nftables = proxy::mode("nftables").and_then(|mode| mode.dumps()).expect("a mode");
    for (name, cluster) in CLUSTERS {
        for kubernetes in ["1.35", "1.36"] {
            if (name, kubernetes) == ("generated-4000", "1.35") {
                // Nothing in it that the small one does not have, and nft takes long.
                continue;
            }
            let what = format!("{name} {kubernetes}");
            let cluster = [&cluster[..], &["--kubernetes", kubernetes]].concat();
            let [v4, v6] = ["ipv4", "ipv6"].map(|family| rules(&cluster, "nftables", family));
            let file = file(&format!("{name}.{kubernetes}.both.nft"), &format!("{v4}{v6}"));
            let listed = output_of(
                "nft -f - < \"$1\"\nnft list ruleset\necho ==\nnft -a list ruleset\necho ==\nnft -j list ruleset",
                &[&file],
            );
            let dumps: Vec<&str> = listed.split("==\n").collect();
            let [text, with_handles, json] = dumps[..] else { panic!("{what}: {} dumps", dumps.len()) };
            let tables = read_back(text);
            assert_eq!(tables.len(), 2, "{what}");
            assert!(tables == read_back(with_handles), "{what}: with handles");
            assert!(tables == read_back(json), "{what}: JSON");
            for (family, wanted) in [(Family::Ipv4, &v4), (Family::Ipv6, &v6)] {
                let wanted = nftables.read(wanted, family).unwrap_or_else(|e| panic!("{what}: {e}"));
                for dump in [text, json] {
                    let found = nftables.read(dump, family).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(
                        nftables.diff(&wanted, &found, &ProxyConfig::default()),
                        [],
                        "{what} {family:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn clients_with_affinity_are_read_with_the_time_that_they_have_left() {
    if !able("nftables", &["nft"]) {
        return;
    }
    let set = "table ip kube-proxy {\n\tset affinity {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n\t}\n}\n";
    let file = file("affinity.nft", set);
    let listed = output_of(
        "nft -f - < \"$1\"\nnft add element ip kube-proxy affinity '{ 10.244.0.8 timeout 10m, 10.244.0.9 }'\n\
         nft list ruleset\necho ==\nnft -j list ruleset",
        &[&file],
    );
    for dump in listed.split("==\n") {
        let tables = read_back(dump);
        let left =
            tables[0].lifetimes.values().map(|l| l.expires.expect("it expires").as_ns() / 1_000_000_000);
        for (seconds, of) in left.zip([600, 3 * 3600]) {
            assert!((of - 60..=of).contains(&seconds), "{seconds} of {of} s are left in {dump}");
        }
        assert_eq!(tables[0].sets[0].elements.len(), 2);
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
    let Some(dummy) = ipvs_parts() else { return };
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
