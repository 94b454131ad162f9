//! Why a packet ends as it does, in words, and what to look at next.
//!
//! From the rule that decided and its comment; with the cluster's objects from what they say about the Service: endpoints
//! that are not ready, traffic policies, source ranges, a port or an address that is none of a Service.

use super::lookup::{Front, has_node_port, is_known, ports_of};
use super::node::{Cluster, Subject};
use super::report::Explanation;
use sim_core::classify::{Packet, Proto, Verdict};
use sim_models::kernel::explore::Walked;
use sim_models::kernel::narrative::{ChainName, Effect, Event, RuleLine};
use sim_models::kernel::nftables::Statement;
use sim_models::kernel::xtables::Match;
use sim_models::kube::ServicePort;
use std::net::SocketAddr;

pub use super::lookup::who;

/// Endpoints that are told one by one.
const SHOWN: usize = 4;

/// Fills in reasons and hints.
pub fn explain(subject: &Subject, packet: &Packet, walked: &Walked, data: &mut Explanation) {
    let mut out = Reasons { subject, packet, reasons: Vec::new(), hints: Vec::new() };
    match walked.crossing.verdict {
        Verdict::Drop | Verdict::Reject => out.refused(data),
        Verdict::Dnat { .. } => out.delivered(data),
        Verdict::Accept if !walked.crossing.first => out.reasons.push(
            "the packet belongs to a connection that was there before: NAT rules do not see it".to_owned(),
        ),
        Verdict::Accept => out.passed(data),
    }
    if !subject.knows_its_ips && !packet.src.is_loopback() {
        out.hints.push(format!(
            "the node's own addresses are not known, {} stands for them: --node-address says them (node ports need it)",
            subject.node_ips[0]
        ));
    }
    (data.reasons, data.hints) = (out.reasons, out.hints);
}

/// Seconds of ClientIP affinity on the way that is shown.
pub fn affinity_seconds(subject: &Subject, data: &Explanation) -> Option<u32> {
    if let Some(ipvs) = &data.ipvs {
        return ipvs.persistence_seconds;
    }
    let visited: Vec<&ChainName> = data.walk.iter().filter_map(chain_of).collect();
    let stores = data.walk.iter().any(|event| match event {
        Event::Matched { rule, .. } => rule.text.contains("-m recent --set") || rule.text.contains("update @"),
        _ => false,
    });
    if !stores {
        return None;
    }
    let tables = subject.rules.xtables.iter().flat_map(|t| t.chains.iter().map(move |c| (t.name.name(), c)));
    let here = tables.filter(|(table, c)| visited.iter().any(|v| v.table == *table && v.name == *c.name));
    let by_recent = here.flat_map(|(_, c)| &c.rules).flat_map(|r| &r.matches).find_map(|m| match m {
        Match::Recent { set: false, seconds, .. } => *seconds,
        _ => None,
    });
    by_recent.or_else(|| {
        let table = subject.rules.nftables.as_ref()?;
        let chains = table.chains.iter().filter(|c| visited.iter().any(|v| v.name == *c.name));
        chains.flat_map(|c| &c.rules).flat_map(|r| &r.statements).find_map(|s| match s {
            Statement::Update { set, .. } => table.sets[set.0 as usize].timeout_seconds,
            _ => None,
        })
    })
}

fn chain_of(event: &Event) -> Option<&ChainName> {
    match event {
        Event::Missed { chain, .. } | Event::Matched { chain, .. } | Event::ChainEnd { chain, .. } => Some(chain),
        _ => None,
    }
}

struct Reasons<'a> {
    subject: &'a Subject,
    packet: &'a Packet,
    reasons: Vec<String>,
    hints: Vec<String>,
}

impl<'a> Reasons<'a> {
    fn say(&mut self, text: impl Into<String>) {
        self.reasons.push(text.into());
    }

    fn hint(&mut self, text: impl Into<String>) {
        self.hints.push(text.into());
    }

    /// REJECT or DROP.
    fn refused(&mut self, data: &Explanation) {
        let decisive = data.walk.iter().rev().find_map(|event| match event {
            Event::Matched { chain, rule } if matches!(rule.effect, Effect::Drop | Effect::Reject) => {
                Some((chain, Some(rule)))
            }
            Event::ChainEnd { chain, policy: "DROP" } => Some((chain, None)),
            _ => None,
        });
        let verdict = data.verdict;
        match decisive {
            Some((chain, Some(rule))) => {
                let place = format!("rule {} of {} {}", rule.number, chain.table, chain.name);
                let comment = rule.comment.as_ref().map_or(rule.text.clone(), |c| format!("\"{c}\""));
                self.say(format!("{verdict} by {place}: {comment}"));
                // The map that leads there names the Service.
                if rule.comment.is_none()
                    && let Some((_, element)) = last_element(&data.walk)
                {
                    self.say(format!("the packet is found in {element}"));
                }
            }
            Some((chain, None)) => {
                self.say(format!("{verdict} by the policy of {} {}: no rule took it", chain.table, chain.name));
            }
            None => match &data.ipvs {
                Some(ipvs) => self.say(format!(
                    "{verdict} by IPVS: the virtual server {} has no real server that takes connections",
                    ipvs.server
                )),
                None => self.say(format!("{verdict} by no rule: connection tracking has no place for it")),
            },
        }
        match self.service() {
            Some((cluster, port, front)) => self.why_no_endpoint(cluster, port, front),
            // Of rules alone: that they know the address and not the port, no more.
            None if self.subject.cluster.is_none() => {
                let known = ports_of(&self.subject.rules, self.packet.dst);
                if !known.is_empty() && !known.contains_key(&(self.packet.proto, self.packet.dport)) {
                    self.no_service();
                }
            }
            None => self.no_service(),
        }
    }

    fn delivered(&mut self, data: &mut Explanation) {
        if let Some((_, port, front)) = self.service() {
            let name = port.full_name();
            let at = format!("{} is a {} of {name}", self.target(front), front.name());
            self.say(at);
        }
        let masqueraded = data.outcomes.iter().any(|outcome| outcome.masquerade);
        if let Some((cluster, port, front)) = self.service()
            && front != Front::ClusterIp
            && port.external_local
            && port.endpoints.local.is_empty()
            && !masqueraded
            && data.ipvs.is_some()
        {
            // `pkg/proxy/ipvs/proxier.go:syncEndpoint` falls back to all endpoints, for the node's own pods.
            data.blackhole = data.origin == "wire";
            self.say(format!(
                "externalTrafficPolicy is Local and no endpoint is on {}: ipvs mode sends to other nodes all the same",
                cluster.node
            ));
            self.say("and does not masquerade: answers go to the client past this node, with the pod's address");
            if data.blackhole {
                return;
            }
        }
        if masqueraded {
            self.masqueraded(data);
        }
        if data.outcomes.iter().any(|outcome| outcome.hairpin && !outcome.shown) {
            self.say("one of the backends is the client itself (hairpin): that way it is masqueraded too");
        }
        if data.flow.is_none() {
            let listens = data.outcomes.iter().find_map(|o| o.to).map_or(0, |to| to.port());
            self.hint(format!(
                "rules deliver; if nothing answers: pod listening on {listens}? NetworkPolicy? routes?"
            ));
        }
    }

    /// Which rule asked for it, and what that means.
    fn masqueraded(&mut self, data: &Explanation) {
        let shown = data.outcomes.iter().find(|outcome| outcome.shown);
        let hairpin = shown.is_some_and(|outcome| outcome.hairpin);
        let mut asked: Option<(&ChainName, &RuleLine)> = None;
        let mut before: Option<(&ChainName, &RuleLine)> = None;
        let mut mark = None;
        for event in &data.walk {
            let Event::Matched { chain, rule } = event else { continue };
            if let Effect::Mark(set) = rule.effect
                && set != 0
            {
                mark = Some(set);
                // The chain that only marks says nothing: who jumped there does.
                let only_marks = rule.text.starts_with("-j ");
                asked = if only_marks { before.or(Some((chain, rule))) } else { Some((chain, rule)) };
            } else if matches!(rule.effect, Effect::Masquerade) && asked.is_none() {
                asked = Some((chain, rule));
            }
            before = Some((chain, rule));
        }
        let Some((chain, rule)) = asked else { return };
        let why = match () {
            () if hairpin => "hairpin, the client is the backend itself and would answer itself directly",
            () if rule.text.contains("! -s ") || rule.text.contains("saddr !=") => {
                "the source is no pod of the cluster"
            }
            () if ["external", "nodeport", "node port"].iter().any(|word| {
                rule.comment.as_ref().is_some_and(|c| c.to_lowercase().contains(word))
                    || chain.name.starts_with("external-")
                    || chain.name.starts_with("KUBE-EXT-")
            }) =>
            {
                "external traffic under externalTrafficPolicy Cluster may end on another node"
            }
            () => "the rule asks for it",
        };
        let mark = mark.map_or(String::new(), |mark| format!("mark {mark:#x} by "));
        self.say(format!(
            "masqueraded, the backend sees the node: {why} ({mark}rule {} of {} {})",
            rule.number, chain.table, chain.name
        ));
    }

    /// ACCEPT with the destination as it was.
    fn passed(&mut self, data: &mut Explanation) {
        let packet = self.packet;
        if let Some((cluster, port, front)) = self.service() {
            self.say(format!(
                "no rule took it, though {} is a {} of {}",
                self.target(front),
                front.name(),
                port.full_name()
            ));
            data.blackhole = front != Front::NodePort;
            if front == Front::NodePort {
                self.hint("nodePortAddresses of kube-proxy's configuration may leave this address out");
            }
            self.why_no_endpoint(cluster, port, front);
        } else {
            let here = data.walk.iter().any(|event| matches!(event, Event::Routed { local: true }));
            if here {
                self.say(format!("it is for this node itself: refused unless a process listens on {}/{}", packet.dport, packet.proto));
            } else if self.is_service_address() {
                data.blackhole = true;
                let lost = "it leaves by the default route, where nobody has that address";
                self.say(match packet.proto {
                    Proto::Icmp => format!("no rule is for icmp: a Service's address answers no ping; {lost}"),
                    proto => format!("no rule is for {}/{proto}: {lost}", SocketAddr::new(packet.dst, packet.dport)),
                });
            } else {
                self.say(format!("no rule changed it: it goes to {} as it is", packet.dst));
            }
            self.no_service();
        }
    }

    /// An address that only rules answer for.
    fn is_service_address(&self) -> bool {
        let dst = self.packet.dst;
        match &self.subject.cluster {
            Some(cluster) => {
                let in_cidr = cluster.resolved.service_cidrs.iter().any(|cidr| cidr.contains(&dst));
                in_cidr || cluster.resolved.ports.iter().any(|port| port.cluster_ip == dst)
            }
            None => is_known(&self.subject.rules, dst) && !self.subject.node_ips.contains(&dst),
        }
    }

    fn target(&self, front: Front) -> String {
        match front {
            Front::NodePort => format!("{}/{}", self.packet.dport, self.packet.proto),
            _ => SocketAddr::new(self.packet.dst, self.packet.dport).to_string(),
        }
    }

    /// The Service port that the packet is for.
    fn service(&self) -> Option<(&'a Cluster, &'a ServicePort, Front)> {
        let cluster = self.subject.cluster.as_ref()?;
        let (port, front) = cluster.service_at(self.packet.dst, self.packet.dport, self.packet.proto)?;
        Some((cluster, port, front))
    }

    /// A Service port that refuses: what of its endpoints, policies and ranges is in the way.
    fn why_no_endpoint(&mut self, cluster: &Cluster, port: &ServicePort, front: Front) {
        let name = format!("{}/{}", port.namespace, port.name);
        let is_external = front != Front::ClusterIp;
        let all = cluster.endpoints(port);
        let ready = all.iter().filter(|(_, e)| e.ready).count();
        let kubectl = format!("kubectl -n {} get endpointslices,pods -o wide", port.namespace);
        let ranges = &port.source_ranges;
        if front == Front::LoadBalancer && !ranges.is_empty() && !ranges.iter().any(|r| r.contains(&self.packet.src))
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
            self.hint(format!("kubectl -n {} describe service {}, and compare its selector with the pods' labels", port.namespace, port.name));
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
            let mut nodes: Vec<&str> = all.iter().filter(|(_, e)| e.ready).filter_map(|(_, e)| e.node.as_deref()).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let shown: Vec<&str> = nodes.iter().copied().take(SHOWN).collect();
            let more = if nodes.len() > SHOWN { format!(" and {} more", nodes.len() - SHOWN) } else { String::new() };
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
    fn no_service(&mut self) {
        let Packet { dst, dport, proto, .. } = *self.packet;
        let rules = &self.subject.rules;
        let known = ports_of(rules, dst);
        let Some(cluster) = self.subject.cluster.as_ref() else {
            if !self.subject.knows_its_ips && has_node_port(rules, dport, proto) {
                self.hint(format!("rules have a node port {dport}/{proto}: if {dst} is the node's, say --node-address {dst}"));
            }
            if proto == Proto::Icmp {
                return;
            }
            if !known.is_empty() {
                let ports: Vec<String> =
                    known.iter().map(|((proto, port), name)| with_name(*port, proto.name(), name)).collect();
                self.say(format!("rules know {dst}, but not port {dport}/{proto}; they have {}", some(&ports)));
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
            let front = cluster.front(first, dst).expect("it was found by it").name();
            let ports: Vec<String> = of_addr.iter().map(|p| with_name(p.port, p.proto.name(), &p.port_name)).collect();
            let name = format!("{}/{}", first.namespace, first.name);
            self.say(match proto {
                Proto::Icmp => format!("{dst} is a {front} of {name}, with {}", some(&ports)),
                _ => format!(
                    "{dst} is a {front} of {name}, which has no port {dport}/{proto}; it has {}",
                    some(&ports)
                ),
            });
            let target = of_addr.iter().find(|p| cluster.endpoints(p).iter().any(|(addr, _)| addr.port() == dport));
            if let Some(port) = target {
                self.hint(format!("{dport} is the pods' own port; clients use {}", port.port));
            }
            return;
        }
        if let Some(node) = cluster.node_at(dst) {
            let by_port = cluster.resolved.ports.iter().find(|p| dport != 0 && (p.node_port, p.proto) == (dport, proto));
            if *node.name != *cluster.node {
                self.say(format!("{dst} is an address of {}: rules of that node count, --node {}", node.name, node.name));
                return;
            }
            match by_port {
                Some(port) => self.say(format!("{dport}/{proto} is the node port of {}", port.full_name())),
                None => {
                    self.say(format!("{dst} is this node, and no Service has the node port {dport}/{proto}"));
                    let mut near: Vec<&ServicePort> = cluster.resolved.ports.iter().filter(|p| p.node_port != 0).collect();
                    near.sort_by_key(|p| (p.node_port.abs_diff(dport), p.node_port));
                    let near: Vec<String> =
                        near.iter().take(3).map(|p| format!("{}/{} {}", p.node_port, p.proto, p.full_name())).collect();
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
            let of = if services.is_empty() { String::new() } else { format!(", an endpoint of {}", some(&services)) };
            self.say(format!("{dst} is a pod ({who}){of}: no rule of kube-proxy is for it"));
            return;
        }
        if cluster.objects.nodes.iter().flat_map(|node| &node.pod_cidrs).any(|cidr| cidr.contains(&dst)) {
            self.say(format!("{dst} is in the network of pods, and no pod or endpoint has it"));
            return;
        }
        self.say(format!("no Service has the address {dst}"));
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

fn last_element(walk: &[Event]) -> Option<(&ChainName, &str)> {
    walk.iter().rev().find_map(|event| match event {
        Event::Matched { chain, rule: RuleLine { element: Some(element), .. } } => Some((chain, element.as_str())),
        _ => None,
    })
}
