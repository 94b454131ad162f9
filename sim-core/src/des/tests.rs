//! The queue in lockstep with a plain binary heap, and what the engine promises.

use super::*;
use crate::dist::exponential;
use crate::rng::Stream;
use crate::units::{SimSpan, SimTime};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// The reference: a heap of (time, sequence, event), and the set of what was cancelled.
#[derive(Default)]
struct Oracle {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    /// Sequences that are still to happen.
    live: BTreeSet<u64>,
    sequence: u64,
    now: u64,
}

impl Oracle {
    fn push(&mut self, at: u64, event: u32) -> u64 {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, event)));
        self.live.insert(self.sequence);
        self.sequence
    }

    fn peek(&mut self) -> Option<u64> {
        while let Some(Reverse((at, sequence, _))) = self.heap.peek() {
            if self.live.contains(sequence) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    fn pop_until(&mut self, limit: u64) -> Option<(u64, u32)> {
        self.peek().filter(|at| *at <= limit)?;
        let Reverse((at, sequence, event)) = self.heap.pop().unwrap();
        self.live.remove(&sequence);
        self.now = at;
        Some((at, event))
    }
}

/// How far ahead an operation schedules.
#[derive(Clone, Copy, Debug)]
enum Delay {
    Zero,
    Nanoseconds(u64),
    Microseconds(u64),
    Timeout(u64),
    Anywhere(u64),
    EndOfTime(u64),
}

impl Delay {
    fn after(self, now: u64) -> u64 {
        match self {
            Delay::Zero => now,
            Delay::Nanoseconds(n) => now.saturating_add(n),
            Delay::Microseconds(n) => now.saturating_add(n),
            Delay::Timeout(n) => now.saturating_add(120_000_000_000 + n),
            Delay::Anywhere(n) => now.saturating_add(n >> (n % 60)),
            Delay::EndOfTime(n) => now.max(u64::MAX - n),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(Delay),
    Burst(Delay, usize),
    Start(Delay),
    Cancel(usize),
    CancelMany(usize),
    Rearm(usize, Delay),
    Pop(usize),
    PopUntil(Delay),
    Peek,
    Advance(Delay),
}

fn delay() -> impl Strategy<Value = Delay> {
    prop_oneof![
        2 => Just(Delay::Zero),
        2 => (0u64..300).prop_map(Delay::Nanoseconds),
        6 => (1_000u64..50_000).prop_map(Delay::Microseconds),
        3 => (0u64..1_000_000).prop_map(Delay::Timeout),
        2 => any::<u64>().prop_map(Delay::Anywhere),
    ]
}

fn delay_or_end() -> impl Strategy<Value = Delay> {
    prop_oneof![40 => delay(), 1 => (0u64..400).prop_map(Delay::EndOfTime)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => delay_or_end().prop_map(Op::Push),
        2 => (delay_or_end(), 1usize..700).prop_map(|(d, n)| Op::Burst(d, n)),
        5 => delay_or_end().prop_map(Op::Start),
        3 => any::<usize>().prop_map(Op::Cancel),
        1 => (0usize..600).prop_map(Op::CancelMany),
        5 => (any::<usize>(), delay_or_end()).prop_map(|(i, d)| Op::Rearm(i, d)),
        5 => (1usize..12).prop_map(Op::Pop),
        1 => (100usize..900).prop_map(Op::Pop),
        3 => delay().prop_map(Op::PopUntil),
        2 => Just(Op::Peek),
        2 => delay().prop_map(Op::Advance),
    ]
}

fn in_lockstep(ops: &[Op]) {
    let mut queue = EventQueue::new();
    let mut oracle = Oracle::default();
    // Every timer ever started: its name, the oracle's sequence, the event.
    let mut timers: Vec<(TimerId, u64, u32)> = Vec::new();
    let mut event = 0u32;
    let pop = |queue: &mut EventQueue<u32>, oracle: &mut Oracle, limit: u64| {
        let got = queue.pop_until(SimTime::from_ns(limit)).map(|(at, e)| (at.as_ns(), e));
        assert_eq!(got, oracle.pop_until(limit));
        got.is_some()
    };
    let cancel =
        |queue: &mut EventQueue<u32>, oracle: &mut Oracle, (id, sequence, event): (TimerId, u64, u32)| {
            let expected = oracle.live.remove(&sequence).then_some(event);
            assert_eq!(queue.cancel(id), expected);
            assert_eq!(queue.timer_due(id), None);
        };
    for op in ops {
        let now = oracle.now;
        match *op {
            Op::Push(delay) => {
                event += 1;
                queue.push(SimTime::from_ns(delay.after(now)), event);
                oracle.push(delay.after(now), event);
            }
            Op::Burst(delay, n) => {
                for _ in 0..n {
                    event += 1;
                    queue.push(SimTime::from_ns(delay.after(now)), event);
                    oracle.push(delay.after(now), event);
                }
            }
            Op::Start(delay) => {
                event += 1;
                let id = queue.push_timer(SimTime::from_ns(delay.after(now)), event);
                timers.push((id, oracle.push(delay.after(now), event), event));
            }
            Op::Cancel(i) if !timers.is_empty() => {
                cancel(&mut queue, &mut oracle, timers[i % timers.len()]);
            }
            Op::CancelMany(n) => {
                for timer in timers.iter().rev().take(n) {
                    cancel(&mut queue, &mut oracle, *timer);
                }
            }
            Op::Rearm(i, delay) if !timers.is_empty() => {
                let i = i % timers.len();
                let (mut id, sequence, event) = timers[i];
                let pending = oracle.live.remove(&sequence);
                assert_eq!(queue.rearm(&mut id, SimTime::from_ns(delay.after(now))), pending);
                if pending {
                    timers[i] = (id, oracle.push(delay.after(now), event), event);
                    assert_eq!(queue.timer_due(id), Some(SimTime::from_ns(delay.after(now))));
                }
            }
            Op::Pop(n) => {
                for _ in 0..n {
                    pop(&mut queue, &mut oracle, u64::MAX);
                }
            }
            Op::PopUntil(delay) => while pop(&mut queue, &mut oracle, delay.after(now)) {},
            Op::Peek => assert_eq!(queue.peek_time().map(SimTime::as_ns), oracle.peek()),
            Op::Advance(delay) => {
                let to = delay.after(now).min(oracle.peek().unwrap_or(u64::MAX));
                queue.advance(SimTime::from_ns(to));
                oracle.now = to;
            }
            Op::Cancel(_) | Op::Rearm(..) => {}
        }
        assert_eq!(queue.len(), oracle.live.len());
    }
    while pop(&mut queue, &mut oracle, u64::MAX) {}
    assert!(queue.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn the_queue_and_a_binary_heap_agree_on_every_operation(ops in prop::collection::vec(op(), 1..250)) {
        in_lockstep(&ops);
    }
}

#[test]
fn thousands_of_ties_leave_in_the_order_they_came() {
    let mut queue = EventQueue::new();
    let at = SimTime::from_ns(1_000_000);
    for i in 0..10_000u32 {
        queue.push(at, i);
    }
    // While the burst is handled, each of its first events adds one more to it.
    for i in 0..20_000u32 {
        assert_eq!(queue.pop(), Some((at, i)));
        if i < 10_000 {
            queue.push(at, 10_000 + i);
        }
    }
    assert_eq!(queue.pop(), None);
}

#[test]
fn a_burst_in_reverse_order_beside_far_timeouts_comes_out_sorted() {
    let mut queue = EventQueue::new();
    for i in (0..5_000u64).rev() {
        queue.push(SimTime::from_ns(i), i);
        queue.push(SimTime::from_ns(120_000_000_000 + i), i);
    }
    for base in [0, 120_000_000_000] {
        for i in 0..5_000 {
            assert_eq!(queue.pop(), Some((SimTime::from_ns(base + i), i)));
        }
    }
}

#[test]
fn the_last_instant_of_all_can_be_scheduled() {
    let mut queue = EventQueue::new();
    for i in 0..500u32 {
        queue.push(SimTime::MAX, i);
    }
    queue.push(SimTime::from_ns(u64::MAX - 1), 500);
    assert_eq!(queue.pop().map(|(_, e)| e), Some(500));
    for i in 0..500 {
        assert_eq!(queue.pop(), Some((SimTime::MAX, i)));
    }
}

#[test]
fn a_million_cancelled_or_rearmed_timers_hold_no_more_memory_than_the_live_ones() {
    let timeout = 120_000_000_000;
    let mut queue = EventQueue::new();
    let mut timers: Vec<TimerId> =
        (0..1_000u64).map(|i| queue.push_timer(SimTime::from_ns(timeout + i), i)).collect();
    let mut last = vec![0; timers.len()];
    let mut bytes = 0;
    for round in 0..1_000_000u64 {
        queue.push(SimTime::from_ns(round * 100), u64::MAX);
        assert_eq!(queue.pop(), Some((SimTime::from_ns(round * 100), u64::MAX)));
        let i = (round % 1_000) as usize;
        // In turn: postponed, brought forward, and cancelled and started anew.
        let due =
            SimTime::from_ns(round * 100 + timeout - [0, 1_000_000_000, 0][(round / 1_000 % 3) as usize]);
        if round / 1_000 % 3 < 2 {
            assert!(queue.rearm(&mut timers[i], due));
        } else {
            assert_eq!(queue.cancel(timers[i]), Some(i as u64));
            timers[i] = queue.push_timer(due, i as u64);
        }
        last[i] = due.as_ns();
        bytes = bytes.max(queue.bytes());
    }
    assert_eq!(queue.len(), 1_000);
    assert!(bytes < 400_000, "{bytes} bytes for 1,000 timers");
    let mut expected: Vec<(u64, u64)> = (0..1_000).map(|i| (last[i], i as u64)).collect();
    expected.sort();
    let fired: Vec<(u64, u64)> = std::iter::from_fn(|| queue.pop()).map(|(at, i)| (at.as_ns(), i)).collect();
    assert_eq!(fired, expected);
}

#[test]
fn a_stale_timer_name_never_touches_the_timer_that_follows_in_its_slot() {
    let mut queue = EventQueue::new();
    let first = queue.push_timer(SimTime::from_ns(5), 1);
    assert_eq!(queue.pop(), Some((SimTime::from_ns(5), 1)));
    let second = queue.push_timer(SimTime::from_ns(9), 2);
    assert_eq!(queue.cancel(first), None);
    assert!(!queue.rearm(&mut first.clone(), SimTime::from_ns(7)));
    assert_eq!(queue.timer_due(second), Some(SimTime::from_ns(9)));
    assert_eq!(queue.pop(), Some((SimTime::from_ns(9), 2)));
}

#[test]
fn a_rearmed_timer_ties_as_if_it_were_scheduled_when_it_was_rearmed() {
    let mut queue = EventQueue::new();
    let at = SimTime::from_ns(10);
    let mut same = queue.push_timer(at, "same instant");
    let mut later = queue.push_timer(SimTime::from_ns(4), "from earlier");
    let mut sooner = queue.push_timer(SimTime::from_ns(20), "from later");
    queue.push(at, "plain");
    for timer in [&mut same, &mut later, &mut sooner] {
        assert!(queue.rearm(timer, at));
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, ["plain", "same instant", "from earlier", "from later"].map(|e| (at, e)));
}

#[test]
#[should_panic(expected = "scheduled at 4 ns, but it is 5 ns already")]
fn scheduling_in_the_past_is_a_bug_and_names_both_instants() {
    let mut queue = EventQueue::new();
    queue.push(SimTime::from_ns(5), ());
    queue.pop();
    queue.push(SimTime::from_ns(4), ());
}

#[test]
fn a_pending_event_holds_at_most_32_bytes_beside_itself() {
    let mut queue = EventQueue::new();
    let mut stream = Stream::new(3, "t", "memory");
    let n = 200_000u32;
    for i in 0..n {
        queue.push(SimTime::ZERO + exponential(&mut stream, SimSpan::from_ms(1)), u64::from(i));
    }
    for i in 0..4 * n {
        let (now, event) = queue.pop().unwrap();
        queue.push(now + exponential(&mut stream, SimSpan::from_ms(1)), event);
        let beside = queue.bytes() as f64 / f64::from(n) - 8.0;
        assert!(beside <= 32.0, "{beside} bytes beside each event after {i} events");
    }
}

/// A single server with a queue; Poisson arrivals, exponential service, load 0.8.
struct Mm1 {
    arrivals: Stream,
    services: Stream,
    service: SimSpan,
    waiting: std::collections::VecDeque<SimTime>,
    busy: bool,
    waits: Vec<f64>,
}

enum Mm1Event {
    Arrival,
    Departure,
}

impl Mm1 {
    fn serve(&mut self, arrived: SimTime, now: SimTime, cx: &mut Context<Mm1Event>) {
        self.waits.push(now.since(arrived).as_ns() as f64 / self.service.as_ns() as f64);
        cx.schedule_after(exponential(&mut self.services, self.service), Mm1Event::Departure);
    }
}

impl Model for Mm1 {
    type Event = Mm1Event;

    fn handle(&mut self, event: Mm1Event, now: SimTime, cx: &mut Context<Mm1Event>) {
        match event {
            Mm1Event::Arrival => {
                let gap = SimSpan::from_ns(self.service.as_ns() * 5 / 4);
                cx.schedule_after(exponential(&mut self.arrivals, gap), Mm1Event::Arrival);
                if self.busy {
                    self.waiting.push_back(now);
                } else {
                    self.busy = true;
                    self.serve(now, now, cx);
                }
            }
            Mm1Event::Departure => match self.waiting.pop_front() {
                Some(arrived) => self.serve(arrived, now, cx),
                None => self.busy = false,
            },
        }
    }

    fn digest(event: &Mm1Event) -> u64 {
        matches!(event, Mm1Event::Arrival).into()
    }
}

fn mm1(seed: u64, service: SimSpan, jobs: u64) -> Simulation<Mm1> {
    let model = Mm1 {
        arrivals: Stream::new(seed, "mm1", "arrivals"),
        services: Stream::new(seed, "mm1", "services"),
        service,
        waiting: Default::default(),
        busy: false,
        waits: Vec::new(),
    };
    let mut simulation = Simulation::new(model);
    simulation.context().schedule_at(SimTime::ZERO, Mm1Event::Arrival);
    simulation.run_until(SimTime::ZERO + service.times(jobs * 5 / 4));
    simulation
}

#[test]
fn the_mean_wait_of_an_mm1_queue_at_load_08_is_four_service_times() {
    let means: Vec<f64> = (0..20)
        .map(|seed| {
            let waits = mm1(seed, SimSpan::from_us(10), 60_000).into_model().waits;
            let settled = &waits[10_000..];
            settled.iter().sum::<f64>() / settled.len() as f64
        })
        .collect();
    let interval = crate::stats::t_interval(&means, crate::stats::Confidence::P99).unwrap();
    assert!(interval.contains(4.0), "{interval:?}");
    assert!(interval.half_width < 0.25, "{interval:?}");
}

#[test]
fn the_same_seed_gives_the_same_fingerprint_and_another_seed_another() {
    let print = |seed| mm1(seed, SimSpan::from_us(10), 1_000).fingerprint();
    assert_eq!(print(1), print(1));
    assert_ne!(print(1), print(2));
}

#[test]
fn a_run_in_many_parts_equals_a_run_in_one() {
    let mut parts = mm1(5, SimSpan::from_us(10), 0);
    for step in 1..=1_000 {
        let outcome = parts.run_until(SimTime::from_ns(step * 12_500));
        assert_eq!(outcome.now, SimTime::from_ns(step * 12_500));
        assert_eq!(outcome.ending, Ending::Limit);
    }
    let whole = mm1(5, SimSpan::from_us(10), 1_000);
    assert_eq!(parts.now(), whole.now());
    assert_eq!((parts.events(), parts.fingerprint()), (whole.events(), whole.fingerprint()));
}

/// Counts down and stops at zero.
struct Countdown(u32);

impl Model for Countdown {
    type Event = ();

    fn handle(&mut self, (): (), _now: SimTime, cx: &mut Context<()>) {
        self.0 -= 1;
        cx.schedule_after(SimSpan::from_ns(1), ());
        if self.0 == 0 {
            cx.stop();
        }
    }

    fn digest((): &()) -> u64 {
        0
    }
}

#[test]
fn a_model_that_stops_the_run_leaves_what_is_pending() {
    let mut simulation = Simulation::new(Countdown(3));
    simulation.context().schedule_at(SimTime::from_ns(10), ());
    let outcome = simulation.run();
    assert_eq!(outcome, Outcome { ending: Ending::Stopped, events: 3, now: SimTime::from_ns(12) });
    assert_eq!(simulation.context().pending(), 1);
}
