//! The nodes and links of a cluster.
