//! IPVS.

/// One virtual server.
#[derive(Clone, Debug)]
pub struct VirtualServer {}
