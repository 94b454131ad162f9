//! The `iptables` runs of userspace mode while the objects go through states: no stdin, one rule a run.
//!
//! Source: `pkg/proxy/userspace/proxier.go:createProxier`, `iptablesInit`, `iptablesFlush`, `mergeService`,
//! `unmergeService`. A changed Service is closed (`-D`) and opened again (`-A`); one whose endpoints changed is not
//! touched. Left out: the `-C` before each `-A`, and the new random proxy port that a changed Service gets.

use super::{FILTER, NAT, Placed, ports, service_rules};
use crate::config::ProxyConfig;
use crate::kernel::xtables::print::write_rule;
use crate::kernel::xtables::{Table, TableName};
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::input::ToolInput;
use sim_core::classify::Family;
use std::collections::BTreeMap;

type Key<'a> = (&'a str, &'a str, &'a str, &'static str);

/// Inputs by state.
pub fn inputs<'s>(
    states: impl IntoIterator<Item = &'s ProxyObjects>,
    config: &ProxyConfig,
    family: Family,
) -> Vec<Vec<ToolInput>> {
    let program = match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let (filter, nat) = super::fixed(family);
    let run = |command: &str, placed: &Placed| {
        let (table, chain, option) = match placed.table {
            TableName::Nat => (&nat, NAT[placed.chain], "nat"),
            _ => (&filter, FILTER[placed.chain], "filter"),
        };
        command_of(program, command, table, option, chain, placed)
    };
    let mut before: BTreeMap<Key<'_>, Vec<Placed>> = BTreeMap::new();
    let mut all = Vec::new();
    for (n, objects) in states.into_iter().enumerate() {
        let mut inputs = if n == 0 { start(&filter, &nat, program) } else { Vec::new() };
        let allocated = ports::allocate(objects, config.kubernetes_minor);
        let mut after = BTreeMap::new();
        let mut opened = Vec::new();
        for (port, proxy_port) in objects.ports.iter().zip(allocated) {
            let Some(proxy_port) = proxy_port else { continue };
            let rules = service_rules(port, proxy_port, objects, config);
            let old = before.remove(&key(port));
            if old.as_ref() != Some(&rules) {
                inputs.extend(old.iter().flatten().map(|placed| run("-D", placed)));
                opened.extend(rules.iter().map(|placed| run("-A", placed)));
            }
            after.insert(key(port), rules);
        }
        inputs.extend(before.values().flatten().map(|placed| run("-D", placed)));
        inputs.extend(opened);
        before = after;
        all.push(inputs);
    }
    all
}

fn key(port: &ServicePort) -> Key<'_> {
    (&port.namespace, &port.name, &port.port_name, port.proto.name())
}

/// Chains, and the jumps to them; portals are prepended and node ports appended.
fn start(filter: &Table, nat: &Table, program: &str) -> Vec<ToolInput> {
    let mut out = Vec::new();
    for (table, option) in [(nat, "nat"), (filter, "filter")] {
        for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
            out.push(alone(format!("{program} -w 5 -N {} -t {option}", chain.name)));
        }
        for chain in table.chains.iter().filter(|chain| chain.base.is_some()) {
            for (n, rule) in chain.rules.iter().enumerate() {
                let mut text = String::new();
                write_rule(table, &chain.name, rule, &mut text).expect("a string takes all");
                let rest = text.strip_prefix(&format!("-A {}", chain.name)).expect("so rules begin");
                let command = if n == 0 { "-I" } else { "-A" };
                out.push(alone(format!("{program} -w 5 {command} {} -t {option}{rest}", chain.name)));
            }
        }
    }
    out
}

fn command_of(
    program: &str,
    command: &str,
    table: &Table,
    option: &str,
    chain: &str,
    placed: &Placed,
) -> ToolInput {
    let mut text = String::new();
    write_rule(table, chain, &placed.rule, &mut text).expect("a string takes all");
    let rest = text.strip_prefix(&format!("-A {chain}")).expect("so rules begin");
    alone(format!("{program} -w 5 {command} {chain} -t {option}{rest}"))
}

fn alone(command: String) -> ToolInput {
    ToolInput { command, stdin: String::new() }
}
