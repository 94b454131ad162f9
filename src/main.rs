//! The `windtunnel` command: the only code that touches files, clocks, terminals and threads.
//!
//! [`cli`] says what can be typed, [`commands`] has one file a command, [`exit`] what the shell gets back,
//! [`output`] how results reach the disk whole or not at all.

mod cli;
mod commands;
mod exit;
mod interrupt;
mod known;
mod output;
mod progress;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // --help and --version are no errors: clap prints them on stdout.
            let exit = if error.use_stderr() { exit::Exit::Input } else { exit::Exit::Fine };
            // A closed pipe (`windtunnel --help | head -1`) leaves nobody to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    // A panic is a broken invariant: ours, never the user's. Unwinding removes half-written results on the way.
    match std::panic::catch_unwind(|| commands::dispatch(arguments)) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            failure.tell();
            failure.exit().into()
        }
        Err(_) => {
            eprintln!(
                "error: this is a bug in windtunnel, not in your input: please report it with the lines above"
            );
            exit::Exit::Ours.into()
        }
    }
}
