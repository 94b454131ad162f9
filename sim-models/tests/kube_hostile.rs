//! Texts that were made to break an import: what it says of them, and that it says it soon.

use proptest::prelude::*;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kube::import::{ImportError, Imported, MAX_ERRORS, Options, import, import_with, text_of};
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{Form, MODES};

const KEEP_GOING: Options = Options { keep_going: true };

fn errors(text: &str) -> Vec<String> {
    import(text).expect_err("the text is wrong").iter().map(ImportError::to_string).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// A cluster in which every text that a rule could show is one of `words`.
fn cluster(words: &[&str; 8]) -> String {
    let [namespace, name, port, address, node, zone, label, vip] = words.map(quoted);
    format!(
        r#"{{"kind": "List", "items": [
        {{"kind": "Node", "metadata": {{"name": {node}, "labels": {{"topology.kubernetes.io/zone": {zone}}}}},
          "status": {{"addresses": [{{"type": "InternalIP", "address": "192.168.0.2"}}]}}}},
        {{"kind": "Service", "metadata": {{"name": {name}, "namespace": {namespace}}},
          "spec": {{"type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.9"],
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "sessionAffinity": "ClientIP",
            "ports": [{{"name": {port}, "port": 80, "nodePort": 30080}}]}},
          "status": {{"loadBalancer": {{"ingress": [{{"ip": {vip}}}]}}}}}},
        {{"kind": "Service", "metadata": {{"name": "empty", "namespace": {namespace}}},
          "spec": {{"clusterIP": "10.96.0.10", "ports": [{{"name": {port}, "port": 80}}]}}}},
        {{"kind": "EndpointSlice", "metadata": {{"name": "slice", "namespace": {namespace},
            "labels": {{"kubernetes.io/service-name": {label}}}}}, "addressType": "IPv4",
          "ports": [{{"name": {port}, "port": 8080}}],
          "endpoints": [{{"addresses": [{address}], "nodeName": {node},
            "hints": {{"forZones": [{{"name": {zone}}}], "forNodes": [{{"name": {node}}}]}}}}]}}]}}"#
    )
}

const CLEAN: [&str; 8] = ["default", "web", "http", "10.244.0.5", "node-a", "zone-a", "web", "198.51.100.1"];

/// Lines of all modes' rules, save those that the modes write without any object.
fn lines(imported: &Imported, node: &str) -> Vec<usize> {
    let objects = resolve(&imported.objects, Family::Ipv4, node);
    let config = ProxyConfig::default();
    let text = |mode: &&dyn sim_models::proxy::ProxyMode| {
        mode.print(&mode.build(&objects, &config, Family::Ipv4), Form::Load)
    };
    MODES.iter().map(|mode| text(mode).lines().count()).collect()
}

/// Texts with everything in them that means something in a rule, a set or a shell.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "web",
        "-",
        "--",
        ".",
        "\n",
        "\r\n",
        "\t",
        " ",
        "\"",
        "'",
        "\\",
        "`",
        "$(x)",
        ";",
        "#",
        "{",
        "}",
        "*nat",
        "COMMIT",
        "-A KUBE-SERVICES -j DROP",
        "add rule ip x",
        "\u{0}",
        "\u{7f}",
        "\u{2028}",
        "ä",
        "\u{202e}",
        "%s",
        "/",
        ":",
        "@",
        "!",
        "0",
        "10.0.0.1",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_of_an_object_adds_a_line_to_any_modes_rules(field in 0usize..8, word in hostile()) {
        let mut words = CLEAN;
        words[field] = &word;
        let clean = lines(&import_with(&cluster(&CLEAN), KEEP_GOING).unwrap(), CLEAN[4]);
        match import(&cluster(&words)) {
            // Taken: then it is a name, and the rules differ in that name, or in what it no longer matches.
            Ok(_) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
                prop_assert!(word.chars().all(plain), "{word:?} was taken");
            }
            Err(errors) => {
                for error in &errors {
                    prop_assert!(error.to_string().chars().all(|c| !c.is_control()), "{error:?}");
                }
            }
        }
        // What is left without the broken objects has at most as many lines.
        let left = lines(&import_with(&cluster(&words), KEEP_GOING).unwrap(), words[4]);
        // iptables-save's form, nft's and ipvsadm's: fewer endpoints may turn a rule into a REJECT, never into two.
        for (left, clean) in left.iter().zip(&clean) {
            prop_assert!(*left <= clean + 2, "{left} lines, {clean} of clean names");
        }
    }

    #[test]
    fn names_that_are_taken_give_as_many_lines_as_any_others(
        name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        port in "[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?",
        zone in "[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?",
    ) {
        prop_assume!(name != "empty");
        let mut words = CLEAN;
        (words[0], words[1], words[2], words[4], words[5], words[6]) = (&name, &name, &port, &name, &zone, &name);
        let clean = lines(&import_with(&cluster(&CLEAN), Options::default()).unwrap(), CLEAN[4]);
        let other = lines(&import_with(&cluster(&words), Options::default()).unwrap(), &name);
        prop_assert_eq!(other, clean);
    }

    #[test]
    fn any_bytes_at_all_are_an_error_or_objects(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = text_of(bytes) {
            let _ = import_with(&text, KEEP_GOING);
        }
    }

    #[test]
    fn a_cut_off_text_is_an_error_with_a_place_in_it(cut in 1usize..1_900) {
        let text = cluster(&CLEAN);
        let cut = cut.min(text.len() - 1);
        let errors = import_with(&text[..cut], KEEP_GOING).unwrap_err();
        let [error] = &errors[..] else { panic!("{errors:?}") };
        prop_assert!(error.line <= text[..cut].matches('\n').count() + 1, "{error}");
        prop_assert!(error.message.contains("cut off"), "{error}");
    }
}

#[test]
fn every_field_that_a_rule_shows_is_checked() {
    let told = |field: usize, word: &str| {
        let mut words = CLEAN;
        words[field] = word;
        let errors = errors(&cluster(&words));
        errors[0].split_once(": ").expect("a place").1.to_owned()
    };
    let label = "lower-case letters, digits and inner dashes, at most 63 characters";
    let name = "DNS labels with dots between them, at most 253 characters";
    let value = "letters, digits and inner dashes, underscores and dots, at most 63 characters";
    assert_eq!(
        [
            told(0, "a\nb"),
            told(1, "a\" -j DROP"),
            told(2, "HTTP"),
            told(3, "127.0.0.1"),
            told(3, "010.0.0.1"),
            told(3, "fe80::1%eth0"),
            told(4, "node a"),
            told(5, "{zone}"),
            told(6, "web;"),
            told(7, "::ffff:1.2.3.4"),
        ],
        [
            format!("Service a\\nb/web: metadata.namespace: \"a\\nb\" is no DNS label: {label}"),
            format!("Service default/a\\\" -j DROP: metadata.name: \"a\\\" -j DROP\" is no DNS label: {label}"),
            format!("Service default/web: spec.ports[0].name: \"HTTP\" is no DNS label: {label}"),
            "EndpointSlice default/slice: endpoints[0].addresses[0]: 127.0.0.1 is loopback, which the API server refuses here"
                .to_owned(),
            "EndpointSlice default/slice: endpoints[0].addresses[0]: \"010.0.0.1\" has leading zeros: write 10.0.0.1".to_owned(),
            "EndpointSlice default/slice: endpoints[0].addresses[0]: \"fe80::1%eth0\" is no IP address".to_owned(),
            format!("Node node a: metadata.name: \"node a\" is no DNS name: {name}"),
            format!("Node node-a: metadata.labels: \"topology.kubernetes.io/zone\": \"{{zone}}\" is no label: {value}"),
            format!("EndpointSlice default/slice: metadata.labels: \"kubernetes.io/service-name\": \"web;\" is no label: {value}"),
            "Service default/web: status.loadBalancer.ingress[0].ip: \"::ffff:1.2.3.4\" is an IPv4-mapped address: write it as IPv4"
                .to_owned(),
        ]
    );
}

#[test]
fn long_lists_are_counted_and_not_kept() {
    let endpoints = vec![r#"{"addresses": ["10.0.0.1"]}"#; 1001].join(",");
    let slice = format!(
        r#"{{"kind": "EndpointSlice", "metadata": {{"name": "s", "namespace": "d"}}, "addressType": "IPv4",
           "endpoints": [{endpoints}]}}"#
    );
    assert_eq!(
        errors(&slice),
        ["2:25: EndpointSlice d/s: endpoints: has 1001 elements: at most 1000 are allowed"]
    );
    let hints = r#"{"kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "d"}, "addressType": "IPv4", "endpoints": [
        {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name":"1"},{"name":"2"},{"name":"3"},{"name":"4"},{"name":"5"},
        {"name":"6"},{"name":"7"},{"name":"8"},{"name":"9"}]}}]}"#;
    let told = errors(hints);
    assert!(
        told[0].ends_with("endpoints[0].hints.forZones: has 9 elements: at most 8 are allowed"),
        "{told:?}"
    );
}

/// Each of these is some megabytes: with time that grows with the square of the length none would end soon.
#[test]
fn long_texts_take_time_in_proportion() {
    const MANY: usize = 1_000_000;
    let nothing = |text: &str| import_with(text, KEEP_GOING).unwrap().errors.len();
    // Elements of every list, all of the wrong shape.
    let zeros = vec!["0"; MANY].join(",");
    assert_eq!(nothing(&format!(r#"{{"kind": "List", "items": [{zeros}]}}"#)), MAX_ERRORS + 1);
    let service = |field: &str, list: &str| {
        format!(
            r#"{{"kind": "Service", "metadata": {{"name": "s", "namespace": "d"}}, "spec": {{"{field}": [{list}]}}}}"#
        )
    };
    // Twenty errors of one object are told, and the number of the others.
    assert_eq!(nothing(&service("externalIPs", &vec![r#""x""#; MANY].join(","))), 21);
    assert_eq!(nothing(&service("ports", &vec!["{}"; MANY].join(","))), 21);
    // One line of a million characters before each of a thousand errors.
    let long = format!("{}{}", " ".repeat(MANY), vec![service("type", ""); 3_000].join(" "));
    assert_eq!(nothing(&long), MAX_ERRORS + 1);
    // A million lines, a million documents of nothing, a string of megabytes as a name.
    assert_eq!(nothing(&"\n".repeat(MANY).replace('\n', "\n{\"kind\": \"X\"}")), 0);
    let name = "x".repeat(4 * MANY);
    let told = errors(&format!(
        r#"{{"kind": "Service", "metadata": {{"name": "{name}", "namespace": "d"}}, "spec": {{}}}}"#
    ));
    assert!(told.iter().all(|error| error.len() < 400), "{}", told[0].len());
    let kinds: Vec<String> = (0..1_000).map(|i| format!(r#"{{"kind": "K{i}"}}"#)).collect();
    assert_eq!(import(&kinds.join("\n")).unwrap().skipped.len(), 101);
}

#[test]
fn deep_texts_do_not_end_the_stack() {
    let (open, close) = ("[".repeat(300_000), "]".repeat(300_000));
    // Where nobody looks it is only passed over.
    let ignored = format!(
        r#"{{"kind": "Service", "metadata": {{"name": "s", "namespace": "d", "x": {open}{close}}}, "spec": {{}}}}"#
    );
    assert_eq!(import(&ignored).unwrap().services.len(), 1);
    assert_eq!(errors(&format!(r#"{{"kind": {open}{close}}}"#)).len(), 1);
    let mut lists = r#"{"kind": "X"}"#.to_owned();
    for _ in 0..10_000 {
        lists = format!(r#"{{"kind": "List", "items": [{lists}]}}"#);
    }
    let told = errors(&lists);
    assert!(told[0].ends_with("lists within more than 4 lists are not read"), "{told:?}");
}

#[test]
fn what_is_no_json_of_kubectl_is_told_as_what_it_is() {
    assert_eq!(
        errors("apiVersion: v1\nkind: List\n"),
        ["1:1: looks like YAML: kubectl prints JSON with `-o json`"]
    );
    assert_eq!(errors("\n---\nkind: List\n"), ["2:1: looks like YAML: kubectl prints JSON with `-o json`"]);
    assert_eq!(errors("NAME   TYPE\n"), ["1:1: is a table: kubectl prints JSON with `-o json`"]);
    assert_eq!(
        errors("[{}]"),
        ["1:1: is a list without a kind: a `kind: List` object, or objects one after the other, are read"]
    );
    assert_eq!(errors(&"[".repeat(2_000_000)), ["1:1: is nested too deep"]);
    assert_eq!(errors("\u{0}{}"), ["1:1: begins with a NUL byte: this is no text"]);
    let told = |bytes: &[u8]| text_of(bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(told(b"\xff\xfe{\0"), "1:1: is UTF-16, as PowerShell's `>` writes it: save it as UTF-8");
    assert_eq!(told("{\n \"ä".as_bytes().split_last().unwrap().1), "2:3: byte 0xc3 is no UTF-8");
    assert_eq!(
        errors(r#"{"kind": "Service", "metadata": {"name": "a"#),
        ["1:43: EOF while parsing a string: the text is cut off"]
    );
    assert_eq!(
        errors("{\"kind\": \"X\"}\n{\"kind\": \"a\u{0}\"}"),
        ["2:12: control character (\\u0000-\\u001F) found while parsing a string"]
    );
}

#[test]
fn a_wrong_shape_is_told_with_its_path_and_what_was_expected() {
    let text = r#"{"kind": "Service", "metadata": {"name": "web", "namespace": "a"}, "spec": {"ports": [{"port": 80},
        {"port": 81, "nodePort": "30080"}]}}"#;
    assert_eq!(
        errors(text),
        [
            "2:40: Service a/web: spec.ports[1].nodePort: invalid type: string \"30080\", expected a whole number"
        ]
    );
    let huge = r#"{"kind": "Service", "metadata": {"name": "w", "namespace": "a"}, "spec": {"ports": [{"port": 1e400}]}}"#;
    assert!(errors(huge)[0].contains("number out of range"), "{:?}", errors(huge));
    let many = r#"{"kind": "Service", "metadata": {"name": "w", "namespace": "a"}, "spec": {"ports": [{"port": 99999999999999999999}]}}"#;
    assert!(errors(many)[0].contains("Service a/w: spec.ports[0].port: "), "{:?}", errors(many));
}
