//! Everything that can happen in the control plane.

use super::actions::AddService;

/// What can happen in the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// Something of the timeline is due.
    Action(u32),
    /// An outage of the API servers is over.
    OutageEnds,
    /// An endpoint is replaced.
    Churn,
    /// A Service is created.
    AddService(AddService),
    /// A Service is deleted.
    RemoveService(u32),
    /// A Deployment's controller looks at it.
    Deployment(u32),
    /// A ReplicaSet's pod is created.
    Create {
        /// Its Service.
        service: u32,
        /// Its template.
        template: u32,
    },
    /// A step in a pod's life.
    Pod {
        /// The pod.
        pod: u32,
        /// The step.
        step: PodStep,
    },
    /// The EndpointSlice controller gets a Service into its queue.
    Enqueue(u32),
    /// A worker of it has written a slice.
    Written(u32),
    /// The node controller's round finds a node silent.
    NodeSilent {
        /// The node.
        node: u32,
        /// How often it had failed.
        fall: u32,
    },
    /// The node controller writes that a pod is not ready.
    MarkNotReady,
    /// The next node of a zone gets its taint.
    Taint(u32),
    /// The pods of a tainted node are evicted.
    Evict {
        /// The node.
        node: u32,
        /// Its taint.
        taint: u32,
    },
    /// A node that had failed is back, and its kube-proxy starts.
    NodeBack {
        /// The node.
        node: u32,
        /// How often it had failed.
        fall: u32,
    },
    /// A new node joins, and its kube-proxy starts.
    NodeJoins,
}

/// Steps of a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodStep {
    /// The scheduler binds it to a node.
    Bind,
    /// Its container runs.
    Start,
    /// Its status says so, with its address.
    Report,
    /// Its probe succeeds.
    Probe,
    /// Its status says that it is ready.
    Ready,
    /// Its deletion is asked for and written.
    Delete,
    /// Its process ends.
    End,
    /// Its address is taken away.
    Unplug,
    /// Its status says that it has ended.
    Ended,
    /// It is removed from the API.
    Remove,
}

impl ControlEvent {
    /// A number that tells this event from others.
    pub fn digest(&self) -> u64 {
        let pack = |kind: u64, a: u32, b: u32| kind << 56 ^ u64::from(a) << 24 ^ u64::from(b);
        match *self {
            ControlEvent::Action(i) => pack(1, i, 0),
            ControlEvent::OutageEnds => pack(2, 0, 0),
            ControlEvent::Churn => pack(3, 0, 0),
            ControlEvent::AddService(add) => pack(4, add.endpoints, 0),
            ControlEvent::RemoveService(s) => pack(5, s, 0),
            ControlEvent::Deployment(s) => pack(6, s, 0),
            ControlEvent::Create { service, template } => pack(7, service, template),
            ControlEvent::Pod { pod, step } => pack(8, pod, step as u32),
            ControlEvent::Enqueue(s) => pack(9, s, 0),
            ControlEvent::Written(w) => pack(10, w, 0),
            ControlEvent::NodeSilent { node, fall } => pack(11, node, fall),
            ControlEvent::MarkNotReady => pack(12, 0, 0),
            ControlEvent::Taint(zone) => pack(13, zone, 0),
            ControlEvent::Evict { node, taint } => pack(14, node, taint),
            ControlEvent::NodeBack { node, fall } => pack(15, node, fall),
            ControlEvent::NodeJoins => pack(16, 0, 0),
        }
    }
}
