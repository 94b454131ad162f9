//! Proxy modes: from resolved Services to the kernel's rules.

pub mod iptables;
pub mod names;
