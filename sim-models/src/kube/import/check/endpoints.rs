//! EndpointSlices, and Endpoints as the slices that they are mirrored into.

use super::Checker;
use crate::kube::import::mirror::{Pending, Subset};
use crate::kube::import::position::Step::{self, At, Key};
use crate::kube::import::position::quoted;
use crate::kube::import::raw;
use crate::kube::import::shape::{Capped, is_label_value, key};
use crate::kube::objects::{EndpointSlice, Hints, SliceEndpoint, SlicePort};
use sim_core::classify::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

impl Checker<'_> {
    pub(in super::super) fn slice(&mut self, raw: &raw::EndpointSlice<'_>) {
        let (namespace, name) = self.names_of(&raw.metadata);
        let service = raw.metadata.label(key::SERVICE_NAME).filter(|name| !name.is_empty());
        let service = service.map(|service| self.name(service));
        // Even if there is something wrong with the slice: the Service's Endpoints do not count then.
        self.gathered.mirror.has_slice(&namespace, service.as_ref());
        let path = [Key("addressType")];
        let family = match raw.address_type.as_deref() {
            None => return self.error(&path, "is missing".to_owned()),
            // kube-proxy logs and ignores it.
            Some("FQDN") => return,
            family => self.word(family, &path, &[("IPv4", Family::Ipv4), ("IPv6", Family::Ipv6)]),
        };
        let given = self.list(raw.endpoints.as_ref(), &[Key("endpoints")]);
        let mut endpoints = Vec::with_capacity(given.len());
        for (i, endpoint) in given.iter().enumerate() {
            let path = [Key("endpoints"), At(i)];
            if let Some(address) = self.first_address(endpoint, family, &path) {
                endpoints.push(self.endpoint(endpoint, address, &path));
            }
        }
        let ports = self.slice_ports(raw.ports.as_ref(), &[Key("ports")]);
        if raw.ports.iter().flat_map(|ports| ports.iter()).any(|port| port.name.is_none()) {
            let first = || (0, format!("{namespace}/{name}"));
            self.gathered.nameless_ports.get_or_insert_with(first).0 += 1;
        }
        let revision = raw.metadata.revision();
        // kube-proxy does not list the slices of headless Services.
        if raw.metadata.label(key::HEADLESS).is_none() {
            let slice = EndpointSlice { namespace, name, service, family, endpoints, ports, revision };
            self.gathered.objects.slices.push(slice);
        }
    }

    /// The address that a proxy uses; all of them are checked.
    fn first_address(
        &mut self,
        raw: &raw::Endpoint<'_>,
        family: Family,
        path: &[Step<'static>; 2],
    ) -> Option<IpAddr> {
        let list_path = [path[0], path[1], Key("addresses")];
        let addresses = self.list(raw.addresses.as_ref(), &list_path);
        if addresses.is_empty() {
            self.error(&list_path, "is empty: an endpoint has an address".to_owned());
        }
        let mut first = None;
        for (i, address) in addresses.iter().enumerate() {
            let path = [path[0], path[1], Key("addresses"), At(i)];
            let Some(address) = self.routable(address, &path) else { continue };
            if Family::of(address) != family {
                self.error(&path, format!("{address} is not of the slice's addressType"));
            }
            if i == 0 {
                first = Some(address);
            }
        }
        first
    }

    fn endpoint(
        &mut self,
        raw: &raw::Endpoint<'_>,
        address: IpAddr,
        path: &[Step<'static>; 2],
    ) -> SliceEndpoint {
        let unset = raw::Conditions::default();
        let conditions = raw.conditions.as_ref().unwrap_or(&unset);
        let hints = raw.hints.as_ref().map(|hints| {
            let zones = self.hints(hints.for_zones.as_ref(), false, path);
            let nodes = self.hints(hints.for_nodes.as_ref(), true, path);
            Box::new(Hints { zones, nodes })
        });
        // v1beta1 has it among the topology keys.
        let topology = || raw.topology.as_ref().and_then(|topology| topology.get(key::HOSTNAME));
        let node = raw.node_name.as_deref().or_else(topology);
        SliceEndpoint {
            address,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            node: node.map(|node| self.node_name(node, &[path[0], path[1], Key("nodeName")])),
            hints,
        }
    }

    fn node_name(&mut self, node: &str, path: &[Step<'static>]) -> Arc<str> {
        self.dns_name(node, path);
        self.name(node)
    }

    fn hints(
        &mut self,
        hints: Option<&Capped<raw::Hint<'_>, { raw::MAX_HINTS }>>,
        nodes: bool,
        path: &[Step<'static>; 2],
    ) -> Vec<Arc<str>> {
        let list = if nodes { "forNodes" } else { "forZones" };
        let path = [path[0], path[1], Key("hints"), Key(list)];
        let mut names: Vec<Arc<str>> = Vec::new();
        for (i, hint) in self.list(hints, &path).iter().enumerate() {
            let path = [path[0], path[1], path[2], path[3], At(i), Key("name")];
            if nodes {
                self.dns_name(&hint.name, &path);
            } else if !is_label_value(&hint.name) {
                self.error(&path, format!("{} is no zone: it is no value of a label", quoted(&hint.name)));
            }
            if names.iter().any(|name| **name == *hint.name) {
                self.error(&path, format!("{} is there twice", quoted(&hint.name)));
            }
            names.push(self.name(&hint.name));
        }
        names
    }

    fn slice_ports(
        &mut self,
        raw: Option<&Capped<raw::EndpointPort<'_>, { raw::MAX_PORTS }>>,
        path: &[Step<'static>],
    ) -> Vec<SlicePort> {
        let mut ports = Vec::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (i, port) in self.list(raw, path).iter().enumerate() {
            let at = |key: &'static str| -> Vec<Step<'static>> { [path, &[At(i), Key(key)]].concat() };
            if let Some(name) = port.name.as_deref() {
                if !name.is_empty() && !super::names::is_dns_label(name) {
                    self.dns_label(name, &at("name"));
                }
                if !names.insert(name) {
                    self.error(&at("name"), format!("{} is the name of another port", quoted(name)));
                }
            }
            let number = self.port(port.port, true, &at("port"));
            let proto = self.protocol(port.protocol.as_deref(), &at("protocol"));
            // Without a name or a number the entry stands for all ports, which is nothing a proxy can use.
            if let (Some(name), true) = (&port.name, number != 0) {
                ports.push(SlicePort { name: self.name(name), proto, port: number });
            }
        }
        ports
    }

    pub(in super::super) fn endpoints(&mut self, raw: &raw::Endpoints<'_>) {
        let (namespace, name) = self.names_of(&raw.metadata);
        let mut subsets = Vec::new();
        for (i, subset) in self.list(raw.subsets.as_ref(), &[Key("subsets")]).iter().enumerate() {
            let path = [Key("subsets"), At(i)];
            let mut addresses = self.subset_addresses(subset.addresses.as_ref(), true, &path);
            addresses.extend(self.subset_addresses(subset.not_ready_addresses.as_ref(), false, &path));
            let mut ports = self.slice_ports(subset.ports.as_ref(), &[path[0], path[1], Key("ports")]);
            // Here a port without a name is the only one of its Service.
            let nameless =
                subset.ports.iter().flat_map(|ports| ports.iter()).filter(|port| port.name.is_none());
            for port in nameless {
                let proto = self.protocol(port.protocol.as_deref(), &path);
                let number = port.port.and_then(|port| u16::try_from(port.0).ok()).unwrap_or(0);
                ports.push(SlicePort { name: self.name(""), proto, port: number });
            }
            subsets.push(Subset { addresses, ports });
        }
        let leader = raw.metadata.annotations.as_ref().is_some_and(|a| a.get(key::LEADER).is_some());
        self.gathered.mirror.pending.push(Pending {
            namespace,
            name,
            revision: raw.metadata.revision(),
            not_for_mirroring: leader || raw.metadata.label(key::SKIP_MIRROR) == Some("true"),
            headless: raw.metadata.label(key::HEADLESS).is_some(),
            subsets,
        });
    }

    fn subset_addresses(
        &mut self,
        raw: Option<&Capped<raw::EndpointAddress<'_>, { raw::MAX_ENDPOINTS }>>,
        ready: bool,
        path: &[Step<'static>; 2],
    ) -> Vec<SliceEndpoint> {
        let list = if ready { "addresses" } else { "notReadyAddresses" };
        let mut endpoints = Vec::new();
        // Not self.list: the controller mirrors the first thousand and leaves out the rest.
        for (i, raw) in raw.iter().flat_map(|list| list.iter()).enumerate() {
            let at = |key| [path[0], path[1], Key(list), At(i), Key(key)];
            let Some(ip) = raw.ip.as_deref() else {
                self.error(&at("ip"), "is missing".to_owned());
                continue;
            };
            let node = raw.node_name.as_deref();
            let node = node.map(|node| self.node_name(node, &at("nodeName")));
            let Some(address) = self.routable(ip, &at("ip")) else { continue };
            endpoints.push(SliceEndpoint {
                address,
                ready,
                serving: true,
                terminating: false,
                node,
                hints: None,
            });
        }
        endpoints
    }
}
