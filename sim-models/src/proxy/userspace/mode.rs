//! userspace mode in the table of modes. Packets go through its rules and through kube-proxy itself
//! ([`portal`](crate::kernel::portal)); clusters are not simulated under it, since what copying costs was not measured.

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables;
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
use crate::proxy::{Dumps, Form, ProxyMode};
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
    fn load_command<'a>(&self, iptables_restore: &'a str) -> Option<&'a str> {
        Some(iptables_restore)
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
    fn dumps(&self) -> Option<&dyn Dumps> {
        Some(self)
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        rules.xtables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len() as u64).sum()
    }
}

impl Dumps for Userspace {
    fn read(&self, text: &str, family: Family) -> Result<NodeRules, ReadError> {
        let saved = xtables::parse::parse(text, family)?;
        let (xtables, xtables_notes) = (saved.tables, saved.notes);
        let xtables_backend = xtables_notes.backend();
        Ok(NodeRules { xtables, xtables_notes, xtables_backend, ..NodeRules::default() })
    }
    fn diff(&self, wanted: &NodeRules, found: &NodeRules, _config: &ProxyConfig) -> Vec<Difference> {
        super::dump::diff(&wanted.xtables, &found.xtables)
    }
}
