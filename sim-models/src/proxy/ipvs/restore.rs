//! The fixed rules as kube-proxy writes them to the stdin of `iptables-restore`.
//!
//! Source: `pkg/proxy/ipvs/proxier.go:syncProxyRules` (nat before filter, `*table`, a line for each of its chains,
//! which empties it, rules, `COMMIT`) and `writeIptablesRules`. Departure: rules come chain by chain, where kube-proxy
//! goes to and fro between chains; the order inside a chain is the same. The jumps from built-in chains are no part
//! of it: they are made one by one with `iptables -I`.

use crate::kernel::xtables::{Chain, Match, Rule, Table, TableName, Target};
use crate::proxy::spelling::{negation, write_match, write_target};
use std::fmt::Write as _;

/// What `iptables-restore --noflush` reads.
pub(super) fn stdin(tables: &[Table]) -> String {
    let mut out = String::new();
    for name in [TableName::Nat, TableName::Filter] {
        let table = tables.iter().find(|table| table.name == name).expect("ipvs mode has both tables");
        out.push_str(if name == TableName::Nat { "*nat\n" } else { "*filter\n" });
        let own = || table.chains.iter().filter(|chain| chain.base.is_none());
        for chain in own() {
            writeln!(out, ":{} - [0:0]", chain.name).expect("a string takes all");
        }
        for chain in own() {
            for rule in &chain.rules {
                write_rule(table, chain, rule, &mut out);
            }
        }
        out.push_str("COMMIT\n");
    }
    out
}

/// The commands that make the chains and the jumps to them, each run on its own. Jumps are prepended, so the first in
/// a chain is made last.
pub(super) fn ensure_commands(tables: &[Table], program: &str) -> Vec<String> {
    let mut out = Vec::new();
    for name in [TableName::Nat, TableName::Filter] {
        let table = tables.iter().find(|table| table.name == name).expect("ipvs mode has both tables");
        let option = if name == TableName::Nat { "nat" } else { "filter" };
        for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
            out.push(format!("{program} -w 5 -N {} -t {option}", chain.name));
        }
        for chain in table.chains.iter().filter(|chain| chain.base.is_some()) {
            for rule in chain.rules.iter().rev() {
                let mut text = format!("{program} -w 5 -I {} -t {option}", chain.name);
                for m in &rule.matches {
                    write_match(m, 1, &mut text).expect("a string takes all");
                }
                if let Some(Target::Jump(to)) = &rule.target {
                    write!(text, " -j {}", table.chains[to.0 as usize].name).expect("a string takes all");
                }
                out.push(text);
            }
        }
    }
    out
}

fn write_rule(table: &Table, chain: &Chain, rule: &Rule, out: &mut String) {
    write!(out, "-A {}", chain.name).expect("a string takes all");
    // A local detector's arguments stand behind the matches; any other address before them.
    let detector = rule.matches.iter().any(|m| matches!(m, Match::Set { .. }));
    let mut address = String::new();
    if let Some(src) = &rule.src {
        let value = match src.value.prefix_len() == src.value.max_prefix_len() && !src.invert {
            true if !src.value.addr().is_loopback() => src.value.addr().to_string(),
            _ => src.value.to_string(),
        };
        write!(address, "{} -s {value}", negation(src.invert)).expect("a string takes all");
    }
    if let Some(device) = &rule.in_iface {
        write!(address, "{} -i {}", negation(device.invert), device.value).expect("a string takes all");
    }
    if !detector {
        out.push_str(&address);
    }
    if let Some(proto) = &rule.proto {
        write!(out, " -p {}", proto.value).expect("a string takes all");
    }
    for m in &rule.matches {
        write_match(m, 1, out).expect("a string takes all");
    }
    if detector {
        out.push_str(&address);
    }
    match &rule.target {
        None => Ok(()),
        Some(Target::Jump(to)) => write!(out, " -j {}", table.chains[to.0 as usize].name),
        Some(target) => write_target(target, out),
    }
    .expect("a string takes all");
    out.push('\n');
}
