//! Waits between the retries of a client of an API server that does not answer.
//!
//! `staging/src/k8s.io/client-go/tools/cache/reflector.go:NewReflectorWithOptions`: 800 ms, doubled each time up to 30 s, each wait
//! lengthened by up to its own length (`wait.Jitter` with factor 1), begun anew after 2 minutes without a wait: an
//! outage never leaves such a gap, so it begins anew with each outage. The first try is made at once.

use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};

/// First wait.
const FIRST: SimSpan = SimSpan::from_ms(800);

/// The instants at which one client tries.
#[derive(Clone, Debug)]
pub struct Retries {
    stream: Stream,
    at: SimTime,
    wait: SimSpan,
    max: SimSpan,
}

impl Retries {
    /// Retries of client `client`, whose connection broke at `from`; waits double up to `max`.
    pub fn new(seed: u64, client: u32, from: SimTime, max: SimSpan) -> Self {
        let stream =
            Stream::new(seed, &format!("client/{client}"), &format!("retries from {}", from.as_ns()));
        Retries { stream, at: from, wait: FIRST.min(max), max }
    }

    /// The first try after `until`.
    pub fn first_after(mut self, until: SimTime) -> SimTime {
        while self.at <= until {
            let jitter = SimSpan::from_ns(self.stream.below(self.wait.as_ns().max(1)));
            self.at += self.wait + jitter + SimSpan::from_ns(1);
            self.wait = self.wait.times(2).min(self.max);
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered_by_up_to_their_length() {
        let max = SimSpan::from_secs(30);
        for client in 0..50 {
            let (mut at, mut wait) = (SimTime::ZERO, 0.8);
            for _ in 0..10 {
                let next = Retries::new(3, client, SimTime::ZERO, max).first_after(at);
                let gap = next.since(at).as_secs_f64();
                assert!((wait..=2.0 * wait + 1e-6).contains(&gap), "{gap} after {wait}");
                (at, wait) = (next, f64::min(2.0 * wait, 30.0));
            }
        }
    }

    #[test]
    fn clients_do_not_retry_in_step() {
        let until = SimTime::ZERO + SimSpan::from_secs(100);
        let at = |c| Retries::new(3, c, SimTime::ZERO, SimSpan::from_secs(30)).first_after(until);
        assert_ne!(at(1), at(2));
        assert_eq!(at(1), at(1));
    }
}
