//! The event engine: a queue ordered by (time, sequence), a loop, cancellable timers, a fingerprint.
//!
//! A [`Model`] is state and one function; everything that can happen is one enum, kept by value. The engine
//! takes the earliest event, moves the clock to it and calls [`Model::handle`], which schedules what follows:
//!
//! ```
//! use sim_core::des::{Context, Ending, Model, Simulation, TimerId};
//! use sim_core::units::{SimSpan, SimTime};
//!
//! /// Sends a packet, waits for the answer, and gives up after a second.
//! #[derive(Default)]
//! struct Client {
//!     timeout: Option<TimerId>,
//!     answered: u32,
//!     gave_up: u32,
//! }
//!
//! enum Event {
//!     Send { answer_takes: SimSpan },
//!     Answer,
//!     Timeout,
//! }
//!
//! impl Model for Client {
//!     type Event = Event;
//!
//!     fn handle(&mut self, event: Event, _now: SimTime, cx: &mut Context<Event>) {
//!         match event {
//!             Event::Send { answer_takes } => {
//!                 cx.schedule_after(answer_takes, Event::Answer);
//!                 self.timeout = Some(cx.start_timer(SimSpan::from_secs(1), Event::Timeout));
//!             }
//!             Event::Answer => {
//!                 // Cancelling hands the event back, or nothing if the timer was first.
//!                 if self.timeout.take().and_then(|timer| cx.cancel(timer)).is_some() {
//!                     self.answered += 1;
//!                 }
//!             }
//!             Event::Timeout => self.gave_up += 1,
//!         }
//!     }
//!
//!     fn digest(event: &Event) -> u64 {
//!         match event {
//!             Event::Send { answer_takes } => answer_takes.as_ns() << 2,
//!             Event::Answer => 1,
//!             Event::Timeout => 2,
//!         }
//!     }
//! }
//!
//! let mut simulation = Simulation::new(Client::default());
//! let cx = simulation.context();
//! cx.schedule_at(SimTime::ZERO, Event::Send { answer_takes: SimSpan::from_us(120) });
//! cx.schedule_at(SimTime::from_ns(5_000_000), Event::Send { answer_takes: SimSpan::from_secs(3) });
//!
//! let outcome = simulation.run();
//! assert_eq!(outcome.ending, Ending::Drained);
//! assert_eq!(outcome.events, 5);
//! assert_eq!((simulation.model().answered, simulation.model().gave_up), (1, 1));
//! ```
//!
//! * Ties leave in the order in which they were scheduled, timers by their last re-arming.
//! * The same model and events give the same [`Fingerprint`] on every machine.
//! * Scheduling in the past, or more than 2^24 pending events, is a bug of the model and panics with the values.
//!
//! Left out: threads, an event's cancellation without a timer, and any knowledge of what is simulated.

mod bottom;
mod chunks;
mod key;
mod ladder;
mod queue;
mod schedule;
mod simulation;
mod slab;
mod timer;
mod trace;

#[cfg(test)]
mod tests;

pub use queue::EventQueue;
pub use schedule::Schedule;
pub use simulation::{Context, Ending, Model, Outcome, Simulation};
pub use timer::TimerId;
pub use trace::Fingerprint;
