//! What packets and connections leave in the maps of one node: sockets that were translated, clients bound to backends,
//! and for packets from outside the connections and their translations.
//!
//! Left out: evictions of the LRU maps, which hold hundreds of thousands of entries.

use super::BackendId;
use crate::kernel::conntrack::Tuple;
use sim_core::classify::Proto;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

type Key = (SocketAddr, SocketAddr, u8);

fn key(t: &Tuple) -> Key {
    (t.src, t.dst, t.proto.number())
}

/// The translation of a connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// Where it goes.
    pub(crate) to: SocketAddr,
    /// The source that it has from there on.
    pub(crate) source: SocketAddr,
}

/// The maps that packets fill.
#[derive(Clone, Debug)]
pub struct NodeMaps {
    random: Stream,
    /// Sockets that connected to a Service, with their backend.
    sockets: BTreeMap<Key, SocketAddr>,
    /// By frontend and client.
    affinity: BTreeMap<(u32, IpAddr), (BackendId, SimTime)>,
    outside: BTreeMap<Key, Translation>,
    /// By the tuple of an answer: the tuple that the client sent.
    back: BTreeMap<Key, Tuple>,
}

impl NodeMaps {
    /// Empty maps; `random` is the CPU's `bpf_get_prandom_u32`.
    pub fn new(random: Stream) -> Self {
        NodeMaps {
            random,
            sockets: BTreeMap::new(),
            affinity: BTreeMap::new(),
            outside: BTreeMap::new(),
            back: BTreeMap::new(),
        }
    }

    pub(crate) fn draw(&mut self) -> u32 {
        self.random.next_u32()
    }

    pub(crate) fn socket(&self, t: &Tuple) -> Option<SocketAddr> {
        self.sockets.get(&key(t)).copied()
    }

    /// The socket is connected, or is anew.
    pub(crate) fn connect(&mut self, t: &Tuple, backend: Option<SocketAddr>) {
        match backend {
            Some(to) => self.sockets.insert(key(t), to),
            None => self.sockets.remove(&key(t)),
        };
    }

    /// The backend that the client is bound to, unless that was too long ago.
    pub(crate) fn remembered(
        &mut self,
        frontend: u32,
        client: IpAddr,
        seconds: u32,
        now: SimTime,
    ) -> Option<BackendId> {
        let (id, since) = *self.affinity.get(&(frontend, client))?;
        (now < since + SimSpan::from_secs(u64::from(seconds))).then_some(id)
    }

    pub(crate) fn remember(&mut self, frontend: u32, client: IpAddr, id: BackendId, now: SimTime) {
        self.affinity.insert((frontend, client), (id, now));
    }

    pub(crate) fn outside(&self, t: &Tuple) -> Option<Translation> {
        self.outside.get(&key(t)).copied()
    }

    pub(crate) fn enter(&mut self, t: &Tuple, to: Translation) {
        self.outside.insert(key(t), to);
        self.back.insert(key(&Tuple { src: to.to, dst: to.source, proto: t.proto }), *t);
    }

    /// What the client sent that `answer` answers.
    pub(crate) fn answered(&self, answer: &Tuple) -> Option<Tuple> {
        self.back.get(&key(answer)).copied()
    }

    /// A port of `ip` for a connection to `to`: the client's own if it is in range and free, or a random one
    /// (`bpf/lib/nat.h:snat_v4_new_mapping`: 128 attempts). Also how many were looked at.
    pub(crate) fn port(
        &mut self,
        ip: IpAddr,
        wanted: u16,
        to: SocketAddr,
        proto: Proto,
    ) -> Option<(u16, u32)> {
        const FIRST: u16 = 32_768;
        let free = |maps: &Self, port: u16| {
            let answer = Tuple { src: to, dst: SocketAddr::new(ip, port), proto };
            !maps.back.contains_key(&key(&answer))
        };
        if wanted >= FIRST && free(self, wanted) {
            return Some((wanted, 1));
        }
        (1..=128).find_map(|n| {
            let port = FIRST | (self.draw() as u16 >> 1);
            free(self, port).then_some((port, n))
        })
    }
}
