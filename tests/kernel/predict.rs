//! What the model says of a flow: where it comes out, and which rules' counters go up on the way.
//!
//! Where rules draw random numbers, the model is asked with one seed after another until it chooses what the kernel
//! chose: then the rules it matched must be the kernel's exactly. That it gives every choice its right share is tested
//! apart, by what it chose first.

use crate::bytes::destination;
use crate::flows::Episode;
use crate::place::{EXTRA, Point};
use sim_core::classify::{Packet, Proto, TcpFlags, Verdict, Work};
use sim_core::units::SimTime;
use sim_models::kernel::conntrack::{Conntrack, ConntrackConfig};
use sim_models::kernel::path::{NodeState, Origin, Stack, cross_observed};
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::trace::{Observer, Step};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Comes out there, to this address, from that one; a source port that is chosen at random is left out.
    Arrives { at: Point, to: SocketAddr, from: IpAddr, port: Option<u16> },
    /// Is told that it cannot go there.
    Rejected,
    /// Is not heard of.
    Dropped,
}

/// A counter: table, chain, place in it; a policy is one past the last rule.
pub type Counter = (String, String, usize);

/// Hits by counter.
pub type Hits = BTreeMap<Counter, u64>;

/// Hits by numbers of table, chain and rule, of xtables (0) or nftables (1).
type RawHits = BTreeMap<(u8, usize, u32, u32), u64>;

/// A fate for each packet of an episode, and the hits.
#[derive(Clone, Debug)]
pub struct Prediction {
    pub fates: Vec<Fate>,
    hits: RawHits,
}

/// The first prediction by seed that agrees with what was seen; the very first, and false, if none does.
pub fn agreeing(predict: impl Fn(u64) -> Prediction, agrees: impl Fn(&[Fate]) -> bool) -> (Prediction, bool) {
    const TRIES: u64 = 600;
    let first = predict(1);
    if agrees(&first.fates) {
        return (first, true);
    }
    match (2..=TRIES).map(predict).find(|next| agrees(&next.fates)) {
        Some(next) => (next, true),
        None => (first, false),
    }
}

/// The packet's headers turned round.
pub fn answer(packet: &Packet) -> Packet {
    Packet { src: packet.dst, dst: packet.src, sport: packet.dport, dport: packet.sport, mark: 0, ..*packet }
}

/// Rules as the model has them.
pub struct Model {
    rules: NodeRules,
    stack: Stack,
    /// The node's addresses, the primary one first.
    pub node_ips: Vec<IpAddr>,
}

struct Listener<'a>(&'a mut RawHits);

impl Observer for Listener<'_> {
    fn step(&mut self, step: Step, _: &Packet, _: &Work) {
        let counter = match step {
            Step::XtMatched { table, chain, rule } => (0, table, chain.0, rule),
            Step::NftRule { chain, rule, .. } => (1, 0, chain.0, rule),
            _ => return,
        };
        *self.0.entry(counter).or_default() += 1;
    }
}

impl Model {
    pub fn new(what: &str, rules: NodeRules, node_ips: &[IpAddr]) -> Self {
        let stack = Stack::new(&rules, 1).unwrap_or_else(|error| panic!("{what}: {error}"));
        let extra = EXTRA.map(|addr| addr.parse::<IpAddr>().expect("an address"));
        let mut node_ips = node_ips.to_vec();
        let is_ipv4 = node_ips[0].is_ipv4();
        node_ips.extend(extra.iter().filter(|addr| addr.is_ipv4() == is_ipv4));
        Model { rules, stack, node_ips }
    }

    /// What becomes of the episode, with these random numbers.
    pub fn predict(&self, episode: &Episode, seed: u64) -> Prediction {
        let mut state = self.state(seed);
        let mut prediction = Prediction { fates: Vec::new(), hits: RawHits::new() };
        for &packet in &episode.packets {
            self.send(&mut state, packet, episode.origin, &mut prediction);
        }
        prediction
    }

    /// A first packet, its answer, and one more: what becomes of each, as far as they get.
    pub fn converse(&self, episode: &Episode, seed: u64) -> Prediction {
        let mut state = self.state(seed);
        let mut prediction = Prediction { fates: Vec::new(), hits: RawHits::new() };
        let first = episode.packets[0];
        let arrived = self.send(&mut state, first, episode.origin, &mut prediction);
        if let Fate::Arrives { at, .. } = prediction.fates[0]
            && let Some(back) = at.origin()
        {
            let follows = |packet: Packet, flags| {
                if packet.proto == Proto::Tcp { packet.with_flags(flags) } else { packet }
            };
            self.send(&mut state, follows(answer(&arrived), TcpFlags::SYN_ACK), back, &mut prediction);
            self.send(&mut state, follows(first, TcpFlags::ACK), episode.origin, &mut prediction);
        }
        prediction
    }

    fn send(&self, state: &mut NodeState, packet: Packet, origin: Origin, into: &mut Prediction) -> Packet {
        let listener = &mut Listener(&mut into.hits);
        let end = cross_observed(&self.stack, state, packet, origin, SimTime::ZERO, listener);
        into.fates.push(match end.verdict {
            Verdict::Drop => Fate::Dropped,
            Verdict::Reject => Fate::Rejected,
            Verdict::Accept | Verdict::Dnat { .. } => {
                let at = Point::towards(end.packet.dst, &self.node_ips);
                // Masquerading chooses the port at random; an answer gets the one back that its side knows.
                let kept = end.packet.sport == packet.sport || !end.first && into.fates.len() == 1;
                let port = kept.then_some(end.packet.sport);
                Fate::Arrives { at, to: destination(&end.packet), from: end.packet.src, port }
            }
        });
        end.packet
    }

    fn state(&self, seed: u64) -> NodeState {
        let mut state = NodeState::new(seed, "node-a", 1, &self.node_ips);
        let small = ConntrackConfig { buckets: 64, ..ConntrackConfig::for_cores(1) };
        state.conntrack = Conntrack::new(small, (1, 2));
        state
    }

    /// Adds a prediction's hits by the names of their chains; those of policies if wanted.
    pub fn count(&self, prediction: &Prediction, policies: bool, hits: &mut Hits) {
        for (&(mechanism, table, chain, rule), &n) in &prediction.hits {
            let rule = rule as usize;
            let counter = if mechanism == 0 {
                let table = &self.rules.xtables[table];
                let chain = &table.chains[chain as usize];
                if rule == chain.rules.len() && !(policies && chain.base.is_some()) {
                    // The RETURN at the end of a chain has a counter that no tool shows.
                    continue;
                }
                (table.name.name().to_owned(), chain.name.to_string(), rule)
            } else {
                let table = self.rules.nftables.as_ref().expect("its rules were hit");
                ("nft".to_owned(), table.chains[chain as usize].name.to_string(), rule)
            };
            *hits.entry(counter).or_default() += n;
        }
    }
}
