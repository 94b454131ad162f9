//! What classification decides about a packet.

use std::fmt;
use std::net::SocketAddr;

/// The outcome for a packet after its whole path through a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Passed on unchanged.
    Accept,
    /// Passed on with a new destination (and, with `masquerade`, the node's source address).
    Dnat {
        /// New destination.
        to: SocketAddr,
        /// Whether the source is rewritten too.
        masquerade: bool,
    },
    /// Discarded without an answer.
    Drop,
    /// Discarded with an error to the sender.
    Reject,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("ACCEPT"),
            Verdict::Dnat { to, masquerade: false } => write!(f, "DNAT to {to}"),
            Verdict::Dnat { to, masquerade: true } => write!(f, "DNAT to {to}, masqueraded"),
            Verdict::Drop => f.write_str("DROP"),
            Verdict::Reject => f.write_str("REJECT"),
        }
    }
}
