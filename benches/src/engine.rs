//! The standard workloads of event engines, on this project's engine.
//!
//! * [`hold`]: `n` pending events; each one re-schedules itself after an exponential delay.
//! * [`mm1`]: one server at load 0.8, two events a job.
//! * [`churn`]: `n` flows; every packet of a flow re-arms its idle timer, which hardly ever fires.
//!
//! Every delay is drawn with ChaCha8 and libm, as in the simulator itself.

use sim_core::des::{Context, Model, Simulation, TimerId};
use sim_core::dist::exponential;
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::collections::VecDeque;

/// Mean delay of an event in the hold model.
pub const HOLD_MEAN: SimSpan = SimSpan::from_secs(1);
/// Mean service time in the M/M/1 model; arrivals are 5/4 of it apart.
pub const SERVICE: SimSpan = SimSpan::from_us(8);
/// Mean gap between the packets of one flow.
pub const PACKET_GAP: SimSpan = SimSpan::from_ms(10);
/// A flow is idle after this long without a packet.
pub const IDLE: SimSpan = SimSpan::from_secs(1);

/// The hold model.
#[derive(Debug)]
pub struct Hold(Stream);

/// Its only event: the one with this number comes up.
#[derive(Clone, Copy, Debug)]
pub struct Fire(pub u32);

impl Model for Hold {
    type Event = Fire;

    fn handle(&mut self, event: Fire, _now: SimTime, cx: &mut Context<Fire>) {
        cx.schedule_after(exponential(&mut self.0, HOLD_MEAN), event);
    }

    fn digest(event: &Fire) -> u64 {
        event.0.into()
    }
}

/// A hold model with `n` pending events.
pub fn hold(n: u32) -> Simulation<Hold> {
    let mut simulation = Simulation::new(Hold(Stream::new(1, "hold", "delays")));
    let (model, cx) = simulation.parts();
    for i in 0..n {
        cx.schedule_after(exponential(&mut model.0, HOLD_MEAN), Fire(i));
    }
    simulation
}

/// One server and its queue.
#[derive(Debug)]
pub struct Mm1 {
    draws: Stream,
    waiting: VecDeque<SimTime>,
    busy: bool,
    jobs: u64,
    waited_ns: u64,
}

/// What happens at a server.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// A job arrives.
    Arrives,
    /// The job in service leaves.
    Leaves,
}

impl Mm1 {
    fn serve(&mut self, arrived: SimTime, now: SimTime, cx: &mut Context<Job>) {
        self.jobs += 1;
        self.waited_ns += now.since(arrived).as_ns();
        cx.schedule_after(exponential(&mut self.draws, SERVICE), Job::Leaves);
    }

    /// Mean wait in service times; 4.0 in theory.
    pub fn mean_wait(&self) -> f64 {
        self.waited_ns as f64 / self.jobs as f64 / SERVICE.as_ns() as f64
    }
}

impl Model for Mm1 {
    type Event = Job;

    fn handle(&mut self, event: Job, now: SimTime, cx: &mut Context<Job>) {
        match event {
            Job::Arrives => {
                let gap = SimSpan::from_ns(SERVICE.as_ns() / 4 * 5);
                cx.schedule_after(exponential(&mut self.draws, gap), Job::Arrives);
                if self.busy {
                    self.waiting.push_back(now);
                } else {
                    self.busy = true;
                    self.serve(now, now, cx);
                }
            }
            Job::Leaves => match self.waiting.pop_front() {
                Some(arrived) => self.serve(arrived, now, cx),
                None => self.busy = false,
            },
        }
    }

    fn digest(event: &Job) -> u64 {
        *event as u64
    }
}

/// An M/M/1 queue about to get its first job.
pub fn mm1() -> Simulation<Mm1> {
    let draws = Stream::new(1, "mm1", "draws");
    let mut simulation =
        Simulation::new(Mm1 { draws, waiting: VecDeque::new(), busy: false, jobs: 0, waited_ns: 0 });
    simulation.context().schedule_at(SimTime::ZERO, Job::Arrives);
    simulation
}

/// How a flow's timer is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// With `rearm`.
    Rearm,
    /// With `cancel` and a new timer.
    Restart,
}

/// Flows with idle timers.
#[derive(Debug)]
pub struct Churn {
    draws: Stream,
    timers: Vec<Option<TimerId>>,
    how: Move,
    /// Flows that were idle for [`IDLE`].
    pub expired: u64,
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug)]
pub enum Flow {
    /// A packet of the flow.
    Packet(u32),
    /// The flow was idle.
    Idle(u32),
}

impl Model for Churn {
    type Event = Flow;

    fn handle(&mut self, event: Flow, _now: SimTime, cx: &mut Context<Flow>) {
        match event {
            Flow::Packet(flow) => {
                cx.schedule_after(exponential(&mut self.draws, PACKET_GAP), event);
                let timer = &mut self.timers[flow as usize];
                let moved = match (self.how, &mut *timer) {
                    (Move::Rearm, Some(timer)) => cx.rearm(timer, IDLE),
                    (Move::Restart, Some(timer)) => {
                        cx.cancel(*timer);
                        false
                    }
                    (_, None) => false,
                };
                if !moved {
                    *timer = Some(cx.start_timer(IDLE, Flow::Idle(flow)));
                }
            }
            Flow::Idle(flow) => {
                self.timers[flow as usize] = None;
                self.expired += 1;
            }
        }
    }

    fn digest(event: &Flow) -> u64 {
        match *event {
            Flow::Packet(flow) => u64::from(flow) << 1,
            Flow::Idle(flow) => u64::from(flow) << 1 | 1,
        }
    }
}

/// `n` flows, each about to send its first packet.
pub fn churn(n: u32, how: Move) -> Simulation<Churn> {
    let draws = Stream::new(1, "churn", "gaps");
    let mut simulation = Simulation::new(Churn { draws, timers: vec![None; n as usize], how, expired: 0 });
    let (model, cx) = simulation.parts();
    for flow in 0..n {
        cx.schedule_after(exponential(&mut model.draws, PACKET_GAP), Flow::Packet(flow));
    }
    simulation
}

/// Runs for the time in which about `events` events are expected, `gap_ns` apart, and returns how many there were.
pub fn advance<M: Model>(simulation: &mut Simulation<M>, events: u64, gap_ns: f64) -> u64 {
    let span = SimSpan::from_ns_f64((events as f64 * gap_ns).max(1.0));
    simulation.run_until(simulation.now() + span).events
}

/// Mean gap between events of [`hold`].
pub fn hold_gap_ns(n: u32) -> f64 {
    HOLD_MEAN.as_ns() as f64 / f64::from(n)
}

/// Mean gap between events of [`mm1`]: an arrival and a departure a job.
pub fn mm1_gap_ns() -> f64 {
    SERVICE.as_ns() as f64 * 1.25 / 2.0
}

/// Mean gap between packets of [`churn`].
pub fn churn_gap_ns(n: u32) -> f64 {
    PACKET_GAP.as_ns() as f64 / f64::from(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_do_the_work_they_are_measured_for() {
        let mut simulation = hold(1_000);
        let events = advance(&mut simulation, 20_000, hold_gap_ns(1_000));
        assert!((19_000..21_000).contains(&events), "{events}");
        assert_eq!(simulation.context().pending(), 1_000);

        let mut simulation = mm1();
        let events = advance(&mut simulation, 400_000, mm1_gap_ns());
        assert!((390_000..410_000).contains(&events), "{events}");
        assert!((3.5..4.5).contains(&simulation.model().mean_wait()), "{}", simulation.model().mean_wait());
    }

    #[test]
    fn rearming_and_restarting_timers_give_the_same_stream_of_events() {
        let print = |how| {
            let mut simulation = churn(300, how);
            advance(&mut simulation, 50_000, churn_gap_ns(300));
            simulation.fingerprint()
        };
        assert_eq!(print(Move::Rearm), print(Move::Restart));
    }
}
