//! What rules rest on and their reader might wonder about: notes on stderr, and the guess of the clusterCIDR.

use super::family_name;
use crate::known::KUBERNETES_MINORS;
use ipnet::IpNet;
use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kube::objects::Objects;
use sim_models::proxy::ProxyMode;

/// The smallest network that holds the pod CIDRs of all nodes, unless it holds addresses that are no pod's.
pub fn guess_cluster_cidr(objects: &Objects, family: Family, notes: &mut Vec<String>) -> Option<IpNet> {
    const OTHERWISE: &str = "--cluster-cidr says otherwise";
    let of_family = |cidr: &&IpNet| Family::of(cidr.addr()) == family;
    let mut cidrs = objects.nodes.iter().flat_map(|node| &node.pod_cidrs).filter(of_family);
    let Some(first) = cidrs.next() else {
        let none = "no detector of local traffic: the Nodes have no pod CIDRs";
        notes.push(format!("{none} of {}; {OTHERWISE}", family_name(family)));
        return None;
    };
    let mut net = first.trunc();
    for cidr in cidrs {
        while !net.contains(cidr) {
            net = net.supernet().expect("the network of everything contains every network");
        }
    }
    let nodes = objects.nodes.iter().flat_map(|node| &node.addresses);
    let mut others = nodes.chain(objects.services.iter().flat_map(|service| &service.cluster_ips));
    if let Some(other) = others.find(|addr| net.contains(*addr)) {
        notes.push(format!(
            "no detector of local traffic: {net}, which holds the pod CIDRs of all nodes, holds {other} too; {OTHERWISE}"
        ));
        return None;
    }
    notes.push(format!(
        "{net}, which holds the pod CIDRs of all nodes, is taken for the clusterCIDR; {OTHERWISE}"
    ));
    Some(net)
}

/// What a reader of the rules might wonder about.
pub fn what_is_missing(objects: &Objects, node: &str, family: Family, notes: &mut Vec<String>) {
    if objects.services.is_empty() {
        let skipped: Vec<String> = objects.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let skipped =
            if skipped.is_empty() { String::new() } else { format!("; left out: {}", skipped.join(", ")) };
        notes
            .push(format!("no Services among the objects: these are the rules of an empty cluster{skipped}"));
    } else if objects.slices.is_empty() {
        notes.push("no EndpointSlices among the objects: no Service has endpoints".to_owned());
    }
    match objects.node(node) {
        None if node.is_empty() => {
            notes
                .push("no Nodes among the objects: no endpoint is local, and the node has no address".into());
        }
        None => notes.push(format!("no Nodes among the objects: {node} has no address")),
        Some(here) if !here.addresses.iter().any(|&addr| Family::of(addr) == family) => {
            notes.push(format!("{node} has no {} address", family_name(family)));
        }
        Some(_) => {}
    }
}

/// What of an older version is not modelled.
pub fn not_modelled(mode: &dyn ProxyMode, minor: u32, notes: &mut Vec<String>) {
    let newest = KUBERNETES_MINORS.1.min(mode.versions().1);
    if minor < newest && mode.is_kube_proxys() {
        notes.push(format!(
            "of kube-proxy 1.{minor} in {} mode only what `windtunnel rules --help` lists is modelled; all else is as in \
             1.{newest}",
            mode.name()
        ));
    }
}

/// Feature gates that are off and that this version does not let be turned off, or does not know
/// (`pkg/features/kube_features.go`).
pub fn refused_gates(mode: &dyn ProxyMode, config: &ProxyConfig, notes: &mut Vec<String>) {
    if mode.name() == "ebpf" {
        return;
    }
    let (minor, gates) = (config.kubernetes_minor, config.gates);
    for (name, on, refused, why) in [
        ("AllowServiceExternalIPs", gates.external_ips, minor < 36, "it is new in 1.36"),
        ("PreferSameTrafficDistribution", gates.same_node_hints, minor >= 35, "it is locked on since 1.35"),
        ("MultiCIDRServiceAllocator", gates.service_cidrs, minor >= 34, "it is locked on since 1.34"),
    ] {
        if !on && refused {
            notes
                .push(format!("kube-proxy 1.{minor} would not start with the gate {name} turned off: {why}"));
        }
    }
}
