//! What kube-proxy does in ipvs mode while the objects go through states, as commands of the tools.
//!
//! Source: `pkg/proxy/ipvs/proxier.go:syncProxyRules`, `syncService`, `syncEndpoint`, `cleanLegacyService`,
//! `ipset.go:syncIPSetEntries`, `graceful_termination.go`. Of its work only `iptables-restore` has a stdin: virtual
//! servers and addresses go over netlink, sysctls into files, and each ipset entry is a run of `ipset`. Here each
//! kind is gathered into what its tool reads from stdin, in kube-proxy's order: chains and jumps, kube-ipvs0, sets,
//! virtual servers with their real servers, entries (deletions before additions, sorted, set by set), rules,
//! addresses that are superfluous, virtual servers that are.
//!
//! A state in which nothing of the family changed has no sync. Every sync does everything again; what would change
//! nothing is left out, save for the rules, which are written whole each time. Real servers go as
//! [`GracefulTermination`] decides. The looks at those that wait begin a minute after the first of them was drained, and
//! the last state is followed by one. Nobody sends packets here, so connections are an assumption: [`inputs`] takes it
//! that a TCP server has some when it is removed and none at the look; [`inputs_with`] leaves it to the caller.
//!
//! Left out: what the first sync finds from an earlier kube-proxy (its weights are set back to 1), conntrack's
//! clean-up, and metrics. Where two Services share an address and port, kube-proxy sets the real servers of one after
//! the other; here only the later ones'.

use super::{build, restore};
use crate::config::ProxyConfig;
use crate::kernel::ipset::{IpSet, save};
use crate::kernel::ipvs::graceful::CHECK_INTERVAL;
use crate::kernel::ipvs::print::{real_server_command, service_command};
use crate::kernel::ipvs::{GracefulTermination, ServiceKey, Step, VirtualServer};
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use crate::proxy::changes::Changes;
use crate::proxy::input::ToolInput;
use sim_core::classify::Family;
use sim_core::units::SimTime;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Open and expiring connections of a real server.
pub type Connections<'a> = dyn Fn(&ServiceKey, SocketAddr) -> (u32, u32) + 'a;

/// Inputs by state, with TCP servers that are in use when they are removed and idle a minute later.
pub fn inputs(
    states: &[(SimTime, ProxyObjects)],
    config: &ProxyConfig,
    family: Family,
) -> Vec<Vec<ToolInput>> {
    inputs_with(states, config, family, |_| &|_, _| (1, 0), |_| &|_, _| (0, 0))
}

/// Inputs by state. `at_sync` and `at_check` tell the connections at a sync and at a look at waiting real servers.
pub fn inputs_with<'a>(
    states: &[(SimTime, ProxyObjects)],
    config: &ProxyConfig,
    family: Family,
    at_sync: impl Fn(SimTime) -> &'a Connections<'a>,
    at_check: impl Fn(SimTime) -> &'a Connections<'a>,
) -> Vec<Vec<ToolInput>> {
    let mut node = Node::new(config, family);
    let mut all: Vec<Vec<ToolInput>> = vec![Vec::new(); states.len()];
    // The objects at the last sync, and the state that it was of: looks between two syncs are told with the earlier.
    let mut seen: Option<&ProxyObjects> = None;
    let mut synced = 0;
    let mut next_check: Option<SimTime> = None;
    for (n, (now, objects)) in states.iter().enumerate() {
        while let Some(at) = next_check.filter(|at| at <= now) {
            node.check(at_check(at), &mut all[synced]);
            next_check = node.waits().then(|| at + CHECK_INTERVAL);
        }
        if seen.is_some_and(|seen| Changes::between(seen, objects) == Changes::Nothing) {
            continue;
        }
        let rules = build(objects, config, family);
        if seen.is_none() {
            node.start(&rules, &mut all[n]);
        }
        node.sync(&rules, at_sync(*now), &mut all[n]);
        (seen, synced) = (Some(objects), n);
        if node.waits() {
            next_check.get_or_insert(*now + CHECK_INTERVAL);
        }
    }
    if let Some(at) = next_check {
        node.check(at_check(at), &mut all[synced]);
    }
    all
}

/// What the node's kernel has, as far as a sync compares with it.
struct Node<'a> {
    config: &'a ProxyConfig,
    family: Family,
    /// Virtual servers without their real servers, and those.
    servers: BTreeMap<ServiceKey, (VirtualServer, Vec<SocketAddr>)>,
    graceful: GracefulTermination,
    entries: BTreeMap<Arc<str>, BTreeSet<String>>,
    bound: BTreeSet<IpAddr>,
}

fn push(inputs: &mut Vec<ToolInput>, command: &str, stdin: String) {
    if !stdin.is_empty() {
        inputs.push(ToolInput { command: command.to_owned(), stdin });
    }
}

impl<'a> Node<'a> {
    fn new(config: &'a ProxyConfig, family: Family) -> Self {
        Node {
            config,
            family,
            servers: BTreeMap::new(),
            graceful: GracefulTermination::default(),
            entries: BTreeMap::new(),
            bound: BTreeSet::new(),
        }
    }

    fn program(&self) -> &'static str {
        match self.family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        }
    }

    /// What a start and the first sync make once.
    fn start(&mut self, rules: &NodeRules, inputs: &mut Vec<ToolInput>) {
        let sysctls = rules.sysctls.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        push(inputs, "sysctl -p -", sysctls);
        let alone = |command: String| ToolInput { command, stdin: String::new() };
        if let Some([tcp, tcp_fin, udp]) = rules.ipvs_timeouts {
            inputs.push(alone(format!("ipvsadm --set {tcp} {tcp_fin} {udp}")));
        }
        inputs.extend(restore::ensure_commands(&rules.xtables, self.program()).into_iter().map(alone));
        push(inputs, "ip -batch -", "link add kube-ipvs0 type dummy\n".to_owned());
        let empty = |set: &IpSet| IpSet { elements: Vec::new(), ..set.clone() };
        let sets: Vec<IpSet> = rules.ipsets.iter().map(empty).collect();
        push(inputs, "ipset restore", save(&sets));
    }

    fn sync(&mut self, rules: &NodeRules, connections: &Connections<'_>, inputs: &mut Vec<ToolInput>) {
        let (mut servers, mut addresses) = (String::new(), String::new());
        for server in &rules.ipvs {
            self.server(server, connections, &mut servers);
        }
        let wanted: BTreeSet<IpAddr> = rules.dummy_addrs.iter().copied().collect();
        for addr in &rules.dummy_addrs {
            if self.bound.insert(*addr) {
                addresses.push_str(&address("add", *addr));
            }
        }
        push(inputs, "ip -batch -", addresses);
        push(inputs, "ipvsadm -R", servers);
        push(inputs, "ipset restore", self.sets(&rules.ipsets));
        let command = format!("{}-restore -w 5 --noflush --counters", self.program());
        push(inputs, &command, restore::stdin(&rules.xtables));

        let superfluous: Vec<IpAddr> = self.bound.difference(&wanted).copied().collect();
        let unbound: String = superfluous.iter().map(|addr| address("del", *addr)).collect();
        self.bound = wanted;
        push(inputs, "ip -batch -", unbound);
        let active: BTreeSet<ServiceKey> = rules.ipvs.iter().map(VirtualServer::key).collect();
        let mut deleted = String::new();
        let excluded = &self.config.ipvs.exclude_cidrs;
        self.servers.retain(|key, (server, _)| {
            let stays = active.contains(key) || excluded.iter().any(|cidr| cidr.contains(&key.addr));
            if !stays {
                service_command("-D", server, &mut deleted);
            }
            stays
        });
        push(inputs, "ipvsadm -R", deleted);
    }

    /// Makes one virtual server and its real servers what they should be.
    fn server(&mut self, wanted: &VirtualServer, connections: &Connections<'_>, out: &mut String) {
        let key = wanted.key();
        let bare = VirtualServer { real: Vec::new(), ..wanted.clone() };
        let entry = self.servers.get_mut(&key);
        match &entry {
            None => service_command("-A", &bare, out),
            Some((there, _)) if *there != bare => service_command("-E", &bare, out),
            Some(_) => {}
        }
        let mut real = entry.map(|(_, real)| std::mem::take(real)).unwrap_or_default();
        let addrs: Vec<SocketAddr> = wanted.real.iter().map(|real| real.addr).collect();
        let (mut added, mut deleted) = (Vec::new(), BTreeSet::new());
        for step in self.graceful.plan(&key, &real, &addrs, connections) {
            match step {
                Step::Add(addr) => {
                    added.push(addr);
                    real_server_command("-a", &key, addr, 1, out);
                }
                Step::Delete(addr) => {
                    deleted.insert(addr);
                    real_server_command("-d", &key, addr, 0, out);
                }
                Step::Drain(addr) => real_server_command("-e", &key, addr, 0, out),
            }
        }
        // One that is added is new, or was deleted just before.
        real.retain(|there| !deleted.contains(there));
        real.extend(added);
        self.servers.insert(key, (bare, real));
    }

    /// Differences of all sets.
    fn sets(&mut self, sets: &[IpSet]) -> String {
        let mut out = String::new();
        for set in sets {
            let wanted: BTreeSet<String> = set.elements.iter().map(ToString::to_string).collect();
            let there = self.entries.entry(set.name.clone()).or_default();
            for gone in there.difference(&wanted) {
                out.push_str(&format!("del {} {gone}\n", set.name));
            }
            for new in wanted.difference(there) {
                out.push_str(&format!("add {} {new}\n", set.name));
            }
            *there = wanted;
        }
        out
    }

    /// Whether a real server waits for its last connection.
    fn waits(&self) -> bool {
        !self.graceful.is_empty()
    }

    /// The look at the real servers that wait.
    fn check(&mut self, connections: &Connections<'_>, inputs: &mut Vec<ToolInput>) {
        let mut out = String::new();
        let mut gone: BTreeMap<ServiceKey, BTreeSet<SocketAddr>> = BTreeMap::new();
        for (key, addr) in self.graceful.plan_check(connections) {
            gone.entry(key).or_default().insert(addr);
        }
        for (key, gone) in gone {
            // One whose virtual server went before it is only forgotten.
            let Some((_, real)) = self.servers.get_mut(&key) else { continue };
            real.retain(|addr| {
                let goes = gone.contains(addr);
                if goes {
                    real_server_command("-d", &key, *addr, 0, &mut out);
                }
                !goes
            });
        }
        push(inputs, "ipvsadm -R # a minute later, without connections", out);
    }
}

fn address(what: &str, addr: IpAddr) -> String {
    let prefix = if addr.is_ipv4() { 32 } else { 128 };
    format!("addr {what} {addr}/{prefix} dev kube-ipvs0\n")
}

#[cfg(test)]
mod tests;
