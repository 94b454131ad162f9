//! What kube-proxy writes to the stdin of a tool.

/// One run of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolInput {
    /// Program and arguments: `iptables-restore -w 5 --noflush --counters`, `nft -f -`.
    pub command: String,
    /// What it reads.
    pub stdin: String,
}
