//! Proxy modes: from resolved Services to the kernel's rules.

pub mod ipvs;
