//! Flows through the kernel and through the model, with the same rules, and every difference.
//!
//! Three rounds for each cluster. In the first, single packets, and in the second, connections of a packet, its answer
//! and one more; in both the node's own answers (ICMP errors, resets) are discarded before they meet any rule, so that
//! all counters are of the flows alone. In the third these come out, and are what is looked at.

use crate::bytes::Seen;
use crate::clusters::{Cluster, NODE, clusters};
use crate::counters;
use crate::flows::{Episode, episodes};
use crate::place::{Node, Point, Shot};
use crate::predict::{Fate, Hits, Model, agreeing, answer};
use crate::support::lab::{able, say};
use crate::support::printed;
use sim_core::classify::{Family, Packet, Proto, TcpFlags};
use sim_models::proxy;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

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

/// What a cluster's flows gave.
#[derive(Debug, Default)]
struct Tally {
    flows: usize,
    arrived: usize,
    rejected: usize,
    dropped: usize,
    counters: usize,
    differences: Vec<String>,
}

/// One family of a cluster on a node.
struct Side {
    family: Family,
    model: Model,
    episodes: Vec<Episode>,
}

/// Loads a cluster's rules; the model gets them with this change.
fn load(
    node: &mut Node,
    backend: Backend,
    cluster: &Cluster,
    change: &dyn Fn(String) -> String,
) -> Vec<Side> {
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

fn listed(node: &mut Node, backend: Backend, family: Family) -> Hits {
    if backend == Backend::Nftables {
        let name = if family == Family::Ipv4 { "ip" } else { "ip6" };
        counters::of_nft(&node.run(&format!("nft list table {name} kube-proxy")))
    } else {
        // nf_tables walks no entry for a policy: what it counts there is left out.
        let with_policies = backend == Backend::Legacy;
        counters::of_iptables(&node.run(&backend.tool(family, "-save -c")), with_policies)
    }
}

/// What was seen of each flow, by its number.
type Sightings = BTreeMap<u32, Vec<(Point, Seen)>>;

fn shots<'a>(packets: impl Iterator<Item = (&'a Episode, Packet)>) -> Vec<Shot> {
    packets.zip(1u32..).map(|((episode, packet), id)| Shot { packet, origin: episode.origin, id }).collect()
}

fn fire(node: &mut Node, shots: &[Shot]) -> Sightings {
    let mut sightings = Sightings::new();
    for (point, seen) in node.fire(shots) {
        sightings.entry(seen.id).or_default().push((point, seen));
    }
    sightings
}

/// Whether what was seen is the fate, answers aside.
fn is(fate: Fate, sent: &Packet, seen: &[(Point, Seen)]) -> bool {
    let arrivals: Vec<_> =
        seen.iter().filter(|(_, seen)| seen.error.is_none() && !seen.packet.flags.rst).collect();
    match fate {
        Fate::Rejected | Fate::Dropped => arrivals.is_empty(),
        Fate::Arrives { at, to, from, port } => {
            let [(point, seen)] = arrivals[..] else { return false };
            let p = seen.packet;
            *point == at
                && SocketAddr::new(p.dst, p.dport) == to
                && p.src == from
                && port.is_none_or(|port| port == p.sport)
                && p.proto == sent.proto
        }
    }
}

fn single_packets(node: &mut Node, backend: Backend, side: &Side, what: &str, tally: &mut Tally) {
    let packets = side.episodes.iter().flat_map(|e| e.packets.iter().map(move |&packet| (e, packet)));
    let shots = shots(packets);
    let before = listed(node, backend, side.family);
    let seen = fire(node, &shots);
    let after = listed(node, backend, side.family);
    let none = Vec::new();
    let of = |id: u32| seen.get(&id).unwrap_or(&none);

    let mut expected = Hits::new();
    // By origin and destination: number of flows, and choices by the kernel and by the model, asked once each.
    let mut shares = BTreeMap::<(u8, SocketAddr, u8), (u32, BTreeMap<SocketAddr, [u32; 2]>)>::new();
    let mut id = 1;
    for episode in &side.episodes {
        let ids = id..id + u32::try_from(episode.packets.len()).expect("few");
        id = ids.end;
        let agrees = |fates: &[Fate]| {
            fates
                .iter()
                .zip(&episode.packets)
                .zip(ids.clone())
                .all(|((fate, sent), id)| is(*fate, sent, of(id)))
        };
        let (prediction, found) = agreeing(|seed| side.model.predict(episode, seed), agrees);
        side.model.count(&prediction, backend != Backend::Nft, &mut expected);
        tally.flows += episode.packets.len();
        for fate in &prediction.fates {
            match fate {
                Fate::Arrives { .. } => tally.arrived += 1,
                Fate::Rejected => tally.rejected += 1,
                Fate::Dropped => tally.dropped += 1,
            }
        }
        if !found {
            let mut text = format!("{what}: {:?}", episode.origin);
            for ((fate, sent), id) in prediction.fates.iter().zip(&episode.packets).zip(ids.clone()) {
                write!(text, "\n    {sent}\n      model:  {fate:?}\n      kernel: {}", told(of(id)))
                    .expect("a String takes everything");
            }
            tally.differences.push(text);
        } else if episode.alone {
            let first = side.model.predict(episode, u64::from(id) + 1_000);
            if let (Fate::Arrives { to, .. }, Fate::Arrives { to: model, .. }) =
                (prediction.fates[0], first.fates[0])
            {
                let sent = episode.packets[0];
                let key = (episode.origin as u8, SocketAddr::new(sent.dst, sent.dport), sent.proto.number());
                let (flows, choices) = shares.entry(key).or_default();
                *flows += 1;
                choices.entry(to).or_default()[0] += 1;
                choices.entry(model).or_default()[1] += 1;
            }
        }
    }
    for ((_, to, _), (flows, choices)) in shares {
        for (chosen, [kernel, model]) in choices {
            let n = f64::from(flows);
            let share = f64::from(kernel + model) / (2.0 * n);
            let sigma = (2.0 * n * share * (1.0 - share)).sqrt();
            if (f64::from(kernel) - f64::from(model)).abs() > 5.0 * sigma + 1.0 {
                tally.differences.push(format!(
                    "{what}: of {flows} flows to {to} the kernel sent {kernel} to {chosen}, the model {model}"
                ));
            }
        }
    }
    compare_counters(what, &before, &after, &expected, tally);
}

/// Every counter has gone up by what the model says.
fn compare_counters(what: &str, before: &Hits, after: &Hits, expected: &Hits, tally: &mut Tally) {
    for counter in after.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        let number = |hits: &Hits| hits.get(counter).copied().unwrap_or(0);
        let (kernel, model) = (number(after) - number(before), number(expected));
        tally.counters += 1;
        if kernel != model {
            let (table, chain, rule) = counter;
            tally
                .differences
                .push(format!("{what}: counter of {table} {chain} {rule}: kernel {kernel}, model {model}"));
        }
    }
}

/// One first packet of each kind, from other ports than before.
fn one_of_each(side: &Side, ports_below: u16) -> Vec<Episode> {
    let mut kinds = BTreeSet::new();
    let firsts = side.episodes.iter().filter(|e| {
        let p = e.packets[0];
        kinds.insert((e.origin as u8, p.src, p.dst, p.dport, p.proto.number()))
    });
    let moved = |p: Packet| Packet { sport: p.sport - ports_below, ..p };
    firsts.map(|e| Episode { packets: vec![moved(e.packets[0])], ..e.clone() }).collect()
}

fn conversations(node: &mut Node, backend: Backend, side: &Side, what: &str, tally: &mut Tally) {
    let mut episodes = one_of_each(side, 6_000);
    // An answer to an INIT would have to show its tag.
    episodes.retain(|e| e.packets[0].proto != Proto::Sctp && e.alone);
    let before = listed(node, backend, side.family);
    let firsts = shots(episodes.iter().map(|e| (e, e.packets[0])));
    let mut steps = vec![fire(node, &firsts)];
    let (mut answers, mut thirds) = (Vec::new(), Vec::new());
    for shot in &firsts {
        let arrived = steps[0].get(&shot.id).into_iter().flatten().find(|(_, seen)| seen.error.is_none());
        let Some((Some(origin), seen)) = arrived.map(|(at, seen)| (at.origin(), seen)) else { continue };
        let follows = |packet: Packet, flags| match packet.proto {
            Proto::Tcp => packet.with_flags(flags),
            _ => packet,
        };
        answers.push(Shot { packet: follows(answer(&seen.packet), TcpFlags::SYN_ACK), origin, ..*shot });
        thirds.push(Shot { packet: follows(shot.packet, TcpFlags::ACK), ..*shot });
    }
    steps.push(fire(node, &answers));
    steps.push(fire(node, &thirds));
    let after = listed(node, backend, side.family);
    let mut expected = Hits::new();
    let none = Vec::new();
    for (episode, shot) in episodes.iter().zip(&firsts) {
        let seen: Vec<_> = steps.iter().map(|step| step.get(&shot.id).unwrap_or(&none)).collect();
        let agrees = |fates: &[Fate]| {
            let right = fates.iter().zip(&seen).all(|(fate, seen)| is(*fate, &shot.packet, seen));
            // The translation of the first packet is that of the third.
            right && (fates.len() < 3 || source(seen[0]) == source(seen[2]))
        };
        let (prediction, found) = agreeing(|seed| side.model.converse(episode, seed), agrees);
        side.model.count(&prediction, backend != Backend::Nft, &mut expected);
        tally.flows += 1;
        if !found {
            let told: Vec<_> = seen.iter().map(|seen| told(seen)).collect();
            tally.differences.push(format!(
                "{what}: {:?} {}, answered\n      model:  {:?}\n      kernel: {told:?}",
                episode.origin, shot.packet, prediction.fates
            ));
        }
    }
    compare_counters(&format!("{what}, answered"), &before, &after, &expected, tally);
}

fn source(seen: &[(Point, Seen)]) -> Option<SocketAddr> {
    seen.first().map(|(_, seen)| SocketAddr::new(seen.packet.src, seen.packet.sport))
}

fn told(seen: &[(Point, Seen)]) -> String {
    if seen.is_empty() {
        return "nothing".to_owned();
    }
    let told = seen.iter().map(|(point, seen)| match seen.error {
        Some((kind, code)) => format!("{point:?}: error {kind}/{code} from {}", seen.packet.src),
        None => format!("{point:?}: {}", seen.packet),
    });
    told.collect::<Vec<_>>().join("; ")
}

fn answers_of_the_node(node: &mut Node, side: &Side, what: &str, tally: &mut Tally) {
    let episodes = one_of_each(side, 12_000);
    let shots = shots(episodes.iter().map(|e| (e, e.packets[0])));
    let seen = fire(node, &shots);
    let none = Vec::new();
    for (episode, shot) in episodes.iter().zip(&shots) {
        let packet = shot.packet;
        let fate = side.model.predict(episode, 1).fates[0];
        let seen = seen.get(&shot.id).unwrap_or(&none);
        let answers: Vec<_> =
            seen.iter().filter(|(_, seen)| seen.error.is_some() || seen.packet.flags.rst).collect();
        let back = Point::towards(packet.src, &side.model.node_ips);
        let unreachable = if side.family == Family::Ipv4 { (3, 3) } else { (1, 4) };
        let is_error = |seen: &Seen| seen.error == Some(unreachable) && seen.packet.dst == packet.src;
        let is_reset = |seen: &Seen| {
            seen.packet.flags.rst && (seen.packet.dst, seen.packet.dport) == (packet.src, packet.sport)
        };
        let is_right = match (fate, packet.proto, &answers[..]) {
            (Fate::Rejected, _, [(point, seen)]) => *point == back && is_error(seen),
            // The node's own ports are closed. What it says of SCTP depends on its modules.
            (Fate::Arrives { at: Point::Node, .. }, Proto::Sctp, _) => true,
            (Fate::Arrives { at: Point::Node, .. }, Proto::Tcp, [(point, seen)]) => {
                *point == back && is_reset(seen)
            }
            (Fate::Arrives { at: Point::Node, .. }, _, [(point, seen)]) => *point == back && is_error(seen),
            (Fate::Arrives { at: Point::Pods | Point::Wire, .. } | Fate::Dropped, _, []) => true,
            _ => false,
        };
        tally.flows += 1;
        if !is_right {
            tally.differences.push(format!(
                "{what}: {:?} {packet}: {fate:?}, but the answer is {}",
                episode.origin,
                told(seen)
            ));
        }
    }
}

fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    cluster.families.iter().flat_map(|&family| cluster.objects(family).node_ips).collect()
}

fn lab(backend: Backend, cluster: &Cluster, change: &dyn Fn(String) -> String, tally: &mut Tally) {
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
    let rows: [(&Cluster, &dyn Fn(String) -> String, &str); 4] = [
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
