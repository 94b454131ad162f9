//! The scheduler: a pod goes to the least loaded node that is thought alive and has room.
//!
//! Stands for `NodeResourcesFit` with `LeastAllocated` and the default topology spreading of pods that are alike
//! (`pkg/scheduler/framework/plugins`): both prefer the emptier node. Nodes with equally many pods are taken in an order
//! that differs for each of their pods. A node that died a moment ago is thought alive until the node controller says
//! otherwise.
//!
//! Left out: what pods ask for, affinity, preemption; zones are spread over as far as nodes are.

use std::collections::BTreeSet;

/// Nodes by their load.
#[derive(Clone, Debug)]
pub struct Scheduler {
    per_node: u32,
    seed: u64,
    /// (pods, shuffled, node) of the nodes that may get pods.
    open: BTreeSet<(u32, u32, u32)>,
    /// By node: its pods, and whether it may get more.
    load: Vec<(u32, bool)>,
}

impl Scheduler {
    /// No nodes yet; each takes `per_node` pods.
    pub fn new(per_node: u32, seed: u64) -> Self {
        Scheduler { per_node, seed, open: BTreeSet::new(), load: Vec::new() }
    }

    fn key(&self, node: u32) -> (u32, u32, u32) {
        let pods = self.load[node as usize].0;
        let mut z = self.seed ^ (u64::from(node) << 32 | u64::from(pods));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (pods, (z >> 32) as u32, node)
    }

    /// A node more, with the next index; it may get pods.
    pub fn add_node(&mut self, pods: u32) {
        let node = u32::try_from(self.load.len()).expect("fewer than 2^32 nodes");
        self.load.push((pods, true));
        let key = self.key(node);
        self.open.insert(key);
    }

    /// Whether `node` may get pods from now on.
    pub fn set_open(&mut self, node: u32, open: bool) {
        let key = self.key(node);
        self.load[node as usize].1 = open;
        if open {
            self.open.insert(key);
        } else {
            self.open.remove(&key);
        }
    }

    /// The node for the next pod, which counts there from now on; none if no node has room.
    pub fn place(&mut self) -> Option<u32> {
        let &(pods, _, node) = self.open.first()?;
        (pods < self.per_node).then(|| {
            self.change(node, 1);
            node
        })
    }

    /// A pod is on `node` that was not placed there.
    pub fn count(&mut self, node: u32) {
        self.change(node, 1);
    }

    /// A pod has left `node`.
    pub fn free(&mut self, node: u32) {
        self.change(node, -1);
    }

    fn change(&mut self, node: u32, by: i32) {
        let open = self.load[node as usize].1;
        if open {
            let key = self.key(node);
            self.open.remove(&key);
        }
        let pods = &mut self.load[node as usize].0;
        *pods = pods.checked_add_signed(by).unwrap_or_else(|| panic!("node {node}: {pods} pods and {by}"));
        if open {
            let key = self.key(node);
            self.open.insert(key);
        }
    }

    /// Whether a pod would find a node.
    pub fn has_room(&self) -> bool {
        self.open.first().is_some_and(|(pods, _, _)| *pods < self.per_node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_spread_over_open_nodes_until_none_has_room() {
        let mut scheduler = Scheduler::new(3, 1);
        for _ in 0..4 {
            scheduler.add_node(0);
        }
        scheduler.set_open(2, false);
        let mut got = [0; 4];
        while let Some(node) = scheduler.place() {
            got[node as usize] += 1;
            let open: Vec<u32> = [0, 1, 3].iter().map(|&n: &usize| got[n]).collect();
            assert!(open.iter().max().unwrap() - open.iter().min().unwrap() <= 1, "{got:?}");
        }
        assert_eq!(got, [3, 3, 0, 3]);
        scheduler.free(1);
        assert_eq!((scheduler.has_room(), scheduler.place(), scheduler.place()), (true, Some(1), None));
        scheduler.set_open(2, true);
        assert_eq!(scheduler.place(), Some(2));
    }
}
