//! That nothing is lost: every change reaches the kernel of every live node, by itself or in a later one.
//!
//! Checked at the end of every run. The windows `(from, to]` of a kernel's syncs tile what lies between the version
//! it began with and the one it has; every sync that began ended, failed, was broken off or is going on; a
//! node that lacks a change has an event ahead that will bring it.

use super::engine::Fleet;
use super::node::{Node, Phase};
use crate::control::log::ChangeLog;
use sim_core::units::SimTime;

impl Fleet {
    /// Asserts it, at the end of a run at `now`.
    ///
    /// # Panics
    /// If something was lost, with the values that say so.
    pub fn check(&self, log: &ChangeLog, now: SimTime, api_is_up: bool) {
        let newest = log.version();
        for mode in &self.modes {
            assert_eq!(mode.ledger.version(), newest, "the ledger of {} and the log", mode.config.mode);
            self.latencies.check(&mode.ledger);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            self.check_account(index, node, newest);
            self.check_future(index, node, newest, now, api_is_up);
        }
    }

    fn check_account(&self, index: usize, node: &Node, newest: u64) {
        let a = node.account;
        let going = u64::from(node.phase == Phase::Syncing);
        assert_eq!(
            a.begun,
            a.done + a.failed + a.broken + going,
            "node {index}: syncs begun against those ended, {a:?}"
        );
        assert_eq!(going == 1, node.run.is_some(), "node {index} in {:?} with {:?}", node.phase, node.run);
        let Some(rules) = node.kernel else { return };
        assert_eq!(a.base + a.covered, rules.version, "node {index}: windows tile the versions, {a:?}");
        assert!(rules.version <= newest, "node {index} has version {} of {newest}", rules.version);
        assert!(rules.version <= node.known, "node {index} has {} and knows {}", rules.version, node.known);
    }

    /// A node that lacks something, or runs without rules, is about to get it.
    fn check_future(&self, index: usize, node: &Node, newest: u64, now: SimTime, api_is_up: bool) {
        match node.phase {
            Phase::Down => assert!(node.kernel.is_none(), "node {index} is dead and has {:?}", node.kernel),
            Phase::NoApi => assert!(!api_is_up, "node {index} waits for API servers that answer"),
            Phase::Starting | Phase::Listing => assert!(node.is_new, "node {index} starts with a past"),
            Phase::Syncing => {}
            Phase::Idle => {
                let lacks = node.own_version().is_none_or(|version| version < newest);
                let asked = node.asked.is_some() || node.known > node.taken;
                // A retry is the timer's; it waits in the list until there is more to arrive.
                let coming = node.next_arrival < SimTime::MAX || node.waits_for_log || asked;
                assert!(
                    !lacks || coming || node.timer_at >= now,
                    "node {index} at {now} forgot something: {node:?}"
                );
                assert!(node.timer_at < SimTime::MAX, "node {index} has no timer");
                let waits = node.known == newest || !api_is_up || node.next_arrival < SimTime::MAX || asked;
                assert!(waits, "node {index} knows {} of {newest} and waits for nothing", node.known);
            }
        }
    }

    /// The oldest version that a live node has; the newest if none is alive.
    pub fn everywhere(&self, log: &ChangeLog) -> u64 {
        let alive = self.nodes.iter().filter(|n| n.phase != Phase::Down);
        alive.filter_map(|n| n.kernel.map(|rules| rules.version)).min().unwrap_or(log.version())
    }

    /// Whether every live node has everything and is idle.
    pub fn is_settled(&self, log: &ChangeLog) -> bool {
        self.nodes.iter().all(|node| {
            node.phase == Phase::Down
                || (node.phase == Phase::Idle
                    && node.own_version() == Some(log.version())
                    && node.asked.is_none())
        })
    }

    /// Asserts that every live node has everything, after a run whose last events have happened.
    ///
    /// # Panics
    /// If one lacks something.
    pub fn check_settled(&self, log: &ChangeLog) {
        for (index, node) in self.nodes.iter().enumerate() {
            if node.phase == Phase::Down {
                continue;
            }
            let version = node.own_version();
            assert_eq!(version, Some(log.version()), "node {index} in the end: {node:?}");
            assert_eq!(node.phase, Phase::Idle, "node {index} in the end");
        }
    }
}
