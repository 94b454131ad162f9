//! The virtual servers of one node in ipvs mode: those of its rules, and what its own connections keep.
//!
//! kube-proxy takes real servers away gracefully ([`GracefulTermination`]): one that still has connections gets weight 0
//! and is looked at every minute. So the lists of two nodes with equal rules can differ, also in their order, which is that
//! in which each node's kube-proxy has added them. A node gets a list of its own with its first rules.
//!
//! Looks come every minute from the first rules on. Between two packets nothing asks for them: they are made up for,
//! each for its own time, when the next packet comes.

use crate::kernel::ipvs::{GracefulTermination, Services, graceful};
use crate::kernel::path::NodeState;
use sim_core::units::SimTime;
use std::net::SocketAddr;

/// Virtual servers of one node, if it has any.
#[derive(Default)]
pub(super) struct Servers {
    waiting: GracefulTermination,
    next_look: Option<SimTime>,
}

impl Servers {
    /// Whether the node has virtual servers.
    pub(super) fn are_there(&self) -> bool {
        self.next_look.is_some()
    }

    /// Real servers that wait for their last connection.
    pub(super) fn draining(&self) -> usize {
        self.waiting.len()
    }

    /// Makes the node's servers those of rules that it has loaded.
    pub(super) fn follow(&mut self, wanted: &Services, state: &mut NodeState, now: SimTime) {
        if wanted.iter().next().is_none() {
            *self = Servers::default();
            state.servers = None;
            return;
        }
        let Some(mut own) = state.servers.take() else {
            self.next_look = Some(now + graceful::CHECK_INTERVAL);
            state.servers = Some(wanted.clone());
            return;
        };
        self.check_of(&mut own, state, now);
        state.ipvs.advance(&own, now);
        let gone: Vec<_> = own.iter().map(|s| s.key).filter(|key| wanted.find(key).is_none()).collect();
        for key in gone {
            own.remove(&key).expect("it was there");
        }
        for server in wanted.iter() {
            let there = own.find(&server.key).map(|service| &service.real);
            let Some(there) = there else {
                let all = wanted.virtual_server(&server.key).expect("it is listed");
                own.add(&all).expect("rules that were compiled before");
                continue;
            };
            let same = there.len() == server.real.len()
                && server.real.iter().all(|real| there.iter().any(|r| r.addr == real.addr && r.weight > 0));
            if !same {
                let addrs: Vec<SocketAddr> = server.real.iter().map(|real| real.addr).collect();
                let done = self.waiting.sync_real_servers(&mut own, &state.ipvs, &server.key, &addrs);
                done.expect("real servers that rules name");
            }
        }
        state.servers = Some(own);
    }

    /// Looks that were due until `now`.
    pub(super) fn check(&mut self, state: &mut NodeState, now: SimTime) {
        if self.next_look.is_some_and(|at| at <= now)
            && let Some(mut own) = state.servers.take()
        {
            self.check_of(&mut own, state, now);
            state.servers = Some(own);
        }
    }

    fn check_of(&mut self, own: &mut Services, state: &mut NodeState, now: SimTime) {
        while let Some(at) = self.next_look.filter(|at| *at <= now) {
            self.next_look = Some(at + graceful::CHECK_INTERVAL);
            if !self.waiting.is_empty() {
                state.ipvs.advance(own, at);
                self.waiting.check(own, &state.ipvs);
            }
        }
    }
}
