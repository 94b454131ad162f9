//! The loop: take the next event, hand it to the model, until a limit, a stop, or the end of all events.

use super::queue::EventQueue;
use super::timer::TimerId;
use super::trace::Fingerprint;
use crate::units::{SimSpan, SimTime};

/// What is simulated: state, and one function that an event changes it with.
pub trait Model {
    /// Everything that can happen, as one closed enum; small, since it is kept and moved by value.
    type Event;

    /// Lets `event` happen at `now`. Whatever follows from it is scheduled through `cx`.
    fn handle(&mut self, event: Self::Event, now: SimTime, cx: &mut Context<Self::Event>);

    /// A number that tells this event from others in the fingerprint of the run: its kind and its main fields.
    fn digest(event: &Self::Event) -> u64;
}

/// What a model can do to the future while it handles an event.
#[derive(Clone, Debug)]
pub struct Context<E> {
    queue: EventQueue<E>,
    stop: bool,
}

impl<E> Context<E> {
    /// The current instant.
    #[inline]
    pub fn now(&self) -> SimTime {
        self.queue.now()
    }

    /// Lets `event` happen at `at`, after everything that is already scheduled for that instant.
    ///
    /// # Panics
    /// If `at` is in the past, or the queue is full ([`EventQueue::push`]).
    #[inline]
    pub fn schedule_at(&mut self, at: SimTime, event: E) {
        self.queue.push(at, event);
    }

    /// Lets `event` happen `delay` from now; a delay of zero is after everything scheduled for this instant.
    ///
    /// # Panics
    /// If the instant cannot be represented, or the queue is full.
    #[inline]
    pub fn schedule_after(&mut self, delay: SimSpan, event: E) {
        self.queue.push(self.now() + delay, event);
    }

    /// Starts a timer that lets `event` happen at `at` unless it is cancelled.
    ///
    /// # Panics
    /// As [`schedule_at`](Self::schedule_at).
    #[inline]
    pub fn start_timer_at(&mut self, at: SimTime, event: E) -> TimerId {
        self.queue.push_timer(at, event)
    }

    /// Starts a timer that lets `event` happen `delay` from now unless it is cancelled.
    ///
    /// # Panics
    /// As [`schedule_after`](Self::schedule_after).
    #[inline]
    pub fn start_timer(&mut self, delay: SimSpan, event: E) -> TimerId {
        self.queue.push_timer(self.now() + delay, event)
    }

    /// Moves a pending timer to `delay` from now and updates `timer`; much cheaper than cancelling and starting
    /// one if that is later than before. Returns false if it has fired or was cancelled.
    ///
    /// # Panics
    /// As [`schedule_after`](Self::schedule_after).
    #[inline]
    pub fn rearm(&mut self, timer: &mut TimerId, delay: SimSpan) -> bool {
        let at = self.now() + delay;
        self.queue.rearm(timer, at)
    }

    /// Moves a pending timer to `at`, as [`rearm`](Self::rearm).
    ///
    /// # Panics
    /// As [`schedule_at`](Self::schedule_at).
    #[inline]
    pub fn rearm_at(&mut self, timer: &mut TimerId, at: SimTime) -> bool {
        self.queue.rearm(timer, at)
    }

    /// Cancels a timer and hands its event back; nothing if it has fired or was cancelled already.
    #[inline]
    pub fn cancel(&mut self, timer: TimerId) -> Option<E> {
        self.queue.cancel(timer)
    }

    /// When a timer is due; nothing if it has fired or was cancelled.
    pub fn timer_due(&self, timer: TimerId) -> Option<SimTime> {
        self.queue.timer_due(timer)
    }

    /// Ends the run after this event; what is pending stays pending.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Pending events, timers included.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is pending. The clock stands at the last event.
    Drained,
    /// The next event is later than the limit. The clock stands at the limit.
    Limit,
    /// The model asked for it. The clock stands at the event that did.
    Stopped,
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Events handled by this call.
    pub events: u64,
    /// The clock at the end.
    pub now: SimTime,
}

/// A model with its pending events.
#[derive(Clone, Debug)]
pub struct Simulation<M: Model> {
    model: M,
    cx: Context<M::Event>,
    fingerprint: Fingerprint,
    events: u64,
}

impl<M: Model> Simulation<M> {
    /// A simulation at [`SimTime::ZERO`] with nothing pending.
    pub fn new(model: M) -> Self {
        let cx = Context { queue: EventQueue::new(), stop: false };
        Simulation { model, cx, fingerprint: Fingerprint::new(), events: 0 }
    }

    /// Runs until nothing is pending, the next event is later than `limit`, or the model stops it. Events at
    /// `limit` itself are handled. The run can go on with another call.
    ///
    /// # Panics
    /// If the model schedules in the past, or too much.
    pub fn run_until(&mut self, limit: SimTime) -> Outcome {
        let before = self.events;
        self.cx.stop = false;
        let ending = loop {
            let Some((now, event)) = self.cx.queue.pop_until(limit) else {
                if self.cx.queue.is_empty() {
                    break Ending::Drained;
                }
                if limit > self.cx.now() {
                    self.cx.queue.advance(limit);
                }
                break Ending::Limit;
            };
            self.fingerprint.event(now, M::digest(&event));
            self.events += 1;
            self.model.handle(event, now, &mut self.cx);
            if self.cx.stop {
                break Ending::Stopped;
            }
        };
        Outcome { ending, events: self.events - before, now: self.cx.now() }
    }

    /// Runs until nothing is pending or the model stops it.
    ///
    /// # Panics
    /// As [`run_until`](Self::run_until).
    pub fn run(&mut self) -> Outcome {
        self.run_until(SimTime::MAX)
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to change between runs.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// The model and the context, to schedule first events with.
    pub fn parts(&mut self) -> (&mut M, &mut Context<M::Event>) {
        (&mut self.model, &mut self.cx)
    }

    /// The context, to schedule first events with.
    pub fn context(&mut self) -> &mut Context<M::Event> {
        &mut self.cx
    }

    /// The model, given up by the simulation.
    pub fn into_model(self) -> M {
        self.model
    }

    /// The current instant.
    pub fn now(&self) -> SimTime {
        self.cx.now()
    }

    /// Events handled since the start.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The fingerprint of all events handled since the start.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Bytes of memory that pending events hold.
    pub fn queue_bytes(&self) -> usize {
        self.cx.queue.bytes()
    }
}
