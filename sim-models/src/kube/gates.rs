//! Feature gates of kube-proxy that shape rules: what a gate that is off keeps kube-proxy from seeing is taken out of
//! the objects before [`resolve`](super::resolve::resolve).
//!
//! Source: `pkg/proxy/serviceport.go:newBaseServiceInfo` (`AllowServiceExternalIPs`),
//! `pkg/proxy/endpointslicecache.go:addEndpoints` (`PreferSameTrafficDistribution`) and
//! `cmd/kube-proxy/app/server.go:Run` (`MultiCIDRServiceAllocator`) of Kubernetes 1.36. Left out: gates that shape no
//! rule, and which releases have a gate or lock it.

use super::objects::Objects;
use crate::config::FeatureGates;

/// Takes out of the objects what the gates turn off.
pub fn apply(objects: &mut Objects, gates: FeatureGates) {
    if !gates.external_ips {
        objects.services.iter_mut().for_each(|service| service.external_ips.clear());
    }
    if !gates.same_node_hints {
        for endpoint in objects.slices.iter_mut().flat_map(|slice| &mut slice.endpoints) {
            let Some(hints) = &mut endpoint.hints else { continue };
            hints.nodes.clear();
            if hints.zones.is_empty() {
                endpoint.hints = None;
            }
        }
    }
    if !gates.service_cidrs {
        objects.service_cidrs.clear();
    }
}
