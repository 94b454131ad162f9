//! One sync after another: what kube-proxy gives to `iptables-restore` while the objects change.
//!
//! Source: `pkg/proxy/iptables/proxier.go:syncProxyRules`. The rules are those of [`fixed`](super::fixed) and
//! [`service`](super::service), written by [`restore`](super::restore). Every sync writes all of table filter and
//! the shared chains of nat; chains of a Service only if it changed. Chains that nobody uses any more are found by
//! listing the table, in a large cluster at most once in `syncPeriod`.
//!
//! Left out: failed restores, the hourly full sync, and the jumps from built-in chains, which `iptables` itself puts
//! in.

use super::fixed::{self, FilterChain, NatChain};
use super::restore::{self, Place, TableInput};
use super::service::{ServiceRules, Writer};
use super::{SyncContext, is_large};
use crate::config::ProxyConfig;
use crate::kernel::xtables::{Chain, ChainId, Rule, Table, Target};
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::changes::Changes;
use crate::proxy::input::ToolInput;
use sim_core::classify::Family;
use sim_core::units::{SimSpan, SimTime};
use std::collections::BTreeSet;
use std::sync::Arc;

/// kube-proxy of one family, between two syncs.
pub(super) struct Proxier<'a> {
    cx: SyncContext,
    /// The objects at the last sync.
    seen: Option<&'a ProxyObjects>,
    /// Chains of Services in the kernel's table nat.
    installed: BTreeSet<Arc<str>>,
    sync_period: SimSpan,
    /// When unused chains were last looked for.
    cleaned: Option<SimTime>,
}

impl<'a> Proxier<'a> {
    /// A proxier that starts on a node without rules. What the node is like is what `objects` say now.
    pub(super) fn new(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Self {
        Proxier {
            cx: SyncContext::new(objects, config, family),
            seen: None,
            installed: BTreeSet::new(),
            sync_period: config.sync_period,
            cleaned: None,
        }
    }

    /// The objects have become these: the restore that follows `now`, if any.
    pub(super) fn sync(&mut self, now: SimTime, objects: &'a ProxyObjects) -> Option<ToolInput> {
        let changes = self.seen.map_or(Changes::Everything, |seen| Changes::between(seen, objects));
        if changes == Changes::Nothing {
            return None;
        }
        self.cx.large_cluster = is_large(objects);
        let rested = self.cleaned.is_none_or(|last| now.since(last) > self.sync_period);
        let cleans = rested || !self.cx.large_cluster;
        self.seen = Some(objects);
        let program = match self.cx.family {
            Family::Ipv4 => "iptables-restore",
            Family::Ipv6 => "ip6tables-restore",
        };
        let mut input = Input::new(&self.cx);
        let mut active = Vec::new();
        for port in &objects.ports {
            input.port(port, changes.include(port), &mut active);
        }
        let mut active = BTreeSet::from_iter(active);
        if cleans {
            self.cleaned = Some(now);
            self.installed.difference(&active).for_each(|chain| input.nat.delete(chain));
            self.installed = active;
        } else {
            self.installed.append(&mut active);
        }
        Some(ToolInput { command: format!("{program} -w 5 --noflush --counters"), stdin: input.finish() })
    }
}

/// The input of one restore as it is written.
struct Input<'c> {
    cx: &'c SyncContext,
    filter_table: Table,
    nat_table: Table,
    filter: TableInput,
    nat: TableInput,
    /// Room for the rules and chains of one port.
    rules: ServiceRules,
}

impl<'c> Input<'c> {
    /// The chains that are always there, and the rules at the head of each table.
    fn new(cx: &'c SyncContext) -> Self {
        use {FilterChain as F, NatChain as N};
        let (filter_table, nat_table) = (fixed::filter_table(cx), fixed::nat_table(cx));
        let (mut filter, mut nat) = (TableInput::default(), TableInput::default());
        let firewall = cx.localhost_node_ports.then_some(F::Firewall);
        let written = [F::Services, F::ExternalServices, F::KubeForward, F::NodePorts, F::ProxyFirewall];
        for chain in written.into_iter().chain(firewall) {
            filter.chain(&filter_table.chains[chain.id().0 as usize].name);
        }
        for chain in [N::Services, N::NodePorts, N::KubePostrouting, N::MarkMasq] {
            nat.chain(&nat_table.chains[chain.id().0 as usize].name);
        }
        write_fixed(&filter_table, F::Firewall.id(), &mut filter);
        write_fixed(&nat_table, N::KubePostrouting.id(), &mut nat);
        write_fixed(&nat_table, N::MarkMasq.id(), &mut nat);
        Input { cx, filter_table, nat_table, filter, nat, rules: ServiceRules::default() }
    }

    /// One Service port: its rules in the shared chains, and its own chains if it changed. Adds its chains to
    /// `active`.
    fn port(&mut self, port: &ServicePort, changed: bool, active: &mut Vec<Arc<str>>) {
        let first = ChainId(self.nat_table.chains.len() as u32);
        let writer = Writer::new(port, first, self.cx);
        active.extend(writer.chain_names().cloned());
        writer.entries(&mut self.rules);
        let nat_name = |id: ChainId| match self.nat_table.chains.get(id.0 as usize) {
            Some(chain) => &*chain.name,
            None => writer.chain_name(id),
        };
        for (chain, rule) in self.rules.filter.drain(..) {
            let chain = &self.filter_table.chains[chain.0 as usize].name;
            self.filter
                .rule(chain, &rule, Place::shared(), |_| unreachable!("rules of Services end in verdicts"));
        }
        for (chain, rule) in self.rules.nat.drain(..) {
            self.nat.rule(nat_name(chain), &rule, Place::shared(), nat_name);
        }
        if !changed {
            return;
        }
        writer.chains(&mut self.rules.nat_chains);
        // The rule that masquerades on the way to the cluster IP is written before all chains.
        let masquerades = |rule: &Rule| rule.target == Some(Target::Jump(NatChain::MarkMasq.id()));
        let head = |id: ChainId, chain: &Chain| {
            usize::from(writer.spreads(id) && chain.rules.first().is_some_and(masquerades))
        };
        let chains = || (first.0..).map(ChainId).zip(&self.rules.nat_chains);
        let mut write = |id: ChainId, chain: &Chain, range: std::ops::Range<usize>| {
            let networks = writer.network_sources(id);
            for at in range {
                let place = Place { left: chain.rules.len() - at, network_source: at < networks };
                self.nat.rule(&chain.name, &chain.rules[at], place, nat_name);
            }
        };
        for (id, chain) in chains() {
            write(id, chain, 0..head(id, chain));
        }
        for (id, chain) in chains() {
            write(id, chain, head(id, chain)..chain.rules.len());
        }
        self.rules.nat_chains.drain(..).for_each(|chain| self.nat.chain(&chain.name));
    }

    /// The rules at the end of each table, and the text.
    fn finish(mut self) -> String {
        let services = NatChain::Services.id();
        self.nat_table.chains[services.0 as usize].rules = fixed::last_services_rules(self.cx);
        write_fixed(&self.nat_table, services, &mut self.nat);
        write_fixed(&self.filter_table, FilterChain::KubeForward.id(), &mut self.filter);
        restore::text(&[("filter", self.filter), ("nat", self.nat)])
    }
}

/// All rules of a chain that does not depend on Services.
fn write_fixed(table: &Table, chain: ChainId, input: &mut TableInput) {
    let chain = &table.chains[chain.0 as usize];
    for rule in &chain.rules {
        input.rule(&chain.name, rule, Place::shared(), |id| &*table.chains[id.0 as usize].name);
    }
}
