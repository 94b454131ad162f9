//! Packets sent through a recorded dump of a node's rules, held against the model one by one.
//!
//! A record says what was sent, what became of it, what it cost, which endpoints the measured packets got, and which
//! rules one packet matched: the counters of iptables after it, or nft's trace of it. The node had the addresses
//! 192.168.0.2, 10.80.0.1 towards the pods' network and 10.64.0.1 towards the client; its ICMP errors were not limited.
//! Each packet had a source port of its own, and four were sent before the measured ones.
//!
//! Endpoints are chosen at random, so the model sends many packets: a figure is compared for the endpoint that was
//! recorded, and the recorded endpoint must be among those that the model can choose. Refills of the random numbers
//! and fresh slab pages, which meet one packet in many, are left out on both sides: a record is a median.

use crate::config::CacheState;
use crate::kernel::answer::{self, IcmpLimit};
use crate::kernel::cost::{CostProfile, Locality};
use crate::kernel::nftables::{self, expr::Flow, print::RuleText};
use crate::kernel::path::{NodeState, Origin, Route, Stack, cross_observed};
use crate::kernel::rules::NodeRules;
use crate::kernel::trace::Step;
use crate::kernel::xtables;
use crate::proxy;
use serde::Deserialize;
use sim_core::classify::{Family, Packet, Proto, TcpFlags, Unit, Verdict, Work};
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The node's address towards the pods' network, towards the machines around it, and towards the client.
const NEAR_PODS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const NEAR_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// Networks that the node had routes to, its address there, how deep they lie in its routing trie and whether their
/// device has a queue. The depths were not recorded: they are what tests of an address's type cost, by address.
const ROUTES: [(&str, Ipv4Addr, u32, bool); 5] = [
    ("0.0.0.0/0", NODE, 6, true),
    ("10.244.0.0/16", NEAR_PODS, 3, false),
    ("10.244.200.5/32", NEAR_CLIENT, 3, false),
    ("192.168.0.0/24", NODE, 2, true),
    ("203.0.113.0/24", NODE, 2, false),
];
/// The client's own address: packets with another one came in where answers to them do not leave.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 200, 5);
/// Nodes tried, and packets sent through each: enough that one of twenty endpoints is all but surely met.
const SEEDS: u64 = 24;
const WARM_UP: u16 = 4;
const PACKETS: u16 = 20;

/// One line of a file of packets.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// Folder of the dump.
    pub dump: String,
    /// Name of the packet.
    pub id: String,
    /// What was sent.
    pub packet: Sent,
    /// Kernel it was sent through.
    pub kernel: String,
    /// `iptables-legacy` or `nftables`.
    pub mode: String,
    /// Unit of the cost.
    pub unit: String,
    /// Median cost.
    pub value: f64,
    /// `dnat`, `rejected`, `dropped`, `passed` or `delivered_locally`.
    pub outcome: String,
    /// Source as the packet left.
    pub src_after: Option<String>,
    /// Where the last packet that was looked at went.
    pub dnat_dest_last_probe: Option<String>,
    /// The measured packets.
    pub samples: Option<Vec<Sample>>,
    /// The packet whose matches were recorded.
    pub one_packet_host618: Option<OnePacket>,
    /// What it matched.
    pub matched_rules: Option<Vec<Matched>>,
}

/// The packet of a record.
#[derive(Clone, Debug, Deserialize)]
pub struct Sent {
    /// What it is to show.
    pub kind: String,
    /// `tcp` or `udp`.
    pub proto: Proto,
    /// `pod`, `ext` or `host`.
    pub ingress: String,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

/// One measured packet.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    /// Where it went.
    pub dest: String,
}

/// The packet whose matches were recorded.
#[derive(Clone, Debug, Deserialize)]
pub struct OnePacket {
    /// Where it went.
    pub dest: String,
}

/// A rule that it matched: of iptables with its counter, of nftables with its verdict.
#[derive(Clone, Debug, Deserialize)]
pub struct Matched {
    table: Option<String>,
    packets: Option<u64>,
    chain: Option<String>,
    rule: String,
    verdict: Option<String>,
}

/// Reads a file of packets.
///
/// # Errors
/// Every wrong line as `line: what`.
pub fn parse_packets(text: &str) -> Result<Vec<Record>, Vec<String>> {
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(e) => errors.push(format!("{}: {e}", number + 1)),
        }
    }
    if errors.is_empty() { Ok(records) } else { Err(errors) }
}

/// What the model says of a record.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Cost, where the profile's kernel is the record's.
    pub predicted: Option<f64>,
    /// Work of the packet that costs it.
    pub work: Work,
    /// What differs, a line each.
    pub differences: Vec<String>,
}

/// A dump's rules, compiled.
pub struct DumpRig {
    rules: NodeRules,
    stack: Stack,
}

/// One packet through the model.
struct Shot {
    outcome: &'static str,
    dest: String,
    src: IpAddr,
    work: Work,
}

impl DumpRig {
    /// The name of the file of a dump's folder that has the rules of a mode.
    ///
    /// # Errors
    /// If the mode is none that was recorded.
    pub fn file(mode: &str) -> Result<&'static str, String> {
        match mode {
            "iptables-legacy" => Ok("iptables-save.legacy.txt"),
            "nftables" => Ok("nft.txt"),
            other => Err(format!("mode {other}: neither iptables-legacy nor nftables")),
        }
    }

    /// Reads and compiles the text of that file.
    ///
    /// # Errors
    /// If the text cannot be read or does not compile.
    pub fn new(mode: &str, text: &str) -> Result<Self, String> {
        let name = if mode == "nftables" { "nftables" } else { "iptables" };
        let dumps = proxy::mode(name).and_then(|mode| mode.dumps()).expect("a mode with dumps");
        let rules = dumps.read(text, Family::Ipv4).map_err(|e| e.to_string())?;
        let stack = Stack::new(&rules, 1).map_err(|e| e.to_string())?;
        Ok(DumpRig { rules, stack })
    }

    /// Sends the record's packet and compares.
    pub fn check(&self, record: &Record, profile: &CostProfile) -> Checked {
        if !record.packet.src.is_ipv4() || !record.packet.dst.is_ipv4() {
            let differences = vec!["not compared: only packets of IPv4 are rebuilt".to_owned()];
            return Checked { predicted: None, work: Work::new(), differences };
        }
        let mut shots: BTreeMap<String, Vec<Shot>> = BTreeMap::new();
        for seed in 0..SEEDS {
            let mut state = node(seed);
            for i in 0..WARM_UP + PACKETS {
                let shot = self.send(record, &mut state, i, &mut ());
                if i >= WARM_UP {
                    shots.entry(shot.dest.clone()).or_default().push(shot);
                }
            }
        }
        let mut differences = Vec::new();
        self.compare_outcome(record, &shots, &mut differences);
        self.compare_matches(record, &mut differences);
        let residency = profile.residency(&Locality::repeated(CacheState::Hot));
        let mut costs: Vec<(f64, Work)> = Vec::new();
        for (dest, shots) in &shots {
            let mut of_dest: Vec<(f64, Work)> =
                shots.iter().map(|s| (profile.cost(&s.work, &residency, true), s.work)).collect();
            of_dest.sort_by(|a, b| a.0.total_cmp(&b.0));
            let middle = of_dest[of_dest.len() / 2];
            let times = match &record.samples {
                Some(samples) => {
                    samples.iter().filter(|s| s.dest == *dest || shots[0].outcome != "dnat").count()
                }
                None => of_dest.len(),
            };
            costs.extend(std::iter::repeat_n(middle, times));
        }
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let middle = (!costs.is_empty()).then(|| {
            let (low, high) = (costs[(costs.len() - 1) / 2], costs[costs.len() / 2]);
            ((low.0 + high.0) / 2.0, low.1)
        });
        let own = record.kernel == profile.kernel && record.unit == profile.unit;
        Checked {
            predicted: middle.filter(|_| own).map(|m| m.0),
            work: middle.map_or(Work::new(), |m| m.1),
            differences,
        }
    }

    fn compare_outcome(&self, record: &Record, shots: &BTreeMap<String, Vec<Shot>>, out: &mut Vec<String>) {
        let all = || shots.values().flatten();
        if let Some(other) = all().find(|s| s.outcome != record.outcome) {
            out.push(format!("outcome: {} recorded, {} predicted", record.outcome, other.outcome));
            return;
        }
        if record.outcome != "dnat" && record.outcome != "passed" {
            return;
        }
        let samples = record.samples.iter().flatten().map(|s| &s.dest);
        let recorded = samples.chain(&record.dnat_dest_last_probe);
        for dest in recorded.chain(record.one_packet_host618.as_ref().map(|one| &one.dest)) {
            if record.outcome == "dnat" && !shots.contains_key(dest) {
                let possible: Vec<&str> = shots.keys().map(String::as_str).collect();
                out.push(format!("destination: {dest} recorded, {} possible", possible.join(", ")));
                return;
            }
        }
        let Some((ip, _)) = record.src_after.as_deref().and_then(|after| after.rsplit_once(':')) else {
            return;
        };
        for shot in all() {
            if shot.src.to_string() != ip {
                out.push(format!("source after: {ip} recorded, {} predicted", shot.src));
                return;
            }
        }
    }

    /// The rules that one packet matched, which went where the recorded one did.
    fn compare_matches(&self, record: &Record, out: &mut Vec<String>) {
        let (Some(recorded), Some(one)) = (&record.matched_rules, &record.one_packet_host618) else { return };
        let mut recorded: Vec<String> = recorded.iter().map(Matched::text).collect();
        // Counters have no order; a trace has.
        let counters = record.mode != "nftables";
        if counters {
            recorded.sort();
        }
        let mut nearest: Option<Vec<String>> = None;
        for seed in 0..SEEDS * 8 {
            let mut state = node(seed);
            let mut steps: Vec<Step> = Vec::new();
            let shot = self.send(record, &mut state, 0, &mut steps);
            if shot.outcome == "dnat" && shot.dest != one.dest {
                continue;
            }
            let mut ours = self.matches(&steps);
            if counters {
                ours.sort();
            }
            if ours == recorded {
                return;
            }
            nearest = Some(ours);
            break;
        }
        let Some(ours) = nearest else { return };
        for text in recorded.iter().filter(|text| !ours.contains(text)) {
            out.push(format!("matched only in the record: {text}"));
        }
        for text in ours.iter().filter(|text| !recorded.contains(text)) {
            out.push(format!("matched only in the model: {text}"));
        }
        if ours.len() == recorded.len() && ours.iter().all(|text| recorded.contains(text)) {
            out.push("matched in another order".to_owned());
        }
    }

    /// What an observer heard, in the words of a record.
    fn matches(&self, steps: &[Step]) -> Vec<String> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut trace = Vec::new();
        for step in steps {
            match *step {
                Step::XtMatched { table, chain, rule } => {
                    let table = &self.rules.xtables[table];
                    let chain = &table.chains[chain.0 as usize];
                    // The closing entry of a chain is no rule of a listing.
                    if let Some(rule) = chain.rules.get(rule as usize) {
                        let mut text = format!("{} ", table.name.name());
                        xtables::print::write_rule(table, &chain.name, rule, &mut text).expect("a String");
                        *counts.entry(text).or_default() += 1;
                    }
                }
                Step::NftRule { chain, rule, flow } if flow != Flow::Break => {
                    let table = self.rules.nftables.as_ref().expect("a rule of it ran");
                    let from = table.chain(chain);
                    let text = RuleText(table, &from.rules[rule as usize]);
                    let text = format!("{} {text}: {}", from.name, flow_text(table, flow));
                    trace.push(text.replace(" ip addr . port to ", " ip to "));
                }
                // The trace of nft is of one packet; what the node answers is another.
                Step::Tracked(_) if !trace.is_empty() => break,
                _ => {}
            }
        }
        trace.extend(counts.into_iter().map(|(text, n)| format!("{text}: {n}")));
        trace
    }

    fn send(
        &self,
        record: &Record,
        state: &mut NodeState,
        number: u16,
        observer: &mut impl crate::kernel::trace::Observer,
    ) -> Shot {
        let sent = &record.packet;
        let origin = match sent.ingress.as_str() {
            "host" => Origin::Host,
            "ext" => Origin::Wire,
            _ => Origin::Pod,
        };
        let flags = if sent.proto == Proto::Tcp { TcpFlags::SYN } else { TcpFlags::default() };
        let packet = Packet {
            proto: sent.proto,
            flags,
            ..Packet::tcp_syn(sent.src, 20_000 + number, sent.dst, sent.dport)
        };
        let now = SimTime::ZERO + SimSpan::from_ns(u64::from(number) * 1_000_000);
        let crossing = cross_observed(&self.stack, state, packet, origin, now, observer);
        let mut work = crossing.work;
        let local = [NEAR_PODS, NODE, NEAR_CLIENT].map(IpAddr::V4).contains(&crossing.packet.dst);
        let outcome = match crossing.verdict {
            Verdict::Dnat { .. } => "dnat",
            Verdict::Reject => {
                let routed = !local && (sent.ingress != "pod" || sent.src == CLIENT);
                let from = if sent.ingress == "pod" { NEAR_CLIENT } else { NODE };
                work += &answer::refuse(&self.stack, state, &packet, from.into(), routed, now, observer);
                "rejected"
            }
            Verdict::Drop => "dropped",
            Verdict::Accept if local => {
                if sent.proto == Proto::Tcp {
                    work += &answer::reset(&self.stack, state, &packet, now, observer).work;
                }
                "delivered_locally"
            }
            Verdict::Accept => "passed",
        };
        work[Unit::RngRefills] = 0;
        work[Unit::CtSlabPages] = 0;
        let dest = match crossing.verdict {
            Verdict::Dnat { to, .. } => to.to_string(),
            _ => String::new(),
        };
        let out = crossing.packet;
        Shot { outcome, dest, src: out.src, work }
    }
}

impl Matched {
    fn text(&self) -> String {
        match (&self.table, &self.chain) {
            (Some(table), _) => format!("{table} {}: {}", self.rule, self.packets.unwrap_or(1)),
            (None, Some(chain)) => {
                format!("{chain} {}: {}", self.rule, self.verdict.as_deref().unwrap_or_default())
            }
            (None, None) => self.rule.clone(),
        }
    }
}

fn flow_text(table: &nftables::Table, flow: Flow) -> String {
    use nftables::Verdict as V;
    match flow {
        Flow::Continue | Flow::Break => "continue".to_owned(),
        Flow::Reject => "drop".to_owned(),
        Flow::Verdict(V::Accept) => "accept".to_owned(),
        Flow::Verdict(V::Drop) => "drop".to_owned(),
        Flow::Verdict(V::Return) => "return".to_owned(),
        Flow::Verdict(V::Jump(to)) => format!("jump {}", table.chain(to).name),
        Flow::Verdict(V::Goto(to)) => format!("goto {}", table.chain(to).name),
    }
}

/// The node, before it has seen a packet.
fn node(seed: u64) -> NodeState {
    let mut state = NodeState::new(seed + 1, "dump", 2, &[NEAR_PODS.into(), NODE.into(), NEAR_CLIENT.into()]);
    for (network, own_addr, depth, queue) in ROUTES {
        let network = network.parse().expect("a constant");
        state.add_route(Route { network, own_addr: own_addr.into(), depth, queue });
    }
    state.icmp = IcmpLimit::off();
    state
}
