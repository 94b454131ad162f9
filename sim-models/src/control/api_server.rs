//! Writes: how long the API server and etcd take, how fast clients may write, and what they do in an outage.
//!
//! * A write takes a third of [`ControlConfig::etcd_write`] and an exponential rest: raft's round and the disk. etcd's log
//!   is one: writes are done in the order of their coming, [`ETCD_GAP`] apart at least.
//! * Each controller's client has a token bucket (`staging/src/k8s.io/client-go/util/flowcontrol/throttle.go`), by
//!   default 20 writes/s with bursts of 30 (`--kube-api-qps`, `--kube-api-burst` of kube-controller-manager). Tokens are
//!   given out in the order of asking.
//! * In an outage a controller puts its key back and tries again after 1 s, 2 s, 4 s, ... up to 1000 s
//!   (`pkg/controller/endpointslice/endpointslice_controller.go`: `defaultSyncBackOff`, `maxSyncBackOff`); kubelet's
//!   status manager every 10 s (`pkg/kubelet/status/status_manager.go:syncPeriod`), each at its own part of them.
//!
//! Left out: priority and fairness between the clients of the API server, conflicts, that controllers lose their lease
//! after 10 s and start again ([`node_lifecycle`](super::node_lifecycle) knows that they forget).

use crate::config::ControlConfig;
use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};

/// Least time between two writes: about 20,000 a second (assumed; etcd's own benchmark gives 50,000 small ones).
pub const ETCD_GAP: SimSpan = SimSpan::from_us(50);
/// kubelet's rounds over statuses that could not be written.
const STATUS_PERIOD: SimSpan = SimSpan::from_secs(10);
/// First wait of a controller.
const BACKOFF: SimSpan = SimSpan::from_secs(1);
/// Its longest.
const BACKOFF_MAX: SimSpan = SimSpan::from_secs(1_000);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A kubelet, about a pod.
    Kubelet,
    /// A controller with a work queue.
    Controller,
}

/// API servers and etcd, as those see them that write.
#[derive(Clone, Debug)]
pub struct ApiServer {
    fixed: SimSpan,
    random: SimSpan,
    stream: Stream,
    retries: Stream,
    /// When the last write that was accepted is done at the earliest.
    free: SimTime,
    last: SimTime,
    /// End of the outage, if there is one.
    up_at: SimTime,
    writes: u64,
}

impl ApiServer {
    /// Idle ones.
    pub fn new(config: &ControlConfig, seed: u64) -> Self {
        let fixed = SimSpan::from_ns(config.etcd_write.as_ns() / 3);
        ApiServer {
            fixed,
            random: config.etcd_write - fixed,
            stream: Stream::new(seed, "control/etcd", "latency"),
            retries: Stream::new(seed, "control/clients", "retries"),
            free: SimTime::ZERO,
            last: SimTime::ZERO,
            up_at: SimTime::ZERO,
            writes: 0,
        }
    }

    /// When a write is in etcd that its client sends at `at`, which is `now` or later: then it waits for a token of its own,
    /// holds up nobody else's meanwhile, and is taken to find etcd idle.
    pub fn write(&mut self, now: SimTime, at: SimTime) -> SimTime {
        self.writes += 1;
        let takes = self.fixed + dist::exponential(&mut self.stream, self.random);
        if at > now {
            return at + ETCD_GAP + takes;
        }
        self.free = self.free.max(at) + ETCD_GAP;
        self.last = self.last.max(self.free + takes);
        self.last
    }

    /// Nobody is answered until `until`, or later if an outage that goes on ends later.
    pub fn outage(&mut self, until: SimTime) {
        self.up_at = self.up_at.max(until);
    }

    /// Whether writes are answered.
    pub fn answers(&self, now: SimTime) -> bool {
        now >= self.up_at
    }

    /// End of the last outage.
    pub fn up_at(&self) -> SimTime {
        self.up_at
    }

    /// When a client whose write failed at `now` tries again with success, if the outage gets no longer.
    pub fn retry(&mut self, now: SimTime, client: Client) -> SimTime {
        match client {
            Client::Kubelet => {
                let part = self.retries.below(STATUS_PERIOD.as_ns());
                self.up_at.max(now) + SimSpan::from_ns(part)
            }
            Client::Controller => {
                let (mut at, mut wait) = (now + BACKOFF, BACKOFF);
                while at < self.up_at {
                    wait = wait.times(2).min(BACKOFF_MAX);
                    at += wait;
                }
                at
            }
        }
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }
}

/// The rate limit of one client.
#[derive(Clone, Debug)]
pub struct Bucket {
    gap: SimSpan,
    burst: u64,
    /// When the bucket would be full if nobody asked any more.
    full_at: SimTime,
}

impl Bucket {
    /// `rate` a second, `burst` at once, full.
    ///
    /// # Panics
    /// If the rate or the burst is not positive.
    pub fn new(rate: f64, burst: u32) -> Self {
        assert!(rate > 0.0 && burst > 0, "{rate} writes a second, {burst} at once");
        Bucket { gap: SimSpan::from_ns_f64(1e9 / rate), burst: u64::from(burst), full_at: SimTime::ZERO }
    }

    /// When the client that asks at `now` may write.
    pub fn take(&mut self, now: SimTime) -> SimTime {
        self.full_at = self.full_at.max(now) + self.gap;
        // Without the tokens that a full bucket holds the write comes when the bucket would be full; each token is one
        // gap earlier.
        let early = self.gap.times(self.burst);
        let owed = self.full_at.since(now);
        if owed <= early { now } else { now + (owed - early) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> SimTime {
        SimTime::ZERO + SimSpan::from_secs(seconds)
    }

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_its_rate() {
        let mut bucket = Bucket::new(20.0, 30);
        let at: Vec<SimTime> = (0..70).map(|_| bucket.take(s(1))).collect();
        assert!(at[..30].iter().all(|t| *t == s(1)), "{at:?}");
        assert_eq!(at[30], s(1) + SimSpan::from_ms(50));
        assert_eq!(at[69], s(1) + SimSpan::from_ms(50 * 40));
        assert_eq!(bucket.take(s(100)), s(100));
    }

    #[test]
    fn writes_are_done_in_the_order_of_their_coming_and_take_the_mean() {
        let mut api = ApiServer::new(&ControlConfig::default(), 1);
        let (mut sum, mut last) = (0.0, SimTime::ZERO);
        for i in 0..10_000 {
            let at = SimTime::ZERO + SimSpan::from_ms(100 * i);
            let done = api.write(at, at);
            assert!(done >= last);
            last = done;
            sum += done.since(at).as_secs_f64() * 1e3;
        }
        assert!((sum / 1e4 - 3.05).abs() < 0.1, "{}", sum / 1e4);
        assert_eq!(api.writes(), 10_000);
    }

    #[test]
    fn a_write_that_waits_for_its_clients_token_holds_up_nobody() {
        let mut api = ApiServer::new(&ControlConfig::default(), 1);
        assert!(api.write(s(1), s(40)) > s(40));
        assert!(api.write(s(1), s(1)) < s(2));
    }

    #[test]
    fn clients_come_back_after_an_outage_each_in_its_way() {
        let mut api = ApiServer::new(&ControlConfig::default(), 1);
        api.outage(s(100));
        assert!(!api.answers(s(99)) && api.answers(s(100)));
        // 1, 3, 7, 15, 31, 63, 127 s after.
        assert_eq!(api.retry(s(0), Client::Controller), s(127));
        let kubelet = api.retry(s(0), Client::Kubelet);
        assert!(kubelet >= s(100) && kubelet < s(110));
    }
}
