//! What the table keeps, for how long, and whom it turns away.

use super::tcp::TcpState;
use super::*;
use sim_core::classify::Proto;
use std::net::SocketAddr;

const RST: TcpFlags = TcpFlags { rst: true, ..TcpFlags::ACK };

fn tuple(sport: u16) -> Tuple {
    let at = |ip: [u8; 4], port| SocketAddr::from((ip, port));
    Tuple { src: at([10, 0, 0, 1], sport), dst: at([10, 96, 0, 1], 80), proto: Proto::Tcp }
}

fn of(proto: Proto, sport: u16) -> Tuple {
    Tuple { proto, ..tuple(sport) }
}

fn table(buckets: u32, max: u32) -> Conntrack {
    let config = ConntrackConfig { buckets, max, ..ConntrackConfig::for_cores(1) };
    Conntrack::new(config, (1, 2))
}

fn at(ms: u64) -> SimTime {
    SimTime::ZERO + SimSpan::from_ms(ms)
}

fn begun(ct: &mut Conntrack, tuple: Tuple, now: SimTime) -> New {
    let (found, bucket) = ct.lookup_hashed(&tuple, now, &mut Work::new());
    assert_eq!(found, None);
    ct.open(tuple, bucket, TcpFlags::SYN, now, &mut Work::new()).unwrap()
}

fn opened(ct: &mut Conntrack, tuple: Tuple, now: SimTime) -> ConnId {
    let new = begun(ct, tuple, now);
    match ct.confirm(new, now, &mut Work::new()) {
        Confirmed::Entered(id) => id,
        other => panic!("{other:?}"),
    }
}

fn establish(ct: &mut Conntrack, id: ConnId, now: SimTime) {
    ct.advance(id, Direction::Reply, TcpFlags::SYN_ACK, now);
    ct.advance(id, Direction::Original, TcpFlags::ACK, now);
}

fn left(ct: &Conntrack, id: ConnId, now: SimTime) -> f64 {
    ct.conn(id).expires().since(now).as_secs_f64()
}

#[test]
fn a_connection_is_found_from_both_sides() {
    let (mut ct, mut work) = (table(4, 100), Work::new());
    for sport in 1..50 {
        opened(&mut ct, tuple(sport), SimTime::ZERO);
    }
    for sport in 1..50 {
        let (a, d) = ct.lookup(&tuple(sport), SimTime::ZERO, &mut work).unwrap();
        let (b, r) = ct.lookup(&tuple(sport).reversed(), SimTime::ZERO, &mut work).unwrap();
        assert_eq!((a, d, r), (b, Direction::Original, Direction::Reply));
    }
    assert_eq!(ct.lookup(&tuple(50), SimTime::ZERO, &mut work), None);
}

#[test]
fn chains_grow_with_two_nodes_a_connection() {
    let (mut ct, mut work) = (table(64, 10_000), Work::new());
    for sport in 1..=640 {
        let t = tuple(sport);
        ct.insert(t, t.reversed(), NatStatus::default(), SimTime::ZERO, &mut work).unwrap();
    }
    let mut miss = Work::new();
    for sport in 10_000..12_000 {
        assert!(ct.lookup(&tuple(sport), SimTime::ZERO, &mut miss).is_none());
    }
    let mean = f64::from(miss[Unit::CtChainSteps]) / 2000.0;
    assert!((19.0..21.0).contains(&mean), "2 x 640 / 64 = 20 expected, {mean} counted");
}

#[test]
fn a_connection_for_a_bucket_of_more_than_fifty_to_eighty_is_dropped() {
    let (mut ct, mut entered) = (table(1, 1000), 0);
    for sport in 1..100 {
        let new = begun(&mut ct, tuple(sport), SimTime::ZERO);
        match ct.confirm(new, SimTime::ZERO, &mut Work::new()) {
            Confirmed::Entered(_) => entered += 1,
            Confirmed::ChainTooLong => {}
            other => panic!("{other:?}"),
        }
    }
    // Two nodes each; the limit is drawn anew each time, so that the longest draw is soon met.
    assert!((26..=40).contains(&entered), "{entered}");
    assert_eq!(ct.len(), entered);
}

#[test]
fn an_unanswered_syn_expires_after_two_minutes_and_its_place_is_reused() {
    let (mut ct, mut work) = (table(8, 100), Work::new());
    opened(&mut ct, tuple(1), SimTime::ZERO);
    assert!(ct.lookup(&tuple(1), at(119_999), &mut work).is_some());
    assert!(ct.lookup(&tuple(1), at(120_000), &mut work).is_none());
    assert!(ct.is_empty());
    assert_eq!(opened(&mut ct, tuple(2), at(120_000)), 0);
}

#[test]
fn each_state_of_tcp_has_its_own_lifetime() {
    let mut ct = table(8, 100);
    let id = opened(&mut ct, tuple(1), SimTime::ZERO);
    let fin = TcpFlags::FIN_ACK;
    let (original, reply) = (Direction::Original, Direction::Reply);
    let mut now = SimTime::ZERO;
    for (direction, flags, state, seconds, assured) in [
        (reply, TcpFlags::SYN_ACK, TcpState::SynRecv, 60.0, false),
        (original, TcpFlags::ACK, TcpState::Established, 86_400.0, true),
        (original, fin, TcpState::FinWait, 120.0, true),
        (reply, TcpFlags::ACK, TcpState::CloseWait, 3600.0, true),
        (reply, fin, TcpState::LastAck, 30.0, true),
        (original, TcpFlags::ACK, TcpState::TimeWait, 120.0, true),
        (reply, RST, TcpState::Close, 10.0, true),
    ] {
        now += SimSpan::from_secs(1);
        assert_eq!(ct.packet(id, direction, flags, now), Passage::Accepted);
        let conn = ct.conn(id);
        assert_eq!((conn.tcp_state(), conn.is_assured()), (Some(state), assured));
        assert_eq!(left(&ct, id, now), seconds, "{state:?}");
    }
}

#[test]
fn a_reset_that_is_the_only_answer_ends_the_connection() {
    let mut ct = table(8, 100);
    let id = opened(&mut ct, tuple(1), SimTime::ZERO);
    assert_eq!(ct.packet(id, Direction::Reply, RST, SimTime::ZERO), Passage::Ended);
    assert!(ct.is_empty());
}

#[test]
fn a_closed_connection_is_reopened_by_a_syn_as_a_new_one() {
    let mut ct = table(8, 100);
    let id = opened(&mut ct, tuple(1), SimTime::ZERO);
    establish(&mut ct, id, SimTime::ZERO);
    assert_eq!(ct.packet(id, Direction::Original, TcpFlags::SYN, SimTime::ZERO), Passage::Accepted);
    ct.advance(id, Direction::Original, RST, SimTime::ZERO);
    assert_eq!(ct.packet(id, Direction::Reply, TcpFlags::SYN_ACK, SimTime::ZERO), Passage::Accepted);
    ct.advance(id, Direction::Original, RST, SimTime::ZERO);
    assert_eq!(ct.packet(id, Direction::Original, TcpFlags::SYN, SimTime::ZERO), Passage::Reopened);
    assert!(ct.lookup(&tuple(1), SimTime::ZERO, &mut Work::new()).is_none());
}

#[test]
fn an_invalid_packet_moves_nothing() {
    let mut ct = table(8, 100);
    let id = opened(&mut ct, tuple(1), SimTime::ZERO);
    let expires = ct.conn(id).expires();
    assert_eq!(ct.packet(id, Direction::Original, TcpFlags::ACK, at(5)), Passage::Invalid);
    assert_eq!((ct.conn(id).expires(), ct.conn(id).tcp_state()), (expires, Some(TcpState::SynSent)));
    let bare = ct.open(tuple(9), 0, TcpFlags::SYN_ACK, SimTime::ZERO, &mut Work::new());
    assert!(matches!(bare, Err(Refused::Invalid)));
    assert_eq!(ct.len(), 1);
}

#[test]
fn a_udp_flow_is_a_stream_once_answered_and_two_seconds_old() {
    let mut ct = table(8, 100);
    let id = opened(&mut ct, of(Proto::Udp, 1), SimTime::ZERO);
    let mut step = |direction, ms: u64| {
        ct.advance(id, direction, TcpFlags::default(), at(ms));
        (left(&ct, id, at(ms)), ct.conn(id).is_assured())
    };
    assert_eq!(step(Direction::Original, 3000), (30.0, false), "no answer, however old");
    // The answer itself comes before it counts.
    assert_eq!(step(Direction::Reply, 3001), (30.0, false));
    assert_eq!(step(Direction::Original, 3002), (120.0, true));
    let other = opened(&mut ct, of(Proto::Udp, 2), at(4000));
    ct.advance(other, Direction::Reply, TcpFlags::default(), at(4100));
    ct.advance(other, Direction::Original, TcpFlags::default(), at(4200));
    assert_eq!((left(&ct, other, at(4200)), ct.conn(other).is_assured()), (30.0, false), "too young");
}

#[test]
fn icmp_lives_half_a_minute_and_is_never_assured_and_sctp_is_after_its_handshake() {
    let mut ct = table(8, 100);
    let (now, none) = (SimTime::ZERO, TcpFlags::default());
    let ping = opened(&mut ct, of(Proto::Icmp, 0), now);
    ct.advance(ping, Direction::Reply, none, now);
    ct.advance(ping, Direction::Original, none, now);
    assert_eq!((left(&ct, ping, now), ct.conn(ping).is_assured()), (30.0, false));
    let sctp = opened(&mut ct, of(Proto::Sctp, 1), now);
    let mut seen = vec![(left(&ct, sctp, now), false)];
    for direction in [Direction::Reply, Direction::Original, Direction::Reply, Direction::Original] {
        ct.advance(sctp, direction, none, now);
        seen.push((left(&ct, sctp, now), ct.conn(sctp).is_assured()));
    }
    assert_eq!(seen, [(3.0, false), (3.0, false), (3.0, false), (210.0, true), (210.0, true)]);
}

#[test]
fn a_full_table_throws_out_all_that_is_unassured_in_a_bucket_and_keeps_the_rest() {
    let mut ct = table(1, 3);
    let kept = opened(&mut ct, tuple(1), SimTime::ZERO);
    establish(&mut ct, kept, SimTime::ZERO);
    opened(&mut ct, tuple(2), SimTime::ZERO);
    opened(&mut ct, tuple(3), SimTime::ZERO);
    let mut work = Work::new();
    let new = ct.open(tuple(4), 0, TcpFlags::SYN, SimTime::ZERO, &mut work).unwrap();
    assert_eq!(work[Unit::CtEvictions], 2);
    assert!(matches!(ct.confirm(new, SimTime::ZERO, &mut work), Confirmed::Entered(_)));
    for (sport, there) in [(1, true), (2, false), (3, false), (4, true)] {
        assert_eq!(ct.lookup(&tuple(sport), SimTime::ZERO, &mut work).is_some(), there, "{sport}");
    }
}

#[test]
fn a_table_full_of_assured_connections_turns_packets_away_until_some_expire_or_close() {
    let mut ct = table(1, 2);
    for sport in [1, 2] {
        let id = opened(&mut ct, tuple(sport), SimTime::ZERO);
        establish(&mut ct, id, SimTime::ZERO);
    }
    let refused = |ct: &mut Conntrack, now| {
        matches!(ct.open(tuple(4), 0, TcpFlags::SYN, now, &mut Work::new()), Err(Refused::Full))
    };
    assert!(refused(&mut ct, at(0)));
    assert_eq!(
        ct.insert(tuple(4), tuple(4).reversed(), NatStatus::default(), at(0), &mut Work::new()),
        Err(TableFull)
    );
    // A closing connection is still assured; but the collector, told of the drop, takes it at its next sweep.
    ct.advance(0, Direction::Original, TcpFlags::FIN_ACK, at(100));
    assert!(refused(&mut ct, at(500)));
    assert!(!refused(&mut ct, at(1000)));
    assert_eq!(ct.len(), 1);
}

#[test]
fn a_connection_under_way_takes_its_place_in_the_count_until_it_is_abandoned() {
    let mut ct = table(64, 1);
    let first = begun(&mut ct, tuple(1), SimTime::ZERO);
    assert!(matches!(
        ct.open(tuple(2), 0, TcpFlags::SYN, SimTime::ZERO, &mut Work::new()),
        Err(Refused::Full)
    ));
    ct.abandon(first);
    let second = begun(&mut ct, tuple(2), SimTime::ZERO);
    assert!(matches!(ct.confirm(second, SimTime::ZERO, &mut Work::new()), Confirmed::Entered(_)));
}

/// Two first packets of one flow, the second with its answers from `other`.
fn clash(proto: Proto, nat_done: bool, other: [u8; 4]) -> (Conntrack, Confirmed) {
    let mut ct = table(64, 100);
    let (now, flow) = (SimTime::ZERO, of(proto, 1));
    let to = |ip: [u8; 4]| Tuple { src: SocketAddr::from((ip, 53)), ..flow.reversed() };
    let both = [begun(&mut ct, flow, now), begun(&mut ct, flow, now)];
    let [first, second] = both.map(|n| New { nat_done, ..n });
    let winner = ct.confirm(New { reply: to([10, 244, 0, 1]), ..first }, now, &mut Work::new());
    assert_eq!(winner, Confirmed::Entered(0));
    let loser = ct.confirm(New { reply: to(other), ..second }, now, &mut Work::new());
    (ct, loser)
}

#[test]
fn of_two_first_packets_of_a_udp_socket_the_second_keeps_its_own_backend_for_a_second() {
    let (mut ct, loser) = clash(Proto::Udp, true, [10, 244, 0, 2]);
    let Confirmed::ReplyOnly(id) = loser else { panic!("{loser:?}") };
    let mut work = Work::new();
    assert_eq!(left(&ct, id, SimTime::ZERO), 1.0);
    // Further packets of the socket are of the first; the second backend's answer is of the second.
    assert_eq!(ct.lookup(&of(Proto::Udp, 1), at(1), &mut work), Some((0, Direction::Original)));
    let answer = ct.conn(id).reply;
    assert_eq!(ct.lookup(&answer, at(1), &mut work), Some((id, Direction::Reply)));
    ct.advance(id, Direction::Reply, TcpFlags::default(), at(500));
    assert_eq!(left(&ct, id, SimTime::ZERO), 1.0, "no packet makes it live longer");
    assert_eq!(ct.lookup(&answer, at(1000), &mut work), None);
    assert_eq!(ct.len(), 1);
}

#[test]
fn the_same_udp_flow_is_merged_and_a_tcp_packet_that_clashes_is_dropped() {
    assert_eq!(clash(Proto::Udp, true, [10, 244, 0, 1]).1, Confirmed::Merged(0));
    // Without NAT two flows cannot differ but in what nobody wanted.
    assert_eq!(clash(Proto::Udp, false, [10, 244, 0, 2]).1, Confirmed::Merged(0));
    let (ct, dropped) = clash(Proto::Tcp, true, [10, 244, 0, 2]);
    assert_eq!((dropped, ct.len(), ct.pending), (Confirmed::Clash, 1, 0));
    assert_eq!(clash(Proto::Tcp, true, [10, 244, 0, 1]).1, Confirmed::Clash);
}

#[test]
fn a_udp_flow_whose_answers_are_anothers_is_dropped() {
    let mut ct = table(64, 100);
    let now = SimTime::ZERO;
    let (a, b) = (begun(&mut ct, of(Proto::Udp, 1), now), begun(&mut ct, of(Proto::Udp, 2), now));
    let reply = of(Proto::Udp, 7).reversed();
    let done = |n: New| New { reply, nat_done: true, ..n };
    assert_eq!(ct.confirm(done(a), now, &mut Work::new()), Confirmed::Entered(0));
    assert_eq!(ct.confirm(done(b), now, &mut Work::new()), Confirmed::Clash);
}

#[test]
fn a_mark_stays_with_the_connection_and_a_flush_takes_what_it_is_told() {
    let mut ct = table(64, 100);
    for sport in 1..10 {
        let id = opened(&mut ct, of(Proto::Udp, sport), SimTime::ZERO);
        ct.set_mark(id, u32::from(sport));
    }
    assert_eq!(ct.conn(3).mark, 4);
    assert_eq!(ct.flush(|original, _| original.src.port() % 2 == 0), 4);
    assert_eq!(ct.conns().map(|c| c.mark).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
}

#[test]
fn a_source_is_found_again_by_whoever_asks_for_its_translation() {
    let mut ct = table(64, 100);
    let now = SimTime::ZERO;
    let node = SocketAddr::from(([192, 168, 0, 2], 777));
    let enter = |ct: &mut Conntrack, sport, to: SocketAddr| {
        let t = tuple(sport);
        ct.insert(
            t,
            Tuple { dst: to, ..t.reversed() },
            NatStatus { dst: false, src: true },
            now,
            &mut Work::new(),
        )
    };
    enter(&mut ct, 1, node).unwrap();
    let mut work = Work::new();
    assert_eq!(ct.translated_source(&tuple(1), |_| true, &mut work), Some(node));
    assert_eq!(ct.translated_source(&tuple(1), |at| at.port() == 5, &mut work), None);
    let late = enter(&mut ct, 2, node).unwrap();
    assert_eq!(ct.translated_source(&tuple(2), |_| true, &mut work), Some(node));
    ct.remove(late);
    assert_eq!(ct.translated_source(&tuple(2), |_| true, &mut work), None);
}

#[test]
fn the_hash_is_that_of_the_fields_one_after_another() {
    use std::hash::Hasher as _;
    let ct = table(1 << 20, 1);
    let t = tuple(4711);
    let mut h = SipHasher24::new_with_keys(1, 2);
    for addr in [t.src, t.dst] {
        let std::net::IpAddr::V4(ip) = addr.ip() else { unreachable!() };
        h.write_u32(ip.into());
        h.write_u16(addr.port());
    }
    h.write_u8(6);
    assert_eq!(ct.bucket(&t), reciprocal_scale((h.finish() >> 32) as u32, 1 << 20));
}
