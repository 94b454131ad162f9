//! kube-proxy's graceful removal of real servers.
//!
//! Source: Kubernetes 1.36 `pkg/proxy/ipvs/graceful_termination.go` and `proxier.go:syncEndpoint`. A TCP real
//! server that still has connections, open or expiring, gets weight 0 and is looked at every minute until it
//! has none; one of UDP or SCTP, or without connections, is deleted at once. One that is wanted again while
//! it waits is deleted and added anew, which moves it to the head of the kernel's list and gives it back its
//! connections. One whose service is deleted and made again while it waits stays on the list: the next look deletes it,
//! and the sync after that adds it again (so the source reads; not seen on a node). What is to be done is decided here and done by others: to a running node's services, or as
//! commands (`proxy/ipvs/inputs.rs`).

use super::{IpvsState, RealServer, ServiceError, ServiceKey, Services};
use sim_core::classify::Proto;
use sim_core::units::SimSpan;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Time between two looks at the waiting real servers (`rsCheckDeleteInterval`).
pub const CHECK_INTERVAL: SimSpan = SimSpan::from_secs(60);

/// One thing to do to a service's real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add it with weight 1.
    Add(SocketAddr),
    /// Delete it.
    Delete(SocketAddr),
    /// Give it weight 0, so that it gets no new connections.
    Drain(SocketAddr),
}

/// Real servers that wait for their last connection on one node.
#[derive(Clone, Debug, Default)]
pub struct GracefulTermination {
    waiting: BTreeSet<(ServiceKey, SocketAddr)>,
}

impl GracefulTermination {
    /// Real servers that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What makes `wanted` the real servers of `key` where it has `current`: new ones are added in the order of
    /// `wanted`, the others go gracefully. `connections` tells the open and the expiring connections of a real
    /// server.
    pub fn plan(
        &mut self,
        key: &ServiceKey,
        current: &[SocketAddr],
        wanted: &[SocketAddr],
        connections: &dyn Fn(&ServiceKey, SocketAddr) -> (u32, u32),
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let (there, asked): (BTreeSet<&SocketAddr>, BTreeSet<&SocketAddr>) =
            (current.iter().collect(), wanted.iter().collect());
        for &addr in wanted {
            if there.contains(&addr) {
                if !self.waiting.remove(&(*key, addr)) {
                    continue;
                }
                steps.push(Step::Delete(addr));
            }
            steps.push(Step::Add(addr));
        }
        for &addr in current.iter().filter(|addr| !asked.contains(addr)) {
            if self.waiting.contains(&(*key, addr)) {
                continue;
            }
            if may_go(key, addr, connections) {
                steps.push(Step::Delete(addr));
            } else {
                steps.push(Step::Drain(addr));
                self.waiting.insert((*key, addr));
            }
        }
        steps
    }

    /// The look every [`CHECK_INTERVAL`]: those that leave the list because they have no connections any more. Each is
    /// to be deleted, if its service is still there.
    pub fn plan_check(
        &mut self,
        connections: &dyn Fn(&ServiceKey, SocketAddr) -> (u32, u32),
    ) -> Vec<(ServiceKey, SocketAddr)> {
        let mut gone = Vec::new();
        self.waiting.retain(|&(key, addr)| {
            let goes = may_go(&key, addr, connections);
            if goes {
                gone.push((key, addr));
            }
            !goes
        });
        gone
    }

    /// [`plan`](Self::plan), done to the services of a running node.
    pub fn sync_real_servers(
        &mut self,
        services: &mut Services,
        state: &IpvsState,
        key: &ServiceKey,
        wanted: &[SocketAddr],
    ) -> Result<(), ServiceError> {
        let current: Vec<SocketAddr> =
            services.find(key).ok_or(ServiceError::Missing(*key))?.real.iter().map(|r| r.addr).collect();
        for step in self.plan(key, &current, wanted, &|key, addr| state.connections(key, addr)) {
            match step {
                Step::Add(addr) => services.add_real_server(key, RealServer::new(addr))?,
                Step::Delete(addr) => services.remove_real_server(key, addr)?,
                Step::Drain(addr) => services.set_weight(key, addr, 0)?,
            }
        }
        Ok(())
    }

    /// [`plan_check`](Self::plan_check), done to the services of a running node. Returns how many it deleted; those
    /// whose service is gone leave the list uncounted.
    pub fn check(&mut self, services: &mut Services, state: &IpvsState) -> usize {
        let gone = self.plan_check(&|key, addr| state.connections(key, addr));
        gone.iter().filter(|(key, addr)| services.remove_real_server(key, *addr).is_ok()).count()
    }
}

fn may_go(
    key: &ServiceKey,
    addr: SocketAddr,
    connections: &dyn Fn(&ServiceKey, SocketAddr) -> (u32, u32),
) -> bool {
    key.proto != Proto::Tcp || connections(key, addr) == (0, 0)
}
