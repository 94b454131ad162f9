//! What kube-proxy writes to the stdin of its tools: at its first sync, or to get from one state of the cluster to
//! another.

use super::objects::import_file;
use super::pending::arrivals;
use super::setup::Setup;
use super::{family_name, print};
use crate::cli::RulesArgs;
use crate::exit::{Exit, Failure};
use crate::terminal;
use sim_models::kube::objects::Objects;
use sim_models::proxy::input::ToolInput;

/// The inputs of the first sync after a start on a node without rules.
pub fn first(setup: &Setup) -> Result<Exit, Failure> {
    setup.tell_notes();
    let states = [&setup.objects];
    show(setup, &states, 0)?;
    Ok(Exit::Fine)
}

/// The inputs of the syncs that `--from` calls for after the states of `--sync-from`, as the watches deliver them.
pub fn transition(args: &RulesArgs, setup: &Setup) -> Result<Exit, Failure> {
    if !print::has_inputs(setup.mode, &setup.config) {
        let text =
            format!("error: --sync-from: {} mode writes nothing to the stdin of a tool\n", setup.mode.name());
        return Err(Failure::Input(text));
    }
    let mut notes = Vec::new();
    let mut states: Vec<Objects> = Vec::new();
    for file in &args.sync_from {
        let next = setup.with_node_addresses(import_file(file, args.keep_going, &mut notes)?);
        match states.last() {
            None => states.push(next),
            Some(last) => states.extend(arrivals(last, &next)),
        }
    }
    let last = states.last().expect("clap gives at least one");
    let steps = arrivals(last, &setup.objects);
    setup.tell_notes();
    for note in notes {
        eprintln!("note: {note}");
    }
    let from = states.len();
    let all: Vec<&Objects> = states.iter().chain(&steps).collect();
    if !show(setup, &all, from)? {
        eprintln!("note: nothing changes for {}: kube-proxy writes nothing", place(setup));
    }
    Ok(Exit::Fine)
}

fn place(setup: &Setup) -> String {
    let families: Vec<&str> = setup.families.iter().map(|family| family_name(*family)).collect();
    format!("{} mode in {}", setup.mode.name(), families.join(" and "))
}

/// Prints the inputs of the states from `from` on; false if there are none.
fn show(setup: &Setup, states: &[&Objects], from: usize) -> Result<bool, Failure> {
    let mut by_family: Vec<Vec<Vec<ToolInput>>> = Vec::new();
    for family in &setup.families {
        let resolved: Vec<_> = states.iter().map(|objects| setup.resolved(objects, *family)).collect();
        let inputs = setup.mode.inputs(&resolved, &setup.config, *family);
        let inputs = inputs.ok_or_else(|| Failure::Ours("a mode with inputs gave none".into()))?;
        assert_eq!(inputs.len(), states.len(), "one list of inputs a state");
        by_family.push(inputs);
    }
    let mut any = false;
    for state in from..states.len() {
        // The two proxiers run side by side; IPv4 stands first here.
        for input in by_family.iter().flat_map(|inputs| &inputs[state]) {
            let end = if input.stdin.ends_with('\n') { "" } else { "\n" };
            terminal::print(&format!("# {}\n{}{end}", input.command, input.stdin))?;
            any = true;
        }
    }
    Ok(any)
}
