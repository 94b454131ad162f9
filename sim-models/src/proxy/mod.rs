//! Proxy modes: from resolved Services to the kernel's rules, one folder a mode.
//!
//! A mode is a [`ProxyMode`] in [`MODES`]; commands, charts and conformance tests loop over that table. Adding
//! one is a folder and a line.

pub mod changes;
pub mod conntrack;
pub mod ebpf;
pub mod input;
pub mod iptables;
pub mod ipvs;
pub mod local;
pub mod names;
pub mod nftables;
pub mod node_ports;
pub mod sync;
pub mod userspace;

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use input::ToolInput;
use sim_core::classify::Family;
use sim_core::units::SimTime;
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
    /// Whether clusters can be simulated under it; if not, it only has rules to print.
    fn is_simulated(&self) -> bool {
        true
    }
    /// Whether its rules tell traffic of the cluster's pods from other traffic, and so need a detector.
    fn tells_local_traffic(&self) -> bool {
        true
    }
    /// Everything it has in the kernel for these objects, one family.
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules;
    /// The forms in which [`print`](Self::print) can show that, [`Form::Load`] first.
    fn forms(&self) -> &'static [Form] {
        &[Form::Load]
    }
    /// The rules as text.
    ///
    /// # Panics
    /// If `form` is none of [`forms`](Self::forms).
    fn print(&self, rules: &NodeRules, form: Form) -> String;
    /// Why the mode's tool would refuse these rules as a whole, if it would: objects that Kubernetes takes can be
    /// too much for it.
    fn refused(&self, _rules: &NodeRules) -> Option<String> {
        None
    }
    /// What kube-proxy writes to the stdin of its tools while the objects go through these states, one sync a
    /// state, which begins at its time: the first is the full sync after a start on a node without rules, the others
    /// are what the change calls for, with what earlier ones left to be cleaned up; a state that is no change for the
    /// family has no sync. Inputs by state; none for a mode that uses no such tool.
    fn inputs(
        &self,
        _states: &[(SimTime, ProxyObjects)],
        _config: &ProxyConfig,
        _family: Family,
    ) -> Option<Vec<Vec<ToolInput>>> {
        None
    }
    /// Reads back what the tools list on a node, one family.
    fn read(&self, _text: &str, _family: Family) -> Result<NodeRules, ReadError> {
        Err(ReadError { line: 1, column: 1, message: format!("{} mode has no dump to read", self.name()) })
    }
    /// How the rules found on a node differ from those that its objects call for: without regard to the order of
    /// Services, exact inside a chain. What is not kube-proxy's is not looked at.
    fn diff(&self, _wanted: &NodeRules, _found: &NodeRules) -> Vec<Difference> {
        Vec::new()
    }
    /// Rules, or what stands for them: what a person counts in the tool's listing.
    fn rule_count(&self, rules: &NodeRules) -> u64;
    /// Work of the first sync after a start.
    fn first_sync(&self, objects: &ProxyObjects, rules: &NodeRules) -> SyncWork;
    /// Work of the sync after one endpoint of each of these service ports was replaced.
    fn endpoint_change_sync(&self, objects: &ProxyObjects, rules: &NodeRules, ports: &[u32]) -> SyncWork;
}

/// A form of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What the mode's tools load: `iptables-save`, `nft list table`, `ipvsadm -Sn` with `ipset save`.
    Load,
    /// `nft -j list ruleset`.
    Json,
    /// What people look at: `ipvsadm -Ln`.
    Listing,
}

impl Form {
    /// Every form with its name and what it is.
    pub const ALL: [(Form, &str, &str); 3] = [
        (Form::Load, "load", "what the mode's tools read back"),
        (Form::Json, "json", "nft -j list ruleset"),
        (Form::Listing, "listing", "ipvsadm -Ln"),
    ];
}

/// Every mode, in the order in which tables show them.
pub static MODES: &[&dyn ProxyMode] = &[
    &iptables::mode::Iptables,
    &ipvs::mode::Ipvs,
    &nftables::mode::Nftables,
    &userspace::mode::Userspace,
    &ebpf::mode::Ebpf,
];

/// The modes that clusters can be simulated under.
pub fn simulated() -> impl Iterator<Item = &'static dyn ProxyMode> {
    MODES.iter().copied().filter(|mode| mode.is_simulated())
}

/// The mode of that name.
pub fn mode(name: &str) -> Option<&'static dyn ProxyMode> {
    MODES.iter().copied().find(|m| m.name() == name)
}
