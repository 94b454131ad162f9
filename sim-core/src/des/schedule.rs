//! How a part of a model puts its own events into the queue of the whole.
//!
//! A part knows its own enum of events only; the model's enum has a variant for it and says so with `From`. A part is
//! tested alone under a model whose events are the part's.

use super::Context;
use crate::units::{SimSpan, SimTime};

/// A place to put events of one kind.
pub trait Schedule<E> {
    /// Schedules `event` at `at`, which must not be over.
    fn at(&mut self, at: SimTime, event: E);
    /// Schedules `event` after `delay`.
    fn after(&mut self, delay: SimSpan, event: E);
}

impl<Part, Whole: From<Part>> Schedule<Part> for Context<Whole> {
    fn at(&mut self, at: SimTime, event: Part) {
        self.schedule_at(at, event.into());
    }
    fn after(&mut self, delay: SimSpan, event: Part) {
        self.schedule_after(delay, event.into());
    }
}
