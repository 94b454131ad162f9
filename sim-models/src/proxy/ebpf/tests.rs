//! Services against the maps that they make.

use super::*;
use crate::kernel::ebpf::table;
use crate::kube::EndpointLists;

fn endpoint(n: u8, is_local: bool) -> Endpoint {
    Endpoint { addr: SocketAddr::from(([10, 244, 1, n], 8080)), is_local }
}

/// `default/web:http` on 10.96.0.10 with endpoints 1 and 2, of which 1 is on this node.
fn web() -> ServicePort {
    let lists = EndpointLists {
        local: vec![endpoint(1, true)],
        ..EndpointLists::ready(vec![endpoint(1, true), endpoint(2, false)])
    };
    ServicePort::http("default", "web", "10.96.0.10".parse().unwrap(), lists)
}

fn map_of(ports: Vec<ServicePort>) -> ServiceMap {
    let objects =
        ProxyObjects { ports, node_ips: vec!["192.168.0.2".parse().unwrap()], ..ProxyObjects::default() };
    build(&objects, &ProxyConfig::default(), Family::Ipv4).service_map.unwrap()
}

fn rows(map: &ServiceMap) -> Vec<(String, Scope, FrontendKind, Vec<u32>)> {
    let row = |f: &Frontend| {
        (f.addr.to_string(), f.scope, f.kind, f.slots.iter().map(|id| id.0).collect::<Vec<_>>())
    };
    map.frontends.iter().map(row).collect()
}

#[test]
fn every_address_of_a_service_is_a_frontend_and_they_share_backends() {
    let port = ServicePort {
        node_port: 30_080,
        external_ips: vec!["203.0.113.9".parse().unwrap()],
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        ..web()
    };
    let map = map_of(vec![port]);
    let frontend = |addr: &str, kind| (addr.to_owned(), Scope::External, kind, vec![1, 2]);
    let expected = [
        frontend("10.96.0.10:80", FrontendKind::ClusterIp),
        frontend("203.0.113.9:80", FrontendKind::ExternalIp),
        frontend("1.2.3.4:80", FrontendKind::LoadBalancer),
        frontend("0.0.0.0:30080", FrontendKind::NodePort),
        frontend("192.168.0.2:30080", FrontendKind::NodePort),
    ];
    assert_eq!(rows(&map), expected);
    let routable: Vec<bool> = map.frontends.iter().map(|f| f.routable).collect();
    assert_eq!(routable, [false, true, true, false, true]);
    assert_eq!(map.backends.len(), 2);
    // 5 frontends with 2 slots each, 2 backends, 5 ways back.
    assert_eq!(map.entries(), 15 + 2 + 5);
    assert_eq!(map.backend(BackendId(2)).unwrap().addr, endpoint(2, false).addr);
    assert_eq!(map.backend(BackendId(0)), None);
}

#[test]
fn policies_that_differ_make_a_frontend_a_scope() {
    let port =
        ServicePort { load_balancer_vips: vec!["1.2.3.4".parse().unwrap()], external_local: true, ..web() };
    let map = map_of(vec![port]);
    let vip = |scope, slots| ("1.2.3.4:80".to_owned(), scope, FrontendKind::LoadBalancer, slots);
    assert_eq!(rows(&map)[1..], [vip(Scope::External, vec![1]), vip(Scope::Internal, vec![1, 2])]);
    assert!(map.frontends[1..].iter().all(|f| f.two_scopes && f.external_local));
    let ways_back: Vec<String> = map.reverse_nat.iter().map(|r| format!("{} {}", r.id.0, r.addr)).collect();
    assert_eq!(ways_back, ["1 10.96.0.10:80", "2 1.2.3.4:80", "3 1.2.3.4:80"]);
}

#[test]
fn a_local_policy_without_local_endpoints_has_no_backends_and_keeps_its_frontend() {
    let mut port = ServicePort { internal_local: true, ..web() };
    port.endpoints.local.clear();
    let map = map_of(vec![port]);
    assert_eq!(rows(&map), [("10.96.0.10:80".to_owned(), Scope::External, FrontendKind::ClusterIp, vec![])]);
    assert!(map.frontends[0].internal_local && map.backends.is_empty());
}

#[test]
fn affinity_binds_every_backend_and_source_ranges_guard_load_balancers_only() {
    let port = ServicePort {
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        source_ranges: vec!["203.0.113.7/25".parse().unwrap()],
        affinity_seconds: Some(10_800),
        ..web()
    };
    let map = map_of(vec![port]);
    let pairs: Vec<(u32, u32)> = map.affinity.iter().map(|a| (a.frontend.0, a.backend.0)).collect();
    assert_eq!(pairs, [(1, 1), (1, 2), (2, 1), (2, 2)]);
    let ranges: Vec<String> =
        map.source_ranges.iter().map(|r| format!("{} {}", r.frontend.0, r.net)).collect();
    assert_eq!(ranges, ["1 203.0.113.0/25", "2 203.0.113.0/25"]);
    let checks: Vec<bool> = map.frontends.iter().map(|f| f.checks_source).collect();
    assert_eq!(checks, [false, true]);
}

#[test]
fn equal_objects_have_equal_numbers_and_an_address_has_one_owner() {
    let other = ServicePort { name: "other".into(), ..web() };
    let (first, second) = (map_of(vec![web(), other.clone()]), map_of(vec![web(), other]));
    assert_eq!(first, second);
    assert_eq!(first.frontends.len(), 1, "a map has one value a key");
}

#[test]
fn the_tables_are_aligned_and_narrow() {
    let port = ServicePort {
        load_balancer_vips: vec!["1.2.3.4".parse().unwrap()],
        source_ranges: vec!["203.0.113.0/25".parse().unwrap()],
        affinity_seconds: Some(10_800),
        external_local: true,
        ..web()
    };
    let golden = "\
# cilium_lb4_services_v2: 3 entries
FRONTEND           SCOPE  REVNAT  COUNT  FLAGS                   BACKENDS BY SLOT
10.96.0.10:80/TCP  ext    1       2      ClusterIP,non-routable  1 2

# cilium_lb4_backends_v3: 2 entries
ID  BACKEND
1   10.244.1.1:8080/TCP
2   10.244.1.2:8080/TCP

# cilium_lb4_reverse_nat: 1 entry
REVNAT  FRONTEND
1       10.96.0.10:80

# cilium_lb_affinity_match: 0 entries

# cilium_lb4_source_range: 0 entries
";
    assert_eq!(table(&map_of(vec![web()])), golden);
    // However many backends, and whatever the addresses' length.
    let v6 = |n: u16| Endpoint {
        addr: SocketAddr::new(format!("2001:db8:1111:2222:3333:4444:5555:{n:x}").parse().unwrap(), 8080),
        is_local: false,
    };
    let wide = ServicePort {
        cluster_ip: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap(),
        load_balancer_vips: vec!["2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe".parse().unwrap()],
        endpoints: EndpointLists::ready((0..300).map(v6).collect()),
        ..port
    };
    let objects = ProxyObjects { ports: vec![wide], ..ProxyObjects::default() };
    let map = build(&objects, &ProxyConfig::default(), Family::Ipv6).service_map.unwrap();
    for line in table(&map).lines() {
        assert!(line.len() < 100 && line == line.trim_end(), "{} columns: {line}", line.len());
    }
}
