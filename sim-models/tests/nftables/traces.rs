//! The machine against the kernel: packets that a real kernel traced through the recorded table of rand-100
//! must match the same rules here, in the same order.

use crate::support::{Node, V4, config};
use sim_core::classify::{Packet, Proto, TcpFlags, Work};
use sim_models::kernel::hook::{Hook, HookVerdict};
use sim_models::kernel::nftables::expr::Flow;
use sim_models::kernel::nftables::print::RuleText;
use sim_models::kernel::nftables::{DynamicSets, Engine, Table};
use sim_models::kernel::trace::{Observer, Step};
use sim_models::kube::import::import;
use sim_models::kube::resolve::resolve;
use sim_models::proxy::nftables::build;
use std::net::SocketAddr;
use std::path::Path;

struct Matched<'a>(&'a Table, Vec<String>);

impl Observer for Matched<'_> {
    fn step(&mut self, step: Step, _: &Packet, _: &Work) {
        if let Step::NftRule { chain, rule, flow } = step
            && flow != Flow::Break
        {
            let chain = self.0.chain(chain);
            self.1.push(format!("{}\t{}", chain.name, RuleText(self.0, &chain.rules[rule as usize])));
        }
    }
}

/// The table of rand-100 as this project builds it; a golden holds it against the recorded one.
fn table() -> Table {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../scenarios/clusters/rand-100.json");
    let own = root.join("tests/kube-proxy/rand-100/input.json");
    let text = std::fs::read_to_string(if shared.exists() { shared } else { own }).unwrap();
    let objects = import(&text).expect("recorded objects are sound");
    build(&resolve(&objects, V4, "node-a"), &config(36, "10.244.0.0/16"), V4).nftables.unwrap()
}

fn packet(text: &str) -> (Packet, Hook, &str) {
    let words: Vec<&str> = text.split(' ').collect();
    let [proto, ingress, src, ">", dst, outcome] = words[..] else { panic!("no packet: {text}") };
    let dst: SocketAddr = dst.parse().unwrap();
    let mut packet = Packet::tcp_syn(src.parse().unwrap(), 40_000, dst.ip(), dst.port());
    if proto == "udp" {
        (packet.proto, packet.flags) = (Proto::Udp, TcpFlags::default());
    }
    (packet, if ingress == "host" { Hook::Output } else { Hook::Prerouting }, outcome)
}

#[test]
fn packets_match_the_rules_that_the_kernel_traced() {
    let table = table();
    let mut node = Node::new(Engine::new(&table, 1).unwrap(), &["192.168.0.2", "127.0.0.1"]);
    let text = include_str!("traces.txt");
    let mut compared = 0;
    let mut lines = text.lines().filter(|l| !l.starts_with('#')).peekable();
    while let Some(head) = lines.next() {
        let (packet, from, outcome) = packet(head);
        let mut expected = Vec::new();
        while let Some(rule) = lines.next_if(|l| l.starts_with('\t')) {
            expected.push(rule[1..].to_owned());
        }
        // The kernel drew an endpoint at random: where that shows in the chain, draw until it is the same.
        let tries = if expected.iter().any(|rule| rule.starts_with("endpoint-")) { 64 } else { 1 };
        let (o, matched) = (0..tries)
            .map(|_| {
                node.dynamic = DynamicSets::new();
                let mut matched = Matched(&table, Vec::new());
                (node.traced(packet, from, &mut matched), matched.1)
            })
            .reduce(|a, b| if a.1 == expected { a } else { b })
            .expect("at least one try");
        assert_eq!(matched, expected, "{head}");
        let ours = match (o.verdict, o.dnat) {
            (HookVerdict::Reject, _) => "rejected",
            (HookVerdict::Drop, _) => "dropped",
            (HookVerdict::Accept, Some(_)) => "dnat",
            (HookVerdict::Accept, None) if node.cx.local_addrs.contains(&packet.dst) => "delivered_locally",
            (HookVerdict::Accept, None) => "passed",
        };
        assert_eq!(ours, outcome, "{head}");
        compared += 1;
    }
    assert_eq!(compared, 45);
}
