//! How the virtual servers found on a node differ from those that are wanted.
//!
//! Order does not count: kube-proxy adds services and endpoints in random order, and `ipvsadm` sorts. A real server
//! of weight 0 that is not wanted is one that kube-proxy lets finish its connections before it deletes it
//! (`pkg/proxy/ipvs/graceful_termination.go`): no difference. Nor is a virtual server that is not wanted in a network of
//! `excludeCIDRs`, which kube-proxy leaves alone.

use super::{RealServer, ServiceKey, VirtualServer, print};
use crate::kernel::dump::Difference;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What differs: in the order of `wanted`, then what is found only.
pub fn diff(wanted: &[VirtualServer], found: &[VirtualServer], excluded: &[IpNet]) -> Vec<Difference> {
    let by_key: BTreeMap<ServiceKey, &VirtualServer> = found.iter().map(|s| (s.key(), s)).collect();
    let mut out = Vec::new();
    for server in wanted {
        match by_key.get(&server.key()) {
            Some(there) => compare(server, there, &mut out),
            None => {
                out.push(Difference { place: place(server), wanted: Some(whole(server)), found: None });
            }
        }
    }
    let wanted: std::collections::BTreeSet<ServiceKey> = wanted.iter().map(VirtualServer::key).collect();
    let is_left = |server: &VirtualServer| excluded.iter().any(|network| network.contains(&server.addr));
    for server in found.iter().filter(|server| !wanted.contains(&server.key()) && !is_left(server)) {
        out.push(Difference { place: place(server), wanted: None, found: Some(whole(server)) });
    }
    out
}

fn place(server: &VirtualServer) -> String {
    format!("ipvs {} {}", server.proto.name(), SocketAddr::new(server.addr, server.port))
}

/// A server with its real servers, a line each.
fn whole(server: &VirtualServer) -> String {
    let mut lines = vec![print::virtual_server(server)];
    lines.extend(server.real.iter().map(|real| print::real_server(server, real)));
    lines.join("\n")
}

fn compare(wanted: &VirtualServer, found: &VirtualServer, out: &mut Vec<Difference>) {
    let [line, other] = [wanted, found].map(print::virtual_server);
    if line != other {
        out.push(Difference { place: place(wanted), wanted: Some(line), found: Some(other) });
    }
    let [want, have] = [wanted, found].map(|server| {
        let by_addr = server.real.iter().map(|real| (real.addr, real));
        by_addr.collect::<BTreeMap<SocketAddr, &RealServer>>()
    });
    let line = |real: &RealServer| Some(print::real_server(wanted, real));
    for (addr, real) in &want {
        match have.get(addr) {
            Some(there) if there == real => {}
            there => {
                let found = there.and_then(|there| line(there));
                out.push(Difference { place: place(wanted), wanted: line(real), found });
            }
        }
    }
    for (addr, real) in &have {
        if !want.contains_key(addr) && real.weight != 0 {
            out.push(Difference { place: place(wanted), wanted: None, found: line(real) });
        }
    }
}
