//! The commands of each sync, applied to a model of the node, against everything built anew.

use super::*;
use crate::config::IpvsConfig;
use crate::kernel::ipvs::print;
use crate::kube::{Endpoint, EndpointLists, ServicePort};
use proptest::prelude::*;
use sim_core::classify::Proto;
use sim_core::units::SimSpan;
use std::collections::BTreeMap;

/// What a node has, read from nothing but the commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    /// Lines of `ipvsadm -Sn` without their command, by service; weights of real servers by address.
    servers: BTreeMap<String, (String, BTreeMap<String, String>)>,
    sets: BTreeMap<String, (String, BTreeSet<String>)>,
    addresses: BTreeSet<String>,
    sysctls: BTreeMap<String, String>,
    /// The last stdin of iptables-restore.
    rules: String,
    /// Commands without stdin.
    alone: Vec<String>,
}

impl Model {
    fn apply(&mut self, input: &ToolInput) {
        let command = input.command.split(" #").next().unwrap();
        match command {
            "ipvsadm -R" => input.stdin.lines().for_each(|line| self.ipvsadm(line)),
            "ipset restore" => input.stdin.lines().for_each(|line| self.ipset(line)),
            "ip -batch -" => input.stdin.lines().for_each(|line| self.ip(line)),
            "sysctl -p -" => {
                for line in input.stdin.lines() {
                    let (name, value) = line.split_once(" = ").expect("name = value");
                    self.sysctls.insert(name.to_owned(), value.to_owned());
                }
            }
            "iptables-restore -w 5 --noflush --counters" => self.rules.clone_from(&input.stdin),
            _ => {
                assert!(input.stdin.is_empty(), "{command} reads no stdin");
                self.alone.push(command.to_owned());
            }
        }
    }

    fn ipvsadm(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let key = format!("{} {}", words[1], words[2]);
        let rest = words.get(3).copied().unwrap_or("").to_owned();
        let real = || rest.split(' ').nth(1).expect("-r ADDRESS").to_owned();
        match words[0] {
            "-A" => assert!(self.servers.insert(key, (rest, BTreeMap::new())).is_none(), "{line}"),
            "-E" => self.servers.get_mut(&key).expect(line).0 = rest,
            "-D" => assert!(self.servers.remove(&key).is_some(), "{line}"),
            "-a" => {
                let there = self.servers.get_mut(&key).expect(line).1.insert(real(), rest.clone());
                assert!(there.is_none(), "{line}");
            }
            "-e" => *self.servers.get_mut(&key).expect(line).1.get_mut(&real()).expect(line) = rest.clone(),
            "-d" => assert!(self.servers.get_mut(&key).expect(line).1.remove(&real()).is_some(), "{line}"),
            _ => panic!("{line}"),
        }
    }

    fn ipset(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let (name, rest) = (words[1].to_owned(), words[2].to_owned());
        match words[0] {
            "create" => assert!(self.sets.insert(name, (rest, BTreeSet::new())).is_none(), "{line}"),
            "add" => assert!(self.sets.get_mut(&name).expect(line).1.insert(rest), "{line}"),
            "del" => assert!(self.sets.get_mut(&name).expect(line).1.remove(&rest), "{line}"),
            _ => panic!("{line}"),
        }
    }

    fn ip(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words[0], words[1]) {
            ("link", "add") => assert!(self.addresses.is_empty()),
            ("addr", "add") => assert!(self.addresses.insert(words[2].to_owned()), "{line}"),
            ("addr", "del") => assert!(self.addresses.remove(words[2]), "{line}"),
            _ => panic!("{line}"),
        }
    }

    /// Everything that a full build has, as a model.
    fn of(rules: &NodeRules) -> Model {
        let mut model = Model::default();
        print::save(&rules.ipvs).lines().for_each(|line| model.ipvsadm(line));
        save(&rules.ipsets).lines().for_each(|line| model.ipset(line));
        rules.dummy_addrs.iter().for_each(|addr| model.ip(address("add", *addr).trim_end()));
        model.sysctls = rules.sysctls.iter().cloned().collect();
        model.rules = restore::stdin(&rules.xtables);
        model
    }
}

fn config() -> ProxyConfig {
    ProxyConfig { mode: "ipvs".into(), min_sync_period: SimSpan::ZERO, ..ProxyConfig::default() }
}

fn objects(ports: Vec<ServicePort>) -> ProxyObjects {
    let node_ips = vec!["192.168.0.2".parse().unwrap(), "192.168.7.2".parse().unwrap()];
    ProxyObjects { ports, node_ips, ..ProxyObjects::default() }
}

fn endpoints(from: u8, to: u8) -> Vec<Endpoint> {
    let one = |n| Endpoint { addr: SocketAddr::from(([10, 244, 0, n], 8080)), is_local: n % 2 == 0 };
    (from..to).map(one).collect()
}

fn service(n: u8, list: Vec<Endpoint>) -> ServicePort {
    ServicePort::http("ns", &format!("s{n}"), IpAddr::from([10, 96, 0, n]), EndpointLists::ready(list))
}

/// The states, an hour apart.
fn hourly(states: impl IntoIterator<Item = ProxyObjects>) -> Vec<(SimTime, ProxyObjects)> {
    every(SimSpan::from_secs(3600), states)
}

fn every(apart: SimSpan, states: impl IntoIterator<Item = ProxyObjects>) -> Vec<(SimTime, ProxyObjects)> {
    let times = std::iter::successors(Some(SimTime::ZERO), move |at| Some(*at + apart));
    times.zip(states).collect()
}

fn stdin<'a>(inputs: &'a [ToolInput], command: &str) -> Vec<&'a str> {
    inputs.iter().filter(|input| input.command == command).map(|input| input.stdin.as_str()).collect()
}

#[test]
fn a_removed_server_in_use_gets_weight_0_and_goes_a_minute_later() {
    let states = [objects(vec![service(1, endpoints(1, 3))]), objects(vec![service(1, endpoints(2, 4))])];
    let all = inputs(&hourly(states), &config(), Family::Ipv4);
    let expected = "\
-a -t 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 1
-e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0
";
    assert_eq!(stdin(&all[1], "ipvsadm -R"), [expected]);
    let last = all[1].last().unwrap();
    assert_eq!(last.command, "ipvsadm -R # a minute later, without connections");
    assert_eq!(last.stdin, "-d -t 10.96.0.1:80 -r 10.244.0.1:8080\n");
}

#[test]
fn a_state_that_changes_nothing_has_no_sync_and_one_of_slices_alone_writes_the_rules() {
    let state = objects(vec![service(1, endpoints(1, 3))]);
    let other_network =
        ProxyObjects { service_cidrs: vec!["10.96.0.0/12".parse().unwrap()], ..state.clone() };
    let touched = ProxyObjects { slices_revision: 1, ..state.clone() };
    let all = inputs(&hourly([state, other_network, touched]), &config(), Family::Ipv4);
    assert_eq!(all[1], []);
    let commands: Vec<&str> = all[2].iter().map(|input| input.command.as_str()).collect();
    assert_eq!(commands, ["iptables-restore -w 5 --noflush --counters"]);
}

#[test]
fn the_look_comes_a_minute_after_the_first_drain_before_a_sync_that_is_later_and_with_the_last_sync() {
    const LOOK: &str = "ipvsadm -R # a minute later, without connections";
    let with = |from| objects(vec![service(1, endpoints(from, 5))]);
    let looks = |seconds, states: Vec<ProxyObjects>| -> Vec<Vec<String>> {
        let all = inputs(&every(SimSpan::from_secs(seconds), states), &config(), Family::Ipv4);
        let one = |inputs: &Vec<ToolInput>| {
            let at = inputs.iter().position(|input| input.command == LOOK);
            assert!(at.is_none_or(|at| at + 1 == inputs.len()), "something follows the look");
            stdin(inputs, LOOK).concat().lines().map(|line| line[22..].to_owned()).collect()
        };
        all.iter().map(one).collect()
    };
    let (one, two) = ("10.244.0.1:8080", "10.244.0.2:8080");
    let none: Vec<String> = Vec::new();
    let states = || vec![with(1), with(2), with(3)];
    assert_eq!(looks(30, states()), [none.clone(), none.clone(), vec![one.to_owned(), two.to_owned()]]);
    assert_eq!(looks(60, states()), [none.clone(), vec![one.to_owned()], vec![two.to_owned()]]);
    // A state without a sync gets none.
    let unchanged = vec![with(1), with(2), with(2), with(3)];
    let expected = [none.clone(), vec![one.to_owned()], none, vec![two.to_owned()]];
    assert_eq!(looks(40, unchanged), expected);
}

#[test]
fn servers_of_udp_and_sctp_and_idle_ones_go_at_once() {
    let with = |proto, from, to| objects(vec![ServicePort { proto, ..service(1, endpoints(from, to)) }]);
    for (proto, option) in [(Proto::Udp, "-u"), (Proto::Sctp, "--sctp-service")] {
        let all = inputs(&hourly([with(proto, 1, 3), with(proto, 2, 3)]), &config(), Family::Ipv4);
        let expected = format!("-d {option} 10.96.0.1:80 -r 10.244.0.1:8080\n");
        assert_eq!(stdin(&all[1], "ipvsadm -R"), [expected]);
    }
    let states = [with(Proto::Tcp, 1, 3), with(Proto::Tcp, 2, 3)];
    let idle: &Connections<'_> = &|_, _| (0, 0);
    let all = inputs_with(&hourly(states), &config(), Family::Ipv4, |_| idle, |_| idle);
    assert_eq!(stdin(&all[1], "ipvsadm -R"), ["-d -t 10.96.0.1:80 -r 10.244.0.1:8080\n"]);
}

#[test]
fn a_server_that_returns_while_it_waits_is_deleted_and_added_anew() {
    let states = [(1, 3), (2, 3), (1, 3)].map(|(from, to)| objects(vec![service(1, endpoints(from, to))]));
    let busy: &Connections<'_> = &|_, _| (3, 1);
    let all = inputs_with(&hourly(states), &config(), Family::Ipv4, |_| busy, |_| busy);
    let expected = "\
-d -t 10.96.0.1:80 -r 10.244.0.1:8080
-a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1
";
    assert_eq!(stdin(&all[2], "ipvsadm -R"), [expected]);
}

#[test]
fn a_service_that_goes_takes_its_server_entries_and_address_unless_its_network_is_excluded() {
    let states =
        [objects(vec![service(1, endpoints(1, 2)), service(2, vec![])]), objects(vec![service(2, vec![])])];
    let all = inputs(&hourly(states.clone()), &config(), Family::Ipv4);
    assert_eq!(stdin(&all[1], "ipvsadm -R"), ["-D -t 10.96.0.1:80\n"]);
    assert_eq!(stdin(&all[1], "ip -batch -"), ["addr del 10.96.0.1/32 dev kube-ipvs0\n"]);
    let entries = "del KUBE-CLUSTER-IP 10.96.0.1,tcp:80\ndel KUBE-IPVS-IPS 10.96.0.1\n";
    assert_eq!(stdin(&all[1], "ipset restore"), [entries]);
    let ipvs = IpvsConfig { exclude_cidrs: vec!["10.96.0.0/30".parse().unwrap()], ..IpvsConfig::default() };
    let all = inputs(&hourly(states), &ProxyConfig { ipvs, ..config() }, Family::Ipv4);
    assert!(stdin(&all[1], "ipvsadm -R").is_empty());
}

#[test]
fn a_server_whose_service_comes_back_while_it_waits_is_lost_until_the_next_sync() {
    let with = |from, to| objects(vec![service(1, endpoints(from, to))]);
    let touched = ProxyObjects { slices_revision: 1, ..with(1, 3) };
    let states = [with(1, 3), with(2, 3), objects(vec![]), with(1, 3), touched];
    let (busy, idle): (&Connections<'_>, &Connections<'_>) = (&|_, _| (1, 0), &|_, _| (0, 0));
    let back = SimTime::ZERO + SimSpan::from_secs(3 * 3600);
    let at_check = |at| if at <= back { busy } else { idle };
    let all = inputs_with(&hourly(states), &config(), Family::Ipv4, |_| busy, at_check);
    assert_eq!(all[3].last().unwrap().stdin, "-d -t 10.96.0.1:80 -r 10.244.0.1:8080\n");
    assert_eq!(stdin(&all[4], "ipvsadm -R"), ["-a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1\n"]);
}

#[test]
fn an_address_stays_bound_as_long_as_one_port_of_its_service_is_there() {
    let second = ServicePort { port: 443, port_name: "https".into(), ..service(1, vec![]) };
    let states = [objects(vec![service(1, vec![]), second.clone()]), objects(vec![second]), objects(vec![])];
    let all = inputs(&hourly(states), &config(), Family::Ipv4);
    assert_eq!(stdin(&all[0], "ip -batch -")[1], "addr add 10.96.0.1/32 dev kube-ipvs0\n");
    assert_eq!(stdin(&all[1], "ipvsadm -R"), ["-D -t 10.96.0.1:80\n"]);
    assert!(stdin(&all[1], "ip -batch -").is_empty());
    assert_eq!(stdin(&all[2], "ip -batch -"), ["addr del 10.96.0.1/32 dev kube-ipvs0\n"]);
}

#[test]
fn ipv6_has_its_own_programs_sets_and_prefixes() {
    let port = ServicePort { cluster_ip: "fd00:96::1".parse().unwrap(), ..service(1, vec![]) };
    let node_ips = vec!["fd00::2".parse().unwrap()];
    let state = ProxyObjects { ports: vec![port], node_ips, ..ProxyObjects::default() };
    let all = inputs(&hourly([state]), &config(), Family::Ipv6);
    assert_eq!(stdin(&all[0], "ip -batch -")[1], "addr add fd00:96::1/128 dev kube-ipvs0\n");
    assert_eq!(stdin(&all[0], "ipvsadm -R"), ["-A -t [fd00:96::1]:80 -s rr\n"]);
    let entries = "add KUBE-6-CLUSTER-IP fd00:96::1,tcp:80\nadd KUBE-6-IPVS-IPS fd00:96::1\n";
    assert_eq!(stdin(&all[0], "ipset restore")[1], entries);
    let rules = stdin(&all[0], "ip6tables-restore -w 5 --noflush --counters")[0];
    assert!(rules.contains("-A KUBE-SERVICES -s ::1/128 -j RETURN\n"), "{rules}");
    assert!(all[0].iter().any(|input| input.command.starts_with("ip6tables -w 5 -N KUBE-SERVICES -t nat")));
}

#[test]
fn affinity_edits_the_virtual_server_and_leaves_its_servers() {
    let sticky = ServicePort { affinity_seconds: Some(600), ..service(1, endpoints(1, 3)) };
    let states = [objects(vec![service(1, endpoints(1, 3))]), objects(vec![sticky])];
    let all = inputs(&hourly(states), &config(), Family::Ipv4);
    assert_eq!(stdin(&all[1], "ipvsadm -R"), ["-E -t 10.96.0.1:80 -s rr -p 600\n"]);
}

#[test]
fn the_first_sync_makes_settings_chains_jumps_device_and_sets() {
    let ipvs = IpvsConfig {
        strict_arp: true,
        timeouts: [900, 0, 300].map(SimSpan::from_secs),
        ..IpvsConfig::default()
    };
    let all = inputs(&hourly([objects(vec![])]), &ProxyConfig { ipvs, ..config() }, Family::Ipv4);
    let commands: Vec<&str> = all[0].iter().map(|input| input.command.as_str()).collect();
    assert_eq!(commands[..2], ["sysctl -p -", "ipvsadm --set 900 0 300"]);
    assert!(all[0][0].stdin.ends_with("arp_ignore = 1\nnet.ipv4.conf.all.arp_announce = 2\n"));
    let count = |part: &str| commands.iter().filter(|c| c.contains(part)).count();
    assert_eq!((count(" -N "), count(" -I ")), (11, 9));
    // Prepended: what stands first in INPUT is made last.
    let to =
        |name: &str| commands.iter().position(|c| c.contains(" -I INPUT ") && c.ends_with(name)).unwrap();
    assert!(to("KUBE-NODE-PORT") < to("KUBE-PROXY-FIREWALL"));
    assert!(to("KUBE-PROXY-FIREWALL") < to("KUBE-IPVS-FILTER"));
    assert_eq!(stdin(&all[0], "ip -batch -"), ["link add kube-ipvs0 type dummy\n"]);
    assert_eq!(stdin(&all[0], "ipset restore")[0].lines().count(), 17);
}

#[test]
fn rules_are_written_as_kube_proxy_writes_them() {
    let config = ProxyConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..config() };
    let all = inputs(&hourly([objects(vec![service(1, endpoints(1, 3))])]), &config, Family::Ipv4);
    let expected = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-POSTROUTING -m comment --comment \"Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose\" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
COMMIT
";
    let written = stdin(&all[0], "iptables-restore -w 5 --noflush --counters");
    assert!(written[0].starts_with(expected), "{}", written[0]);
}

/// A service port with whatever a Service may have.
fn any_port() -> impl Strategy<Value = ServicePort> {
    let shape = (1u8..6, 0u8..4, 0u8..4, prop::sample::select(vec![Proto::Tcp, Proto::Udp, Proto::Sctp]));
    let flags = (any::<[bool; 6]>(), prop::option::of(1u32..1000));
    (shape, flags).prop_map(|((n, from, more, proto), (flags, affinity_seconds))| {
        let [node_port, external, vip, ranges, internal_local, external_local] = flags;
        let mut port = service(n, endpoints(from, from + more));
        port.endpoints.local = port.endpoints.cluster.iter().filter(|ep| ep.is_local).cloned().collect();
        let address = |net: u8, on: bool| if on { vec![IpAddr::from([203, 0, net, n])] } else { vec![] };
        ServicePort {
            proto,
            node_port: if node_port { 30_000 + u16::from(n) } else { 0 },
            external_ips: address(1, external),
            load_balancer_vips: address(2, vip),
            source_ranges: if ranges { vec!["192.168.0.0/24".parse().unwrap()] } else { vec![] },
            affinity_seconds,
            internal_local,
            external_local,
            health_check_node_port: if external_local && vip { 31_000 + u16::from(n) } else { 0 },
            ..port
        }
    })
}

/// A state: no two Services share an address.
fn any_state() -> impl Strategy<Value = ProxyObjects> {
    prop::collection::btree_map(1u8..6, any_port(), 0..5).prop_map(|ports| {
        let mut seen = BTreeSet::new();
        objects(ports.into_values().filter(|port| seen.insert(port.cluster_ip)).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_commands_of_every_sync_lead_to_what_a_full_build_has(
        states in prop::collection::vec(any_state(), 1..6),
        detector: bool,
    ) {
        let cidr = detector.then(|| "10.244.0.0/16".parse().unwrap());
        let config = ProxyConfig { cluster_cidrs: cidr.into_iter().collect(), ..config() };
        let mut model = Model::default();
        for (inputs, objects) in inputs(&hourly(states.clone()), &config, Family::Ipv4).iter().zip(&states) {
            inputs.iter().for_each(|input| model.apply(input));
            let built = Model::of(&build(objects, &config, Family::Ipv4));
            prop_assert_eq!(&Model { alone: Vec::new(), ..model.clone() }, &built);
        }
        // Only the start runs single commands.
        prop_assert_eq!(model.alone.len(), 11 + 9);
    }

    #[test]
    fn servers_entries_and_addresses_follow_from_the_services_and_rules_do_not_grow(state in any_state()) {
        let rules = build(&state, &config(), Family::Ipv4);
        let addresses = |port: &ServicePort| {
            1 + port.external_ips.len() + port.load_balancer_vips.len() + if port.node_port != 0 { 2 } else { 0 }
        };
        let servers: usize = state.ports.iter().map(addresses).sum();
        prop_assert_eq!(rules.ipvs.len(), servers);
        let real = |port: &ServicePort| {
            let used = |only_local| match (only_local, port.endpoints.local.len()) {
                (true, n) if n > 0 => n,
                _ => port.endpoints.cluster.len(),
            };
            used(port.internal_local) + (addresses(port) - 1) * used(port.external_local)
        };
        let reals: usize = rules.ipvs.iter().map(|server| server.real.len()).sum();
        prop_assert_eq!(reals, state.ports.iter().map(real).sum::<usize>());
        let set = |name: &str| rules.ipsets.iter().find(|set| &*set.name == name).unwrap().elements.len();
        prop_assert_eq!(set("KUBE-CLUSTER-IP"), state.ports.len());
        prop_assert_eq!(set("KUBE-IPVS-IPS"), rules.dummy_addrs.len());
        let vips: usize = state.ports.iter().map(|port| port.load_balancer_vips.len()).sum();
        prop_assert_eq!(set("KUBE-LOAD-BALANCER"), vips);
        let count = rules.xtables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum::<usize>();
        // Every set can add a few rules, each load balancer that keeps the node out one; no Service any.
        prop_assert!(count <= 50, "{} rules", count);
    }
}
