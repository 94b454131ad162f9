//! Changes to resolved Services while a simulation runs: one endpoint goes, another comes.
//!
//! Works in place on one Service port, so that its cost does not grow with the number of Services. What a
//! change does to hints, draining endpoints or the slices themselves is left to [`resolve`](super::resolve).

use super::{Endpoint, ProxyObjects};
use std::net::SocketAddr;

/// A change that was asked of an endpoint that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such Service port.
    #[error("there is no service port {index}: there are {ports}")]
    NoPort {
        /// Asked for.
        index: usize,
        /// Number of Service ports.
        ports: usize,
    },
    /// No such endpoint.
    #[error("{service} has no endpoint {index}: it has {endpoints}")]
    NoEndpoint {
        /// Name of the Service port.
        service: String,
        /// Asked for.
        index: usize,
        /// Number of reachable endpoints.
        endpoints: usize,
    },
    /// The new endpoint is there already.
    #[error("{service} has the endpoint {addr} already")]
    Present {
        /// Name of the Service port.
        service: String,
        /// The endpoint.
        addr: SocketAddr,
    },
}

impl ProxyObjects {
    /// Replaces endpoint `endpoint` of the reachable list of port `port` by `addr`, in all lists that have it,
    /// keeping the order by the text "IP:port". `is_local`: the new one runs on this node. Returns what was
    /// replaced.
    pub fn replace_endpoint(
        &mut self,
        port: usize,
        endpoint: usize,
        addr: SocketAddr,
        is_local: bool,
    ) -> Result<Endpoint, ChangeError> {
        let ports = self.ports.len();
        let port = self.ports.get_mut(port).ok_or(ChangeError::NoPort { index: port, ports })?;
        let Some(old) = port.endpoints.reachable.get(endpoint).cloned() else {
            let endpoints = port.endpoints.reachable.len();
            return Err(ChangeError::NoEndpoint { service: port.full_name(), index: endpoint, endpoints });
        };
        if old.addr != addr && port.endpoints.reachable.iter().any(|e| e.addr == addr) {
            return Err(ChangeError::Present { service: port.full_name(), addr });
        }
        let (uses_cluster, uses_local) = (port.uses_cluster_endpoints(), port.uses_local_endpoints());
        let new = Endpoint { addr, is_local };
        let lists = &mut port.endpoints;
        let in_cluster = lists.cluster.iter().any(|e| e.addr == old.addr);
        for list in [&mut lists.cluster, &mut lists.local, &mut lists.reachable] {
            list.retain(|e| e.addr != old.addr);
        }
        if uses_cluster && in_cluster {
            insert_sorted(&mut lists.cluster, new.clone());
        }
        if uses_local && is_local {
            insert_sorted(&mut lists.local, new.clone());
        }
        // Without policy Cluster an endpoint elsewhere is out of reach.
        if uses_cluster || is_local {
            insert_sorted(&mut lists.reachable, new);
        }
        Ok(old)
    }
}

fn insert_sorted(list: &mut Vec<Endpoint>, new: Endpoint) {
    let key = new.addr.to_string();
    let at = list.partition_point(|e| e.addr.to_string() < key);
    list.insert(at, new);
}
