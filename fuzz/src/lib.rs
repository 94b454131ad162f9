//! One function for each parser, and the table of them. A function takes any bytes, and panics only if the parser does or
//! breaks a promise:
//!
//! - nothing makes a parser panic, and what it refuses has a place in the text;
//! - what it took prints, and what was printed is read again and prints the same;
//! - objects that were taken give rules in every mode, and none of them has a character that names cannot have;
//! - rules that compile take any packet, and no walk is without end.
//!
//! cargo-fuzz's targets and the `smoke` binary run the same functions: `fuzz_targets/`, `src/bin/smoke.rs`.
//! Adding one is a function, a line in [`TARGETS`], a file under `fuzz_targets/` and a folder under `corpus/`.

pub mod mutate;
mod walk;

use sim_core::classify::{Family, Packet};
use sim_models::config::ProxyConfig;
use sim_models::kernel::cost::CostProfile;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::{Options, import, import_with, text_of};
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{Form, MODES, mode};
pub use walk::walk;

/// A parser under test.
pub struct Target {
    /// Its name, that of its file and of its folder of seeds.
    pub name: &'static str,
    /// Reads any bytes; whether the parser took them.
    pub run: fn(&[u8]) -> bool,
    /// Words that mean something to it.
    pub dictionary: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "kubectl", run: kubectl, dictionary: JSON },
    Target { name: "iptables", run: iptables, dictionary: IPTABLES },
    Target { name: "nftables", run: nftables, dictionary: NFTABLES },
    Target { name: "ipvs", run: ipvs, dictionary: IPVS },
    Target { name: "walk", run: walk, dictionary: WALK },
    Target { name: "scenario", run: scenario, dictionary: TOML },
    Target { name: "profile", run: profile, dictionary: TOML },
    Target { name: "proxy_config", run: proxy_config, dictionary: YAML },
    Target { name: "packet", run: packet, dictionary: PACKET },
];

const PACKET: &[&str] = &[
    "tcp ",
    "udp ",
    "sctp ",
    "icmp ",
    " > ",
    "->",
    ":",
    "[",
    "]",
    "::",
    "10.96.0.1",
    "fd00::1",
    "::ffff:1.2.3.4",
    "%1",
    "65535",
    "65536",
    "+1",
    "\u{2003}",
];

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "false",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\\n",
    "\"kind\"",
    "\"items\"",
    "\"List\"",
    "\"Service\"",
    "\"EndpointSlice\"",
    "\"Endpoints\"",
    "\"Node\"",
    "\"Pod\"",
    "\"ServiceCIDR\"",
    "\"metadata\"",
    "\"labels\"",
    "\"spec\"",
    "\"status\"",
    "\"ports\"",
    "\"endpoints\"",
    "\"addresses\"",
    "\"None\"",
    "\"ExternalName\"",
    "\"LoadBalancer\"",
    "\"Local\"",
    "\"ClientIP\"",
    "\"SCTP\"",
    "\"UDP\"",
    "\"IPv6\"",
    "\"fd00::1\"",
    "\"10.0.0.1\"",
    "\"010.0.0.1\"",
    "\"0.0.0.0/0\"",
    "\"::ffff:1.2.3.4\"",
    "\"a\\nb\"",
    "65536",
    "-1",
    "1e999",
    "0",
    "99999999999999999999",
    "\u{feff}",
];

const IPTABLES: &[&str] = &[
    "*nat",
    "*filter",
    "*mangle",
    "COMMIT",
    ":KUBE-SERVICES - [0:0]",
    "-A ",
    "-s ",
    "-d ",
    "! ",
    "-p ",
    "tcp",
    "udp",
    "sctp",
    "-m comment --comment ",
    "\"",
    "\\\"",
    "-m statistic --mode random --probability ",
    "0.50000000000",
    "-j ",
    "DNAT --to-destination ",
    "KUBE-SVC-",
    "KUBE-SEP-",
    "KUBE-MARK-MASQ",
    "REJECT --reject-with icmp-port-unreachable",
    "-m mark --mark 0x4000/0x4000",
    "-m recent --name ",
    "--rcheck --seconds ",
    "--reap",
    "--mask 255.255.255.255 --rsource",
    "-m set --match-set KUBE-CLUSTER-IP dst,dst",
    "-m addrtype --dst-type LOCAL",
    "[1:2]",
    "65536",
    "10.0.0.0/33",
    "-i ",
    "fd00::1/128",
    "\n",
    "#",
];

/// Jumps above all.
const WALK: &[&str] = &[
    "-j KUBE-SERVICES",
    "-j KUBE-NODEPORTS",
    "-g KUBE-SERVICES",
    "-j RETURN",
    "-j MARK --set-xmark 0x4000/0x4000",
    "-j MASQUERADE --random-fully",
    "-j DNAT --to-destination 10.244.0.9:0",
    "-j REJECT --reject-with icmp-port-unreachable",
    "-j DROP",
    "-p icmp",
    "-p sctp -m sctp --dport 0",
    "! -s 10.0.0.0/8",
    "-s 0.0.0.0/0",
    "-m statistic --mode random --probability 1.00000000000",
    "-m statistic --mode random --probability 7",
    "-m recent --rcheck --seconds 1 --reap --name x --mask 255.255.255.255 --rsource",
    "-m recent --set --name x --mask 255.255.255.255 --rsource",
    "-m set --match-set KUBE-CLUSTER-IP dst,dst",
    "jump services",
    "goto services",
    "goto reject-chain",
    "numgen random mod 2 vmap { 0 : jump services, 1 : drop }",
    "meta l4proto tcp dnat to 10.244.0.9:0",
    "masquerade fully-random",
    "0.0.0.0",
    "\n",
];

const NFTABLES: &[&str] = &[
    "table ip kube-proxy {",
    "table ip6 kube-proxy {",
    "chain ",
    "set ",
    "map ",
    "type ",
    "elements = {",
    "}",
    "{",
    ";",
    "\n",
    "goto ",
    "jump ",
    "vmap ",
    "dnat ",
    "numgen random mod ",
    "meta l4proto ",
    "ip daddr ",
    "ip saddr ",
    "@",
    " . ",
    " : ",
    "comment \"",
    "\"",
    "masquerade fully-random",
    "reject",
    "drop",
    "ct state new",
    "fib daddr type local",
    "timeout ",
    "flags ",
    "dynamic,timeout",
    "type filter hook input priority ",
    "-110",
    "0x00004000",
    "1.2.3.4-1.2.3.1",
    "{\"nftables\": [",
    "{\"metainfo\": ",
    "{\"rule\": ",
    "\"expr\": [",
    "\"family\": \"ip\"",
    "null",
    "65536",
    "#",
];

const IPVS: &[&str] = &[
    "-A -t ",
    "-a -t ",
    "-A -u ",
    "-A --sctp-service ",
    " -r ",
    " -s rr",
    " -m -w 1",
    " -p 10800",
    " -b ",
    "sh-port",
    "[fd00::1]:80",
    "10.0.0.1:80",
    ":65536",
    "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536",
    "add KUBE-CLUSTER-IP 10.0.0.1,tcp:80",
    "bitmap:port range 0-65535",
    "timeout 10",
    "nomatch",
    "comment",
    "\n",
    "#",
    "inet6",
    "sctp:",
    "-1",
];

const TOML: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "=",
    "\"",
    "\"\"\"",
    "'",
    "#",
    "\n",
    ".",
    "{",
    "}",
    ",",
    "title",
    "seed",
    "duration",
    "cluster",
    "proxy",
    "modes",
    "traffic",
    "sweep",
    "gates",
    "charts",
    "services",
    "\"10s\"",
    "\"200/s per node\"",
    "1e308",
    "-0",
    "nan",
    "inf",
    "99999999999999999999",
    "1979-05-27",
    "true",
    "\\u0000",
    "\\UFFFFFFFF",
];

const YAML: &[&str] = &[
    "\n",
    "\n  ",
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1",
    "kind: KubeProxyConfiguration",
    "kind: ConfigMap",
    "config.conf: |",
    "---",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!str ",
    "null",
    "~",
    "true",
    "off",
    "mode: ",
    "ipvs",
    "nftables",
    "iptables: ",
    "conntrack: ",
    "masqueradeBit: ",
    "oomScoreAdj: ",
    "qps: ",
    "syncPeriod: ",
    "minSyncPeriod: ",
    "scheduler: ",
    "detectLocalMode: ",
    "InterfaceNamePrefix",
    "interfaceNamePrefix: ",
    "nodePortAddresses: ",
    "primary",
    "clusterCIDR: ",
    "10.0.0.0/8",
    "fd00::/33",
    "bindAddress: ",
    "excludeCIDRs: ",
    "featureGates: ",
    "1h30m",
    ".5ms",
    "9223372036854775807ns",
    "-9223372036854775808",
    "--5",
    "0x",
    "010",
    "0b1",
    "1_000",
    "1e999",
    ".inf",
    "infinity",
    "\u{feff}",
];

/// kubectl's JSON: objects, and rules of them.
pub fn kubectl(data: &[u8]) -> bool {
    let Ok(text) = text_of(data.to_vec()) else { return false };
    let strict = import(&text);
    let lenient = import_with(&text, Options { keep_going: true });
    if let Err(errors) = &strict {
        assert!(!errors.is_empty());
        for error in errors {
            assert!(error.line > 0 && error.column > 0, "{error}");
            assert!(error.to_string().chars().all(|c| !c.is_control()), "{error:?}");
            assert!(error.message.len() < 2_000, "{} bytes of message", error.message.len());
        }
    }
    let Ok(imported) = lenient else {
        assert!(strict.is_err(), "what is no JSON is none for anybody");
        return false;
    };
    let taken = strict.is_ok();
    match strict {
        Ok(objects) => assert!(imported.errors.is_empty() && objects == imported.objects),
        Err(errors) => assert_eq!(errors.len(), imported.errors.len()),
    }
    let objects = imported.objects;
    let node = objects.nodes.first().map_or_else(String::new, |node| node.name.to_string());
    for family in [Family::Ipv4, Family::Ipv6] {
        let resolved = resolve(&objects, family, &node);
        for mode in MODES {
            let config = ProxyConfig { mode: mode.name().to_owned(), ..ProxyConfig::default() };
            let text = mode.print(&mode.build(&resolved, &config, family), Form::Load);
            let plain = |c: char| c == '\n' || c == '\t' || (' '..='~').contains(&c);
            assert!(text.chars().all(plain), "{}: a character that no name has:\n{text}", mode.name());
        }
    }
    taken
}

/// `iptables-save`.
pub fn iptables(data: &[u8]) -> bool {
    dump("iptables", data)
}

/// `nft list ruleset`, as text and as JSON.
pub fn nftables(data: &[u8]) -> bool {
    dump("nftables", data)
}

/// `ipvsadm -Sn`, `ipset save` and the iptables rules beside them.
pub fn ipvs(data: &[u8]) -> bool {
    dump("ipvs", data)
}

/// What a mode's tools list: read, printed, read again.
fn dump(name: &str, data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mode = mode(name).and_then(|mode| mode.dumps()).expect("a mode with dumps");
    let config = ProxyConfig { mode: name.to_owned(), ..ProxyConfig::default() };
    let mut taken = false;
    for family in [Family::Ipv4, Family::Ipv6] {
        match mode.read(text, family) {
            Err(error) => assert!(error.line > 0 && error.column > 0, "{error:?}"),
            Ok(rules) => {
                taken = true;
                let once = mode.print(&rules, Form::Load);
                let again = mode.read(&once, family);
                let again =
                    again.unwrap_or_else(|error| panic!("what was printed is refused: {error:?}\n{once}"));
                let twice = mode.print(&again, Form::Load);
                assert_eq!(once, twice, "printed after parsing it is another text");
                assert!(mode.diff(&rules, &rules, &config).is_empty(), "differs from itself:\n{once}");
                for form in mode.forms() {
                    let printed = mode.print(&rules, *form);
                    if *form == Form::Json {
                        let again = mode.read(&printed, family);
                        let again = again.unwrap_or_else(|e| panic!("our JSON is refused: {e:?}\n{printed}"));
                        assert_eq!(printed, mode.print(&again, *form), "JSON after parsing it is another");
                    }
                }
            }
        }
    }
    taken
}

/// A scenario, and its plan.
pub fn scenario(data: &[u8]) -> bool {
    use scenarios::diagnostic::Style;
    use scenarios::known::{Known, Named};
    use scenarios::plan::Plan;
    use scenarios::scenario::Scenario;
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut scenario = match Scenario::parse("fuzz.toml", text) {
        Ok(scenario) => scenario,
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            let _ = diagnostics.render(Style::Plain);
            return false;
        }
    };
    if scenario.import().is_some() {
        scenario.import_failed("files are not read here");
    }
    let known = Known {
        modes: Named::list(&[("iptables", ""), ("ipvs", ""), ("nftables", "")]),
        schedulers: Named::list(&[("rr", ""), ("lc", "")]),
        profiles: Named::list(&[("linux-6.18", "")]),
        metrics: Named::list(&[("first_packet_p99", ""), ("first_packet_mean", "")]),
        kubernetes_minors: (8, 36),
        ..Known::default()
    };
    let planned = Plan::new(&scenario, &known);
    if let Err(diagnostics) = &planned {
        assert!(!diagnostics.is_empty());
        let _ = diagnostics.render(Style::Plain);
    }
    planned.is_ok()
}

/// A cost profile.
pub fn profile(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read = CostProfile::parse(text);
    if let Err(error) = &read {
        assert!(!error.to_string().is_empty());
    }
    read.is_ok()
}

/// KubeProxyConfiguration, and the rules of an empty cluster under it.
pub fn proxy_config(data: &[u8]) -> bool {
    use scenarios::diagnostic::Style;
    use scenarios::known::{Known, Named};
    use scenarios::kube_proxy::KubeProxyConfiguration;
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let known = Known { schedulers: Named::list(&[("rr", ""), ("lc", "")]), ..Known::default() };
    let read = KubeProxyConfiguration::parse("fuzz.yaml", text, &known);
    match &read {
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            let told = diagnostics.render(Style::Plain);
            assert!(told.contains("fuzz.yaml"), "no place:\n{told}");
            assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "control characters: {told:?}");
        }
        Ok(configuration) => {
            for mode in MODES {
                let config = configuration.proxy(mode.name());
                assert!(config.masquerade_bit < 32, "bit {}", config.masquerade_bit);
                for family in [Family::Ipv4, Family::Ipv6] {
                    let rules = mode.build(&ProxyObjects::default(), &config, family);
                    let printed = mode.print(&rules, Form::Load);
                    let plain = |c: char| c == '\n' || c == '\t' || (' '..='~').contains(&c);
                    assert!(printed.chars().all(plain), "{}: strange characters:\n{printed}", mode.name());
                }
            }
        }
    }
    read.is_ok()
}

/// A packet of the command line: what is wrong has a place, and what was taken prints as what reads the same.
pub fn packet(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match text.parse::<Packet>() {
        Ok(packet) => {
            assert_eq!(packet.to_string().parse::<Packet>(), Ok(packet), "{text:?}");
            true
        }
        Err(error) => {
            assert!(text.get(error.at.clone()).is_some(), "{text:?}: {error:?}");
            assert!(!error.message.is_empty() && !error.allowed.is_empty(), "{text:?}: {error:?}");
            false
        }
    }
}
