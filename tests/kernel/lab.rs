//! Flows through the kernel and through the model, with the same rules, and every difference.
//!
//! Three rounds for each cluster. In the first, single packets, and in the second, connections of a packet, its answer
//! and one more; in both the node's own answers (ICMP errors, resets) are discarded before they meet any rule, so that
//! all counters are of the flows alone. In the third these come out, and are what is looked at.

use crate::clusters::{Cluster, NODE, clusters};
use crate::counters;
use crate::flows::episodes;
use crate::place::Node;
use crate::predict::{Hits, Model};
use crate::rounds::{Side, Tally, answers_of_the_node, conversations, single_packets};
use crate::support::lab::{able, say};
use crate::support::printed;
use sim_core::classify::Family;
use sim_models::proxy;
use std::net::IpAddr;

/// What classifies the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Legacy,
    Nft,
    Nftables,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Legacy => "iptables-legacy",
            Backend::Nft => "iptables-nft",
            Backend::Nftables => "nftables",
        }
    }

    fn mode(self) -> &'static str {
        if self == Backend::Nftables { "nftables" } else { "iptables" }
    }

    /// `ip6tables-legacy-` and the like.
    fn tool(self, family: Family, what: &str) -> String {
        let six = if family == Family::Ipv6 { "6" } else { "" };
        let kind = if self == Backend::Nft { "nft" } else { "legacy" };
        format!("ip{six}tables-{kind}{what}")
    }
}

/// Where the node's own answers are discarded: before every other table.
const SILENCE: &str = "\
add table inet lab
add chain inet lab answers { type filter hook output priority -400; }
add rule inet lab answers meta l4proto { icmp, ipv6-icmp } drop
add rule inet lab answers tcp flags & rst == rst drop
";

/// What is done to rules before the model gets them.
type Change<'a> = &'a dyn Fn(String) -> String;

/// Loads a cluster's rules; the model gets them with this change.
fn load(node: &mut Node, backend: Backend, cluster: &Cluster, change: Change<'_>) -> Vec<Side> {
    let from = node.file("json", &cluster.json);
    let mut sides = Vec::new();
    for &family in &cluster.families {
        let flag = if family == Family::Ipv4 { "ipv4" } else { "ipv6" };
        let text = printed(&[
            "rules",
            "--from",
            &from,
            "--node",
            NODE,
            "--mode",
            backend.mode(),
            "--family",
            flag,
            "--cluster-cidr",
            cluster.cluster_cidr,
        ]);
        let what = format!("{} {flag}", cluster.name);
        if backend == Backend::Nftables {
            let path = node.file(flag, &counters::added_to_nft(&text));
            node.run(&format!("nft -f '{path}'"));
        } else {
            let path = node.file(flag, &text);
            let restore = backend.tool(family, "-restore");
            // Those of the other family are there already.
            let objects = crate::support::lab::counters(&text).replace('\n', " 2>/dev/null || true\n");
            node.run(&format!("{objects}{restore} < '{path}'"));
        }
        let dumps = proxy::mode(backend.mode()).and_then(|mode| mode.dumps()).expect("a mode");
        // What iptables-nft saves says of itself that it is its.
        let text = if backend == Backend::Nft { node.run(&backend.tool(family, "-save")) } else { text };
        let rules = dumps.read(&change(text), family).unwrap_or_else(|e| panic!("{what}: {e}"));
        let objects = cluster.objects(family);
        let model = Model::new(&what, rules, &objects.node_ips);
        sides.push(Side { family, model, episodes: episodes(&objects, family) });
    }
    sides
}

/// All counters as they are.
pub fn listed(node: &mut Node, backend: Backend, family: Family) -> Hits {
    if backend == Backend::Nftables {
        let name = if family == Family::Ipv4 { "ip" } else { "ip6" };
        counters::of_nft(&node.run(&format!("nft list table {name} kube-proxy")))
    } else {
        // nf_tables walks no entry for a policy: what it counts there is left out.
        let with_policies = backend == Backend::Legacy;
        counters::of_iptables(&node.run(&backend.tool(family, "-save -c")), with_policies)
    }
}

fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    cluster.families.iter().flat_map(|&family| cluster.objects(family).node_ips).collect()
}

fn lab(backend: Backend, cluster: &Cluster, change: Change<'_>, tally: &mut Tally) {
    let name = backend.name();
    let mut node = Node::start(&format!("{name}.{}", cluster.name), &addresses(cluster));
    let sides = load(&mut node, backend, cluster, change);
    let silence = node.file("silence", SILENCE);
    node.run(&format!("nft -f '{silence}'"));
    let what = |side: &Side| format!("{name} {} {:?}", cluster.name, side.family);
    for side in &sides {
        single_packets(&mut node, backend, side, &what(side), tally);
        conversations(&mut node, backend, side, &what(side), tally);
    }
    node.run("nft delete table inet lab");
    for side in &sides {
        answers_of_the_node(&mut node, side, &what(side), tally);
    }
}

const TOOLS: [&str; 9] =
    ["nft", "iptables-legacy", "iptables-nft", "nfacct", "ip", "nsenter", "sysctl", "mount", "python3"];

fn compare(backend: Backend) {
    let name = backend.name();
    if !able(name, &TOOLS) {
        return;
    }
    // Part of a cluster's name, to look into one alone.
    let only = std::env::var("WINDTUNNEL_LAB").unwrap_or_default();
    let mut all = Tally::default();
    for cluster in clusters().iter().filter(|cluster| cluster.name.contains(&only)) {
        lab(backend, cluster, &|text| text, &mut all);
    }
    say(&format!(
        "{name}: {} flows, {} arrived, {} rejected, {} dropped; {} counters; {} differences",
        all.flows,
        all.arrived,
        all.rejected,
        all.dropped,
        all.counters,
        all.differences.len()
    ));
    let shown = &all.differences[..all.differences.len().min(40)];
    assert!(all.differences.is_empty(), "{} differences:\n{}", all.differences.len(), shown.join("\n"));
    assert!(!only.is_empty() || all.flows >= 5_000, "{name}: too few flows: {}", all.flows);
}

#[test]
fn packets_go_through_iptables_legacy_as_through_the_model() {
    compare(Backend::Legacy);
}

#[test]
fn packets_go_through_iptables_nft_as_through_the_model() {
    compare(Backend::Nft);
}

#[test]
fn packets_go_through_nftables_as_through_the_model() {
    compare(Backend::Nftables);
}

/// The lab itself: a model with other rules than the kernel is told apart by each of the things that are compared.
#[test]
fn a_model_with_other_rules_than_the_kernel_is_found_out() {
    if !able("the lab", &TOOLS) {
        return;
    }
    let clusters = clusters();
    let cluster = clusters.iter().find(|cluster| cluster.name == "09-no-endpoints").expect("it is recorded");
    let other = clusters.iter().find(|cluster| cluster.name == "03-nodeport").expect("it is recorded");
    let without = |part: &'static str| {
        move |text: String| {
            text.lines()
                .filter(|line| !line.contains(part))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        }
    };
    let rows: [(&Cluster, Change<'_>, &str); 4] = [
        // Sources are not translated.
        (other, &without("-j MASQUERADE"), "Arrives"),
        // Nothing is refused.
        (cluster, &without("-j REJECT"), "model:  Arrives"),
        // Nobody is told.
        (
            cluster,
            &|text| text.replace("REJECT --reject-with icmp-port-unreachable", "DROP"),
            "but the answer is",
        ),
        // Packets go the same way.
        (other, &without("-A INPUT -j KUBE-FIREWALL"), "counter of filter INPUT 0"),
    ];
    for (cluster, change, part) in rows {
        let mut tally = Tally::default();
        lab(Backend::Legacy, cluster, change, &mut tally);
        let found = tally.differences.iter().any(|difference| difference.contains(part));
        assert!(found, "{part} is not in {:#?}", tally.differences);
    }
}
