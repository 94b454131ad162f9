//! Zones of nodes that are not ready, and how fast their nodes get their taints.
//!
//! Source: `pkg/controller/nodelifecycle/node_lifecycle_controller.go:ComputeZoneState`, `setLimiterInZone`,
//! `ReducedQPSFunc`, `HealthyQPSFunc`: one node in 10 s; one in 100 s in a large zone of which 55 % are not ready, none in
//! a small one; again one in 10 s if all of a zone are not ready.

use sim_core::units::SimSpan;

/// `--node-eviction-rate` 0.1/s.
const TAINT_GAP: SimSpan = SimSpan::from_secs(10);
/// `--secondary-node-eviction-rate` 0.01/s.
const TAINT_GAP_PARTIAL: SimSpan = SimSpan::from_secs(100);
/// `--large-cluster-size-threshold`.
const LARGE_ZONE: u32 = 50;
/// `--unhealthy-zone-threshold`, in percent.
const UNHEALTHY_PERCENT: u32 = 55;

/// State of a zone (`ComputeZoneState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Most nodes are ready.
    Normal,
    /// More than two are not, and they are 55 % or more.
    Partial,
    /// None is ready.
    Full,
}

impl ZoneState {
    /// The state of a zone of `nodes` of which `unready` are not ready.
    pub fn of(nodes: u32, unready: u32) -> Self {
        if unready > 0 && unready == nodes {
            ZoneState::Full
        } else if unready > 2 && u64::from(unready) * 100 >= u64::from(nodes) * u64::from(UNHEALTHY_PERCENT) {
            ZoneState::Partial
        } else {
            ZoneState::Normal
        }
    }

    /// Time between two taints in such a zone; none if none are set.
    pub fn taint_gap(self, nodes: u32) -> Option<SimSpan> {
        match self {
            ZoneState::Normal | ZoneState::Full => Some(TAINT_GAP),
            ZoneState::Partial => (nodes > LARGE_ZONE).then_some(TAINT_GAP_PARTIAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_disrupted_by_more_than_two_unready_nodes_that_are_most_of_it() {
        let rows = [
            (10, 0, ZoneState::Normal),
            (10, 5, ZoneState::Normal),
            (10, 6, ZoneState::Partial),
            (3, 2, ZoneState::Normal),
            (4, 3, ZoneState::Partial),
            (1, 1, ZoneState::Full),
            (10, 10, ZoneState::Full),
        ];
        for (nodes, unready, state) in rows {
            assert_eq!(ZoneState::of(nodes, unready), state, "{unready} of {nodes}");
        }
        assert_eq!(ZoneState::Partial.taint_gap(50), None);
        assert_eq!(ZoneState::Partial.taint_gap(51), Some(SimSpan::from_secs(100)));
        assert_eq!(ZoneState::Full.taint_gap(50), Some(SimSpan::from_secs(10)));
    }
}
