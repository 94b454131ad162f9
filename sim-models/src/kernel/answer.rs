//! What a node itself answers to a packet it did not pass on: an ICMP error, or the reset of a closed port.
//!
//! An error is made by `net/ipv4/icmp.c:icmp_send`: limited for all peers together and then for each of them
//! (`icmpv4_xrlim_allow`: a token a second, at most six saved), it passes OUTPUT and POSTROUTING. Connection
//! tracking looks for the connection that the error is about; a first packet's is not in the table, so the error
//! belongs to none and rules see it as invalid. A segment for a port that nobody listens on is answered by a reset
//! (`net/ipv4/tcp_ipv4.c:tcp_v4_send_reset`), which belongs to the segment's connection.
//!
//! Left out: the limit for all peers together, and errors about later packets of a connection, which are related to it.

use super::path::{Crossing, NodeState, Origin, Stack, cross_invalid, cross_observed};
use super::trace::Observer;
use sim_core::classify::{Packet, Proto, TcpFlags, Unit, Work};
use sim_core::units::SimTime;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Time for one more error to a peer (`icmp_ratelimit`).
const TOKEN_NS: u64 = 1_000_000_000;
/// Errors that a quiet peer may get at once (`XRLIM_BURST_FACTOR`).
const BURST: u64 = 6;

/// The limit of ICMP errors to each peer.
#[derive(Clone, Debug, Default)]
pub struct IcmpLimit {
    off: bool,
    /// Saved time and when it was counted, by peer.
    peers: BTreeMap<IpAddr, (u64, SimTime)>,
}

impl IcmpLimit {
    /// No limit (`icmp_ratelimit` of 0).
    pub fn off() -> Self {
        IcmpLimit { off: true, peers: BTreeMap::new() }
    }

    /// `inet_peer_xrlim_allow`: whether an error may go to `peer` now.
    pub fn allow(&mut self, peer: IpAddr, now: SimTime) -> bool {
        if self.off {
            return true;
        }
        let (saved, at) = self.peers.entry(peer).or_insert((BURST * TOKEN_NS, now));
        *saved = (*saved + now.since(*at).as_ns()).min(BURST * TOKEN_NS);
        *at = now;
        let allowed = *saved >= TOKEN_NS;
        *saved -= if allowed { TOKEN_NS } else { 0 };
        allowed
    }
}

/// The error to the sender of `packet`, which a rule refused: its work, or nothing if the limit stops it. `routed` says
/// that the packet was for another node and came in where answers to its sender leave: then the way back is looked up
/// as if the answer had come in (`icmp_route_lookup`).
pub fn refuse<O: Observer>(
    stack: &Stack,
    state: &mut NodeState,
    packet: &Packet,
    from: IpAddr,
    routed: bool,
    now: SimTime,
    observer: &mut O,
) -> Work {
    if !state.icmp.allow(packet.src, now) {
        return Work::new();
    }
    let error = Packet::new(Proto::Icmp, from, 0, packet.src, 0);
    let mut work = cross_invalid(stack, state, error, now, observer);
    work[Unit::IcmpErrors] += 1;
    work[Unit::IcmpRouted] += u32::from(routed);
    work[Unit::FibNodes] += state.fib_nodes(packet.src);
    if routed {
        work[Unit::FibNodes] += state.fib_nodes(packet.src) + state.fib_nodes(packet.dst);
    }
    work
}

/// The reset that answers `packet`, which was delivered to this node and asked for a port that is closed.
pub fn reset<O: Observer>(
    stack: &Stack,
    state: &mut NodeState,
    packet: &Packet,
    now: SimTime,
    observer: &mut O,
) -> Crossing {
    let answer = Packet {
        src: packet.dst,
        sport: packet.dport,
        dst: packet.src,
        dport: packet.sport,
        flags: TcpFlags { rst: true, ..TcpFlags::ACK },
        mark: 0,
        ..*packet
    };
    let mut crossing = cross_observed(stack, state, answer, Origin::Host, now, observer);
    crossing.work[Unit::TcpResets] += 1;
    crossing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_peer_gets_six_errors_at_once_and_then_one_a_second() {
        let (mut limit, peer) = (IcmpLimit::default(), "10.0.0.1".parse().unwrap());
        let sent = |limit: &mut IcmpLimit, from: u64, to: u64| {
            (from..to).filter(|&ms| limit.allow(peer, SimTime::from_ns(ms * 1_000_000))).count()
        };
        assert_eq!(sent(&mut limit, 0, 900), 6);
        assert_eq!(sent(&mut limit, 900, 3_900), 3);
        assert!((0..100).all(|_| IcmpLimit::off().allow(peer, SimTime::ZERO)));
    }
}
