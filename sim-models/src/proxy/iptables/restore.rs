//! Rules in the words of kube-proxy: what it writes to the stdin of `iptables-restore`.
//!
//! The same [`Rule`]s that [`xtables::print`](crate::kernel::xtables::print) shows as `iptables-save` does, in the
//! order of the arguments in `pkg/proxy/iptables/proxier.go:syncProxyRules`: the comment first, the destination between
//! protocol and port, other addresses after what they belong to. How each is spelt is [`spelling`](crate::proxy::spelling)'s.

use crate::kernel::xtables::{ChainId, Match, Rule, Target, Test};
use crate::proxy::spelling::{negation, write_match, write_target};
use ipnet::IpNet;
use std::fmt::{self, Write};

/// One table's part of the input: chain lines come before rules.
#[derive(Default)]
pub(super) struct TableInput {
    chains: String,
    rules: String,
}

/// What the spelling of a rule depends on besides the rule.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Rules of the chain from this one on: a chance is one in that many.
    pub left: usize,
    /// The source was written as a network: its length is shown whatever it is.
    pub network_source: bool,
}

impl Place {
    /// A rule of a chain that holds rules of many Services: no chances, and networks.
    pub(super) fn shared() -> Self {
        Place { left: 1, network_source: true }
    }
}

impl TableInput {
    /// Makes a chain, or empties it.
    pub(super) fn chain(&mut self, name: &str) {
        writeln!(self.chains, ":{name} - [0:0]").expect("a String takes everything");
    }

    /// Appends a rule to a chain. `name_of` knows the chains that it may jump to.
    pub(super) fn rule<'n>(
        &mut self,
        chain: &str,
        rule: &Rule,
        place: Place,
        name_of: impl Fn(ChainId) -> &'n str,
    ) {
        write_rule(chain, rule, place, name_of, &mut self.rules).expect("a String takes everything");
    }

    /// Deletes a chain, which has to be emptied first.
    pub(super) fn delete(&mut self, chain: &str) {
        self.chain(chain);
        writeln!(self.rules, "-X {chain}").expect("a String takes everything");
    }
}

/// The whole input.
pub(super) fn text(tables: &[(&str, TableInput)]) -> String {
    let length = |input: &TableInput| input.chains.len() + input.rules.len() + 16;
    let mut text = String::with_capacity(tables.iter().map(|(_, input)| length(input)).sum());
    for (name, input) in tables {
        for part in ["*", name, "\n", &input.chains, &input.rules, "COMMIT\n"] {
            text.push_str(part);
        }
    }
    text
}

fn write_rule<'n>(
    chain: &str,
    rule: &Rule,
    place: Place,
    name_of: impl Fn(ChainId) -> &'n str,
    out: &mut String,
) -> fmt::Result {
    out.write_str("-A ")?;
    out.write_str(chain)?;
    // Addresses stand with the protocol, or else after what says what the rule is about.
    let has_ports = rule.matches.iter().any(|m| matches!(m, Match::Ports { .. }));
    let about = |m: &Match| matches!(m, Match::Comment(_) | Match::AddrtypeLocal { .. });
    let after = rule.matches.iter().take_while(|m| about(m)).count();
    for (i, m) in rule.matches.iter().enumerate() {
        if i == after && !has_ports {
            write_destination(rule, out)?;
            write_origin(rule, place, out)?;
        }
        if let Match::Ports { proto, sport, dport } = m {
            write!(out, " -m {proto} -p {proto}")?;
            write_destination(rule, out)?;
            for (option, range) in [("--sport", sport), ("--dport", dport)] {
                if let Some(Test { invert, value: (low, high) }) = *range {
                    write!(out, "{} {option} {low}", negation(invert))?;
                    if low != high {
                        write!(out, ":{high}")?;
                    }
                }
            }
            write_origin(rule, place, out)?;
        } else {
            write_match(m, place.left, out)?;
        }
    }
    if after == rule.matches.len() && !has_ports {
        write_destination(rule, out)?;
        write_origin(rule, place, out)?;
    }
    match &rule.target {
        Some(Target::Jump(id)) => {
            out.write_str(" -j ")?;
            out.write_str(name_of(*id))?;
        }
        Some(target) => write_target(target, out)?,
        None => {}
    }
    out.push('\n');
    Ok(())
}

/// Addresses are written without a length, save the IPv6 loopback, which is written as a network.
fn write_destination(rule: &Rule, out: &mut String) -> fmt::Result {
    let network = |test: &Test<IpNet>| test.invert || test.value.prefix_len() < test.value.max_prefix_len();
    rule.dst.as_ref().map_or(Ok(()), |test| write_net("-d", test, network(test), out))
}

/// Where the packet comes from: the source and the devices.
fn write_origin(rule: &Rule, place: Place, out: &mut String) -> fmt::Result {
    if let Some(test) = &rule.src {
        write_net("-s", test, place.network_source, out)?;
    }
    for (option, iface) in [("-i", &rule.in_iface), ("-o", &rule.out_iface)] {
        if let Some(Test { invert, value }) = iface {
            write!(out, "{} {option} {value}", negation(*invert))?;
        }
    }
    Ok(())
}

fn write_net(option: &str, test: &Test<IpNet>, network: bool, out: &mut String) -> fmt::Result {
    write!(out, "{} {option} ", negation(test.invert))?;
    if network { write!(out, "{}", test.value.trunc()) } else { write!(out, "{}", test.value.addr()) }
}
