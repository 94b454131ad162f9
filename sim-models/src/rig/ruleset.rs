//! The rules that each case was measured under: kube-proxy's, written by a generator that left out what
//! kube-proxy adds for itself (table mangle with its canary chains, loopback protection, the counter of invalid
//! packets). Small copies of the generator's files are in `tests/rig/rulesets/`, and a test compares.

use super::case::Case;
use super::cell::Unpredicted;
use crate::config::{IpvsConfig, ProxyConfig, XtablesBackend};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{Match, TableName};
use crate::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use crate::proxy::{self, names, names::ServiceChain};
use ipnet::IpNet;
use sim_core::classify::Family;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// First NodePort.
pub(super) const NODE_PORTS: u16 = 30_000;
/// Port of every Service.
pub(super) const PORT: u16 = 80;

/// Addresses of one family.
pub(super) struct Addresses {
    /// A pod.
    pub client: IpAddr,
    /// A machine that is no part of the cluster.
    pub outside: IpAddr,
    /// The node's address, where NodePorts are answered.
    pub node: IpAddr,
    /// The node's address on the way to the pods behind Services, which masquerading gives.
    pub near_backends: IpAddr,
    /// The node's address on the client's side.
    pub near_client: IpAddr,
    /// Cluster address of Service 0; the others follow.
    vip: IpAddr,
    /// External address of Service 0.
    external: IpAddr,
    /// First endpoint of Service 0.
    endpoint: IpAddr,
    /// Network of the pods that may call Services without masquerading.
    pods: &'static str,
    services: &'static str,
}

impl Addresses {
    pub(super) fn of(family: Family) -> Self {
        match family {
            Family::Ipv4 => Addresses {
                client: Ipv4Addr::new(10, 64, 1, 2).into(),
                outside: Ipv4Addr::new(192, 168, 0, 77).into(),
                node: Ipv4Addr::new(192, 168, 0, 2).into(),
                near_backends: Ipv4Addr::new(10, 80, 0, 1).into(),
                near_client: Ipv4Addr::new(10, 64, 0, 1).into(),
                vip: Ipv4Addr::new(172, 20, 0, 1).into(),
                external: Ipv4Addr::new(198, 18, 0, 1).into(),
                endpoint: Ipv4Addr::new(10, 80, 1, 0).into(),
                pods: "10.64.0.0/10",
                services: "172.20.0.0/14",
            },
            Family::Ipv6 => Addresses {
                client: v6("fd01:64::2"),
                outside: v6("fd00:9::77"),
                node: v6("fd00:9::2"),
                near_backends: v6("fd01:80::1"),
                near_client: v6("fd01:64::1"),
                vip: v6("fd02:20::1"),
                external: v6("fd03:18::1"),
                endpoint: v6("fd01:80::100"),
                pods: "fd01:64::/32",
                services: "fd02:20::/108",
            },
        }
    }

    /// All of the node's.
    pub(super) fn of_node(&self) -> [IpAddr; 3] {
        [self.near_backends, self.node, self.near_client]
    }

    pub(super) fn vip(&self, service: u32) -> IpAddr {
        plus(self.vip, service)
    }

    pub(super) fn external(&self, service: u32) -> IpAddr {
        plus(self.external, service)
    }

    pub(super) fn endpoint(&self, at: u32) -> IpAddr {
        plus(self.endpoint, at)
    }
}

fn v6(text: &str) -> IpAddr {
    text.parse::<Ipv6Addr>().expect("a constant").into()
}

/// The address `n` after this one.
pub(super) fn plus(addr: IpAddr, n: u32) -> IpAddr {
    match addr {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) + n).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) + u128::from(n)).into(),
    }
}

/// The Services of a case: `services` with endpoints, then those without.
pub(super) fn objects(case: &Case, services: u32, endpoints: u32) -> ProxyObjects {
    let addresses = Addresses::of(case.family);
    let ports = (0..services + case.without_endpoints)
        .map(|i| {
            let of = if i < services { 0..endpoints } else { 0..0 };
            let list: Vec<Endpoint> = of
                .map(|k| Endpoint {
                    addr: SocketAddr::new(addresses.endpoint(i * endpoints + k), 8080),
                    is_local: false,
                })
                .collect();
            let lists = EndpointLists::ready(list);
            let mut port =
                ServicePort::http(&format!("ns-{i}"), &format!("svc-{i:05}"), addresses.vip(i), lists);
            port.proto = case.proto;
            if case.node_ports {
                port.node_port = NODE_PORTS + i as u16;
            }
            if case.external_ips {
                port.external_ips = vec![addresses.external(i)];
            }
            port.affinity_seconds = case.affinity.then_some(10_800);
            port
        })
        .collect();
    ProxyObjects {
        ports,
        service_cidrs: vec![network(addresses.services)],
        node_ips: vec![addresses.node],
        ..ProxyObjects::default()
    }
}

fn network(text: &str) -> IpNet {
    text.parse().expect("a constant")
}

/// The rules of a mode for them.
pub(super) fn rules(case: &Case, mode: &str, objects: &ProxyObjects) -> Result<NodeRules, Unpredicted> {
    let (mode_name, minor, scheduler) = match mode {
        "ipt" => ("iptables", 36, "rr"),
        "iptnft" => ("iptables", 36, "rr"),
        "ipt_pre121" => ("iptables", 20, "rr"),
        "nft136" => ("nftables", 36, "rr"),
        "nft" => ("nftables", 29, "rr"),
        other => match other.strip_prefix("ipvs-") {
            Some(scheduler) => ("ipvs", 36, scheduler),
            None => return Err(Unpredicted(format!("mode {other}: not one the rig had"))),
        },
    };
    let config = ProxyConfig {
        mode: mode_name.to_owned(),
        kubernetes_minor: minor,
        backend: if mode == "iptnft" { XtablesBackend::Nft } else { XtablesBackend::Legacy },
        ipvs: IpvsConfig { scheduler: scheduler.to_owned(), ..IpvsConfig::default() },
        cluster_cidrs: vec![network(Addresses::of(case.family).pods)],
        ..ProxyConfig::default()
    };
    let mut rules = if mode_name == "ipvs" {
        proxy::ipvs::build_measured_shape(objects, &config, case.family)
    } else {
        let mode = proxy::mode(mode_name).expect("one of the two above");
        mode.build(objects, &config, case.family)
    };
    // kube-proxy gives mh a flag (`FlagSourceHash`) that means mh-port; ipvsadm, which the rig used, gives none.
    for server in &mut rules.ipvs {
        server.flags = Default::default();
    }
    strip(&mut rules);
    if minor == 20 {
        ports_first(&mut rules);
    }
    rename(&mut rules, objects);
    Ok(rules)
}

/// In the older layout the generator wrote the port before the comment.
fn ports_first(rules: &mut NodeRules) {
    let services =
        rules.xtables.iter_mut().flat_map(|t| &mut t.chains).filter(|c| &*c.name == "KUBE-SERVICES");
    for rule in services.flat_map(|chain| &mut chain.rules) {
        if let [comment @ Match::Comment(_), ports @ Match::Ports { .. }] = &mut rule.matches[..] {
            std::mem::swap(comment, ports);
        }
    }
}

/// Gives chains, and the lists of `-m recent` that are named after them, the names that the generator gave: its
/// hashes are of `svc/NUMBER` and `sep/NUMBER/ADDRESS`, the latter of IPv4. (The kernel searches those lists in the order of the names.)
fn rename(rules: &mut NodeRules, objects: &ProxyObjects) {
    let mut names: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    let (v4, mut number) = (Addresses::of(Family::Ipv4), 0);
    for (i, port) in objects.ports.iter().enumerate() {
        let (full_name, proto) = (port.full_name(), port.proto.name());
        let hash = names::service_hash(&full_name, proto);
        let new = names::hash16(&[&format!("svc/{i}")]);
        for kind in [ServiceChain::Cluster, ServiceChain::External] {
            names.insert(names::service_chain(kind, &hash), names::service_chain(kind, &new));
        }
        for e in &port.endpoints.cluster {
            let new = names::hash16(&[&format!("sep/{i}/{}", v4.endpoint(number))]);
            number += 1;
            let old = names::endpoint_chain(&full_name, proto, &e.addr.to_string());
            names.insert(old, ["KUBE-SEP-", &new].concat().into());
        }
    }
    let new = |name: &Arc<str>| names.get(name).cloned();
    for chain in rules.xtables.iter_mut().flat_map(|table| &mut table.chains) {
        chain.name = new(&chain.name).unwrap_or_else(|| chain.name.clone());
        for m in chain.rules.iter_mut().flat_map(|rule| &mut rule.matches) {
            if let Match::Recent { name, .. } = m {
                *name = new(name).unwrap_or_else(|| name.clone());
            }
        }
    }
}

/// Takes out what the generator left out.
fn strip(rules: &mut NodeRules) {
    rules.xtables.retain(|t| t.name != TableName::Mangle);
    for table in &mut rules.xtables {
        table.remove_chain("KUBE-PROXY-CANARY");
        table.remove_chain("KUBE-FIREWALL");
        for rule in table.chains.iter_mut().flat_map(|c| &mut c.rules) {
            let invalid = |m: &Match| matches!(m, Match::Conntrack { states, .. } if states.invalid);
            if rule.matches.iter().any(invalid) {
                rule.matches.retain(|m| !matches!(m, Match::Nfacct(_)));
            }
        }
    }
}
