//! What an import takes, what it refuses, and where it says the fault is.

use proptest::prelude::*;
use sim_models::kube::import::{ImportError, Options, import, import_with};
use std::fmt::Write as _;
use std::path::Path;

fn service(name: &str, spec: &str) -> String {
    format!(
        r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "{name}", "namespace": "default"}}, "spec": {{{spec}}}}}"#
    )
}

fn list(items: &[String]) -> String {
    format!("{{\n\"kind\": \"List\",\n\"items\": [\n{}\n]}}", items.join(",\n"))
}

fn errors(text: &str) -> Vec<String> {
    import(text).expect_err("the text is wrong").iter().map(ImportError::to_string).collect()
}

#[test]
fn names_that_differ_only_at_their_ends_are_different_and_the_same_name_is_told_at_any_length() {
    for length in [3, 64, 65, 70, 253] {
        let slice = |last: char, namespace: &str| {
            let name = format!("{}{last}", "s".repeat(length - 1));
            format!(
                r#"{{"kind": "EndpointSlice", "metadata": {{"name": "{name}", "namespace": "{namespace}"}}, "addressType": "IPv4", "endpoints": []}}"#
            )
        };
        let items = [slice('a', "default"), slice('b', "default"), slice('a', "other")];
        let objects = import(&list(&items)).unwrap_or_else(|errors| panic!("{length}: {}", errors[0]));
        assert_eq!(objects.slices.len(), 3, "{length}");
        let again = list(&[items.as_slice(), &[slice('b', "default")]].concat());
        let told = errors(&again);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("7:") && told[0].ends_with("metadata.name: is there twice"),
            "{}",
            told[0]
        );
    }
}

#[test]
fn every_error_of_every_item_is_told_with_its_place() {
    let text = list(&[
        service("Web", r#""clusterIP": "10.96.0.01", "ports": [{"port": 70000}]"#),
        service("two", r#""clusterIP": "10.96.0.2", "ports": [{"port": 80}, {"name": "b", "port": 0, "protocol": "ICMP"}]"#),
        service("two", r#""clusterIP": "None", "type": "Loadbalancer""#),
        service("ä", r#""clusterIP": "None", "externalIPs": ["x"], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}"#),
        r#"{"kind": "Node", "metadata": {}, "spec": {"podCIDRs": ["10.0.0.0/33"]}}"#.to_owned(),
        r#"{"kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "default"}, "addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}, {}]}"#.to_owned(),
        r#"{"kind": "Pod", "metadata": {"name": 7}}"#.to_owned(),
        r#"{"metadata": {"name": "nothing"}}"#.to_owned(),
    ]);
    // Each error with what stands at its place, which is what a caret would point at.
    let lines: Vec<&str> = text.lines().collect();
    let mut shown = String::new();
    for error in import(&text).unwrap_err() {
        let there: String = lines[error.line - 1].chars().skip(error.column - 1).take(12).collect();
        let label = ": lower-case letters, digits and inner dashes, at most 63 characters";
        let told = error.to_string().replace(label, "");
        let (_, message) = told.split_once(' ').unwrap();
        writeln!(shown, "{}: {there:12} | {message}", error.line).unwrap();
    }
    assert_eq!(
        shown,
        r#"4: "Web", "name | Service default/Web: metadata.name: "Web" is no DNS label
4: "10.96.0.01" | Service default/Web: spec.clusterIP: "10.96.0.01" has leading zeros: write 10.96.0.1
4: 70000}]}},   | Service default/Web: spec.ports[0].port: 70000 is not in 1-65535
5: {"port": 80} | Service default/two: spec.ports[0].name: is missing: a Service with several ports names each
5: 0, "protocol | Service default/two: spec.ports[1].port: 0 is not in 1-65535
5: "ICMP"}]}},  | Service default/two: spec.ports[1].protocol: "ICMP" is none of TCP, UDP, SCTP
6: "two", "name | Service default/two: metadata.name: is there twice
6: "Loadbalance | Service default/two: spec.type: "Loadbalancer" is none of ClusterIP, NodePort, LoadBalancer, ExternalName
7: "ä", "namesp | Service default/ä: metadata.name: "ä" is no DNS label
7: "x"], "sessi | Service default/ä: spec.externalIPs[0]: "x" is no IP address
7: 0}}}},       | Service default/ä: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not in 1-86400
8: {}, "spec":  | Node, item 4: metadata.name: is missing
8: "10.0.0.0/33 | Node, item 4: spec.podCIDRs[0]: /33 is no prefix length of 10.0.0.0: 0-32
9: "fd00::1"]}, | EndpointSlice default/s: endpoints[0].addresses[0]: fd00::1 is not of the slice's addressType
9: {}]},        | EndpointSlice default/s: endpoints[1].addresses: is empty: an endpoint has an address
10: 7}},         | Pod, item 6: metadata.name: invalid type: integer `7`, expected a string
11: {"metadata": | item 7: has no kind
"#
    );
}

#[test]
fn text_that_is_no_json_is_an_error_with_its_place() {
    assert_eq!(errors("{\n  \"items\": [,]\n}"), ["2:13: expected value"]);
    assert_eq!(errors(""), ["1:1: there is nothing in it"]);
    assert_eq!(errors("[1, 2]").len(), 1);
    let deep = format!("{{\"kind\": \"List\", \"items\": [{}", "[".repeat(200_000));
    assert_eq!(errors(&deep).len(), 1);
}

#[test]
fn an_import_gives_up_after_a_thousand_errors() {
    let items: Vec<String> = (0..3_000).map(|i| service(&format!("s{i}"), r#""type": "x""#)).collect();
    let errors = errors(&list(&items));
    assert_eq!(errors.len(), 1001);
    assert_eq!(errors[1000], "1003:1: gave up after 1000 errors");
}

#[test]
fn other_kinds_are_counted_and_other_fields_ignored() {
    let text = list(&[
        r#"{"kind": "Deployment", "spec": {"ports": "not a Service's"}}"#.to_owned(),
        r#"{"kind": "Service", "apiVersion": "serving.knative.dev/v1", "spec": 7}"#.to_owned(),
        service(
            "web",
            r#""clusterIP": "10.96.0.2", "ports": [{"port": 80, "targetPort": "http"}], "unknown": [{}]"#,
        ),
    ]);
    let objects = import(&text).unwrap();
    assert_eq!(objects.services.len(), 1);
    let skipped: Vec<(&str, u64)> = objects.skipped.iter().map(|(kind, &n)| (kind.as_str(), n)).collect();
    assert_eq!(skipped, [("Deployment", 1), ("Service", 1)]);
}

#[test]
fn a_typed_list_and_a_single_object_are_read_too() {
    let item = r#"{"metadata": {"name": "web", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.2"}}"#;
    let typed = format!(r#"{{"kind": "ServiceList", "items": [{item}]}}"#);
    assert_eq!(import(&typed).unwrap().services.len(), 1);
    assert_eq!(import(&service("web", "")).unwrap().services.len(), 1);
    assert_eq!(import(r#"{"kind": "List", "items": null}"#).unwrap(), Default::default());
}

#[test]
fn null_lists_of_an_empty_slice_are_empty() {
    let text = r#"{"kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "d", "labels": null},
        "addressType": "IPv4", "endpoints": null, "ports": null}"#;
    assert_eq!(import(text).unwrap().slices[0].endpoints, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_change_of_a_few_bytes_makes_the_import_panic(
        cut in 0usize..14_000,
        insert in prop::sample::select(vec!["", "\"", "}", "[", "-1", "null", "1e999", "\\u0000", "ä", ","]),
        remove in 0usize..40,
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy/01-clusterip-basic/input.json");
        let text = std::fs::read_to_string(path).unwrap();
        let cut = cut.min(text.len() - remove);
        let changed = format!("{}{insert}{}", &text[..cut], &text[cut + remove..]);
        if let Err(errors) = import(&changed) {
            prop_assert!(!errors.is_empty() && errors.iter().all(|e| e.line > 0 && e.column > 0));
        }
    }
}

#[test]
fn keeping_going_leaves_broken_objects_out_and_nothing_else() {
    let text = list(&[
        service("one", r#""clusterIP": "10.96.0.1", "ports": [{"port": 80}]"#),
        service("two", r#""clusterIP": "10.96.0.2", "ports": [{"port": 0}]"#),
        r#"{"kind": "Service", "metadata": {"name": 7}}"#.to_owned(),
        service("three", r#""clusterIP": "10.96.0.3", "ports": [{"port": 80}]"#),
    ]);
    let imported = import_with(&text, Options { keep_going: true }).unwrap();
    let names: Vec<&str> = imported.objects.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["one", "three"]);
    let told: Vec<&str> = imported.errors.iter().map(|error| error.object.as_str()).collect();
    assert_eq!(told, ["Service default/two", "Service, item 2"]);
    assert_eq!(import_with(&text, Options::default()).unwrap_err(), imported.errors);
}
