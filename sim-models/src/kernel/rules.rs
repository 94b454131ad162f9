//! [`NodeRules`]: everything a proxy has put into one node's kernel, as data.
//!
//! A mode builds it, each mechanism prints its part in the real tool's text, and the packet path compiles it.

use super::{ipset::IpSet, ipvs::VirtualServer, nftables, xtables};
use std::net::IpAddr;

/// Rules, sets, virtual servers and addresses of one node, one family.
#[derive(Clone, Debug, Default)]
pub struct NodeRules {
    /// xtables tables, with the jumps from the built-in chains.
    pub xtables: Vec<xtables::Table>,
    /// The nftables table.
    pub nftables: Option<nftables::Table>,
    /// IPVS virtual servers in creation order.
    pub ipvs: Vec<VirtualServer>,
    /// ipsets in creation order.
    pub ipsets: Vec<IpSet>,
    /// Addresses bound to kube-ipvs0.
    pub dummy_addrs: Vec<IpAddr>,
}
