//! The shapes of Kubernetes' JSON, as far as a proxy reads them: everything optional, nothing checked.

use super::check::Checker;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What every kind has.
pub(super) trait Item {
    /// Has a namespace.
    const NAMESPACED: bool;
    /// The name is one DNS label, else a DNS name.
    const NAME_IS_LABEL: bool;
    /// Its metadata.
    fn metadata(&self) -> &Metadata;
    /// Checks the rest and adds the item to the checker's objects.
    fn check(&self, checker: &mut Checker<'_>);
}

macro_rules! item {
    ($kind:ident, $check:ident, namespaced: $namespaced:literal, label: $label:literal) => {
        impl Item for $kind {
            const NAMESPACED: bool = $namespaced;
            const NAME_IS_LABEL: bool = $label;
            fn metadata(&self) -> &Metadata {
                &self.metadata
            }
            fn check(&self, checker: &mut Checker<'_>) {
                checker.$check(self);
            }
        }
    };
}
item!(Node, node, namespaced: false, label: false);
item!(Service, service, namespaced: true, label: true);
item!(EndpointSlice, slice, namespaced: true, label: false);
item!(Pod, pod, namespaced: true, label: false);
item!(ServiceCidr, service_cidr, namespaced: false, label: false);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub resource_version: Option<String>,
}

impl Metadata {
    /// A number that stands for the version, labels and annotations; 0 if there are none.
    pub(super) fn revision(&self) -> u64 {
        // FNV-1a, each text ended by a byte that no UTF-8 has.
        let mut hash = 0u64;
        let mut text = |text: &str| {
            for byte in text.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte) ^ 0xcbf2_9ce4_8422_2325).wrapping_mul(0x0100_0000_01b3);
            }
        };
        self.resource_version.iter().for_each(|version| text(version));
        for (key, value) in [&self.labels, &self.annotations].into_iter().flatten().flatten() {
            text(key);
            text(value);
        }
        hash
    }
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }
}

#[derive(Deserialize)]
pub(super) struct Node {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: Option<NodeSpec>,
    pub status: Option<NodeStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct NodeStatus {
    pub addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub address: String,
}

#[derive(Deserialize)]
pub(super) struct Service {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: Option<ServiceSpec>,
    pub status: Option<ServiceStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub ip_families: Option<Vec<String>>,
    pub ports: Option<Vec<ServicePort>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    pub load_balancer_source_ranges: Option<Vec<String>>,
    pub session_affinity: Option<String>,
    pub session_affinity_config: Option<AffinityConfig>,
    pub internal_traffic_policy: Option<String>,
    pub external_traffic_policy: Option<String>,
    pub health_check_node_port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientIp {
    pub timeout_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
    pub node_port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStatus {
    pub load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
pub(super) struct LoadBalancer {
    pub ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ingress {
    pub ip: Option<String>,
    pub ip_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    #[serde(default)]
    pub metadata: Metadata,
    pub address_type: Option<String>,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub addresses: Option<Vec<String>>,
    pub conditions: Option<Conditions>,
    pub node_name: Option<String>,
    pub hints: Option<Hints>,
}

#[derive(Default, Deserialize)]
pub(super) struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hints {
    pub for_zones: Option<Vec<Named>>,
    pub for_nodes: Option<Vec<Named>>,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub name: String,
}

#[derive(Deserialize)]
pub(super) struct SlicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub node_name: Option<String>,
    pub host_network: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
pub(super) struct PodIp {
    pub ip: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ServiceCidr {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: Option<CidrSpec>,
}

#[derive(Deserialize)]
pub(super) struct CidrSpec {
    pub cidrs: Option<Vec<String>>,
}
