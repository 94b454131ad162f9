//! ipsets: the kinds that kube-proxy makes, with their buckets.

/// The ipsets of a node.
#[derive(Clone, Debug, Default)]
pub struct IpSets {}

/// One ipset.
#[derive(Clone, Debug)]
pub struct IpSet {}
