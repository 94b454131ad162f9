//! Names of per-Service chains and sets (`pkg/proxy/nftables/proxier.go:servicePortChainNameBase`,
//! `servicePortEndpointChainNameBase`, `hashAndTruncate`): eight characters of a hash, then the readable name,
//! cut with "..." at 240 characters.

use crate::kube::ServicePort;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// Longest base of a name.
const LONGEST: usize = 240;

/// Longest text of a chain name without its prefix: hash and readable part.
pub fn service_base(port: &ServicePort) -> String {
    hash_and_truncate(&format!("{}/{}/{}/{}", port.namespace, port.name, port.proto, port.port_name))
}

/// The base of an endpoint's chain and affinity set; colons of IPv6 addresses become dots.
pub fn endpoint_base(port: &ServicePort, endpoint: SocketAddr) -> String {
    let ip = endpoint.ip().to_string().replace(':', ".");
    let service = format!("{}/{}/{}/{}", port.namespace, port.name, port.proto, port.port_name);
    hash_and_truncate(&format!("{service}__{ip}/{}", endpoint.port()))
}

fn hash_and_truncate(name: &str) -> String {
    let mut out = base32_prefix(&Sha256::digest(name.as_bytes()));
    out.push('-');
    out.push_str(name);
    if out.len() > LONGEST {
        out.truncate(LONGEST - 3);
        out.push_str("...");
    }
    out
}

/// The first eight characters of standard base32: five bytes.
fn base32_prefix(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits = bytes[..5].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    (0..8).map(|i| char::from(ALPHABET[(bits >> (35 - 5 * i)) as usize & 31])).collect()
}
