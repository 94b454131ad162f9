//! `windtunnel explain`: one packet through one node's rules, and why it ends as it does.
//!
//! [`packet`] reads the packet, [`node`] the rules, [`report`] makes the explanation as data with [`why`] and [`cost`];
//! [`page`] and [`walk`] print it, [`modes`] puts those of all modes side by side.

mod cost;
mod lookup;
mod modes;
mod nearby;
mod node;
mod packet;
mod page;
mod report;
mod text;
mod walk;
mod why;

use crate::cli::{ExplainArgs, ExplainFormat};
use crate::commands::rules::setup::Setup;
use crate::exit::{Exit, Failure};
use crate::terminal;
use node::Subject;
use sim_models::proxy::ProxyMode;
use text::Paint;

/// Explains one packet.
pub fn explain(args: &ExplainArgs) -> Result<Exit, Failure> {
    node::one_stdin(args)?;
    // A mistyped packet is told before gigabytes are read.
    let written = packet::written(args)?;
    let family = written.packet.family();
    let paint = Paint { colour: terminal::stdout_colour() };
    if args.all_modes {
        let setup = set_up(args, &written)?;
        return modes::side_by_side(args, &setup, &written, paint);
    }
    let walkable = |mode: &dyn ProxyMode, help: &str| {
        node::walkable(mode)
            .map_err(|why| Failure::Input(format!("error: {} mode: {why}\n{help}", mode.name())))
    };
    let subject = if args.rules.is_empty() {
        let setup = set_up(args, &written)?;
        walkable(setup.mode, "  = --all-modes shows the others\n")?;
        Subject::of_setup(&setup, family)
    } else {
        let subject = Subject::of_dumps(args, family)?;
        walkable(subject.mode, "")?;
        subject
    };
    let explained = report::explain(args, &subject, written.packet, written.flow)?;
    match args.output {
        ExplainFormat::Json => {
            let text = serde_json::to_string_pretty(&explained.data);
            terminal::print(&(text.expect("numbers are finite and keys are text") + "\n"))?;
        }
        ExplainFormat::Text => {
            let notes = &explained.data.notes;
            for (i, note) in notes.iter().enumerate() {
                if !notes[..i].contains(note) {
                    eprintln!("note: {note}");
                }
            }
            terminal::print(&page::page(&explained, paint))?;
        }
    }
    Ok(Exit::Fine)
}

/// The cluster, on the node that the packet meets first unless another was named.
fn set_up(args: &ExplainArgs, written: &packet::Written) -> Result<Setup, Failure> {
    let mut setup = Setup::new(&args.cluster, vec![written.packet.family()])?;
    if setup.node_is_open(&args.cluster)
        && let Some(node) = packet::first_node(&setup.objects, &written.flow.unwrap_or(written.packet))
    {
        setup.node = node.to_owned();
    }
    Ok(setup)
}
