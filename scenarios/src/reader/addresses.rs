//! Networks and addresses.

use super::{Context, Reader, Spot};
use crate::keys::Key;
use crate::refusal::{Refusal, Refusals};
use crate::tree::{Node, Value};
use ipnet::IpNet;
use sim_models::config::NodePortAddresses;
use std::net::{IpAddr, SocketAddr};

/// A network without bits beyond its prefix.
fn network(key: &Key, text: &str) -> Result<IpNet, Refusal> {
    let net: IpNet = text.parse().map_err(|_| {
        Refusal::new(format!("`{text}` is not a network")).help(format!("allowed: {}", key.kind.expected()))
    })?;
    if net.addr() != net.network() {
        return Err(Refusal::new(format!("`{text}` has bits beyond its prefix"))
            .label(format!("did you mean `{}`?", net.trunc())));
    }
    Ok(net)
}

fn networks(key: &Key, node: &Node) -> Result<Vec<IpNet>, Refusals> {
    let Value::Array(items) = &node.value else { return Err(Refusal::kind(key, node).into()) };
    let mut nets = Vec::new();
    let mut refusals = Vec::new();
    for item in items {
        match &item.value {
            Value::Text(text) => match network(key, text) {
                Ok(net) => nets.push(net),
                Err(refusal) => refusals.push(refusal.at(item.at)),
            },
            _ => refusals.push(Refusal::kind(key, item).at(item.at)),
        }
    }
    if refusals.is_empty() { Ok(nets) } else { Err(Refusals(refusals)) }
}

impl Reader<'_> {
    /// A network.
    pub fn cidr(&self, cx: &mut Context<'_>, name: &str) -> Spot<IpNet> {
        self.spot(cx, name, IpNet::default(), |key, node, _| {
            let Value::Text(text) = &node.value else { return Err(Refusal::kind(key, node)) };
            network(key, text)
        })
    }

    /// A list of networks.
    pub fn cidrs(&self, cx: &mut Context<'_>, name: &str) -> Spot<Vec<IpNet>> {
        self.spot(cx, name, Vec::new(), |key, node, _| networks(key, node))
    }

    /// Addresses that answer NodePorts.
    pub fn node_port_addresses(&self, cx: &mut Context<'_>, name: &str) -> Spot<NodePortAddresses> {
        self.spot(cx, name, NodePortAddresses::Unset, |key, node, _| {
            if let Value::Array(items) = &node.value
                && let [Node { value: Value::Text(word), .. }] = &items[..]
                && word == "primary"
            {
                return Ok(NodePortAddresses::Primary);
            }
            networks(key, node).map(|nets| match nets.is_empty() {
                true => NodePortAddresses::Unset,
                false => NodePortAddresses::Cidrs(nets),
            })
        })
    }

    /// An IP address.
    pub fn address(&self, cx: &mut Context<'_>, name: &str) -> Spot<IpAddr> {
        self.spot(cx, name, IpAddr::from([0, 0, 0, 0]), |key, node, _| {
            let Value::Text(text) = &node.value else { return Err(Refusal::kind(key, node)) };
            text.parse().map_err(|_| {
                Refusal::new(format!("`{text}` is not an IP address"))
                    .help(format!("allowed: {}", key.kind.expected()))
            })
        })
    }

    /// A list of `ip:port`.
    pub fn targets(&self, cx: &mut Context<'_>, name: &str) -> Spot<Vec<SocketAddr>> {
        self.spot(cx, name, Vec::new(), |key, node, _| {
            let Value::Array(items) = &node.value else { return Err(Refusal::kind(key, node).into()) };
            let mut targets = Vec::new();
            let mut refusals = Vec::new();
            for item in items {
                match &item.value {
                    Value::Text(text) => match text.parse() {
                        Ok(target) => targets.push(target),
                        Err(_) => refusals.push(
                            Refusal::new(format!("`{text}` is not an address with a port"))
                                .at(item.at)
                                .help(format!("allowed: {}", key.kind.expected())),
                        ),
                    },
                    _ => refusals.push(Refusal::kind(key, item).at(item.at)),
                }
            }
            if refusals.is_empty() { Ok(targets) } else { Err(Refusals(refusals)) }
        })
    }
}
