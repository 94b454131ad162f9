//! The states that a proxy sees while a cluster's objects go from one state to another.
//!
//! A proxy has a watch for each kind of object (`pkg/proxy/config/config.go`), and who creates a Service with its
//! EndpointSlices writes the Service first. So a change of both arrives as two: for a moment the new Services have
//! the old slices.
//!
//! Left out: that several slices may arrive in several syncs, which is a race, and a slice that overtakes its
//! Service.

use super::objects::Objects;

/// The states after `old` up to `new`, each different from the one before: Services and everything else of `new`
/// with the slices of `old`, then `new` itself. None if nothing changes.
pub fn arrivals(old: &Objects, new: &Objects) -> Vec<Objects> {
    let services_first = Objects { slices: old.slices.clone(), ..new.clone() };
    let mut states = Vec::with_capacity(2);
    if services_first != *old {
        states.push(services_first);
    }
    if old.slices != new.slices {
        states.push(new.clone());
    }
    states
}

#[cfg(test)]
mod tests {
    use super::super::objects::{EndpointSlice, Port, Service};
    use super::*;
    use sim_core::classify::{Family, Proto};

    fn objects(services: &[&str], slices: &[&str]) -> Objects {
        let port = || Port { name: "http".into(), proto: Proto::Tcp, port: 80, node_port: 0 };
        let service = |name: &&str| {
            Service::cluster_ip("default".into(), (*name).into(), "10.96.0.1".parse().unwrap(), port())
        };
        let slice = |name: &&str| EndpointSlice {
            namespace: "default".into(),
            name: (*name).into(),
            service: Some((*name).into()),
            family: Family::Ipv4,
            endpoints: Vec::new(),
            ports: Vec::new(),
            revision: 0,
        };
        Objects {
            services: services.iter().map(service).collect(),
            slices: slices.iter().map(slice).collect(),
            ..Objects::default()
        }
    }

    #[test]
    fn a_service_arrives_before_its_slices_and_leaves_before_them() {
        let (without, with) = (objects(&["a"], &["a"]), objects(&["a", "b"], &["a", "b"]));
        assert_eq!(arrivals(&without, &with), [objects(&["a", "b"], &["a"]), with.clone()]);
        assert_eq!(arrivals(&with, &without), [objects(&["a"], &["a", "b"]), without]);
    }

    #[test]
    fn states_that_change_nothing_are_left_out() {
        let (old, new) = (objects(&["a"], &["a"]), objects(&["a"], &["b"]));
        assert_eq!(arrivals(&old, &new), [new], "only slices change");
        let new = objects(&["a", "b"], &["a"]);
        assert_eq!(arrivals(&old, &new), [new], "only Services change");
        assert_eq!(arrivals(&old, &old), [], "nothing changes");
    }
}
