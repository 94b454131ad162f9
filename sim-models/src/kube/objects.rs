//! Kubernetes objects as kubectl prints them.

/// A parsed cluster.
#[derive(Clone, Debug, Default)]
pub struct Objects {}
