//! Deployments and their ReplicaSets: how many pods of the old and of the new template there should be.
//!
//! Sources: `pkg/controller/deployment/rolling.go:rolloutRolling`, `reconcileNewReplicaSet`, `reconcileOldReplicaSets`;
//! `pkg/controller/deployment/util/deployment_util.go:NewRSNewReplicas`, `ResolveFenceposts`, `MaxUnavailable`.
//! `minReadySeconds` is 0: a pod is available when it is ready. All ReplicaSets but the newest are one here.
//!
//! Left out: proportional scaling of a Deployment that is scaled while it rolls
//! (`deployment/sync.go:scale`): the rollout goes on towards the new number. Also rollbacks, pauses, deadlines.

use crate::config::Share;

/// What a rollout may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pods above the wanted number.
    pub surge: u32,
    /// Pods below it.
    pub unavailable: u32,
}

impl Limits {
    /// The limits for `replicas` pods; both 0 makes `unavailable` 1.
    pub fn of(max_surge: Share, max_unavailable: Share, replicas: u32) -> Self {
        let (surge, unavailable) = (max_surge.of(replicas, true), max_unavailable.of(replicas, false));
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Limits { surge, unavailable: unavailable.min(replicas) }
    }
}

/// One ReplicaSet, or all old ones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSet {
    /// `spec.replicas`.
    pub wanted: u32,
    /// Its pods that are not being deleted.
    pub active: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// Pods that are being created.
    pub creating: u32,
}

impl ReplicaSet {
    /// Pods to create (positive) or to delete.
    pub fn missing(&self) -> i64 {
        i64::from(self.wanted) - i64::from(self.active) - i64::from(self.creating)
    }
}

/// What the next sync of a Deployment changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The new ReplicaSet gets this many.
    New(u32),
    /// The old ones get this many.
    Old(u32),
    /// Nothing, for now.
    Wait,
}

/// One sync of a Deployment of `replicas` pods.
pub fn sync(replicas: u32, limits: Limits, old: &ReplicaSet, new: &ReplicaSet) -> Step {
    if new.wanted > replicas {
        return Step::New(replicas);
    }
    let all = i64::from(old.wanted) + i64::from(new.wanted);
    let replicas_wide = i64::from(replicas);
    if new.wanted < replicas {
        let room = replicas_wide + i64::from(limits.surge) - all;
        let more = room.min(replicas_wide - i64::from(new.wanted));
        if more > 0 {
            return Step::New(new.wanted + to_u32(more));
        }
    }
    if old.wanted == 0 {
        return Step::Wait;
    }
    let least = replicas_wide - i64::from(limits.unavailable);
    let new_unavailable = i64::from(new.wanted) - i64::from(new.ready.min(new.wanted));
    let most_down = all - least - new_unavailable;
    if most_down <= 0 {
        return Step::Wait;
    }
    let old_ready = old.ready.min(old.wanted);
    let unhealthy = i64::from(old.wanted - old_ready).min(most_down);
    let available = i64::from(old_ready) + i64::from(new.ready);
    let healthy = (available - least).clamp(0, i64::from(old.wanted) - unhealthy);
    match unhealthy + healthy {
        0 => Step::Wait,
        down => Step::Old(old.wanted - to_u32(down)),
    }
}

fn to_u32(n: i64) -> u32 {
    u32::try_from(n).expect("a number of pods")
}

/// Sizes of the batches in which pods are created: 1, 2, 4, ..., each after the one before it has succeeded
/// (`pkg/controller/replicaset/replica_set.go:slowStartBatch`).
pub fn slow_start(mut left: u32) -> impl Iterator<Item = u32> {
    let mut batch = 1u32;
    std::iter::from_fn(move || {
        let now = batch.min(left);
        left -= now;
        batch = batch.saturating_mul(2);
        (now > 0).then_some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(wanted: u32, ready: u32) -> ReplicaSet {
        ReplicaSet { wanted, active: wanted, ready, creating: 0 }
    }

    #[test]
    fn shares_of_pods_are_rounded_up_for_a_surge_and_down_for_missing_ones() {
        let rows = [
            (Share::Percent(25), Share::Percent(25), 10, (3, 2)),
            (Share::Percent(25), Share::Percent(25), 3, (1, 0)),
            (Share::Pods(0), Share::Percent(25), 3, (0, 1)),
            (Share::Pods(0), Share::Pods(0), 3, (0, 1)),
            (Share::Pods(1), Share::Pods(50), 3, (1, 3)),
            (Share::Percent(100), Share::Pods(0), 4, (4, 0)),
        ];
        for (surge, unavailable, replicas, wanted) in rows {
            let limits = Limits::of(surge, unavailable, replicas);
            assert_eq!((limits.surge, limits.unavailable), wanted, "{surge:?} {unavailable:?} of {replicas}");
        }
    }

    #[test]
    fn the_examples_in_the_source_come_out_as_it_says() {
        let limits = Limits { surge: 3, unavailable: 2 };
        // Case 1 of reconcileOldReplicaSets: 10 replicas, 3 surge, 2 unavailable.
        assert_eq!(sync(10, limits, &set(10, 10), &set(0, 0)), Step::New(3));
        assert_eq!(sync(10, limits, &set(10, 10), &set(3, 0)), Step::Old(8));
        assert_eq!(sync(10, limits, &set(8, 8), &set(3, 0)), Step::New(5));
        // New pods crash, one old one becomes unavailable: 13 - 8 - 5 = 0.
        assert_eq!(sync(10, limits, &set(8, 7), &set(5, 0)), Step::Wait);
    }

    #[test]
    fn without_a_surge_old_pods_go_first_and_without_missing_ones_new_ones_come_first() {
        let none_more = Limits { surge: 0, unavailable: 1 };
        assert_eq!(sync(4, none_more, &set(4, 4), &set(0, 0)), Step::Old(3));
        assert_eq!(sync(4, none_more, &set(3, 3), &set(0, 0)), Step::New(1));
        assert_eq!(sync(4, none_more, &set(3, 3), &set(1, 0)), Step::Wait);
        assert_eq!(sync(4, none_more, &set(3, 3), &set(1, 1)), Step::Old(2));
        let none_less = Limits { surge: 1, unavailable: 0 };
        assert_eq!(sync(4, none_less, &set(4, 4), &set(0, 0)), Step::New(1));
        assert_eq!(sync(4, none_less, &set(4, 4), &set(1, 0)), Step::Wait);
        assert_eq!(sync(4, none_less, &set(4, 4), &set(1, 1)), Step::Old(3));
    }

    #[test]
    fn every_rollout_whose_pods_become_ready_ends_within_its_limits() {
        for replicas in 1..30 {
            for (surge, unavailable) in [(0, 1), (1, 0), (2, 3), (30, 0), (0, 30), (7, 1)] {
                let limits = Limits::of(Share::Pods(surge), Share::Pods(unavailable), replicas);
                let (mut old, mut new) = (set(replicas, replicas), set(0, 0));
                for round in 0.. {
                    assert!(round < 1_000, "{replicas} {limits:?}");
                    match sync(replicas, limits, &old, &new) {
                        Step::New(n) => (new.wanted, new.active) = (n, n),
                        Step::Old(n) => old = set(n, n),
                        Step::Wait if new.ready < new.wanted => new.ready += 1,
                        Step::Wait => break,
                    }
                    assert!(old.active + new.active <= replicas + limits.surge);
                    assert!(old.ready + new.ready >= replicas - limits.unavailable);
                }
                assert_eq!((old.wanted, new.wanted), (0, replicas));
            }
        }
    }

    #[test]
    fn pods_are_created_in_batches_that_double() {
        assert_eq!(slow_start(20).collect::<Vec<_>>(), [1, 2, 4, 8, 5]);
        assert_eq!(slow_start(0).count(), 0);
    }
}
