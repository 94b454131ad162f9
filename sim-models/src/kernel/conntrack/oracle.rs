//! The table against the simplest thing that does the same: an ordered map from tuple to connection.

use super::*;
use proptest::prelude::*;
use sim_core::classify::Proto;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What can happen to the table.
#[derive(Clone, Debug)]
enum Act {
    /// A packet of flow `flow`, or of its answers.
    Packet { flow: u8, reply: bool, flags: u8 },
    /// Time passes.
    Wait(u32),
    /// Everything of one source port goes.
    Flush(u8),
}

/// A flow of the oracle: everything about it but where it lies.
#[derive(Clone, Debug)]
struct Known {
    conn: u32,
    expires: SimTime,
}

fn tuple(flow: u8) -> Tuple {
    let proto = [Proto::Tcp, Proto::Udp, Proto::Icmp][usize::from(flow % 3)];
    Tuple {
        src: SocketAddr::from(([10, 0, 0, 1], u16::from(flow) + 1)),
        dst: SocketAddr::from(([10, 96, 0, 1], 80)),
        proto,
    }
}

/// Answers come from elsewhere.
fn reply(flow: u8) -> Tuple {
    Tuple { src: SocketAddr::from(([10, 244, 0, 9], 8080)), ..tuple(flow).reversed() }
}

fn flags(bits: u8) -> TcpFlags {
    TcpFlags {
        syn: bits & 1 != 0,
        ack: bits & 2 != 0,
        fin: bits & 4 != 0,
        rst: bits & 8 != 0,
        ..TcpFlags::default()
    }
}

fn key(t: &Tuple) -> (SocketAddr, SocketAddr, u8) {
    (t.src, t.dst, t.proto.number())
}

proptest! {
    #[test]
    fn the_table_finds_what_an_ordered_map_finds(
        buckets in 1u32..6,
        acts in prop::collection::vec(prop_oneof![
            8 => (0u8..12, any::<bool>(), 0u8..16).prop_map(|(flow, reply, flags)| Act::Packet { flow, reply, flags }),
            2 => (0u32..70_000).prop_map(Act::Wait),
            1 => (0u8..12).prop_map(Act::Flush),
        ], 1..120),
    ) {
        let config = ConntrackConfig { buckets, max: 1000, ..ConntrackConfig::for_cores(1) };
        let mut ct = Conntrack::new(config, (3, 4));
        let mut map: BTreeMap<(SocketAddr, SocketAddr, u8), Known> = BTreeMap::new();
        let mut now = SimTime::ZERO;
        for act in acts {
            match act {
                Act::Wait(ms) => now += SimSpan::from_ms(u64::from(ms)),
                Act::Flush(flow) => {
                    ct.flush(|original, _| *original == tuple(flow));
                    map.remove(&key(&tuple(flow)));
                    map.remove(&key(&reply(flow)));
                }
                Act::Packet { flow, reply: back, flags: bits } => {
                    let asked = if back { reply(flow) } else { tuple(flow) };
                    let (found, bucket) = ct.lookup_hashed(&asked, now, &mut Work::new());
                    let expected = map.get(&key(&asked)).filter(|k| k.expires > now).cloned();
                    prop_assert_eq!(found.map(|(id, _)| id), expected.as_ref().map(|k| k.conn));
                    let Some((id, direction)) = found else {
                        map.remove(&key(&tuple(flow)));
                        map.remove(&key(&reply(flow)));
                        if back {
                            continue;
                        }
                        if let Ok(new) = ct.open(asked, bucket, flags(bits), now, &mut Work::new()) {
                            let new = New { reply: reply(flow), nat_done: true, ..new };
                            let entered = ct.confirm(new, now, &mut Work::new());
                            let Confirmed::Entered(conn) = entered else { panic!("{entered:?}") };
                            let known = Known { conn, expires: ct.conn(conn).expires() };
                            map.insert(key(&tuple(flow)), known.clone());
                            map.insert(key(&reply(flow)), known);
                        }
                        continue;
                    };
                    prop_assert_eq!(direction == Direction::Reply, back);
                    match ct.packet(id, direction, flags(bits), now) {
                        Passage::Accepted | Passage::Invalid => {
                            let expires = ct.conn(id).expires();
                            for t in [tuple(flow), reply(flow)] {
                                map.get_mut(&key(&t)).expect("both ways").expires = expires;
                            }
                        }
                        Passage::Ended | Passage::Reopened => {
                            map.remove(&key(&tuple(flow)));
                            map.remove(&key(&reply(flow)));
                        }
                    }
                }
            }
            // Whatever the lookups have left in place, a sweep leaves what the map says is alive.
            let mut swept = ct.clone();
            swept.collect(now);
            map.retain(|_, k| k.expires > now);
            prop_assert_eq!(swept.len() as usize * 2, map.len());
        }
    }
}
