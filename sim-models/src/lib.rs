//! Linux and Kubernetes: what kube-proxy writes, what the kernel does with it, and clusters on top.
//!
//! * [`kube`]: Services, EndpointSlices, Nodes; kubectl's JSON; Services resolved as kube-proxy resolves them.
//! * [`kernel`]: hooks, xtables, nftables, IPVS, ipset, conntrack, NAT: real lookups that count their work; cost profiles.
//! * [`proxy`]: one file a mode: from resolved Services to the kernel's rules, and what a sync costs.
//! * [`network`], [`workload`]: topology and clients. [`config`]: what a world is made from. [`world`]: the simulation.

pub mod config;
pub mod control;
pub mod host;
pub mod kernel;
pub mod kube;
pub mod network;
pub mod proxy;
pub mod rig;
pub mod workload;
pub mod world;
