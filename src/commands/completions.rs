//! `windtunnel completions`: scripts that let a shell complete commands and flags.

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::terminal;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Prints the script of one shell.
pub fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "windtunnel", &mut script);
    terminal::print(&String::from_utf8(script).expect("completions are UTF-8"))?;
    Ok(Exit::Fine)
}
