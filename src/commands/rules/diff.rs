//! A node's own dump: how it differs from the rules that the objects call for, or the same dump in another form.

use super::objects::text_of;
use super::setup::{Setup, families, mode_named};
use super::{family_name, print};
use crate::cli::{FamilyArg, FormatArg, RulesArgs};
use crate::commands::load::tell;
use crate::exit::{Exit, Failure};
use crate::terminal;
use scenarios::diagnostic::{Diagnostic, Diagnostics};
use scenarios::scenario::place;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kernel::dump::Difference;
use sim_models::kernel::rules::NodeRules;
use sim_models::proxy::{Dumps, Form, ProxyMode, with_dumps};
use std::path::Path;

/// Differences that are told one by one.
const SHOWN: usize = 50;

/// Prints what differs; exit 3 if anything does.
pub fn diff(args: &RulesArgs, setup: &Setup, dump: &Path) -> Result<Exit, Failure> {
    let dumps = of_one_dump(setup.mode, &setup.families, "--diff")?;
    let (name, text) = text_of(dump)?;
    setup.tell_notes();
    let mut differences: Vec<Difference> = Vec::new();
    let mut rules = 0;
    let mut notes = Vec::new();
    for family in &setup.families {
        let found = read(dumps, &name, &text, *family, &mut notes)?;
        let wanted = setup.build(*family);
        rules += setup.mode.rule_count(&wanted);
        differences.extend(dumps.diff(&wanted, &found, &setup.config));
    }
    let families: Vec<&str> = setup.families.iter().map(|family| family_name(*family)).collect();
    let what = format!("{} mode, {}", setup.mode.name(), families.join(" and "));
    if differences.is_empty() {
        terminal::print(&format!("no difference: {name} has the {rules} rules of {what}\n"))?;
        return Ok(Exit::Fine);
    }
    let shown = if args.all { differences.len() } else { differences.len().min(SHOWN) };
    let mut out = String::new();
    for difference in &differences[..shown] {
        out.push_str(&difference.to_string());
    }
    if shown < differences.len() {
        out.push_str(&format!("and {} more; --all shows them\n", differences.len() - shown));
    }
    let counts: Vec<String> = ["missing", "changed", "extra"]
        .iter()
        .map(|kind| (kind, differences.iter().filter(|d| d.kind() == *kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let noun = if differences.len() == 1 { "difference" } else { "differences" };
    out.push_str(&format!("{} {noun} ({what}): {}\n", differences.len(), counts.join(", ")));
    terminal::print(&out)?;
    Ok(Exit::GateFailed)
}

/// Prints a dump as it was understood.
pub fn read_back(args: &RulesArgs, dump: &Path) -> Result<Exit, Failure> {
    let name = args.cluster.mode.as_deref().expect("clap requires --mode with --read");
    let mode = mode_named(name)?;
    let families = families(args.family);
    let dumps = of_one_dump(mode, &families, "--read")?;
    let form = match args.format {
        FormatArg::Stdin => {
            let text = "error: --read: a dump does not say what kube-proxy wrote to get there\n";
            return Err(Failure::Input(format!("{text}  = allowed: --format load, json or listing\n")));
        }
        format => print::form(format, mode, &ProxyConfig::default())?.expect("stdin is the only one without"),
    };
    let (name, text) = text_of(dump)?;
    let (mut texts, mut notes) = (Vec::new(), Vec::new());
    for family in families {
        texts.push(mode.print(&read(dumps, &name, &text, family, &mut notes)?, form));
    }
    other_family(dumps, &text, args);
    match (form, &texts[..]) {
        (Form::Json, [_, _, ..]) => terminal::print(&print::merged(&texts)?)?,
        _ => terminal::print(&texts.concat())?,
    }
    Ok(Exit::Fine)
}

/// Says that a dump has rules of the family that was not asked for.
fn other_family(dumps: &dyn Dumps, text: &str, args: &RulesArgs) {
    let other = match args.family {
        FamilyArg::Ipv4 => Family::Ipv6,
        FamilyArg::Ipv6 => Family::Ipv4,
        FamilyArg::Both => return,
    };
    if dumps.has_both_families() && dumps.read(text, other).is_ok_and(|rules| rules.nftables.is_some()) {
        eprintln!("note: the table of {} is left out: --family both prints it too", family_name(other));
    }
}

/// Refuses a mode whose dumps cannot be read.
pub fn readable(mode: &'static dyn ProxyMode, flag: &str) -> Result<&'static dyn Dumps, Failure> {
    mode.dumps().ok_or_else(|| {
        let allowed: Vec<&str> = with_dumps().map(|mode| mode.name()).collect();
        let text = format!("error: {flag}: {} mode has no dump that can be read\n", mode.name());
        Failure::Input(format!("{text}  = allowed: --mode {}\n", allowed.join(", ")))
    })
}

/// The same, and families that no single dump has.
fn of_one_dump(
    mode: &'static dyn ProxyMode,
    families: &[Family],
    flag: &str,
) -> Result<&'static dyn Dumps, Failure> {
    let dumps = readable(mode, flag)?;
    if families.len() == 1 || dumps.has_both_families() {
        return Ok(dumps);
    }
    let text = format!("error: a dump of {} mode has one family\n", mode.name());
    Err(Failure::Input(format!("{text}  = allowed: --family ipv4 or --family ipv6, with the dump of each\n")))
}

/// Reads one family's rules and tells its notes, those in `told` not again.
fn read(
    mode: &dyn Dumps,
    name: &str,
    text: &str,
    family: Family,
    told: &mut Vec<String>,
) -> Result<NodeRules, Failure> {
    let rules = mode.read(text, family).map_err(|error| {
        let mut diagnostics = Diagnostics::default();
        let source = diagnostics.sources.add(name, text);
        let at = place(source, text, error.line, error.column);
        diagnostics.push(Diagnostic::new(at, "", error.message));
        tell(diagnostics)
    })?;
    for note in &rules.notes {
        if !told.contains(note) {
            eprintln!("note: {note}");
            told.push(note.clone());
        }
    }
    Ok(rules)
}
