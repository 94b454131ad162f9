//! Endpoints that are replaced one at a time: the `[churn]` of a scenario.
//!
//! Poisson over the cluster: a pod behind a Service is gone at once, and another one, on any node, answers at once. The
//! pod's life in between is left out; what its Services' slices say goes the way of every change: one write of one slice
//! says both. Nothing is replaced while the API servers do not answer.

use super::log::PodId;
use super::plane::{ControlEvent, ControlPlane};
use super::pod::Phase;
use super::pods::{Answering, Pod};
use sim_core::dist;
use sim_core::units::SimSpan;

impl ControlPlane {
    pub(super) fn churn_gap(&mut self) -> SimSpan {
        dist::exponential(&mut self.streams.churn, SimSpan::from_ns_f64(1e9 / self.churn.rate))
    }

    /// Replaces one endpoint, and plans the next.
    pub(super) fn replace_one(&mut self) {
        if !self.churns {
            return;
        }
        let gap = self.churn_gap();
        self.after(gap, ControlEvent::Churn);
        if self.api.answers(self.now)
            && let Some(pod) = self.any_endpoint()
        {
            let node = self.streams.churn.below(self.nodes.len() as u64) as usize;
            let living = (node..self.nodes.len()).chain(0..node).find(|&n| self.nodes[n].runs);
            if let Some(node) = living {
                self.replace_pod(pod, node as u32);
            }
        }
    }

    /// Replaces a ready pod by one on `node` at once, if there is an address for it; the new one.
    pub(super) fn replace_pod(&mut self, pod: u32, node: u32) -> Option<u32> {
        let Pod { address: old, service, .. } = *self.pods.get(PodId(pod));
        let address = self.addresses.allocate(node, Some(old))?;
        self.addresses.release(old);
        Some(self.swap(pod, Pod { address, node: Some(node), service, state: Answering::Listening }))
    }

    /// A ready pod of a Service that has one: each Service is as likely, and each pod of it.
    fn any_endpoint(&mut self) -> Option<u32> {
        if self.services.is_empty() {
            return None;
        }
        let stream = &mut self.streams.churn;
        for _ in 0..64 {
            let service = &self.services[stream.below(self.services.len() as u64) as usize];
            if !service.there || service.members.is_empty() {
                continue;
            }
            let pod = service.members[stream.below(service.members.len() as u64) as usize];
            let life = &self.lives[pod as usize];
            if life.phase == Phase::Ready && !life.leaving && !life.lost {
                return Some(pod);
            }
        }
        None
    }
}
