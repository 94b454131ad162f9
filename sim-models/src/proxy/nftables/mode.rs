//! nftables mode in the table of modes. Sync work follows `pkg/proxy/nftables/proxier.go:syncProxyRules`.

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::nftables::{diff, json, read};
use crate::kernel::rules::NodeRules;
use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::input::ToolInput;
use crate::proxy::sync::{Size, SyncKind, SyncShape, SyncWork};
use crate::proxy::{Dumps, Form, ProxyMode, Simulated};
use sim_core::classify::Family;
use sim_core::units::SimTime;

/// Name of its tables, one a family.
const TABLE: &str = "kube-proxy";

/// kube-proxy's nftables mode.
pub struct Nftables;

impl ProxyMode for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }
    fn describe(&self) -> &'static str {
        "one map lookup finds the Service, one numbered map the endpoint"
    }
    fn versions(&self) -> (u32, u32) {
        (29, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.29, beta in 1.31, stable in 1.33"
    }
    fn simulated(&self) -> Option<&dyn Simulated> {
        Some(self)
    }
    fn runs_iptables(&self) -> bool {
        false
    }
    fn load_command<'a>(&self, _iptables_restore: &'a str) -> Option<&'a str> {
        Some("nft -f -")
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        super::build(objects, config, family)
    }
    fn forms(&self) -> &'static [Form] {
        &[Form::Load, Form::Json]
    }
    fn print(&self, rules: &NodeRules, form: Form) -> String {
        match form {
            Form::Load => rules.nftables.as_ref().map_or_else(String::new, ToString::to_string),
            Form::Json => json::document(&rules.nftables),
            Form::Listing => panic!("nftables mode has no form {form:?}"),
        }
    }
    fn dumps(&self) -> Option<&dyn Dumps> {
        Some(self)
    }
    fn inputs(
        &self,
        states: &[(SimTime, ProxyObjects)],
        config: &ProxyConfig,
        family: Family,
    ) -> Option<Vec<Vec<ToolInput>>> {
        Some(super::sync::inputs(states, config, family))
    }
    fn refused(&self, rules: &NodeRules) -> Option<String> {
        rules.nftables.as_ref().and_then(super::refused_by_nft)
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let of_table = |t: &crate::kernel::nftables::Table| {
            let rules: usize = t.chains.iter().map(|c| c.rules.len()).sum();
            let elements: usize = t.sets.iter().map(|s| s.elements.len()).sum();
            (rules + elements) as u64
        };
        rules.nftables.as_ref().map_or(0, of_table)
    }
}

impl Simulated for Nftables {
    fn first_sync(&self, objects: &ProxyObjects, _rules: &NodeRules) -> SyncWork {
        let services = objects.ports.len() as u64;
        SyncWork {
            // Seven lists of sets and maps, one of the table, one transaction.
            nft_execs: 9,
            nft_services: services,
            nft_set_pairs: services * services.saturating_sub(1) / 2,
            service_ports: services,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork {
        let services = objects.ports.len() as u64;
        let listed = rules.nftables.as_ref().map_or(0, |t| (t.chains.len() + t.sets.len()) as u64);
        SyncWork {
            nft_partial_execs: 2,
            nft_services: ports.len() as u64,
            nft_listed: listed,
            nft_listed_pairs: services * services.saturating_sub(1) / 2,
            service_ports: services,
            ..SyncWork::default()
        }
    }
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size {
        let alone = |ports| {
            let objects = ProxyObjects { ports, ..ProxyObjects::default() };
            let table = super::build(&objects, config, family).nftables.expect("the mode's table");
            // Names of Services have a slash, and only they.
            let own = || table.chains.iter().filter(|c| c.name.contains('/'));
            let elements: u64 =
                table.sets.iter().filter(|s| !s.name.is_empty()).map(|s| s.elements.len() as u64).sum();
            (
                own().count() as u64,
                own().map(|c| c.rules.len() as u64).sum::<u64>(),
                elements,
                table.sets.len() as u64,
            )
        };
        let (fixed, with) = (alone(Vec::new()), alone(vec![port.clone()]));
        Size {
            ports: 1,
            reachable: port.endpoints.reachable.len() as u64,
            endpoints: u64::from(port.endpoints.total),
            own_rules: with.1,
            chains: with.0,
            elements: with.2 - fixed.2,
            anonymous: with.3 - fixed.3,
            ..Size::default()
        }
    }
    fn sync(&self, shape: &SyncShape, _config: &ProxyConfig) -> SyncWork {
        let services = shape.table.ports;
        let pairs = services * services.saturating_sub(1) / 2;
        match shape.kind {
            SyncKind::First | SyncKind::Full => SyncWork {
                nft_execs: 9,
                nft_services: shape.written.ports,
                nft_set_pairs: pairs,
                service_ports: services,
                ..SyncWork::default()
            },
            SyncKind::Partial => SyncWork {
                nft_partial_execs: 2,
                nft_services: shape.written.ports,
                nft_listed: shape.table.chains + shape.table.anonymous,
                nft_listed_pairs: pairs,
                service_ports: services,
                ..SyncWork::default()
            },
        }
    }
}

impl Dumps for Nftables {
    fn has_both_families(&self) -> bool {
        true
    }
    fn read(&self, text: &str, family: Family) -> Result<NodeRules, ReadError> {
        let dump = read::ruleset(text, TABLE)?;
        let notes = dump.notes(TABLE, family);
        let nftables = dump.tables.into_iter().find(|table| table.family == family);
        Ok(NodeRules { nftables, notes, ..NodeRules::default() })
    }
    fn diff(&self, wanted: &NodeRules, found: &NodeRules, _config: &ProxyConfig) -> Vec<Difference> {
        match (&wanted.nftables, &found.nftables) {
            (Some(wanted), Some(found)) => diff::differences(wanted, found),
            (wanted, found) => diff::whole_table(wanted.as_ref(), found.as_ref()).into_iter().collect(),
        }
    }
}
