//! `wrr`: in turn, by weight (`ip_vs_wrr.c`).
//!
//! Goes round choosing whoever weighs at least the current weight, which falls by the greatest common divisor
//! with each round from the maximum down. Any change of the list restarts at its head, but keeps the round.

use super::{Dest, DestChange, ScheduleCx, Scheduler, gcd};

/// Weighted round robin.
#[derive(Debug, Default)]
pub struct WeightedRoundRobin {
    last: Option<usize>,
    /// Weight that a destination must have now.
    current: u32,
    /// Where `current` starts: the maximum, less the divisor, plus 1.
    top: u32,
    step: u32,
    /// False until the first destinations were seen.
    started: bool,
}

impl WeightedRoundRobin {
    fn restart(&mut self, dests: &[Dest]) {
        self.last = None;
        self.step = gcd(dests.iter().map(|d| d.weight)).max(1);
        let max = dests.iter().map(|d| d.weight).max().unwrap_or(0);
        self.top = if max == 0 { 0 } else { max - (self.step - 1) };
        if self.current > self.top || self.current == 0 {
            self.current = self.top;
        } else if self.step > 1 {
            // Keep the round, on the new divisor's grid.
            self.current = (self.current / self.step) * self.step + 1;
        }
        self.started = true;
    }
}

impl Scheduler for WeightedRoundRobin {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        if !self.started {
            self.restart(dests);
        }
        if self.top == 0 {
            return None;
        }
        let begin = self.last;
        let mut after = begin.map_or(0, |at| at + 1);
        // The position at which a last round over everybody, of weight 1 and more, ends without anybody.
        let mut stop = None;
        let (mut last_round, mut wrapped) = (false, false);
        let mut looked = 0;
        loop {
            for (at, dest) in dests.iter().enumerate().skip(after) {
                looked += 1;
                if !dest.overloaded && dest.weight >= self.current {
                    self.last = Some(at);
                    cx.looked_at(looked);
                    return Some(at);
                }
                if stop == Some(at) {
                    self.last = Some(at);
                    cx.looked_at(looked);
                    return None;
                }
            }
            after = 0;
            self.current = self.current.saturating_sub(self.step);
            if self.current == 0 {
                self.current = self.top;
                if last_round || begin.is_none() {
                    self.last = None;
                    cx.looked_at(looked);
                    return None;
                }
                wrapped = true;
            }
            last_round = self.current <= self.step;
            if last_round && wrapped && begin.is_some() {
                stop = begin;
            }
        }
    }

    fn changed(&mut self, dests: &[Dest], _change: DestChange) {
        self.restart(dests);
    }
}
