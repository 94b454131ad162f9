//! What kube-proxy writes to the stdin of its tools: at its first sync, or to get from one state of the cluster to
//! another.
//!
//! Times decide when what is left over is deleted. Files are taken for states that are `--apart` from one another; what one change
//! brings (Services, then slices) is synced as soon as `minSyncPeriod` allows.

use super::objects::import_file;
use super::setup::Setup;
use super::{family_name, print};
use crate::cli::RulesArgs;
use crate::exit::{Exit, Failure};
use crate::terminal;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::DetectLocal;
use sim_models::kube::arrival::arrivals;
use sim_models::kube::objects::Objects;
use sim_models::proxy::input::ToolInput;

/// The inputs of the first sync after a start on a node without rules.
pub fn first(setup: &Setup) -> Result<Exit, Failure> {
    setup.tell_notes();
    show(setup, &[(SimTime::ZERO, &setup.objects)], 0)?;
    Ok(Exit::Fine)
}

/// The inputs of the syncs that `--from` calls for after the states of `--sync-from`, as the watches deliver them.
pub fn transition(args: &RulesArgs, setup: &mut Setup) -> Result<Exit, Failure> {
    if !print::has_inputs(setup.mode, &setup.config) {
        let text =
            format!("error: --sync-from: {} mode writes nothing to the stdin of a tool\n", setup.mode.name());
        return Err(Failure::Input(text));
    }
    let mut history: Vec<Objects> = Vec::new();
    for file in &args.sync_from {
        let objects = import_file(file, args.cluster.keep_going, &mut setup.notes)?;
        history.push(setup.as_seen(objects));
    }
    if setup.config.detect_local == DetectLocal::NodeCidr && setup.mode.tells_local_traffic() {
        pod_cidrs_that_change(setup, &history);
    }
    setup.tell_notes();
    let pause = setup.config.min_sync_period.max(SimSpan::from_ms(1));
    let mut states: Vec<(SimTime, Objects)> = vec![(SimTime::ZERO, history.remove(0))];
    let mut begin = SimTime::ZERO;
    let mut from = 1;
    for next in history.iter().chain([&setup.objects]) {
        from = states.len();
        begin += args.apart;
        let (_, last) = states.last().expect("the first state");
        let mut now = begin;
        for state in arrivals(last, next) {
            states.push((now, state));
            now += pause;
        }
    }
    let states: Vec<(SimTime, &Objects)> = states.iter().map(|(at, objects)| (*at, objects)).collect();
    if !show(setup, &states, from)? {
        let families: Vec<&str> = setup.families.iter().map(|family| family_name(*family)).collect();
        let (mode, families) = (setup.mode.name(), families.join(" and "));
        eprintln!("note: nothing changes for {mode} mode in {families}: kube-proxy writes nothing");
    }
    Ok(Exit::Fine)
}

/// Says that kube-proxy does not live through a change of the networks that it tells local traffic by
/// (`pkg/proxy/node.go:NodePodCIDRHandler`).
fn pod_cidrs_that_change(setup: &mut Setup, history: &[Objects]) {
    let of = |objects: &Objects| objects.node(&setup.node).map(|node| node.pod_cidrs.clone());
    let cidrs: Vec<_> = history.iter().chain([&setup.objects]).filter_map(of).collect();
    if cidrs.windows(2).any(|pair| pair[0] != pair[1]) {
        setup.notes.push(format!(
            "podCIDRs of {} change: with detectLocalMode NodeCIDR kube-proxy exits and, started anew, writes everything; \
             --format stdin without --sync-from shows that",
            setup.node
        ));
    }
}

/// Prints the inputs of the states from `from` on; false if there are none.
fn show(setup: &Setup, states: &[(SimTime, &Objects)], from: usize) -> Result<bool, Failure> {
    let mut by_family: Vec<Vec<Vec<ToolInput>>> = Vec::new();
    for family in &setup.families {
        let resolved: Vec<_> =
            states.iter().map(|(at, objects)| (*at, setup.resolved(objects, *family))).collect();
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
