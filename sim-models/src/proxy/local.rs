//! Which traffic comes from pods of the cluster, or of this node: the local traffic detectors.
//!
//! Source: `pkg/proxy/util/localdetector.go` and `cmd/kube-proxy/app/server_linux.go:getLocalDetectors`.

use crate::config::{DetectLocal, ProxyConfig};
use crate::kernel::nftables::{Field, Statement};
use crate::kernel::xtables::{Rule, Test};
use crate::kube::ProxyObjects;
use ipnet::IpNet;
use sim_core::classify::Family;
use std::sync::Arc;

/// How rules tell local traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDetector {
    /// By its source.
    Cidr(IpNet),
    /// By the device that it comes in through.
    Interface(Arc<str>),
    /// By the beginning of that device's name.
    InterfacePrefix(Arc<str>),
}

impl LocalDetector {
    /// Makes an xtables rule match only local traffic, or only other traffic.
    pub fn restrict(&self, rule: &mut Rule, local: bool) {
        let invert = !local;
        match self {
            LocalDetector::Cidr(cidr) => rule.src = Some(Test { invert, value: *cidr }),
            LocalDetector::Interface(name) => rule.in_iface = Some(Test { invert, value: name.clone() }),
            LocalDetector::InterfacePrefix(prefix) => {
                rule.in_iface = Some(Test { invert, value: format!("{prefix}+").into() });
            }
        }
    }

    /// What matches only local traffic in an nftables rule, or only other traffic.
    pub fn statement(&self, local: bool) -> Statement {
        let negate = !local;
        match self {
            LocalDetector::Cidr(net) => Statement::Addr { field: Field::SrcAddr, net: *net, negate },
            LocalDetector::Interface(name) => {
                Statement::InIface { name: name.clone(), prefix: false, negate }
            }
            LocalDetector::InterfacePrefix(name) => {
                Statement::InIface { name: name.clone(), prefix: true, negate }
            }
        }
    }

    /// The detector of one family; `None` where nothing tells local traffic.
    pub fn of(objects: &ProxyObjects, config: &ProxyConfig, family: Family) -> Option<Self> {
        let first = |cidrs: &[IpNet]| {
            let of_family = cidrs.iter().copied().find(|cidr| Family::of(cidr.addr()) == family);
            of_family.map(|cidr| LocalDetector::Cidr(cidr.trunc()))
        };
        match &config.detect_local {
            DetectLocal::ClusterCidr => first(&config.cluster_cidrs),
            DetectLocal::NodeCidr => first(&objects.node_pod_cidrs),
            DetectLocal::BridgeInterface(name) => Some(LocalDetector::Interface(name.clone())),
            DetectLocal::InterfaceNamePrefix(prefix) => Some(LocalDetector::InterfacePrefix(prefix.clone())),
        }
    }
}
