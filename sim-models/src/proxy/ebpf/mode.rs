//! ebpf mode in the table of modes. Packets go through its maps ([`ebpf::engine`]); clusters are not simulated under
//! it, since what a lookup costs was not measured.

use crate::config::ProxyConfig;
use crate::kernel::ebpf;
use crate::kernel::rules::NodeRules;
use crate::kube::ProxyObjects;
use crate::proxy::{Form, ProxyMode};
use sim_core::classify::Family;

/// A Cilium-like load balancer in place of kube-proxy.
pub struct Ebpf;

impl ProxyMode for Ebpf {
    fn name(&self) -> &'static str {
        "ebpf"
    }
    fn describe(&self) -> &'static str {
        "a Cilium-like service map in place of kube-proxy: frontends, backends, reverse NAT"
    }
    fn versions(&self) -> (u32, u32) {
        (0, u32::MAX)
    }
    fn history(&self) -> &'static str {
        "not kube-proxy: a service map like Cilium's, which any version of Kubernetes can run in its place"
    }
    fn is_kube_proxys(&self) -> bool {
        false
    }
    fn runs_iptables(&self) -> bool {
        false
    }
    fn tells_local_traffic(&self) -> bool {
        false
    }
    fn build(&self, objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> NodeRules {
        super::build(objects, config, family)
    }
    fn print(&self, rules: &NodeRules, _form: Form) -> String {
        ebpf::table(rules.service_map.as_ref().expect("ebpf mode built these rules"))
    }
    fn rule_count(&self, rules: &NodeRules) -> u64 {
        rules.service_map.as_ref().map_or(0, ebpf::ServiceMap::entries)
    }
}
