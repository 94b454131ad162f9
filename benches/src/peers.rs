//! The same workloads on other Rust engines: simulacra 0.1 and nexosim 1.0 (one thread).
//!
//! simulacra has no cancellation, so it has no timer churn. In nexosim all events belong to one model, which is the
//! nearest to an event enum.

use crate::engine::{HOLD_MEAN, IDLE, PACKET_GAP, SERVICE};
use nexosim::model::{Context, Model, ProtoModel, schedulable};
use nexosim::simulation::{EventKey, Mailbox, SimInit, Simulation as Nexosim};
use nexosim::time::MonotonicTime;
use serde::{Deserialize, Serialize};
use sim_core::dist::exponential;
use sim_core::rng::Stream;
use sim_core::units::SimSpan;
use simulacra::{Duration as Span, Simulation as Simulacra, Time};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An engine on which about so many more events can be run.
pub trait Peer {
    /// Runs about `events` more events and returns how many there were.
    fn advance(&mut self, events: u64) -> u64;
}

/// simulacra with a handler.
pub struct OnSimulacra<E, S> {
    simulation: Simulacra<E>,
    state: S,
    handle: fn(&mut S, &mut Simulacra<E>, E),
}

impl<E, S> Peer for OnSimulacra<E, S> {
    fn advance(&mut self, events: u64) -> u64 {
        for _ in 0..events {
            let Some(scheduled) = self.simulation.step() else { unreachable!("a workload never ends") };
            (self.handle)(&mut self.state, &mut self.simulation, scheduled.event);
        }
        events
    }
}

fn span(stream: &mut Stream, mean: SimSpan) -> Span {
    Span::from_nanos(exponential(stream, mean).as_ns())
}

/// The hold model on simulacra.
pub fn hold_on_simulacra(n: u32) -> impl Peer {
    let mut state = Stream::new(1, "hold", "delays");
    let mut simulation = Simulacra::new();
    for i in 0..n {
        simulation.schedule_in(span(&mut state, HOLD_MEAN), i);
    }
    OnSimulacra {
        simulation,
        state,
        handle: |state, simulation, event| {
            simulation.schedule_in(span(state, HOLD_MEAN), event);
        },
    }
}

struct Server {
    draws: Stream,
    waiting: VecDeque<Time>,
    busy: bool,
    waited_ns: u64,
}

impl Server {
    fn serve(&mut self, arrived: Time, simulation: &mut Simulacra<bool>) {
        self.waited_ns += simulation.now().as_nanos() - arrived.as_nanos();
        simulation.schedule_in(span(&mut self.draws, SERVICE), false);
    }

    fn handle(&mut self, simulation: &mut Simulacra<bool>, arrives: bool) {
        if !arrives {
            match self.waiting.pop_front() {
                Some(arrived) => self.serve(arrived, simulation),
                None => self.busy = false,
            }
            return;
        }
        let now = simulation.now();
        simulation.schedule_in(span(&mut self.draws, SimSpan::from_ns(SERVICE.as_ns() / 4 * 5)), true);
        if self.busy {
            self.waiting.push_back(now);
        } else {
            self.busy = true;
            self.serve(now, simulation);
        }
    }
}

/// The M/M/1 queue on simulacra.
pub fn mm1_on_simulacra() -> impl Peer {
    let draws = Stream::new(1, "mm1", "draws");
    let mut simulation = Simulacra::new();
    simulation.schedule(Time::ZERO, true);
    let state = Server { draws, waiting: VecDeque::new(), busy: false, waited_ns: 0 };
    OnSimulacra { simulation, state, handle: Server::handle }
}

/// Events handled by the nexosim models; a plain counter, since they run on one thread.
static EVENTS: AtomicU64 = AtomicU64::new(0);

fn count() {
    EVENTS.store(EVENTS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn stream() -> Stream {
    Stream::new(1, "nexosim", "draws")
}

fn delay(stream: &mut Stream, mean: SimSpan) -> Duration {
    // nexosim refuses to schedule at the current instant.
    Duration::from_nanos(exponential(stream, mean).as_ns().max(1))
}

/// The hold model.
#[derive(Serialize, Deserialize)]
pub struct Hold {
    n: u32,
    #[serde(skip, default = "stream")]
    draws: Stream,
}

#[Model]
impl Hold {
    #[nexosim(init)]
    async fn init(&mut self, cx: &Context<Self>) {
        for i in 0..self.n {
            cx.schedule_event(delay(&mut self.draws, HOLD_MEAN), schedulable!(Self::fire), i).unwrap();
        }
    }

    #[nexosim(schedulable)]
    fn fire(&mut self, event: u32, cx: &Context<Self>) {
        count();
        cx.schedule_event(delay(&mut self.draws, HOLD_MEAN), schedulable!(Self::fire), event).unwrap();
    }
}

/// Flows with idle timers.
#[derive(Serialize, Deserialize)]
pub struct Churn {
    #[serde(skip)]
    timers: Vec<Option<EventKey>>,
    n: u32,
    #[serde(skip, default = "stream")]
    draws: Stream,
}

#[Model]
impl Churn {
    #[nexosim(init)]
    async fn init(&mut self, cx: &Context<Self>) {
        for flow in 0..self.n {
            cx.schedule_event(delay(&mut self.draws, PACKET_GAP), schedulable!(Self::packet), flow).unwrap();
        }
    }

    #[nexosim(schedulable)]
    fn packet(&mut self, flow: u32, cx: &Context<Self>) {
        count();
        cx.schedule_event(delay(&mut self.draws, PACKET_GAP), schedulable!(Self::packet), flow).unwrap();
        if let Some(timer) = self.timers[flow as usize].take() {
            timer.cancel();
        }
        let idle = Duration::from_nanos(IDLE.as_ns());
        let timer = cx.schedule_keyed_event(idle, schedulable!(Self::idle), flow).unwrap();
        self.timers[flow as usize] = Some(timer);
    }

    #[nexosim(schedulable)]
    fn idle(&mut self, flow: u32) {
        self.timers[flow as usize] = None;
    }
}

/// One server and its queue.
#[derive(Serialize, Deserialize)]
pub struct Mm1 {
    #[serde(skip)]
    waiting: VecDeque<MonotonicTime>,
    busy: bool,
    waited: Duration,
    #[serde(skip, default = "stream")]
    draws: Stream,
}

#[Model]
impl Mm1 {
    #[nexosim(init)]
    async fn init(&mut self, cx: &Context<Self>) {
        cx.schedule_event(Duration::from_nanos(1), schedulable!(Self::arrives), ()).unwrap();
    }

    fn serve(&mut self, arrived: MonotonicTime, cx: &Context<Self>) {
        self.waited += cx.time().duration_since(arrived);
        cx.schedule_event(delay(&mut self.draws, SERVICE), schedulable!(Self::leaves), ()).unwrap();
    }

    #[nexosim(schedulable)]
    fn arrives(&mut self, _: (), cx: &Context<Self>) {
        count();
        let gap = delay(&mut self.draws, SimSpan::from_ns(SERVICE.as_ns() / 4 * 5));
        cx.schedule_event(gap, schedulable!(Self::arrives), ()).unwrap();
        if self.busy {
            self.waiting.push_back(cx.time());
        } else {
            self.busy = true;
            self.serve(cx.time(), cx);
        }
    }

    #[nexosim(schedulable)]
    fn leaves(&mut self, _: (), cx: &Context<Self>) {
        count();
        match self.waiting.pop_front() {
            Some(arrived) => self.serve(arrived, cx),
            None => self.busy = false,
        }
    }
}

/// A nexosim simulation whose events are `gap_ns` apart.
pub struct OnNexosim {
    simulation: Nexosim,
    gap_ns: f64,
}

impl Peer for OnNexosim {
    fn advance(&mut self, events: u64) -> u64 {
        let before = EVENTS.load(Ordering::Relaxed);
        self.simulation.step_until(Duration::from_nanos((events as f64 * self.gap_ns) as u64)).unwrap();
        EVENTS.load(Ordering::Relaxed) - before
    }
}

fn on_nexosim<M: Model + ProtoModel<Model = M>>(model: M, gap_ns: f64) -> OnNexosim {
    let simulation = SimInit::with_num_threads(1)
        .add_model(model, Mailbox::new(), "model")
        .init(MonotonicTime::EPOCH)
        .expect("the model starts");
    OnNexosim { simulation, gap_ns }
}

/// The hold model on nexosim.
pub fn hold_on_nexosim(n: u32) -> OnNexosim {
    on_nexosim(Hold { n, draws: stream() }, crate::engine::hold_gap_ns(n))
}

/// The M/M/1 queue on nexosim.
pub fn mm1_on_nexosim() -> OnNexosim {
    let model = Mm1 { waiting: VecDeque::new(), busy: false, waited: Duration::ZERO, draws: stream() };
    on_nexosim(model, crate::engine::mm1_gap_ns())
}

/// The timer churn on nexosim.
pub fn churn_on_nexosim(n: u32) -> OnNexosim {
    let timers = (0..n).map(|_| None).collect();
    on_nexosim(Churn { timers, n, draws: stream() }, crate::engine::churn_gap_ns(n))
}
