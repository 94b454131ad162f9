//! Real packets through real rules: which rules the kernel's counters say were hit, against the model's count.
//!
//! A node with kube-proxy's iptables rules in one network namespace, a pod in another; single packets go to cluster
//! IPs and node ports from both. The kernel counts every rule and policy that a packet hits, but not the RETURN at the
//! end of a chain, which the model counts as the kernel's walk does; those are in the model's count of returns.
//!
//! Left out: what a rejected packet hits, since the kernel's ICMP answer hits rules too; only the verdict is compared.
//! The nftables rules are compared with recorded traces in the models' own tests.

mod support;

use sim_core::classify::{Family, Packet, Proto, TcpFlags, Unit, Verdict};
use sim_core::units::SimTime;
use sim_models::config::ProxyConfig;
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::kube::{ProxyObjects, ServicePort};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use support::lab::{able, counters, file, in_namespace, loadable, output_of};
use support::printed;

const CLUSTER: &str = "scenarios/clusters/rand-100.json";
const POD: &str = "10.244.0.253";
const NODE: &str = "192.168.0.2";
const PORT: u16 = 40_000;

/// A node with a pod on it and the way to everywhere else, where nobody answers.
const PLACE: &str = "\
sysctl -qw net.ipv4.ip_forward=1
unshare -n sleep 600 &
pod=$!
trap \"kill $pod\" EXIT
while [ \"$(readlink /proc/$pod/ns/net)\" = \"$(readlink /proc/$$/ns/net)\" ]; do sleep 0.01; done
ip link set lo up
ip link add pod0 type veth peer name eth0 netns $pod
ip link add out0 type veth peer name void netns $pod
ip link set out0 arp off up
ip link set pod0 up
ip addr add 10.244.0.1/32 dev pod0
ip addr add 192.168.0.2/24 dev out0
ip route add 10.244.0.253 dev pod0
nsenter -t $pod -n ip link set lo up
nsenter -t $pod -n ip link set void up
nsenter -t $pod -n ip link set eth0 up
nsenter -t $pod -n ip addr add 10.244.0.253/32 dev eth0
nsenter -t $pod -n ip route add 10.244.0.1 dev eth0
nsenter -t $pod -n ip route add default via 10.244.0.1
ip route add default dev out0
";

/// One packet to send.
struct Shot<'a> {
    port: &'a ServicePort,
    to: SocketAddr,
    origin: Origin,
}

/// Ports of every kind that the cluster has, one of each.
fn shots(objects: &ProxyObjects) -> Vec<Shot<'_>> {
    let mut kinds = BTreeSet::new();
    let mut shots = Vec::new();
    for port in objects.ports.iter().filter(|port| matches!(port.proto, Proto::Tcp | Proto::Udp)) {
        let endpoints = port.endpoints.cluster.len().min(3);
        let kind =
            (port.proto.number(), endpoints, port.affinity_seconds, port.internal_local, port.external_local);
        if !kinds.insert((kind, port.node_port != 0)) {
            continue;
        }
        let mut add = |ip: IpAddr, number, origin| {
            shots.push(Shot { port, to: SocketAddr::new(ip, number), origin });
        };
        add(port.cluster_ip, port.port, Origin::Pod);
        if port.affinity_seconds.is_none() {
            add(port.cluster_ip, port.port, Origin::Host);
        }
        if port.node_port != 0 {
            add(NODE.parse().expect("an address"), port.node_port, Origin::Pod);
        }
    }
    shots
}

/// What the kernel's counters say of one packet.
#[derive(Debug, Default)]
struct Hits {
    rules: u32,
    policies: u32,
    /// Hits of rules with target RETURN.
    returns: u32,
    rejects: u32,
    drops: u32,
    masquerades: u32,
    dnat: Vec<SocketAddr>,
    lines: Vec<String>,
}

/// Reads `iptables-save -c`.
fn hits(saved: &str) -> Hits {
    let mut hits = Hits::default();
    let number = |text: &str| text.split(':').next().and_then(|n| n.parse::<u32>().ok()).expect("a counter");
    for line in saved.lines() {
        if let Some(rule) = line.strip_prefix('[') {
            let n = number(rule);
            let target = |name: &str| if line.contains(&format!(" -j {name}")) { n } else { 0 };
            hits.rules += n;
            hits.returns += target("RETURN");
            hits.drops += target("DROP");
            hits.rejects += target("REJECT");
            hits.masquerades += target("MASQUERADE");
            if n > 0 {
                let to = line.split(" --to-destination ").nth(1);
                hits.dnat.extend(to.map(|to| to.parse::<SocketAddr>().expect("an address and a port")));
                hits.lines.push(line.to_owned());
            }
        } else if line.starts_with(':') && !line.contains(" - ") {
            hits.policies += number(line.split('[').nth(1).expect("a policy has counters"));
        }
    }
    hits
}

/// The script that sends a packet and prints the counters after it.
fn fire(shot: &Shot<'_>, script: &mut String) {
    let from = if shot.origin == Origin::Pod { "nsenter -t $pod -n " } else { "" };
    let (ip, port) = (shot.to.ip(), shot.to.port());
    let send = match shot.port.proto {
        // One SYN: the next would follow after a second.
        Proto::Tcp => format!("timeout 0.2 bash -c \": > /dev/tcp/{ip}/{port}\""),
        _ => format!("bash -c \"echo > /dev/udp/{ip}/{port}\""),
    };
    write!(
        script,
        "for table in filter mangle nat; do iptables-legacy -t $table -Z; done\n{from}{send} 2>/dev/null || true\n\
         echo ==\niptables-legacy-save -c\n"
    )
    .expect("a String takes everything");
}

#[test]
fn packets_hit_as_many_rules_of_the_kernel_as_of_the_model() {
    let tools = ["iptables-legacy", "iptables-legacy-restore", "ip", "nsenter", "bash", "timeout", "sysctl"];
    if !able("packets", &tools) {
        return;
    }
    let args = ["rules", "--from", CLUSTER, "--mode", "iptables", "--cluster-cidr", "10.244.0.0/16"];
    let text = printed(&args);
    if loadable("packets", &text) != text {
        support::lab::say("packets: skipped: needs a kernel and tools that take all rules");
        return;
    }
    if !in_namespace("ip link add probe0 type veth peer name probe1", &[]).status.success() {
        support::lab::say("packets: skipped: needs a kernel with veth");
        return;
    }
    let json = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CLUSTER)).expect("the cluster");
    let objects = resolve(&import(&json).expect("the cluster is right"), Family::Ipv4, "node-a");
    let config =
        ProxyConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..ProxyConfig::default() };
    let rules = sim_models::proxy::iptables::build(&objects, &config, Family::Ipv4);
    let stack = Stack::new(&rules, 1).expect("rules that compile");
    let pod: IpAddr = POD.parse().expect("an address");
    let every = objects.ports.iter().flat_map(|port| &port.endpoints.reachable);
    assert!(!every.into_iter().any(|e| e.addr.ip() == pod), "{POD} is an endpoint");

    let shots = shots(&objects);
    let mut script = format!("{PLACE}{}iptables-legacy-restore < \"$1\"\n", counters(&text));
    shots.iter().for_each(|shot| fire(shot, &mut script));
    let saved = output_of(&script, &[&file("packets.iptables", &text)]);
    let saved: Vec<&str> = saved.split("==\n").skip(1).collect();
    assert_eq!(saved.len(), shots.len());

    let (mut sent, mut dropped, mut rejected) = (0, 0, 0);
    for (shot, saved) in shots.iter().zip(saved) {
        let kernel = hits(saved);
        let src = if shot.origin == Origin::Pod { pod } else { NODE.parse().expect("an address") };
        let syn = Packet::tcp_syn(src, PORT, shot.to.ip(), shot.to.port());
        let packet = match shot.port.proto {
            Proto::Tcp => syn,
            proto => Packet { proto, flags: TcpFlags::default(), ..syn },
        };
        let mut node = NodeState::new(1, "node-a", 2, &objects.node_ips);
        let model = cross(&stack, &mut node, packet, shot.origin, SimTime::ZERO);
        let what =
            format!("{packet} ({}): {:?}\n{}", shot.port.full_name(), model.verdict, kernel.lines.join("\n"));
        let of_port = |to: &SocketAddr| shot.port.endpoints.reachable.iter().any(|e| e.addr == *to);
        let same_hits = || {
            let closings = model.work[Unit::Returns] - kernel.returns;
            assert_eq!(model.work[Unit::RuleHits], kernel.rules + kernel.policies + closings, "{what}");
        };
        match model.verdict {
            Verdict::Dnat { to, masquerade } => {
                assert!(of_port(&to), "{what}");
                assert!(kernel.dnat.len() == 1 && of_port(&kernel.dnat[0]), "{what}");
                assert_eq!(kernel.masquerades, u32::from(masquerade), "{what}");
                same_hits();
                sent += 1;
            }
            Verdict::Drop => {
                assert_eq!((kernel.drops, kernel.dnat.len()), (1, 0), "{what}");
                same_hits();
                dropped += 1;
            }
            Verdict::Reject => {
                assert_eq!((kernel.rejects, kernel.dnat.len()), (1, 0), "{what}");
                rejected += 1;
            }
            other => panic!("{other:?}: {what}"),
        }
    }
    support::lab::say(&format!(
        "packets: {sent} sent on, {dropped} dropped, {rejected} rejected, as the model says"
    ));
    assert!(sent >= 8 && dropped >= 1 && rejected >= 1, "too few kinds of packets");
}
