//! What a sync between two versions costs, shared by all nodes that do the same one.
//!
//! Nodes lag by milliseconds, so that at 20 changes a second thousands of them go from one version to another within a
//! second in a few dozen ways. The last plans stay in a table that a hash of the sync is looked up in; a plan that was
//! pushed out is worked out again, with the same result.

use super::ledger::Ledger;
use super::runner::{FIRST_MINOR_WITHOUT_BUCKET, FULL_SYNC_PERIOD, Intervals};
use crate::config::{ProxyConfig, XtablesBackend};
use crate::kernel::cost::CostProfile;
use crate::proxy::Simulated;
use crate::proxy::sync::{Size, SyncCost, SyncKind, SyncShape};
use sim_core::classify::Family;

/// Plans kept, a power of two.
const KEPT: usize = 1 << 12;

/// Endpoints above which kube-proxy is in large-cluster mode
/// (`pkg/proxy/iptables/proxier.go:largeClusterEndpointsThreshold`).
pub const LARGE_CLUSTER: u64 = 1000;

/// What tells syncs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncOf {
    /// Version that the kernel has, if it has the mode's rules.
    pub from: Option<u64>,
    /// Version that it gets.
    pub to: u64,
    /// Kind.
    pub kind: SyncKind,
    /// Whether stale chains are looked for.
    pub look_for_stale: bool,
}

/// First minor version with partial syncs in iptables mode (MinimizeIPTablesRestore on).
const FIRST_MINOR_WITH_PARTIAL: u32 = 27;
/// First minor version without the hourly full sync of iptables mode in large clusters.
const FIRST_MINOR_WITHOUT_HOURLY: u32 = 36;

/// What a configuration makes of the sync loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// The runner's settings.
    pub intervals: Intervals,
    /// iptables mode.
    pub is_iptables: bool,
    /// ipvs mode.
    pub is_ipvs: bool,
    /// nftables mode.
    pub is_nftables: bool,
    /// There are no partial syncs.
    pub always_full: bool,
    /// Large clusters have a full sync an hour too.
    pub hourly_when_large: bool,
    /// Its commands take the xtables lock; iptables-nft takes none, nor does nft.
    pub locks: bool,
}

impl Habits {
    /// Of a configuration.
    pub fn of(config: &ProxyConfig) -> Self {
        let is = |name: &str| config.mode == name;
        let minor = config.kubernetes_minor;
        Habits {
            intervals: Intervals {
                min: config.min_sync_period,
                retry: config.sync_period,
                max: if is("ipvs") { config.sync_period } else { FULL_SYNC_PERIOD },
                bucket: minor < FIRST_MINOR_WITHOUT_BUCKET,
            },
            is_iptables: is("iptables"),
            is_ipvs: is("ipvs"),
            is_nftables: is("nftables"),
            always_full: is("iptables") && minor < FIRST_MINOR_WITH_PARTIAL,
            hourly_when_large: !is("iptables") || minor < FIRST_MINOR_WITHOUT_HOURLY,
            locks: !is("nftables") && config.backend == XtablesBackend::Legacy,
        }
    }
}

/// A mode that nodes of the fleet run, with what its syncs cost.
pub struct Mode {
    /// The mode.
    pub mode: &'static dyn Simulated,
    /// Its configuration.
    pub config: ProxyConfig,
    /// Family of the rules.
    pub family: Family,
    /// What that makes of the sync loop.
    pub habits: Habits,
    /// Sizes by version.
    pub ledger: Ledger,
    plans: Vec<Option<(SyncOf, SyncCost)>>,
}

impl Mode {
    /// A mode with its ledger.
    pub fn new(mode: &'static dyn Simulated, config: ProxyConfig, family: Family, ledger: Ledger) -> Self {
        let habits = Habits::of(&config);
        Mode { mode, config, habits, family, ledger, plans: vec![None; KEPT] }
    }

    /// The mode's shape of a sync.
    pub fn shape(&self, sync: &SyncOf) -> SyncShape {
        let table = self.ledger.table(sync.to).size;
        let before = sync.from.map_or(Size::default(), |from| self.ledger.table(from).size);
        let (written, replaced, udp) = match (sync.kind, sync.from) {
            (SyncKind::Partial, Some(from)) => {
                let window = self.ledger.window(from, sync.to);
                (window.written.size, window.replaced.size, window.udp)
            }
            (_, from) => (table, before, from.is_none_or(|from| self.ledger.udp_between(from, sync.to))),
        };
        let look_for_stale = sync.look_for_stale;
        SyncShape { kind: sync.kind, table, before, written, replaced, udp, look_for_stale }
    }

    /// What a sync costs, undisturbed; no time at all where the profile prices no syncs.
    pub fn cost(&mut self, sync: SyncOf, profile: &CostProfile) -> SyncCost {
        let from = sync.from.unwrap_or(u64::MAX);
        let bits = (sync.kind as u64) << 1 | u64::from(sync.look_for_stale);
        let mixed = (from.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sync.to)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .wrapping_add(bits);
        let place = (mixed ^ mixed >> 29) as usize & (KEPT - 1);
        if let Some((of, cost)) = &self.plans[place]
            && *of == sync
        {
            return *cost;
        }
        let work = self.mode.sync(&self.shape(&sync), &self.config);
        let cost = work.cost(profile).unwrap_or_default();
        assert!(
            cost.live <= cost.wall,
            "rules live {} after the start of a sync of {}",
            cost.live,
            cost.wall
        );
        self.plans[place] = Some((sync, cost));
        cost
    }
}
