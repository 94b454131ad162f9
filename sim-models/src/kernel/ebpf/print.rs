//! The maps as aligned tables, one after the other, each under the name of Cilium's map.
//!
//! `cilium-dbg bpf lb list` prints the same facts with a line a slot in the order of a hash table; here they stand
//! in order of creation. A row that would pass 100 columns goes on in the next line.

use super::{Frontend, Scope, ServiceMap};
use sim_core::classify::{Family, Proto};
use std::fmt::Write as _;

/// Columns that a line may have.
const WIDTH: usize = 100;

/// All maps. A map without entries says so.
pub fn table(map: &ServiceMap) -> String {
    let digit = match map.family {
        Family::Ipv4 => '4',
        Family::Ipv6 => '6',
    };
    let mut out = String::new();
    let frontends = map.frontends.iter().map(|f| {
        let scope = match f.scope {
            Scope::External => "ext",
            Scope::Internal => "int",
        };
        let slots: Vec<String> = f.slots.iter().map(|id| id.0.to_string()).collect();
        let slots = if slots.is_empty() { "-".to_owned() } else { slots.join(" ") };
        vec![
            format!("{}/{}", f.addr, protocol(f.proto)),
            scope.to_owned(),
            f.reverse_nat.0.to_string(),
            f.slots.len().to_string(),
            flags(f),
            slots,
        ]
    });
    let heads = ["FRONTEND", "SCOPE", "REVNAT", "COUNT", "FLAGS", "BACKENDS BY SLOT"];
    let entries = map.service_entries();
    section(&mut out, &format!("cilium_lb{digit}_services_v2"), entries, &heads, frontends.collect());
    let backends =
        map.backends.iter().map(|b| vec![b.id.0.to_string(), format!("{}/{}", b.addr, protocol(b.proto))]);
    section(
        &mut out,
        &format!("cilium_lb{digit}_backends_v3"),
        backends.len(),
        &["ID", "BACKEND"],
        backends.collect(),
    );
    let reverse = map.reverse_nat.iter().map(|r| vec![r.id.0.to_string(), r.addr.to_string()]);
    section(
        &mut out,
        &format!("cilium_lb{digit}_reverse_nat"),
        reverse.len(),
        &["REVNAT", "FRONTEND"],
        reverse.collect(),
    );
    let affinity = map.affinity.iter().map(|a| vec![a.frontend.0.to_string(), a.backend.0.to_string()]);
    section(&mut out, "cilium_lb_affinity_match", affinity.len(), &["REVNAT", "BACKEND"], affinity.collect());
    let ranges = map.source_ranges.iter().map(|r| vec![r.frontend.0.to_string(), r.net.to_string()]);
    section(
        &mut out,
        &format!("cilium_lb{digit}_source_range"),
        ranges.len(),
        &["REVNAT", "SOURCE"],
        ranges.collect(),
    );
    out
}

/// A protocol as Cilium writes it.
fn protocol(proto: Proto) -> String {
    proto.name().to_uppercase()
}

/// Flags as Cilium names them (`pkg/loadbalancer/loadbalancer.go:ServiceFlags.String`), with commas; then affinity's
/// timeout.
fn flags(f: &Frontend) -> String {
    let mut flags = vec![f.kind.name().to_owned()];
    let optional = [
        (f.external_local, "Local"),
        (f.internal_local, "InternalLocal"),
        (f.two_scopes, "two-scopes"),
        (f.affinity_seconds.is_some(), "sessionAffinity"),
        (!f.routable, "non-routable"),
        (f.checks_source, "check source-range"),
    ];
    flags.extend(optional.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()));
    let mut text = flags.join(",");
    if let Some(seconds) = f.affinity_seconds {
        text.push_str(&format!(" {seconds}s"));
    }
    text
}

/// One map: its name, the number of its entries, column heads, rows.
fn section(out: &mut String, name: &str, entries: usize, heads: &[&str], rows: Vec<Vec<String>>) {
    if !out.is_empty() {
        out.push('\n');
    }
    let noun = if entries == 1 { "entry" } else { "entries" };
    writeln!(out, "# {name}: {entries} {noun}").expect("a string takes all");
    if rows.is_empty() {
        return;
    }
    // The last column is as wide as it is, and may be broken into lines.
    let fixed = heads.len() - 1;
    let width = |n: usize| rows.iter().map(|row| row[n].len()).max().unwrap_or(0).max(heads[n].len());
    let widths: Vec<usize> = (0..fixed).map(width).collect();
    let indent: usize = widths.iter().map(|w| w + 2).sum();
    // Where the fixed columns leave no room, the last one goes below them.
    let (own_line, start) = if indent + 20 > WIDTH { (true, 4) } else { (false, indent) };
    let mut line = |cells: &[&str]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            write!(text, "{cell:<width$}  ").expect("a string takes all");
        }
        let mut left = WIDTH.saturating_sub(start);
        let mut word_before = false;
        if own_line {
            text = format!("{}\n{}", broken(text.trim_end()), " ".repeat(start));
        }
        for word in cells[fixed].split(' ') {
            if word_before && word.len() + 1 > left {
                write!(text, "\n{}", " ".repeat(start)).expect("a string takes all");
                left = WIDTH - start;
                word_before = false;
            }
            if word_before {
                text.push(' ');
            }
            text.push_str(word);
            left = left.saturating_sub(word.len() + usize::from(word_before));
            word_before = true;
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(heads);
    for row in &rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// A line of fixed columns that is too long even so: broken at its last gap.
fn broken(line: &str) -> String {
    if line.len() <= WIDTH {
        return line.to_owned();
    }
    match line[..WIDTH].rfind("  ") {
        Some(at) => format!("{}\n    {}", line[..at].trim_end(), line[at..].trim_start()),
        None => line.to_owned(),
    }
}
