//! One file a command.

pub mod completions;
pub mod explain;
pub mod list;
pub mod load;
pub mod rules;
pub mod run;
pub mod schema;
pub mod validate;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

/// Does what was typed.
pub fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Rules(args)) => rules::rules(&args),
        Some(Command::Explain(args)) => explain::explain(&args),
        Some(Command::Validate(args)) => validate::validate(&args),
        Some(Command::List { what }) => list::list(what),
        Some(Command::Schema) => schema::schema(),
        Some(Command::Completions { shell }) => completions::completions(shell),
    }
}
