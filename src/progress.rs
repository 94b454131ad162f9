//! How far a run is: a bar with the time left, on stderr, and only if that is a terminal.
//!
//! The bar counts simulated time, not points: a point of an hour of 5,000 nodes is most of its run. Points that are
//! under way are named with how far each is.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};

/// Steps that the bar has for each point.
const STEPS: u64 = 1_000;
/// Points under way that are named.
const NAMED: usize = 3;

/// A progress bar that clears itself.
pub struct Progress {
    bar: ProgressBar,
    total: usize,
    state: Mutex<State>,
}

/// What is under way and what is done.
#[derive(Default)]
struct State {
    done: u64,
    /// Number of the point, its name, and how many of its steps it has gone.
    running: Vec<(u32, String, u64)>,
}

impl State {
    fn steps(&self) -> u64 {
        self.done * STEPS + self.running.iter().map(|(.., steps)| steps).sum::<u64>()
    }

    /// `2 of 6 points done; iptables 43 %, ipvs 12 %`
    fn told(&self, total: usize) -> String {
        let named = self.running.iter().take(NAMED);
        let mut parts: Vec<String> =
            named.map(|(_, name, steps)| format!("{name} {} %", steps / 10)).collect();
        if let Some(more) = self.running.len().checked_sub(NAMED).filter(|more| *more > 0) {
            parts.push(format!("{more} more"));
        }
        let under_way = if parts.is_empty() { String::new() } else { format!("; {}", parts.join(", ")) };
        format!("{} of {total} points done{under_way}", self.done)
    }
}

impl Progress {
    /// A bar of `total` points.
    pub fn new(name: &str, total: usize) -> Progress {
        let target =
            if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64 * STEPS), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent} %, {eta} left  {wide_msg}")
            .expect("the template is fixed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        Progress { bar, total, state: Mutex::new(State::default()) }
    }

    /// The point of that number is at `now` of `end`, both in whatever unit; may be called from any thread.
    pub fn at(&self, index: u32, what: &str, now: u64, end: u64) {
        // The last step is taken when the point is done.
        let share = u128::from(now) * u128::from(STEPS) / u128::from(end.max(1));
        let steps = u64::try_from(share).unwrap_or(STEPS).min(STEPS - 1);
        self.change(|state| match state.running.iter_mut().find(|(there, ..)| *there == index) {
            Some((.., there)) => *there = steps.max(*there),
            None => state.running.push((index, what.to_owned(), steps)),
        });
    }

    /// The point of that number is done; may be called from any thread.
    pub fn done(&self, index: u32) {
        self.change(|state| {
            state.running.retain(|(there, ..)| *there != index);
            state.done += 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        // A thread that panicked left the list as it was: good enough for a bar.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.bar.set_message(state.told(self.total));
        self.bar.set_position(state.steps());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_counts_simulated_time_and_names_what_is_under_way() {
        let progress = Progress::new("test", 6);
        progress.at(0, "iptables", 0, 3_600);
        progress.at(1, "ipvs", 900, 3_600);
        progress.at(0, "iptables", 3_600, 3_600);
        progress.done(5);
        let state = progress.state.lock().unwrap();
        assert_eq!(state.told(6), "1 of 6 points done; iptables 99 %, ipvs 25 %");
        assert_eq!(state.steps(), 1_000 + 999 + 250);
    }

    #[test]
    fn a_point_that_is_done_is_no_longer_under_way() {
        let progress = Progress::new("test", 5);
        for index in 0..5 {
            progress.at(index, "nftables", 1, 2);
        }
        assert_eq!(
            progress.state.lock().unwrap().told(5),
            "0 of 5 points done; nftables 50 %, nftables 50 %, nftables 50 %, 2 more"
        );
        progress.done(0);
        assert_eq!(progress.state.lock().unwrap().steps(), 3_000);
    }
}
