//! Reads what a node in ipvs mode lists, and compares it.
//!
//! A dump is the text that the mode prints, or the outputs of its tools one after the other in any order: `ipset save`,
//! `iptables-save` (or `ip6tables-save`), `ipvsadm -Sn`, `ip [-o] addr show dev kube-ipvs0` or lines for `ip -batch`, and
//! settings as `sysctl` prints them. Each line is known by how it begins; between `*table` and `COMMIT` all lines are
//! iptables'. `ipvsadm` and `ipset` list both families: those of the other are passed over.
//!
//! A part that a dump has nothing of at all is missing as a whole, told once.

use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::diff::Layout;
use crate::kernel::{ipset, ipvs, xtables};
use ipnet::IpNet;
use sim_core::classify::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Name of the device that Service addresses are bound to.
const DEVICE: &str = "kube-ipvs0";

/// Everything in a dump, one family.
pub(super) fn read(text: &str, family: Family) -> Result<NodeRules, ReadError> {
    let mut tables = xtables::parse::Reader::new(family);
    let mut sets = ipset::parse::Reader::default();
    let mut servers = ipvs::parse::Reader::default();
    let mut rules = NodeRules::default();
    let mut last = 0;
    for (line, number) in text.lines().zip(1..) {
        last = number;
        let trimmed = line.trim();
        let first = trimmed.split_ascii_whitespace().next().unwrap_or_default();
        if tables.in_table() || first.starts_with('*') {
            tables.line(number, line)?;
            continue;
        }
        match first {
            "create" | "add" => sets.line(number, line)?,
            "-A" | "-a" => servers.line(number, line)?,
            "" => {}
            "#" if ["# Generated", "# Completed"].iter().any(|own| trimmed.starts_with(own)) => {
                tables.line(number, line)?;
            }
            // Headings of sections and what they explain are this mode's own.
            _ if first.starts_with('#') => {}
            "ipvsadm" => match timeouts(trimmed) {
                Some(timeouts) => rules.ipvs_timeouts = Some(timeouts),
                None => return Err(unknown(number, line)),
            },
            _ if device_line(trimmed, family, &mut rules.dummy_addrs) => {}
            _ => match setting(trimmed) {
                Some(setting) => rules.sysctls.push(setting),
                None => return Err(unknown(number, line)),
            },
        }
    }
    let saved = tables.finish(last)?;
    rules.xtables = saved.tables;
    rules.xtables_backend = saved.notes.backend();
    rules.xtables_notes = saved.notes;
    rules.ipsets = sets.finish().sets;
    rules.ipsets.retain_mut(|set| {
        if set.kind == ipset::SetKind::BitmapPort {
            // It says nothing of a family, and this dump is read for this one.
            set.family = family;
        }
        set.family == family
    });
    rules.ipvs = servers.finish();
    rules.ipvs.retain(|server| Family::of(server.addr) == family);
    Ok(rules)
}

fn unknown(number: usize, line: &str) -> ReadError {
    let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
    let message =
        "no line of ipset save, iptables-save, ipvsadm -Sn, ip addr show dev kube-ipvs0, ip -batch or sysctl";
    ReadError { line: number, column, message: message.to_owned() }
}

/// Whether a line is about the device; its address, if it is of this family and not link-local, goes to `out`.
fn device_line(line: &str, family: Family, out: &mut Vec<IpAddr>) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = match words[..] {
        ["link", "add", DEVICE, ..] => None,
        ["addr" | "address", "add", address, "dev", DEVICE] => Some(address),
        // `5: kube-ipvs0    inet 10.96.0.1/32 scope global kube-ipvs0`, or without -o `5: kube-ipvs0: <NOARP> mtu`.
        [index, device, ref rest @ ..] if is_index(index) && is_device(device) => match rest {
            ["inet" | "inet6", address, ..] => Some(*address),
            _ => None,
        },
        ["inet" | "inet6", address, ..] => Some(address),
        ["valid_lft", ..] => None,
        [first, ..] if first.starts_with("link/") => None,
        _ => return false,
    };
    let Some(address) = address else { return true };
    let Some(Ok(address)) = address.split('/').next().map(str::parse::<IpAddr>) else { return false };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
    if Family::of(address) == family && !link_local {
        out.push(address);
    }
    true
}

/// `5:`.
fn is_index(word: &str) -> bool {
    word.strip_suffix(':').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_device(word: &str) -> bool {
    word.trim_end_matches(':') == DEVICE
}

/// `ipvsadm --set TCP TCPFIN UDP`, in seconds.
fn timeouts(line: &str) -> Option<[u64; 3]> {
    let seconds: Result<Vec<u64>, _> =
        line.strip_prefix("ipvsadm --set ")?.split(' ').map(str::parse).collect();
    seconds.ok()?.try_into().ok()
}

/// `net.ipv4.vs.conntrack = 1`, or without blanks, or after `sysctl -w`.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("sysctl -w ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let named = name.starts_with("net") && name.chars().all(plain);
    (named && !value.is_empty()).then(|| (name.replace('/', "."), value.to_owned()))
}

/// What differs, mechanism by mechanism. Virtual servers in the `excluded` networks are not kube-proxy's to delete.
pub(super) fn diff(wanted: &NodeRules, found: &NodeRules, excluded: &[IpNet]) -> Vec<Difference> {
    let mut out = ipset::diff::diff(&wanted.ipsets, &found.ipsets);
    out.extend(xtables::diff::diff(&wanted.xtables, &found.xtables, Layout::IPVS));
    addresses(wanted, found, &mut out);
    out.extend(ipvs::diff::diff(&wanted.ipvs, &found.ipvs, excluded));
    settings(wanted, found, &mut out);
    out
}

/// Addresses of the device, in no order.
fn addresses(wanted: &NodeRules, found: &NodeRules, out: &mut Vec<Difference>) {
    let [want, have] = [wanted, found].map(|rules| rules.dummy_addrs.iter().collect::<BTreeSet<_>>());
    let line = |addr: &IpAddr| {
        let prefix = if addr.is_ipv4() { 32 } else { 128 };
        format!("addr add {addr}/{prefix} dev {DEVICE}")
    };
    let place = || DEVICE.to_owned();
    if have.is_empty() && want.len() > 1 {
        let lines: Vec<String> = want.into_iter().map(line).collect();
        out.push(Difference { place: place(), wanted: Some(lines.join("\n")), found: None });
        return;
    }
    for addr in want.difference(&have) {
        out.push(Difference { place: place(), wanted: Some(line(addr)), found: None });
    }
    for addr in have.difference(&want) {
        out.push(Difference { place: place(), wanted: None, found: Some(line(addr)) });
    }
}

/// Settings that both have; a dump need not have any, and may have others.
fn settings(wanted: &NodeRules, found: &NodeRules, out: &mut Vec<Difference>) {
    for (name, value) in &wanted.sysctls {
        let there = found.sysctls.iter().find(|(other, _)| other == name);
        if let Some((_, other)) = there
            && other != value
        {
            let line = |value: &str| Some(format!("{name} = {value}"));
            out.push(Difference { place: "sysctl".to_owned(), wanted: line(value), found: line(other) });
        }
    }
}
