//! What happens to a cluster at given times, and the misfortunes that strike at random.

use sim_core::units::SimSpan;

/// One thing that is planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// When, from the end of the warm-up.
    pub at: SimSpan,
    /// What.
    pub action: Action,
}

/// What can be planned.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Every pod of some Services' Deployments is replaced, a few at a time (`pkg/controller/deployment/rolling.go`).
    RollingUpdate {
        /// Of which.
        services: Selection,
        /// Pods above the wanted number.
        max_surge: Share,
        /// Pods below it.
        max_unavailable: Share,
    },
    /// Services get another number of pods.
    Scale {
        /// Which.
        services: Selection,
        /// Pods of each.
        replicas: u32,
    },
    /// Nodes lose power: nothing on them answers any more.
    FailNodes {
        /// Which, by index.
        nodes: Vec<u32>,
        /// When they come back, empty.
        recover_after: Option<SimSpan>,
    },
    /// All nodes of a zone fail.
    FailZone {
        /// Which, from 0.
        zone: u32,
        /// When they come back, empty.
        recover_after: Option<SimSpan>,
    },
    /// The API servers answer nobody; nodes keep their last rules.
    ApiOutage {
        /// For how long.
        lasts: SimSpan,
    },
    /// New nodes join; their pods are clients like those of the others.
    AddNodes {
        /// How many.
        count: u32,
    },
    /// Services with pods of their own are created or deleted.
    AddServices {
        /// How many.
        count: u32,
        /// Pods of each.
        endpoints: u32,
    },
    /// The last generated Services are deleted.
    RemoveServices {
        /// How many.
        count: u32,
    },
    /// kube-proxy is started again.
    RestartProxies {
        /// On which nodes; none means on all, one after the other.
        nodes: Vec<u32>,
    },
    /// kube-proxy goes over to another mode.
    SwitchMode(ModeSwitch),
    /// A node's watches break for a while.
    DropWatches {
        /// On which nodes.
        nodes: Vec<u32>,
        /// For how long.
        lasts: SimSpan,
    },
    /// Every restore or transaction on these nodes fails for a while.
    FailRestores {
        /// On which nodes.
        nodes: Vec<u32>,
        /// For how long.
        lasts: SimSpan,
    },
    /// Somebody flushes all rules of these nodes.
    FlushRules {
        /// Which.
        nodes: Vec<u32>,
    },
    /// These nodes get another zone label: a full sync.
    Relabel {
        /// Which.
        nodes: Vec<u32>,
    },
}

/// The seeds' procedure for going over to another mode: edit the ConfigMap, restart kube-proxy node by node, flush the
/// old rules, wait until the first sync is through before the next node.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeSwitch {
    /// Name of the new mode.
    pub to: String,
    /// Restart kube-proxy after the edit; without it nothing reads the new ConfigMap.
    pub restart: bool,
    /// Flush the old mode's rules before the restart.
    pub flush: bool,
    /// Drain each node of clients until its first sync has ended.
    pub wait: bool,
    /// Nodes that are restarted at once.
    pub parallel: u32,
}

/// Some of the Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One, by `namespace/name`.
    Named(String),
    /// The first ones, until they have so many pods.
    Pods(u32),
    /// The first ones.
    First(u32),
    /// All.
    All,
}

/// A number of pods, or a share of them (`intstr.IntOrString`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many.
    Pods(u32),
    /// So many per hundred.
    Percent(u32),
}

impl Share {
    /// Pods of `replicas`, rounded up for a surge and down for pods that may be missing
    /// (`pkg/controller/deployment/util/deployment_util.go:ResolveFenceposts`).
    pub fn of(self, replicas: u32, up: bool) -> u32 {
        match self {
            Share::Pods(n) => n,
            Share::Percent(p) => {
                let scaled = u64::from(replicas) * u64::from(p);
                let pods = if up { scaled.div_ceil(100) } else { scaled / 100 };
                u32::try_from(pods).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Misfortunes at random, for each node by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultConfig {
    /// Watches that break, per node and hour.
    pub watch_drops_per_hour: f64,
    /// Restarts of kube-proxy, per node and hour.
    pub proxy_restarts_per_hour: f64,
    /// Share of restores and transactions that fail.
    pub failed_restores: f64,
}
