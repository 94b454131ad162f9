//! Proxy modes: from resolved Services to the kernel's rules, one file a mode.
//!
//! A mode is a [`ProxyMode`] in [`MODES`]; commands, charts and conformance tests loop over that table. Adding
//! one is a file and a line.

pub mod iptables;
pub mod ipvs;
pub mod modes;
pub mod names;
pub mod nftables;
pub mod sync;

use crate::config::ProxyConfig;
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use sim_core::classify::Family;
use sync::SyncWork;

/// What a proxy mode is.
pub trait ProxyMode: Sync {
    /// Its name in `mode:` of KubeProxyConfiguration.
    fn name(&self) -> &'static str;
    /// One line on how it works.
    fn describe(&self) -> &'static str;
    /// First and last Kubernetes minor version that has it.
    fn versions(&self) -> (u32, u32);
    /// Since when it is there, and in what state, in words.
    fn history(&self) -> &'static str;
    /// Everything it has in the kernel for these objects, one family.
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules;
    /// The same as text, in the format of the tools that read it back.
    fn print(&self, rules: &NodeRules) -> String;
    /// Rules, or what stands for them: what a person counts in the tool's listing.
    fn rule_count(&self, rules: &NodeRules) -> u64;
    /// Work of the first sync after a start.
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork;
    /// Work of the sync after one endpoint of each of these service ports was replaced.
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork;
}

/// Every mode, in the order in which tables show them.
pub static MODES: &[&dyn ProxyMode] = &[&modes::Iptables, &modes::Ipvs, &modes::Nftables];

/// The mode of that name.
pub fn mode(name: &str) -> Option<&'static dyn ProxyMode> {
    MODES.iter().copied().find(|m| m.name() == name)
}
