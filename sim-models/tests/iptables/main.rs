//! iptables mode: what it writes to `iptables-restore`, held against the real kube-proxy and against itself, and
//! what its rules do with packets.

mod cases;
mod clusters;
mod large;
mod matrix;
mod partial;
mod restore;
mod settings;
mod stdin;
mod tracer;
