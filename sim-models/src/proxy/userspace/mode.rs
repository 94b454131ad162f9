//! userspace mode in the table of modes. It has rules to print and no simulation: packets end in kube-proxy itself,
//! whose copying is not modelled. Sync work follows `pkg/proxy/userspace/proxier.go:syncProxyRules`.

use crate::config::ProxyConfig;
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables;
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
use crate::proxy::sync::SyncWork;
use crate::proxy::{Form, ProxyMode};
use sim_core::classify::Family;
use sim_core::units::SimTime;

/// kube-proxy's userspace mode.
pub struct Userspace;

impl ProxyMode for Userspace {
    fn name(&self) -> &'static str {
        "userspace"
    }
    fn describe(&self) -> &'static str {
        "kube-proxy itself copies every byte; rules only bring connections to its ports; removed in 1.26"
    }
    fn versions(&self) -> (u32, u32) {
        (0, 25)
    }
    fn history(&self) -> &'static str {
        "the only mode of 1.0, the default until 1.1, deprecated since 1.23, removed in 1.26"
    }
    fn is_simulated(&self) -> bool {
        false
    }
    fn tells_local_traffic(&self) -> bool {
        false
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
        Some(super::inputs::inputs(states.iter().map(|(_, objects)| objects), config, family))
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        rules.xtables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len() as u64).sum()
    }
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork {
        SyncWork {
            // Chains made and flushed; then each rule is looked for and added, every one a run of its own.
            execs: 2 * CHAINS + 2 * self.rule_count(rules),
            service_ports: objects.ports.len() as u64,
            ..SyncWork::default()
        }
    }
    fn endpoint_change_sync(&self, _objects: &ProxyObjects, _rules: &NodeRules, _ports: &[u32]) -> SyncWork {
        // Endpoints go to the balancer inside kube-proxy: no sync at all.
        SyncWork::default()
    }
}

/// Chains that kube-proxy makes.
const CHAINS: u64 = 5;
