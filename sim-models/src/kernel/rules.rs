//! [`NodeRules`]: everything a proxy has put into one node's kernel, as data.
//!
//! A mode builds it, each mechanism prints its part in the real tool's text, and the packet path compiles it.

use super::hook::ChainKind;
use super::ipvs::{Tables, VirtualServer};
use super::xtables::{Match, TableName, Target};
use super::{ebpf::ServiceMap, ipset::IpSet, nftables, xtables};
use crate::config::XtablesBackend;
use std::net::IpAddr;

/// Rules, sets, virtual servers and addresses of one node, one family.
#[derive(Clone, Debug, Default)]
pub struct NodeRules {
    /// xtables tables, with the jumps from the built-in chains.
    pub xtables: Vec<xtables::Table>,
    /// What a dump that these tables were read from has beside the rules; of no tables if none was read.
    pub xtables_notes: xtables::parse::Notes,
    /// What stands behind the `iptables` command that wrote them.
    pub xtables_backend: XtablesBackend,
    /// The nftables table.
    pub nftables: Option<nftables::Table>,
    /// Kind of the kernel's IPVS tables. Not a rule, but of the node like the rest.
    pub ipvs_tables: Tables,
    /// IPVS virtual servers in creation order.
    pub ipvs: Vec<VirtualServer>,
    /// ipsets in creation order.
    pub ipsets: Vec<IpSet>,
    /// Addresses bound to kube-ipvs0.
    pub dummy_addrs: Vec<IpAddr>,
    /// Kernel settings that the proxy makes, as `sysctl` writes them: (`net.ipv4.vs.conntrack`, `1`).
    pub sysctls: Vec<(String, String)>,
    /// `ipvsadm --set`: seconds for idle TCP connections, after FIN, and UDP; zero leaves the kernel's.
    pub ipvs_timeouts: Option<[u64; 3]>,
    /// What the reader of a dump should be told of it, a line each: what was passed over or is none of kube-proxy's.
    pub notes: Vec<String>,
    /// Maps of an eBPF load balancer.
    pub service_map: Option<ServiceMap>,
}

impl NodeRules {
    /// Whether connection tracking runs: its hooks are registered (`nf_ct_netns_get`) by the first rule that looks at
    /// a connection or asks for NAT, by an nftables NAT chain, and by IPVS, never by an empty table.
    pub fn need_conntrack(&self) -> bool {
        let xt = |rule: &xtables::Rule| {
            let asks = matches!(
                rule.target,
                Some(Target::Dnat(_) | Target::Redirect { .. } | Target::Masquerade { .. })
            );
            asks || rule.matches.iter().any(|m| matches!(m, Match::Conntrack { .. } | Match::State(_)))
        };
        let nft = |chain: &nftables::Chain| {
            chain.base.is_some_and(|base| base.kind == ChainKind::Nat)
                || chain.rules.iter().flat_map(|rule| &rule.statements).any(|s| s.needs_conntrack())
        };
        // iptables-nft writes table nat with chains of that kind.
        let nat_in_nft = self.xtables_backend == XtablesBackend::Nft
            && self.xtables.iter().any(|table| table.name == TableName::Nat);
        nat_in_nft
            || !self.ipvs.is_empty()
            || self.xtables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules).any(xt)
            || self.nftables.iter().flat_map(|t| &t.chains).any(nft)
    }

    /// Takes out what kube-proxy adds for itself: the canary and with it table mangle, loopback protection, and
    /// nfacct counters. The rig that packet costs were measured on had none of them.
    pub fn strip_own_additions(&mut self) {
        self.xtables.retain(|t| t.name != TableName::Mangle);
        for table in &mut self.xtables {
            table.remove_chain("KUBE-PROXY-CANARY");
            table.remove_chain("KUBE-FIREWALL");
            for rule in table.chains.iter_mut().flat_map(|c| &mut c.rules) {
                rule.matches.retain(|m| !matches!(m, Match::Nfacct(_)));
            }
        }
    }
}
