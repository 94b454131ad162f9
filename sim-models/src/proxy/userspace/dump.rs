//! `iptables-save` of a node in userspace mode, against what its objects call for.
//!
//! Proxy ports are random on a node (see [`ports`](super::ports)). So for each service port the one that its first
//! REDIRECT found on the node names stands for the one that is wanted; a rule of the same service port with another is a
//! difference. Which chains are kube-proxy's and what counts as equal is `kernel/xtables/diff`'s.

use crate::kernel::dump::Difference;
use crate::kernel::xtables::diff::{Layout, diff as tables};
use crate::kernel::xtables::{Match, Rule, Table, Target};
use sim_core::classify::Proto;
use std::collections::BTreeMap;

/// What a rule says of the service port that it is for.
type Of<'a> = (&'a str, Option<Proto>);

/// What differs, but for the choice of proxy ports.
pub(super) fn diff(wanted: &[Table], found: &[Table]) -> Vec<Difference> {
    let (ours, theirs) = (redirects(wanted), redirects(found));
    let mut found = found.to_vec();
    for rule in found.iter_mut().flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules) {
        let ports = of(rule).and_then(|of| Some((*ours.get(&of)?, *theirs.get(&of)?)));
        if let Some((ours, theirs)) = ports {
            renumber(rule, ours, theirs);
        }
    }
    tables(wanted, &found, Layout::USERSPACE)
}

fn of(rule: &Rule) -> Option<Of<'_>> {
    let comment = rule.matches.iter().find_map(|m| match m {
        Match::Comment(comment) => Some(&**comment),
        _ => None,
    });
    Some((comment?, rule.proto.map(|test| test.value)))
}

/// The proxy port of each service port.
fn redirects(tables: &[Table]) -> BTreeMap<Of<'_>, u16> {
    let mut ports = BTreeMap::new();
    for rule in tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        if let (Some(Target::Redirect { port }), Some(of)) = (&rule.target, of(rule)) {
            ports.entry(of).or_insert(*port);
        }
    }
    ports
}

/// Puts `ours` where a rule names the proxy port `theirs`, and the other way about, so that two ports stay two.
fn renumber(rule: &mut Rule, ours: u16, theirs: u16) {
    let other = |port: &mut u16| match *port {
        at if at == theirs => *port = ours,
        at if at == ours => *port = theirs,
        _ => {}
    };
    match &mut rule.target {
        Some(Target::Redirect { port }) => other(port),
        Some(Target::Dnat(to)) => {
            let mut port = to.port();
            other(&mut port);
            to.set_port(port);
        }
        // What lets NodePorts in names the proxy port as the destination port.
        Some(Target::Accept) => {
            for m in &mut rule.matches {
                if let Match::Ports { dport: Some(test), .. } = m {
                    other(&mut test.value.0);
                    other(&mut test.value.1);
                }
            }
        }
        _ => {}
    }
}
