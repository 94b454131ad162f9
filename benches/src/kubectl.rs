//! A cluster as `kubectl get nodes,services,endpointslices -A -o json` prints it: four spaces, keys in order, with all the
//! identifiers, references and times that nobody reads. 10,000 Services of 10 endpoints
//! are 94 MB, 81 of them slices.

use std::fmt::Write;

/// Endpoints of a slice, which is all of a Service's.
pub const ENDPOINTS: u32 = 10;
/// Nodes, in three zones.
const NODES: u32 = 1_000;

/// The text, of as many Services as asked for, each with one slice.
pub fn list(services: u32) -> String {
    let mut text = String::with_capacity(services as usize * 8_000 + 2_000_000);
    text.push_str("{\n    \"apiVersion\": \"v1\",\n    \"items\": [\n");
    for node in 0..NODES {
        node_item(&mut text, node);
    }
    for service in 0..services {
        service_item(&mut text, service);
    }
    for service in 0..services {
        slice_item(&mut text, service, service + 1 == services);
    }
    text.push_str(
        "    ],\n    \"kind\": \"List\",\n    \"metadata\": {\n        \"resourceVersion\": \"\"\n    }\n}\n",
    );
    text
}

/// An identifier of the usual form.
fn uid(number: u32) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9);
    format!("{mixed:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", mixed >> 16, mixed & 0xfff, number & 0xfff, number)
}

fn node_item(text: &mut String, node: u32) {
    let (third, fourth) = (node / 256, node % 256);
    let uid = uid(node);
    write!(
        text,
        r#"        {{
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {{
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {{
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/hostname": "node-{node}",
                    "topology.kubernetes.io/zone": "zone-{zone}"
                }},
                "name": "node-{node}",
                "resourceVersion": "{node}",
                "uid": "{uid}"
            }},
            "spec": {{
                "podCIDR": "10.{second}.{pod_third}.0/24",
                "podCIDRs": [
                    "10.{second}.{pod_third}.0/24"
                ]
            }},
            "status": {{
                "addresses": [
                    {{
                        "address": "192.168.{third}.{fourth}",
                        "type": "InternalIP"
                    }},
                    {{
                        "address": "node-{node}",
                        "type": "Hostname"
                    }}
                ]
            }}
        }},
"#,
        zone = node % 3,
        second = 128 + third,
        pod_third = fourth,
    )
    .expect("a String takes everything");
}

fn service_item(text: &mut String, service: u32) {
    let ip = format!("10.{}.{}.{}", 96 + service / 65_536, service / 256 % 256, service % 256);
    let namespace = service % 100;
    let uid = uid(service);
    write!(
        text,
        r#"        {{
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {{
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {{
                    "app.kubernetes.io/name": "service-{service}"
                }},
                "name": "service-{service}",
                "namespace": "namespace-{namespace}",
                "resourceVersion": "{service}",
                "uid": "{uid}"
            }},
            "spec": {{
                "clusterIP": "{ip}",
                "clusterIPs": [
                    "{ip}"
                ],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": [
                    "IPv4"
                ],
                "ipFamilyPolicy": "SingleStack",
                "ports": [
                    {{
                        "name": "http",
                        "port": 80,
                        "protocol": "TCP",
                        "targetPort": "http"
                    }}
                ],
                "selector": {{
                    "app.kubernetes.io/name": "service-{service}"
                }},
                "sessionAffinity": "None",
                "type": "ClusterIP"
            }},
            "status": {{
                "loadBalancer": {{}}
            }}
        }},
"#
    )
    .expect("a String takes everything");
}

fn slice_item(text: &mut String, service: u32, last: bool) {
    let namespace = service % 100;
    text.push_str(
        "        {\n            \"addressType\": \"IPv4\",\n            \"apiVersion\": \"discovery.k8s.io/v1\",\n            \
         \"endpoints\": [\n",
    );
    for endpoint in 0..ENDPOINTS {
        let pod = service * ENDPOINTS + endpoint;
        let uid = uid(pod);
        let comma = if endpoint + 1 < ENDPOINTS { "," } else { "" };
        write!(
            text,
            r#"                {{
                    "addresses": [
                        "10.{second}.{third}.{fourth}"
                    ],
                    "conditions": {{
                        "ready": true,
                        "serving": true,
                        "terminating": false
                    }},
                    "nodeName": "node-{node}",
                    "targetRef": {{
                        "kind": "Pod",
                        "name": "service-{service}-{uid:.8}-{endpoint}",
                        "namespace": "namespace-{namespace}",
                        "uid": "{uid}"
                    }},
                    "zone": "zone-{zone}"
                }}{comma}
"#,
            second = 128 + pod / 65_536,
            third = pod / 256 % 256,
            fourth = pod % 256,
            node = pod % NODES,
            zone = pod % NODES % 3,
        )
        .expect("a String takes everything");
    }
    let uid = uid(service);
    let comma = if last { "" } else { "," };
    write!(
        text,
        r#"            ],
            "kind": "EndpointSlice",
            "metadata": {{
                "annotations": {{
                    "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"
                }},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "generateName": "service-{service}-",
                "generation": 1,
                "labels": {{
                    "app.kubernetes.io/name": "service-{service}",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": "service-{service}"
                }},
                "name": "service-{service}-x7k2p",
                "namespace": "namespace-{namespace}",
                "resourceVersion": "{service}",
                "uid": "{uid}"
            }},
            "ports": [
                {{
                    "name": "http",
                    "port": 8080,
                    "protocol": "TCP"
                }}
            ]
        }}{comma}
"#
    )
    .expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::{ENDPOINTS, list};
    use sim_models::kube::import::import;

    #[test]
    fn the_text_is_what_it_says() {
        let objects = import(&list(30)).expect("objects");
        assert_eq!((objects.services.len(), objects.slices.len()), (30, 30));
        assert!(objects.slices.iter().all(|slice| slice.endpoints.len() == ENDPOINTS as usize));
    }
}
