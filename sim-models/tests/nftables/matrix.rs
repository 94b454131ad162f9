//! Who reaches what, and with which source: the matrix of kube-proxy's own `TestInternalExternalMasquerade`
//! (`pkg/proxy/nftables/proxier_test.go`), with its addresses, by packets through the rules.

use crate::support::{Node, V4, config, syn};
use sim_core::classify::{Packet, Proto};
use sim_models::config::{DetectLocal, ProxyConfig};
use sim_models::kernel::hook::{Hook, HookVerdict};
use sim_models::kernel::nftables::Engine;
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::nftables::build;
use std::collections::BTreeSet;

/// The node.
pub const NODE: &str = "192.168.0.2";
/// Its NodePort.
pub const NODE_PORT: u16 = 3001;
/// The load balancer's address.
pub const VIP: &str = "1.2.3.4";
/// The Service's address.
pub const CLUSTER_IP: &str = "172.30.0.41";

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    /// A pod of this node.
    Pod,
    /// This node.
    Node,
    /// This node's loopback address.
    Localhost,
    /// A machine outside the cluster.
    External,
    /// A machine at this address, by this device.
    At(&'static str, &'static str),
}

/// What became of many equal packets.
#[derive(Debug, PartialEq)]
pub enum Fate {
    /// They went to these endpoints, with their source rewritten or not.
    To(BTreeSet<String>, bool),
    /// Refused.
    Rejected,
    /// Vanished.
    Dropped,
    /// Let pass as they were.
    Untouched,
}

/// They go to these endpoints.
pub fn to(endpoints: &[&str], masquerade: bool) -> Fate {
    Fate::To(endpoints.iter().map(|e| (*e).to_owned()).collect(), masquerade)
}

/// Both endpoints: one on another node, one here.
pub const BOTH: [&str; 2] = ["10.180.0.1:80", "10.180.1.1:80"];
/// The one here.
pub const HERE: [&str; 1] = ["10.180.1.1:80"];

/// A LoadBalancer with a NodePort and endpoints as above, or some of them.
pub fn service(internal_local: bool, external_local: bool, remote: bool, local: bool) -> ServicePort {
    let at = |text: &str, is_local| Endpoint { addr: text.parse().unwrap(), is_local };
    let all: Vec<Endpoint> = [(BOTH[0], false, remote), (BOTH[1], true, local)]
        .into_iter()
        .filter(|(_, _, there)| *there)
        .map(|(text, is_local, _)| at(text, is_local))
        .collect();
    let lists = EndpointLists {
        local: if internal_local || external_local {
            all.iter().filter(|e| e.is_local).cloned().collect()
        } else {
            Vec::new()
        },
        ..EndpointLists::ready(all)
    };
    ServicePort {
        internal_local,
        external_local,
        node_port: NODE_PORT,
        load_balancer_vips: vec![VIP.parse().unwrap()],
        ..ServicePort::http("ns4", "svc4", CLUSTER_IP.parse().unwrap(), lists)
    }
}

/// What becomes of packets that `from` sends to this address under these rules.
pub fn fate(port: &ServicePort, config: &ProxyConfig, from: From, dst: &str, dport: u16) -> Fate {
    let objects = ProxyObjects {
        ports: vec![port.clone()],
        service_cidrs: vec!["172.30.0.0/16".parse().unwrap()],
        node_ips: vec![NODE.parse().unwrap()],
        ..ProxyObjects::default()
    };
    let table = build(&objects, config, V4).nftables.unwrap();
    let mut node = Node::new(Engine::new(&table, 42).unwrap(), &[NODE, "127.0.0.1"]);
    let (src, hook, iface) = match from {
        From::Pod => ("10.0.0.2", Hook::Prerouting, "veth7"),
        From::Node => (NODE, Hook::Output, ""),
        From::Localhost => ("127.0.0.1", Hook::Output, ""),
        From::External => ("203.0.113.2", Hook::Prerouting, "eth0"),
        From::At(src, iface) => (src, Hook::Prerouting, iface),
    };
    node.iface = iface;
    let mut fate: Option<Fate> = None;
    for _ in 0..40 {
        let packet = Packet { proto: port.proto, ..syn(src, dst, dport) };
        let outcome = node.traced(packet, hook, &mut ());
        let this = match (outcome.verdict, outcome.dnat) {
            (HookVerdict::Reject, _) => Fate::Rejected,
            (HookVerdict::Drop, _) => Fate::Dropped,
            (_, Some(endpoint)) => Fate::To([endpoint.to_string()].into(), outcome.masquerade),
            (_, None) => Fate::Untouched,
        };
        fate = Some(match (fate.take(), this) {
            (None, this) => this,
            (Some(Fate::To(mut all, before)), Fate::To(one, now)) => {
                assert_eq!(before, now, "masqueraded now and then");
                all.extend(one);
                Fate::To(all, now)
            }
            (Some(before), this) => {
                assert_eq!(before, this, "equal packets");
                this
            }
        });
    }
    fate.expect("packets were sent")
}

/// The three ways in.
fn ways() -> [(&'static str, &'static str, u16); 3] {
    [("ClusterIP", CLUSTER_IP, 80), ("NodePort", NODE, NODE_PORT), ("LoadBalancer", VIP, 80)]
}

/// What is to come of it, from the rules of the policies alone.
fn wanted(from: From, way: &str, policy: &str, masquerade_all: bool, detects: bool) -> Fate {
    let cluster_ip = way == "ClusterIP";
    // Rules for loopback's NodePorts do not exist in this mode.
    if !cluster_ip && policy == "external Local" {
        return match from {
            // Pods and the node go round the policy as if through a load balancer outside.
            From::Pod if detects => to(&BOTH, false),
            From::Node | From::Localhost => to(&BOTH, true),
            _ => to(&HERE, false),
        };
    }
    let endpoints: &[&str] = if cluster_ip && policy == "internal Local" { &HERE } else { &BOTH };
    let masquerade = !cluster_ip || masquerade_all || (detects && from != From::Pod);
    to(endpoints, masquerade)
}

#[test]
fn everyone_reaches_the_endpoints_that_policies_name_masqueraded_as_configured() {
    let detectors = [
        ("clusterCIDR", DetectLocal::ClusterCidr, true),
        ("prefix", DetectLocal::InterfaceNamePrefix("veth".into()), true),
        ("bridge", DetectLocal::BridgeInterface("veth7".into()), true),
        ("none", DetectLocal::NodeCidr, false),
    ];
    let mut checked = 0;
    for minor in [35, 36] {
        for (name, detect_local, detects) in &detectors {
            for masquerade_all in [false, true] {
                let config = ProxyConfig {
                    masquerade_all,
                    detect_local: detect_local.clone(),
                    ..config(minor, "10.0.0.0/8")
                };
                for policy in ["Cluster", "external Local", "internal Local"] {
                    let port = service(policy == "internal Local", policy == "external Local", true, true);
                    for from in [From::Pod, From::Node, From::Localhost, From::External] {
                        for (way, dst, dport) in ways() {
                            let want = wanted(from, way, policy, masquerade_all, *detects);
                            let got = fate(&port, &config, from, dst, dport);
                            let what = format!("1.{minor} {name} masqueradeAll {masquerade_all} {policy}");
                            assert_eq!(got, want, "{what}: {from:?} to {way}");
                            checked += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(checked, 2 * 4 * 2 * 3 * 4 * 3);
}

#[test]
fn a_prefix_takes_every_interface_that_begins_so_and_a_bridge_only_itself() {
    let port = service(false, false, true, true);
    let sent = |detect, iface| {
        let config = ProxyConfig { detect_local: detect, ..config(36, "10.0.0.0/8") };
        fate(&port, &config, From::At("198.51.100.9", iface), CLUSTER_IP, 80)
    };
    for (iface, by_prefix, by_bridge) in
        [("cali0", true, false), ("cali", true, true), ("cal", false, false), ("xcali", false, false)]
    {
        let masqueraded = |pod: bool| to(&BOTH, !pod);
        let prefix = DetectLocal::InterfaceNamePrefix("cali".into());
        assert_eq!(sent(prefix, iface), masqueraded(by_prefix), "{iface}");
        let bridge = DetectLocal::BridgeInterface("cali".into());
        assert_eq!(sent(bridge, iface), masqueraded(by_bridge), "{iface}");
    }
}

#[test]
fn protocols_that_share_a_port_number_are_told_apart() {
    let mut port = service(false, false, true, true);
    port.proto = Proto::Udp;
    let config = config(36, "10.0.0.0/8");
    assert_eq!(fate(&port, &config, From::Pod, CLUSTER_IP, 80), to(&BOTH, false));
    let mut tcp = port.clone();
    tcp.proto = Proto::Tcp;
    let objects =
        ProxyObjects { ports: vec![port], node_ips: vec![NODE.parse().unwrap()], ..ProxyObjects::default() };
    let table = build(&objects, &config, V4).nftables.unwrap();
    let mut node = Node::new(Engine::new(&table, 42).unwrap(), &[NODE]);
    assert_eq!(node.first_packet(syn("10.0.0.2", CLUSTER_IP, 80)).verdict, HookVerdict::Reject);
}
