//! The packets of a case, sent through its node one after the other.

use super::Rig;
use super::case::{Crowd, Probe};
use super::cell::Unpredicted;
use super::ruleset::{Addresses, NODE_PORTS, PORT, plus};
use crate::kernel::answer::{self, IcmpLimit};
use crate::kernel::conntrack::{ConntrackConfig, NatStatus, Tuple};
use crate::kernel::hook::KernelRandom;
use crate::kernel::ipvs::{IpvsConfig, IpvsState};
use crate::kernel::path::{Crossing, NodeState, Origin, Route, cross};
use sim_core::classify::{Family, Packet, Proto, TcpFlags, Verdict, Work};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};

/// Packets before the measured ones, and measured packets of one repetition.
const WARM_UP: u32 = 200;
const MEASURED: u32 = 200;
/// Nodes of the routing trie that the device for clients outside adds to every lookup.
const OUTSIDE_DEPTH: u32 = 2;
/// Conntrack entries of a table that is full.
const FULL: u32 = 65_536;

impl Rig {
    /// Whether what packets cost hangs on random choices made for earlier ones.
    pub(super) fn depends_on_history(&self) -> bool {
        self.case.affinity && !self.case.new_clients
    }

    /// A node that has seen nothing but what the case fills it with.
    pub(super) fn fresh_state(&self, seed: u64) -> NodeState {
        let addresses = Addresses::of(self.case.family);
        let mut state = NodeState::new(seed + 1, "rig", 2, &addresses.of_node());
        if self.outside {
            let network = match self.case.family {
                Family::Ipv4 => "0.0.0.0/0",
                Family::Ipv6 => "::/0",
            };
            state.add_route(Route {
                network: network.parse().expect("a constant"),
                own_addr: addresses.near_backends,
                depth: OUTSIDE_DEPTH,
                queue: false,
            });
        }
        if self.case.icmp_unlimited {
            state.icmp = IcmpLimit::off();
        }
        if let Some((_, bits)) = self.case.ipvs_conns {
            let config = IpvsConfig { conn_tab_bits: bits, ..IpvsConfig::default() };
            state.ipvs = IpvsState::new(config, Stream::new(seed + 1, "rig", "ipvs").next_u32());
        }
        if let Some((conns, _)) = self.case.ipvs_conns {
            for i in 0..conns {
                let others = plus(addresses.client, 1 + i / 50_000);
                let packet = self.packet(self.services / 2, 1024 + (i % 50_000) as u16);
                let packet = Packet { src: others, ..packet };
                let mut random = KernelRandom::new(Stream::new(seed + 1, "rig", "others"));
                state.ipvs.request(self.stack.ipvs(), &packet, SimTime::ZERO, &mut random, &mut Work::new());
            }
        }
        if let Some(crowd) = self.case.crowd {
            self.crowd(&mut state, crowd);
        }
        state
    }

    fn crowd(&self, state: &mut NodeState, crowd: Crowd) {
        let (n, answered) = match crowd {
            Crowd::Entries(n) => (n, true),
            Crowd::FullOfUnanswered => (FULL, false),
            Crowd::FullOfAnswered => (FULL, true),
        };
        let mut config = ConntrackConfig::for_cores(2);
        config.max = if matches!(crowd, Crowd::Entries(_)) { config.max.max(2 * n) } else { FULL };
        state.conntrack = state.conntrack.clone().configured(config);
        let addresses = Addresses::of(self.case.family);
        // One place is left for the flow of the metrics of later packets.
        for i in 0..n - u32::from(n == FULL) {
            let packet = Packet::tcp_syn(
                plus(addresses.outside, 1 + i / 50_000),
                1024 + (i % 50_000) as u16,
                addresses.endpoint(0),
                8080,
            );
            let tuple = Tuple::of(&packet);
            let (reply, nat) = (tuple.reversed(), NatStatus::default());
            let ct = &mut state.conntrack;
            let id = ct.insert(tuple, reply, nat, SimTime::ZERO, &mut Work::new()).expect("room is made");
            if answered {
                use crate::kernel::conntrack::Direction::{Original, Reply};
                ct.advance(id, Reply, TcpFlags::SYN_ACK, SimTime::ZERO);
                ct.advance(id, Original, TcpFlags::ACK, SimTime::ZERO);
            }
        }
    }

    /// Places of the Services that packets go to, in order.
    pub(super) fn places(&self, position: &str) -> Result<Vec<u32>, Unpredicted> {
        // Among the Services without endpoints where those are called.
        let (base, n) = match self.case.probe {
            Probe::PodToNoEndpoints => (self.services, self.case.without_endpoints),
            _ => (0, self.services),
        };
        let total = (WARM_UP + MEASURED) as usize;
        Ok(match position {
            "first" | "NA" => vec![base; total],
            "mid" => vec![base + n / 2; total],
            "last" => vec![base + n - 1; total],
            // Every part of the table equally often, in an order without pattern, so that the median has no
            // sampling error of its own.
            "rand" => {
                let mut stream = Stream::new(1, "rig", "positions");
                let mut places: Vec<u32> = Vec::new();
                for (round, measured) in [(WARM_UP, false), (MEASURED, true)] {
                    let mut part: Vec<u32> = (0..round).collect();
                    for i in (1..part.len()).rev() {
                        part.swap(i, stream.below(i as u64 + 1) as usize);
                    }
                    let share = f64::from(n) / f64::from(round);
                    let within = |stratum: u32, u: f64| ((f64::from(stratum) + u) * share) as u32;
                    let mut u = || if measured { 0.5 } else { stream.unit_f64() };
                    places.extend(part.into_iter().map(|s| base + within(s, u()).min(n - 1)));
                }
                places
            }
            other => return Err(Unpredicted(format!("position {other}: not first, mid, last or rand"))),
        })
    }

    /// The first packet of a flow to Service `place` from source port `sport`.
    fn packet(&self, place: u32, sport: u16) -> Packet {
        let a = Addresses::of(self.case.family);
        let (src, dst, dport) = match self.case.probe {
            Probe::PodToVip | Probe::PodToNoEndpoints => (a.client, a.vip(place), PORT),
            Probe::PodToPod => (a.client, a.endpoint(0), 8080),
            Probe::PodToClosedPort => (a.client, a.vip(self.services / 2), PORT + 1),
            Probe::PodToNoService => (a.client, plus(a.vip(0), 0x1_0000), PORT),
            Probe::WireToVip => (a.outside, a.vip(place), PORT),
            Probe::WireToNodePort => (a.outside, a.node, NODE_PORTS + place as u16),
            Probe::WireToExternalIp => (a.outside, a.external(place), PORT),
            Probe::WireToNode => (a.outside, a.node, 9),
            Probe::HostToVip { from_node_address: false } => (a.near_client, a.vip(place), PORT),
            Probe::HostToVip { from_node_address: true } => (a.node, a.vip(place), PORT),
        };
        let syn = Packet::tcp_syn(src, sport, dst, dport);
        match self.case.proto {
            Proto::Tcp => syn,
            proto => Packet { proto, ..syn.with_flags(TcpFlags::default()) },
        }
    }

    fn origin(&self) -> Origin {
        match self.case.probe {
            Probe::WireToVip | Probe::WireToNodePort | Probe::WireToExternalIp | Probe::WireToNode => {
                Origin::Wire
            }
            Probe::HostToVip { .. } => Origin::Host,
            _ => Origin::Pod,
        }
    }

    /// Sends the first packet of flow number `flow`.
    pub(super) fn send(&self, state: &mut NodeState, place: u32, flow: u32) -> Crossing {
        let mut packet = self.packet(place, 1024 + (flow % 60_000) as u16);
        if self.case.new_clients {
            packet.src = plus(packet.src, flow);
        }
        let now = SimTime::from_ns(u64::from(flow) * 100_000);
        let mut crossing = cross(&self.stack, state, packet, self.origin(), now);
        match (crossing.verdict, self.case.probe) {
            (Verdict::Reject, _) => {
                let from = Addresses::of(self.case.family).near_client;
                crossing.work += &answer::refuse(&self.stack, state, &packet, from, true, now, &mut ());
            }
            (Verdict::Accept, Probe::WireToNode) => {
                crossing.work += &answer::reset(&self.stack, state, &packet, now, &mut ()).work;
            }
            _ => {}
        }
        crossing
    }

    pub(super) fn first_packets(&self, places: &[u32], seed: u64) -> Vec<Crossing> {
        let mut state = self.fresh_state(seed);
        let all = places.iter().enumerate().map(|(i, &place)| self.send(&mut state, place, i as u32));
        all.skip(WARM_UP as usize).collect()
    }

    pub(super) fn later_packets(
        &self,
        places: &[u32],
        flows: u32,
        seed: u64,
    ) -> Result<Vec<Crossing>, Unpredicted> {
        let mut state = self.fresh_state(seed);
        let now = SimTime::ZERO + SimSpan::from_secs(1);
        let mut opened = Vec::new();
        for i in 0..flows {
            let place = places[i as usize % places.len()];
            let first = self.send(&mut state, place, i);
            if !matches!(first.verdict, Verdict::Accept | Verdict::Dnat { .. }) {
                return Err(Unpredicted("its first packet does not arrive: there are no later ones".into()));
            }
            let out = first.packet;
            let answer = Packet {
                src: out.dst,
                sport: out.dport,
                dst: out.src,
                dport: out.sport,
                flags: if out.proto == Proto::Tcp { TcpFlags::SYN_ACK } else { out.flags },
                ..out
            };
            let answer = Packet { mark: 0, ..answer };
            cross(&self.stack, &mut state, answer, Origin::Pod, now);
            let request = Packet { src: self.client(i), ..self.packet(place, 1024 + (i % 60_000) as u16) };
            let later = match request.proto {
                Proto::Tcp => request.with_flags(TcpFlags::ACK),
                _ => request,
            };
            cross(&self.stack, &mut state, later, self.origin(), now);
            opened.push(later);
        }
        let measured = MEASURED.max(flows.min(2000)) as usize;
        let packets = (0..measured).map(|i| opened[i % opened.len()]);
        Ok(packets.map(|p| cross(&self.stack, &mut state, p, self.origin(), now)).collect())
    }

    fn client(&self, flow: u32) -> std::net::IpAddr {
        let src = self.packet(0, 0).src;
        if self.case.new_clients { plus(src, flow) } else { src }
    }
}
