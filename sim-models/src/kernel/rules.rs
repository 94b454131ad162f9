//! [`NodeRules`]: everything a proxy has put into one node's kernel, as data.
//!
//! A mode builds it, each mechanism prints its part in the real tool's text, and the packet path compiles it.

use super::hook::ChainKind;
use super::ipvs::{Tables, VirtualServer};
use super::xtables::{Match, TableName, Target};
use super::{ebpf::ServiceMap, ipset::IpSet, nftables, portal::Portal, xtables};
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
    /// Ports that a proxy in user space listens on.
    pub portals: Vec<Portal>,
}

impl NodeRules {
    /// Whether connection tracking runs: its hooks are registered (`nf_ct_netns_get`) by the first rule whose match or
    /// target looks at a connection or asks for NAT, by an nftables NAT chain, and by IPVS, never by an empty table.
    pub fn need_conntrack(&self) -> bool {
        let of_xtables = self.xtables.iter().any(|table| {
            let mut rules = table.chains.iter().flat_map(|c| &c.rules);
            rules.any(|rule| rule_needs(table, rule))
        });
        let of_nftables = |chain: &nftables::Chain| {
            chain.base.is_some_and(|base| base.kind == ChainKind::Nat)
                || chain
                    .rules
                    .iter()
                    .flat_map(|rule| &rule.statements)
                    .any(nftables::Statement::needs_conntrack)
        };
        // iptables-nft writes table nat with chains of that kind.
        let nat_in_nft = self.xtables_backend == XtablesBackend::Nft
            && self.xtables.iter().any(|table| table.name == TableName::Nat);
        nat_in_nft
            || !self.ipvs.is_empty()
            || of_xtables
            || self.nftables.iter().flat_map(|t| &t.chains).any(of_nftables)
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

/// Whether a match or target of the rule calls `nf_ct_netns_get` when it is loaded.
fn rule_needs(table: &xtables::Table, rule: &xtables::Rule) -> bool {
    let mut others = false;
    for m in &rule.matches {
        match m {
            Match::Conntrack { .. } | Match::State(_) => return true,
            Match::Comment(_)
            | Match::Ports { .. }
            | Match::Statistic { .. }
            | Match::Mark { .. }
            | Match::AddrtypeLocal { .. }
            | Match::Recent { .. }
            | Match::Set { .. }
            | Match::Nfacct(_)
            | Match::PhysdevIsIn { .. }
            | Match::IpvsVirtual { .. } => {}
            _ => others = true,
        }
    }
    match &rule.target {
        Some(Target::Dnat(_) | Target::Redirect { .. } | Target::Masquerade { .. }) => return true,
        None
        | Some(
            Target::Jump(_)
            | Target::Goto(_)
            | Target::Return
            | Target::Accept
            | Target::Drop
            | Target::Reject
            | Target::Mark { .. },
        ) => {}
        Some(_) => others = true,
    }
    // Of the extensions that other programs use it is the name that tells.
    others && {
        let mut text = String::new();
        xtables::print::write_rule(table, "", rule, &mut text).expect("a string takes all");
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if matches!(word, "-m" | "-j") && words.next().is_some_and(|name| NEEDING.contains(&name)) {
                return true;
            }
        }
        false
    }
}

/// Extensions beyond kube-proxy's that need conntrack. (`CT` does unless it is `--notrack`, which is all that rules of
/// nodes use it for.)
const NEEDING: [&str; 15] = [
    "conntrack",
    "state",
    "connmark",
    "connbytes",
    "connlabel",
    "connlimit",
    "helper",
    "cluster",
    "SNAT",
    "DNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
    "CONNMARK",
    "CONNSECMARK",
];
