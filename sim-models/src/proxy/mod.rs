//! Proxy modes: from resolved Services to the kernel's rules, one folder a mode.
//!
//! A mode is a [`ProxyMode`] in [`MODES`]; commands, charts and conformance tests loop over that table. Adding
//! one is a folder and a line.

pub mod changes;
pub mod conntrack;
pub mod ebpf;
pub mod fleet;
pub mod input;
pub mod iptables;
pub mod ipvs;
pub mod local;
pub mod names;
pub mod nftables;
pub mod node_ports;
pub mod overlay;
mod spelling;
pub mod sync;
pub mod userspace;

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kube::{ProxyObjects, ServicePort};
use input::ToolInput;
use sim_core::classify::Family;
use sim_core::units::SimTime;
use sync::{Size, SyncShape, SyncWork};

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
    /// What a simulation of clusters under it needs; a mode without it only has rules to print.
    fn simulated(&self) -> Option<&dyn Simulated> {
        None
    }
    /// Whether it is a mode of kube-proxy; if not, it runs in its place.
    fn is_kube_proxys(&self) -> bool {
        true
    }
    /// Whether it runs iptables, of whichever backend.
    fn runs_iptables(&self) -> bool {
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
    /// The command that loads all of [`Form::Load`], where one does, given the `iptables-restore` of family and backend.
    fn load_command<'a>(&self, _iptables_restore: &'a str) -> Option<&'a str> {
        None
    }
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
    /// What its tools list on a node, if that can be read.
    fn dumps(&self) -> Option<&dyn Dumps> {
        None
    }
    /// Rules, or what stands for them: what a person counts in the tool's listing.
    fn rule_count(&self, rules: &NodeRules) -> u64;
}

/// A mode that clusters can be simulated under.
pub trait Simulated: ProxyMode {
    /// How much the rules of one port are. The sizes of all ports add up to the table without its fixed part.
    fn size(&self, port: &ServicePort, config: &ProxyConfig, family: Family) -> Size;
    /// Work of a sync.
    fn sync(&self, shape: &SyncShape, config: &ProxyConfig) -> SyncWork;
}

/// A mode whose rules are read back from a node. What is read can be compared.
pub trait Dumps: ProxyMode {
    /// Whether one dump holds both families.
    fn has_both_families(&self) -> bool {
        false
    }
    /// Reads what the tools list on a node, one family.
    fn read(&self, text: &str, family: Family) -> Result<NodeRules, ReadError>;
    /// How the rules found on a node differ from those that its objects call for: without regard to the order of
    /// Services, exact inside a chain. What is not kube-proxy's is not looked at.
    fn diff(&self, wanted: &NodeRules, found: &NodeRules, config: &ProxyConfig) -> Vec<Difference>;
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
pub fn simulated() -> impl Iterator<Item = &'static dyn Simulated> {
    MODES.iter().filter_map(|mode| mode.simulated())
}

/// The modes whose dumps can be read.
pub fn with_dumps() -> impl Iterator<Item = &'static dyn Dumps> {
    MODES.iter().filter_map(|mode| mode.dumps())
}

/// The mode of that name.
pub fn mode(name: &str) -> Option<&'static dyn ProxyMode> {
    MODES.iter().copied().find(|m| m.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{Endpoint, EndpointLists};

    #[test]
    fn a_state_that_is_no_change_for_the_family_has_no_input_in_any_mode() {
        let endpoint = |n: u8| Endpoint { addr: ([10, 244, 0, n], 80).into(), is_local: false };
        let state = |from: u8| {
            let lists = EndpointLists::ready((from..from + 2).map(endpoint).collect());
            let port = ServicePort::http("ns", "a", "10.96.0.1".parse().unwrap(), lists);
            let node_ips = vec!["192.168.0.2".parse().unwrap()];
            ProxyObjects { ports: vec![port], node_ips, ..ProxyObjects::default() }
        };
        let service_cidrs = vec!["10.96.0.0/12".parse().unwrap()];
        let unchanged = ProxyObjects { service_cidrs, ..state(2) };
        let states = [state(1), state(2), state(2), unchanged];
        let times = std::iter::successors(Some(SimTime::ZERO), |at| {
            Some(*at + sim_core::units::SimSpan::from_secs(45))
        });
        let states: Vec<_> = times.zip(states).collect();
        let mut with_inputs = 0;
        for mode in MODES {
            let config = ProxyConfig { mode: mode.name().to_owned(), ..ProxyConfig::default() };
            let Some(inputs) = mode.inputs(&states, &config, Family::Ipv4) else { continue };
            with_inputs += 1;
            assert_eq!(inputs.len(), states.len(), "{}", mode.name());
            assert!(!inputs[0].is_empty(), "{}", mode.name());
            // Endpoints are no rule of userspace mode.
            assert_eq!(inputs[1].is_empty(), mode.name() == "userspace", "{}", mode.name());
            assert_eq!(inputs[2..], [vec![], vec![]], "{}", mode.name());
        }
        assert_eq!(with_inputs, 4);
    }
}
