//! KubeProxyConfiguration as people and kubeadm write it, as kube-proxy was run with it here, wrong, and hostile.

use super::*;
use crate::diagnostic::Style;
use crate::tests::known;
use sim_models::config::{DetectLocal, FeatureGates, NodePortAddresses};
use std::fs;
use std::path::Path;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[track_caller]
fn read(text: &str) -> KubeProxyConfiguration {
    KubeProxyConfiguration::parse("kube-proxy.yaml", text, &known())
        .unwrap_or_else(|wrong| panic!("{}", wrong.render(Style::Plain)))
}

#[track_caller]
fn with(body: &str) -> KubeProxyConfiguration {
    read(&format!("{HEAD}{body}"))
}

/// What is told of a wrong text.
#[track_caller]
fn refused(text: &str) -> String {
    match KubeProxyConfiguration::parse("kube-proxy.yaml", text, &known()) {
        Ok(read) => panic!("was read: {read:?}\n{text}"),
        Err(wrong) => wrong.render(Style::Plain),
    }
}

#[track_caller]
fn told(body: &str, parts: &[&str]) {
    let text = refused(&format!("{HEAD}{body}"));
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// What kubeadm writes into the ConfigMap of a new cluster.
const KUBEADM: &str = include_str!("kubeadm.yaml");

#[test]
fn a_configuration_that_says_nothing_is_the_default_of_every_mode() {
    let config = with("");
    assert_eq!((config.mode.as_str(), config.node.as_deref()), ("iptables", None));
    for mode in ["iptables", "ipvs", "nftables"] {
        let min_sync_period = ProxyConfig::default_min_sync_period(mode);
        let want = ProxyConfig { mode: mode.into(), min_sync_period, ..ProxyConfig::default() };
        assert_eq!(config.proxy(mode), want);
    }
}

#[test]
fn empty_texts_zero_times_and_nulls_are_defaults_as_kubeadm_writes_them() {
    let config = read(KUBEADM);
    let want =
        ProxyConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..ProxyConfig::default() };
    assert_eq!(config.proxy("iptables"), want);
    assert_eq!(config.primary_address, None);
}

#[test]
fn the_configmap_that_kubectl_prints_is_read_through() {
    let indented: String = KUBEADM.lines().map(|line| format!("    {line}\n")).collect();
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-proxy\ndata:\n  kubeconfig.conf: |-\n    kind: Config\n  config.conf: |-\n{indented}"
    );
    assert_eq!(read(&map), read(KUBEADM));
    let as_json = serde_json::json!({ "kind": "ConfigMap", "data": { "config.conf": KUBEADM } }).to_string();
    assert_eq!(read(&as_json), read(KUBEADM));
    let wrong = refused(&map.replace("scheduler: \"\"", "scheduler: rrr"));
    assert!(wrong.contains("--> kube-proxy.yaml#data.config.conf:"), "{wrong}");
    let empty = refused("kind: ConfigMap\ndata: {other: x}\n");
    assert!(empty.contains("no KubeProxyConfiguration in this ConfigMap") && empty.contains("it has: other"));
}

#[test]
fn each_mode_reads_its_own_section() {
    let config = with(
        "iptables: {masqueradeBit: 5, masqueradeAll: true, minSyncPeriod: 2s, syncPeriod: 1m}\n\
         ipvs: {minSyncPeriod: 3s, scheduler: wlc, strictARP: true, excludeCIDRs: [10.9.0.0/16], tcpTimeout: 15m}\n\
         nftables: {masqueradeBit: 0x7, minSyncPeriod: 200ms}\nmode: nftables\n",
    );
    assert_eq!(config.mode, "nftables");
    let figures = |mode| {
        let proxy = config.proxy(mode);
        (proxy.masquerade_bit, proxy.masquerade_all, proxy.min_sync_period, proxy.sync_period)
    };
    let (s, ms) = (SimSpan::from_secs, SimSpan::from_ms);
    assert_eq!(figures("iptables"), (5, true, s(2), s(60)));
    assert_eq!(figures("ipvs"), (5, true, s(3), s(30)));
    assert_eq!(figures("nftables"), (7, false, ms(200), s(30)));
    let ipvs = config.proxy("ipvs").ipvs;
    assert_eq!((ipvs.scheduler.as_str(), ipvs.strict_arp), ("wlc", true));
    assert_eq!(ipvs.timeouts, [s(900), s(0), s(0)]);
    assert_eq!(ipvs.exclude_cidrs, ["10.9.0.0/16".parse().unwrap()]);
}

#[test]
fn detectors_and_node_port_addresses_are_those_that_are_written() {
    let proxy = |body: &str| with(body).proxy("iptables");
    let both = proxy("clusterCIDR: 10.244.0.0/16, fd00:10::/56\n").cluster_cidrs;
    assert_eq!(both, ["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()]);
    for (body, want) in [
        ("detectLocalMode: NodeCIDR\n", DetectLocal::NodeCidr),
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n",
            DetectLocal::BridgeInterface("cni0".into()),
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n",
            DetectLocal::InterfaceNamePrefix("veth".into()),
        ),
    ] {
        assert_eq!(proxy(body).detect_local, want);
    }
    let addresses = |body: &str| proxy(body).node_port_addresses;
    assert_eq!(addresses("nodePortAddresses: []\n"), NodePortAddresses::Unset);
    assert_eq!(addresses("nodePortAddresses: [primary]\n"), NodePortAddresses::Primary);
    let nets = vec!["192.168.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
    assert_eq!(
        addresses("nodePortAddresses:\n- 192.168.0.0/16\n- fd00::/8\n"),
        NodePortAddresses::Cidrs(nets)
    );
}

#[test]
fn gates_that_shape_rules_are_read_and_others_taken() {
    let gates = |body: &str| with(body).proxy("nftables").gates;
    let on = FeatureGates::default();
    assert_eq!(gates(""), on);
    assert_eq!(gates("featureGates: {ContextualLogging: false, AllowServiceExternalIPs: true}\n"), on);
    for (name, want) in [
        ("AllowServiceExternalIPs", FeatureGates { external_ips: false, ..on }),
        ("PreferSameTrafficDistribution", FeatureGates { same_node_hints: false, ..on }),
        ("MultiCIDRServiceAllocator", FeatureGates { service_cidrs: false, ..on }),
    ] {
        assert_eq!(gates(&format!("featureGates: {{{name}: false}}\n")), want);
        assert_eq!(gates(&format!("featureGates:\n  {name}: false\n")), want);
        told(&format!("featureGates: {{{name}: 0}}\n"), &[&format!("`{name}` must be true or false")]);
    }
}

#[test]
fn zero_in_conntrack_leaves_the_kernel_alone() {
    let conntrack =
        with("conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpBeLiberal: true}\n")
            .proxy("iptables")
            .conntrack;
    assert_eq!((conntrack.max_per_core, conntrack.min), (0, 0));
    assert_eq!(conntrack.tcp_established, SimSpan::ZERO);
    assert_eq!(conntrack.tcp_close_wait, SimSpan::from_secs(3600));
    assert!(conntrack.tcp_be_liberal);
}

#[test]
fn the_recorded_configurations_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim-models/tests/kube-proxy");
    let mut count = 0;
    for case in fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("nft.txt").exists())
    {
        for (file, mode) in [("kube-proxy.yaml", "iptables"), ("kube-proxy.nftables.yaml", "nftables")] {
            let config = read(&fs::read_to_string(case.join(file)).unwrap());
            assert_eq!((config.mode.as_str(), config.node.as_deref()), (mode, Some("node-a")));
            let proxy = config.proxy(mode);
            assert_eq!(proxy.min_sync_period, SimSpan::from_ms(200));
            assert_eq!(proxy.cluster_cidrs[0], "10.244.0.0/16".parse().unwrap());
            count += 1;
        }
    }
    assert_eq!(count, 26);
}

#[test]
fn one_of_several_documents_is_enough_and_two_are_too_many() {
    let other = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\n";
    assert_eq!(read(&format!("{other}{HEAD}mode: ipvs\n---\n")).mode, "ipvs");
    let two = refused(&format!("{HEAD}---\n{HEAD}"));
    assert!(two.contains("a second KubeProxyConfiguration") && two.contains(":4:1"), "{two}");
}

#[test]
fn what_is_no_configuration_is_told_with_what_would_be() {
    for (text, parts) in [
        ("", ["there is no KubeProxyConfiguration here", "allowed: kind: KubeProxyConfiguration"]),
        ("mode: ipvs\n", ["there is no KubeProxyConfiguration here", "kube-proxy.yaml:1:1"]),
        ("kind: KubeProxyConfig\n", ["did you mean `KubeProxyConfiguration`?", "1:7"]),
        ("kind: Service\n", ["this is a Service", "or the ConfigMap"]),
        ("- a\n", ["must be a map", "this is a list"]),
        ("kind: KubeProxyConfiguration\n", ["needs the key `apiVersion`", "v1alpha1"]),
        (
            "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1beta1\n",
            ["apiVersion `kubeproxy.config.k8s.io/v1beta1`", "2:13"],
        ),
        ("a: [1\nb: 2\n", ["YAML syntax: ", "kube-proxy.yaml:2:"]),
    ] {
        let out = refused(text);
        for part in parts {
            assert!(out.contains(part), "{text:?}: {part:?} is not in:\n{out}");
        }
    }
}

#[test]
fn unknown_keys_and_wrong_kinds_are_told_with_their_place() {
    told("clusterCidr: 10.0.0.0/8\n", &["unknown key `clusterCidr`", "3:1", "did you mean `clusterCIDR`?"]);
    told("iptables:\n  masqueradebit: 3\n", &["unknown key `masqueradebit` in iptables", "4:3"]);
    told("ipvs: {strictARP: \"true\"}\n", &["`strictARP` must be true or false", "this is text"]);
    told(
        "iptables: {masqueradeBit: 32}\n",
        &["a whole number from 0 to 31", "= key: iptables.masqueradeBit"],
    );
    told("iptables: {syncPeriod: 30}\n", &["`syncPeriod`: the unit is missing", "1h30m"]);
    told("iptables: {syncPeriod: -30s}\n", &["must not be negative"]);
    told("iptables: {syncPeriod: 30sec}\n", &["`sec` is not a unit of time"]);
    told("nodePortAddresses: primary\n", &["`nodePortAddresses` must be a list of texts"]);
    told("iptables: 4\n", &["`iptables` must be a map", "this is a number"]);
    told("featureGates: {NewGate: maybe}\n", &["`NewGate` must be true or false"]);
    told("mode: ipvs\nmode: iptables\n", &["`mode` is written twice", "4:1"]);
    told("oomScoreAdj: 2000\n", &["from -1000 to 1000"]);
}

#[test]
fn values_are_judged_as_kube_proxy_judges_them() {
    told(
        "mode: ipsv\n",
        &["no proxy mode `ipsv`", "did you mean `ipvs`?", "iptables, ipvs, nftables, userspace"],
    );
    told("mode: kernelspace\n", &["that is the mode of Windows"]);
    told("clusterCIDR: 10.0.0.0/8,10.9.0.0/16\n", &["of one family"]);
    told("clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16\n", &["has 3 networks"]);
    told("clusterCIDR: 10.0.0.0/33\n", &["`10.0.0.0/33` is not a network"]);
    told("nodePortAddresses: [primary, 10.0.0.0/8]\n", &["cannot stand together"]);
    told("nodePortAddresses: [10.0.0.1]\n", &["`10.0.0.1` is not a network"]);
    told("detectLocalMode: NodeCidr\n", &["did you mean `NodeCIDR`?"]);
    told("detectLocalMode: BridgeInterface\n", &["needs `detectLocal.bridgeInterface`", "3:18"]);
    told(
        "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: \"veth -j ACCEPT\"}\n",
        &["is not the name of an interface"],
    );
    told("ipvs: {scheduler: rrr}\n", &["no IPVS scheduler `rrr`", "did you mean"]);
    told("iptables: {syncPeriod: 500ms}\n", &["`syncPeriod` is shorter than `minSyncPeriod`"]);
    told("ipvs: {minSyncPeriod: 1m}\nmode: ipvs\n", &["= key: ipvs.minSyncPeriod"]);
    with("ipvs: {minSyncPeriod: 1m}\n");
    told("bindAddress: here\n", &["`here` is not an IP address"]);
    with("detectLocalMode: NodeCIDR\nclusterCIDR: nonsense\n");
}

#[test]
fn numbers_are_those_of_yaml_1_1_and_other_texts_are_refused() {
    assert_eq!(with("iptables: {masqueradeBit: 010}\n").proxy("iptables").masquerade_bit, 8);
    let adjust = "`oomScoreAdj` must be a whole number from -1000 to 1000";
    told("oomScoreAdj: --9223372036854775808\n", &[adjust, "this is text"]);
    told("oomScoreAdj: -9223372036854775808\n", &[adjust]);
    for bit in ["--5", "0x+5", "infinity"] {
        told(&format!("iptables: {{masqueradeBit: {bit}}}\n"), &["from 0 to 31", "this is text"]);
    }
    told("iptables: {masqueradeBit: 08}\n", &["from 0 to 31", "this is a number"]);
    for qps in ["infinity", "nan", "1e999"] {
        told(&format!("clientConnection: {{qps: {qps}}}\n"), &["`qps` must be a number", "this is text"]);
    }
    with("clientConnection: {qps: 2.5}\n");
}

#[test]
fn every_error_is_told_at_once() {
    told("mode: x\nipvs: {scheduler: y}\nfoo: 1\nclusterCIDR: z\n", &["4 errors"]);
}

#[test]
fn hostile_texts_are_refused_before_they_cost_memory() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..20 {
        let below = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![below; 10].join(",")));
    }
    assert!(refused(&bomb).contains("too many values"));
    let long = "x".repeat(900_000);
    let copies = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 1000].join(","));
    assert!(refused(&copies).contains("too many values"));
    for deep in ["[".repeat(500_000), "{a: ".repeat(200_000), "- ".repeat(500_000), "? ".repeat(300_000)] {
        let out = refused(&deep);
        assert!(
            ["nested more than 32 deep", "a key must be text", "YAML syntax"]
                .iter()
                .any(|part| out.contains(part)),
            "{out}"
        );
    }
    assert!(refused(&"a".repeat(3 << 20)).contains("a configuration of 3 MiB"));
    let many: String = (0..100_000).map(|i| format!("k{i}:\n")).collect();
    assert!(refused(&many).contains("too many values"));
    for odd in ["? ", ": ", "&a ", "!", "*a ", "\"", "'", "|\n", "# ", "%", "---\n", "\t", "[{", "a:\n "] {
        let _ = KubeProxyConfiguration::parse("odd.yaml", &odd.repeat(100_000), &known());
    }
    let out = refused(&format!("{HEAD}{long}: 1\n"));
    assert!(out.len() < 4_000, "{} bytes", out.len());
    assert!(refused(&format!("{HEAD}\"\\e[31m\\u202e\": 1\n")).contains("unknown key `\\u{1b}[31m"));
    let out = refused(&format!("{HEAD}ipvs: {{excludeCIDRs: [10.0.0.0/\u{12}8]}}\n"));
    assert!(out.chars().all(|c| c == '\n' || !c.is_control()) && out.contains("10.0.0.0/\u{fffd}8"), "{out}");
    assert!(refused("a: &a [*a]\n").contains("alias"));
    assert!(refused("? [a]\n: 1\n").contains("a key must be text"));
    assert!(refused("a: !!binary x\n").contains("there is no KubeProxyConfiguration"));
    assert!(refused("a: !evil x\n").contains("tags mean nothing here"));
}

#[test]
fn a_configuration_that_is_cut_off_or_garbled_anywhere_never_panics() {
    let texts = [KUBEADM.to_owned(), format!("{HEAD}é: [\"ü\", &a {{x: *a}}]\n? b\n: |\n  c\n...\n---\n")];
    for text in &texts {
        for end in (0..text.len()).step_by(5).filter(|end| text.is_char_boundary(*end)) {
            let _ = KubeProxyConfiguration::parse("cut.yaml", &text[..end], &known());
            for junk in ["[", "}", "\t", "\0", "*", "&", ": ", "\n- ", "\"", "%", "|", "\u{feff}", "!<"] {
                let garbled = format!("{}{junk}{}", &text[..end], &text[end..]);
                let read = KubeProxyConfiguration::parse("garbled.yaml", &garbled, &known());
                if let Err(wrong) = read {
                    assert!(wrong.render(Style::Plain).contains("garbled.yaml"), "{garbled}");
                }
            }
        }
    }
}
