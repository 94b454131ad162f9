//! What a change of the objects makes kube-proxy do: nothing, write some Services, or write everything.
//!
//! Source: `pkg/proxy/servicechangetracker.go`, `endpointschangetracker.go` and `endpointslicecache.go` (any
//! difference of a slice counts, annotations included), and `OnTopologyChange` of the proxiers. What counts is the
//! whole Service: a change of one port has all of them written.
//!
//! Left out: what time brings about (the hourly full sync, a retry after a failure), and a node's new addresses,
//! which kube-proxy only logs.

use crate::kube::{ProxyObjects, ServicePort};
use std::collections::BTreeSet;

/// Namespace and name of a Service.
pub type ServiceName<'a> = (&'a str, &'a str);

/// What a sync has to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes<'a> {
    /// Nothing changed for this family: there is no sync.
    Nothing,
    /// The rules that are written every time, and those of these Services. None where only slices changed that
    /// belong to no Service.
    Services(BTreeSet<ServiceName<'a>>),
    /// Everything: the node has another zone.
    Everything,
}

impl<'a> Changes<'a> {
    /// What has to be written after `old` became `new`.
    pub fn between(old: &'a ProxyObjects, new: &'a ProxyObjects) -> Self {
        if old.zone != new.zone {
            return Changes::Everything;
        }
        let mut changed = BTreeSet::new();
        let (old_ports, new_ports) = (sorted(old), sorted(new));
        let (mut old_left, mut new_left) = (&old_ports[..], &new_ports[..]);
        loop {
            // A port of only one of the two stands at the front of one list: its Service changed.
            let (port, both) = match (old_left.first(), new_left.first()) {
                (None, None) => break,
                (Some(a), Some(b)) if key(a) == key(b) => (a, a == b),
                (Some(a), Some(b)) => (if key(a) < key(b) { a } else { b }, false),
                (Some(port), None) | (None, Some(port)) => (port, false),
            };
            if !both {
                changed.insert((&*port.namespace, &*port.name));
            }
            for left in [&mut old_left, &mut new_left] {
                if left.first().is_some_and(|first| key(first) == key(port)) {
                    *left = &left[1..];
                }
            }
        }
        if changed.is_empty() && old.slices_revision == new.slices_revision {
            return Changes::Nothing;
        }
        Changes::Services(changed)
    }

    /// Whether all of this port is written.
    pub fn include(&self, port: &ServicePort) -> bool {
        match self {
            Changes::Nothing => false,
            Changes::Services(services) => services.contains(&(&*port.namespace, &*port.name)),
            Changes::Everything => true,
        }
    }
}

/// What tells two ports apart.
fn key(port: &ServicePort) -> (ServiceName<'_>, &str, u8) {
    ((&port.namespace, &port.name), &port.port_name, port.proto.number())
}

fn sorted(objects: &ProxyObjects) -> Vec<&ServicePort> {
    let mut ports: Vec<&ServicePort> = objects.ports.iter().collect();
    ports.sort_by(|a, b| key(a).cmp(&key(b)));
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::EndpointLists;

    fn objects(names: &[&str]) -> ProxyObjects {
        let port = |name: &&str| {
            ServicePort::http("ns", name, "10.96.0.1".parse().unwrap(), EndpointLists::default())
        };
        ProxyObjects { ports: names.iter().map(port).collect(), ..ProxyObjects::default() }
    }

    fn services<'a>(names: &[&'a str]) -> Changes<'a> {
        Changes::Services(names.iter().map(|&name| ("ns", name)).collect())
    }

    #[test]
    fn services_that_come_go_or_differ_are_changed() {
        let old = objects(&["a", "b", "c"]);
        let mut new = objects(&["d", "b", "a"]);
        assert_eq!(Changes::between(&old, &new), services(&["c", "d"]));
        new.ports[1].revision = 1;
        assert_eq!(Changes::between(&old, &new), services(&["b", "c", "d"]));
    }

    #[test]
    fn the_order_of_services_is_no_change() {
        assert_eq!(Changes::between(&objects(&["a", "b"]), &objects(&["b", "a"])), Changes::Nothing);
    }

    #[test]
    fn a_change_of_one_port_is_one_of_its_service() {
        let mut old = objects(&["a", "a"]);
        old.ports[0].port_name = "dns".into();
        let mut new = old.clone();
        new.ports[0].port = 53;
        let changes = Changes::between(&old, &new);
        assert!(new.ports.iter().all(|port| changes.include(port)), "{changes:?}");
    }

    #[test]
    fn a_slice_without_a_service_causes_a_sync_that_writes_no_service() {
        let (old, mut new) = (objects(&["a"]), objects(&["a"]));
        new.slices_revision = 1;
        assert_eq!(Changes::between(&old, &new), services(&[]));
    }

    #[test]
    fn a_new_zone_has_everything_written_and_a_new_service_cidr_nothing() {
        let (old, mut new) = (objects(&["a"]), objects(&["a"]));
        new.service_cidrs.push("10.96.0.0/12".parse().unwrap());
        assert_eq!(Changes::between(&old, &new), Changes::Nothing);
        new.zone = Some("z".into());
        assert_eq!(Changes::between(&old, &new), Changes::Everything);
    }
}
