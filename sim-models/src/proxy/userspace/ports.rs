//! Proxy ports: the one that kube-proxy listens on for each service port.
//!
//! Source: `pkg/proxy/userspace/port_allocator.go` and `proxier.go:addServiceOnPortInternal`. A real kube-proxy takes a
//! random port of `--proxy-port-range`, or, without one, binds to port 0 and gets a random ephemeral port from the
//! kernel. Here it is the ephemeral port that the Service's name hashes to, or the next free one: the same objects
//! have the same ports, and a Service mostly keeps its port when others come and go. A node that runs out of ports
//! leaves the remaining Services without rules, in both.

use crate::kube::{ProxyObjects, ServicePort};
use crate::proxy::names::service_port_name;
use sim_core::classify::Proto;

/// First ephemeral port (`net.ipv4.ip_local_port_range`).
pub const FIRST: u16 = 32_768;
/// Last ephemeral port.
pub const LAST: u16 = 60_999;
/// How many there are: TCP and UDP ports of a kube-proxy, each.
pub const COUNT: u32 = (LAST - FIRST) as u32 + 1;

/// The proxy port of each service port; none for SCTP, and for those beyond the last free port.
pub fn allocate(objects: &ProxyObjects, minor: u32) -> Vec<Option<u16>> {
    // Of TCP and UDP: how many are taken, and which.
    let mut taken = [(0, vec![false; COUNT as usize]), (0, vec![false; COUNT as usize])];
    let one = |port: &ServicePort| {
        let (count, taken) = match port.proto {
            Proto::Tcp => &mut taken[0],
            Proto::Udp => &mut taken[1],
            Proto::Sctp | Proto::Icmp | Proto::Icmpv6 | Proto::Other(_) => return None,
        };
        if *count == COUNT {
            return None;
        }
        let first = fnv(&format!("{}/{}", service_port_name(port, minor), port.proto)) % COUNT;
        let free = (0..COUNT).map(|n| (first + n) % COUNT).find(|&at| !taken[at as usize]);
        let at = free.expect("fewer are taken than there are");
        *count += 1;
        taken[at as usize] = true;
        Some(FIRST + at as u16)
    };
    objects.ports.iter().map(one).collect()
}

/// FNV-1a, 32 bits.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
