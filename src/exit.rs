//! What the shell gets back, and the failures that lead there.

use std::process::ExitCode;

/// Exit codes; part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything went well.
    Fine = 0,
    /// Our fault.
    Ours = 1,
    /// Wrong usage or input.
    Input = 2,
    /// A gate of the scenario or a limit of `validate` did not hold, or `rules --diff` found a difference.
    GateFailed = 3,
    /// A figure of the scenario is extrapolated beyond the calibrated range, and `--strict` forbids it.
    OutsideRange = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended without its result.
#[derive(Debug)]
pub enum Failure {
    /// Our fault, in one line.
    Ours(String),
    /// The user's input is wrong: finished text, may be many lines.
    Input(String),
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads our output any more (`| head`): no reason to complain.
    ClosedPipe,
}

impl Failure {
    /// The code that the shell gets.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Ours(_) => Exit::Ours,
            Failure::Input(_) => Exit::Input,
            Failure::Interrupted => Exit::Interrupted,
            Failure::ClosedPipe => Exit::Fine,
        }
    }

    /// Says it on stderr.
    pub fn tell(&self) {
        match self {
            Failure::Ours(message) => eprintln!("error: {message}"),
            Failure::Input(text) => eprint!("{text}"),
            Failure::Interrupted => eprintln!("interrupted: nothing was written"),
            Failure::ClosedPipe => {}
        }
    }
}
