//! Which chains are kube-proxy's.
//!
//! Not kube-proxy's, though they are called KUBE-: KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT and KUBE-MARK-DROP
//! (kubelet's), KUBE-HOSTPORTS and KUBE-HP-* (host ports of the container runtime), KUBE-ROUTER-*, KUBE-NWPLCY-* and
//! KUBE-POD-FW-* (kube-router's).

use crate::kernel::xtables::{Match, Rule, TableName};

/// kubelet ensures this chain and its jumps too.
const SHARED: &str = "KUBE-FIREWALL";

/// Chains of every mode: what a mode leaves behind when the node changes to another is stale.
const CHAINS: &[(TableName, &[&str])] = &[
    (TableName::Mangle, &["KUBE-PROXY-CANARY"]),
    (
        TableName::Filter,
        &[
            "KUBE-PROXY-CANARY",
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-FORWARD",
            "KUBE-NODEPORTS",
            "KUBE-PROXY-FIREWALL",
            SHARED,
            // ipvs mode.
            "KUBE-NODE-PORT",
            "KUBE-SOURCE-RANGES-FIREWALL",
            "KUBE-IPVS-FILTER",
            "KUBE-IPVS-OUT-FILTER",
            // userspace mode.
            "KUBE-NODEPORT-NON-LOCAL",
        ],
    ),
    (
        TableName::Nat,
        &[
            "KUBE-PROXY-CANARY",
            "KUBE-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-POSTROUTING",
            "KUBE-MARK-MASQ",
            // ipvs mode.
            "KUBE-NODE-PORT",
            "KUBE-LOAD-BALANCER",
            // userspace mode.
            "KUBE-PORTALS-CONTAINER",
            "KUBE-PORTALS-HOST",
            "KUBE-NODEPORT-CONTAINER",
            "KUBE-NODEPORT-HOST",
        ],
    ),
];

/// Beginnings of the names of nat chains of Services and endpoints. KUBE-XLB- is from before 1.24.
const PREFIXES: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-"];

/// Whether a chain is kube-proxy's, in whatever mode.
pub(super) fn is_owned(table: TableName, chain: &str) -> bool {
    if !chain.starts_with("KUBE-") {
        return false;
    }
    (table == TableName::Nat && PREFIXES.iter().any(|prefix| chain.starts_with(prefix)))
        || CHAINS.iter().any(|(name, chains)| *name == table && chains.contains(&chain))
}

/// Whether a chain is kubelet's as well.
pub(super) fn is_shared(chain: &str) -> bool {
    chain == SHARED
}

/// A rule that kubelets before 1.28 keep in the shared chain.
pub(super) fn is_kubelets(rule: &Rule) -> bool {
    let text = "kubernetes firewall for dropping marked packets";
    rule.matches.iter().any(|m| matches!(m, Match::Comment(comment) if &**comment == text))
}

/// Chains in which a large cluster's rules have no comments.
pub(super) fn may_lack_comments(chain: &str) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-"].iter().any(|prefix| chain.starts_with(prefix))
}
