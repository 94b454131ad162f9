//! What the API server has written, in order: the history that every watcher gets.
//!
//! Version `v` of the cluster is its beginning with the first `v` changes. A change says what one write did to one
//! EndpointSlice or Service, as differences that can be taken back, so that the state at any version is reached from a
//! neighbouring one without keeping copies.

use sim_core::units::SimTime;
use smallvec::SmallVec;

/// A pod, by its place in [`Pods`](super::pods::Pods).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId(pub u32);

/// A Service, by its place among the cluster's service ports' owners, in the order of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// What an EndpointSlice says about one endpoint (`discovery/v1 EndpointConditions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// New connections may go to it.
    pub ready: bool,
    /// It answers, ready or on its way out.
    pub serving: bool,
    /// Its pod is being deleted.
    pub terminating: bool,
}

impl Conditions {
    /// A pod that takes new connections.
    pub const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
    /// A pod that does not answer its probes.
    pub const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
    /// A pod that is being deleted and still answers.
    pub const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
}

/// How one endpoint of a Service changed; `None` where it is in no slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The pod.
    pub pod: PodId,
    /// Before.
    pub from: Option<Conditions>,
    /// After.
    pub to: Option<Conditions>,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One slice of a Service was created, changed or deleted.
    Endpoints {
        /// The Service.
        service: ServiceId,
        /// Its endpoints that differ now.
        deltas: SmallVec<[Delta; 2]>,
    },
    /// A Service was created; its endpoints come with writes of their own.
    ServiceAdded {
        /// The Service.
        service: ServiceId,
    },
    /// A Service was deleted; its endpoints go with writes of their own.
    ServiceRemoved {
        /// The Service.
        service: ServiceId,
    },
}

impl What {
    /// The Service that it is about.
    pub fn service(&self) -> ServiceId {
        match self {
            What::Endpoints { service, .. }
            | What::ServiceAdded { service }
            | What::ServiceRemoved { service } => *service,
        }
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it did.
    pub what: What,
    /// When the first pod or Service change in it happened: the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`. None on deletions.
    pub trigger: Option<SimTime>,
    /// When etcd had it: watchers are told from then on.
    pub committed: SimTime,
    /// Bytes of the object in a watch event, as encoded.
    pub bytes: u64,
}

/// All writes so far.
#[derive(Clone, Debug, Default)]
pub struct ChangeLog {
    changes: Vec<Change>,
}

impl ChangeLog {
    /// The newest version.
    pub fn version(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Appends a write; its version.
    ///
    /// # Panics
    /// If it was committed before the one before it.
    pub fn push(&mut self, change: Change) -> u64 {
        let last = self.changes.last().map_or(SimTime::ZERO, |c| c.committed);
        assert!(last <= change.committed, "write at {:?} after one at {last:?}", change.committed);
        self.changes.push(change);
        self.version()
    }

    /// The change that made `version`, from 1.
    pub fn of(&self, version: u64) -> &Change {
        &self.changes[version as usize - 1]
    }

    /// The changes that lead from version `from` to version `to`.
    pub fn between(&self, from: u64, to: u64) -> &[Change] {
        &self.changes[from as usize..to as usize]
    }
}
