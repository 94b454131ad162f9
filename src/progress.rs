//! How far a run is: a bar with the time left, on stderr, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// A progress bar that clears itself.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar of `total` points.
    pub fn new(name: &str, total: usize) -> Progress {
        let target =
            if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} points, {eta} left  {msg}")
            .expect("the template is fixed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        Progress { bar }
    }
    /// One more point is done; may be called from any thread.
    pub fn done(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
