//! What a sync of kube-proxy does, counted, and what it costs.
//!
//! A mode fills a [`SyncWork`] from the rules really built; a profile prices each unit in milliseconds. Prices
//! are fitted on whole syncs of the real kube-proxy (iptables, nftables) and on the loads of the tools it runs
//! (IPVS). Two units are not linear in the cluster: an nftables transaction walks the list of its own sets for
//! every anonymous set it binds (`nf_tables_api.c:__nft_set_trans_bind`), and every later one lists and
//! validates the whole table.
//!
//! Left out: waiting (min-sync-period, the xtables lock, RCU), which is the sync loop's, and retries.

mod shape;

pub use shape::{Size, SyncKind, SyncShape};

use crate::kernel::cost::CostProfile;
use sim_core::units::SimSpan;

macro_rules! sync_units {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Counters of one sync.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct SyncWork { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl SyncWork {
            /// (name, count) of every unit; profiles price them under `sync.<name>`, in microseconds.
            pub fn units(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)+]
            }
        }
    };
}

sync_units! {
    /// Programs run: iptables, iptables-restore, ipset.
    execs,
    /// nft run to list or to load, in a first sync.
    nft_execs,
    /// nft run in a later sync.
    nft_partial_execs,
    /// Rules written to iptables-restore.
    restore_rules,
    /// Rules in the table that iptables-restore reads back and replaces whole.
    table_rules,
    /// Chains of the table, which `iptables-save` lists to find stale ones.
    saved_rules,
    /// Service ports whose nftables chains, elements and anonymous maps are sent.
    nft_services,
    /// Pairs of anonymous sets in one transaction: what binding them walks.
    nft_set_pairs,
    /// Chains and sets that nft lists before a transaction.
    nft_listed,
    /// Pairs of Services in the table, for what grows faster than the table.
    nft_listed_pairs,
    /// Netlink requests to IPVS: services and destinations read, added, changed.
    netlink_requests,
    /// Addresses added to kube-ipvs0.
    address_adds,
    /// ipset entries added.
    ipset_entries,
    /// Service ports that kube-proxy goes through.
    service_ports,
}

impl SyncWork {
    /// How long the sync takes, or `None` if the profile prices no syncs.
    pub fn time(&self, profile: &CostProfile) -> Option<SimSpan> {
        if !profile.has_sync() {
            return None;
        }
        let us: f64 = self.units().iter().map(|&(name, n)| n as f64 * profile.sync_price(name)).sum();
        Some(SimSpan::from_ns_f64(us * 1000.0))
    }
}

/// What a sync takes on its node, undisturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCost {
    /// From its start to its end.
    pub wall: SimSpan,
    /// From its start to the instant from which packets meet the new rules.
    pub live: SimSpan,
    /// Processor time of kube-proxy itself.
    pub own_cpu: SimSpan,
    /// Processor time of the tools it runs, the kernel's part included.
    pub tools_cpu: SimSpan,
    /// Time for which it holds the xtables lock; nothing in nftables mode.
    pub locked: SimSpan,
}

impl SyncWork {
    /// What the sync costs, or `None` if the profile prices no syncs.
    pub fn cost(&self, profile: &CostProfile) -> Option<SyncCost> {
        let wall = self.time(profile)?;
        Some(SyncCost { wall, live: wall, own_cpu: SimSpan::ZERO, tools_cpu: wall, locked: SimSpan::ZERO })
    }
}
