//! The timers of connections, fired in order of jiffy and number.
//!
//! Connections last one of a few spans, so what is armed for one span comes in order of its end: a queue for each span
//! holds it without sorting. A queue is not told its span; a timer goes to the queue whose last one ends latest before
//! it, which keeps the spans apart. What is due is sorted in a small heap, and what fits no queue waits there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Most queues: of TCP's, UDP's and SCTP's spans and the templates' few are in use at once.
const QUEUES: usize = 8;

/// Jiffy and the number of a connection.
type Timer = (u32, u32);

/// Timers by jiffy, then number.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    queues: Vec<VecDeque<Timer>>,
    heap: BinaryHeap<Reverse<Timer>>,
    /// No timer ends before this jiffy.
    earliest: u32,
}

impl Timers {
    /// Arms a timer that ends a span from now.
    #[inline]
    pub fn arm(&mut self, at: u32, number: u32) {
        self.earliest = self.earliest.min(at);
        let mut best: Option<(u32, usize)> = None;
        for (number, queue) in self.queues.iter().enumerate() {
            let last = queue.back().map_or(0, |timer| timer.0);
            if last <= at && best.is_none_or(|other| other.0 <= last) {
                best = Some((last, number));
            }
        }
        match best {
            Some((_, queue)) => self.queues[queue].push_back((at, number)),
            None if self.queues.len() < QUEUES => self.queues.push(VecDeque::from([(at, number)])),
            None => self.heap.push(Reverse((at, number))),
        }
    }

    /// Arms a timer that ends at any time; it would stand in the way of others in a queue.
    pub fn arm_apart(&mut self, at: u32, number: u32) {
        self.earliest = self.earliest.min(at);
        self.heap.push(Reverse((at, number)));
    }

    /// Takes the first timer that ends by jiffy `until`.
    #[inline]
    pub fn pop(&mut self, until: u32) -> Option<Timer> {
        if until < self.earliest { None } else { self.pop_due(until) }
    }

    fn pop_due(&mut self, until: u32) -> Option<Timer> {
        let mut earliest = u32::MAX;
        for queue in &mut self.queues {
            while let Some(&timer) = queue.front() {
                if timer.0 > until {
                    earliest = earliest.min(timer.0);
                    break;
                }
                queue.pop_front();
                self.heap.push(Reverse(timer));
            }
        }
        let first = self.heap.peek().map_or(u32::MAX, |timer| timer.0.0);
        let due = if first <= until { self.heap.pop().map(|timer| timer.0) } else { None };
        let next = self.heap.peek().map_or(u32::MAX, |timer| timer.0.0);
        self.earliest = earliest.min(next);
        due
    }

    /// Memory that this model itself takes, in bytes.
    pub fn model_bytes(&self) -> usize {
        let queued: usize = self.queues.iter().map(VecDeque::capacity).sum();
        (queued + self.heap.capacity()) * size_of::<Timer>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle is one heap. Spans are more than there are queues, and several timers end in one jiffy.
        #[test]
        fn timers_fire_in_the_order_of_one_heap(
            steps in prop::collection::vec((0u32..3, 0usize..11, 0u32..1_000, any::<bool>()), 1..400),
        ) {
            let (mut timers, mut heap) = (Timers::default(), BinaryHeap::new());
            let mut now = 0;
            for (passed, span, number, apart) in steps {
                now += passed;
                let at = now + [2, 60, 9, 30, 120, 5, 1, 15, 900, 4, 300][span] / 2;
                let at = if apart { now + number % 7 } else { at };
                if apart { timers.arm_apart(at, number) } else { timers.arm(at, number) }
                heap.push(Reverse((at, number)));
                if number % 3 > 0 {
                    continue;
                }
                loop {
                    let due = heap.peek().is_some_and(|timer| timer.0.0 <= now);
                    let wanted = if due { heap.pop().map(|timer| timer.0) } else { None };
                    prop_assert_eq!(timers.pop(now), wanted);
                    if wanted.is_none() {
                        break;
                    }
                }
            }
        }

        #[test]
        fn spans_keep_to_their_queues(spans in prop::collection::vec(0usize..4, 1..300)) {
            let mut timers = Timers::default();
            for (now, &span) in (0..).zip(&spans) {
                timers.arm(now + [500, 4_000, 15_000, 225_000][span], now);
            }
            prop_assert!(timers.queues.len() <= 4);
            prop_assert!(timers.heap.is_empty());
        }
    }
}
