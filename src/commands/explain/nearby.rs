//! What stands where a packet went, and what is near: endpoints that are not ready, policies and source ranges in the way,
//! ports and addresses that are none of a Service's.

use super::lookup::{Front, has_node_port, is_known, ports_of, who};
use super::node::Cluster;
use super::why::Reasons;
use sim_core::classify::Packet;
use sim_models::kube::ServicePort;

/// Endpoints that are told one by one.
const SHOWN: usize = 4;

impl Reasons<'_> {
    /// A Service port that refuses: what of its endpoints, policies and ranges is in the way.
    pub(super) fn why_no_endpoint(
        &mut self,
        cluster: &Cluster,
        port: &ServicePort,
        front: Front,
        verdict: &str,
    ) {
        let name = format!("{}/{}", port.namespace, port.name);
        let is_external = front != Front::ClusterIp;
        let all = cluster.endpoints(port);
        let ready = all.iter().filter(|(_, e)| e.ready).count();
        let kubectl = format!("kubectl -n {} get endpointslices,pods -o wide", port.namespace);
        let ranges = &port.source_ranges;
        // What is out of range is dropped; a REJECT has another reason, and what passed was not asked.
        if front == Front::LoadBalancer
            && verdict == "DROP"
            && !ranges.is_empty()
            && !ranges.iter().any(|r| r.contains(&self.packet.src))
        {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            self.say(format!(
                "{} is in none of loadBalancerSourceRanges of {name}: {}",
                self.packet.src,
                ranges.join(", ")
            ));
            return;
        }
        if all.is_empty() {
            if cluster.has_slices(port) {
                self.say(format!(
                    "{name} has endpoints, but none of port `{}`/{}: its targetPort names a port that pods do not have",
                    port.port_name, port.proto
                ));
            } else {
                self.say(format!("{name} has no endpoints at all: no pod matches its selector"));
            }
            self.hint(format!(
                "kubectl -n {} describe service {}, and compare its selector with the pods' labels",
                port.namespace, port.name
            ));
            return;
        }
        if ready == 0 {
            self.say(format!("{name} has {}, none of them ready:", count(all.len(), "endpoint")));
            for (addr, endpoint) in all.iter().take(SHOWN) {
                let state = match (endpoint.terminating, endpoint.serving) {
                    (true, true) => "terminating, still serving",
                    (true, false) => "terminating",
                    (false, _) => "not ready",
                };
                let who = who(self.subject, *addr).map_or(String::new(), |who| format!(" ({who})"));
                self.say(format!("  {addr}{who}: {state}"));
            }
            if all.len() > SHOWN {
                self.say(format!("  and {} more", all.len() - SHOWN));
            }
            self.hint(format!("pods exist but are not ready: {kubectl}; look at their readiness probes"));
            return;
        }
        let policy = match (is_external && port.external_local, !is_external && port.internal_local) {
            (true, _) => "externalTrafficPolicy",
            (_, true) => "internalTrafficPolicy",
            _ => {
                self.say(format!("{name} has {} of {} endpoints ready", ready, all.len()));
                return;
            }
        };
        if port.endpoints.local.is_empty() {
            let node = &cluster.node;
            self.say(format!("{policy} of {name} is Local, and no endpoint on {node} is ready"));
            let mut nodes: Vec<&str> =
                all.iter().filter(|(_, e)| e.ready).filter_map(|(_, e)| e.node.as_deref()).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let shown: Vec<&str> = nodes.iter().copied().take(SHOWN).collect();
            let more = if nodes.len() > SHOWN {
                format!(" and {} more", nodes.len() - SHOWN)
            } else {
                String::new()
            };
            self.say(format!("ready endpoints are on {}{more}", shown.join(", ")));
            if is_external {
                self.hint("send to one of those nodes; externalTrafficPolicy Cluster serves everywhere, but hides clients");
            }
            if port.health_check_node_port != 0 {
                self.hint(format!(
                    "a load balancer learns that from http://{node}:{}/healthz, which answers 503 here",
                    port.health_check_node_port
                ));
            }
        }
    }

    /// An address and port that is none of a Service's: what it is, and what is near.
    pub(super) fn no_service(&mut self) {
        let Packet { dst, dport, proto, .. } = *self.packet;
        let rules = &self.subject.rules;
        let known = ports_of(rules, dst);
        let Some(cluster) = self.subject.cluster.as_ref() else {
            if !self.subject.knows_its_ips && has_node_port(rules, dport, proto) {
                self.hint(format!(
                    "rules have a node port {dport}/{proto}: if {dst} is the node's, say --node-address {dst}"
                ));
            }
            if !proto.has_ports() {
                return;
            }
            if !known.is_empty() {
                let ports: Vec<String> =
                    known.iter().map(|((proto, port), name)| with_name(*port, proto.name(), name)).collect();
                self.say(format!(
                    "rules know {dst}, but not port {dport}/{proto}; they have {}",
                    some(&ports)
                ));
            } else if is_known(rules, dst) {
                self.say(format!("rules know {dst} as an address of a Service, and no port of it"));
            } else if self.subject.node_ips.contains(&dst) {
                self.say(format!("no rule of a node port is for {dport}/{proto}"));
            } else {
                self.say(format!("no rule names {dst}: it is the address of no Service on this node"));
            }
            return;
        };
        let of_addr: Vec<&ServicePort> =
            cluster.resolved.ports.iter().filter(|port| cluster.front(port, dst).is_some()).collect();
        if let Some(first) = of_addr.first() {
            let front = cluster.front(first, dst).expect("it was found by it").a_name();
            let ports: Vec<String> =
                of_addr.iter().map(|p| with_name(p.port, p.proto.name(), &p.port_name)).collect();
            let name = format!("{}/{}", first.namespace, first.name);
            self.say(match proto.has_ports() {
                false => format!("{dst} is {front} of {name}, with {}", some(&ports)),
                true => format!(
                    "{dst} is {front} of {name}, which has no port {dport}/{proto}; it has {}",
                    some(&ports)
                ),
            });
            let mut by_target = of_addr.iter().filter(|p| p.port != dport && p.proto == proto);
            let target =
                by_target.find(|p| cluster.endpoints(p).iter().any(|(addr, _)| addr.port() == dport));
            if let Some(port) = target {
                self.hint(format!("{dport} is the pods' own port; clients use {}", port.port));
            }
            return;
        }
        if let Some(node) = cluster.node_at(dst) {
            let by_port = cluster
                .resolved
                .ports
                .iter()
                .find(|p| dport != 0 && (p.node_port, p.proto) == (dport, proto));
            if *node.name != *cluster.node {
                self.say(format!(
                    "{dst} is an address of {}: rules of that node count, --node {}",
                    node.name, node.name
                ));
                return;
            }
            match by_port {
                Some(port) => self.say(format!("{dport}/{proto} is the node port of {}", port.full_name())),
                None => {
                    self.say(format!("{dst} is this node, and no Service has the node port {dport}/{proto}"));
                    let mut near: Vec<&ServicePort> =
                        cluster.resolved.ports.iter().filter(|p| p.node_port != 0).collect();
                    near.sort_by_key(|p| (p.node_port.abs_diff(dport), p.node_port));
                    let near: Vec<String> = near
                        .iter()
                        .take(3)
                        .map(|p| format!("{}/{} {}", p.node_port, p.proto, p.full_name()))
                        .collect();
                    if !near.is_empty() {
                        self.hint(format!("node ports near: {}", near.join(", ")));
                    }
                }
            }
            return;
        }
        let services = cluster.services_of_endpoint(dst);
        if cluster.pod_at(dst).is_some() || !services.is_empty() {
            let who = who(self.subject, (dst, dport).into()).unwrap_or_default();
            let of = if services.is_empty() {
                String::new()
            } else {
                format!(", an endpoint of {}", some(&services))
            };
            self.say(format!("{dst} is a pod ({who}){of}: no rule of kube-proxy is for it"));
            return;
        }
        if cluster.objects.nodes.iter().flat_map(|node| &node.pod_cidrs).any(|cidr| cidr.contains(&dst)) {
            self.say(format!("{dst} is in the network of pods, and no pod or endpoint has it"));
            return;
        }
        if let Some(name) = cluster.others_service_at(dst) {
            self.say(format!(
                "{dst} is an address of {name}, whose label service.kubernetes.io/service-proxy-name leaves it to \
                 another proxy: kube-proxy has no rules for it"
            ));
            return;
        }
        self.say(format!("no Service that kube-proxy serves has the address {dst}"));
        let near: Vec<String> =
            cluster.near(dst, 3).into_iter().map(|(addr, name)| format!("{addr} {name}")).collect();
        if !near.is_empty() {
            self.hint(format!("ClusterIPs near: {}", near.join(", ")));
        }
    }
}

/// `80/tcp (http)`.
fn with_name(port: u16, proto: &str, name: &str) -> String {
    if name.is_empty() { format!("{port}/{proto}") } else { format!("{port}/{proto} ({name})") }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The first of a list, and how many more.
fn some(all: &[String]) -> String {
    let shown = all.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > 6 { format!("{shown} and {} more", all.len() - 6) } else { shown }
}
