//! When a sync may start: kube-proxy's BoundedFrequencyRunner.
//!
//! * From 1.34 (`pkg/proxy/runner/bounded_frequency_runner.go:Loop`): `minInterval` from the end of a run to the start of the
//!   next, requests in between are one; `maxInterval` after a run's end there is another without any request; a
//!   failed run is tried again after `retryInterval` from its end, unless something else starts one.
//! * Before (`pkg/util/async/bounded_frequency_runner.go:tryRun`): a token bucket on the starts, two tokens of which one
//!   comes back each `minInterval`; a request without a token waits for `minInterval` since the last end and then for a
//!   token. An idle proxier so does two syncs close together.
//! * The first sync is no run of the runner: the informers' goroutine does it
//!   (`pkg/proxy/iptables/proxier.go:OnEndpointSlicesSynced`), so that the next one may follow at once.

use sim_core::units::{SimSpan, SimTime};

/// The first minor version whose runner has no token bucket.
pub const FIRST_MINOR_WITHOUT_BUCKET: u32 = 34;

/// `maxInterval` of iptables and nftables mode, and the age at which a full sync is due
/// (`pkg/proxy/util/utils.go:FullSyncPeriod`).
pub const FULL_SYNC_PERIOD: SimSpan = SimSpan::from_secs(3600);

/// The settings of a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Between two runs.
    pub min: SimSpan,
    /// After a failure.
    pub retry: SimSpan,
    /// Without a request.
    pub max: SimSpan,
    /// Whether starts are limited by a bucket of two tokens.
    pub bucket: bool,
}

/// The state of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runner {
    /// No start before it.
    ready_at: SimTime,
    /// When the bucket has both tokens again.
    full_at: SimTime,
    /// A run without a request.
    max_at: SimTime,
    /// A run after a failure.
    retry_at: SimTime,
}

impl Runner {
    /// A runner whose process started at `now`.
    pub fn new(intervals: &Intervals, now: SimTime) -> Self {
        Runner { ready_at: now, full_at: now, max_at: now + intervals.max, retry_at: SimTime::MAX }
    }

    /// When a run that is asked for at `request` starts.
    pub fn start(&self, intervals: &Intervals, request: SimTime) -> SimTime {
        if !intervals.bucket || intervals.min == SimSpan::ZERO {
            return request.max(self.ready_at);
        }
        if self.full_at <= request + intervals.min {
            return request;
        }
        let token = SimTime::from_ns(self.full_at.as_ns() - intervals.min.as_ns());
        request.max(self.ready_at).max(token)
    }

    /// When a run starts that nobody asks for.
    pub fn unasked(&self, intervals: &Intervals) -> SimTime {
        self.start(intervals, self.max_at.min(self.retry_at))
    }

    /// A run starts.
    pub fn started(&mut self, intervals: &Intervals, now: SimTime) {
        self.full_at = self.full_at.max(now) + intervals.min;
    }

    /// A run ends.
    pub fn ended(&mut self, intervals: &Intervals, now: SimTime, failed: bool) {
        self.ready_at = now + intervals.min;
        self.max_at = now + intervals.max;
        self.retry_at = if failed { now + intervals.retry } else { SimTime::MAX };
    }

    /// The sync that was none of the runner's ends.
    pub fn first_ended(&mut self, intervals: &Intervals, now: SimTime, failed: bool) {
        *self = Runner::new(intervals, now);
        if failed {
            self.retry_at = now + intervals.retry;
        }
    }

    /// As if the last run had ended so long before `now`.
    pub fn idle_for(intervals: &Intervals, idle: SimSpan, now: SimTime) -> Self {
        let left = SimSpan::from_ns(intervals.max.as_ns().saturating_sub(idle.as_ns()));
        Runner { max_at: now + left, ..Runner::new(intervals, now) }
    }

    /// As if a run had ended lately, so that none starts before `left` from `now`.
    pub fn resting(self, intervals: &Intervals, left: SimSpan, now: SimTime) -> Self {
        let ready_at = now + left;
        Runner { ready_at, full_at: ready_at + intervals.min, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> SimTime {
        SimTime::ZERO + SimSpan::from_ms(t)
    }

    fn intervals(bucket: bool) -> Intervals {
        Intervals {
            min: SimSpan::from_secs(1),
            retry: SimSpan::from_secs(30),
            max: SimSpan::from_secs(3600),
            bucket,
        }
    }

    #[test]
    fn an_idle_runner_starts_at_once_and_a_busy_one_after_the_interval_since_its_end() {
        let i = intervals(false);
        let mut runner = Runner::new(&i, ms(0));
        assert_eq!(runner.start(&i, ms(5_000)), ms(5_000));
        runner.started(&i, ms(5_000));
        runner.ended(&i, ms(5_300), false);
        assert_eq!(runner.start(&i, ms(5_300)), ms(6_300));
        assert_eq!(runner.start(&i, ms(6_299)), ms(6_300));
        assert_eq!(runner.start(&i, ms(9_000)), ms(9_000));
        assert_eq!(runner.unasked(&i), ms(3_605_300));
    }

    #[test]
    fn a_failed_run_is_tried_again_after_the_retry_interval() {
        let i = intervals(false);
        let mut runner = Runner::new(&i, ms(0));
        runner.started(&i, ms(100));
        runner.ended(&i, ms(200), true);
        assert_eq!(runner.unasked(&i), ms(30_200));
        runner.started(&i, ms(1_300));
        runner.ended(&i, ms(1_400), false);
        assert_eq!(runner.unasked(&i), ms(3_601_400));
    }

    #[test]
    fn the_older_runner_does_two_runs_close_together_and_then_waits() {
        let i = intervals(true);
        let mut runner = Runner::new(&i, ms(0));
        for (request, start, end) in
            [(5_000, 5_000, 5_300), (5_300, 5_300, 5_600), (5_600, 6_600, 6_900), (6_900, 7_900, 8_000)]
        {
            assert_eq!(runner.start(&i, ms(request)), ms(start), "asked at {request}");
            runner.started(&i, ms(start));
            runner.ended(&i, ms(end), false);
        }
        // Two seconds later both tokens are there again.
        assert_eq!(runner.start(&i, ms(11_000)), ms(11_000));
    }
}
