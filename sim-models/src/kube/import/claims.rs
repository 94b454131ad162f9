//! What only one Service may have: its cluster IPs, and ports of the nodes.
//!
//! The API server allocates both (`pkg/registry/core/service`); kube-proxy would write the rules of both Services, and
//! which of them counted would be chance. External IPs and load balancers' addresses may be shared.

use super::position::Step::{self, At, Key};
use crate::kube::objects::Service;
use sim_core::classify::Proto;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Namespace and name.
type Owner = (Arc<str>, Arc<str>);

/// Who has what.
#[derive(Default)]
pub(super) struct Claims {
    cluster_ips: BTreeMap<IpAddr, Owner>,
    node_ports: BTreeMap<(Proto, u16), Owner>,
}

impl Claims {
    /// Gives a Service what it asks for, or nothing and what others have of it.
    pub(super) fn claim(&mut self, service: &Service) -> Vec<(Vec<Step<'static>>, String)> {
        let mut taken = Vec::new();
        let several = service.cluster_ips.len() > 1;
        for (i, ip) in service.cluster_ips.iter().enumerate() {
            if let Some((namespace, name)) = self.cluster_ips.get(ip) {
                let path = if several {
                    vec![Key("spec"), Key("clusterIPs"), At(i)]
                } else {
                    vec![Key("spec"), Key("clusterIP")]
                };
                taken.push((path, format!("{ip} is the cluster IP of Service {namespace}/{name} too")));
            }
        }
        let own: Vec<(Vec<Step<'static>>, Proto, u16)> = node_ports(service);
        let mut asked: Vec<(Proto, u16)> = Vec::new();
        for (path, proto, port) in &own {
            if let Some((namespace, name)) = self.node_ports.get(&(*proto, *port)) {
                let message = format!("{port}/{} is a port of Service {namespace}/{name} too", proto.name());
                taken.push((path.clone(), message));
            }
            asked.push((*proto, *port));
        }
        asked.sort_unstable();
        if let Some(twice) = asked.windows(2).find(|pair| pair[0] == pair[1]) {
            let (proto, port) = twice[0];
            let path = own.iter().rev().find(|(_, p, n)| (*p, *n) == (proto, port)).map(|own| own.0.clone());
            let message = format!("{port}/{} is another port of the Service too", proto.name());
            taken.push((path.unwrap_or_default(), message));
        }
        if taken.is_empty() {
            let owner = (service.namespace.clone(), service.name.clone());
            self.cluster_ips.extend(service.cluster_ips.iter().map(|ip| (*ip, owner.clone())));
            self.node_ports.extend(asked.into_iter().map(|asked| (asked, owner.clone())));
        }
        taken
    }
}

/// Ports that a Service opens on every node.
fn node_ports(service: &Service) -> Vec<(Vec<Step<'static>>, Proto, u16)> {
    let ports = service.ports.iter().enumerate().filter(|(_, port)| port.node_port != 0);
    let mut own: Vec<_> = ports
        .map(|(i, port)| {
            (vec![Key("spec"), Key("ports"), At(i), Key("nodePort")], port.proto, port.node_port)
        })
        .collect();
    if service.health_check_node_port != 0 {
        let path = vec![Key("spec"), Key("healthCheckNodePort")];
        own.push((path, Proto::Tcp, service.health_check_node_port));
    }
    own
}
