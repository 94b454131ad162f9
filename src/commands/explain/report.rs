//! An explanation as data: what `-o json` prints and every text is made from.
//!
//! Field names are part of the interface. Probabilities are numbers from 0 to 1 with the exact fraction beside them, where
//! rules decide; costs are in the unit of their profile.

use super::node::{SEED, Subject};
use super::packet::{flags_name, origin, origin_name};
use super::{cost, why};
use crate::cli::ExplainArgs;
use crate::exit::Failure;
use serde::Serialize;
use sim_core::classify::{Packet, Verdict, Work};
use sim_models::kernel::explore::{Branch, Exploration, Flow, ONE, Shot, Walked};
use sim_models::kernel::ipvs::{VirtualServer, shares};
use sim_models::kernel::narrative::{Event, narrate};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Everything about one packet on one node.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Version of this form.
    pub version: u32,
    /// The packet as it came.
    pub packet: String,
    /// Its TCP flags.
    pub flags: Option<String>,
    /// Its mark.
    pub mark: u32,
    /// Where it came from: `pod`, `wire` or `host`.
    pub origin: &'static str,
    /// The first packet of a connection that was there before.
    pub flow: Option<String>,
    /// Proxy mode.
    pub mode: &'static str,
    /// Whose rules, in words.
    pub rules: String,
    /// What becomes of it on the way that is shown: `ACCEPT`, `DNAT`, `DROP` or `REJECT`.
    pub verdict: &'static str,
    /// Accepted, but lost: it goes to an address that nobody has, or its answer goes past this node.
    pub blackhole: bool,
    /// The packet as it leaves on that way.
    pub leaves_as: String,
    /// Everything that can become of it.
    pub outcomes: Vec<Outcome>,
    /// Probability of ways that were not followed, because there are too many.
    pub unexplored: f64,
    /// The virtual server of IPVS that took it.
    pub ipvs: Option<Ipvs>,
    /// What the client's next connection gets.
    pub affinity: Option<String>,
    /// Why this became of it.
    pub reasons: Vec<String>,
    /// What to look at next.
    pub hints: Vec<String>,
    /// The way that is shown.
    pub walk: Vec<Event>,
    /// Units of work of that way; `windtunnel` calls them so everywhere.
    pub work: BTreeMap<&'static str, u32>,
    /// What that costs.
    pub cost: Vec<cost::Cost>,
    /// What a reader should know of the rules.
    pub notes: Vec<String>,
}

/// One thing that can become of the packet.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `ACCEPT`, `DNAT`, `DROP` or `REJECT`.
    pub verdict: &'static str,
    /// The new destination.
    pub to: Option<SocketAddr>,
    /// The source becomes the node's address.
    pub masquerade: bool,
    /// The backend is the client itself.
    pub hairpin: bool,
    /// How likely; of IPVS, the share in the long run, if the scheduler has such.
    pub probability: Option<f64>,
    /// The probability exactly, where rules decide.
    pub exact: Option<Fraction>,
    /// Whose address that is.
    pub who: Option<String>,
    /// Whether it is on the way that is shown.
    pub shown: bool,
}

/// A fraction in lowest terms; decimal digits, for they are too long for a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fraction {
    /// Above the line.
    pub numerator: String,
    /// Below it.
    pub denominator: String,
}

/// A virtual server.
#[derive(Clone, Debug, Serialize)]
pub struct Ipvs {
    /// Its address.
    pub server: SocketAddr,
    /// How it chooses.
    pub scheduler: String,
    /// Which it chooses next on a node without connections.
    pub next: Option<SocketAddr>,
    /// Seconds for which a client keeps its real server.
    pub persistence_seconds: Option<u32>,
}

/// One packet through one node.
pub struct Explained {
    /// The data.
    pub data: Explanation,
    /// Its work.
    pub work: Work,
}

/// Explains `packet`.
pub fn explain(
    args: &ExplainArgs,
    subject: &Subject,
    packet: Packet,
    flow: Option<Packet>,
) -> Result<Explained, Failure> {
    let (stack, unknown) = subject.compiled(args.allow_opaque)?;
    let from = origin(args.origin, &packet, subject);
    let shot = |packet, origin, flow| Shot {
        stack: &stack,
        node_ips: &subject.node_ips,
        seed: SEED,
        packet,
        origin,
        iface: args.in_interface.as_deref(),
        flow,
    };
    let (before, elsewhere) = match flow {
        None => (None, None),
        Some(first) => {
            let entered =
                if first == packet || args.flow.is_none() { from } else { origin(None, &first, subject) };
            let (flow, elsewhere) = choose_flow(&shot(first, entered, None), &packet)?;
            (Some(flow), elsewhere)
        }
    };
    let shot = shot(packet, from, before);
    let exploration = shot.explore();
    let choices = chosen(args, subject, &shot, &exploration)?;
    let walked = shot.walk(&choices);
    let walk = narrate(&subject.rules, &packet, &walked, args.full);
    let server = virtual_server(subject, &packet, &walk, &walked);
    let outcomes = outcomes(subject, &packet, &exploration, &walked, server.as_ref());
    let ipvs = server.map(|server| Ipvs {
        server: SocketAddr::new(server.addr, server.port),
        scheduler: server.scheduler.to_string(),
        next: destination(&walked.crossing.verdict),
        persistence_seconds: server.persistence_seconds,
    });
    let work = walked.crossing.work;
    let mut data = Explanation {
        version: 1,
        packet: packet.to_string(),
        flags: flags_name(&packet),
        mark: packet.mark,
        origin: origin_name(from),
        flow: shot.flow.as_ref().map(|flow| flow.packet.to_string()),
        mode: subject.mode.name(),
        rules: subject.what.clone(),
        verdict: verdict_name(&walked.crossing.verdict),
        blackhole: false,
        leaves_as: walked.crossing.packet.to_string(),
        outcomes,
        unexplored: share(exploration.unexplored),
        ipvs,
        affinity: None,
        reasons: Vec::new(),
        hints: Vec::new(),
        walk,
        work: work.iter().map(|(unit, n)| (unit.name(), n)).collect(),
        cost: cost::costs(&args.profile, subject, &walked.crossing, &exploration)?,
        notes: [subject.notes.clone(), unknown].concat(),
    };
    data.affinity = affinity(subject, &data, &walked, flow.is_some());
    why::explain(subject, &packet, &walked, &mut data);
    data.hints.extend(elsewhere);
    Ok(Explained { data, work })
}

/// The connection before, going to where `packet` comes from if it is an answer; and where it goes otherwise, which
/// is told if the packet looks like an answer.
fn choose_flow(shot: &Shot<'_>, packet: &Packet) -> Result<(Flow, Option<String>), Failure> {
    let exploration = shot.explore();
    let from = SocketAddr::new(packet.src, packet.sport);
    let answers = |branch: &&Branch| destination(&branch.crossing.verdict) == Some(from);
    let passed = |branch: &&Branch| !matches!(branch.crossing.verdict, Verdict::Drop | Verdict::Reject);
    let branches = &exploration.branches;
    let branch = branches.iter().find(answers).or_else(|| branches.iter().find(passed)).ok_or_else(|| {
        let verdict = verdict_name(&branches[0].crossing.verdict);
        Failure::Input(format!(
            "error: the connection before does not come about: {} gets {verdict}\n  = explain that packet first\n",
            shot.packet
        ))
    })?;
    let to = destination(&branch.crossing.verdict).filter(|to| *to != from);
    let elsewhere = to.filter(|_| packet.dst == shot.packet.src && packet.src != shot.packet.src).map(|to| {
        format!("the connection of --flow went to {to}: an answer in it comes from there, not from {from}")
    });
    Ok((Flow { packet: shot.packet, origin: shot.origin, choices: branch.choices.clone() }, elsewhere))
}

/// Which way is shown.
fn chosen(
    args: &ExplainArgs,
    subject: &Subject,
    shot: &Shot<'_>,
    exploration: &Exploration,
) -> Result<Vec<u32>, Failure> {
    if let Some(seed) = args.seed {
        return Ok(Shot { seed, flow: shot.flow.clone(), ..*shot }.by_chance());
    }
    let first = &exploration.branches[0];
    let Some(wanted) = &args.to else { return Ok(first.choices.clone()) };
    let fits = |to: SocketAddr| to.to_string() == *wanted || to.ip().to_string() == *wanted;
    let found =
        exploration.branches.iter().find(|branch| destination(&branch.crossing.verdict).is_some_and(fits));
    found.map(|branch| branch.choices.clone()).ok_or_else(|| {
        let backends: Vec<String> = merged(exploration)
            .into_iter()
            .filter_map(|(verdict, _)| destination(&verdict).map(|to| to.to_string()))
            .take(12)
            .collect();
        let text = format!("error: --to: no way leads to {wanted}\n");
        let ipvs =
            if subject.rules.ipvs.is_empty() { "" } else { " (of IPVS only the next choice is known)" };
        Failure::Input(match backends.is_empty() {
            true => text + "  = the packet gets no new destination\n",
            false => text + &format!("  = allowed: {}{ipvs}\n", backends.join(", ")),
        })
    })
}

/// Verdicts in order of their first way, each with its weight.
fn merged(exploration: &Exploration) -> Vec<(Verdict, u128)> {
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    let mut out: Vec<(Verdict, u128)> = Vec::new();
    for branch in &exploration.branches {
        let next = out.len();
        let verdict = branch.crossing.verdict;
        match *at.entry(verdict.to_string()).or_insert(next) {
            known if known < next => out[known].1 += branch.weight,
            _ => out.push((verdict, branch.weight)),
        }
    }
    out
}

fn outcomes(
    subject: &Subject,
    packet: &Packet,
    exploration: &Exploration,
    walked: &Walked,
    server: Option<&VirtualServer>,
) -> Vec<Outcome> {
    let outcome = |verdict: &Verdict, shown: bool| {
        let to = destination(verdict);
        Outcome {
            verdict: verdict_name(verdict),
            to,
            masquerade: matches!(verdict, Verdict::Dnat { masquerade: true, .. })
                || (*verdict == Verdict::Accept && walked.crossing.packet.src != packet.src),
            hairpin: to.is_some_and(|to| to.ip() == packet.src),
            probability: None,
            exact: None,
            who: to.and_then(|to| why::who(subject, to)),
            shown,
        }
    };
    // What IPVS chooses follows from connections that only the node knows: its real servers by their shares.
    if let (Some(server), Verdict::Dnat { to: next, masquerade }) = (server, walked.crossing.verdict)
        && walked.crossing.first
    {
        let long_run = shares::long_run(server);
        let all: u64 = long_run.iter().flatten().map(|(_, weight)| u64::from(*weight)).sum();
        let real = server.real.iter().filter(|real| real.weight > 0);
        return real
            .map(|real| {
                let weights = long_run.as_ref().map(|list| {
                    let of = list.iter().find(|(addr, _)| *addr == real.addr);
                    u64::from(of.map_or(0, |(_, weight)| *weight))
                });
                Outcome {
                    probability: weights.map(|weight| weight as f64 / all.max(1) as f64),
                    exact: weights.map(|weight| fraction(u128::from(weight), u128::from(all.max(1)))),
                    ..outcome(&Verdict::Dnat { to: real.addr, masquerade }, real.addr == next)
                }
            })
            .collect();
    }
    let merged = merged(exploration);
    merged
        .iter()
        .map(|(verdict, weight)| Outcome {
            probability: Some(share(*weight)),
            exact: Some(fraction(*weight, ONE)),
            ..outcome(verdict, *verdict == walked.crossing.verdict)
        })
        .collect()
}

/// The virtual server that took the packet, or would have.
fn virtual_server(
    subject: &Subject,
    packet: &Packet,
    walk: &[Event],
    walked: &Walked,
) -> Option<VirtualServer> {
    let by_step = walk.iter().find_map(|event| match event {
        Event::Destination { virtual_server, .. } => *virtual_server,
        _ => None,
    });
    let refused = walked.crossing.verdict == Verdict::Reject;
    let at = by_step.or(refused.then(|| SocketAddr::new(packet.dst, packet.dport)))?;
    let mut servers = subject.rules.ipvs.iter();
    servers.find(|s| (s.addr, s.port, s.proto) == (at.ip(), at.port(), packet.proto)).cloned()
}

/// What the next connection of this client gets, if that is not left to chance again.
fn affinity(subject: &Subject, data: &Explanation, walked: &Walked, has_flow: bool) -> Option<String> {
    let to = destination(&walked.crossing.verdict).filter(|_| !has_flow)?;
    let same = destination(&walked.next.verdict) == Some(to) && !walked.next.by_chance;
    let seconds = why::affinity_seconds(subject, data);
    match (seconds, same) {
        (Some(seconds), true) => Some(format!(
            "this client's connections of the next {} all go to {to}, each renewing the time",
            time(seconds)
        )),
        (Some(seconds), false) => Some(format!(
            "the Service has ClientIP affinity for {}, but the next connection does not stick to {to}",
            time(seconds)
        )),
        (None, _) => None,
    }
}

/// Seconds as people say them.
fn time(seconds: u32) -> String {
    match seconds {
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// The new destination.
pub fn destination(verdict: &Verdict) -> Option<SocketAddr> {
    match verdict {
        Verdict::Dnat { to, .. } => Some(*to),
        _ => None,
    }
}

/// As iptables writes it.
pub fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "ACCEPT",
        Verdict::Dnat { .. } => "DNAT",
        Verdict::Drop => "DROP",
        Verdict::Reject => "REJECT",
    }
}

fn share(weight: u128) -> f64 {
    weight as f64 / ONE as f64
}

fn fraction(numerator: u128, denominator: u128) -> Fraction {
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let divisor = a.max(1);
    Fraction {
        numerator: (numerator / divisor).to_string(),
        denominator: (denominator / divisor).to_string(),
    }
}

/// Where the packet entered, for texts.
pub fn entered(origin: &str) -> &'static str {
    match origin {
        "pod" => "from a pod of the node",
        "wire" => "from the network",
        _ => "from the node itself",
    }
}
