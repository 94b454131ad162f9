//! Which endpoints a proxy uses: categories, duplicates, generated clusters and changes.

use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::config::{ClusterConfig, EndpointLaw, FeatureGates};
use sim_models::kube::change::ChangeError;
use sim_models::kube::gates;
use sim_models::kube::generate::{GenerateError, fits, generate, total_endpoints};
use sim_models::kube::import::import;
use sim_models::kube::objects::{Hints, Objects};
use sim_models::kube::resolve::resolve;
use sim_models::kube::{Endpoint, ProxyObjects};

/// A Service `default/web`, with `spec` added to its spec, and the endpoints of its slices, each a line
/// `address state node [hints]` where the state is a set of r(eady), s(erving), t(erminating).
fn web(spec: &str, slices: &[&str]) -> Objects {
    let mut items = vec![
        r#"{"kind": "Node", "metadata": {"name": "a", "labels": {"topology.kubernetes.io/zone": "z1"}}}"#
            .to_owned(),
        format!(
            r#"{{"kind": "Service", "metadata": {{"name": "web", "namespace": "default"}}, "spec":
                {{"clusterIP": "10.96.0.9", "ports": [{{"port": 80, "nodePort": 30080}}], "type": "NodePort" {spec}}}}}"#
        ),
    ];
    for (i, slice) in slices.iter().enumerate() {
        let endpoints: Vec<String> = slice
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let has = |letter: char| words[1].contains(letter);
                let hints = match words.get(3).and_then(|hint| hint.split_once('=')) {
                    Some((kind, name)) => format!(r#", "hints": {{"{kind}": [{{"name": "{name}"}}]}}"#),
                    None => String::new(),
                };
                format!(
                    r#"{{"addresses": ["{}"], "nodeName": "{}", "conditions":
                        {{"ready": {}, "serving": {}, "terminating": {}}} {hints}}}"#,
                    words[0],
                    words[2],
                    has('r'),
                    has('s'),
                    has('t')
                )
            })
            .collect();
        items.push(format!(
            r#"{{"kind": "EndpointSlice", "metadata": {{"name": "web-{i}", "namespace": "default", "labels":
                {{"kubernetes.io/service-name": "web"}}}}, "addressType": "IPv4",
                "ports": [{{"name": "", "port": 8080}}], "endpoints": [{}]}}"#,
            endpoints.join(",")
        ));
    }
    import(&format!(r#"{{"kind": "List", "items": [{}]}}"#, items.join(","))).unwrap()
}

fn show(list: &[Endpoint]) -> String {
    let shown: Vec<String> = list.iter().map(|endpoint| endpoint.addr.ip().to_string()).collect();
    shown.join(" ")
}

const LOCAL: &str = r#", "externalTrafficPolicy": "Local""#;
const BOTH_LOCAL: &str = r#", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local""#;

#[test]
fn any_change_of_a_slice_is_a_change_even_if_no_port_of_the_service_has_it() {
    let text = |port: &str, address: &str| {
        format!(
            r#"{{"kind":"List","items":[
            {{"kind":"Service","metadata":{{"namespace":"n","name":"s"}},
             "spec":{{"clusterIP":"10.96.0.1","ports":[{{"name":"http","port":80}}]}}}},
            {{"kind":"EndpointSlice","metadata":{{"namespace":"n","name":"s-1",
             "labels":{{"kubernetes.io/service-name":"s"}}}},"addressType":"IPv4",
             "ports":[{{"name":"{port}","port":8080}}],"endpoints":[{{"addresses":["{address}"]}}]}}]}}"#
        )
    };
    let seen = |port, address| resolve(&import(&text(port, address)).unwrap(), Family::Ipv4, "");
    let (one, other) = (seen("other", "10.0.0.1"), seen("other", "10.0.0.2"));
    assert_eq!(one.ports[0].endpoints, other.ports[0].endpoints, "no port of the Service has them");
    assert_ne!(one.ports[0].revision, other.ports[0].revision);
    assert_ne!(one.slices_revision, other.slices_revision);
    assert_eq!(one.ports, seen("other", "10.0.0.1").ports);
}

#[test]
fn endpoints_fall_into_the_lists_that_kube_proxy_makes() {
    // (policies, endpoints, cluster, local, reachable, whether there are any)
    let rows = [
        ("", "10.0.0.2 rs a\n10.0.0.10 rs b", "10.0.0.10 10.0.0.2", "", "10.0.0.10 10.0.0.2", true),
        ("", "10.0.0.2 s a\n10.0.0.3 - b", "", "", "", false),
        ("", "10.0.0.2 rs a\n10.0.0.3 st b", "10.0.0.2", "", "10.0.0.2", true),
        ("", "10.0.0.2 st a\n10.0.0.3 t b", "10.0.0.2", "", "10.0.0.2", true),
        (LOCAL, "10.0.0.2 rs a\n10.0.0.3 rs b", "10.0.0.2 10.0.0.3", "10.0.0.2", "10.0.0.2 10.0.0.3", true),
        (LOCAL, "10.0.0.2 st a\n10.0.0.3 rs b", "10.0.0.3", "10.0.0.2", "10.0.0.2 10.0.0.3", true),
        (BOTH_LOCAL, "10.0.0.2 rs b", "10.0.0.2", "", "10.0.0.2", true),
        // Hints count when all ready endpoints have them and one is for this place.
        ("", "10.0.0.2 rs a forZones=z1\n10.0.0.3 rs b forZones=z2", "10.0.0.2", "", "10.0.0.2", true),
        ("", "10.0.0.2 rs a forZones=z1\n10.0.0.3 rs b", "10.0.0.2 10.0.0.3", "", "10.0.0.2 10.0.0.3", true),
        (
            "",
            "10.0.0.2 rs a forZones=z3\n10.0.0.3 rs b forZones=z2",
            "10.0.0.2 10.0.0.3",
            "",
            "10.0.0.2 10.0.0.3",
            true,
        ),
        ("", "10.0.0.2 rs a forNodes=b\n10.0.0.3 rs b forNodes=a", "10.0.0.3", "", "10.0.0.3", true),
        (
            LOCAL,
            "10.0.0.2 rs a forNodes=b\n10.0.0.3 rs b forNodes=a",
            "10.0.0.3",
            "10.0.0.2",
            "10.0.0.2 10.0.0.3",
            true,
        ),
    ];
    for (spec, endpoints, cluster, local, reachable, has_any) in rows {
        let resolved = resolve(&web(spec, &[endpoints]), Family::Ipv4, "a");
        let lists = &resolved.ports[0].endpoints;
        let got = (show(&lists.cluster), show(&lists.local), show(&lists.reachable), lists.has_any);
        let want = (cluster.to_owned(), local.to_owned(), reachable.to_owned(), has_any);
        assert_eq!(got, want, "{spec} {endpoints:?}");
    }
}

#[test]
fn a_gate_that_is_off_takes_away_what_it_is_for_and_nothing_else() {
    let mut items = web(
        r#", "externalIPs": ["192.0.2.1"]"#,
        &["10.0.0.2 rs a forNodes=b\n10.0.0.3 rs b forNodes=a", "10.0.0.4 rs a forZones=z1"],
    );
    items.service_cidrs = vec!["10.96.0.0/12".parse().unwrap()];
    let on = FeatureGates::default();
    let seen = |gates: FeatureGates| {
        let mut objects = items.clone();
        gates::apply(&mut objects, gates);
        let hints = |of: fn(&Hints) -> usize| -> usize {
            let endpoints = objects.slices.iter().flat_map(|slice| &slice.endpoints);
            endpoints.filter_map(|endpoint| endpoint.hints.as_deref()).map(of).sum()
        };
        let (nodes, zones) = (hints(|hints| hints.nodes.len()), hints(|hints| hints.zones.len()));
        (objects.services[0].external_ips.len(), nodes, zones, objects.service_cidrs.len())
    };
    assert_eq!(seen(on), (1, 2, 1, 1));
    assert_eq!(seen(FeatureGates { external_ips: false, ..on }), (0, 2, 1, 1));
    assert_eq!(seen(FeatureGates { same_node_hints: false, ..on }), (1, 0, 1, 1));
    assert_eq!(seen(FeatureGates { service_cidrs: false, ..on }), (1, 2, 1, 0));

    let mut objects = web("", &["10.0.0.2 rs a forNodes=b\n10.0.0.3 rs b forNodes=a"]);
    gates::apply(&mut objects, FeatureGates { same_node_hints: false, ..on });
    let resolved = resolve(&objects, Family::Ipv4, "a");
    assert_eq!(show(&resolved.ports[0].endpoints.cluster), "10.0.0.2 10.0.0.3");
}

#[test]
fn a_terminating_copy_of_an_endpoint_never_replaces_another() {
    for slices in [["10.0.0.2 rs a", "10.0.0.2 st a"], ["10.0.0.2 st a", "10.0.0.2 rs a"]] {
        let resolved = resolve(&web(LOCAL, &slices), Family::Ipv4, "a");
        let lists = &resolved.ports[0].endpoints;
        assert_eq!((show(&lists.cluster), lists.cluster.len()), ("10.0.0.2".to_owned(), 1), "{slices:?}");
    }
}

#[test]
fn a_family_that_a_service_does_not_have_has_no_port() {
    assert_eq!(resolve(&web("", &["10.0.0.2 rs a"]), Family::Ipv6, "a").ports, []);
}

fn cluster(nodes: u32, services: u32, endpoints: EndpointLaw) -> ClusterConfig {
    ClusterConfig {
        nodes,
        services,
        endpoints,
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        objects: None,
    }
}

#[test]
fn a_generated_cluster_has_its_services_in_the_order_of_their_addresses() {
    let config = cluster(3, 4, EndpointLaw::Fixed(2));
    let made = generate(&config, 1).unwrap();
    let resolved = resolve(&made.objects, Family::Ipv4, "node-1");
    let shown: Vec<String> = resolved
        .ports
        .iter()
        .map(|p| format!("{} {}:{} -> {}", p.full_name(), p.cluster_ip, p.port, show(&p.endpoints.reachable)))
        .collect();
    assert_eq!(
        shown,
        [
            "ns-0/svc-00000:http 10.96.0.1:80 -> 10.244.0.2 10.244.1.2",
            "ns-1/svc-00001:http 10.96.0.2:80 -> 10.244.0.3 10.244.2.2",
            "ns-2/svc-00002:http 10.96.0.3:80 -> 10.244.1.3 10.244.2.3",
            "ns-3/svc-00003:http 10.96.0.4:80 -> 10.244.0.4 10.244.1.4",
        ]
    );
    let local: Vec<bool> = resolved.ports.iter().map(|p| p.endpoints.reachable[0].is_local).collect();
    assert_eq!(local, [false, false, true, false]);
    assert_eq!(resolved.node_ips, ["192.168.0.3".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn a_mix_gives_every_part_its_share_of_services() {
    let mix = [("small", 5, 0.5), ("medium", 30, 0.25), ("big", 250, 0.25)];
    let mix = mix.iter().map(|&(name, n, share)| (name.to_owned(), n, share)).collect();
    let config = cluster(10, 10, EndpointLaw::Mix(mix));
    // 5 of 5, then the remainders of 2.5 and 2.5: the first named gets the one that is left.
    assert_eq!(total_endpoints(&config).unwrap(), 5 * 5 + 3 * 30 + 2 * 250);
    let made = generate(&config, 7).unwrap();
    let made_total: usize = made.objects.slices.iter().map(|slice| slice.endpoints.len()).sum();
    assert_eq!(made_total as u64, total_endpoints(&config).unwrap());
    assert!(made.objects.slices.iter().all(|slice| slice.endpoints.len() <= 100));
    assert_eq!(generate(&config, 7).unwrap().objects, made.objects);
    assert_ne!(generate(&config, 8).unwrap().objects, made.objects);
}

#[test]
fn a_cluster_that_does_not_fit_is_an_error() {
    let few = EndpointLaw::Fixed(1);
    assert_eq!(fits(&cluster(0, 1, few.clone())), Err(GenerateError::NoNodes));
    let mut small = cluster(1, 20, few.clone());
    small.service_cidr = "10.96.0.0/28".parse().unwrap();
    assert!(matches!(fits(&small), Err(GenerateError::ServiceCidrTooSmall { room: 14, services: 20, .. })));
    let many = cluster(300, 1, few.clone());
    assert!(matches!(
        fits(&many),
        Err(GenerateError::ClusterCidrTooSmall { node_prefix: 24, needed: 15, .. })
    ));
    let mut roomy = many;
    roomy.cluster_cidr = "10.0.0.0/15".parse().unwrap();
    assert_eq!(fits(&roomy), Ok(()));
    let mut overlapping = cluster(1, 1, few.clone());
    overlapping.cluster_cidr = "10.96.0.0/16".parse().unwrap();
    assert!(matches!(fits(&overlapping), Err(GenerateError::Overlap { .. })));
    let mut families = cluster(1, 1, few);
    families.cluster_cidr = "fd00:244::/48".parse().unwrap();
    assert!(matches!(fits(&families), Err(GenerateError::Families { .. })));
    let huge = cluster(u32::MAX, u32::MAX, EndpointLaw::Fixed(u32::MAX));
    assert!(fits(&huge).is_err());
    let shares = EndpointLaw::Mix(vec![("all".to_owned(), 1, f64::NAN)]);
    assert!(matches!(fits(&cluster(1, 1, shares)), Err(GenerateError::Shares { .. })));
}

#[test]
fn an_ipv6_cluster_is_generated_too() {
    let mut config = cluster(2, 2, EndpointLaw::Fixed(1));
    config.service_cidr = "fd00:96::/112".parse().unwrap();
    config.cluster_cidr = "fd00:244::/64".parse().unwrap();
    let made = generate(&config, 1).unwrap();
    let resolved = resolve(&made.objects, Family::Ipv6, "node-0");
    assert_eq!(show(&resolved.ports[1].endpoints.reachable), "fd00:244::102");
}

#[test]
fn endpoints_of_this_node_that_no_rule_sends_to_are_known_apart() {
    let slice = "10.244.0.1 rs a\n10.244.0.2 - a\n10.244.0.3 st a\n10.244.0.4 - b";
    let resolved = resolve(&web("", &[slice]), Family::Ipv4, "a");
    let lists = &resolved.ports[0].endpoints;
    assert_eq!(show(&lists.reachable), "10.244.0.1");
    let idle: Vec<String> = lists.idle_local.iter().map(|addr| addr.ip().to_string()).collect();
    assert_eq!(idle, ["10.244.0.2", "10.244.0.3"]);
}

/// Objects with endpoint `address` in place of another, in the slice that had that one.
fn with_replaced(objects: &Objects, old: std::net::IpAddr, new: std::net::IpAddr, node: &str) -> Objects {
    let mut objects = objects.clone();
    let all = objects.slices.iter_mut().flat_map(|slice| &mut slice.endpoints);
    let endpoint = all.into_iter().find(|endpoint| endpoint.address == old).expect("it is there");
    endpoint.address = new;
    endpoint.node = Some(node.into());
    objects
}

proptest! {
    #[test]
    fn replacing_an_endpoint_in_place_gives_what_resolving_anew_gives(
        changes in prop::collection::vec((0usize..5, 0usize..12, 0usize..3), 1..20),
        internal_local: bool,
    ) {
        let mut made = generate(&cluster(3, 5, EndpointLaw::Fixed(12)), 3).unwrap();
        made.objects.services.iter_mut().for_each(|service| service.internal_local = internal_local);
        let mut resolved: ProxyObjects = resolve(&made.objects, Family::Ipv4, "node-0");
        for (port, endpoint, node) in changes {
            let endpoints = resolved.ports[port].endpoints.reachable.len();
            let address = made.addresses.allocate(node).unwrap();
            let addr = std::net::SocketAddr::new(address, 8080);
            match resolved.replace_endpoint(port, endpoint, addr, node == 0) {
                Ok(old) => {
                    let name = format!("node-{node}");
                    made.objects = with_replaced(&made.objects, old.addr.ip(), address, &name);
                    made.addresses.release(old.addr.ip());
                }
                Err(error) => {
                    prop_assert!(endpoint >= endpoints);
                    let no_endpoint = matches!(error, ChangeError::NoEndpoint { .. });
                    prop_assert!(no_endpoint, "{error}");
                    continue;
                }
            }
            prop_assert_eq!(&resolved.ports, &resolve(&made.objects, Family::Ipv4, "node-0").ports);
        }
    }
}
