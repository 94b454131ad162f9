//! ipvs mode in the table of modes; what a sync of it costs is in [`sizes`](super::sizes).

use crate::config::ProxyConfig;
use crate::kernel::dump::{Difference, ReadError};
use crate::kernel::rules::NodeRules;
use crate::kernel::{ipset, ipvs as kernel_ipvs, xtables};
use crate::kube::ProxyObjects;
use crate::proxy::input::ToolInput;
use crate::proxy::{Dumps, Form, ProxyMode, Simulated};
use sim_core::classify::Family;
use sim_core::units::SimTime;

use super::settings;

/// Buckets of the kernel's connection table where nothing else is asked for (`CONFIG_IP_VS_TAB_BITS` 12).
const CONN_TAB_SIZE: usize = 4096;

/// kube-proxy's ipvs mode.
pub struct Ipvs;

impl ProxyMode for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }
    fn describe(&self) -> &'static str {
        "a virtual server per Service in the kernel's IPVS, found by hash; deprecated since 1.35"
    }
    fn versions(&self) -> (u32, u32) {
        (8, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "alpha in 1.8, beta in 1.9, stable in 1.11, deprecated since 1.35"
    }
    fn simulated(&self) -> Option<&dyn Simulated> {
        Some(self)
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        super::build(objects, config, family)
    }
    fn forms(&self) -> &'static [Form] {
        &[Form::Load, Form::Listing]
    }
    fn print(&self, rules: &NodeRules, form: Form) -> String {
        match form {
            Form::Load => {}
            Form::Listing => return kernel_ipvs::print::listing(&rules.ipvs, CONN_TAB_SIZE, &|_, _| (0, 0)),
            Form::Json => panic!("ipvs mode has no JSON form"),
        }
        // Each section is what its tool reads back, in an order in which nothing is missing: iptables rules name
        // ipsets. A heading is a comment to ipset restore, iptables-restore and ip -batch.
        let v6 = rules.xtables.iter().any(|table| table.family == Family::Ipv6);
        let mut text = section("sysctls", "sysctl -p -");
        text.push_str(settings::CONN_REUSE_MODE);
        for (name, value) in &rules.sysctls {
            text.push_str(&format!("{name} = {value}\n"));
        }
        text.push_str(&section("ipset save", "ipset restore"));
        text.push_str(&ipset::save(&rules.ipsets));
        let (save, restore) =
            if v6 { ("ip6tables-save", "ip6tables-restore") } else { ("iptables-save", "iptables-restore") };
        text.push_str(&section(save, restore));
        text.push_str(&xtables::print::iptables_save(rules));
        text.push_str(&section("kube-ipvs0 and its addresses", "ip -batch -"));
        text.push_str("link add kube-ipvs0 type dummy\n");
        for addr in &rules.dummy_addrs {
            let prefix = if addr.is_ipv4() { 32 } else { 128 };
            text.push_str(&format!("addr add {addr}/{prefix} dev kube-ipvs0\n"));
        }
        text.push_str(&section("ipvsadm -Sn", "ipvsadm -R"));
        text.push_str(&kernel_ipvs::print::save(&rules.ipvs));
        if let Some([tcp, tcp_fin, udp]) = rules.ipvs_timeouts {
            text.push_str(&section("timeouts", "sh"));
            text.push_str(&format!("ipvsadm --set {tcp} {tcp_fin} {udp}\n"));
        }
        text
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
        Some(super::inputs::inputs(states, config, family))
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        let real: usize = rules.ipvs.iter().map(|v| 1 + v.real.len()).sum();
        let fixed: usize = rules.xtables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
        (real + fixed) as u64
    }
}

impl Dumps for Ipvs {
    fn read(&self, text: &str, family: Family) -> Result<NodeRules, ReadError> {
        super::read::read(text, family)
    }
    fn diff(&self, wanted: &NodeRules, found: &NodeRules, config: &ProxyConfig) -> Vec<Difference> {
        super::read::diff(wanted, found, &config.ipvs.exclude_cidrs)
    }
}

/// The line above one tool's part of a mode's text: what it is, and the command that loads it.
fn section(what: &str, load: &str) -> String {
    format!("# ---- {what}; load with: {load}\n")
}
