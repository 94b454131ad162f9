//! What the control plane's doings mean to the rest of the world.

use super::log::PodId;

/// One consequence, told to the world at the instant it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The log has grown: watchers that wait for nothing else are to be woken.
    Committed,
    /// The pod's state ([`super::pods::Answering`]) is another now.
    Pod(PodId),
    /// A node is dead: its kube-proxy stands still, its kernel forgets everything, packets to it vanish.
    NodeDown(u32),
    /// A dead node is back, with an empty kernel; its kube-proxy starts.
    NodeUp(u32),
    /// A new node joined, with the next index and an empty kernel; its kube-proxy starts.
    NodeAdded(u32),
    /// The API servers answer nobody: every watch breaks.
    ApiDown,
    /// They answer again: watches are opened again, each after its backoff.
    ApiUp,
}
