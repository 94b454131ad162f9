//! Watches: when each node's kube-proxy has a change.
//!
//! Nothing is scheduled per change and node. A change is given the instant at which each API server begins to send it;
//! from that, a node's place among the server's watchers and the way to it, its arrival is worked out when somebody asks.
//!
//! * Sending: one API server sends one event after the other, to all its watchers
//!   (`staging/src/k8s.io/apiserver/pkg/storage/cacher/cacher.go:dispatchEvents`), with as many cores as it has. Go walks
//!   its map of watchers from a random place, so does the rotation here.
//! * The way: [`ControlConfig::watch_fixed`] and an exponential part, different for each change and node. A watch is one
//!   ordered stream: nothing overtakes.
//! * A watch that broke is tried again after client-go's backoff and goes on where it was
//!   (`staging/src/k8s.io/client-go/tools/cache/reflector.go:watch`). After an outage the API servers' watch caches are
//!   empty ("too old resource version", `cacher/watch_cache.go`), so everybody lists again, in the order of their retries.
//!   Lists wait for lists and not for events, nor events for lists: API priority and fairness holds back the ones only.
//!
//! The random part is not a ChaCha stream: up to 5,000 nodes times 72,000 changes ask for one. It is a hash of (seed of a
//! stream, version, node), SplitMix64 for the version and its last two multiplications for the node, looked up in 1,024
//! quantiles of the exponential law.
//!
//! Left out: that Services and EndpointSlices are two watches, that lists and events share the processor, bookmarks,
//! watches of other clients, TCP's backpressure, and that an event in flight is lost when its watch breaks: it arrives.

use super::backoff::Retries;
use super::log::Change;
use crate::config::ControlConfig;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeMap;

/// Quantiles of the exponential law that are kept.
const QUANTILES: usize = 1 << 10;
/// Fractions of a nanosecond in [`Dispatch::step`].
const FRACTION: u32 = 12;

/// What API servers spent on watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events, of all watchers.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lists, after outages and on starts.
    pub lists: u64,
    /// Their bytes.
    pub list_bytes: u64,
    /// Processor time of all API servers.
    pub cpu: SimSpan,
}

/// All watches of EndpointSlices and Services, one a node.
#[derive(Clone, Debug)]
pub struct Watch {
    event_cpu: SimSpan,
    kilobyte_cpu: SimSpan,
    cores: u64,
    way: SimSpan,
    reconnect_max: SimSpan,
    quantiles: Box<[u64; QUANTILES]>,
    salt: u64,
    seed: u64,
    servers: Vec<Server>,
    /// One a version and API server.
    dispatches: Vec<Dispatch>,
    nodes: Vec<Node>,
    gaps: BTreeMap<u32, Vec<Gap>>,
    /// Since when no API server answers.
    down: Option<SimTime>,
    sent: Sent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    /// When it has sent every event so far.
    free: SimTime,
    /// When it has served every list so far.
    lists_free: SimTime,
    /// Places among its watchers.
    places: u32,
    /// Watchers that are there.
    watchers: u32,
}

/// One change at one API server.
#[derive(Clone, Copy, Debug)]
struct Dispatch {
    /// When the first watcher's event is there at the earliest: the start of sending, and the fixed part of the way.
    base: u64,
    /// The version's part of the random way.
    salt: u64,
    /// Time from one watcher to the next, in 2^-FRACTION ns.
    step: u64,
    /// Which watcher is the first.
    turn: u32,
    places: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Last arrival: nothing comes before it.
    last: SimTime,
    version: u64,
    place: u32,
    server: u16,
    watching: bool,
    /// Something is in `gaps`.
    gaps: bool,
}

/// A time in which nothing arrives.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: SimTime,
    until: SimTime,
}

impl Watch {
    /// Watches of `nodes` nodes that have everything of version 0.
    ///
    /// # Panics
    /// If there are no API servers, no cores of them, or more than 65,536 servers.
    pub fn new(config: &ControlConfig, nodes: u32, seed: u64) -> Self {
        assert!(config.api_servers > 0 && config.api_server_cores > 0, "nobody to watch");
        assert!(config.api_servers <= 1 << 16, "{} API servers", config.api_servers);
        let mean = config.watch_random.as_ns() as f64;
        let mut quantiles = Box::new([0; QUANTILES]);
        for (i, q) in quantiles.iter_mut().enumerate() {
            let u = (i as f64 + 0.5) / QUANTILES as f64;
            *q = SimSpan::from_ns_f64(-dist::ln(1.0 - u) * mean).as_ns();
        }
        let mut watch = Watch {
            event_cpu: config.event_cpu,
            kilobyte_cpu: config.kilobyte_cpu,
            cores: u64::from(config.api_server_cores),
            way: config.watch_fixed,
            reconnect_max: config.reconnect_max,
            quantiles,
            salt: Stream::new(seed, "watch", "delays").next_u64(),
            seed,
            servers: vec![Server::default(); config.api_servers as usize],
            dispatches: Vec::new(),
            nodes: Vec::with_capacity(nodes as usize),
            gaps: BTreeMap::new(),
            down: None,
            sent: Sent::default(),
        };
        for _ in 0..nodes {
            watch.add_node();
        }
        watch
    }

    fn add_node(&mut self) {
        let server = self.nodes.len() % self.servers.len();
        let at = &mut self.servers[server];
        let place = at.places;
        at.places += 1;
        at.watchers += 1;
        let server = u16::try_from(server).expect("at most 65,536 API servers");
        let node = Node { last: SimTime::ZERO, version: 0, place, server, watching: true, gaps: false };
        self.nodes.push(node);
    }

    /// A node with the next index is there whose kube-proxy does not watch yet: [`Watch::opened`] is when it does.
    pub fn joined(&mut self) {
        self.add_node();
        self.closed(self.nodes.len() as u32 - 1);
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Processor time of sending `bytes` to one watcher.
    fn price(&self, bytes: u64) -> SimSpan {
        SimSpan::from_ns(self.event_cpu.as_ns() + bytes * self.kilobyte_cpu.as_ns() / 1_000)
    }

    /// Hands a write to the API servers; what [`Watch::arrival`] does for the first node that asks.
    pub fn committed(&mut self, version: u64, change: &Change) {
        let known = (self.dispatches.len() / self.servers.len()) as u64;
        if version <= known {
            return;
        }
        assert_eq!(version, known + 1, "a watch skips no version");
        let price = self.price(change.bytes);
        let salt = splitmix(self.salt ^ version);
        for server in &mut self.servers {
            let start = server.free.max(change.committed);
            let step = (price.as_ns() << FRACTION) / self.cores;
            let turn = if server.places == 0 { 0 } else { (salt % u64::from(server.places)) as u32 };
            let base = (start + self.way).as_ns();
            self.dispatches.push(Dispatch { base, salt, step, turn, places: server.places });
            server.free = start + SimSpan::from_ns((u64::from(server.places) * step) >> FRACTION);
            let watchers = u64::from(server.watchers);
            self.sent.events += watchers;
            self.sent.bytes += watchers * change.bytes;
            self.sent.cpu += price.times(watchers);
        }
    }

    /// When `node` has `version`, which `change` made. Asked once for each node and version, versions in order.
    ///
    /// # Panics
    /// If versions are asked for in another order.
    #[inline]
    pub fn arrival(&mut self, node: u32, version: u64, change: &Change) -> SimTime {
        let servers = self.servers.len();
        if version as usize * servers > self.dispatches.len() {
            self.committed(version, change);
        }
        let state = &mut self.nodes[node as usize];
        assert!(version > state.version, "node {node} had version {} already", state.version);
        state.version = version;
        let dispatch = &self.dispatches[(version as usize - 1) * servers + usize::from(state.server)];
        let turned = state.place + dispatch.turn;
        let rank = if turned < dispatch.places { turned } else { turned.wrapping_sub(dispatch.places) };
        let sent = ((u64::from(rank) + 1) * dispatch.step) >> FRACTION;
        let random = self.quantiles[quantile(dispatch.salt, node)];
        let at = state.last.max(SimTime::from_ns(dispatch.base + sent + random));
        if state.gaps {
            let at = self.after_gaps(node, at);
            self.nodes[node as usize].last = at;
            return at;
        }
        state.last = at;
        at
    }

    /// The first instant from `at` on at which something can arrive.
    fn after_gaps(&mut self, node: u32, mut at: SimTime) -> SimTime {
        let last = self.nodes[node as usize].last;
        let gaps = self.gaps.get_mut(&node).expect("a node with gaps");
        gaps.retain(|gap| gap.until > last);
        for gap in &*gaps {
            if gap.from <= at && at < gap.until {
                at = gap.until;
            }
        }
        if gaps.is_empty() {
            self.gaps.remove(&node);
            self.nodes[node as usize].gaps = false;
        }
        at
    }

    /// The watch of `node` breaks at `from` and cannot be opened before `until`. It is again at the first of its
    /// retries after that, which is returned; what happened meanwhile arrives then.
    pub fn broken(&mut self, node: u32, from: SimTime, until: SimTime) -> SimTime {
        let again = Retries::new(self.seed, node, from, self.reconnect_max).first_after(until);
        self.gap(node, from, again);
        again
    }

    fn gap(&mut self, node: u32, from: SimTime, until: SimTime) {
        self.nodes[node as usize].gaps = true;
        let gaps = self.gaps.entry(node).or_default();
        let place = gaps.partition_point(|gap| gap.from <= from);
        gaps.insert(place, Gap { from, until });
    }

    /// No API server answers from now on. What is asked for until [`Watch::up`] has not arrived yet: ask when it is up.
    pub fn down(&mut self, at: SimTime) {
        self.down.get_or_insert(at);
    }

    /// Whether API servers answer.
    pub fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// They answer again. Every node comes back at its next retry and lists, `list_bytes` each; the herd is served in
    /// the order of its coming. Returns when the last one has its list.
    pub fn up(&mut self, at: SimTime, list_bytes: u64) -> SimTime {
        let Some(from) = self.down.take() else { return at };
        let mut herd: Vec<(SimTime, u32)> = Vec::with_capacity(self.nodes.len());
        for (node, state) in self.nodes.iter().enumerate() {
            if state.watching {
                let node = node as u32;
                let retries = Retries::new(self.seed, node, from, self.reconnect_max);
                herd.push((retries.first_after(at), node));
            }
        }
        herd.sort_unstable();
        let mut end = at;
        for (retry, node) in herd {
            let listed = self.list(node, retry, list_bytes);
            self.gap(node, from, listed);
            end = end.max(listed);
        }
        end
    }

    /// kube-proxy of `node` starts and lists everything, `list_bytes`. Returns when it has it: the versions committed by
    /// then are in the list, later ones arrive. A node with the next index is a new one.
    pub fn opened(&mut self, node: u32, at: SimTime, list_bytes: u64) -> SimTime {
        if node as usize == self.nodes.len() {
            self.add_node();
        }
        let state = &mut self.nodes[node as usize];
        if !state.watching {
            state.watching = true;
            self.servers[usize::from(state.server)].watchers += 1;
        }
        self.nodes[node as usize].gaps = false;
        self.gaps.remove(&node);
        let listed = self.list(node, at, list_bytes);
        self.nodes[node as usize].last = listed;
        listed
    }

    /// The node is dead or its kube-proxy stands still: nobody watches.
    pub fn closed(&mut self, node: u32) {
        let state = &mut self.nodes[node as usize];
        if state.watching {
            state.watching = false;
            self.servers[usize::from(state.server)].watchers -= 1;
        }
    }

    /// Serves a list to `node`, asked for at `at`: one core of its server, after the lists before it.
    fn list(&mut self, node: u32, at: SimTime, bytes: u64) -> SimTime {
        let price = self.price(bytes);
        let server = &mut self.servers[usize::from(self.nodes[node as usize].server)];
        let start = server.lists_free.max(at);
        // The other cores serve other lists meanwhile: the queue gets longer by one core's share.
        server.lists_free = start + SimSpan::from_ns(price.as_ns() / self.cores);
        self.sent.lists += 1;
        self.sent.list_bytes += bytes;
        self.sent.cpu += price;
        start + price + self.way
    }
}

/// Which quantile a node draws.
#[inline]
fn quantile(salt: u64, node: u32) -> usize {
    let mut z = salt ^ u64::from(node).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> (u64::BITS - QUANTILES.trailing_zeros())) as usize
}

/// SplitMix64's step and finaliser.
#[inline]
fn splitmix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::log::{ServiceId, What};
    use smallvec::SmallVec;

    fn change(ms: u64, bytes: u64) -> Change {
        let what = What::Endpoints { service: ServiceId(0), deltas: SmallVec::new() };
        Change { what, trigger: None, committed: SimTime::ZERO + SimSpan::from_ms(ms), bytes }
    }

    fn ms(at: SimTime) -> f64 {
        at.as_ns() as f64 / 1e6
    }

    #[test]
    fn a_watch_is_one_ordered_stream_and_its_mean_delay_is_the_laws() {
        let mut watch = Watch::new(&ControlConfig::default(), 100, 1);
        let (mut sum, mut last) = (0.0, vec![SimTime::ZERO; 100]);
        for version in 1..=200 {
            let c = change(version * 100, 1_000);
            for node in 0..100 {
                let at = watch.arrival(node, version, &c);
                assert!(at >= last[node as usize] && at > c.committed);
                last[node as usize] = at;
                sum += ms(at) - ms(c.committed);
            }
        }
        // 2 ms, 2 ms on average, and half of 100 watchers on 8 cores at 9 us each.
        let mean = sum / 20_000.0;
        assert!((mean - 4.057).abs() < 0.05, "{mean}");
        assert_eq!(watch.sent().events, 20_000);
        assert_eq!(watch.sent().bytes, 20_000_000);
        assert_eq!(watch.sent().cpu, SimSpan::from_us(9 * 20_000));
    }

    #[test]
    fn a_burst_of_changes_waits_for_the_api_servers_processor() {
        let config = ControlConfig { api_server_cores: 1, ..ControlConfig::default() };
        let mut watch = Watch::new(&config, 1_000, 1);
        let c = change(0, 2_000);
        let ends: Vec<f64> =
            (1..=10).map(|v| (0..1_000).map(|n| ms(watch.arrival(n, v, &c))).fold(0.0, f64::max)).collect();
        // 1,000 watchers at 10 us: 10 ms a change.
        for (i, end) in ends.iter().enumerate() {
            let sent = 10.0 * (i as f64 + 1.0);
            assert!((sent..sent + 20.0).contains(end), "change {i} ends at {end} ms");
        }
        let two = ControlConfig { api_servers: 2, ..config };
        let mut watch = Watch::new(&two, 1_000, 1);
        let end = (0..1_000).map(|n| ms(watch.arrival(n, 1, &c))).fold(0.0, f64::max);
        assert!(end < ends[0], "half the watchers each: {end}");
    }

    #[test]
    fn what_happens_during_a_watch_drop_arrives_at_the_reconnect() {
        let mut watch = Watch::new(&ControlConfig::default(), 2, 1);
        let (from, until) = (SimTime::ZERO + SimSpan::from_secs(1), SimTime::ZERO + SimSpan::from_secs(5));
        let again = watch.broken(0, from, until);
        assert!(again > until && again < until + SimSpan::from_secs(13), "{again}");
        let early = watch.arrival(0, 1, &change(500, 1_000));
        assert!(early < from);
        assert_eq!(watch.arrival(0, 2, &change(2_000, 1_000)), again);
        assert_eq!(watch.arrival(0, 3, &change(3_000, 1_000)), again);
        let later = change(60_000, 1_000);
        assert!(watch.arrival(0, 4, &later) < later.committed + SimSpan::from_ms(30));
        let other = (1..=4).map(|v| watch.arrival(1, v, &change(2_000, 1_000))).next_back().unwrap();
        assert!(other < SimTime::ZERO + SimSpan::from_secs(61));
    }

    #[test]
    fn after_an_outage_nodes_come_back_over_their_backoff_and_the_herd_is_served_in_turn() {
        let mut watch = Watch::new(&ControlConfig::default(), 1_000, 1);
        let (down, up) = (SimTime::ZERO + SimSpan::from_secs(10), SimTime::ZERO + SimSpan::from_secs(130));
        watch.down(down);
        assert!(!watch.is_up());
        let end = watch.up(up, 8_000_000);
        assert!(watch.is_up() && watch.sent().lists == 1_000);
        let c = change(130_001, 1_000);
        let mut at: Vec<SimTime> = (0..1_000).map(|n| watch.arrival(n, 1, &c)).collect();
        at.sort();
        assert!(at[0] > up && at[999] <= end);
        // Retries 30 to 60 s apart by then.
        let spread = at[999].since(at[0]).as_secs_f64();
        assert!((30.0..61.0).contains(&spread), "{spread}");
        assert_eq!(watch.sent().list_bytes, 8_000_000_000);
    }

    #[test]
    fn a_new_node_has_nothing_before_its_list() {
        let mut watch = Watch::new(&ControlConfig::default(), 3, 1);
        let at = SimTime::ZERO + SimSpan::from_secs(2);
        let listed = watch.opened(3, at, 1_000_000);
        assert!(listed > at);
        for node in 0..3 {
            watch.arrival(node, 1, &change(0, 1_000));
        }
        assert!(watch.arrival(3, 2, &change(1_999, 1_000)) >= listed);
        watch.closed(3);
        watch.committed(3, &change(3_000, 10));
        assert_eq!(watch.sent().events, 4 + 4 + 3);
    }
}
