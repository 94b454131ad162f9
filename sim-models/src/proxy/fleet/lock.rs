//! The xtables lock, `/run/xtables.lock`, which every iptables command of a node takes.
//!
//! CNI plugins and the kubelet take it too: for each command of kube-proxy the lock is held by one of them with the
//! probability that their rate and holding time give, and then for the rest of that holding (exponential, so as long as a
//! whole one), after which the next one in the queue may be another of them. `iptables -w 5` gives up after five seconds
//! (`pkg/util/iptables/iptables.go:WaitSecondsValue`), and the sync has failed.
//!
//! Left out: how much the others are delayed by kube-proxy (the fleet's totals say for how long it holds the lock), and
//! `iptables-nft`, which takes no lock.

use sim_core::dist;
use sim_core::rng::Stream;
use sim_core::units::SimSpan;

/// `-w`.
pub const WAIT_LIMIT: SimSpan = SimSpan::from_secs(5);

/// The lock of one node.
#[derive(Clone, Debug)]
pub struct Lock {
    stream: Stream,
    /// Share of time for which others hold it.
    busy: f64,
    held: SimSpan,
}

impl Lock {
    /// The lock of a node on which others take it so often and for so long.
    pub fn new(seed: u64, node: u32, per_second: f64, held: SimSpan) -> Self {
        let busy = (per_second * held.as_secs_f64()).min(0.999);
        let stream = Stream::new(seed, &format!("proxy/node/{node}"), "lock");
        Lock { stream, busy, held }
    }

    /// How long `commands` commands one after the other wait, and whether the last of them gave up.
    pub fn wait(&mut self, commands: u64) -> (SimSpan, bool) {
        let mut sum = SimSpan::ZERO;
        for _ in 0..commands {
            let mut wait = SimSpan::ZERO;
            while self.stream.unit_f64() < self.busy {
                wait += dist::exponential(&mut self.stream, self.held);
                if wait >= WAIT_LIMIT {
                    return (sum + WAIT_LIMIT, true);
                }
            }
            sum += wait;
        }
        (sum, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_with_the_share_of_time_that_others_hold_the_lock() {
        let mut lock = Lock::new(1, 0, 10.0, SimSpan::from_ms(10));
        let (sum, gave_up) = lock.wait(100_000);
        // Geometric: 0.1 / 0.9 holdings of 10 ms.
        let mean = sum.as_secs_f64() / 100_000.0;
        assert!(!gave_up && (mean - 0.01 / 9.0).abs() < 0.000_05, "{mean}");
        let mut free = Lock::new(1, 0, 0.0, SimSpan::from_ms(10));
        assert_eq!(free.wait(1_000), (SimSpan::ZERO, false));
    }

    #[test]
    fn a_command_gives_up_after_five_seconds() {
        let mut lock = Lock::new(1, 0, 100.0, SimSpan::from_secs(4));
        assert_eq!(lock.wait(10), (WAIT_LIMIT, true));
    }
}
