//! A packet tracer over restored rules, in the manner of kube-proxy's own tests.
//!
//! Walks what kube-proxy's chains say to the first packet of a connection: nat KUBE-SERVICES, then the filter
//! chains on its way. Random choices are taken all at once; affinity, marks and connection states never match.

use crate::restore::{Kernel, jump};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub src: IpAddr,
    pub proto: &'static str,
    pub dst: SocketAddr,
}

/// What becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Where it may be sent to, or a verdict; empty if no rule is for it.
    pub to: BTreeSet<String>,
    /// Its source is replaced on the way.
    pub masquerade: bool,
}

impl Outcome {
    /// As tests write it: destinations with commas, then whether it is masqueraded.
    pub fn text(&self) -> String {
        let to: Vec<&str> = self.to.iter().map(String::as_str).collect();
        let suffix = if self.masquerade { " masqueraded" } else { "" };
        format!("{}{suffix}", if to.is_empty() { "nothing".to_owned() } else { to.join(", ") })
    }
}

/// A node that rules were restored on.
pub struct Tracer {
    pub kernel: Kernel,
    pub node_ips: Vec<IpAddr>,
}

impl Tracer {
    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.node_ips.contains(&ip)
    }

    /// What becomes of a packet that no connection knows.
    pub fn trace(&self, packet: Packet) -> Outcome {
        let mut outcome = Outcome::default();
        self.walk("nat", "KUBE-SERVICES", packet, &mut outcome);
        // Chains in their order before a packet leaves the node, by the hooks that it passes.
        let from_node = self.is_local(packet.src);
        let chains: &[&str] = match (from_node, self.is_local(packet.dst.ip())) {
            (true, _) => &["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"],
            (false, true) => {
                &["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"]
            }
            (false, false) => &["KUBE-PROXY-FIREWALL", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"],
        };
        // What was translated has another destination by then.
        if outcome.to.is_empty() {
            for chain in chains {
                if self.kernel.tables["filter"].contains_key(*chain)
                    && self.walk("filter", chain, packet, &mut outcome)
                {
                    break;
                }
            }
        }
        outcome
    }

    /// Walks a chain. True if no packet comes back from it.
    fn walk(&self, table: &str, chain: &str, packet: Packet, outcome: &mut Outcome) -> bool {
        if chain == "KUBE-MARK-MASQ" {
            outcome.masquerade = true;
            return false;
        }
        for rule in self.kernel.rules(table, chain) {
            let Some(certain) = self.matches(rule, packet) else { continue };
            let ended = if let Some(to) = jump(rule) {
                self.walk(table, to, packet, outcome)
            } else if let Some((_, target)) = rule.split_once("-j ") {
                let to = target.strip_prefix("DNAT --to-destination ").unwrap_or(target);
                outcome.to.insert(to.to_owned());
                true
            } else {
                false
            };
            if ended && certain {
                return true;
            }
        }
        false
    }

    /// Whether a rule is for the packet: `None` if not, else whether always.
    fn matches(&self, rule: &str, packet: Packet) -> Option<bool> {
        let (conditions, _) = rule.split_once("-j ").unwrap_or((rule, ""));
        let mut words = unquoted(conditions).into_iter().peekable();
        let (mut certain, mut invert) = (true, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} without a value in {rule:?}"));
            let matches = match word.as_str() {
                "!" => {
                    invert = true;
                    continue;
                }
                "-m" | "--comment" | "--nfacct-name" | "--mode" => {
                    value();
                    continue;
                }
                "--probability" => {
                    value();
                    certain = false;
                    continue;
                }
                "-p" => value() == packet.proto,
                "-s" => contains(&value(), packet.src),
                "-d" => contains(&value(), packet.dst.ip()),
                "--dport" => value() == packet.dst.port().to_string(),
                "--src-type" => value() == "LOCAL" && self.is_local(packet.src),
                "--dst-type" => value() == "LOCAL" && self.is_local(packet.dst.ip()),
                "--rcheck" | "--mark" | "--ctstate" => {
                    // The state of a new connection: neither marked nor known.
                    if word != "--rcheck" {
                        value();
                    }
                    false
                }
                "--set" => true,
                "--name" => {
                    value();
                    continue;
                }
                other => panic!("the tracer does not know {other} in {rule:?}"),
            };
            if matches == std::mem::take(&mut invert) {
                return None;
            }
        }
        Some(certain)
    }
}

/// Words of a rule; what is in quotes is one.
fn unquoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Whether an address or a network holds `ip`.
fn contains(net: &str, ip: IpAddr) -> bool {
    match net.parse::<IpNet>() {
        Ok(net) => net.contains(&ip),
        Err(_) => net.parse::<IpAddr>().unwrap_or_else(|_| panic!("{net:?} is no address")) == ip,
    }
}
