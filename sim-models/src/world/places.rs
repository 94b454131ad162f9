//! Where addresses of pods are, and what a packet to one of them meets: the pods as the network sees them.
//!
//! An address may be given to another pod once its first has gone; what is told of the first afterwards is not believed.

use crate::control::log::PodId;
use crate::control::pods::{Answering, Pod, Pods};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who has an address, or had it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The pod.
    pub(super) pod: PodId,
    /// Where packets for it go; `None` outside the cluster.
    pub(super) node: Option<u32>,
    /// What they meet.
    pub(super) state: Answering,
}

/// Addresses of pods.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_address: BTreeMap<IpAddr, Holder>,
}

impl Places {
    /// Those of all pods.
    pub(super) fn of(pods: &Pods) -> Self {
        let mut places = Places::default();
        for id in (0..pods.len() as u32).map(PodId) {
            places.set(id, pods.get(id));
        }
        places
    }

    /// A pod's state is another now, or it is new.
    pub(super) fn set(&mut self, id: PodId, pod: &Pod) {
        let holder = Holder { pod: id, node: pod.node, state: pod.state };
        let place = self.by_address.entry(pod.address).or_insert(holder);
        // An older pod of this address: it is gone, whatever becomes of it.
        if place.pod <= id {
            *place = holder;
        }
    }

    /// All addresses.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<(IpAddr, Holder)> {
        self.by_address.iter().map(|(address, holder)| (*address, *holder)).collect()
    }

    /// Who has the address, or had it last; nobody if no pod ever had it.
    pub(super) fn find(&self, address: IpAddr) -> Option<Holder> {
        self.by_address.get(&address).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::log::ServiceId;

    #[test]
    fn an_address_belongs_to_its_newest_pod() {
        let address: IpAddr = [10, 128, 0, 2].into();
        let pod = |node, state| Pod { address, node: Some(node), service: ServiceId(0), state };
        let mut places = Places::default();
        places.set(PodId(3), &pod(1, Answering::Listening));
        places.set(PodId(3), &pod(1, Answering::Absent));
        places.set(PodId(8), &pod(2, Answering::Listening));
        places.set(PodId(3), &pod(1, Answering::Absent));
        let found = places.find(address).unwrap();
        assert_eq!((found.pod, found.node, found.state), (PodId(8), Some(2), Answering::Listening));
        assert_eq!(places.find([10, 128, 0, 3].into()), None);
    }
}
