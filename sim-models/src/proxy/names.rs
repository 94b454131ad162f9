//! The hashed names that kube-proxy gives to chains and sets.
//!
//! Source: `pkg/proxy/iptables/proxier.go:portProtoHash`, `servicePortEndpointChainName`, and
//! `pkg/proxy/nftables/proxier.go:hashAndTruncate`, `servicePortChainNameBase`,
//! `servicePortEndpointChainNameBase`. Hashes of different Services can collide in principle; neither
//! kube-proxy nor this model looks for that.

use crate::kube::ServicePort;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// Kinds of per-Service chain in iptables mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceChain {
    /// Spreads over the endpoints of policy Cluster.
    Cluster,
    /// Spreads over this node's endpoints.
    Local,
    /// Entry of traffic from outside.
    External,
    /// Checks a load balancer's source ranges.
    Firewall,
}

impl ServiceChain {
    /// The prefix before the hash.
    pub fn prefix(self) -> &'static str {
        match self {
            ServiceChain::Cluster => "KUBE-SVC-",
            ServiceChain::Local => "KUBE-SVL-",
            ServiceChain::External => "KUBE-EXT-",
            ServiceChain::Firewall => "KUBE-FW-",
        }
    }
}

/// First Kubernetes minor version whose ServicePortName of an unnamed port has no colon at its end. Before,
/// `ServicePortName.String` (`pkg/proxy/types.go`) wrote the colon always: so in 1.15.5, and in kube-proxy 1.16.11's
/// log (kubernetes/kubernetes issue 92275). That 1.19 is the first without it is second-hand: a maintainer of
/// submariner (its pull request 1092) says so and cites kubernetes commit 341022f8d136.
pub const FIRST_MINOR_WITHOUT_TRAILING_COLON: u32 = 19;

/// The ServicePortName that comments show and chain names hash, as kube-proxy 1.`minor` writes it.
pub fn service_port_name(port: &ServicePort, minor: u32) -> String {
    let mut name = port.full_name();
    if port.port_name.is_empty() && minor < FIRST_MINOR_WITHOUT_TRAILING_COLON {
        name.push(':');
    }
    name
}

/// The first `chars` (at most 32) characters of base32(sha256(parts joined)), standard alphabet.
fn hash_chars(parts: &[&str], chars: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    // Eight characters are five bytes.
    let mut out = String::with_capacity(chars);
    for group in digest.chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, &byte| (bits << 8) | u64::from(byte));
        for k in 0..8 {
            if out.len() == chars {
                return out;
            }
            out.push(char::from(ALPHABET[((bits >> (35 - 5 * k)) & 31) as usize]));
        }
    }
    assert!(out.len() == chars, "a hash has {} whole characters, {chars} were asked for", out.len());
    out
}

/// 16 characters of hash over the parts written one after another.
pub fn hash16(parts: &[&str]) -> String {
    hash_chars(parts, 16)
}

/// Hash of a Service port, shared by its four chain names.
pub fn service_hash(full_name: &str, proto: &str) -> String {
    hash16(&[full_name, proto])
}

/// Name of a chain of the Service port with this hash.
pub fn service_chain(kind: ServiceChain, hash: &str) -> Arc<str> {
    [kind.prefix(), hash].concat().into()
}

/// Name of the KUBE-SEP- chain of an endpoint; `endpoint` is the text `IP:port`.
pub fn endpoint_chain(full_name: &str, proto: &str, endpoint: &str) -> Arc<str> {
    ["KUBE-SEP-", &hash16(&[full_name, proto, endpoint])].concat().into()
}

/// nftables mode: eight characters of hash, a dash and the name, at most 240 bytes with "..." at the end of
/// what was cut.
pub fn nft_hash_and_truncate(name: &str) -> String {
    const LONGEST: usize = 240;
    let mut out = hash_chars(&[name], 8);
    out.push('-');
    out.push_str(name);
    if out.len() > LONGEST {
        // Names are ASCII, so that a byte is a character.
        let mut cut = LONGEST - 3;
        while !out.is_char_boundary(cut) {
            cut -= 1;
        }
        out.truncate(cut);
        out.push_str("...");
    }
    out
}

/// nftables mode: what follows `service-`, `local-`, `external-` and `firewall-` in a Service port's chains.
pub fn nft_service_base(port: &ServicePort) -> String {
    nft_hash_and_truncate(&nft_service_text(port))
}

/// nftables mode: what follows `endpoint-` and `affinity-` in the chain and set of one endpoint.
pub fn nft_endpoint_base(port: &ServicePort, addr: SocketAddr) -> String {
    let mut text = nft_service_text(port);
    // A colon would end the name, so that IPv6 addresses are written with dots.
    let ip = addr.ip().to_string().replace(':', ".");
    write!(text, "__{ip}/{}", addr.port()).expect("a String takes everything");
    nft_hash_and_truncate(&text)
}

fn nft_service_text(port: &ServicePort) -> String {
    format!("{}/{}/{}/{}", port.namespace, port.name, port.proto.name(), port.port_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_real_nodes_show() {
        // Old releases ended the name of a Service with an unnamed port in a colon; the chain that tutorials
        // show for default/hostnames, KUBE-SVC-NWV5X2332I4OT4T3, is from then.
        for (full_name, hash) in [
            ("default/kubernetes:https", "NPX46M4PTMTKRN6Y"),
            ("default/hostnames:", "NWV5X2332I4OT4T3"),
            ("default/one", "GC7YPRXAEGOKCMA3"),
        ] {
            assert_eq!(service_hash(full_name, "tcp"), hash, "{full_name}");
        }
        for (full_name, endpoint, chain) in [
            ("default/kubernetes:https", "10.106.175.128:6443", "KUBE-SEP-VDNPK4CXOQDGPWFC"),
            ("default/kubernetes:https", "192.168.1.161:6443", "KUBE-SEP-X6HPDLIIYVJMK7OF"),
            ("default/kubernetes:https", "192.168.0.10:6443", "KUBE-SEP-JXR3GL4M4Y5HVZ4I"),
            ("default/v6:http", "[fd00:244:1::183]:8080", "KUBE-SEP-FLI52MPNT5LZITBZ"),
        ] {
            assert_eq!(&*endpoint_chain(full_name, "tcp", endpoint), chain, "{full_name} {endpoint}");
        }
        assert_eq!(
            &*service_chain(ServiceChain::External, &service_hash("default/etp:http", "tcp")),
            "KUBE-EXT-2NVNINRDTAXBHMUX"
        );
    }

    #[test]
    fn a_long_nftables_name_is_cut_to_240_characters_with_dots() {
        let long = "a".repeat(300);
        let name = nft_hash_and_truncate(&long);
        assert_eq!(name.len(), 240);
        assert!(name.ends_with("aaa...") && &name[8..10] == "-a", "{name}");
        let short = nft_hash_and_truncate("x");
        assert_eq!(&short[8..], "-x");
    }
}
