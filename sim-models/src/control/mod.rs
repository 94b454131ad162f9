//! The control plane: objects and their controllers, what they write, and how nodes hear of it.
//!
//! [`plane::ControlPlane`] is the state machine: pods' lives, Deployments, the scheduler, nodes that fail, the EndpointSlice
//! controller, API servers and their outages. It appends [`log::Change`]s to a [`log::ChangeLog`] and tells the rest of the
//! world of [`effect::Effect`]s. [`watch::Watch`] says when each node's kube-proxy has a change. [`services`] numbers
//! Services and pods and has their state at any version. [`fanout`] runs the controller alone, for the bytes that watchers
//! are sent.

pub mod actions;
pub mod addresses;
pub mod alone;
pub mod api_server;
pub mod backoff;
pub mod churn;
pub mod deployment;
pub mod effect;
pub mod endpointslice;
pub mod event;
pub mod fanout;
pub mod log;
pub mod node_lifecycle;
pub mod plane;
pub mod pod;
pub mod pods;
pub mod replicas;
pub mod scheduler;
pub mod services;
pub mod slices;
pub mod watch;
pub mod zones;

#[cfg(test)]
mod plane_tests;
