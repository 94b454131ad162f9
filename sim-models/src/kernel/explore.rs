//! Every way that one packet can go through a node, with its probability.
//!
//! A packet is sent again and again through a node that has seen nothing, depth first over the decisions by chance that
//! rules take on the way ([`super::draw`]): each leaf is one [`Branch`]. Probabilities are whole numbers of 2^-96, split at
//! each decision in the proportion of the random numbers that lead each way; what does not divide stays with the
//! option that was followed first, so that the branches add up to one exactly.
//!
//! Left out: decisions behind plain 32-bit draws (see [`super::draw`]), and everything that a node remembers of other
//! packets than the [`Flow`] before this one. IPVS schedulers decide by what they remember: see [`super::ipvs::shares`].

use super::conntrack::ConntrackConfig;
use super::draw::{Draw, Script};
use super::path::{Crossing, Ingress, NodeState, Origin, Stack, cross, cross_observed};
use super::trace::{Observer, Step};
use sim_core::classify::{Packet, Proto, TcpFlags, Verdict, Work};
use sim_core::units::{SimSpan, SimTime};
use std::net::IpAddr;

/// Certainty, in the unit of [`Branch::weight`].
pub const ONE: u128 = 1 << 96;

/// Branches that are followed at most: a cascade or map of more endpoints is cut there, and says so.
pub const MAX_BRANCHES: usize = 20_000;

/// Buckets of the connection table: enough that two tuples of one packet hardly ever share one.
const BUCKETS: u32 = 1 << 14;

/// What is sent, where.
pub struct Shot<'a> {
    /// The node's compiled rules.
    pub stack: &'a Stack,
    /// The node's addresses; masquerading uses the first.
    pub node_ips: &'a [IpAddr],
    /// Seed of everything random that is not explored.
    pub seed: u64,
    /// The packet.
    pub packet: Packet,
    /// Where it enters.
    pub origin: Origin,
    /// The device that it comes in by, where it has a name of its own.
    pub iface: Option<&'a str>,
    /// A connection that exists before.
    pub flow: Option<Flow>,
}

/// A connection that was made, and answered, before the packet comes.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its first packet.
    pub packet: Packet,
    /// Where that entered.
    pub origin: Origin,
    /// Which way it went.
    pub choices: Vec<u32>,
}

/// One way to go.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its probability in units of 1 / [`ONE`].
    pub weight: u128,
    /// What came out of each draw: sends the packet this way again.
    pub choices: Vec<u32>,
    /// What became of the packet.
    pub crossing: Crossing,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// In the order of rules and map entries.
    pub branches: Vec<Branch>,
    /// The probability of ways that were not followed, because there are more than [`MAX_BRANCHES`].
    pub unexplored: u128,
}

/// A step with what there was to see after it.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The step.
    pub step: Step,
    /// The packet after it.
    pub packet: Packet,
    /// All work up to it.
    pub work: Work,
}

#[derive(Default)]
struct Listener(Vec<Told>);

impl Observer for Listener {
    fn step(&mut self, step: Step, packet: &Packet, work: &Work) {
        self.0.push(Told { step, packet: *packet, work: *work });
    }
}

/// One way in full.
#[derive(Clone, Debug)]
pub struct Walked {
    /// What became of the packet.
    pub crossing: Crossing,
    /// Its steps.
    pub steps: Vec<Told>,
    /// Its draws, in order.
    pub draws: Vec<Draw>,
    /// The same client's next connection, a second later.
    pub next: NextConnection,
}

/// What becomes of a second connection of the same client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextConnection {
    /// The outcome.
    pub verdict: Verdict,
    /// Whether chance had a say.
    pub by_chance: bool,
}

impl Shot<'_> {
    /// Follows every decision.
    pub fn explore(&self) -> Exploration {
        let mut branches = Vec::new();
        // Ways to begin that were not taken yet, the next one last.
        let mut open: Vec<(Vec<u32>, u128)> = vec![(Vec::new(), ONE)];
        while branches.len() < MAX_BRANCHES
            && let Some((prefix, weight)) = open.pop()
        {
            let known = prefix.len();
            let (crossing, draws, _) = self.send(Script { choices: prefix, ..Script::default() }, &mut ());
            let choices: Vec<u32> = draws.iter().map(|draw| draw.option).collect();
            let mut left = weight;
            let mut others = Vec::new();
            for (at, draw) in draws.iter().enumerate().skip(known) {
                let mut taken = left;
                let (_, of) = draw.kind.share(0);
                let possible = (0..draw.kind.options()).filter(|o| *o != draw.option);
                for option in possible {
                    let (share, _) = draw.kind.share(option);
                    if share > 0 {
                        let weight = left / u128::from(of) * u128::from(share)
                            + left % u128::from(of) * u128::from(share) / u128::from(of);
                        taken -= weight;
                        let mut prefix = choices[..at].to_vec();
                        prefix.push(option);
                        others.push((prefix, weight, at));
                    }
                }
                left = taken;
            }
            // The next branch is the one that differs in the last decision, by its lowest option.
            others.sort_by(|(a, _, i), (b, _, j)| i.cmp(j).then(b.cmp(a)));
            open.extend(others.into_iter().map(|(prefix, weight, _)| (prefix, weight)));
            branches.push(Branch { weight: left, choices, crossing });
        }
        Exploration { branches, unexplored: open.iter().map(|(_, weight)| weight).sum() }
    }

    /// Goes one way, listening to every step.
    pub fn walk(&self, choices: &[u32]) -> Walked {
        let mut listener = Listener::default();
        let script = Script { choices: choices.to_vec(), ..Script::default() };
        let (crossing, draws, mut state) = self.send(script, &mut listener);
        let again = Packet { sport: other_port(self.packet.sport), ..self.packet };
        let again = if again.proto == Proto::Tcp { again.with_flags(TcpFlags::SYN) } else { again };
        state.random().script(Some(Box::default()));
        let later = self.now() + SimSpan::from_secs(1);
        let verdict = cross(self.stack, &mut state, again, self.ingress(), later).verdict;
        let script = state.random().script(None).expect("it was put there");
        let by_chance = script.draws.iter().any(|draw| draw.kind.options() > 1);
        Walked { crossing, steps: listener.0, draws, next: NextConnection { verdict, by_chance } }
    }

    /// Which way chance takes it under this seed.
    pub fn by_chance(&self) -> Vec<u32> {
        let (_, draws, _) = self.send(Script { by_chance: true, ..Script::default() }, &mut ());
        draws.iter().map(|draw| draw.option).collect()
    }

    fn ingress(&self) -> Ingress<'_> {
        self.iface.map_or(self.origin.into(), |name| Ingress::by(self.origin, name))
    }

    fn now(&self) -> SimTime {
        SimTime::ZERO + SimSpan::from_secs(1)
    }

    /// Sends the packet through a node that has seen nothing but the flow.
    fn send(&self, script: Script, observer: &mut impl Observer) -> (Crossing, Vec<Draw>, NodeState) {
        let mut state = NodeState::new(self.seed, "explain", 1, self.node_ips);
        // A few connections need no large table, which would have to be made anew for each way.
        let config = ConntrackConfig { buckets: BUCKETS, ..ConntrackConfig::for_cores(1) };
        state.conntrack = state.conntrack.clone().configured(config);
        if let Some(flow) = &self.flow {
            let dictated = Script { choices: flow.choices.clone(), ..Script::default() };
            state.random().script(Some(Box::new(dictated)));
            let there = cross(self.stack, &mut state, flow.packet, flow.origin, SimTime::ZERO);
            let answer = answer_to(there.packet);
            cross(self.stack, &mut state, answer, Origin::Pod, SimTime::ZERO + SimSpan::from_ms(1));
        }
        state.random().script(Some(Box::new(script)));
        let crossing =
            cross_observed(self.stack, &mut state, self.packet, self.ingress(), self.now(), observer);
        let script = state.random().script(None).expect("it was put there");
        (crossing, script.draws, state)
    }
}

/// The first answer to a packet as it left the node.
fn answer_to(packet: Packet) -> Packet {
    let Packet { src, dst, sport, dport, .. } = packet;
    let back = Packet { src: dst, dst: src, sport: dport, dport: sport, mark: 0, ..packet };
    if back.proto == Proto::Tcp { back.with_flags(TcpFlags::SYN_ACK) } else { back }
}

/// The port of the client's next connection.
fn other_port(port: u16) -> u16 {
    if port == u16::MAX { port - 1 } else { port + 1 }
}
