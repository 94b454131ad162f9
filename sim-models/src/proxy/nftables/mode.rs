//! nftables mode in the table of modes. Sync work follows `pkg/proxy/nftables/proxier.go:syncProxyRules`.

use crate::config::ProxyConfig;
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
use crate::proxy::sync::SyncWork;
use crate::proxy::{Form, ProxyMode};
use sim_core::classify::Family;
use sim_core::units::SimTime;

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
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        super::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules, _form: Form) -> String {
        rules.nftables.as_ref().map_or_else(String::new, ToString::to_string)
    }
    fn inputs(
        &self,
        states: &[(SimTime, ProxyObjects)],
        config: &ProxyConfig,
        family: Family,
    ) -> Option<Vec<Vec<ToolInput>>> {
        Some(super::sync::inputs(states, config, family))
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let of_table = |t: &crate::kernel::nftables::Table| {
            let rules: usize = t.chains.iter().map(|c| c.rules.len()).sum();
            let elements: usize = t.sets.iter().map(|s| s.elements.len()).sum();
            (rules + elements) as u64
        };
        rules.nftables.as_ref().map_or(0, of_table)
    }
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
}
