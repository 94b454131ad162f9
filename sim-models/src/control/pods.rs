//! Every pod that is or was there: its address, its node, the ports it serves.

use super::log::{PodId, ServiceId};
use std::net::IpAddr;

/// One pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its address.
    pub address: IpAddr,
    /// Its node; none outside the cluster.
    pub node: Option<u32>,
    /// The Service whose Deployment it belongs to.
    pub service: ServiceId,
    /// What a packet for it meets.
    pub state: Answering,
}

/// How a pod answers packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// Its address is not there yet, or no longer: nobody answers, or the node says unreachable.
    Absent,
    /// Its address is there, but no process listens: connections are reset.
    Refusing,
    /// It answers.
    Listening,
    /// Its node is dead: packets vanish.
    Dark,
}

/// All pods, in the order of their creation; ids are never used again.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    all: Vec<Pod>,
}

impl Pods {
    /// Adds one.
    pub fn add(&mut self, pod: Pod) -> PodId {
        self.all.push(pod);
        PodId(u32::try_from(self.all.len() - 1).expect("fewer than 2^32 pods"))
    }
    /// One of them.
    pub fn get(&self, id: PodId) -> &Pod {
        &self.all[id.0 as usize]
    }
    /// One of them, to be changed.
    pub fn get_mut(&mut self, id: PodId) -> &mut Pod {
        &mut self.all[id.0 as usize]
    }
    /// How many there ever were.
    pub fn len(&self) -> usize {
        self.all.len()
    }
    /// Whether there never was one.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
