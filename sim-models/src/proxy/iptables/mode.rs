//! iptables mode in the table of modes; what a sync of it costs is in [`sizes`](super::sizes).

use super::syncs::Proxier;
use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::diff::Layout;
use crate::kernel::xtables;
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
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
