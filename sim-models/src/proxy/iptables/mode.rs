//! iptables mode in the table of modes. Sync work follows `pkg/proxy/iptables/proxier.go:syncProxyRules`.

use super::syncs::Proxier;
use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::diff::Layout;
use crate::kernel::xtables::{self, TableName};
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::input::ToolInput;
use crate::proxy::sync::{Size, SyncKind, SyncShape, SyncWork};
use crate::proxy::{Dumps, Form, ProxyMode, Simulated};
use sim_core::classify::Family;
use sim_core::units::SimTime;

/// kube-proxy's iptables mode.
pub struct Iptables;

impl ProxyMode for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }
    fn describe(&self) -> &'static str {
        "a chain per Service and per endpoint; every new connection walks KUBE-SERVICES rule by rule"
    }
    fn versions(&self) -> (u32, u32) {
        (1, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.1, the default since 1.2"
    }
    fn simulated(&self) -> Option<&dyn Simulated> {
        Some(self)
    }
    fn load_command<'a>(&self, iptables_restore: &'a str) -> Option<&'a str> {
        Some(iptables_restore)
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        super::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules, _form: Form) -> String {
        xtables::print::iptables_save(rules)
    }
    fn inputs(
        &self,
        states: &[(SimTime, ProxyObjects)],
        config: &ProxyConfig,
        family: Family,
    ) -> Option<Vec<Vec<ToolInput>>> {
        let Some((_, first)) = states.first() else { return Some(Vec::new()) };
        let mut proxier = Proxier::new(first, config, family);
        Some(states.iter().map(|(at, objects)| proxier.sync(*at, objects).into_iter().collect()).collect())
    }
    fn dumps(&self) -> Option<&dyn Dumps> {
        Some(self)
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let counts = super::rule_counts(rules);
        (counts.filter + counts.nat) as u64
    }
}

impl Simulated for Iptables {
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork {
        let table = nat_rules(rules);
        SyncWork {
            // 14 jumps, each with -N, -C and -I; iptables-save; iptables-restore.
            execs: 14 * 3 + 2,
            restore_rules: self.rule_count(rules),
            table_rules: table,
            saved_rules: 0,
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork {
        let changed = |&p: &u32| 2 + 3 * objects.ports[p as usize].endpoints.reachable.len() as u64;
        let changed: u64 = ports.iter().map(changed).sum();
        let large = super::is_large(objects);
        let table = nat_rules(rules);
        SyncWork {
            execs: if large { 1 } else { 2 },
            // All of KUBE-SERVICES, the fixed chains, and the chains of the changed Services.
            restore_rules: objects.ports.len() as u64 + 5 + changed,
            table_rules: table,
            saved_rules: if large { 0 } else { table },
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size {
        let alone = |ports| {
            let objects = ProxyObjects { ports, ..ProxyObjects::default() };
            let rules = super::build(&objects, config, family);
            let of = |name| rules.xtables.iter().filter(move |t| t.name == name).flat_map(|t| &t.chains);
            let (common, own): (Vec<_>, Vec<_>) = of(TableName::Nat).partition(|c| !is_a_ports(&c.name));
            let count = |chains: &[&xtables::Chain]| chains.iter().map(|c| c.rules.len() as u64).sum::<u64>();
            let filter: u64 = of(TableName::Filter).map(|c| c.rules.len() as u64).sum();
            (count(&common) + filter, count(&own), own.len() as u64)
        };
        let (fixed, with) = (alone(Vec::new()), alone(vec![port.clone()]));
        Size {
            ports: 1,
            reachable: port.endpoints.reachable.len() as u64,
            endpoints: u64::from(port.endpoints.total),
            common_rules: with.0 - fixed.0,
            own_rules: with.1 - fixed.1,
            chains: with.2 - fixed.2,
            ..Size::default()
        }
    }
    fn sync(&self, shape: &SyncShape, _config: &ProxyConfig) -> SyncWork {
        let jumps = match shape.kind {
            SyncKind::First => 14 * 3,
            SyncKind::Full => 14 * 2,
            SyncKind::Partial => 0,
        };
        let table = shape.table.common_rules + shape.table.own_rules + 5;
        SyncWork {
            execs: jumps + 1 + u64::from(shape.look_for_stale),
            restore_rules: shape.table.common_rules + 5 + shape.written.own_rules,
            table_rules: table,
            saved_rules: if shape.look_for_stale && shape.kind == SyncKind::Partial { table } else { 0 },
            service_ports: shape.table.ports,
            ..SyncWork::default()
        }
    }
}

impl Dumps for Iptables {
    fn read(&self, text: &str, family: Family) -> Result<NodeRules, ReadError> {
        let saved = xtables::parse::parse(text, family)?;
        let (xtables, xtables_notes) = (saved.tables, saved.notes);
        let xtables_backend = xtables_notes.backend();
        Ok(NodeRules { xtables, xtables_notes, xtables_backend, ..NodeRules::default() })
    }
    fn diff(&self, wanted: &NodeRules, found: &NodeRules, _config: &ProxyConfig) -> Vec<Difference> {
        xtables::diff::diff(&wanted.xtables, &found.xtables, Layout::IPTABLES)
    }
}

fn nat_rules(rules: &NodeRules) -> u64 {
    let nat = rules.xtables.iter().filter(|t| t.name == TableName::Nat);
    nat.flat_map(|t| &t.chains).map(|c| c.rules.len() as u64).sum()
}

/// Whether a chain belongs to one service port.
fn is_a_ports(chain: &str) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-"]
        .iter()
        .any(|start| chain.starts_with(start))
}
