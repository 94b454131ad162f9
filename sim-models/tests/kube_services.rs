//! All that a Service can say, from kubectl's JSON to the ports and endpoints that a proxy writes rules from.

use sim_core::classify::Family::{self, Ipv4, Ipv6};
use sim_models::kube::ServicePort;
use sim_models::kube::import::{Imported, Options, import, import_with};
use sim_models::kube::resolve::resolve;
use std::fmt::Write;

/// One Service `d/web` with this spec and status.
fn service(spec: &str, status: &str) -> String {
    format!(
        r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "web", "namespace": "d"}}, "spec": {{{spec}}},
           "status": {{{status}}}}}"#
    )
}

/// A slice of `d/web`; `more` goes behind its name.
fn slice(name: &str, more: &str, family: &str, ports: &str, endpoints: &str) -> String {
    format!(
        r#"{{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": {{"name": "{name}", "namespace": "d",
           "labels": {{"kubernetes.io/service-name": "web" {more}}}}}, "addressType": "{family}", "ports": [{ports}],
           "endpoints": [{endpoints}]}}"#
    )
}

fn ready(address: &str) -> String {
    format!(r#"{{"addresses": ["{address}"], "nodeName": "a"}}"#)
}

const HTTP: &str = r#"{"name": "", "port": 8080, "protocol": "TCP"}"#;
const NODE: &str = r#"{"kind": "Node", "metadata": {"name": "a"}, "status": {"addresses":
    [{"type": "InternalIP", "address": "192.168.0.2"}, {"type": "InternalIP", "address": "fd00:10::2"}]}}"#;

fn read(items: &[String]) -> Imported {
    let mut items = items.to_vec();
    items.push(NODE.to_owned());
    // As one file a kind would be put together.
    import_with(&items.join("\n"), Options::default()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn ports(items: &[String], family: Family) -> Vec<ServicePort> {
    resolve(&read(items).objects, family, "a").ports
}

/// Addresses of the ready endpoints, in order.
fn endpoints(port: &ServicePort) -> String {
    let mut text = String::new();
    for endpoint in &port.endpoints.cluster {
        write!(text, "{} ", endpoint.addr).unwrap();
    }
    text.trim_end().to_owned()
}

#[test]
fn all_of_a_load_balancer_is_read() {
    let spec = r#""type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:96::9"],
        "ipFamilies": ["IPv4", "IPv6"], "externalIPs": ["203.0.113.1", "2001:db8::1"],
        "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "\t2001:db8:1::/48"], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
        "ports": [{"name": "a", "port": 80, "targetPort": "http", "nodePort": 30080},
                  {"name": "b", "port": 80, "protocol": "UDP", "targetPort": 8080, "nodePort": 30080},
                  {"name": "c", "port": 80, "protocol": "SCTP", "nodePort": 30081}]"#;
    let status = r#""loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"},
        {"hostname": "lb.example"}, {"ip": "2001:db8::9", "ipMode": "VIP"}]}"#;
    let [first, second, third] = &ports(&[service(spec, status)], Ipv4)[..] else { panic!("three ports") };
    assert_eq!(first.full_name(), "d/web:a");
    assert_eq!(second.proto.to_string() + &third.proto.to_string(), "udpsctp");
    assert_eq!((first.cluster_ip.to_string(), first.port, first.node_port), ("10.96.0.9".into(), 80, 30080));
    assert_eq!(
        format!("{:?} {:?}", first.external_ips, first.load_balancer_vips),
        "[203.0.113.1] [198.51.100.1]"
    );
    assert_eq!(format!("{:?}", first.source_ranges), "[10.0.0.0/8]");
    assert_eq!((first.affinity_seconds, first.health_check_node_port), (Some(60), 31000));
    assert!(first.internal_local && first.external_local);
    let sixth = &ports(&[service(spec, status)], Ipv6)[0];
    assert_eq!(sixth.cluster_ip.to_string(), "fd00:96::9");
    assert_eq!(
        format!("{:?} {:?}", sixth.external_ips, sixth.load_balancer_vips),
        "[2001:db8::1] [2001:db8::9]"
    );
    assert_eq!(format!("{:?}", sixth.source_ranges), "[2001:db8:1::/48]");
}

#[test]
fn a_source_range_of_everything_lifts_all_of_them() {
    let spec = r#""type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{"port": 80}],
        "loadBalancerSourceRanges": ["10.0.0.0/8", "0.0.0.0/0"]"#;
    assert_eq!(ports(&[service(spec, "")], Ipv4)[0].source_ranges, []);
}

#[test]
fn policies_and_health_checks_count_only_where_they_mean_something() {
    let local = r#""clusterIP": "10.96.0.9", "ports": [{"port": 80}], "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000"#;
    let port = |kind: &str| ports(&[service(&format!(r#""type": "{kind}", {local}"#), "")], Ipv4).remove(0);
    let seen = |port: ServicePort| (port.external_local, port.health_check_node_port);
    assert_eq!(seen(port("ClusterIP")), (false, 0));
    assert_eq!(seen(port("NodePort")), (true, 0));
    assert_eq!(seen(port("LoadBalancer")), (true, 31000));
    let external = format!(r#"{local}, "externalIPs": ["203.0.113.1"]"#);
    assert_eq!(seen(ports(&[service(&external, "")], Ipv4).remove(0)), (true, 0));
}

#[test]
fn headless_external_and_other_peoples_services_have_no_ports() {
    for spec in [
        r#""clusterIP": "None", "ports": [{"port": 80}]"#,
        r#""clusterIP": "", "ports": [{"port": 80}]"#,
        r#""type": "ExternalName", "externalName": "example.com", "clusterIP": "10.96.0.9", "ports": [{"port": 80}]"#,
    ] {
        assert_eq!(ports(&[service(spec, "")], Ipv4), [], "{spec}");
    }
    let labelled = service(r#""clusterIP": "10.96.0.9", "ports": [{"port": 80}]"#, "").replace(
        r#""namespace": "d""#,
        r#""namespace": "d", "labels": {"service.kubernetes.io/service-proxy-name": "other"}"#,
    );
    assert_eq!(ports(&[labelled], Ipv4), []);
    // Of one family there is nothing in the other.
    let single = service(
        r#""clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"], "ports": [{"port": 80}]"#,
        "",
    );
    assert_eq!(ports(&[single], Ipv6), []);
}

#[test]
fn target_ports_come_from_the_slices_which_may_differ() {
    let web = service(
        r#""clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]"#,
        "",
    );
    let port = |number: u16| {
        format!(
            r#"{{"name": "http", "port": {number}}}, {{"name": "metrics", "port": 9090}}, {{"name": "http2"}}"#
        )
    };
    let items = [
        web,
        slice("s1", "", "IPv4", &port(8080), &ready("10.0.0.10")),
        slice("s2", "", "IPv4", &port(8081), &ready("10.0.0.2")),
        slice("s3", "", "IPv6", &port(8080), &ready("fd00::1")),
        slice("s4", r#", "service.kubernetes.io/headless": """#, "IPv4", &port(8080), &ready("10.0.0.3")),
        slice("s5", "", "FQDN", &port(8080), r#"{"addresses": ["example.com"]}"#),
    ];
    // By the text, in which 10 comes before 2.
    assert_eq!(endpoints(&ports(&items, Ipv4)[0]), "10.0.0.10:8080 10.0.0.2:8081");
}

#[test]
fn an_old_slice_names_the_node_among_its_topology() {
    let web =
        service(r#""clusterIP": "10.96.0.9", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]"#, "");
    let old = slice(
        "s",
        "",
        "IPv4",
        HTTP,
        r#"{"addresses": ["10.0.0.1"], "topology": {"kubernetes.io/hostname": "a"}}"#,
    )
    .replace("k8s.io/v1", "k8s.io/v1beta1");
    assert_eq!(ports(&[web, old], Ipv4)[0].endpoints.local.len(), 1);
}

const WEB: &str = r#""clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:96::9"], "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]"#;
const SUBSETS: &str = r#"[{"addresses": [{"ip": "10.0.0.2", "nodeName": "a"}, {"ip": "fd00::2"}], "notReadyAddresses": [{"ip": "10.0.0.3"}],
    "ports": [{"port": 8080, "protocol": "TCP"}]}, {"addresses": [{"ip": "10.0.0.4"}], "ports": [{"name": "", "port": 8081}]}]"#;

fn manual(labels: &str, subsets: &str) -> String {
    format!(
        r#"{{"kind": "Endpoints", "apiVersion": "v1", "metadata": {{"name": "web", "namespace": "d", "labels": {{{labels}}}}}, "subsets": {subsets}}}"#
    )
}

#[test]
fn endpoints_of_a_service_without_selector_are_mirrored() {
    let items = [service(WEB, ""), manual("", SUBSETS)];
    let imported = read(&items);
    assert_eq!(
        imported.notes,
        ["Endpoints d/web were mirrored into EndpointSlices, as the mirroring controller does"]
    );
    // A slice for each family and set of ports.
    assert_eq!(imported.objects.slices.len(), 3);
    let v4 = ports(&items, Ipv4).remove(0);
    assert_eq!(endpoints(&v4), "10.0.0.2:8080 10.0.0.4:8081");
    assert_eq!(v4.endpoints.total, 3, "the address that is not ready is there too");
    assert_eq!(endpoints(&ports(&items, Ipv6)[0]), "[fd00::2]:8080");
}

#[test]
fn a_mirrored_slice_counts_and_its_endpoints_do_not() {
    let made = slice(
        "s",
        r#", "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io""#,
        "IPv4",
        HTTP,
        &ready("10.0.0.9"),
    );
    for items in [
        [service(WEB, ""), manual("", SUBSETS), made.clone()],
        [made.clone(), manual("", SUBSETS), service(WEB, "")],
    ] {
        assert_eq!(endpoints(&ports(&items, Ipv4)[0]), "10.0.0.9:8080");
        assert_eq!(read(&items).notes, [""; 0]);
    }
}

#[test]
fn endpoints_of_a_selector_count_only_where_no_slices_were_listed_at_all() {
    let selecting = service(&format!(r#"{WEB}, "selector": {{"app": "web"}}"#), "");
    let alone = [selecting.clone(), manual("", SUBSETS)];
    assert_eq!(endpoints(&ports(&alone, Ipv4)[0]), "10.0.0.2:8080 10.0.0.4:8081");
    assert_eq!(
        read(&alone).notes,
        [
            "Endpoints d/web were taken for EndpointSlices, of which there are none among the objects: kube-proxy reads only those"
        ]
    );
    let elsewhere = slice("s", "", "IPv4", HTTP, &ready("10.0.0.9")).replace(r#""web""#, r#""other""#);
    let listed = [selecting, manual("", SUBSETS), elsewhere];
    assert_eq!(endpoints(&ports(&listed, Ipv4)[0]), "");
    assert_eq!(
        read(&listed).notes,
        [
            "Endpoints d/web were not used: kube-proxy reads only EndpointSlices, and the objects have none of these Services"
        ]
    );
}

#[test]
fn endpoints_that_are_not_to_be_mirrored_are_not() {
    let skip = manual(r#""endpointslice.kubernetes.io/skip-mirror": "true""#, SUBSETS);
    let elsewhere = slice("s", "", "IPv4", HTTP, &ready("10.0.0.9")).replace(r#""web""#, r#""other""#);
    assert_eq!(endpoints(&ports(&[service(WEB, ""), skip.clone(), elsewhere], Ipv4)[0]), "");
    // The kubernetes Service's, where only Services and Endpoints were listed.
    assert_eq!(endpoints(&ports(&[service(WEB, ""), skip], Ipv4)[0]), "10.0.0.2:8080 10.0.0.4:8081");
}

#[test]
fn two_services_cannot_have_one_cluster_ip_or_node_port() {
    let web = |name: &str, spec: &str| service(spec, "").replace(r#""web""#, &format!("{name:?}"));
    let told = |items: [String; 2]| {
        let errors = import(&items.join("\n")).unwrap_err();
        errors
            .iter()
            .map(|error| error.to_string().split_once(": ").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    let one = web(
        "one",
        r#""type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]"#,
    );
    assert_eq!(
        told([
            one.clone(),
            web(
                "two",
                r#""type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]"#
            )
        ]),
        [
            "Service d/two: spec.clusterIP: 10.96.0.9 is the cluster IP of Service d/one too",
            "Service d/two: spec.ports[0].nodePort: 30080/tcp is a port of Service d/one too",
        ]
    );
    assert_eq!(
        told([
            one.clone(),
            web(
                "two",
                r#""type": "LoadBalancer", "clusterIP": "10.96.0.8", "healthCheckNodePort": 30080, "ports": [{"port": 80}]"#
            )
        ]),
        ["Service d/two: spec.healthCheckNodePort: 30080/tcp is a port of Service d/one too"]
    );
    let udp = web(
        "two",
        r#""type": "NodePort", "clusterIP": "10.96.0.8", "ports": [{"port": 80, "nodePort": 30080, "protocol": "UDP"}]"#,
    );
    assert!(import(&[one.clone(), udp].join("\n")).is_ok(), "another protocol is another port");
    // A broken Service takes nothing from anybody.
    let broken = one.replace("\"port\": 80,", "\"port\": 0,");
    let two = web(
        "two",
        r#""type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]"#,
    );
    let imported = import_with(&[broken, two].join("\n"), Options { keep_going: true }).unwrap();
    assert_eq!((imported.objects.services.len(), imported.errors.len()), (1, 1));
}

#[test]
fn ports_of_one_service_are_told_apart() {
    let told = |ports: &str| {
        let text = service(&format!(r#""clusterIP": "10.96.0.9", "ports": [{ports}]"#), "");
        import(&text).unwrap_err()[0].to_string().split_once("ports").unwrap().1.to_owned()
    };
    assert_eq!(
        told(r#"{"name": "a", "port": 80}, {"name": "b", "port": 80}"#),
        "[1].port: 80 is the number of another port of this protocol"
    );
    assert_eq!(
        told(r#"{"name": "a", "port": 80}, {"name": "a", "port": 81}"#),
        "[1].name: \"a\" is the name of another port"
    );
    assert_eq!(
        told(r#"{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080}"#),
        "[1].nodePort: 30080/tcp is another port of the Service too"
    );
    assert_eq!(
        told(r#"{"port": 80, "targetPort": "Not--A-Name"}"#),
        "[0].targetPort: \"Not--A-Name\" is no port name: lower-case letters, digits and single inner dashes, at least one letter, at most 15 characters"
    );
    assert_eq!(told(r#"{"port": 80, "targetPort": 70000}"#), "[0].targetPort: 70000 is not in 1-65535");
}
