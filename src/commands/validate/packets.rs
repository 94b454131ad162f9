//! `windtunnel validate FILE.jsonl`: packets that were sent through recorded dumps, one by one.
//!
//! Each record names a dump by its folder. The dump's rules are read and compiled once for all its packets; what
//! differs from the model is printed packet by packet ([`sim_models::rig`]).

use super::{ErrorSummary, gate, summary};
use crate::cli::{Format, ValidateArgs};
use crate::exit::{Exit, Failure};
use crate::terminal;
use rayon::prelude::*;
use serde::Serialize;
use sim_models::kernel::cost::CostProfile;
use sim_models::rig::{DumpRig, Record, parse_packets};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// One record and what the model says of it.
#[derive(Serialize)]
struct PacketResult {
    id: String,
    kernel: String,
    mode: String,
    kind: String,
    outcome: String,
    unit: String,
    measured: f64,
    /// Where the profile's kernel is the record's.
    predicted: Option<f64>,
    error: Option<f64>,
    /// Outcome, destination, source or matched rules that differ.
    differences: Vec<String>,
    #[serde(skip)]
    work: String,
}

#[derive(Serialize)]
struct Packets {
    profile: String,
    packets: Vec<PacketResult>,
    /// Packets with a difference in what became of them or in the rules they matched.
    different: usize,
    errors: Option<ErrorSummary>,
    by_mode: BTreeMap<String, ErrorSummary>,
}

pub(super) fn validate(args: &ValidateArgs, profile: &CostProfile, text: &str) -> Result<Exit, Failure> {
    let name = args.file.display();
    let records = parse_packets(text).map_err(|errors| {
        Failure::Input(errors.iter().map(|e| format!("error: {name}:{e}\n")).collect::<String>())
    })?;
    let Some(dumps) = &args.dumps else {
        return Err(Failure::Input(format!(
            "error: {name} has packets through recorded dumps: say with --dumps where their folders are\n"
        )));
    };
    let wanted: BTreeSet<(&str, &str)> = records.iter().map(|r| (&*r.dump, &*r.mode)).collect();
    let mut rigs: BTreeMap<(&str, &str), DumpRig> = BTreeMap::new();
    for (dump, mode) in wanted {
        rigs.insert((dump, mode), read(dumps, dump, mode)?);
    }
    let packets: Vec<PacketResult> = records
        .par_iter()
        .map(|record| check(record, &rigs[&(&*record.dump, &*record.mode)], profile))
        .collect();
    let result = summarise(profile, packets);
    let text = match args.output {
        Format::Json => serde_json::to_string_pretty(&result).expect("numbers are finite") + "\n",
        Format::Csv => csv(&result),
        Format::Table | Format::Md => table(&result),
    };
    terminal::print(&text)?;
    if args.max_error.is_some() && result.different > 0 {
        eprintln!("{} packets differ in what became of them or in the rules they matched", result.different);
        return Ok(Exit::GateFailed);
    }
    // Records of another kernel have no predicted cost; that they agree otherwise is enough.
    let none_priced = result.errors.is_none() && !result.packets.is_empty();
    Ok(if none_priced { Exit::Fine } else { gate(args, result.errors.as_ref().map(|e| e.max_abs_error)) })
}

fn read(dumps: &Path, dump: &str, mode: &str) -> Result<DumpRig, Failure> {
    let fail = |why: String| Failure::Input(format!("error: dump {dump}: {why}\n"));
    // A record names a folder; nothing that leads elsewhere.
    if dump.contains(['/', '\\']) || dump.starts_with('.') {
        return Err(fail("not the name of a folder".to_owned()));
    }
    let path = dumps.join(dump).join(DumpRig::file(mode).map_err(fail)?);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        let packed = path.with_file_name(format!("{}.gz", path.file_name().unwrap_or_default().display()));
        let hint = if packed.exists() { "; it is there packed: unpack it with gunzip" } else { "" };
        fail(format!("cannot read {}: {e}{hint}", path.display()))
    })?;
    DumpRig::new(mode, &text).map_err(|e| fail(format!("{}: {e}", path.display())))
}

fn check(record: &Record, rig: &DumpRig, profile: &CostProfile) -> PacketResult {
    let checked = rig.check(record, profile);
    let work: Vec<String> = checked.work.iter().map(|(unit, n)| format!("{}={n}", unit.name())).collect();
    PacketResult {
        id: record.id.clone(),
        kernel: record.kernel.clone(),
        mode: record.mode.clone(),
        kind: record.packet.kind.clone(),
        outcome: record.outcome.clone(),
        unit: record.unit.clone(),
        measured: record.value,
        predicted: checked.predicted,
        error: checked.predicted.map(|p| (p - record.value) / record.value),
        differences: checked.differences,
        work: work.join(" "),
    }
}

fn summarise(profile: &CostProfile, packets: Vec<PacketResult>) -> Packets {
    let errors = |of: &mut dyn Iterator<Item = &PacketResult>| {
        summary(of.filter_map(|p| p.error).map(f64::abs).collect())
    };
    let modes: BTreeSet<String> = packets.iter().map(|p| p.mode.clone()).collect();
    let by_mode = modes
        .into_iter()
        .filter_map(|mode| Some((mode.clone(), errors(&mut packets.iter().filter(|p| p.mode == mode))?)))
        .collect();
    Packets {
        profile: profile.name.clone(),
        different: packets.iter().filter(|p| !p.differences.is_empty()).count(),
        errors: errors(&mut packets.iter()),
        by_mode,
        packets,
    }
}

fn table(result: &Packets) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<12} {:<9} {:<15} {:<26} {:<10} {:>9} {:>9} {:>7}",
        "packet", "kernel", "mode", "kind", "outcome", "measured", "predicted", "error"
    );
    for p in &result.packets {
        let predicted = p.predicted.map_or("-".to_owned(), |v| format!("{v:.1}"));
        let error = p.error.map_or("-".to_owned(), |e| format!("{:+.2}%", e * 100.0));
        // Ends a local delivery where a table has no room for it.
        let outcome = p.outcome.trim_end_matches("_locally");
        let _ = writeln!(
            out,
            "{:<12} {:<9} {:<15} {:<26} {outcome:<10} {:>9.1} {predicted:>9} {error:>7}",
            p.id, p.kernel, p.mode, p.kind, p.measured
        );
        for difference in &p.differences {
            let _ = writeln!(out, "    {difference}");
        }
    }
    out.push('\n');
    for (name, s) in result.by_mode.iter().map(|(n, s)| (n.as_str(), s)) {
        let _ = writeln!(out, "{name}: {s}");
    }
    match &result.errors {
        Some(s) => {
            let _ = writeln!(out, "all: {s}");
        }
        None => out.push_str("no record is of the profile's kernel: costs were not compared\n"),
    }
    let _ = writeln!(
        out,
        "{} of {} packets agree in what became of them and in the rules they matched",
        result.packets.len() - result.different,
        result.packets.len()
    );
    out
}

fn csv(result: &Packets) -> String {
    let mut out =
        String::from("id,kernel,mode,kind,outcome,unit,measured,predicted,error,differences,work\n");
    let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.6}"));
    for p in &result.packets {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{}",
            p.id,
            p.kernel,
            p.mode,
            p.kind,
            p.outcome,
            p.unit,
            p.measured,
            number(p.predicted),
            number(p.error),
            p.differences.len(),
            p.work
        );
    }
    out
}
