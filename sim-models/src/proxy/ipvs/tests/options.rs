//! What the configuration and each kind of Service change.

use super::*;

fn lines(text: &str, part: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(part)).map(String::from).collect()
}

#[test]
fn node_ports_answer_on_the_addresses_of_the_configured_networks_and_never_on_loopback() {
    let objects = ProxyObjects {
        node_ips: vec!["192.168.0.2".parse().unwrap(), "10.9.9.9".parse().unwrap()],
        ..objects(vec![ServicePort { node_port: 30_080, proto: Proto::Sctp, ..service(0) }])
    };
    let servers = |setting| {
        let config = ProxyConfig { node_port_addresses: setting, ..config("rr", None) };
        let rules = build(&objects, &config, Family::Ipv4);
        let set = ipset::save(&rules.ipsets);
        (
            rules.ipvs[1..].iter().map(|server| server.addr.to_string()).collect::<Vec<_>>(),
            lines(&set, "add KUBE-NODE-PORT-SCTP-HASH").len(),
        )
    };
    let cidrs =
        |list: &[&str]| NodePortAddresses::Cidrs(list.iter().map(|text| text.parse().unwrap()).collect());
    let both = vec!["192.168.0.2".to_owned(), "10.9.9.9".to_owned()];
    assert_eq!(servers(NodePortAddresses::Unset), (both.clone(), 2));
    assert_eq!(servers(NodePortAddresses::Primary), (both[..1].to_vec(), 1));
    assert_eq!(servers(cidrs(&["10.0.0.0/8", "127.0.0.0/8"])), (both[1..].to_vec(), 1));
    assert_eq!(servers(cidrs(&["172.16.0.0/12"])), (vec![], 0));
}

#[test]
fn a_node_port_without_an_address_to_answer_on_also_loses_its_health_check() {
    let port = ServicePort {
        node_port: 30_080,
        health_check_node_port: 31_000,
        external_local: true,
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        ..service(0)
    };
    let entries = |node_ips: Vec<IpAddr>| {
        let objects = ProxyObjects { node_ips, ..objects(vec![port.clone()]) };
        let text = ipset::save(&build(&objects, &config("rr", None), Family::Ipv4).ipsets);
        lines(&text, "add KUBE-HEALTH-CHECK-NODE-PORT").len()
    };
    assert_eq!(entries(vec!["192.168.0.2".parse().unwrap()]), 1);
    assert_eq!(entries(vec![]), 0);
}

#[test]
fn a_local_endpoint_that_is_not_ready_may_still_hairpin() {
    let mut port = service(0);
    port.endpoints.idle_local = vec!["10.244.0.9:8080".parse().unwrap()];
    let rules = build(&objects(vec![port]), &config("rr", None), Family::Ipv4);
    let text = ipset::save(&rules.ipsets);
    assert_eq!(lines(&text, "add KUBE-LOOP-BACK"), ["add KUBE-LOOP-BACK 10.244.0.9,tcp:8080,10.244.0.9"]);
}

#[test]
fn pods_are_told_by_device_where_the_configuration_says_so() {
    use crate::config::DetectLocal;
    let rule = |detect_local, masquerade_all| {
        let config = ProxyConfig { detect_local, masquerade_all, ..config("rr", None) };
        let rules = build(&objects(vec![service(0)]), &config, Family::Ipv4);
        lines(
            &crate::kernel::xtables::print::iptables_save(&rules),
            "KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
        )
    };
    let expected = |device: &str| {
        vec![format!(
            "-A KUBE-SERVICES {device}-m comment --comment \"Kubernetes service cluster ip + port for masquerade \
             purpose\" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ"
        )]
    };
    assert_eq!(rule(DetectLocal::BridgeInterface("cbr0".into()), false), expected("! -i cbr0 "));
    assert_eq!(rule(DetectLocal::InterfaceNamePrefix("cali".into()), false), expected("! -i cali+ "));
    assert_eq!(rule(DetectLocal::BridgeInterface("cbr0".into()), true), expected(""));
}

#[test]
fn load_balancers_and_node_ports_fill_the_sets_that_their_policy_asks_for() {
    let port = |external_local| ServicePort {
        node_port: 30_080,
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        source_ranges: vec!["203.0.113.9/25".parse().unwrap()],
        health_check_node_port: if external_local { 31_000 } else { 0 },
        external_local,
        ..service(0)
    };
    let filled = |local| {
        let rules = build(&objects(vec![port(local)]), &config("rr", None), Family::Ipv4);
        let entry = |set: &crate::kernel::ipset::IpSet| {
            let elements: Vec<String> = set.elements.iter().map(ToString::to_string).collect();
            (!elements.is_empty()).then(|| format!("{} {}", set.name, elements.join(" ")))
        };
        rules.ipsets.iter().filter_map(entry).collect::<Vec<_>>()
    };
    let cluster = [
        "KUBE-CLUSTER-IP 172.20.0.1,tcp:80",
        "KUBE-LOAD-BALANCER 1.2.3.4,tcp:80",
        "KUBE-LOAD-BALANCER-FW 1.2.3.4,tcp:80",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR 1.2.3.4,tcp:80,203.0.113.0/25",
        "KUBE-NODE-PORT-TCP 30080",
        "KUBE-IPVS-IPS 172.20.0.1 1.2.3.4",
    ];
    let local = [
        "KUBE-CLUSTER-IP 172.20.0.1,tcp:80",
        "KUBE-LOAD-BALANCER 1.2.3.4,tcp:80",
        "KUBE-LOAD-BALANCER-FW 1.2.3.4,tcp:80",
        "KUBE-LOAD-BALANCER-LOCAL 1.2.3.4,tcp:80",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR 1.2.3.4,tcp:80,203.0.113.0/25",
        "KUBE-NODE-PORT-TCP 30080",
        "KUBE-NODE-PORT-LOCAL-TCP 30080",
        "KUBE-HEALTH-CHECK-NODE-PORT 31000",
        "KUBE-IPVS-IPS 172.20.0.1 1.2.3.4",
    ];
    assert_eq!(filled(false), cluster);
    assert_eq!(filled(true), local);
}

#[test]
fn ipv6_has_names_of_its_own_and_one_loopback_address() {
    let port = ServicePort {
        cluster_ip: "fd00:10:96::1".parse().unwrap(),
        load_balancer_vips: vec!["2001:db8::9".parse().unwrap()],
        source_ranges: vec!["2001:db8:1::/48".parse().unwrap()],
        ..service(0)
    };
    let objects = ProxyObjects { node_ips: vec!["fd00::2".parse().unwrap()], ..objects(vec![port]) };
    let mode = crate::proxy::mode("ipvs").unwrap();
    let rules = mode.build(&objects, &config("rr", None), Family::Ipv6);
    let text = mode.print(&rules, crate::proxy::Form::Load);
    for line in [
        "# ---- ip6tables-save; load with: ip6tables-restore",
        "create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536",
        "create KUBE-6-NODE-PORT-TCP bitmap:port range 0-65535",
        "add KUBE-6-LOAD-BALANCER-SOURCE-CID 2001:db8::9,tcp:80,2001:db8:1::/48",
        "-A KUBE-SERVICES -s ::1/128 -j RETURN",
        "-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-6-IPVS-IPS dst -j REJECT --reject-with icmp6-port-unreachable",
        "addr add fd00:10:96::1/128 dev kube-ipvs0",
        "-A -t [fd00:10:96::1]:80 -s rr",
        "net.ipv4.ip_forward = 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn settings_are_printed_with_the_timeouts_and_strict_arp_where_asked_for() {
    let mode = crate::proxy::mode("ipvs").unwrap();
    let text = |strict_arp, seconds: [u64; 3]| {
        let ipvs =
            IpvsConfig { strict_arp, timeouts: seconds.map(SimSpan::from_secs), ..IpvsConfig::default() };
        let config = ProxyConfig { ipvs, ..config("rr", None) };
        mode.print(&mode.build(&objects(vec![]), &config, Family::Ipv4), crate::proxy::Form::Load)
    };
    let plain = text(false, [0; 3]);
    let sysctls = [
        "net.netfilter.nf_conntrack_tcp_timeout_established = 86400",
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait = 3600",
        "net.ipv4.vs.conntrack = 1",
        "net.ipv4.vs.expire_nodest_conn = 1",
        "net.ipv4.vs.expire_quiescent_template = 1",
        "net.ipv4.ip_forward = 1",
    ];
    assert_eq!(lines(&plain, " = "), sysctls);
    assert!(!plain.contains("--set "));
    let set = text(true, [900, 120, 0]);
    let arp = ["net.ipv4.conf.all.arp_ignore = 1", "net.ipv4.conf.all.arp_announce = 2"];
    assert_eq!(lines(&set, " = ")[sysctls.len()..], arp);
    assert_eq!(lines(&set, "ipvsadm --set"), ["ipvsadm --set 900 120 0"]);
}

#[test]
fn the_listing_form_is_ipvsadms_without_connections() {
    let mode = crate::proxy::mode("ipvs").unwrap();
    let rules = mode.build(&objects(vec![service(0)]), &config("rr", None), Family::Ipv4);
    let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.20.0.1:80 rr
  -> 10.80.1.0:8080               Masq    1      0          0         
  -> 10.80.1.1:8080               Masq    1      0          0         
";
    assert_eq!(mode.print(&rules, crate::proxy::Form::Listing), expected);
}

#[test]
fn a_rule_that_matches_a_set_is_there_if_and_only_if_the_set_has_entries() {
    let vip = || vec!["1.2.3.4".parse().unwrap()];
    let node_port =
        |proto, external_local| ServicePort { proto, external_local, node_port: 30_080, ..service(0) };
    // What a Service has, and the chains in which that adds rules, with what they match.
    let rows: [(ServicePort, &[&str]); 9] = [
        (service(0), &[]),
        (node_port(Proto::Tcp, false), &["KUBE-NODE-PORT -p tcp KUBE-NODE-PORT-TCP"]),
        (
            node_port(Proto::Udp, true),
            &["KUBE-NODE-PORT -p udp KUBE-NODE-PORT-LOCAL-UDP", "KUBE-NODE-PORT -p udp KUBE-NODE-PORT-UDP"],
        ),
        (
            node_port(Proto::Sctp, true),
            &[
                "KUBE-NODE-PORT -p sctp KUBE-NODE-PORT-LOCAL-SCTP-HASH",
                "KUBE-NODE-PORT -p sctp KUBE-NODE-PORT-SCTP-HASH",
            ],
        ),
        (
            ServicePort { load_balancer_vips: vip(), ..service(0) },
            &["KUBE-SERVICES KUBE-LOAD-BALANCER", "KUBE-SERVICES KUBE-LOAD-BALANCER"],
        ),
        (
            ServicePort { load_balancer_vips: vip(), external_local: true, ..service(0) },
            &[
                "KUBE-LOAD-BALANCER KUBE-LOAD-BALANCER-LOCAL",
                "KUBE-SERVICES KUBE-LOAD-BALANCER",
                "KUBE-SERVICES KUBE-LOAD-BALANCER",
            ],
        ),
        (
            ServicePort {
                load_balancer_vips: vip(),
                source_ranges: vec!["192.168.0.0/24".parse().unwrap()],
                ..service(0)
            },
            &[
                "KUBE-PROXY-FIREWALL KUBE-LOAD-BALANCER-FW",
                "KUBE-SERVICES KUBE-LOAD-BALANCER",
                "KUBE-SERVICES KUBE-LOAD-BALANCER",
                "KUBE-SOURCE-RANGES-FIREWALL KUBE-LOAD-BALANCER-SOURCE-CIDR",
                "KUBE-SOURCE-RANGES-FIREWALL KUBE-LOAD-BALANCER-SOURCE-IP",
            ],
        ),
        (
            ServicePort { external_ips: vip(), ..service(0) },
            &[
                "KUBE-SERVICES KUBE-EXTERNAL-IP",
                "KUBE-SERVICES KUBE-EXTERNAL-IP",
                "KUBE-SERVICES KUBE-EXTERNAL-IP",
            ],
        ),
        (
            ServicePort { external_ips: vip(), external_local: true, ..service(0) },
            &["KUBE-SERVICES KUBE-EXTERNAL-IP-LOCAL", "KUBE-SERVICES KUBE-EXTERNAL-IP-LOCAL"],
        ),
    ];
    let always = set_rules(&service(0));
    for (port, more) in rows {
        let mut found = set_rules(&port);
        for rule in &always {
            let at = found.iter().position(|other| other == rule).unwrap_or_else(|| panic!("no {rule}"));
            found.remove(at);
        }
        found.sort();
        assert_eq!(found, more, "{port:?}");
    }
}

/// Chain, protocol and set of every rule that matches a set.
fn set_rules(port: &ServicePort) -> Vec<String> {
    let built = build(&objects(vec![port.clone()]), &config("rr", None), Family::Ipv4);
    let mut out = Vec::new();
    for chain in built.xtables.iter().flat_map(|table| &table.chains) {
        for rule in &chain.rules {
            let proto = rule.proto.map_or(String::new(), |test| format!(" -p {}", test.value));
            for m in &rule.matches {
                if let Match::Set { name, .. } = m {
                    out.push(format!("{}{proto} {name}", chain.name));
                }
            }
        }
    }
    out
}

#[test]
fn a_link_local_address_is_no_place_for_node_ports_unless_it_is_asked_for() {
    let port = ServicePort { cluster_ip: "fd00:96::1".parse().unwrap(), node_port: 30_080, ..service(0) };
    let node_ips = vec!["fe80::1".parse().unwrap(), "fd00::2".parse().unwrap()];
    let objects = ProxyObjects { node_ips, ..objects(vec![port]) };
    let addresses = |setting| {
        let config = ProxyConfig { node_port_addresses: setting, ..config("rr", None) };
        let rules = build(&objects, &config, Family::Ipv6);
        rules.ipvs[1..].iter().map(|server| server.addr.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(NodePortAddresses::Unset), ["fd00::2"]);
    let asked = NodePortAddresses::Cidrs(vec!["fe80::/10".parse().unwrap()]);
    assert_eq!(addresses(asked), ["fe80::1"]);
}
