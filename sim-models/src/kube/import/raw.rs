//! The shapes of Kubernetes' JSON, as far as a proxy reads them: everything optional, nothing checked.

use super::check::Checker;
use super::shape::{Capped, NumberOrName, Pairs, Text, Whole, hash};
use serde::Deserialize;

/// Endpoints of a slice that the API server takes (`pkg/apis/discovery/validation:maxEndpoints`).
pub(super) const MAX_ENDPOINTS: usize = 1000;
/// Ports of a slice that the API server takes (`maxPorts`); controllers keep to 100.
pub(super) const MAX_PORTS: usize = 20_000;
/// Addresses of an endpoint that the API server takes (`maxAddresses`).
pub(super) const MAX_ADDRESSES: usize = 100;
/// Hints of a kind that the API server takes (`maxZoneHints`, `maxNodeHints`).
pub(super) const MAX_HINTS: usize = 8;
/// One address or network a family.
pub(super) const MAX_FAMILIES: usize = 2;
/// Elements of lists for which the API server has no limit.
pub(super) const LONG: usize = 20_000;
/// Subsets of Endpoints.
pub(super) const MAX_SUBSETS: usize = 1000;

/// What every kind has.
pub(super) trait Item {
    /// Has a namespace.
    const NAMESPACED: bool;
    /// The name is one DNS label, else a DNS name.
    const NAME_IS_LABEL: bool;
    /// Its kind and API version, as written.
    fn kind(&self) -> (Option<&str>, Option<&str>);
    /// Its metadata.
    fn metadata(&self) -> &Metadata<'_>;
    /// Checks the rest and adds the item to the checker's objects.
    fn check(&self, checker: &mut Checker<'_>);
}

macro_rules! item {
    ($kind:ident, $check:ident, namespaced: $namespaced:literal, label: $label:literal) => {
        impl Item for $kind<'_> {
            const NAMESPACED: bool = $namespaced;
            const NAME_IS_LABEL: bool = $label;
            fn kind(&self) -> (Option<&str>, Option<&str>) {
                (self.kind.as_deref(), self.api_version.as_deref())
            }
            fn metadata(&self) -> &Metadata<'_> {
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
item!(Endpoints, endpoints, namespaced: true, label: false);
item!(Pod, pod, namespaced: true, label: false);
item!(ServiceCidr, service_cidr, namespaced: false, label: false);

/// Who an item is.
#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub metadata: Option<Name<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Name<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub namespace: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub namespace: Option<Text<'a>>,
    pub labels: Option<Pairs<'a>>,
    pub annotations: Option<Pairs<'a>>,
    pub resource_version: Option<Text<'a>>,
}

impl Metadata<'_> {
    /// A number that stands for the version, labels and annotations; 0 if there are none.
    pub(super) fn revision(&self) -> u64 {
        let of = |pairs: &Option<Pairs<'_>>| pairs.as_ref().map_or(0, |pairs| pairs.hash);
        let version = self.resource_version.as_deref().map_or(0, |version| hash(&[version]));
        version.wrapping_add(of(&self.labels)).wrapping_add(of(&self.annotations).rotate_left(1))
    }

    /// The value of a label of [`key`](super::shape::key).
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key)
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub spec: Option<NodeSpec<'a>>,
    pub status: Option<NodeStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct NodeSpec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Capped<Text<'a>, LONG>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct NodeStatus<'a> {
    #[serde(borrow)]
    pub addresses: Option<Capped<NodeAddress<'a>, LONG>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct NodeAddress<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub address: Text<'a>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Service<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub spec: Option<ServiceSpec<'a>>,
    pub status: Option<ServiceStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ServiceSpec<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Capped<Text<'a>, MAX_FAMILIES>>,
    pub ip_families: Option<Capped<Text<'a>, MAX_FAMILIES>>,
    pub selector: Option<Pairs<'a>>,
    pub ports: Option<Capped<ServicePort<'a>, MAX_PORTS>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Capped<Text<'a>, LONG>>,
    pub load_balancer_source_ranges: Option<Capped<Text<'a>, LONG>>,
    pub session_affinity: Option<Text<'a>>,
    pub session_affinity_config: Option<AffinityConfig>,
    pub internal_traffic_policy: Option<Text<'a>>,
    pub external_traffic_policy: Option<Text<'a>>,
    pub health_check_node_port: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct AffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ClientIp {
    pub timeout_seconds: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ServicePort<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub protocol: Option<Text<'a>>,
    pub port: Option<Whole>,
    pub target_port: Option<NumberOrName<'a>>,
    pub node_port: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct LoadBalancer<'a> {
    #[serde(borrow)]
    pub ingress: Option<Capped<Ingress<'a>, LONG>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Ingress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    pub ip_mode: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct EndpointSlice<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub address_type: Option<Text<'a>>,
    pub endpoints: Option<Capped<Endpoint<'a>, MAX_ENDPOINTS>>,
    pub ports: Option<Capped<EndpointPort<'a>, MAX_PORTS>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Endpoint<'a> {
    #[serde(borrow)]
    pub addresses: Option<Capped<Text<'a>, MAX_ADDRESSES>>,
    pub conditions: Option<Conditions>,
    pub node_name: Option<Text<'a>>,
    /// Where v1beta1 said the node.
    pub topology: Option<Pairs<'a>>,
    pub hints: Option<Hints<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Hints<'a> {
    #[serde(borrow)]
    pub for_zones: Option<Capped<Hint<'a>, MAX_HINTS>>,
    pub for_nodes: Option<Capped<Hint<'a>, MAX_HINTS>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Hint<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// A port of a slice or of a subset of Endpoints.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct EndpointPort<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub protocol: Option<Text<'a>>,
    pub port: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Endpoints<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub subsets: Option<Capped<Subset<'a>, MAX_SUBSETS>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Subset<'a> {
    #[serde(borrow)]
    pub addresses: Option<Capped<EndpointAddress<'a>, MAX_ENDPOINTS>>,
    pub not_ready_addresses: Option<Capped<EndpointAddress<'a>, MAX_ENDPOINTS>>,
    pub ports: Option<Capped<EndpointPort<'a>, MAX_PORTS>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct EndpointAddress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    pub node_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Pod<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub spec: Option<PodSpec<'a>>,
    pub status: Option<PodStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub node_name: Option<Text<'a>>,
    pub host_network: Option<bool>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct PodStatus<'a> {
    #[serde(borrow, rename = "podIP")]
    pub pod_ip: Option<Text<'a>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Capped<PodIp<'a>, LONG>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct PodIp<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct ServiceCidr<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    #[serde(rename = "apiVersion")]
    pub api_version: Option<Text<'a>>,
    #[serde(default)]
    pub metadata: Metadata<'a>,
    pub spec: Option<CidrSpec<'a>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct CidrSpec<'a> {
    #[serde(borrow)]
    pub cidrs: Option<Capped<Text<'a>, LONG>>,
}
