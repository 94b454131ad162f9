//! nftables mode in the table of modes; what a sync of it costs is in [`sizes`](super::sizes).

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::nftables::{diff, json, read};
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
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
