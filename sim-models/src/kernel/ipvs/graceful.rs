//! kube-proxy's graceful removal of real servers.
//!
//! Source: Kubernetes 1.36 `pkg/proxy/ipvs/graceful_termination.go` and `proxier.go:syncEndpoint`. A TCP real
//! server that still has connections, open or expiring, gets weight 0 and is looked at every minute until it
//! has none; one of UDP or SCTP, or without connections, is deleted at once. One that is wanted again while
//! it waits is deleted and added anew, which moves it to the head of the kernel's list and gives it back its
//! connections.

use super::{IpvsState, RealServer, ServiceError, ServiceKey, Services};
use sim_core::classify::Proto;
use sim_core::units::SimSpan;
use std::net::SocketAddr;

/// Time between two looks at the waiting real servers (`rsCheckDeleteInterval`).
pub const CHECK_INTERVAL: SimSpan = SimSpan::from_secs(60);

/// Real servers that wait for their last connection on one node.
#[derive(Clone, Debug, Default)]
pub struct GracefulTermination {
    waiting: Vec<(ServiceKey, SocketAddr)>,
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

    /// Makes `wanted` the real servers of `key`, each of weight 1 unless it stays as it was; the others go
    /// gracefully. New ones are added in the order of `wanted`.
    pub fn sync_real_servers(
        &mut self,
        services: &mut Services,
        state: &IpvsState,
        key: &ServiceKey,
        wanted: &[SocketAddr],
    ) -> Result<(), ServiceError> {
        let current: Vec<SocketAddr> =
            services.find(key).ok_or(ServiceError::Missing(*key))?.real.iter().map(|r| r.addr).collect();
        for &addr in wanted {
            if current.contains(&addr) {
                let Some(at) = self.waiting.iter().position(|w| *w == (*key, addr)) else { continue };
                self.waiting.remove(at);
                services.remove_real_server(key, addr)?;
            }
            services.add_real_server(key, RealServer::new(addr))?;
        }
        for addr in current.into_iter().filter(|addr| !wanted.contains(addr)) {
            if self.waiting.contains(&(*key, addr)) {
                continue;
            }
            if may_go(state, key, addr) {
                services.remove_real_server(key, addr)?;
            } else {
                services.set_weight(key, addr, 0)?;
                self.waiting.push((*key, addr));
            }
        }
        Ok(())
    }

    /// The look every [`CHECK_INTERVAL`]: deletes those without connections. Returns how many it deleted;
    /// those whose service is gone leave the list uncounted.
    pub fn check(&mut self, services: &mut Services, state: &IpvsState) -> usize {
        let mut deleted = 0;
        self.waiting.retain(|(key, addr)| {
            if !may_go(state, key, *addr) {
                return true;
            }
            deleted += usize::from(services.remove_real_server(key, *addr).is_ok());
            false
        });
        deleted
    }
}

fn may_go(state: &IpvsState, key: &ServiceKey, addr: SocketAddr) -> bool {
    key.proto != Proto::Tcp || state.connections(key, addr) == (0, 0)
}
