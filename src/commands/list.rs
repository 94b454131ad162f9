//! `windtunnel list`: what scenarios can name.

use crate::cli::ListWhat;
use crate::exit::{Exit, Failure};
use crate::known::known;
use crate::terminal;
use scenarios::known::Named;

/// Prints one family of names, aligned, each with its line.
pub fn list(what: ListWhat) -> Result<Exit, Failure> {
    let known = known();
    let names = match what {
        ListWhat::Modes => {
            let rules_only = known.rules_only.into_iter();
            let marked = rules_only.map(|n| Named { doc: format!("{} (rules only)", n.doc), ..n });
            known.modes.into_iter().chain(marked).collect()
        }
        ListWhat::Schedulers => known.schedulers,
        ListWhat::Profiles => known.profiles,
        ListWhat::Metrics => known.metrics,
        ListWhat::Distributions => known.distributions,
        ListWhat::Series => known.series,
    };
    let width = names.iter().map(|n| n.name.len()).max().unwrap_or(0);
    let text: String = names.iter().map(|n| format!("{:width$}  {}\n", n.name, n.doc)).collect();
    terminal::print(&text)?;
    Ok(Exit::Fine)
}
