//! Why a packet ends as it does, in words, and what to look at next.
//!
//! From the rule that decided and its comment; with the cluster's objects from what they say about the Service: endpoints
//! that are not ready, traffic policies, source ranges, a port or an address that is none of a Service.

use super::lookup::{Front, is_known, ports_of};
use super::node::{Cluster, Subject};
use super::report::Explanation;
use sim_core::classify::{Family, Packet, Proto, Verdict};
use sim_models::kernel::explore::Walked;
use sim_models::kernel::hook::CtState;
use sim_models::kernel::narrative::{ChainName, Effect, Event, RuleLine};
use sim_models::kernel::nftables::Statement;
use sim_models::kernel::trace::Step;
use sim_models::kernel::xtables::Match;
use sim_models::kube::ServicePort;
use std::net::SocketAddr;

pub use super::lookup::who;

/// The bit that asks for MASQUERADE, kube-proxy's `iptables.masqueradeBit` unless it is set otherwise.
const MASQUERADE_MARK: u32 = 0x4000;

/// Fills in reasons and hints.
pub fn explain(subject: &Subject, packet: &Packet, walked: &Walked, data: &mut Explanation) {
    let mut out = Reasons { subject, packet, reasons: Vec::new(), hints: Vec::new() };
    match walked.crossing.verdict {
        Verdict::Drop | Verdict::Reject => out.refused(data),
        Verdict::Dnat { .. } => out.delivered(data),
        Verdict::Accept if untracked(walked) => out.reasons.push(
            "rules exempt it from connection tracking (NOTRACK), or no rule asks for that: NAT rules do not see it".to_owned(),
        ),
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

fn untracked(walked: &Walked) -> bool {
    walked.steps.iter().any(|seen| seen.step == Step::Tracked(CtState::Untracked))
}

/// Seconds of ClientIP affinity on the way that is shown.
pub fn affinity_seconds(subject: &Subject, data: &Explanation) -> Option<u32> {
    if let Some(ipvs) = &data.ipvs {
        return ipvs.persistence_seconds;
    }
    let visited: Vec<&ChainName> = data.walk.iter().filter_map(chain_of).collect();
    let stores = data.walk.iter().any(|event| match event {
        Event::Matched { rule, .. } => {
            rule.text.contains("-m recent --set") || rule.text.contains("update @")
        }
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
        Event::Missed { chain, .. } | Event::Matched { chain, .. } | Event::ChainEnd { chain, .. } => {
            Some(chain)
        }
        _ => None,
    }
}

/// What is said of one packet.
pub(super) struct Reasons<'a> {
    pub(super) subject: &'a Subject,
    pub(super) packet: &'a Packet,
    reasons: Vec<String>,
    hints: Vec<String>,
}

impl<'a> Reasons<'a> {
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.reasons.push(text.into());
    }

    pub(super) fn hint(&mut self, text: impl Into<String>) {
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
                self.say(format!(
                    "{verdict} by the policy of {} {}: no rule took it",
                    chain.table, chain.name
                ));
            }
            None => match &data.ipvs {
                Some(ipvs) => self.say(format!(
                    "{verdict} by IPVS: the virtual server {} has no real server that takes connections",
                    ipvs.server
                )),
                None => {
                    self.say(format!("{verdict} by no rule: by the policy of the chain where the walk ends"))
                }
            },
        }
        match self.service() {
            Some((cluster, port, front)) => self.why_no_endpoint(cluster, port, front, verdict),
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
            let at = format!("{} is {} of {name}", self.target(front), front.a_name());
            self.say(at);
        } else if self.subject.cluster.is_none()
            && let Some(name) = ports_of(&self.subject.rules, self.packet.dst)
                .get(&(self.packet.proto, self.packet.dport))
                .filter(|name| !name.is_empty())
        {
            let at = SocketAddr::new(self.packet.dst, self.packet.dport);
            self.say(format!("{at} is of {name}, as a comment says"));
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
            if data.blackhole {
                self.say(
                    "and does not masquerade: answers go to the client past this node, with the pod's address",
                );
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
            if self.subject.mode.name() == "userspace" {
                self.hint(
                    "kube-proxy itself listens there, chooses an endpoint and connects to it: is it alive?",
                );
                return;
            }
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
        let came_marked = data.mark & MASQUERADE_MARK != 0 && mark.is_none();
        let why = match () {
            () if came_marked => "it came with the mark that asks for it",
            () if hairpin => "hairpin, the client is the backend itself and would answer itself directly",
            () if rule.text.contains("! -s ") || rule.text.contains("saddr !=") => {
                "the source is no pod of the cluster"
            }
            () if ["external", "nodeport", "node port"].iter().any(|word| {
                rule.comment.as_ref().is_some_and(|c| c.to_lowercase().contains(word))
                    || chain.name.starts_with("external-")
                    || chain.name.starts_with("KUBE-EXT-")
                    || &*chain.name == "KUBE-LOAD-BALANCER"
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
                "no rule took it, though {} is {} of {}",
                self.target(front),
                front.a_name(),
                port.full_name()
            ));
            data.blackhole = front != Front::NodePort;
            if data.mode == "ipvs" && packet.proto == Proto::Tcp && !packet.flags.syn {
                self.say("IPVS takes a connection up at its SYN only (sysctl net.ipv4.vs.sloppy_tcp is 0)");
                self.hint("--established says that the connection is known");
                return;
            }
            match (front, packet.dst.is_loopback(), data.mode) {
                (Front::NodePort, true, "iptables") if packet.dst.is_ipv4() => self.hint(
                    "iptables.localhostNodePorts false or nodePortAddresses of kube-proxy's configuration leave loopback out",
                ),
                (Front::NodePort, true, mode) => {
                    let family = Family::of(packet.dst);
                    let family = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
                    self.say(format!("{mode} mode has no node ports on loopback addresses of {family}"));
                    return;
                }
                (Front::NodePort, false, _) => {
                    self.hint("nodePortAddresses of kube-proxy's configuration may leave this address out");
                }
                _ => {}
            }
            self.why_no_endpoint(cluster, port, front, data.verdict);
        } else {
            let here = data.walk.iter().any(|event| matches!(event, Event::Routed { local: true }));
            if here {
                self.say(format!(
                    "it is for this node itself: refused unless a process listens on {}/{}",
                    packet.dport, packet.proto
                ));
            } else if self.is_service_address() {
                data.blackhole = true;
                let lost = "it leaves by the default route, where nobody has that address";
                self.say(match packet.proto {
                    Proto::Icmp => {
                        format!("no rule is for icmp: a Service's address answers no ping; {lost}")
                    }
                    Proto::Icmpv6 => {
                        format!("no rule is for ICMPv6: a Service's address answers no ping; {lost}")
                    }
                    proto if !proto.has_ports() => {
                        format!("no rule is for {proto}: Services have ports of tcp, udp and sctp; {lost}")
                    }
                    proto => format!(
                        "no rule is for {}/{proto}: {lost}",
                        SocketAddr::new(packet.dst, packet.dport)
                    ),
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
}

fn last_element(walk: &[Event]) -> Option<(&ChainName, &str)> {
    walk.iter().rev().find_map(|event| match event {
        Event::Matched { chain, rule: RuleLine { element: Some(element), .. } } => {
            Some((chain, element.as_str()))
        }
        _ => None,
    })
}
