//! The Services of ClusterLoader2's load test, by the number of nodes.
//!
//! Source: `kubernetes/perf-tests clusterloader2/testing/load/config.yaml` (and its `modules/reconcile-objects.yaml`): 30 pods
//! on a node, 100 nodes to a namespace; half of the pods in Deployments of 5, a quarter of 30, a quarter of 250; with
//! StatefulSets and Jobs, as the scalability jobs run it, one Deployment less of each size for a Job, and one less of
//! 5 and of 30 for a StatefulSet; Services for half of the Deployments of each size, rounded up.
//!
//! Left out: pods without a Service, the StatefulSets' own headless Services, nodes beyond whole hundreds.

/// Pods on a node.
const PODS_PER_NODE: u32 = 30;
/// Nodes to a namespace.
const NODES_PER_NAMESPACE: u32 = 100;
/// (pods of a Deployment, its size's part of all pods as 1 / n, Deployments that are StatefulSets or Jobs instead).
const GROUPS: [(u32, u32, u32); 3] = [(5, 2, 2), (30, 4, 2), (250, 4, 1)];

/// (Services, endpoints of each) on so many nodes.
pub fn services(nodes: u32) -> [(u32, u32); 3] {
    let per_namespace = nodes.clamp(1, NODES_PER_NAMESPACE);
    let namespaces = nodes / per_namespace;
    let pods = per_namespace * PODS_PER_NODE;
    GROUPS.map(|(size, part, others)| {
        let deployments = (pods / (part * size)).saturating_sub(others);
        (namespaces * deployments.div_ceil(2), size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, EndpointLaw};
    use crate::kube::generate::{generate, service_count, total_endpoints};

    fn config(nodes: u32) -> ClusterConfig {
        ClusterConfig {
            nodes,
            services: 0,
            endpoints: EndpointLaw::ClusterLoader2,
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_cidr: "10.128.0.0/9".parse().unwrap(),
            objects: None,
        }
    }

    #[test]
    fn the_load_test_makes_8100_services_on_5000_nodes_and_162_on_100() {
        assert_eq!(services(5_000), [(50 * 149, 5), (50 * 12, 30), (50, 250)]);
        for (nodes, services, endpoints) in [(5_000, 8_100, 67_750), (100, 162, 1_355)] {
            let config = config(nodes);
            assert_eq!(service_count(&config), services, "{nodes}");
            assert_eq!(total_endpoints(&config), Ok(endpoints), "{nodes}");
        }
        let objects = generate(&config(100), 1).unwrap().objects;
        let listed: usize = objects.slices.iter().map(|slice| slice.endpoints.len()).sum();
        assert_eq!((objects.services.len(), listed), (162, 1_355));
    }
}
