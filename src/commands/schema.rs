//! `windtunnel schema`: the JSON Schema of scenario files, for editors.

use crate::exit::{Exit, Failure};
use crate::known::known;
use crate::terminal;

/// Prints it.
pub fn schema() -> Result<Exit, Failure> {
    terminal::print(&scenarios::schema::schema(&known()))?;
    Ok(Exit::Fine)
}
