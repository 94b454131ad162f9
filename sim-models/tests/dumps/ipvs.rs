//! Dumps of a node in ipvs mode.

use sim_core::classify::{Family, Proto};
use sim_models::config::ProxyConfig;
use sim_models::kernel::dump::Difference;
use sim_models::kernel::rules::NodeRules;
use sim_models::kernel::{ipset, ipvs as servers};
use sim_models::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use sim_models::proxy::{Dumps, Form, mode};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

fn ipvs() -> &'static dyn Dumps {
    mode("ipvs").unwrap().dumps().unwrap()
}

fn built(family: Family) -> NodeRules {
    let parse = |v4: &str, v6: &str| -> IpAddr {
        match family {
            Family::Ipv4 => v4.parse().unwrap(),
            Family::Ipv6 => v6.parse().unwrap(),
        }
    };
    let endpoint = |n: u16| Endpoint {
        addr: SocketAddr::new(parse(&format!("10.244.0.{n}"), &format!("fd00:244::{n}")), 8080),
        is_local: n == 1,
    };
    let one = EndpointLists::ready((1..4).map(endpoint).collect());
    let mut port = ServicePort::http("ns", "a", parse("10.96.0.1", "fd00:96::1"), one.clone());
    port.node_port = 30_080;
    port.load_balancer_vips = vec![parse("203.0.113.1", "2001:db8::1")];
    port.source_ranges = vec![match family {
        Family::Ipv4 => "198.51.100.0/24".parse().unwrap(),
        Family::Ipv6 => "2001:db8:1::/48".parse().unwrap(),
    }];
    let mut other = ServicePort::http("ns", "b", parse("10.96.0.2", "fd00:96::2"), one);
    other.proto = Proto::Udp;
    other.affinity_seconds = Some(10_800);
    let objects = ProxyObjects {
        ports: vec![port, other],
        node_ips: vec![parse("192.168.0.2", "fd00:10::2")],
        ..ProxyObjects::default()
    };
    ipvs().build(&objects, &ProxyConfig { mode: "ipvs".into(), ..ProxyConfig::default() }, family)
}

/// What the mode prints for a small cluster.
pub fn text(family: Family) -> String {
    ipvs().print(&built(family), Form::Load)
}

fn diff(text: &str) -> Vec<Difference> {
    let found = ipvs().read(text, Family::Ipv4).unwrap_or_else(|error| panic!("{error}"));
    ipvs().diff(&built(Family::Ipv4), &found, &ProxyConfig::default())
}

/// The one difference that replacing a text makes.
#[track_caller]
fn the_only(from: &str, to: &str) -> (&'static str, String, String) {
    let before = text(Family::Ipv4);
    let after = before.replacen(from, to, 1);
    assert_ne!(before, after, "{from} is not there");
    let differences = diff(&after);
    assert_eq!(differences.len(), 1, "{differences:#?}");
    let one = &differences[0];
    let text = [&one.wanted, &one.found].map(|side| side.clone().unwrap_or_default()).join(" | ");
    (one.kind(), one.place.clone(), text)
}

#[test]
fn each_planted_change_is_told_once() {
    let rows = [
        ("add KUBE-CLUSTER-IP 10.96.0.1,tcp:80\n", "", "missing", "ipset KUBE-CLUSTER-IP"),
        (
            "add KUBE-CLUSTER-IP 10.96.0.1,tcp:80\n",
            "add KUBE-CLUSTER-IP 10.96.0.1,tcp:80\nadd KUBE-CLUSTER-IP 10.96.0.9,tcp:80\n",
            "extra",
            "ipset KUBE-CLUSTER-IP",
        ),
        (
            "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536",
            "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 1024",
            "changed",
            "ipset KUBE-CLUSTER-IP",
        ),
        ("-A -t 10.96.0.1:80 -s rr", "-A -t 10.96.0.1:80 -s lc", "changed", "ipvs tcp 10.96.0.1:80"),
        ("-A -t 10.96.0.1:80 -s rr", "-A -t 10.96.0.1:80 -s rr -p 300", "changed", "ipvs tcp 10.96.0.1:80"),
        ("-p 10800", "-p 10800 -M 255.255.255.0", "changed", "ipvs udp 10.96.0.2:80"),
        ("-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1\n", "", "missing", "ipvs tcp 10.96.0.1:80"),
        ("-r 10.244.0.2:8080 -m -w 1", "-r 10.244.0.2:8080 -m -w 0", "changed", "ipvs tcp 10.96.0.1:80"),
        ("-r 10.244.0.2:8080 -m -w 1", "-r 10.244.0.2:8080 -g -w 1", "changed", "ipvs tcp 10.96.0.1:80"),
        (
            "-A -t 10.96.0.1:80 -s rr\n",
            "-A -t 10.96.0.9:80 -s rr\n-A -t 10.96.0.1:80 -s rr\n",
            "extra",
            "ipvs tcp 10.96.0.9:80",
        ),
        (
            "-A -t 10.96.0.1:80 -s rr\n",
            "-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.244.0.77:8080 -m -w 1\n",
            "extra",
            "ipvs tcp 10.96.0.1:80",
        ),
        ("addr add 10.96.0.1/32 dev kube-ipvs0\n", "", "missing", "kube-ipvs0"),
        ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n", "", "missing", "nat KUBE-MARK-MASQ"),
    ];
    for (from, to, kind, place) in rows {
        let (is_kind, is_place, text) = the_only(from, to);
        assert_eq!((is_kind, &*is_place), (kind, place), "{from:?} -> {to:?}: {text}");
    }
}

#[test]
fn a_real_server_of_weight_0_that_is_not_wanted_is_being_removed_and_no_difference() {
    let text = text(Family::Ipv4);
    let head = "-A -t 10.96.0.1:80 -s rr\n";
    let with = |weight| {
        let more = format!("{head}-a -t 10.96.0.1:80 -r 10.244.0.77:8080 -m -w {weight}\n");
        diff(&text.replacen(head, &more, 1))
    };
    assert_eq!(with(0), []);
    assert_eq!(with(1).len(), 1);
}

#[test]
fn a_virtual_server_in_an_excluded_network_is_left_alone_and_a_wanted_one_is_compared() {
    let excluding = |networks: &[&str]| {
        let mut config = ProxyConfig::default();
        config.ipvs.exclude_cidrs = networks.iter().map(|network| network.parse().unwrap()).collect();
        config
    };
    let more = "-A -t 198.18.0.9:443 -s wlc\n-a -t 198.18.0.9:443 -r 192.0.2.1:443 -g -w 5\n";
    let found = ipvs().read(&(text(Family::Ipv4) + more), Family::Ipv4).unwrap();
    let differences =
        |networks: &[&str]| ipvs().diff(&built(Family::Ipv4), &found, &excluding(networks)).len();
    assert_eq!(differences(&["198.18.0.0/15"]), 0);
    assert_eq!(differences(&["203.0.113.0/24"]), 1);
    let none = ipvs().read("", Family::Ipv4).unwrap();
    let missing = ipvs().diff(&built(Family::Ipv4), &none, &excluding(&["0.0.0.0/0"]));
    assert!(missing.iter().any(|one| one.place == "ipvs tcp 10.96.0.1:80"), "{missing:#?}");
}

#[test]
fn the_outputs_of_the_tools_in_any_order_are_a_dump_too() {
    let rules = built(Family::Ipv4);
    let mut text = servers::print::save(&rules.ipvs);
    // Both families are in what ipvsadm and ipset list.
    text.push_str(&servers::print::save(&built(Family::Ipv6).ipvs));
    text.push_str("5: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group default \\    link/ether 06:5e:5b\n");
    for addr in &rules.dummy_addrs {
        text.push_str(&format!(
            "5: kube-ipvs0    inet {addr}/32 scope global kube-ipvs0\\       valid_lft forever preferred_lft forever\n"
        ));
    }
    text.push_str("5: kube-ipvs0    inet6 fe80::45e:5bff/64 scope link\n");
    text.push_str("# Generated by iptables-save v1.8.9 on Sat Nov 21 05:00:00 2026\n");
    text.push_str(&sim_models::kernel::xtables::print::iptables_save(&rules));
    text.push_str("net.ipv4.vs.conntrack = 1\n");
    text.push_str(
        &ipset::save(&rules.ipsets)
            .replace("maxelem 65536", "maxelem 65536 bucketsize 12 initval 0x2e8f5b45"),
    );
    text.push_str(&ipset::save(&built(Family::Ipv6).ipsets).replace("hashsize 1024", "hashsize 4096"));
    text.push_str("create cali40all-ipam-pools hash:net family inet hashsize 1024 maxelem 1048576\n");
    text.push_str("add cali40all-ipam-pools 10.244.0.0/16\n");
    assert_eq!(diff(&text), []);
}

#[test]
fn addresses_are_read_from_every_form_of_ip_addr() {
    let lines = "\
5: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group default 
    link/ether 06:5e:5b:01:02:03 brd ff:ff:ff:ff:ff:ff
    inet 10.96.0.1/32 scope global kube-ipvs0
       valid_lft forever preferred_lft forever
    inet6 fd00:96::1/128 scope global 
    inet6 fe80::1/64 scope link 
";
    for (family, addr) in [(Family::Ipv4, "10.96.0.1"), (Family::Ipv6, "fd00:96::1")] {
        let read = ipvs().read(lines, family).unwrap();
        assert_eq!(read.dummy_addrs, [addr.parse::<IpAddr>().unwrap()]);
    }
    let batch = "link add kube-ipvs0 type dummy\naddr add 10.96.0.1/32 dev kube-ipvs0\n";
    assert_eq!(ipvs().read(batch, Family::Ipv4).unwrap().dummy_addrs.len(), 1);
    let error = ipvs().read("  hello\n", Family::Ipv4).unwrap_err();
    assert_eq!((error.line, error.column), (1, 3));
}

#[test]
fn what_was_recorded_is_read_and_printed_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ipvs");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        seen += 1;
        match name.rsplit('.').next().unwrap() {
            "ipvs" | "ipvsadm" => {
                assert_eq!(servers::print::save(&servers::parse::parse(&text).unwrap()), text, "{name}");
            }
            "ipset" => {
                // Recorded as input of `ipset restore`: elements of several sets are mixed there.
                let printed = ipset::parse::parse(&text).unwrap().print();
                let sorted = |text: &str| {
                    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    lines.sort();
                    lines
                };
                assert_eq!(sorted(&printed), sorted(&text), "{name}");
                assert_eq!(ipset::parse::parse(&printed).unwrap().print(), printed, "{name}");
            }
            "addr" => {
                assert_eq!(ipvs().read(&text, Family::Ipv4).unwrap().dummy_addrs.len(), text.lines().count())
            }
            _ => {
                let read = ipvs().read(&text, Family::Ipv4).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(read.xtables.len(), 2, "{name}");
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}
