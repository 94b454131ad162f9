//! What the rules do with packets: the cases of kube-proxy's own tests
//! (`pkg/proxy/iptables/proxier_test.go`), by name, on Services like theirs.

use crate::cases::inputs;
use crate::restore::Kernel;
use crate::tracer::{Packet, Tracer};
use sim_core::classify::{Family, Proto};
use sim_models::config::{NodePortAddresses, ProxyConfig};
use sim_models::kube::objects::{
    EndpointSlice, Node, Objects, Port, Service, ServiceType, SliceEndpoint, SlicePort,
};
use sim_models::kube::resolve::resolve;
use std::net::IpAddr;

const NODE: &str = "node-a";
const POD: &str = "10.0.0.2";
const NODE_IP: &str = "192.168.0.2";
const LOOPBACK: &str = "127.0.0.1";
const OUTSIDE: &str = "203.0.113.2";

fn config() -> ProxyConfig {
    ProxyConfig { cluster_cidrs: vec!["10.0.0.0/8".parse().unwrap()], ..ProxyConfig::default() }
}

fn objects(addresses: &[&str]) -> Objects {
    let node = Node {
        name: NODE.into(),
        zone: None,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        pod_cidrs: Vec::new(),
    };
    Objects { nodes: vec![node], ..Objects::default() }
}

/// A load balancer with a node port, TCP port 80.
fn service(name: &str, cluster_ip: &str, node_port: u16, vip: &str) -> Service {
    let port = Port { name: "p80".into(), proto: Proto::Tcp, port: 80, node_port };
    Service {
        kind: ServiceType::LoadBalancer,
        load_balancer_vips: vec![vip.parse().unwrap()],
        ..Service::cluster_ip("ns".into(), name.into(), cluster_ip.parse().unwrap(), port)
    }
}

fn endpoint(address: &str, is_local: bool) -> SliceEndpoint {
    SliceEndpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(if is_local { NODE } else { "node-b" }.into()),
        hints: None,
    }
}

/// Serves what it has to the end.
fn draining(address: &str, is_local: bool) -> SliceEndpoint {
    SliceEndpoint { ready: false, terminating: true, ..endpoint(address, is_local) }
}

/// Terminates and no longer serves.
fn stopped(address: &str, is_local: bool) -> SliceEndpoint {
    SliceEndpoint { serving: false, ..draining(address, is_local) }
}

fn slice(service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        namespace: "ns".into(),
        name: format!("{service}-1").into(),
        service: Some(service.into()),
        family: Family::Ipv4,
        endpoints,
        ports: vec![SlicePort { name: "p80".into(), proto: Proto::Tcp, port: 80 }],
        revision: 0,
    }
}

fn tracer_of(objects: &Objects, config: &ProxyConfig, family: Family) -> Tracer {
    let resolved = resolve(objects, family, NODE);
    let mut kernel = Kernel::default();
    kernel.restore(&inputs(std::slice::from_ref(&resolved), config, family)[0][0].stdin);
    Tracer { kernel, node_ips: resolved.node_ips }
}

fn tracer(objects: &Objects, config: &ProxyConfig) -> Tracer {
    tracer_of(objects, config, Family::Ipv4)
}

fn trace(tracer: &Tracer, src: &str, dst: &str) -> String {
    let packet = Packet { src: src.parse().unwrap(), proto: "tcp", dst: dst.parse().unwrap() };
    tracer.trace(packet).text()
}

/// Three Services with an endpoint here and one elsewhere: policies Cluster, external Local, internal Local.
fn three_policies() -> Objects {
    let mut objects = objects(&[NODE_IP]);
    let external = service("external", "172.30.0.42", 3002, "5.6.7.8");
    let internal = service("internal", "172.30.0.43", 3003, "9.10.11.12");
    objects.services = vec![
        service("cluster", "172.30.0.41", 3001, "1.2.3.4"),
        Service { external_local: true, health_check_node_port: 30_002, ..external },
        Service { internal_local: true, ..internal },
    ];
    for (i, name) in ["cluster", "external", "internal"].into_iter().enumerate() {
        let here = endpoint(&format!("10.180.0.{}", i + 1), true);
        let elsewhere = endpoint(&format!("10.180.1.{}", i + 1), false);
        objects.slices.push(slice(name, vec![here, elsewhere]));
    }
    objects
}

/// `TestInternalExternalMasquerade`: who reaches what, and whether with another source.
///
/// A row is a client and a Service's address; then what becomes of it with the cluster's network as detector, with
/// masqueradeAll besides, and without a detector. `n` is the number of the Service.
#[test]
fn policies_and_detectors_decide_who_reaches_what_and_with_which_source() {
    let objects = three_policies();
    let all = ProxyConfig { masquerade_all: true, ..config() };
    let none = ProxyConfig { cluster_cidrs: Vec::new(), ..config() };
    let tracers = [config(), all, none].map(|config| tracer(&objects, &config));
    const BOTH: &str = "10.180.0.n:80, 10.180.1.n:80";
    const BOTH_M: &str = "10.180.0.n:80, 10.180.1.n:80 masqueraded";
    const HERE: &str = "10.180.0.n:80";
    const HERE_M: &str = "10.180.0.n:80 masqueraded";
    let (cluster_ip, node_port, vip) = ("172.30.0.4n:80", "192.168.0.2:300n", "VIP:80");
    let at_loopback = "127.0.0.1:300n";
    let rows: [(u8, &str, &str, [&str; 3]); 27] = [
        (1, POD, cluster_ip, [BOTH, BOTH_M, BOTH]),
        (1, POD, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (1, POD, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (1, NODE_IP, cluster_ip, [BOTH_M, BOTH_M, BOTH]),
        (1, NODE_IP, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (1, LOOPBACK, at_loopback, [BOTH_M, BOTH_M, BOTH_M]),
        (1, NODE_IP, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (1, OUTSIDE, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (1, OUTSIDE, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (2, POD, cluster_ip, [BOTH, BOTH_M, BOTH]),
        (2, POD, node_port, [BOTH, BOTH, HERE]),
        (2, POD, vip, [BOTH, BOTH, HERE]),
        (2, NODE_IP, cluster_ip, [BOTH_M, BOTH_M, BOTH]),
        (2, NODE_IP, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (2, LOOPBACK, at_loopback, [BOTH_M, BOTH_M, BOTH_M]),
        (2, NODE_IP, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (2, OUTSIDE, node_port, [HERE, HERE, HERE]),
        (2, OUTSIDE, vip, [HERE, HERE, HERE]),
        (3, POD, cluster_ip, [HERE, HERE_M, HERE]),
        (3, POD, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (3, POD, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (3, NODE_IP, cluster_ip, [HERE_M, HERE_M, HERE]),
        (3, NODE_IP, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (3, LOOPBACK, at_loopback, [BOTH_M, BOTH_M, BOTH_M]),
        (3, NODE_IP, vip, [BOTH_M, BOTH_M, BOTH_M]),
        (3, OUTSIDE, node_port, [BOTH_M, BOTH_M, BOTH_M]),
        (3, OUTSIDE, vip, [BOTH_M, BOTH_M, BOTH_M]),
    ];
    let vips = ["1.2.3.4", "5.6.7.8", "9.10.11.12"];
    for (number, src, dst, expected) in rows {
        let dst = dst.replace('n', &number.to_string()).replace("VIP", vips[usize::from(number) - 1]);
        for ((expected, tracer), with) in expected.iter().zip(&tracers).zip(["a detector", "all", "none"]) {
            let expected = expected.replace("n:", &format!("{number}:"));
            assert_eq!(trace(tracer, src, &dst), expected, "{src} to {dst} with {with}");
        }
    }
}

/// `TestClusterIPGeneral`: hairpin, and the rule that is for another port or protocol.
#[test]
fn a_pod_that_reaches_itself_is_masqueraded_and_other_ports_are_not_the_services() {
    let mut objects = objects(&[NODE_IP]);
    objects.services = vec![service("one", "172.30.0.41", 0, "1.2.3.4")];
    objects.slices = vec![slice("one", vec![endpoint("10.180.0.1", true)])];
    let tracer = tracer(&objects, &config());
    assert_eq!(trace(&tracer, "10.180.0.1", "172.30.0.41:80"), "10.180.0.1:80 masqueraded");
    assert_eq!(trace(&tracer, "10.180.0.2", "172.30.0.41:80"), "10.180.0.1:80");
    assert_eq!(trace(&tracer, POD, "172.30.0.41:81"), "nothing");
    let packet = Packet { src: POD.parse().unwrap(), proto: "udp", dst: "172.30.0.41:80".parse().unwrap() };
    assert_eq!(tracer.trace(packet).text(), "nothing");
}

/// `TestLoadBalancer`: source ranges keep out who is not in them; node ports know no ranges; the node itself may use
/// the address where it is in a range.
#[test]
fn source_ranges_guard_the_load_balancer_but_not_the_node_port() {
    let balanced = service("one", "172.30.0.41", 3001, "1.2.3.4");
    let ranges = |ranges: &[&str]| {
        let mut objects = objects(&[NODE_IP]);
        let source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        objects.services = vec![Service { source_ranges, ..balanced.clone() }];
        objects.slices = vec![slice("one", vec![endpoint("10.180.0.1", true)])];
        tracer(&objects, &config())
    };
    let guarded = ranges(&["192.168.0.0/24", "203.0.113.0/25"]);
    let target = "10.180.0.1:80 masqueraded";
    assert_eq!(trace(&guarded, "203.0.113.2", "1.2.3.4:80"), target);
    assert_eq!(trace(&guarded, "203.0.113.130", "1.2.3.4:80"), "DROP");
    assert_eq!(trace(&guarded, "203.0.113.130", "192.168.0.2:3001"), target);
    assert_eq!(trace(&guarded, NODE_IP, "1.2.3.4:80"), target);
    assert_eq!(trace(&guarded, "1.2.3.4", "1.2.3.4:80"), target, "the address bound to the node");
    let elsewhere = ranges(&["203.0.113.7/32"]);
    assert_eq!(trace(&elsewhere, "1.2.3.4", "1.2.3.4:80"), "DROP");
    assert_eq!(trace(&elsewhere, "203.0.113.7", "1.2.3.4:80"), target);
    let rules: Vec<&String> = elsewhere.kernel.tables["nat"].values().flatten().collect();
    assert!(rules.iter().any(|rule| rule.contains("-s 203.0.113.7/32 -j KUBE-EXT-")), "{rules:#?}");
}

/// `TestNoEndpointsReject`.
#[test]
fn without_endpoints_every_address_of_a_service_rejects() {
    let mut objects = objects(&[NODE_IP]);
    let external_ips = vec!["198.51.100.1".parse().unwrap()];
    objects.services = vec![Service { external_ips, ..service("one", "172.30.0.41", 3001, "1.2.3.4") }];
    let tracer = tracer(&objects, &config());
    assert_eq!(trace(&tracer, POD, "172.30.0.41:80"), "REJECT");
    for address in ["192.168.0.2:3001", "198.51.100.1:80", "1.2.3.4:80"] {
        assert_eq!(trace(&tracer, OUTSIDE, address), "REJECT", "{address}");
    }
}

/// `TestInternalTrafficPolicy`: with endpoints elsewhere only, silence.
#[test]
fn internal_policy_local_drops_where_only_other_nodes_have_endpoints() {
    for (endpoints, expected) in [
        (vec![endpoint("10.0.1.1", true), endpoint("10.0.1.2", false)], "10.0.1.1:80"),
        (vec![endpoint("10.0.1.2", false)], "DROP"),
        (vec![stopped("10.0.1.2", false)], "REJECT"),
        (Vec::new(), "REJECT"),
    ] {
        let mut objects = objects(&[NODE_IP]);
        let port = Port { name: "p80".into(), proto: Proto::Tcp, port: 80, node_port: 0 };
        let service = Service::cluster_ip("ns".into(), "one".into(), "172.30.0.41".parse().unwrap(), port);
        objects.services = vec![Service { internal_local: true, ..service }];
        objects.slices = vec![slice("one", endpoints)];
        assert_eq!(trace(&tracer(&objects, &config()), POD, "172.30.0.41:80"), expected);
    }
}

/// `TestTerminatingEndpointsTrafficPolicyLocal` and `...Cluster`: draining endpoints serve where no ready one does.
#[test]
fn draining_endpoints_serve_only_where_no_ready_one_is_left() {
    let rows = [
        // Endpoints, what pods get under policy Cluster, what outsiders get under policy Local.
        (
            vec![endpoint("10.0.1.1", true), draining("10.0.1.2", true), endpoint("10.0.1.3", false)],
            "10.0.1.1:80, 10.0.1.3:80",
            "10.0.1.1:80",
        ),
        (
            vec![draining("10.0.1.1", true), stopped("10.0.1.2", true), endpoint("10.0.1.3", false)],
            "10.0.1.3:80",
            "10.0.1.1:80",
        ),
        (
            vec![draining("10.0.1.1", true), draining("10.0.1.3", false)],
            "10.0.1.1:80, 10.0.1.3:80",
            "10.0.1.1:80",
        ),
        (vec![stopped("10.0.1.1", true), draining("10.0.1.3", false)], "10.0.1.3:80", "DROP"),
        (vec![stopped("10.0.1.1", true), stopped("10.0.1.3", false)], "REJECT", "REJECT"),
    ];
    for (i, (endpoints, inside, outside)) in rows.into_iter().enumerate() {
        let mut objects = objects(&[NODE_IP]);
        let local = Service { external_local: true, ..service("one", "172.30.0.41", 3001, "1.2.3.4") };
        objects.services = vec![local];
        objects.slices = vec![slice("one", endpoints)];
        let tracer = tracer(&objects, &config());
        assert_eq!(trace(&tracer, POD, "172.30.0.41:80"), inside, "row {i}");
        assert_eq!(trace(&tracer, OUTSIDE, "1.2.3.4:80"), outside, "row {i}");
        assert_eq!(trace(&tracer, OUTSIDE, "192.168.0.2:3001"), outside, "row {i}");
    }
}

/// `TestNodePorts`: where node ports answer, by family, localhostNodePorts and nodePortAddresses.
#[test]
fn node_ports_answer_where_the_configuration_lets_them() {
    let cidrs =
        |cidrs: &[&str]| NodePortAddresses::Cidrs(cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect());
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let subnets = ["192.168.0.0/24", "2001:db8::/64"];
    // Family, localhostNodePorts, nodePortAddresses; then whether the first address of the node answers, the
    // second, loopback, and whether KUBE-FIREWALL is written.
    let rows = [
        (v4, true, NodePortAddresses::Unset, [true, true, true, true]),
        (v4, false, NodePortAddresses::Unset, [true, true, false, false]),
        (v4, true, cidrs(&subnets), [true, false, false, false]),
        (v4, false, cidrs(&subnets), [true, false, false, false]),
        (v4, true, cidrs(&["127.0.0.0/8", "192.168.0.0/24"]), [true, false, true, true]),
        (v4, false, cidrs(&["127.0.0.0/8", "192.168.0.0/24"]), [true, false, false, false]),
        (v4, true, cidrs(&["127.0.0.1/32"]), [false, false, true, true]),
        (v4, true, cidrs(&["0.0.0.0/0"]), [true, true, true, true]),
        (v4, true, cidrs(&["2001:db8::/64"]), [true, true, true, true]),
        (v4, true, NodePortAddresses::Primary, [true, false, false, false]),
        (v6, true, NodePortAddresses::Unset, [true, true, false, false]),
        (v6, false, NodePortAddresses::Unset, [true, true, false, false]),
        (v6, true, cidrs(&subnets), [true, false, false, false]),
        (v6, true, cidrs(&["192.168.0.0/24"]), [true, true, false, false]),
        (v6, true, cidrs(&["::1/128", "2001:db8::/64"]), [true, false, false, false]),
        (v6, true, NodePortAddresses::Primary, [true, false, false, false]),
    ];
    for (family, localhost_node_ports, node_port_addresses, [first, second, loopback, firewall]) in rows {
        let what = format!("{family:?} {localhost_node_ports} {node_port_addresses:?}");
        let addresses = ["192.168.0.2", "192.168.1.2", "2001:db8::1", "2001:db8:1::2"];
        let mut objects = objects(&addresses);
        let (cluster_ip, pod, client, own) = match family {
            Family::Ipv4 => ("172.30.0.41", "10.180.0.1", OUTSIDE, [addresses[0], addresses[1], "127.0.0.1"]),
            Family::Ipv6 => ("fd00:172::1", "fd00:180::1", "2600::1", [addresses[2], addresses[3], "::1"]),
        };
        let port = Port { name: "p80".into(), proto: Proto::Tcp, port: 80, node_port: 3001 };
        let service = Service::cluster_ip("ns".into(), "one".into(), cluster_ip.parse().unwrap(), port);
        objects.services = vec![Service { kind: ServiceType::NodePort, ..service }];
        objects.slices = vec![EndpointSlice { family, ..slice("one", vec![endpoint(pod, true)]) }];
        let config = ProxyConfig { localhost_node_ports, node_port_addresses, ..config() };
        let tracer = tracer_of(&objects, &config, family);
        for (ip, answers) in own.into_iter().zip([first, second, loopback]) {
            let ip: IpAddr = ip.parse().unwrap();
            let src = if ip.is_loopback() { ip } else { client.parse().unwrap() };
            let outcome = tracer.trace(Packet { src, proto: "tcp", dst: (ip, 3001).into() });
            assert_eq!(!outcome.to.is_empty(), answers, "{what}: {ip} gives {}", outcome.text());
        }
        let written = tracer.kernel.tables["filter"].contains_key("KUBE-FIREWALL");
        assert_eq!(written, firewall, "{what}: KUBE-FIREWALL");
        let rules = sim_models::proxy::iptables::build(&resolve(&objects, family, NODE), &config, family);
        let route_localnet = rules.sysctls.iter().any(|(name, _)| name == "net.ipv4.conf.all.route_localnet");
        assert_eq!(route_localnet, firewall, "{what}: route_localnet");
    }
}

/// `TestHealthCheckNodePort`, `TestDropInvalidRule`.
#[test]
fn health_checks_are_accepted_and_invalid_packets_dropped_unless_tracking_is_liberal() {
    let tracer = tracer(&three_policies(), &config());
    assert_eq!(trace(&tracer, OUTSIDE, "192.168.0.2:30002"), "ACCEPT");
    let mut liberal = config();
    liberal.conntrack.tcp_be_liberal = true;
    for (config, rules) in [(config(), 3), (liberal, 2)] {
        let kernel = tracer_of(&three_policies(), &config, Family::Ipv4).kernel;
        assert_eq!(kernel.rules("filter", "KUBE-FORWARD").len(), rules);
    }
}
