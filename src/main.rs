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
    match commands::dispatch(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell();
            failure.exit().into()
        }
    }
}
