//! The rounds of a cluster: packets to the kernel's node and to the model's, and every difference.
//!
//! - single packets: where each arrives, and all counters;
//! - connections of a packet, its answer and one more: the same;
//! - what the node itself answers: ICMP errors and resets.

use crate::bytes::Seen;
use crate::flows::Episode;
use crate::lab::{Backend, listed};
use crate::place::{Node, Point, Shot};
use crate::predict::{Fate, Hits, Model, agreeing, answer};
use sim_core::classify::{Family, Packet, Proto, TcpFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What a cluster's flows gave.
#[derive(Debug, Default)]
pub struct Tally {
    pub flows: usize,
    pub arrived: usize,
    pub rejected: usize,
    pub dropped: usize,
    pub counters: usize,
    pub differences: Vec<String>,
    /// Where flows of all rounds so far were seen: the kernel still tracks them when the next round begins.
    taken: Taken,
}

/// One family of a cluster on a node.
pub struct Side {
    pub family: Family,
    pub model: Model,
    pub episodes: Vec<Episode>,
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

/// Sources and destinations that flows were seen with.
type Taken = BTreeSet<(SocketAddr, SocketAddr)>;

fn taken(sightings: &Sightings) -> Taken {
    let ends = |p: &Packet| (SocketAddr::new(p.src, p.sport), SocketAddr::new(p.dst, p.dport));
    sightings.values().flatten().map(|(_, seen)| ends(&seen.packet)).collect()
}

/// Whether what was seen is the fate, answers aside. A port that the model keeps may by chance be one that the kernel drew
/// for another flow to the same place: then it takes another.
fn is(fate: Fate, sent: &Packet, seen: &[(Point, Seen)], taken: &Taken) -> bool {
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
                && port
                    .is_none_or(|port| port == p.sport || taken.contains(&(SocketAddr::new(from, port), to)))
                && p.proto == sent.proto
        }
    }
}

pub fn single_packets(node: &mut Node, backend: Backend, side: &Side, what: &str, tally: &mut Tally) {
    let packets = side.episodes.iter().flat_map(|e| e.packets.iter().map(move |&packet| (e, packet)));
    let shots = shots(packets);
    let before = listed(node, backend, side.family);
    let seen = fire(node, &shots);
    let after = listed(node, backend, side.family);
    tally.taken.extend(taken(&seen));
    let (none, taken) = (Vec::new(), tally.taken.clone());
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
                .all(|((fate, sent), id)| is(*fate, sent, of(id), &taken))
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

pub fn conversations(node: &mut Node, backend: Backend, side: &Side, what: &str, tally: &mut Tally) {
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
    tally.taken.extend(steps.iter().flat_map(taken));
    let taken = tally.taken.clone();
    for (episode, shot) in episodes.iter().zip(&firsts) {
        let seen: Vec<_> = steps.iter().map(|step| step.get(&shot.id).unwrap_or(&none)).collect();
        let agrees = |fates: &[Fate]| {
            let right = fates.iter().zip(&seen).all(|(fate, seen)| is(*fate, &shot.packet, seen, &taken));
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

pub fn answers_of_the_node(node: &mut Node, side: &Side, what: &str, tally: &mut Tally) {
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
