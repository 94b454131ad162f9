//! `windtunnel rules`: what kube-proxy would write for a cluster, and how a node's dump differs from it.
//!
//! Objects -> resolved Services -> rules -> text. [`objects`] reads, [`setup`] decides on whose rules they are,
//! [`print`], [`sync`] and [`diff`] do one kind of output each, [`notes`] says on stderr what the output rests on.

pub mod diff;
mod notes;
pub mod objects;
mod print;
pub mod setup;
mod sync;

use crate::cli::RulesArgs;
use crate::exit::{Exit, Failure};
use scenarios::diagnostic::did_you_mean;
use setup::Setup;
use sim_core::classify::Family;

/// Prints the rules of one node, or what was asked about them.
pub fn rules(args: &RulesArgs) -> Result<Exit, Failure> {
    objects::one_stdin(args)?;
    if let Some(dump) = &args.read {
        return diff::read_back(args, dump);
    }
    // A mode without dumps is told before gigabytes are read.
    if let (Some(name), Some(_)) = (&args.cluster.mode, &args.diff) {
        diff::readable(setup::mode_named(name)?, "--diff")?;
    }
    let mut setup = Setup::new(&args.cluster, setup::families(args.family))?;
    match &args.diff {
        Some(dump) => diff::diff(args, &setup, dump),
        None if !args.sync_from.is_empty() => sync::transition(args, &mut setup),
        None => print::print(args, &setup),
    }
}

/// An error about a name: what it should have been.
pub fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let mut text = format!("error: there is no {what} `{name}`\n");
    if let Some(near) = did_you_mean(name, names.clone()) {
        text.push_str(&format!("  = did you mean `{near}`?\n"));
    }
    let all: Vec<&str> = names.collect();
    let shown = all.len().min(12);
    let more = if all.len() > shown { format!(" and {} more", all.len() - shown) } else { String::new() };
    text.push_str(&format!("  = allowed: {}{more}\n", all[..shown].join(", ")));
    Failure::Input(text)
}

/// As people write it.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
