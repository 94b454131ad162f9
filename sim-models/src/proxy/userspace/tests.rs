//! Services against the rules of the mode.

use super::*;
use crate::kernel::ipset::IpSets;
use crate::kernel::xtables::{Compiled, print::iptables_save};
use crate::kube::EndpointLists;
use crate::proxy::{Form, mode};
use sim_core::units::SimTime;
use std::collections::BTreeSet;

fn api() -> ServicePort {
    ServicePort {
        port_name: "https".into(),
        port: 443,
        ..ServicePort::http("default", "kubernetes", "10.96.0.1".parse().unwrap(), EndpointLists::default())
    }
}

fn objects(ports: Vec<ServicePort>) -> ProxyObjects {
    ProxyObjects { ports, node_ips: vec!["192.168.0.2".parse().unwrap()], ..ProxyObjects::default() }
}

fn config(minor: u32) -> ProxyConfig {
    ProxyConfig { mode: "userspace".into(), kubernetes_minor: minor, ..ProxyConfig::default() }
}

/// The text with the proxy port as `P`.
fn text(port: ServicePort) -> String {
    let objects = objects(vec![port]);
    let proxy_port = ports::allocate(&objects, 25)[0].expect("a port").to_string();
    iptables_save(&build(&objects, &config(25), Family::Ipv4)).replace(&proxy_port, "P")
}

#[test]
fn a_cluster_ip_is_redirected_for_pods_and_translated_for_the_node() {
    let expected = r#"*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-NODEPORT-NON-LOCAL - [0:0]
-A INPUT -m comment --comment "Ensure that non-local NodePort traffic can flow" -j KUBE-NODEPORT-NON-LOCAL
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-NODEPORT-CONTAINER - [0:0]
:KUBE-NODEPORT-HOST - [0:0]
:KUBE-PORTALS-CONTAINER - [0:0]
:KUBE-PORTALS-HOST - [0:0]
-A PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-CONTAINER
-A OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
-A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-HOST
-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https" -m tcp --dport 443 -j REDIRECT --to-ports P
-A KUBE-PORTALS-HOST -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https" -m tcp --dport 443 -j DNAT --to-destination 192.168.0.2:P
COMMIT
"#;
    assert_eq!(text(api()), expected);
}

#[test]
fn a_node_port_is_let_in_to_the_proxy_port_and_external_addresses_have_three_rules() {
    let port = ServicePort {
        node_port: 30_443,
        external_ips: vec!["203.0.113.9".parse().unwrap()],
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        external_local: true,
        source_ranges: vec!["10.0.0.0/8".parse().unwrap()],
        ..api()
    };
    let text = text(port);
    let all = "-p tcp -m comment --comment \"default/kubernetes:https\" -m tcp --dport";
    let redirect = "-j REDIRECT --to-ports P";
    let dnat = "-j DNAT --to-destination 192.168.0.2:P";
    let expected = [
        format!("-A KUBE-NODEPORT-NON-LOCAL {all} P -m state --state NEW -j ACCEPT"),
        format!("-A KUBE-NODEPORT-CONTAINER {all} 30443 {redirect}"),
        format!("-A KUBE-NODEPORT-HOST {all} 30443 {dnat}"),
        format!("-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 {all} 443 {redirect}"),
        format!(
            "-A KUBE-PORTALS-CONTAINER -d 203.0.113.9/32 {all} 443 -m physdev ! --physdev-is-in {redirect}"
        ),
        format!(
            "-A KUBE-PORTALS-CONTAINER -d 203.0.113.9/32 {all} 443 -m addrtype --dst-type LOCAL {redirect}"
        ),
        format!("-A KUBE-PORTALS-CONTAINER -d 1.2.3.4/32 {all} 443 {redirect}"),
        format!("-A KUBE-PORTALS-HOST -d 10.96.0.1/32 {all} 443 {dnat}"),
        format!("-A KUBE-PORTALS-HOST -d 203.0.113.9/32 {all} 443 -m addrtype --dst-type LOCAL {dnat}"),
        format!("-A KUBE-PORTALS-HOST -d 1.2.3.4/32 {all} 443 {dnat}"),
    ];
    let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A KUBE-")).collect();
    assert_eq!(rules, expected);
}

#[test]
fn endpoints_and_affinity_change_no_rule() {
    let endpoint = crate::kube::Endpoint { addr: "10.244.0.5:6443".parse().unwrap(), is_local: true };
    let with =
        ServicePort { endpoints: EndpointLists::ready(vec![endpoint]), affinity_seconds: Some(60), ..api() };
    assert_eq!(text(with), text(api()));
}

#[test]
fn a_service_keeps_its_proxy_port_when_others_come_and_sctp_gets_none() {
    let udp = ServicePort { proto: Proto::Udp, name: "dns".into(), ..api() };
    let sctp = ServicePort { proto: Proto::Sctp, name: "sctp".into(), ..api() };
    let ports =
        |list: &[&ServicePort]| ports::allocate(&objects(list.iter().map(|p| (*p).clone()).collect()), 25);
    let api = api();
    let all = ports(&[&udp, &sctp, &api]);
    assert_eq!(ports(&[&api]), [all[2]]);
    assert_eq!(all[1], None);
}

#[test]
fn proxy_ports_differ_within_a_protocol_and_run_out() {
    let port = |n: u32| ServicePort { name: format!("s{n}").into(), ..api() };
    let count = ports::COUNT + 100;
    let given = ports::allocate(&objects((0..count).map(port).collect()), 25);
    let distinct: BTreeSet<u16> = given.iter().flatten().copied().collect();
    assert_eq!(distinct.len(), ports::COUNT as usize);
    assert!(distinct.iter().all(|port| (ports::FIRST..=ports::LAST).contains(port)));
    assert!(given[ports::COUNT as usize..].iter().all(Option::is_none));
}

#[test]
fn an_unnamed_port_has_a_colon_in_its_comments_before_1_19() {
    let port = ServicePort { port_name: "".into(), ..api() };
    let comment = |minor| {
        iptables_save(&build(&objects(vec![port.clone()]), &config(minor), Family::Ipv4))
            .contains("--comment \"default/kubernetes:\"")
    };
    assert_eq!((comment(18), comment(19)), (true, false));
}

#[test]
fn its_rules_are_such_as_the_kernel_takes() {
    let rules = build(&objects(vec![api()]), &config(25), Family::Ipv4);
    assert!(Compiled::new(&rules.xtables, &IpSets::default()).is_ok());
}

#[test]
fn a_service_and_the_jumps_are_what_its_rules_count() {
    let mode = mode("userspace").unwrap();
    // Five jumps and two rules.
    assert_eq!(mode.rule_count(&mode.build(&objects(vec![api()]), &config(25), Family::Ipv4)), 7);
}

#[test]
fn a_changed_service_is_closed_and_opened_again_and_the_others_stay() {
    let mode = mode("userspace").unwrap();
    let other = ServicePort { name: "other".into(), cluster_ip: "10.96.0.2".parse().unwrap(), ..api() };
    let moved = ServicePort { port: 8443, ..api() };
    let states =
        [objects(vec![api(), other.clone()]), objects(vec![moved, other.clone()]), objects(vec![other])];
    let states = states.map(|objects| (SimTime::ZERO, objects));
    let inputs = mode.inputs(&states, &config(25), Family::Ipv4).unwrap();
    let commands = |n: usize| inputs[n].iter().map(|input| input.command.as_str()).collect::<Vec<_>>();
    assert_eq!(inputs[0].len(), 5 + 5 + 4, "chains, jumps, rules");
    assert!(commands(0).iter().any(|c| c.starts_with("iptables -w 5 -I PREROUTING -t nat -m comment")));
    let kinds = |n: usize| commands(n).iter().map(|c| &c[14..16]).collect::<Vec<_>>();
    assert_eq!(kinds(1), ["-D", "-D", "-A", "-A"]);
    assert!(commands(1).iter().all(|c| c.contains("default/kubernetes:https")));
    assert!(commands(1)[0].contains("--dport 443 ") && commands(1)[2].contains("--dport 8443 "));
    assert_eq!(kinds(2), ["-D", "-D"]);
}

#[test]
fn a_node_with_other_proxy_ports_has_the_same_rules_and_one_rule_with_a_third_port_is_told() {
    let mode = mode("userspace").unwrap().dumps().unwrap();
    let other = ServicePort {
        name: "other".into(),
        cluster_ip: "10.96.0.2".parse().unwrap(),
        node_port: 30_080,
        ..api()
    };
    let objects = objects(vec![api(), other]);
    let wanted = mode.build(&objects, &config(25), Family::Ipv4);
    let given: Vec<u16> = ports::allocate(&objects, 25).into_iter().flatten().collect();
    // Each has the port that the other one has here.
    let text = mode.print(&wanted, Form::Load);
    let [a, b] = [given[0].to_string(), given[1].to_string()];
    let text = text.replace(&a, "@").replace(&b, &a).replace('@', &b);
    let read = |text: &str| mode.read(text, Family::Ipv4).unwrap();
    assert_eq!(mode.diff(&wanted, &read(&text), &config(25)), []);
    let elsewhere = text.replacen(&format!("192.168.0.2:{a}"), "192.168.0.2:40000", 1);
    let differences = mode.diff(&wanted, &read(&elsewhere), &config(25));
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert_eq!(differences[0].kind(), "changed");
}

#[test]
fn an_address_that_a_service_has_twice_has_its_rules_once() {
    let address: std::net::IpAddr = "203.0.113.9".parse().unwrap();
    let with = |addresses| text(ServicePort { external_ips: addresses, ..api() });
    assert_eq!(with(vec![address, address]), with(vec![address]));
}
